// IQ3_S, eight groups a block. wq: the low bytes of eight indices a group. ws: pairs, two words with a byte of ninth
// bits a group, eight words of signs, a word with a nibble of scale a group, d.
const HAS_MIN: bool = false;

fn codes32(g: u32) -> Codes {
    let b = g >> 3u;
    let s = g & 7u;
    let q = half_of(wq[g >> 1u], g & 1u);
    let word = pair_word(b, 11u);
    let ninth = vec4<u32>(ws[word + (s >> 2u)] >> ((s & 3u) * 8u));
    let signs = ws[word + 2u + s];
    let scale = (ws[word + 10u] >> (s * 4u)) & 15u;
    let upper = vec4<u32>(0x100u);
    let first = bytes_of(q.x) | ((ninth << vec4<u32>(8u, 7u, 6u, 5u)) & upper);
    let second = bytes_of(q.y) | ((ninth << vec4<u32>(4u, 3u, 2u, 1u)) & upper);
    let d = pair_half(b, 11u) * f32(1u + 2u * scale);
    let lo = with_signs(grid_words(first), signs);
    let hi = with_signs(grid_words(second), signs >> 16u);
    return Codes(lo, hi, vec2<f32>(d), vec2<f32>(0.0));
}
