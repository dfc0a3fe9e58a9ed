// Joins the parts of attention: out = sum_s e^(max_s - max) values_s / sum_s e^(max_s - max) sum_s.
//
// part: [heads * count, n_split, RECORD] f32, from kernel/attend. out: a view of [n_row, row_stride] f32.
// One workgroup computes one head of one row; invocation c takes columns c, c + 64, ...
// Dispatch: (heads, count, 1), each <= 65535.    Constants: DV, columns of a head of values.

@group(0) @binding(0) var<storage, read_write> out: array<f32>;
@group(0) @binding(1) var<storage, read> part: array<f32>;
@group(0) @binding(2) var<storage, read> order: array<u32>;
@group(0) @binding(3) var<uniform> p: Attend;
@group(0) @binding(4) var<uniform> seq: Sequence;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) at: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let first = record(at.y, at.x, 0u);
    let end = first + seq.n_split * RECORD;
    var top = MASK;
    for (var r = first; r < end; r += RECORD) {
        top = max(top, part[r]);
    }
    var total = 0.0;
    for (var r = first; r < end; r += RECORD) {
        total += exp(part[r] - top) * part[r + 1u];
    }
    let o = result_at(at.y, at.x);
    for (var c = lane; c < DV; c += 64u) {
        var x = 0.0;
        for (var r = first; r < end; r += RECORD) {
            x += exp(part[r] - top) * part[r + 2u + c];
        }
        out[o + c] = x / total;
    }
}
