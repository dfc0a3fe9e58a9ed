// The results of a row's experts (experts.wgsl), summed in the order of the choice: out = sum_i w_i (a_i + bias_i), and
// with ADD 1 out + scale * that. Where the weight multiplies the inputs, w_i is 1 here.
// a: [pairs, row]; b: weights of the choice; weight: the experts' numbers, f32 [rows, idx_row]; bias: [experts, n].
// One invocation per column; grid (n / WG, rows). Needs TAKEN, ADD, WG. Scalar twin: src/cpu/rows.rs.
struct ExpertSum {
    out: View,
    n: u32,
    row: u32,
    n_used: u32,
    has_bias: u32,
    on_input: u32,
    idx_start: u32,
    idx_row: u32,
    w_start: u32,
    w_row: u32,
    scale: f32,
    pad0: u32,
    pad1: u32,
}
@group(0) @binding(3) var<storage, read> weight: array<f32>;
@group(0) @binding(4) var<storage, read> bias: array<f32>;
@group(0) @binding(5) var<uniform> p: ExpertSum;

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x >= p.n || id.y >= rows_of_batch()) {
        return;
    }
    var sum = 0.0;
    for (var i = 0u; i < p.n_used; i++) {
        var x = a[(id.y * p.n_used + i) * p.row + id.x];
        if (p.has_bias != 0u) {
            x += bias[u32(weight[id.y * p.idx_row + p.idx_start + i]) * p.n + id.x];
        }
        if (p.on_input == 0u) {
            x *= b[id.y * p.w_row + p.w_start + i];
        }
        sum += x;
    }
    let to = at(p.out, id.y, id.x);
    if (ADD != 0u) {
        sum = out[to] + p.scale * sum;
    }
    out[to] = sum;
}
