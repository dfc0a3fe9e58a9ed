// Streams that take from streams: out_i = base_i + sum over j of (coef[i, j] + offset) a_j. Views: n_in heads of `width`
// columns of a, as many more of base and out as there are rows in b, the coefficients [n_out, n_in] of each row.
// With BASE_IN_A 1 the base lies in the buffer of a, else it is `weight`.
// One invocation per element; grid (n_out * width / WG, rows). Scalar twin: src/cpu/rows.rs.
struct Mix {
    a: View,
    b: View,
    base: View,
    out: View,
    width: u32,
    n_in: u32,
    // Columns of the result.
    n: u32,
    offset: f32,
}
@group(0) @binding(3) var<storage, read> weight: array<f32>;
@group(0) @binding(5) var<uniform> p: Mix;

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x >= p.n || id.y >= rows_of_batch()) {
        return;
    }
    let i = id.x / p.width;
    let column = id.x % p.width;
    let from_base = at(p.base, id.y, id.x);
    var x: f32;
    if (BASE_IN_A != 0u) {
        x = a[from_base];
    } else {
        x = weight[from_base];
    }
    for (var j = 0u; j < p.n_in; j++) {
        x += (b[at(p.b, id.y, i * p.n_in + j)] + p.offset) * a[at(p.a, id.y, j * p.width + column)];
    }
    out[at(p.out, id.y, id.x)] = x;
}
