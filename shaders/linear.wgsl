// Bindings, parameters and the end of every product with a matrix: y[row] = cap(clamp(scale * sum + bias)), and with
// ADD 1: y[row] += add_scale * that. Rows of the batch are columns of the product. Needs constants TAKEN and ADD.

struct Linear {
    // Rows of the matrix in this chunk, and groups of 32 weights in a row.
    rows: u32,
    groups: u32,
    // The input, in units of 4 numbers: first unit, units from one row of the batch to the next.
    x_start: u32,
    x_row: u32,
    // The output: first column that belongs to this chunk, columns from one row of the batch to the next.
    y_start: u32,
    y_row: u32,
    // First bias of this chunk.
    bias_start: u32,
    has_bias: u32,
    scale: f32,
    add_scale: f32,
    // Limits; 0 where there is none.
    clamp: f32,
    cap: f32,
    // Workgroups of the first dimension of the grid: rows are folded over two.
    grid_x: u32,
    // First row of the table that lies in this chunk (embeddings).
    first: u32,
    // Columns of a row of the table.
    row_len: u32,
    pad: u32,
}

@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@group(0) @binding(5) var<storage, read> bias: array<f32>;
@group(0) @binding(6) var<uniform> p: Linear;
@group(0) @binding(7) var<uniform> batch: Batch;

// Columns of the product.
fn columns() -> u32 {
    return select(batch.n_row, batch.n_want, TAKEN != 0u);
}

fn emit(row: u32, col: u32, sum: f32) {
    var v = p.scale * sum;
    if (p.has_bias != 0u) {
        v += bias[p.bias_start + row];
    }
    if (p.clamp > 0.0) {
        v = clamp(v, -p.clamp, p.clamp);
    }
    if (p.cap > 0.0) {
        v = softcap(v, p.cap);
    }
    let at = col * p.y_row + p.y_start + row;
    if (ADD != 0u) {
        v = y[at] + p.add_scale * v;
    }
    y[at] = v;
}
