// Pointwise functions of the plan's vocabulary, with arguments limited so that no driver overflows inside.

// tanh is 1 to the last bit of f32 beyond 10; some drivers compute it from exp and overflow.
fn safe_tanh(x: f32) -> f32 {
    return tanh(clamp(x, -15.0, 15.0));
}

fn silu(x: f32) -> f32 {
    return x / (1.0 + exp(-max(x, -80.0)));
}

// 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))). Scalar twin: src/cpu/kernels/scalar.rs.
fn gelu(x: f32) -> f32 {
    return 0.5 * x * (1.0 + safe_tanh(0.7978845608028654 * x * (1.0 + 0.044715 * x * x)));
}

fn softcap(x: f32, cap: f32) -> f32 {
    return cap * safe_tanh(x / cap);
}
