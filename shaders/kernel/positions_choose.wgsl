// out[i] = the `top` positions up to that of row i = first + j with the greatest scores[j], ascending, then -1 where there
// are not so many. Ties go to the lowest position.
//
// scores: [rows, stride] f32 from kernel/positions_score. out: a view of [n_row, row_stride] f32.
// One workgroup makes the choice of one row: it finds the key of the last number that is chosen byte by byte, from
// counts of the next byte among those that share the bytes before; then every invocation has a run of positions, whose
// places follow from what the runs before it hold.
// Dispatch: (rows, 1, 1).    Scalar twin: src/cpu/attention.rs::choose

@group(0) @binding(0) var<storage, read> scores: array<f32>;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;
@group(0) @binding(2) var<storage, read> order: array<u32>;
@group(0) @binding(3) var<uniform> p: Positions;
@group(0) @binding(4) var<uniform> seq: Sequence;

const WG = 256u;

// Numbers with each next byte.
var<workgroup> counts: array<atomic<u32>, 256>;
// Bytes of the key of the last one so far, and how many are wanted of those that share them.
var<workgroup> found: vec2<u32>;
// Of each run: numbers that are greater than the last one, and its equals; then of all runs up to it.
var<workgroup> greater: array<u32, WG>;
var<workgroup> equal: array<u32, WG>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) at: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = p.first + at.x;
    if i >= seq.count {
        return;
    }
    let n = seq.len + i + 1u;
    let first = at.x * p.stride;
    let to = order[seq.first + i] * p.out_row + p.out_start;
    if n <= p.top {
        for (var j = lane; j < p.top; j += WG) {
            out[to + j] = select(-1.0, f32(j), j < n);
        }
        return;
    }
    var last = vec2<u32>(0u, p.top);
    var mask = 0u;
    for (var shift = 32u; shift > 0u; shift -= 8u) {
        let low = shift - 8u;
        atomicStore(&counts[lane], 0u);
        workgroupBarrier();
        for (var t = lane; t < n; t += WG) {
            let x = key(bitcast<u32>(scores[first + t]));
            if (x & mask) == last.x {
                atomicAdd(&counts[(x >> low) & 255u], 1u);
            }
        }
        workgroupBarrier();
        if lane == 0u {
            var wanted = last.y;
            var byte = 255u;
            for (; byte > 0u; byte--) {
                let have = atomicLoad(&counts[byte]);
                if have >= wanted {
                    break;
                }
                wanted -= have;
            }
            found = vec2<u32>(last.x | (byte << low), wanted);
        }
        last = workgroupUniformLoad(&found);
        mask |= 255u << low;
    }
    let per = (n + WG - 1u) / WG;
    let begin = min(lane * per, n);
    let end = min(begin + per, n);
    var more = vec2<u32>(0u);
    for (var t = begin; t < end; t++) {
        let x = key(bitcast<u32>(scores[first + t]));
        more += vec2<u32>(select(0u, 1u, x > last.x), select(0u, 1u, x == last.x));
    }
    greater[lane] = more.x;
    equal[lane] = more.y;
    workgroupBarrier();
    for (var gap = 1u; gap < WG; gap *= 2u) {
        var before = vec2<u32>(0u);
        if lane >= gap {
            before = vec2<u32>(greater[lane - gap], equal[lane - gap]);
        }
        workgroupBarrier();
        greater[lane] += before.x;
        equal[lane] += before.y;
        workgroupBarrier();
    }
    var n_greater = greater[lane] - more.x;
    var n_equal = equal[lane] - more.y;
    for (var t = begin; t < end; t++) {
        let x = key(bitcast<u32>(scores[first + t]));
        if x > last.x || (x == last.x && n_equal < last.y) {
            out[to + n_greater + min(n_equal, last.y)] = f32(t);
        }
        n_greater += select(0u, 1u, x > last.x);
        n_equal += select(0u, 1u, x == last.x);
    }
}
