// What goes through the activation between the matrices of a pair's expert (experts.wgsl):
// out = act(s (gate + bias)) * s (up + bias), with FORM 2, where there is no gate, act(s (up + bias)); s is the pair's
// weight where it multiplies the input (then there are no biases), else 1.
// a: gates [pairs, gate_row]; b: ups [pairs, up_row], of which the columns from up_start on count: with FORM 1 gates and
// ups lie in the same rows. out: [pairs, out_row]; columns behind the n-th become 0. weight, bias: those of the gates
// and of the ups, [experts, bias_row], ups from up_start on. One invocation per element; grid (out_row / WG, rows, n_used).
// Needs TAKEN, FORM, ACT, WG. Scalar twin: src/cpu/exec/experts.rs.
struct ExpertGate {
    n: u32,
    gate_row: u32,
    up_row: u32,
    up_start: u32,
    out_row: u32,
    n_used: u32,
    has_gate_bias: u32,
    has_up_bias: u32,
    bias_row: u32,
    on_input: u32,
    idx_start: u32,
    idx_row: u32,
    w_start: u32,
    w_row: u32,
    pad0: u32,
    pad1: u32,
    numbers: vec4<f32>,
}
@group(0) @binding(3) var<storage, read> weight: array<f32>;
@group(0) @binding(4) var<storage, read> bias: array<f32>;
@group(0) @binding(5) var<uniform> p: ExpertGate;
@group(0) @binding(7) var<storage, read> idx: array<f32>;
@group(0) @binding(8) var<storage, read> w: array<f32>;

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x >= p.out_row || id.y >= rows_of_batch()) {
        return;
    }
    let pair = id.y * p.n_used + id.z;
    if (id.x >= p.n) {
        out[pair * p.out_row + id.x] = 0.0;
        return;
    }
    let biases = u32(idx[id.y * p.idx_row + p.idx_start + id.z]) * p.bias_row + id.x;
    var scale = 1.0;
    if (p.on_input != 0u) {
        scale = w[id.y * p.w_row + p.w_start + id.z];
    }
    var up = b[pair * p.up_row + p.up_start + id.x];
    if (p.has_up_bias != 0u) {
        up += bias[biases + p.up_start];
    }
    up *= scale;
    var y: f32;
    if (FORM == 2u) {
        y = activate(up, 1.0, p.numbers);
    } else {
        var gate = a[pair * p.gate_row + id.x];
        if (p.has_gate_bias != 0u) {
            gate += weight[biases];
        }
        y = activate(gate * scale, up, p.numbers);
    }
    out[pair * p.out_row + id.x] = y;
}
