// Bindings, parameters, inputs and the end of every product with a matrix, or with one for each head:
// y[row] = cap(clamp(scale * sum + bias)), and with ADD 1: y[row] += add_scale * that. Rows of the batch are columns of
// the product. Needs constants TAKEN and ADD. Kernels of products are written over `Job`, `job`, `input` and `emit`,
// which experts.wgsl gives, too.

struct Linear {
    // Rows of the matrix in this chunk, or of each head's, and groups of 32 weights in a row.
    rows: u32,
    groups: u32,
    // The input, in units of 4 numbers, or of 32 where it is quantized: first unit, units from one row of the batch to
    // the next.
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
    // From one head to the next: units of the input, columns of the output.
    x_head: u32,
    y_head: u32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
}

@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@group(0) @binding(5) var<storage, read> bias: array<f32>;
@group(0) @binding(6) var<uniform> p: Linear;
@group(0) @binding(7) var<uniform> batch: Batch;

// Columns of the product.
fn columns() -> u32 {
    return select(batch.n_row, batch.n_want, TAKEN != 0u);
}

// What a workgroup has to do.
struct Job {
    // First row of its matrix in the chunk.
    row0: u32,
    // Columns of the product; 0: nothing is to be done.
    n_col: u32,
    // Where inputs and outputs begin.
    x: u32,
    y: u32,
}

// Head z, or the only matrix.
fn job(z: u32) -> Job {
    return Job(z * p.rows, columns(), p.x_start + z * p.x_head, p.y_start + z * p.y_head);
}

// Where the input of a column begins.
fn input(j: Job, col: u32) -> u32 {
    return j.x + col * p.x_row;
}

fn emit(j: Job, row: u32, col: u32, sum: f32) {
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
    let at = col * p.y_row + j.y + row;
    if (ADD != 0u) {
        v = y[at] + p.add_scale * v;
    }
    y[at] = v;
}
