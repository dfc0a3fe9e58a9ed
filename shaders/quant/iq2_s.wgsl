// IQ2_S, eight groups a block. wq: 8 bytes a group: four low bytes of indices, four bytes of signs. ws: pairs, two
// words with a byte of upper bits of indices a group, two words with a byte of scales a group, d.
const HAS_MIN: bool = false;

fn codes32(g: u32) -> Codes {
    let b = g >> 3u;
    let s = g & 7u;
    let q = half_of(wq[g >> 1u], g & 1u);
    let word = pair_word(b, 4u) + (s >> 2u);
    let shift = (s & 3u) * 8u;
    let upper = (vec4<u32>(ws[word] >> shift) >> vec4<u32>(0u, 2u, 4u, 6u)) & vec4<u32>(3u);
    let d = iq2_scales(pair_half(b, 4u), ws[word + 2u] >> shift);
    return iq2_codes(bytes_of(q.x) | (upper << vec4<u32>(8u)), q.y, d);
}
