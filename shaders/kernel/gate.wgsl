// out = act(a) * b, or act(a) where BY is 0. ACT 0: silu, 1: gelu. Views of n columns.
// One invocation per element; grid (n / WG, rows). Scalar twin: src/cpu/kernels/scalar.rs.
struct Gate {
    a: View,
    b: View,
    out: View,
    n: u32,
}
@group(0) @binding(5) var<uniform> p: Gate;

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x >= p.n || id.y >= rows_of_batch()) {
        return;
    }
    let x = a[at(p.a, id.y, id.x)];
    var y: f32;
    if (ACT == 0u) {
        y = silu(x);
    } else {
        y = gelu(x);
    }
    if (BY != 0u) {
        y *= b[at(p.b, id.y, id.x)];
    }
    out[at(p.out, id.y, id.x)] = y;
}
