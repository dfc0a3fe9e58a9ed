// Q2_0, two groups a block. wq: 16 bytes of four codes each, in order of weights. ws: pairs, no word, d.
const HAS_MIN: bool = false;

fn codes32(g: u32) -> Codes {
    let b = g >> 1u;
    let q = half_of(wq[b], g & 1u);
    let d = pair_half(b, 0u);
    let lo = lowered(spread_fields(bytes_of(q.x)), 0x01010101u);
    let hi = lowered(spread_fields(bytes_of(q.y)), 0x01010101u);
    return Codes(lo, hi, vec2<f32>(d), vec2<f32>(0.0));
}
