// Codebooks of runs of four weights: a word of `tables` is an entry.
fn grid_words(index: vec4<u32>) -> vec4<u32> {
    return vec4<u32>(tables[index.x], tables[index.y], tables[index.z], tables[index.w]);
}
