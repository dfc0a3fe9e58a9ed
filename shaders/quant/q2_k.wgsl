// Q2_K, eight groups a block. wq: 64 bytes of codes; bits 2j of byte 32h + l are weight l of group 4h + j. ws: five
// words, a byte (scale, min) for 16 weights, then (d, dmin).
const HAS_MIN: bool = true;

fn codes32(g: u32) -> Codes {
    let b = g >> 3u;
    let s = g & 7u;
    let at = b * 4u + (s >> 2u) * 2u;
    let shift = vec4<u32>((s & 3u) * 2u);
    let lo = (wq[at] >> shift) & vec4<u32>(0x03030303u);
    let hi = (wq[at + 1u] >> shift) & vec4<u32>(0x03030303u);
    let scales = ws[b * 5u + (s >> 1u)] >> ((s & 1u) * 16u);
    let dm = unpack2x16float(ws[b * 5u + 4u]);
    let d = dm.x * vec2<f32>(f32(scales & 15u), f32((scales >> 8u) & 15u));
    let m = dm.y * vec2<f32>(f32((scales >> 4u) & 15u), f32((scales >> 12u) & 15u));
    return Codes(lo, hi, d, -m);
}
