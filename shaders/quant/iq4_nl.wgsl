// IQ4_NL. wq: nibbles as in Q4_0. ws: pairs, no word, d.
const HAS_MIN: bool = false;

fn codes32(g: u32) -> Codes {
    let q = wq[g];
    let d = pair_half(g, 0u);
    return Codes(iq4(low_nibbles(q)), iq4(high_nibbles(q)), vec2<f32>(d), vec2<f32>(0.0));
}
