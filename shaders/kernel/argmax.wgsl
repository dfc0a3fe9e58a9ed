// out[r] = (flag, 1, bits of the greatest logit of row r, its index); the lowest index wins ties.
//
// logits: rows of n f32. part: [n_row, n_part] records, out: [n_row] records of 4 words: flag, number of pairs, and one
// pair (the key in `part`, the bits of the logit in `out`; its index). The flag is 1 if any logit is not finite.
// STAGE 1 finds the greatest of `per` logits, STAGE 2 the greatest of the parts. One workgroup makes one record.
// Dispatch: (n_part, n_row, 1), then (1, n_row, 1), each <= 65535.    Twin: sample/candidates.rs

@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read_write> part: array<u32>;
@group(0) @binding(2) var<storage, read_write> out: array<u32>;
@group(0) @binding(3) var<uniform> p: Select;

const WG = 256u;
const RECORD = HEAD + 2u;

var<workgroup> keys: array<u32, WG>;
var<workgroup> ids: array<u32, WG>;
var<workgroup> odd: array<u32, WG>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) at: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = p.start + at.y * p.row;
    var best = 0u;
    var best_idx = NONE;
    var flag = 0u;
    if STAGE == 1u {
        let end = min((at.x + 1u) * p.per, p.n);
        for (var i = at.x * p.per + lane; i < end; i += WG) {
            let bits = bitcast<u32>(logits[row + i]);
            flag |= select(0u, 1u, is_odd(bits));
            let x = key(bits);
            if before(x, i, best, best_idx) {
                best = x;
                best_idx = i;
            }
        }
    } else {
        for (var i = lane; i < p.n_part; i += WG) {
            let r = (at.y * p.n_part + i) * RECORD;
            flag |= part[r];
            if before(part[r + HEAD], part[r + HEAD + 1u], best, best_idx) {
                best = part[r + HEAD];
                best_idx = part[r + HEAD + 1u];
            }
        }
    }
    keys[lane] = best;
    ids[lane] = best_idx;
    odd[lane] = flag;
    workgroupBarrier();
    for (var s = WG / 2u; s > 0u; s /= 2u) {
        if lane < s {
            odd[lane] |= odd[lane + s];
            if before(keys[lane + s], ids[lane + s], keys[lane], ids[lane]) {
                keys[lane] = keys[lane + s];
                ids[lane] = ids[lane + s];
            }
        }
        workgroupBarrier();
    }
    if lane == 0u {
        if STAGE == 1u {
            let r = (at.y * p.n_part + at.x) * RECORD;
            part[r] = odd[0];
            part[r + 1u] = 1u;
            part[r + HEAD] = keys[0];
            part[r + HEAD + 1u] = ids[0];
        } else {
            let r = at.y * RECORD;
            out[r] = odd[0];
            out[r + 1u] = 1u;
            out[r + HEAD] = bitcast<u32>(logits[row + min(ids[0], p.n - 1u)]);
            out[r + HEAD + 1u] = ids[0];
        }
    }
}
