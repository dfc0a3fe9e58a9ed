// Turns pairs of dims of each head by angles whose cos and sin the host computed in f64: `weight` holds
// [rows, n_pair] of (cos, sin), the amplitude in both. ADJACENT 1: dims (2i, 2i + 1), 0: (i, i + n_pair); dims behind
// 2 * n_pair pass. a, out: views of heads of a.width dims. One invocation per (head, pair or passing dim); grid
// (heads * (head_dim - n_pair) / WG, rows). Scalar twin: src/cpu/rows.rs.
struct Rope {
    a: View,
    out: View,
    n_pair: u32,
    heads: u32,
}
@group(0) @binding(3) var<storage, read> weight: array<vec2<f32>>;
@group(0) @binding(5) var<uniform> p: Rope;

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let units = p.a.width - p.n_pair;
    let head = id.x / units;
    let i = id.x % units;
    if (head >= p.heads || id.y >= rows_of_batch()) {
        return;
    }
    let source = id.y * p.a.row + p.a.start + head * p.a.stride;
    let target_at = id.y * p.out.row + p.out.start + head * p.out.stride;
    if (i >= p.n_pair) {
        out[target_at + p.n_pair + i] = a[source + p.n_pair + i];
        return;
    }
    let turn = weight[id.y * p.n_pair + i];
    let first = select(i, 2u * i, ADJACENT != 0u);
    let second = select(i + p.n_pair, 2u * i + 1u, ADJACENT != 0u);
    let x = a[source + first];
    let y = a[source + second];
    out[target_at + first] = x * turn.x - y * turn.y;
    out[target_at + second] = x * turn.y + y * turn.x;
}
