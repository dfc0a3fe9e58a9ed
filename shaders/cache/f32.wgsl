// Rows of a cache in f32; KV names keys or values.
//
// cache_KV: [n_slot, width]; a cell is 4 numbers.

alias Cell_KV = vec4<f32>;

// First cell of a slot's row.
fn row_KV(slot: u32, width: u32) -> u32 {
    return slot * (width / 4u);
}

// Columns c .. c + 4 of the row that begins at `row`; c is a multiple of 4.
fn load_KV(row: u32, width: u32, c: u32) -> vec4<f32> {
    return cache_KV[row + c / 4u];
}
