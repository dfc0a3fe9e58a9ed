// y[col][row] = sum_k W[row][k] x[col][k] for many columns: prompts. Of one matrix, of one for each head, or of tiles of
// rows that chose the same expert (linear.wgsl, experts.wgsl).
// A workgroup of 64 lanes computes 64 rows x 32 columns, in steps of 32 along k: lane i expands the group of weights of
// row i and a quarter of two columns' inputs into workgroup memory (12 KiB of f32), then lane (lx, ly) adds up 8 rows x
// 4 columns in registers. Rows and columns beyond the end repeat the last one and are not written.
// Grid (rows / 64, columns / 32, matrices or tiles). Scalar twin: src/cpu/exact.rs.
const TILE_ROWS: u32 = 64u;
const TILE_COLS: u32 = 32u;
@group(0) @binding(3) var<storage, read> x: array<vec4<f32>>;
// [k][row] and [k][column]
var<workgroup> tile_w: array<f32, 2048>;
var<workgroup> tile_x: array<f32, 1024>;

fn put_w(row: u32, k: u32, v: vec4<f32>) {
    tile_w[k * TILE_ROWS + row] = v.x;
    tile_w[(k + 1u) * TILE_ROWS + row] = v.y;
    tile_w[(k + 2u) * TILE_ROWS + row] = v.z;
    tile_w[(k + 3u) * TILE_ROWS + row] = v.w;
}

fn put_x(col: u32, k: u32, v: vec4<f32>) {
    tile_x[k * TILE_COLS + col] = v.x;
    tile_x[(k + 1u) * TILE_COLS + col] = v.y;
    tile_x[(k + 2u) * TILE_COLS + col] = v.z;
    tile_x[(k + 3u) * TILE_COLS + col] = v.w;
}

fn emit4(j: Job, row: u32, col: u32, v: vec4<f32>) {
    if (col < j.n_col) {
        if (row < p.rows) { emit(j, row, col, v.x); }
        if (row + 1u < p.rows) { emit(j, row + 1u, col, v.y); }
        if (row + 2u < p.rows) { emit(j, row + 2u, col, v.z); }
        if (row + 3u < p.rows) { emit(j, row + 3u, col, v.w); }
    }
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let j = job(wid.z);
    if (j.n_col == 0u) {
        return;
    }
    let row0 = wid.x * TILE_ROWS;
    let col0 = wid.y * TILE_COLS;
    let row = j.row0 + min(row0 + lane, p.rows - 1u);
    let x_col = lane >> 1u;
    let x_part = (lane & 1u) * 4u;
    let x_from = input(j, min(col0 + x_col, j.n_col - 1u)) + x_part;
    let lx = lane & 7u;
    let ly = lane >> 3u;
    var a0 = vec4<f32>(); var a1 = vec4<f32>(); var a2 = vec4<f32>(); var a3 = vec4<f32>();
    var b0 = vec4<f32>(); var b1 = vec4<f32>(); var b2 = vec4<f32>(); var b3 = vec4<f32>();
    for (var g = 0u; g < p.groups; g++) {
        let w = group32(row * p.groups + g);
        put_w(lane, 0u, w.w0);
        put_w(lane, 4u, w.w1);
        put_w(lane, 8u, w.w2);
        put_w(lane, 12u, w.w3);
        put_w(lane, 16u, w.w4);
        put_w(lane, 20u, w.w5);
        put_w(lane, 24u, w.w6);
        put_w(lane, 28u, w.w7);
        for (var i = 0u; i < 4u; i++) {
            put_x(x_col, (x_part + i) * 4u, x[x_from + g * 8u + i]);
        }
        workgroupBarrier();
        for (var k = 0u; k < 32u; k++) {
            let wk = k * TILE_ROWS + lx * 8u;
            let xk = k * TILE_COLS + ly * 4u;
            let wa = vec4<f32>(tile_w[wk], tile_w[wk + 1u], tile_w[wk + 2u], tile_w[wk + 3u]);
            let wb = vec4<f32>(tile_w[wk + 4u], tile_w[wk + 5u], tile_w[wk + 6u], tile_w[wk + 7u]);
            let x0 = tile_x[xk];
            let x1 = tile_x[xk + 1u];
            let x2 = tile_x[xk + 2u];
            let x3 = tile_x[xk + 3u];
            a0 += wa * x0; a1 += wa * x1; a2 += wa * x2; a3 += wa * x3;
            b0 += wb * x0; b1 += wb * x1; b2 += wb * x2; b3 += wb * x3;
        }
        workgroupBarrier();
    }
    let r = row0 + lx * 8u;
    let c = col0 + ly * 4u;
    emit4(j, r, c, a0);
    emit4(j, r, c + 1u, a1);
    emit4(j, r, c + 2u, a2);
    emit4(j, r, c + 3u, a3);
    emit4(j, r + 4u, c, b0);
    emit4(j, r + 4u, c + 1u, b1);
    emit4(j, r + 4u, c + 2u, b2);
    emit4(j, r + 4u, c + 3u, b3);
}
