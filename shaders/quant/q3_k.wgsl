// Q3_K, eight groups a block. wq: 64 bytes of low bits as in Q2_K, then 32 bytes of third bits; bit s of byte l is
// weight l of group s. ws: pairs, three words of scales, d.
const HAS_MIN: bool = false;

fn codes32(g: u32) -> Codes {
    let b = g >> 3u;
    let s = g & 7u;
    let at = b * 6u + (s >> 2u) * 2u;
    let shift = vec4<u32>((s & 3u) * 2u);
    let third = vec4<u32>(s);
    let one = vec4<u32>(0x01010101u);
    var lo = (wq[at] >> shift) & vec4<u32>(0x03030303u);
    var hi = (wq[at + 1u] >> shift) & vec4<u32>(0x03030303u);
    lo |= ((wq[b * 6u + 4u] >> third) & one) << vec4<u32>(2u);
    hi |= ((wq[b * 6u + 5u] >> third) & one) << vec4<u32>(2u);
    // Scales 2s and 2s + 1: nibbles of the first eight bytes, upper bits in the last four.
    let word = pair_word(b, 3u);
    let odd = (s & 1u) * 16u;
    let low = (ws[word + ((s >> 1u) & 1u)] >> (odd + (s >> 2u) * 4u)) & 0x0f0fu;
    let high = (ws[word + 2u] >> (odd + (s >> 1u) * 2u)) & 0x0303u;
    let scales = low | (high << 4u);
    let d = pair_half(b, 3u) * (vec2<f32>(f32(scales & 63u), f32(scales >> 8u)) - 32.0);
    return Codes(lowered(lo, 0x04040404u), lowered(hi, 0x04040404u), d, vec2<f32>(0.0));
}
