// What the IQ1 formats share. A field f is the grid's value plus one, and a weight is (grid + delta) times a scale,
// delta 1/8 or -1/8: its code is 8 (f - 1) + 1 or 8 (f - 1) - 1 under an eighth of the scale.
fn iq1_values(first: u32, second: u32, minus: vec2<bool>) -> vec4<u32> {
    let offset = select(vec2<u32>(0x79797979u), vec2<u32>(0x77777777u), minus);
    return (grid_fields(first, second) * 8u + offset.xxyy) ^ vec4<u32>(0x80808080u);
}

// Codes of four runs: indices, whose delta is negative, and the scales of 16 weights each.
fn iq1_codes(index: vec4<u32>, minus: vec4<bool>, scales: vec2<f32>) -> Codes {
    let entries = grid_entries(index);
    let lo = iq1_values(entries.x, entries.y, minus.xy);
    let hi = iq1_values(entries.z, entries.w, minus.zw);
    return Codes(lo, hi, scales * 0.125, vec2<f32>(0.0));
}
