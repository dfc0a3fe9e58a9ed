// Codebooks of runs of eight weights. An entry of `tables` is 16 bits, two a weight; a word holds two entries.
fn grid_entries(index: vec4<u32>) -> vec4<u32> {
    let at = index >> vec4<u32>(1u);
    let words = vec4<u32>(tables[at.x], tables[at.y], tables[at.z], tables[at.w]);
    return words >> ((index & vec4<u32>(1u)) << vec4<u32>(4u));
}

// The fields of two runs, a byte each.
fn grid_fields(first: u32, second: u32) -> vec4<u32> {
    return spread_fields(vec4<u32>(first, first >> 8u, second, second >> 8u) & vec4<u32>(0xffu));
}
