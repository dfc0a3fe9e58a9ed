// Twice the values of E2M1, by arithmetic on bytes: the magnitude of n is n below 4; above, the step doubles to 2
// (4, 6) and again to 4 (8, 12), which adds the two low bits, and 2 more for n = 7.
fn fp4(n: vec4<u32>) -> vec4<u32> {
    let one = vec4<u32>(0x01010101u);
    let magnitude = n & vec4<u32>(0x07070707u);
    let extra = magnitude & (((magnitude >> vec4<u32>(2u)) & one) * 3u);
    let both = extra & (extra >> vec4<u32>(1u)) & one;
    let v = magnitude + extra + (both << vec4<u32>(1u));
    // 128 - v, with its upper bit turned, is -v without a carry even for zero.
    let minus = (vec4<u32>(0x80808080u) - v) ^ vec4<u32>(0x80808080u);
    let sign = ((n >> vec4<u32>(3u)) & one) * 255u;
    return v ^ (sign & (v ^ minus));
}
