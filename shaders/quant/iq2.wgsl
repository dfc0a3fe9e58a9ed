// What the IQ2 formats share. The values of a field f are 8, 25 and 43: 8 + 17 f + f / 2.
fn iq2_values(first: u32, second: u32) -> vec4<u32> {
    let f = grid_fields(first, second);
    return f * 17u + ((f >> vec4<u32>(1u)) & vec4<u32>(0x01010101u)) + vec4<u32>(0x08080808u);
}

// Codes of four runs: their indices in the codebook, and a byte of signs for each.
fn iq2_codes(index: vec4<u32>, signs: u32, d: vec2<f32>) -> Codes {
    let entries = grid_entries(index);
    let lo = with_signs(iq2_values(entries.x, entries.y), signs);
    let hi = with_signs(iq2_values(entries.z, entries.w), signs >> 16u);
    return Codes(lo, hi, d, vec2<f32>(0.0));
}

// Scales of 16 weights each: the nibbles s of a byte mean (0.5 + s) / 4.
fn iq2_scales(d: f32, byte: u32) -> vec2<f32> {
    return (d * (vec2<f32>(f32(byte & 15u), f32((byte >> 4u) & 15u)) + 0.5)) * 0.25;
}
