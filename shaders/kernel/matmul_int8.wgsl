// As matmul.wgsl, over activations quantized to int8 by quantize.wgsl: tiles of codes and scales in workgroup memory
// (4.5 KiB), packed dot products, f32 sums. Grid as there.
const TILE_ROWS: u32 = 64u;
const TILE_COLS: u32 = 32u;
@group(0) @binding(3) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(8) var<storage, read> xs: array<vec4<f32>>;
// [half of the group][row or column]
var<workgroup> tile_w: array<vec4<u32>, 128>;
var<workgroup> tile_x: array<vec4<u32>, 64>;
// (d.x, d.y, m.x, m.y)
var<workgroup> scale_w: array<vec4<f32>, 64>;
var<workgroup> scale_x: array<vec4<f32>, 32>;

fn codes_at(row: u32) -> Codes {
    let s = scale_w[row];
    return Codes(tile_w[row], tile_w[TILE_ROWS + row], s.xy, s.zw);
}

fn emit4(j: Job, row: u32, col: u32, v: vec4<f32>) {
    if (row < p.rows) {
        if (col < j.n_col) { emit(j, row, col, v.x); }
        if (col + 1u < j.n_col) { emit(j, row, col + 1u, v.y); }
        if (col + 2u < j.n_col) { emit(j, row, col + 2u, v.z); }
        if (col + 3u < j.n_col) { emit(j, row, col + 3u, v.w); }
    }
}

// One row of weights times 4 columns.
fn dot4(w: Codes, c: u32) -> vec4<f32> {
    return vec4<f32>(
        dot_codes(w, tile_x[c], tile_x[TILE_COLS + c], scale_x[c]),
        dot_codes(w, tile_x[c + 1u], tile_x[TILE_COLS + c + 1u], scale_x[c + 1u]),
        dot_codes(w, tile_x[c + 2u], tile_x[TILE_COLS + c + 2u], scale_x[c + 2u]),
        dot_codes(w, tile_x[c + 3u], tile_x[TILE_COLS + c + 3u], scale_x[c + 3u]));
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
    let x_col = lane & 31u;
    let x_half = lane >> 5u;
    let x_from = input(j, min(col0 + x_col, j.n_col - 1u));
    let lx = (lane & 7u) * 8u;
    let ly = (lane >> 3u) * 4u;
    var s0 = vec4<f32>(); var s1 = vec4<f32>(); var s2 = vec4<f32>(); var s3 = vec4<f32>();
    var s4 = vec4<f32>(); var s5 = vec4<f32>(); var s6 = vec4<f32>(); var s7 = vec4<f32>();
    for (var g = 0u; g < p.groups; g++) {
        let w = codes32(row * p.groups + g);
        tile_w[lane] = w.lo;
        tile_w[TILE_ROWS + lane] = w.hi;
        scale_w[lane] = vec4<f32>(w.d, w.m);
        tile_x[x_half * TILE_COLS + x_col] = x[2u * (x_from + g) + x_half];
        if (x_half == 0u) {
            scale_x[x_col] = xs[x_from + g];
        }
        workgroupBarrier();
        s0 += dot4(codes_at(lx), ly);
        s1 += dot4(codes_at(lx + 1u), ly);
        s2 += dot4(codes_at(lx + 2u), ly);
        s3 += dot4(codes_at(lx + 3u), ly);
        s4 += dot4(codes_at(lx + 4u), ly);
        s5 += dot4(codes_at(lx + 5u), ly);
        s6 += dot4(codes_at(lx + 6u), ly);
        s7 += dot4(codes_at(lx + 7u), ly);
        workgroupBarrier();
    }
    emit4(j, row0 + lx, col0 + ly, s0);
    emit4(j, row0 + lx + 1u, col0 + ly, s1);
    emit4(j, row0 + lx + 2u, col0 + ly, s2);
    emit4(j, row0 + lx + 3u, col0 + ly, s3);
    emit4(j, row0 + lx + 4u, col0 + ly, s4);
    emit4(j, row0 + lx + 5u, col0 + ly, s5);
    emit4(j, row0 + lx + 6u, col0 + ly, s6);
    emit4(j, row0 + lx + 7u, col0 + ly, s7);
}
