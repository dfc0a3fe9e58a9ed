// Q4_0. wq: 16 bytes of nibbles a block, low ones weights 0 to 15. ws: pairs, no word, d.
const HAS_MIN: bool = false;

fn codes32(g: u32) -> Codes {
    let q = wq[g];
    let d = pair_half(g, 0u);
    let lo = lowered(low_nibbles(q), 0x08080808u);
    let hi = lowered(high_nibbles(q), 0x08080808u);
    return Codes(lo, hi, vec2<f32>(d), vec2<f32>(0.0));
}
