// TQ2_0, eight groups a block. wq: codes as in Q2_K. ws: pairs, no word, d.
const HAS_MIN: bool = false;

fn codes32(g: u32) -> Codes {
    let b = g >> 3u;
    let s = g & 7u;
    let at = b * 4u + (s >> 2u) * 2u;
    let shift = vec4<u32>((s & 3u) * 2u);
    let lo = (wq[at] >> shift) & vec4<u32>(0x03030303u);
    let hi = (wq[at + 1u] >> shift) & vec4<u32>(0x03030303u);
    let d = pair_half(b, 0u);
    return Codes(lowered(lo, 0x01010101u), lowered(hi, 0x01010101u), vec2<f32>(d), vec2<f32>(0.0));
}
