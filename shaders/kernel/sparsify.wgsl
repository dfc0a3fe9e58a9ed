// What stands out: out = max(a - (mean + n_std * std), 0) over all n columns of a row. Views of n columns.
// One workgroup of WG lanes per row; grid (1, rows). Needs TAKEN, WG, SLOTS = 1. Scalar twin: src/cpu/rows.rs.
struct Sparsify {
    a: View,
    out: View,
    n: u32,
    n_std: f32,
}
@group(0) @binding(5) var<uniform> p: Sparsify;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, l: Lanes) {
    var sum = 0.0;
    for (var i = l.lane; i < p.n; i += WG) {
        sum += a[at(p.a, wid.y, i)];
    }
    put(0u, sum, l);
    finish(l);
    let mean = total(0u, l) / f32(p.n);
    workgroupBarrier();
    var squares = 0.0;
    for (var i = l.lane; i < p.n; i += WG) {
        let x = a[at(p.a, wid.y, i)] - mean;
        squares += x * x;
    }
    put(0u, squares, l);
    finish(l);
    let cut = mean + p.n_std * sqrt(total(0u, l) / f32(p.n));
    for (var i = l.lane; i < p.n; i += WG) {
        out[at(p.out, wid.y, i)] = max(a[at(p.a, wid.y, i)] - cut, 0.0);
    }
}
