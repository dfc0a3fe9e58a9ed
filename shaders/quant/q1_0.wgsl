// Q1_0, four groups a block. ws: pairs, four words of bits, d. A set bit is d, a clear one -d.
const HAS_MIN: bool = false;

// Bytes 1 or -1 of 16 bits.
fn signs_of(bits: u32) -> vec4<u32> {
    return (spread_bits(bits) * 0xfeu) ^ vec4<u32>(0xffffffffu);
}

fn codes32(g: u32) -> Codes {
    let b = g >> 2u;
    let bits = ws[pair_word(b, 4u) + (g & 3u)];
    let d = pair_half(b, 4u);
    return Codes(signs_of(bits), signs_of(bits >> 16u), vec2<f32>(d), vec2<f32>(0.0));
}
