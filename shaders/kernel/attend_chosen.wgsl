// out[i, h] = sum_t softmax_t(scale q[i, h] . k[t, g]) v[t, g], g = h / group, over the positions t that were chosen for
// row i of one sequence; online softmax (Milakov and Gimelshein 2018, arXiv 1805.02867) in f32.
//
// q, out: views of [n_row, row_stride] f32. chosen: another, of `top` positions, of which row i has min(top, len + i + 1).
// cache_k, cache_v: cells of cache/*, position t in slot t % n_slot.
// One workgroup computes TQ heads of one row that share keys. Keys come in chunks of WG: an invocation owns a key while
// scores are computed, and every WG-th quad of columns of the results while values are summed.
// Dispatch: (count * ceil(group / TQ), kv_heads, 1).    Twin: cpu/attention.rs
// Constants: DK, DV, VW as in kernel/attend; TQ <= WG.

@group(0) @binding(0) var<storage, read> q: array<f32>;
@group(0) @binding(1) var<storage, read> cache_k: array<Cell_k>;
@group(0) @binding(2) var<storage, read> cache_v: array<Cell_v>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;
@group(0) @binding(4) var<storage, read> chosen: array<f32>;
@group(0) @binding(5) var<storage, read> order: array<u32>;
@group(0) @binding(6) var<uniform> p: Chosen;
@group(0) @binding(7) var<uniform> seq: Sequence;

struct Chosen {
    q_row: u32,
    q_start: u32,
    q_stride: u32,
    out_row: u32,
    out_start: u32,
    out_stride: u32,
    chosen_row: u32,
    chosen_start: u32,
    top: u32,
    kv_heads: u32,
    group: u32,
    n_slot: u32,
    scale: f32,
    pad_0: u32,
    pad_1: u32,
    pad_2: u32,
}

const WG = 64u;
const K_QUADS = DK / 4u;
const V_QUADS = DV / 4u;
// Quads of a result that an invocation sums.
const MINE = (V_QUADS + WG - 1u) / WG;

// Stands for a score before there is any. Finite, since fast math may assume that every number is.
const MASK = -1e30;

var<workgroup> queries: array<vec4<f32>, TQ * K_QUADS>;
// Scores of a chunk, then their weights, [TQ, WG].
var<workgroup> scores: array<f32, TQ * WG>;
var<workgroup> slots: array<u32, WG>;
// Factor of what was summed before, and the sum of weights, of each head.
var<workgroup> shrink: array<f32, TQ>;
var<workgroup> total: array<f32, TQ>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) at: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let n_tile = (p.group + TQ - 1u) / TQ;
    let i = at.x / n_tile;
    let first = at.x % n_tile * TQ;
    let row = order[seq.first + i];
    let n = min(p.top, seq.len + i + 1u);
    let k_width = p.kv_heads * DK;
    let v_width = p.kv_heads * VW;

    // Heads behind the last repeat it, and are not written.
    for (var j = lane; j < TQ * K_QUADS; j += WG) {
        let h = at.y * p.group + min(first + j / K_QUADS, p.group - 1u);
        let a = row * p.q_row + p.q_start + h * p.q_stride + j % K_QUADS * 4u;
        queries[j] = p.scale * vec4<f32>(q[a], q[a + 1u], q[a + 2u], q[a + 3u]);
    }
    // Of the head `lane`, where there is one.
    var top = MASK;
    if lane < TQ {
        total[lane] = 0.0;
    }
    workgroupBarrier();

    var sums = array<vec4<f32>, TQ * MINE>();
    for (var base = 0u; base < n; base += WG) {
        let n_key = min(WG, n - base);
        // Keys behind the last repeat it, and are left out.
        let place = row * p.chosen_row + p.chosen_start + base + min(lane, n_key - 1u);
        let slot = u32(chosen[place]) % p.n_slot;
        slots[lane] = slot;
        let k_row = row_k(slot, k_width);
        var score = array<f32, TQ>();
        for (var c = 0u; c < K_QUADS; c++) {
            let x = load_k(k_row, k_width, at.y * DK + 4u * c);
            for (var j = 0u; j < TQ; j++) {
                score[j] += dot(queries[j * K_QUADS + c], x);
            }
        }
        for (var j = 0u; j < TQ; j++) {
            scores[j * WG + lane] = score[j];
        }
        workgroupBarrier();
        if lane < TQ {
            var m = top;
            for (var t = 0u; t < n_key; t++) {
                m = max(m, scores[lane * WG + t]);
            }
            let before = exp(max(top - m, -80.0));
            var sum = total[lane] * before;
            for (var t = 0u; t < n_key; t++) {
                let weight = exp(max(scores[lane * WG + t] - m, -80.0));
                scores[lane * WG + t] = weight;
                sum += weight;
            }
            top = m;
            shrink[lane] = before;
            total[lane] = sum;
        }
        workgroupBarrier();
        for (var j = 0u; j < TQ; j++) {
            for (var c = 0u; c < MINE; c++) {
                sums[j * MINE + c] *= shrink[j];
            }
        }
        for (var t = 0u; t < n_key; t++) {
            let v_row = row_v(slots[t], v_width);
            for (var c = 0u; c < MINE; c++) {
                let quad = min(c * WG + lane, V_QUADS - 1u);
                let x = load_v(v_row, v_width, at.y * VW + 4u * quad);
                for (var j = 0u; j < TQ; j++) {
                    sums[j * MINE + c] += scores[j * WG + t] * x;
                }
            }
        }
        workgroupBarrier();
    }
    for (var j = 0u; j < TQ; j++) {
        let h = at.y * p.group + first + j;
        for (var c = 0u; c < MINE; c++) {
            let quad = c * WG + lane;
            if first + j < p.group && quad < V_QUADS {
                let x = sums[j * MINE + c] / total[j];
                let o = row * p.out_row + p.out_start + h * p.out_stride + 4u * quad;
                out[o] = x.x;
                out[o + 1u] = x.y;
                out[o + 2u] = x.z;
                out[o + 3u] = x.w;
            }
        }
    }
}
