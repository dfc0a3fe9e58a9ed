// act(x) * by; without a factor `by` is 1. ACT 0: silu, 1: gelu, 2: gelu with erf, 3: relu, 4: its square, 5: xielu
// with the numbers positive, negative, beta, eps, 6: sigmoid, 7: plan::Act::ClampedSwiglu with alpha, limit, 8: x.
// Scalar twins: src/cpu/kernels/scalar.rs, src/cpu/act.rs.
fn activate(x: f32, by: f32, numbers: vec4<f32>) -> f32 {
    if (ACT == 0u) {
        return silu(x) * by;
    } else if (ACT == 1u) {
        return gelu(x) * by;
    } else if (ACT == 2u) {
        return gelu_erf(x) * by;
    } else if (ACT == 3u) {
        return max(x, 0.0) * by;
    } else if (ACT == 4u) {
        return max(x, 0.0) * max(x, 0.0) * by;
    } else if (ACT == 5u) {
        return xielu(x, numbers.x, numbers.y, numbers.z, numbers.w) * by;
    } else if (ACT == 6u) {
        return sigmoid(x) * by;
    } else if (ACT == 7u) {
        let g = min(x, numbers.y);
        return g * sigmoid(numbers.x * g) * (clamp(by, -numbers.y, numbers.y) + 1.0);
    }
    return x * by;
}
