// Q6_K, eight groups a block; group s = 4h + j. wq: 128 bytes of low nibbles, weight l of the group is nibble j / 2 of
// byte 64h + 32 (j % 2) + l; then 64 bytes of upper bits, bits 2j of byte 32h + l. ws: pairs, four words of int8
// scales, d.
const HAS_MIN: bool = false;

fn codes32(g: u32) -> Codes {
    let b = g >> 3u;
    let s = g & 7u;
    let low = b * 12u + (s >> 2u) * 4u + (s & 1u) * 2u;
    let high = b * 12u + 8u + (s >> 2u) * 2u;
    let nibble = vec4<u32>((s & 2u) * 2u);
    let upper = vec4<u32>((s & 3u) * 2u);
    let three = vec4<u32>(0x03030303u);
    let lo = low_nibbles(wq[low] >> nibble) | (((wq[high] >> upper) & three) << vec4<u32>(4u));
    let hi = low_nibbles(wq[low + 1u] >> nibble) | (((wq[high + 1u] >> upper) & three) << vec4<u32>(4u));
    let scales = unpack4xI8(ws[pair_word(b, 4u) + (s >> 1u)] >> ((s & 1u) * 16u));
    let d = pair_half(b, 4u) * vec2<f32>(scales.xy);
    return Codes(lowered(lo, 0x20202020u), lowered(hi, 0x20202020u), d, vec2<f32>(0.0));
}
