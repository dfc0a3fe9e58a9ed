// IQ2_XS, eight groups a block. wq: 8 bytes a group: for each run 16 bits, a 9-bit index and a sign code. ws: pairs,
// two words with a byte of scales a group, d.
const HAS_MIN: bool = false;

fn codes32(g: u32) -> Codes {
    let b = g >> 3u;
    let s = g & 7u;
    let q = half_of(wq[g >> 1u], g & 1u);
    let runs = vec4<u32>(q.x, q.x >> 16u, q.y, q.y >> 16u) & vec4<u32>(0xffffu);
    let signs = (runs >> vec4<u32>(9u)) << vec4<u32>(0u, 7u, 14u, 21u);
    let scales = ws[pair_word(b, 2u) + (s >> 2u)] >> ((s & 3u) * 8u);
    let d = iq2_scales(pair_half(b, 2u), scales);
    return iq2_codes(runs & vec4<u32>(511u), even_signs(signs.x | signs.y | signs.z | signs.w), d);
}
