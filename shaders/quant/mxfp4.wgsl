// MXFP4. wq: nibbles as in Q4_0. ws: four blocks a word, a byte of exponent each.
const HAS_MIN: bool = false;

fn codes32(g: u32) -> Codes {
    let q = wq[g];
    let e = (ws[g >> 2u] >> ((g & 3u) * 8u)) & 0xffu;
    // 2^(e - 128), subnormal for e < 2.
    let d = bitcast<f32>(select((e - 1u) << 23u, 0x200000u << (e & 1u), e < 2u));
    return Codes(fp4(low_nibbles(q)), fp4(high_nibbles(q)), vec2<f32>(d), vec2<f32>(0.0));
}
