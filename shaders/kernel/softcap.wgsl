// out = cap * tanh(a / cap). Views of n columns. One invocation per element; grid (n / WG, rows).
struct Softcap {
    a: View,
    out: View,
    n: u32,
    cap: f32,
}
@group(0) @binding(5) var<uniform> p: Softcap;

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x >= p.n || id.y >= rows_of_batch()) {
        return;
    }
    out[at(p.out, id.y, id.x)] = softcap(a[at(p.a, id.y, id.x)], p.cap);
}
