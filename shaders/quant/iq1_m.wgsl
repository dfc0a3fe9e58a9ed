// IQ1_M, eight groups a block. ws: 14 words: one a group with the low bytes of four indices; four with 16 bits a group,
// for each run three upper bits of its index and the sign of delta; two with 12 bits of scales for two groups, whose
// top nibbles are d.
const HAS_MIN: bool = false;

fn codes32(g: u32) -> Codes {
    let s = g & 7u;
    let word = (g >> 3u) * 14u;
    let high = vec4<u32>(ws[word + 8u + (s >> 1u)] >> ((s & 1u) * 16u)) >> vec4<u32>(0u, 4u, 8u, 12u);
    let index = bytes_of(ws[word + s]) | ((high & vec4<u32>(7u)) << vec4<u32>(8u));
    let a = ws[word + 12u];
    let b = ws[word + 13u];
    let bits = ((a >> 12u) & 0xfu) | ((a >> 24u) & 0xf0u) | ((b >> 4u) & 0xf00u) | ((b >> 16u) & 0xf000u);
    let scales = select(a, b, s >= 4u) >> (((s >> 1u) & 1u) * 16u + (s & 1u) * 6u);
    let d = unpack2x16float(bits).x * vec2<f32>(f32(2u * (scales & 7u) + 1u), f32(2u * ((scales >> 3u) & 7u) + 1u));
    return iq1_codes(index, (high & vec4<u32>(8u)) != vec4<u32>(0u), d);
}
