// IQ4_XS, eight groups a block. wq: nibbles, 16 bytes a group as in IQ4_NL. ws: two words, (d, upper bits of the
// scales) and their low nibbles.
const HAS_MIN: bool = false;

fn codes32(g: u32) -> Codes {
    let b = g >> 3u;
    let s = g & 7u;
    let q = wq[g];
    let head = ws[b * 2u];
    let low = (ws[b * 2u + 1u] >> (s * 4u)) & 15u;
    let scale = low | (((head >> (16u + s * 2u)) & 3u) << 4u);
    let d = unpack2x16float(head).x * (f32(scale) - 32.0);
    return Codes(iq4(low_nibbles(q)), iq4(high_nibbles(q)), vec2<f32>(d), vec2<f32>(0.0));
}
