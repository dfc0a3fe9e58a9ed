// out = factor * weight * a, weight [n] or with WEIGHT 0 none. Views of n columns. One invocation per element; grid
// (n / WG, rows). Scalar twin: src/cpu/rows.rs.
struct Scale {
    a: View,
    out: View,
    n: u32,
    factor: f32,
}
@group(0) @binding(3) var<storage, read> weight: array<f32>;
@group(0) @binding(5) var<uniform> p: Scale;

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x >= p.n || id.y >= rows_of_batch()) {
        return;
    }
    var x = p.factor * a[at(p.a, id.y, id.x)];
    if (WEIGHT != 0u) {
        x *= weight[id.x];
    }
    out[at(p.out, id.y, id.x)] = x;
}
