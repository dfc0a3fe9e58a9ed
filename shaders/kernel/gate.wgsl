// out = act(a) * b, or act(a) where BY is 0. ACT 0: silu, 1: gelu, 2: gelu with erf, 3: relu, 4: its square, 5: xielu
// with the numbers positive, negative, beta, eps. Views of n columns.
// One invocation per element; grid (n / WG, rows). Scalar twins: src/cpu/kernels/scalar.rs, src/cpu/act.rs.
struct Gate {
    a: View,
    b: View,
    out: View,
    n: u32,
    positive: f32,
    negative: f32,
    beta: f32,
    eps: f32,
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
    } else if (ACT == 1u) {
        y = gelu(x);
    } else if (ACT == 2u) {
        y = gelu_erf(x);
    } else if (ACT == 3u) {
        y = max(x, 0.0);
    } else if (ACT == 4u) {
        y = max(x, 0.0) * max(x, 0.0);
    } else {
        y = xielu(x, p.positive, p.negative, p.beta, p.eps);
    }
    if (BY != 0u) {
        y *= b[at(p.b, id.y, id.x)];
    }
    out[at(p.out, id.y, id.x)] = y;
}
