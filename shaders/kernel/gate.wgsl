// out = act(a) * b, or act(a) where BY is 0; act.wgsl has the activations. Views of n columns; with NARROW 1, a is one
// number for all of b. One invocation per element; grid (n / WG, rows).
struct Gate {
    a: View,
    b: View,
    out: View,
    n: u32,
    numbers_x: f32,
    numbers_y: f32,
    numbers_z: f32,
    numbers_w: f32,
}
@group(0) @binding(5) var<uniform> p: Gate;

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x >= p.n || id.y >= rows_of_batch()) {
        return;
    }
    let x = a[at(p.a, id.y, select(id.x, 0u, NARROW != 0u))];
    var by = 1.0;
    if (BY != 0u) {
        by = b[at(p.b, id.y, id.x)];
    }
    let numbers = vec4<f32>(p.numbers_x, p.numbers_y, p.numbers_z, p.numbers_w);
    out[at(p.out, id.y, id.x)] = activate(x, by, numbers);
}
