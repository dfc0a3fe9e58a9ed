// One vector per sequence, put in its first row: the mean of its rows (KIND 0), the first (1), the last (2).
// a, out: views of n columns; another buffer each. `weight` holds the order of rows, `bias` (first, count) of each
// sequence in it. One invocation per column; grid (n / WG, sequences). Scalar twin: src/cpu/exec.rs.
struct Pool {
    a: View,
    out: View,
    n: u32,
}
@group(0) @binding(3) var<storage, read> weight: array<u32>;
@group(0) @binding(4) var<storage, read> bias: array<vec2<u32>>;
@group(0) @binding(5) var<uniform> p: Pool;

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let rows = bias[id.y];
    if (id.x >= p.n || rows.y == 0u) {
        return;
    }
    var x = 0.0;
    if (KIND == 0u) {
        for (var i = 0u; i < rows.y; i++) {
            x += a[at(p.a, weight[rows.x + i], id.x)];
        }
        x /= f32(rows.y);
    } else if (KIND == 1u) {
        x = a[at(p.a, weight[rows.x], id.x)];
    } else {
        x = a[at(p.a, weight[rows.x + rows.y - 1u], id.x)];
    }
    out[at(p.out, weight[rows.x], id.x)] = x;
}
