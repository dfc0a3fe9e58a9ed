// The gated delta rule over the rows of one sequence, in order. Per head with a state S [DK, dv], a row's decay (one
// number, or one per row of S) and share beta: S = decay S; u = beta (v - S^T k); S = S + k u^T; out = scale S^T q.
//
// q, k, v, out: views of [n_row, row_stride] f32. gates: [n_row, gates_row] from kernel/delta_gates.
// state: [sides, heads, DK, dv], before the rows on one side, behind them on another.
// A workgroup keeps COLS columns of a head's S in registers: of each, PARTS invocations have every PARTS-th row. S^T k
// and S^T q are summed together, since (S + k u^T)^T q = S^T q + u (k . q): one barrier per row.
// Dispatch: (ceil(dv / COLS), heads, 1).    Constants: DK, REG, PARTS, PER_KEY.
// Scalar twin: src/cpu/recurrence.rs::DeltaRow

const WG = 128u;
const COLS = WG / PARTS;

struct Delta {
    q_row: u32,
    q_start: u32,
    k_row: u32,
    k_start: u32,
    v_row: u32,
    v_start: u32,
    out_row: u32,
    out_start: u32,
    heads: u32,
    key_heads: u32,
    // Value heads take key heads in turn, else neighbours share one.
    cyclic: u32,
    gates_row: u32,
    // Where shares begin among the gates.
    n_decay: u32,
    dv: u32,
    scale: f32,
    pad: u32,
}

@group(0) @binding(0) var<storage, read_write> q: array<f32>;
@group(0) @binding(1) var<storage, read_write> k: array<f32>;
@group(0) @binding(2) var<storage, read_write> v: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;
@group(0) @binding(4) var<storage, read> gates: array<f32>;
@group(0) @binding(5) var<storage, read_write> state: array<f32>;
@group(0) @binding(6) var<storage, read> order: array<u32>;
@group(0) @binding(7) var<uniform> p: Delta;
@group(0) @binding(8) var<uniform> seq: Sequence;

// Parts of S^T k, S^T q and k . q, for rows in turn: one is written while some still read the other.
var<workgroup> parts: array<vec3<f32>, 2u * WG>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let part = lane / COLS;
    let head = wid.y;
    let is_mine = part < PARTS && wid.x * COLS + lane % COLS < p.dv;
    // Invocations without a column repeat the last one, and write nothing.
    let column = min(wid.x * COLS + lane % COLS, p.dv - 1u);
    let key_head = select(head / (p.heads / p.key_heads), head % p.key_heads, p.cyclic != 0u);
    let before = (seq.side_now * p.heads + head) * DK * p.dv + column;
    var s: array<f32, REG>;
    for (var r = 0u; r < REG; r++) {
        let i = r * PARTS + part;
        s[r] = 0.0;
        if (seq.len > 0u && i < DK) {
            s[r] = state[before + i * p.dv];
        }
    }
    for (var t = 0u; t < seq.count; t++) {
        let row = order[seq.first + t];
        let q_at = row * p.q_row + p.q_start + key_head * DK;
        let k_at = row * p.k_row + p.k_start + key_head * DK;
        let gate_at = row * p.gates_row;
        var decay = 0.0;
        if (PER_KEY == 0u) {
            decay = gates[gate_at + head];
        }
        var sums = vec3<f32>(0.0);
        for (var r = 0u; r < REG; r++) {
            let i = r * PARTS + part;
            if (i < DK) {
                if (PER_KEY != 0u) {
                    decay = gates[gate_at + head * DK + i];
                }
                s[r] *= decay;
                let key = k[k_at + i];
                sums += vec3<f32>(s[r], s[r], key) * vec3<f32>(key, q[q_at + i], q[q_at + i]);
            }
        }
        if (PARTS > 1u) {
            let turn = (t & 1u) * WG;
            parts[turn + lane] = sums;
            workgroupBarrier();
            sums = vec3<f32>(0.0);
            for (var i = 0u; i < PARTS; i++) {
                sums += parts[turn + i * COLS + lane % COLS];
            }
        }
        let beta = gates[gate_at + p.n_decay + head];
        let value_at = head * p.dv + column;
        let change = beta * (v[row * p.v_row + p.v_start + value_at] - sums.x);
        for (var r = 0u; r < REG; r++) {
            let i = r * PARTS + part;
            if (i < DK) {
                s[r] += k[k_at + i] * change;
            }
        }
        if (is_mine && part == 0u) {
            out[row * p.out_row + p.out_start + value_at] = p.scale * (sums.y + change * sums.z);
        }
    }
    let behind = (seq.side_next * p.heads + head) * DK * p.dv + column;
    for (var r = 0u; r < REG; r++) {
        let i = r * PARTS + part;
        if (is_mine && i < DK) {
            state[behind + i * p.dv] = s[r];
        }
    }
}
