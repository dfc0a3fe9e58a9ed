// Q5_0. wq: nibbles as in Q4_0. ws: pairs, one word of fifth bits, d.
const HAS_MIN: bool = false;

fn codes32(g: u32) -> Codes {
    let q = wq[g];
    let fifth = ws[pair_word(g, 1u)];
    let d = pair_half(g, 1u);
    let lo = low_nibbles(q) | (spread_bits(fifth) << vec4<u32>(4u));
    let hi = high_nibbles(q) | (spread_bits(fifth >> 16u) << vec4<u32>(4u));
    return Codes(lowered(lo, 0x10101010u), lowered(hi, 0x10101010u), vec2<f32>(d), vec2<f32>(0.0));
}
