// Q8_0. wq: 32 bytes of codes a block. ws: pairs, no word, d.
const HAS_MIN: bool = false;

fn codes32(g: u32) -> Codes {
    let d = pair_half(g, 0u);
    return Codes(wq[g * 2u], wq[g * 2u + 1u], vec2<f32>(d), vec2<f32>(0.0));
}
