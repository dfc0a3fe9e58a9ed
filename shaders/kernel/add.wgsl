// out = a + scale * b. Views of n columns. One invocation per element; grid (n / WG, rows).
struct Add {
    a: View,
    b: View,
    out: View,
    n: u32,
    scale: f32,
}
@group(0) @binding(5) var<uniform> p: Add;

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x >= p.n || id.y >= rows_of_batch()) {
        return;
    }
    out[at(p.out, id.y, id.x)] = a[at(p.a, id.y, id.x)] + p.scale * b[at(p.b, id.y, id.x)];
}
