// Rows of a cache in q8_0; KV names keys or values: x = code * scale, one scale per 32 columns.
//
// cache_KV: [n_slot] rows of width / 4 words of codes, 4 per word, then width / 32 scales in f32, padded to a multiple
// of 4 words. A cell is a word.

alias Cell_KV = u32;

// First cell of a slot's row.
fn row_KV(slot: u32, width: u32) -> u32 {
    return slot * ((width / 4u + width / 32u + 3u) / 4u * 4u);
}

// Columns c .. c + 4 of the row that begins at `row`; c is a multiple of 4.
fn load_KV(row: u32, width: u32, c: u32) -> vec4<f32> {
    let scale = bitcast<f32>(cache_KV[row + width / 4u + c / 32u]);
    return scale * vec4<f32>(unpack4xI8(cache_KV[row + c / 4u]));
}
