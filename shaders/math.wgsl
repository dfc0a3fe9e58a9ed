// Pointwise functions of the plan's vocabulary, with arguments limited so that no driver overflows inside.

// tanh is 1 to the last bit of f32 beyond 10; some drivers compute it from exp and overflow.
fn safe_tanh(x: f32) -> f32 {
    return tanh(clamp(x, -15.0, 15.0));
}

fn sigmoid(x: f32) -> f32 {
    return 1.0 / (1.0 + exp(-max(x, -80.0)));
}

fn silu(x: f32) -> f32 {
    return x / (1.0 + exp(-max(x, -80.0)));
}

// 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))). Scalar twin: src/cpu/kernels/scalar.rs.
fn gelu(x: f32) -> f32 {
    return 0.5 * x * (1.0 + safe_tanh(0.7978845608028654 * x * (1.0 + 0.044715 * x * x)));
}

// 0.5 x (1 + erf(x / sqrt(2))), by the fit of src/cpu/act.rs. From 20 on exp(-x^2 / 2) is 0.
fn gelu_erf(x: f32) -> f32 {
    let a = min(abs(x), 20.0);
    let t = 1.0 / (1.0 + 0.3 * 0.7071067811865476 * a);
    var r = -0.12956339;
    r = r * t + 0.48577389;
    r = r * t - 0.51274776;
    r = r * t + 0.54830515;
    r = r * t - 0.095095485;
    r = r * t + 0.21513699;
    r = r * t + 0.14827831;
    r = r * t + 0.17072499;
    r = r * t + 0.16918734;
    let below = x * (0.5 * t * r * exp(-0.5 * a * a));
    return select(x - below, below, x < 0.0);
}

// exp(x) - 1 - x for x <= 0, which cancels near 0: there by its series.
fn exp_beyond_tangent(x: f32) -> f32 {
    if (x < -0.5) {
        return exp(max(x, -80.0)) - 1.0 - x;
    }
    return 0.5 * x * x * (1.0 + x / 3.0 * (1.0 + x / 4.0 * (1.0 + x / 5.0 * (1.0 + x / 6.0 * (1.0 + x / 7.0)))));
}

// plan::Act::Xielu.
fn xielu(x: f32, positive: f32, negative: f32, beta: f32, eps: f32) -> f32 {
    if (x > 0.0) {
        return positive * x * x + beta * x;
    }
    let e = min(x, eps);
    return negative * (exp_beyond_tangent(e) + (e - x)) + beta * x;
}

fn softcap(x: f32, cap: f32) -> f32 {
    return cap * safe_tanh(x / cap);
}
