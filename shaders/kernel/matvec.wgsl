// y[col][row] = sum_k W[row][k] x[col][k] for 1 to COLS columns: the rows of a batch while text is written. Of one matrix,
// of one for each head, or of the chosen experts' (linear.wgsl, experts.wgsl).
// A workgroup computes ROWS rows; its WG lanes stride over the groups of 32 weights, each of which is expanded once for
// all columns; then sums over the lanes. Grid: rows / ROWS, folded over x and y by p.grid_x;
// matrices.
// Needs WG, ROWS, COLS, SLOTS = ROWS * COLS, TAKEN, ADD. Scalar twin: src/cpu/exact.rs.
@group(0) @binding(3) var<storage, read> x: array<vec4<f32>>;

fn dot32(w: Group, at: u32) -> f32 {
    let s0 = dot(w.w0, x[at]) + dot(w.w1, x[at + 1u]);
    let s1 = dot(w.w2, x[at + 2u]) + dot(w.w3, x[at + 3u]);
    let s2 = dot(w.w4, x[at + 4u]) + dot(w.w5, x[at + 5u]);
    let s3 = dot(w.w6, x[at + 6u]) + dot(w.w7, x[at + 7u]);
    return (s0 + s1) + (s2 + s3);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, l: Lanes) {
    let first = (wid.y * p.grid_x + wid.x) * ROWS;
    let j = job(wid.z);
    if (j.n_col == 0u) {
        return;
    }
    var starts: array<u32, COLS>;
    for (var c = 0u; c < COLS; c++) {
        starts[c] = input(j, min(c, j.n_col - 1u));
    }
    var acc: array<f32, SLOTS>;
    for (var g = l.lane; g < p.groups; g += WG) {
        for (var r = 0u; r < ROWS; r++) {
            let w = group32((j.row0 + min(first + r, p.rows - 1u)) * p.groups + g);
            for (var c = 0u; c < COLS; c++) {
                acc[r * COLS + c] += dot32(w, starts[c] + g * 8u);
            }
        }
    }
    for (var i = 0u; i < SLOTS; i++) {
        put(i, acc[i], l);
    }
    finish(l);
    for (var i = l.lane; i < SLOTS; i += WG) {
        let row = first + i / COLS;
        let col = i % COLS;
        if (row < p.rows && col < j.n_col) {
            emit(j, row, col, total(i, l));
        }
    }
}
