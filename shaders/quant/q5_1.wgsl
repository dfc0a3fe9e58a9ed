// Q5_1. wq: nibbles as in Q4_0. ws: two words a block, (d, m) and the fifth bits.
const HAS_MIN: bool = true;

fn codes32(g: u32) -> Codes {
    let q = wq[g];
    let dm = unpack2x16float(ws[g * 2u]);
    let fifth = ws[g * 2u + 1u];
    let lo = low_nibbles(q) | (spread_bits(fifth) << vec4<u32>(4u));
    let hi = high_nibbles(q) | (spread_bits(fifth >> 16u) << vec4<u32>(4u));
    return Codes(lo, hi, vec2<f32>(dm.x), vec2<f32>(dm.y));
}
