// y[row] (+)= scale * table[entry]; BY = 0: entry is the row's token, 1: its position + OFFSET, 2: OFFSET for all rows. `x` holds
// (token, position, 0, 0) of each row; a chunk of the table serves the entries first .. first + rows. ADD as in linear.wgsl. One invocation per group of 32 columns; grid
// (groups / WG, rows). Scalar twin: src/cpu/rows.rs.
@group(0) @binding(3) var<storage, read> x: array<vec4<u32>>;

fn emit4(row: u32, at: u32, v: vec4<f32>) {
    let n = p.row_len;
    let j = job(0u);
    if (at < n) { emit(j, at, row, v.x); }
    if (at + 1u < n) { emit(j, at + 1u, row, v.y); }
    if (at + 2u < n) { emit(j, at + 2u, row, v.z); }
    if (at + 3u < n) { emit(j, at + 3u, row, v.w); }
}

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x >= p.groups || id.y >= columns()) {
        return;
    }
    let own = select(x[id.y].x, x[id.y].y, BY == 1u);
    let entry = OFFSET + select(own, 0u, BY == 2u);
    if (entry < p.first || entry - p.first >= p.rows) {
        return;
    }
    let w = group32((entry - p.first) * p.groups + id.x);
    let at = id.x * 32u;
    emit4(id.y, at, w.w0);
    emit4(id.y, at + 4u, w.w1);
    emit4(id.y, at + 8u, w.w2);
    emit4(id.y, at + 12u, w.w3);
    emit4(id.y, at + 16u, w.w4);
    emit4(id.y, at + 20u, w.w5);
    emit4(id.y, at + 24u, w.w6);
    emit4(id.y, at + 28u, w.w7);
}
