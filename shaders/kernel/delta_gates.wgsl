// What the delta rule needs of a row besides vectors: out = [exp(weight[h] softplus(a[i] + bias[i])), i < n_decay;
// 1 / (1 + exp(-b[h])), h < heads], where h = i / per is the head of decay i.
//
// a, b: views of decays and shares. out: [n_row, n_decay + heads]. weight: [heads], negative rates. bias: [n_decay].
// One invocation per element; grid ((n_decay + heads) / WG, rows).    Scalar twin: src/cpu/exec/states.rs
struct Gates {
    a: View,
    b: View,
    n_decay: u32,
    per: u32,
    heads: u32,
    pad: u32,
}
@group(0) @binding(3) var<storage, read> weight: array<f32>;
@group(0) @binding(4) var<storage, read> bias: array<f32>;
@group(0) @binding(5) var<uniform> p: Gates;

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let n = p.n_decay + p.heads;
    if (id.x >= n || id.y >= rows_of_batch()) {
        return;
    }
    var gate: f32;
    if (id.x < p.n_decay) {
        gate = decay_of(weight[id.x / p.per] * softplus(a[at(p.a, id.y, id.x)] + bias[id.x]));
    } else {
        gate = 1.0 / (1.0 + exp(-max(b[at(p.b, id.y, id.x - p.n_decay)], -80.0)));
    }
    out[id.y * n + id.x] = gate;
}
