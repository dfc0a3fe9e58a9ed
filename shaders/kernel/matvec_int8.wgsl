// As matvec.wgsl, over activations quantized to int8 by quantize.wgsl: packed dot products of codes, f32 scales.
// W[row][k] = d * code + m, x[k] = e * q: sum = d e sum(code q) + m e sum(q), for each 16 weights.
@group(0) @binding(3) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(8) var<storage, read> xs: array<vec4<f32>>;

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
            let w = codes32((j.row0 + min(first + r, p.rows - 1u)) * p.groups + g);
            for (var c = 0u; c < COLS; c++) {
                let at = starts[c] + g;
                acc[r * COLS + c] += dot_codes(w, x[2u * at], x[2u * at + 1u], xs[at]);
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
