// out[r] = (flag, n, the n = min(k, n_vocab) greatest logits of row r), greatest first; the lowest index wins ties.
//
// logits: rows of n f32. part: [n_row, n_part] records, out: [n_row] records of HEAD + 2 k words: flag, number of pairs,
// and k pairs (the key in `part`, the bits of the logit in `out`; its index, NONE behind the last pair). The flag is 1
// if any logit is not finite. STAGE 1 chooses among `per` logits, STAGE 2 among the parts. One workgroup makes one
// record: it keeps the best MAX_K in front, reads further pairs behind them and sorts all by a bitonic network (Batcher
// 1968), again and again.
// Dispatch: (n_part, n_row, 1), then (1, n_row, 1), each <= 65535; k <= MAX_K.    Twin: sample/candidates.rs

@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read_write> part: array<u32>;
@group(0) @binding(2) var<storage, read_write> out: array<u32>;
@group(0) @binding(3) var<uniform> p: Select;

const WG = 256u;
const MAX_K = 64u;
// Pairs that are sorted at once: 8 KiB of workgroup memory.
const N_SORT = 1024u;
const N_NEW = N_SORT - MAX_K;

var<workgroup> keys: array<u32, N_SORT>;
var<workgroup> ids: array<u32, N_SORT>;
var<workgroup> odd: atomic<u32>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) at: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = p.start + at.y * p.row;
    let record = HEAD + 2u * p.k;
    let first_record = at.y * p.n_part * record;
    // Candidates: indices of logits, or of pairs of the row's parts.
    var lo = at.x * p.per;
    var end = min(lo + p.per, p.n);
    if STAGE == 2u {
        lo = 0u;
        end = p.n_part * p.k;
    }
    if lane == 0u {
        atomicStore(&odd, 0u);
    }
    for (var i = lane; i < MAX_K; i += WG) {
        keys[i] = 0u;
        ids[i] = NONE;
    }
    var flag = 0u;
    for (var base = lo; base < end; base += N_NEW) {
        for (var i = lane; i < N_NEW; i += WG) {
            let c = base + i;
            var x = 0u;
            var idx = NONE;
            if c < end {
                if STAGE == 1u {
                    let bits = bitcast<u32>(logits[row + c]);
                    flag |= select(0u, 1u, is_odd(bits));
                    x = key(bits);
                    idx = c;
                } else {
                    let r = first_record + c / p.k * record;
                    flag |= part[r];
                    x = part[r + HEAD + c % p.k * 2u];
                    idx = part[r + HEAD + c % p.k * 2u + 1u];
                }
            }
            keys[MAX_K + i] = x;
            ids[MAX_K + i] = idx;
        }
        workgroupBarrier();
        for (var size = 2u; size <= N_SORT; size *= 2u) {
            for (var gap = size / 2u; gap > 0u; gap /= 2u) {
                for (var i = lane; i < N_SORT / 2u; i += WG) {
                    let a = i / gap * gap * 2u + i % gap;
                    let b = a + gap;
                    let falling = (a & size) == 0u;
                    if before(keys[b], ids[b], keys[a], ids[a]) == falling {
                        let x = keys[a];
                        let idx = ids[a];
                        keys[a] = keys[b];
                        ids[a] = ids[b];
                        keys[b] = x;
                        ids[b] = idx;
                    }
                }
                workgroupBarrier();
            }
        }
    }
    if flag != 0u {
        atomicOr(&odd, 1u);
    }
    workgroupBarrier();
    var r = at.y * record;
    if STAGE == 1u {
        r = first_record + at.x * record;
    }
    for (var i = lane; i < p.k; i += WG) {
        let idx = ids[i];
        var x = keys[i];
        if STAGE == 2u {
            x = bitcast<u32>(logits[row + min(idx, p.n - 1u)]);
        }
        let o = r + HEAD + 2u * i;
        if STAGE == 1u {
            part[o] = x;
            part[o + 1u] = idx;
        } else {
            out[o] = x;
            out[o + 1u] = idx;
        }
    }
    if lane == 0u {
        let found = min(p.k, p.n);
        if STAGE == 1u {
            part[r] = atomicLoad(&odd);
            part[r + 1u] = found;
        } else {
            out[r] = atomicLoad(&odd);
            out[r + 1u] = found;
        }
    }
}
