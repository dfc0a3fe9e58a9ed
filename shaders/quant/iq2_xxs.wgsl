// IQ2_XXS, eight groups a block. wq: 8 bytes a group: four indices, then four sign codes and a scale. ws: pairs, no
// word, d.
const HAS_MIN: bool = false;

fn codes32(g: u32) -> Codes {
    let q = half_of(wq[g >> 1u], g & 1u);
    let d = (pair_half(g >> 3u, 0u) * (f32(q.y >> 28u) + 0.5)) * 0.25;
    return iq2_codes(bytes_of(q.x), even_signs(q.y), vec2<f32>(d));
}
