// Bindings, parameters, inputs and the end of products with the matrices of chosen experts, over the interface of
// linear.wgsl. A pair is a row of the batch and one of its experts, pair = row * n_used + i; results lie by pairs:
// y[pair * y_row + row of the matrix]. Matrix z is, with TILED 0, that of pair z, whose only column it is; with TILED 1
// that of tile z of the table of experts_group.wgsl. Experts that do not lie in the chunk at hand are left out.
// Needs constants TAKEN and TILED.

struct Experts {
    // Rows of an expert's matrix, and groups of 32 weights in a row.
    rows: u32,
    groups: u32,
    // The input, in units of 4 numbers, or of 32 where it is quantized: first unit, units from one row to the next; pair i
    // reads row i / x_div.
    x_start: u32,
    x_row: u32,
    x_div: u32,
    y_row: u32,
    n_used: u32,
    // Experts of the chunk: the first, and their number.
    first: u32,
    count: u32,
    // Workgroups of the first dimension of the grid: rows are folded over two.
    grid_x: u32,
    // The choice of a row of the batch (TILED 0): first column, columns from one row to the next.
    idx_start: u32,
    idx_row: u32,
}

@group(0) @binding(4) var<storage, read_write> y: array<f32>;
// With TILED 0 the numbers of chosen experts, f32 [rows, idx_row]; else the table.
@group(0) @binding(5) var<storage, read> choice: array<u32>;
@group(0) @binding(6) var<uniform> p: Experts;
@group(0) @binding(7) var<uniform> batch: Batch;

struct Job {
    // First row of its matrix in the chunk.
    row0: u32,
    // Columns of the product; 0: nothing is to be done.
    n_col: u32,
    // The pair, or the place of the first one in the table.
    place: u32,
}

// Pairs of the batch.
fn pairs() -> u32 {
    return select(batch.n_row, batch.n_want, TAKEN != 0u) * p.n_used;
}

fn job_of(expert: u32, n_col: u32, place: u32) -> Job {
    // An expert before the chunk is a very great number behind its first one.
    if (expert - p.first >= p.count) {
        return Job(0u, 0u, 0u);
    }
    return Job((expert - p.first) * p.rows, n_col, place);
}

fn job(z: u32) -> Job {
    if (TILED == 0u) {
        let number = choice[z / p.n_used * p.idx_row + p.idx_start + z % p.n_used];
        return job_of(u32(bitcast<f32>(number)), 1u, z);
    }
    if (z >= choice[0]) {
        return Job(0u, 0u, 0u);
    }
    let tile = 1u + pairs() + 3u * z;
    return job_of(choice[tile], choice[tile + 2u], 1u + choice[tile + 1u]);
}

fn pair_of(j: Job, col: u32) -> u32 {
    if (TILED == 0u) {
        return j.place;
    }
    return choice[j.place + col];
}

fn input(j: Job, col: u32) -> u32 {
    return p.x_start + pair_of(j, col) / p.x_div * p.x_row;
}

fn emit(j: Job, row: u32, col: u32, sum: f32) {
    y[pair_of(j, col) * p.y_row + row] = sum;
}
