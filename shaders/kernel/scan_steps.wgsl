// What comes before a selective scan, for all rows at once: gates[r, h] = softplus(dt[r, h] + bias[h]), the step size of
// a head, and out[r, c] = d[h] x[r, c], what passes the state by; h = c / channels.
//
// x, dt, out: views of [n_row, row_stride] f32. gates: [n_row, heads]. d, bias: [heads].
// One invocation per column of x; grid (n / 64, rows).    Scalar twin: src/cpu/exec/states.rs
struct Steps {
    x_row: u32,
    x_start: u32,
    dt_row: u32,
    dt_start: u32,
    out_row: u32,
    out_start: u32,
    heads: u32,
    // Of a head.
    channels: u32,
}
@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> dt: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;
@group(0) @binding(3) var<storage, read_write> gates: array<f32>;
@group(0) @binding(4) var<storage, read> d: array<f32>;
@group(0) @binding(5) var<storage, read> bias: array<f32>;
@group(0) @binding(6) var<uniform> p: Steps;
@group(0) @binding(7) var<uniform> batch: Batch;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let c = id.x;
    if (c >= p.heads * p.channels || id.y >= batch.n_row) {
        return;
    }
    if (c < p.heads) {
        gates[id.y * p.heads + c] = softplus(dt[id.y * p.dt_row + p.dt_start + c] + bias[c]);
    }
    out[id.y * p.out_row + p.out_start + c] = d[c / p.channels] * x[id.y * p.x_row + p.x_start + c];
}
