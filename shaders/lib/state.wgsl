// What the kernels of states share.

// ln(1 + e) for e in 0 ..= 1 as 2 atanh(e / (2 + e)), whose series keeps the digits of small e, which 1 + e loses.
fn ln_1p(e: f32) -> f32 {
    let z = e / (2.0 + e);
    let s = z * z;
    var r = 1.0 / 15.0;
    r = r * s + 1.0 / 13.0;
    r = r * s + 1.0 / 11.0;
    r = r * s + 1.0 / 9.0;
    r = r * s + 1.0 / 7.0;
    r = r * s + 1.0 / 5.0;
    r = r * s + 1.0 / 3.0;
    return 2.0 * z * (1.0 + s * r);
}

// ln(1 + exp(x)). Scalar twin: src/cpu/recurrence.rs.
fn softplus(x: f32) -> f32 {
    return max(x, 0.0) + ln_1p(exp(max(-abs(x), -80.0)));
}

// exp(x) for rates of decay, which may be anything below 0.
fn decay_of(x: f32) -> f32 {
    return exp(max(x, -80.0));
}
