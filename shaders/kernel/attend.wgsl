// out[i, h] = sum_t softmax_t(score) v[t, g], score = softcap(scale * heat(pos_i) * q[i, h] . k[t, g]) - slope_h (pos_i - t),
// g = h / group,
// over the positions t that row i sees, and with sinks one more score of the head, which has no value; online softmax (Milakov and Gimelshein 2018, arXiv 1805.02867) in f32.
//
// q, out: views of [n_row, row_stride] f32. cache_k, cache_v: cells of cache/*, position t in slot t % n_slot.
// part: [heads * count, n_split, RECORD] f32, written instead of `out` when n_split > 1.
// One workgroup computes TQ queries of one head of keys and values, over one of n_split parts of the keys. Queries are
// the pairs (row, head of the group), rows outermost: heads of a group share keys, and so do neighbouring rows.
// Keys come in chunks of WG: an invocation owns a key while scores are computed, and 4 columns of the result while
// values are summed, where SHARE groups of LANES invocations take every SHARE-th quad of keys.
// Dispatch: (ceil(count * group / TQ), kv_heads, n_split), each <= 65535; count >= 1.   Twin: cpu/attention.rs
// Constants: DK, DV columns of a head of keys and of values, multiples of 4; VW columns from one head of values to the
// next: DV, or DK where values are the beginnings of keys (then cache_v is cache_k); DV / 4 <= WG; TQ <= WG; WG % 8 = 0.

@group(0) @binding(0) var<storage, read> q: array<f32>;
@group(0) @binding(1) var<storage, read> cache_k: array<Cell_k>;
@group(0) @binding(2) var<storage, read> cache_v: array<Cell_v>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;
@group(0) @binding(4) var<storage, read_write> part: array<f32>;
@group(0) @binding(5) var<storage, read> order: array<u32>;
@group(0) @binding(6) var<uniform> p: Attend;
@group(0) @binding(7) var<uniform> seq: Sequence;
@group(0) @binding(8) var<storage, read> sinks: array<f32>;

// A quad is 4 columns.
const QUADS = DK / 4u;
const LANES = DV / 4u;
const SHARE = min(WG / LANES, WG / 4u);
// Invocations that reduce the scores of one query: two levels of 8 for a chunk of 64.
const PARTIALS = 8u;

// Scaled queries, [TQ, QUADS].
var<workgroup> queries: array<vec4<f32>, TQ * QUADS>;
// Scores of a chunk, then their weights, [TQ, WG].
var<workgroup> scores: array<f32, TQ * WG>;
var<workgroup> partials: array<f32, TQ * PARTIALS>;
// Position, oldest position that is seen, running maximum and factor of what was summed before, of each query.
var<workgroup> position: array<u32, TQ>;
var<workgroup> oldest: array<u32, TQ>;
var<workgroup> top: array<f32, TQ>;
var<workgroup> shrink: array<f32, TQ>;
// Slope of the biases of each query's head.
var<workgroup> steepness: array<f32, TQ>;
// The shares of one result.
var<workgroup> shares: array<vec4<f32>, WG>;

// Factor of the query at a position.
fn heat(pos: u32) -> f32 {
    if p.temper_length == 0u {
        return p.scale;
    }
    return p.scale * (1.0 + p.temper_scale * log(1.0 + f32((pos + p.temper_add) / p.temper_length)));
}

// c tanh(s / c). The bound keeps away from arguments for which fast tanh overflows; tanh is 1 in f32 beyond 9.1.
fn capped(score: f32) -> f32 {
    if p.softcap == 0.0 {
        return score;
    }
    return p.softcap * tanh(clamp(score / p.softcap, -12.0, 12.0));
}

