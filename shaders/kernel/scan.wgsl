// A selective scan over the rows of one sequence, in order. Per channel of a head, with the head's step size d, rates A
// and the b and c of its group: S = exp(d A) S + d x b; out += S . c.
//
// x, b, c, out: views of [n_row, row_stride] f32. gates: [n_row, heads] from kernel/scan_steps, which began `out`, too.
// state: [sides, heads, channels, N], before the rows on one side, behind them on another.
// rates: [heads], or [heads, N] with WIDE 1. Of each channel, PARTS invocations keep every PARTS-th number of S in
// registers; where one does, no barrier is needed.
// Dispatch: (ceil(heads * channels / (64 / PARTS)), 1, 1).    Constants: N, REG, PARTS, WIDE.
// Scalar twin: src/cpu/recurrence.rs::scan

const WG = 64u;
// Channels of a workgroup.
const CHANNELS = WG / PARTS;

struct Scan {
    x_row: u32,
    x_start: u32,
    b_row: u32,
    b_start: u32,
    c_row: u32,
    c_start: u32,
    out_row: u32,
    out_start: u32,
    heads: u32,
    // Of a head.
    channels: u32,
    // Heads that share b and c.
    per_group: u32,
    pad: u32,
}

@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> c: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;
@group(0) @binding(4) var<storage, read> gates: array<f32>;
@group(0) @binding(5) var<storage, read_write> state: array<f32>;
@group(0) @binding(6) var<storage, read> rates: array<f32>;
@group(0) @binding(7) var<storage, read> order: array<u32>;
@group(0) @binding(8) var<uniform> p: Scan;
@group(0) @binding(9) var<uniform> seq: Sequence;

// Parts of sums, for rows in turn: one is written while some still read the other.
var<workgroup> parts: array<f32, 2u * WG>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let part = lane % PARTS;
    let n = p.heads * p.channels;
    let mine = wid.x * CHANNELS + lane / PARTS;
    let is_mine = lane < CHANNELS * PARTS && mine < n;
    // Invocations without a channel repeat the last one, and write nothing.
    let channel = min(mine, n - 1u);
    let head = channel / p.channels;
    let group = head / p.per_group * N;
    let before = (seq.side_now * n + channel) * N;
    var s: array<f32, REG>;
    var rate: array<f32, REG>;
    for (var r = 0u; r < REG; r++) {
        let i = r * PARTS + part;
        s[r] = 0.0;
        rate[r] = 0.0;
        if (i < N) {
            if (seq.len > 0u) {
                s[r] = state[before + i];
            }
            if (WIDE != 0u) {
                rate[r] = rates[head * N + i];
            }
        }
    }
    for (var t = 0u; t < seq.count; t++) {
        let row = order[seq.first + t];
        let step = gates[row * p.heads + head];
        let dx = step * x[row * p.x_row + p.x_start + channel];
        let b_at = row * p.b_row + p.b_start + group;
        let c_at = row * p.c_row + p.c_start + group;
        var decay = 0.0;
        if (WIDE == 0u) {
            decay = decay_of(step * rates[head]);
        }
        var sum = 0.0;
        for (var r = 0u; r < REG; r++) {
            let i = r * PARTS + part;
            if (i < N) {
                if (WIDE != 0u) {
                    decay = decay_of(step * rate[r]);
                }
                s[r] = s[r] * decay + dx * b[b_at + i];
                sum += s[r] * c[c_at + i];
            }
        }
        if (PARTS > 1u) {
            let turn = (t & 1u) * WG;
            parts[turn + lane] = sum;
            workgroupBarrier();
            sum = 0.0;
            if (part == 0u && is_mine) {
                for (var i = 0u; i < PARTS; i++) {
                    sum += parts[turn + lane + i];
                }
            }
        }
        if (part == 0u && is_mine) {
            out[row * p.out_row + p.out_start + channel] += sum;
        }
    }
    let behind = (seq.side_next * n + channel) * N;
    for (var r = 0u; r < REG; r++) {
        let i = r * PARTS + part;
        if (is_mine && i < N) {
            state[behind + i] = s[r];
        }
    }
}
