// out = (add + scale *) norm(a) * weight + bias over groups of `width` columns.
//   KIND 0: x / sqrt(mean(x^2) + eps)          1: (x - mean(x)) / sqrt(mean((x - mean(x))^2) + eps)
//        2: x / sqrt(sum(x^2) + eps)
// a, b (what is added), out: views of n columns. weight, bias: [width], or [groups, width] where *_groups is 1.
// One workgroup of WG lanes per group of a row; grid (groups, rows). Needs KIND, ADD, TAKEN, WG, SLOTS = 1.
// Scalar twin: src/cpu/kernels/scalar.rs.
struct Norm {
    a: View,
    b: View,
    out: View,
    width: u32,
    eps: f32,
    has_weight: u32,
    weight_groups: u32,
    has_bias: u32,
    bias_groups: u32,
    scale: f32,
    pad: u32,
}
@group(0) @binding(3) var<storage, read> weight: array<f32>;
@group(0) @binding(4) var<storage, read> bias: array<f32>;
@group(0) @binding(5) var<uniform> p: Norm;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, l: Lanes) {
    let first = wid.x * p.width;
    var mean = 0.0;
    if (KIND == 1u) {
        var sum = 0.0;
        for (var i = l.lane; i < p.width; i += WG) {
            sum += a[at(p.a, wid.y, first + i)];
        }
        put(0u, sum, l);
        finish(l);
        mean = total(0u, l) / f32(p.width);
        workgroupBarrier();
    }
    var squares = 0.0;
    for (var i = l.lane; i < p.width; i += WG) {
        let x = a[at(p.a, wid.y, first + i)] - mean;
        squares += x * x;
    }
    put(0u, squares, l);
    finish(l);
    let over = select(f32(p.width), 1.0, KIND == 2u);
    let factor = 1.0 / sqrt(total(0u, l) / over + p.eps);
    for (var i = l.lane; i < p.width; i += WG) {
        var x = (a[at(p.a, wid.y, first + i)] - mean) * factor;
        if (p.has_weight != 0u) {
            x *= weight[p.weight_groups * first + i];
        }
        if (p.has_bias != 0u) {
            x += bias[p.bias_groups * first + i];
        }
        if (ADD != 0u) {
            x = b[at(p.b, wid.y, first + i)] + p.scale * x;
        }
        out[at(p.out, wid.y, first + i)] = x;
    }
}
