// y[i] = weight i
//
// Weights of any format, n_group groups of 32. y: [n_group * 32] f32.
// One invocation writes one group. Dispatch: (width, any, 1), 64 groups a workgroup.
// Scalar twin: tealight_quant::dequantize.
struct Params {
    n_group: u32,
    // Workgroups in a line of the grid.
    width: u32,
    pad0: u32,
    pad1: u32,
}

@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(6) var<uniform> p: Params;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let g = (wid.y * p.width + wid.x) * 64u + lane;
    if (g < p.n_group) {
        let w = group32(g);
        let at = g * 8u;
        y[at] = w.w0;
        y[at + 1u] = w.w1;
        y[at + 2u] = w.w2;
        y[at + 3u] = w.w3;
        y[at + 4u] = w.w4;
        y[at + 5u] = w.w5;
        y[at + 6u] = w.w6;
        y[at + 7u] = w.w7;
    }
}
