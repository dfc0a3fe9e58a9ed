// IQ1_S, eight groups a block. ws: pairs, a word a group with the low bytes of four indices, four words with 16 bits a
// group (upper bits of the indices, a scale, the sign of delta), d.
const HAS_MIN: bool = false;

fn codes32(g: u32) -> Codes {
    let b = g >> 3u;
    let s = g & 7u;
    let word = pair_word(b, 12u);
    let high = ws[word + 8u + (s >> 1u)] >> ((s & 1u) * 16u);
    let upper = (vec4<u32>(high) >> vec4<u32>(0u, 3u, 6u, 9u)) & vec4<u32>(7u);
    let scale = pair_half(b, 12u) * f32(2u * ((high >> 12u) & 7u) + 1u);
    let minus = (high & 0x8000u) != 0u;
    return iq1_codes(bytes_of(ws[word + s]) | (upper << vec4<u32>(8u)), vec4<bool>(minus), vec2<f32>(scale));
}
