// Each head of a as strong as b: out = a * sqrt(mean(b^2) / max(mean(a^2), eps)). Views: heads of `width` columns, and one
// of b. One workgroup of WG lanes per head of a row; grid (heads, rows). Needs TAKEN, WG, SLOTS = 2.
// Scalar twin: src/cpu/rows.rs.
struct Rescale {
    a: View,
    b: View,
    out: View,
    width: u32,
    eps: f32,
}
@group(0) @binding(5) var<uniform> p: Rescale;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, l: Lanes) {
    let first = wid.x * p.width;
    var own = 0.0;
    var like = 0.0;
    for (var i = l.lane; i < p.width; i += WG) {
        let x = a[at(p.a, wid.y, first + i)];
        let y = b[at(p.b, wid.y, i)];
        own += x * x;
        like += y * y;
    }
    put(0u, own, l);
    put(1u, like, l);
    finish(l);
    let n = f32(p.width);
    let factor = sqrt(total(1u, l) / n / max(total(0u, l) / n, p.eps));
    for (var i = l.lane; i < p.width; i += WG) {
        out[at(p.out, wid.y, first + i)] = factor * a[at(p.a, wid.y, first + i)];
    }
}
