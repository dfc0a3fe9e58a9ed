// Bindings and views of kernels over rows. A view is the columns of an operand: element i of row r lies at
// r * row + start + (i / width) * stride + i % width. Inputs are bound for writing since a result may lie on its input.

struct View {
    start: u32,
    width: u32,
    stride: u32,
    row: u32,
}

@group(0) @binding(0) var<storage, read_write> a: array<f32>;
@group(0) @binding(1) var<storage, read_write> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;
@group(0) @binding(6) var<uniform> batch: Batch;

fn at(v: View, r: u32, i: u32) -> u32 {
    return r * v.row + v.start + (i / v.width) * v.stride + i % v.width;
}

// Rows that a step treats: all of the batch, or behind a Take the wanted ones. Needs the constant TAKEN.
fn rows_of_batch() -> u32 {
    return select(batch.n_row, batch.n_want, TAKEN != 0u);
}