// Slot of the position `offset` behind one that lies in `slot`; offset <= n_slot.
fn slot_behind(slot: u32, offset: u32) -> u32 {
    let behind = slot + offset;
    return select(behind, behind - p.n_slot, behind >= p.n_slot);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) at: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let n_query = seq.count * p.group;
    let first_query = at.x * TQ;
    let kv_head = at.y;
    let k_width = p.kv_heads * DK;
    let v_width = p.kv_heads * VW;

    // The keys that any query of the tile sees, and the part of them that is ours.
    let first_pos = seq.len + first_query / p.group;
    let last_pos = seq.len + min((first_query + TQ - 1u) / p.group, seq.count - 1u);
    let end = last_pos + 1u + min(p.ahead, seq.len + seq.count - 1u - last_pos);
    let begin = oldest_seen(first_pos);
    let per = ((end - begin + seq.n_split - 1u) / seq.n_split + WG - 1u) / WG * WG;
    let lo = min(begin + at.z * per, end);
    let hi = min(lo + per, end);

    // The first part counts the sinks.
    let has_sink = p.has_sinks != 0u && at.z == 0u;

    // Queries behind the last repeat it, and are not written.
    for (var i = lane; i < TQ * QUADS; i += WG) {
        let query = min(first_query + i / QUADS, n_query - 1u);
        let row = query / p.group;
        let h = kv_head * p.group + query % p.group;
        let a = order[seq.first + row] * p.q_row + p.q_start + h * p.q_stride + i % QUADS * 4u;
        queries[i] = heat(seq.len + row) * vec4<f32>(q[a], q[a + 1u], q[a + 2u], q[a + 3u]);
    }
    if lane < TQ {
        let query = min(first_query + lane, n_query - 1u);
        let h = kv_head * p.group + query % p.group;
        position[lane] = seq.len + query / p.group;
        oldest[lane] = oldest_seen(seq.len + query / p.group);
        top[lane] = MASK;
        if has_sink {
            top[lane] = max(sinks[h], MASK);
        }
        steepness[lane] = select(slope(h), 0.0, p.alibi_max == 0.0);
    }
    workgroupBarrier();

    let share = lane / LANES;
    let column = kv_head * VW + lane % LANES * 4u;
    var sums = array<vec4<f32>, TQ>();
    var weight = array<f32, TQ>();
    if has_sink && lane == 0u {
        for (var j = 0u; j < TQ; j++) {
            weight[j] = 1.0;
        }
    }
    for (var base = lo; base < hi; base += WG) {
        let n_key = min(WG, hi - base);
        let base_slot = base % p.n_slot;

        // Keys behind the last repeat it, and are masked.
        let k_row = row_k(slot_behind(base_slot, min(lane, n_key - 1u)), k_width);
        var score = array<f32, TQ>();
        for (var c = 0u; c < QUADS; c++) {
            let x = load_k(k_row, k_width, kv_head * DK + 4u * c);
            for (var j = 0u; j < TQ; j++) {
                score[j] += dot(queries[j * QUADS + c], x);
            }
        }
        let key = base + lane;
        for (var j = 0u; j < TQ; j++) {
            let ahead = max(position[j], key) - position[j];
            let seen = lane < n_key && key >= oldest[j] && ahead <= p.ahead;
            let bias = steepness[j] * (f32(position[j]) - f32(key));
            score[j] = select(MASK, capped(score[j]) - bias, seen);
            scores[j * WG + lane] = score[j];
        }
        workgroupBarrier();
        for (var i = lane; i < TQ * PARTIALS; i += WG) {
            let s = i / PARTIALS * WG + i % PARTIALS;
            var m = scores[s];
            for (var e = PARTIALS; e < WG; e += PARTIALS) {
                m = max(m, scores[s + e]);
            }
            partials[i] = m;
        }
        workgroupBarrier();
        if lane < TQ {
            var m = top[lane];
            for (var e = 0u; e < PARTIALS; e++) {
                m = max(m, partials[lane * PARTIALS + e]);
            }
            shrink[lane] = exp(top[lane] - m);
            top[lane] = m;
        }
        workgroupBarrier();
        for (var j = 0u; j < TQ; j++) {
            let w = select(exp(score[j] - top[j]), 0.0, score[j] <= MASK);
            weight[j] = weight[j] * shrink[j] + w;
            scores[j * WG + lane] = w;
        }
        workgroupBarrier();
        if share < SHARE {
            for (var j = 0u; j < TQ; j++) {
                sums[j] *= shrink[j];
            }
            for (var t = 4u * share; t < n_key; t += 4u * SHARE) {
                // Weights behind the last key are 0; what they multiply must be a number all the same.
                let a = load_v(row_v(slot_behind(base_slot, t), v_width), v_width, column);
                let b = load_v(row_v(slot_behind(base_slot, min(t + 1u, n_key - 1u)), v_width), v_width, column);
                let c = load_v(row_v(slot_behind(base_slot, min(t + 2u, n_key - 1u)), v_width), v_width, column);
                let d = load_v(row_v(slot_behind(base_slot, min(t + 3u, n_key - 1u)), v_width), v_width, column);
                for (var j = 0u; j < TQ; j++) {
                    let w = j * WG + t;
                    sums[j] += scores[w] * a + scores[w + 1u] * b + scores[w + 2u] * c + scores[w + 3u] * d;
                }
            }
        }
        workgroupBarrier();
    }

    // The sum of each query's weights, in `shrink`.
    for (var j = 0u; j < TQ; j++) {
        scores[j * WG + lane] = weight[j];
    }
    workgroupBarrier();
    for (var i = lane; i < TQ * PARTIALS; i += WG) {
        let s = i / PARTIALS * WG + i % PARTIALS;
        var total = scores[s];
        for (var e = PARTIALS; e < WG; e += PARTIALS) {
            total += scores[s + e];
        }
        partials[i] = total;
    }
    workgroupBarrier();
    if lane < TQ {
        var total = 0.0;
        for (var e = 0u; e < PARTIALS; e++) {
            total += partials[lane * PARTIALS + e];
        }
        shrink[lane] = total;
    }
    workgroupBarrier();

    for (var j = 0u; j < TQ; j++) {
        shares[lane] = sums[j];
        workgroupBarrier();
        let query = first_query + j;
        if lane < LANES && query < n_query {
            var x = shares[lane];
            for (var s = 1u; s < SHARE; s++) {
                x += shares[s * LANES + lane];
            }
            let i = query / p.group;
            let h = kv_head * p.group + query % p.group;
            if seq.n_split == 1u {
                let o = result_at(i, h) + 4u * lane;
                x /= shrink[j];
                out[o] = x.x;
                out[o + 1u] = x.y;
                out[o + 2u] = x.z;
                out[o + 3u] = x.w;
            } else {
                let r = record(i, h, at.z);
                if lane == 0u {
                    part[r] = top[j];
                    part[r + 1u] = shrink[j];
                }
                let o = r + 2u + 4u * lane;
                part[o] = x.x;
                part[o + 1u] = x.y;
                part[o + 2u] = x.z;
                part[o + 3u] = x.w;
            }
        }
        workgroupBarrier();
    }
}
