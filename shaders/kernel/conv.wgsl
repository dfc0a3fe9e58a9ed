// out_t[c] = act(bias[c] + sum_j weight[c, j] x_(t - taps + j)[c]) for the rows t of one sequence, j in 0 ..= taps.
//
// x, out: views of [n_row, row_stride] f32. weight: [channels, taps + 1]. bias: [channels].
// state: [sides, taps, channels], the inputs before the rows, oldest first, on one side; those at their end on another.
// ACT 0: none, 1: silu. One invocation per channel of a row, and of what is left.
// Dispatch: (ceil(channels / 64), count + taps, 1).    Scalar twin: src/cpu/recurrence.rs::convolve

struct Conv {
    x_row: u32,
    x_start: u32,
    out_row: u32,
    out_start: u32,
    channels: u32,
    taps: u32,
    has_bias: u32,
    pad: u32,
}

@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;
@group(0) @binding(2) var<storage, read_write> state: array<f32>;
@group(0) @binding(3) var<storage, read> weight: array<f32>;
@group(0) @binding(4) var<storage, read> bias: array<f32>;
@group(0) @binding(5) var<storage, read> order: array<u32>;
@group(0) @binding(6) var<uniform> p: Conv;
@group(0) @binding(7) var<uniform> seq: Sequence;

// Channel c of input i, counted from the oldest one that is remembered.
fn input(i: u32, c: u32) -> f32 {
    if i >= p.taps {
        return x[order[seq.first + i - p.taps] * p.x_row + p.x_start + c];
    }
    if seq.len == 0u {
        return 0.0;
    }
    return state[(seq.side_now * p.taps + i) * p.channels + c];
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let c = id.x;
    if c >= p.channels || id.y >= seq.count + p.taps {
        return;
    }
    if id.y >= seq.count {
        let tap = id.y - seq.count;
        state[(seq.side_next * p.taps + tap) * p.channels + c] = input(id.y, c);
        return;
    }
    var sum = 0.0;
    for (var j = 0u; j <= p.taps; j++) {
        sum += weight[c * (p.taps + 1u) + j] * input(id.y + j, c);
    }
    if p.has_bias != 0u {
        sum += bias[c];
    }
    if ACT == 1u {
        sum = silu(sum);
    }
    out[order[seq.first + id.y] * p.out_row + p.out_start + c] = sum;
}
