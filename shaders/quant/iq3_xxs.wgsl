// IQ3_XXS, eight groups a block. wq: eight indices a group. ws: pairs, a word a group of four sign codes and a scale, d.
const HAS_MIN: bool = false;

fn codes32(g: u32) -> Codes {
    let b = g >> 3u;
    let q = half_of(wq[g >> 1u], g & 1u);
    let word = ws[pair_word(b, 8u) + (g & 7u)];
    let signs = even_signs(word);
    let d = (pair_half(b, 8u) * (f32(word >> 28u) + 0.5)) * 0.5;
    let lo = with_signs(grid_words(bytes_of(q.x)), signs);
    let hi = with_signs(grid_words(bytes_of(q.y)), signs >> 16u);
    return Codes(lo, hi, vec2<f32>(d), vec2<f32>(0.0));
}
