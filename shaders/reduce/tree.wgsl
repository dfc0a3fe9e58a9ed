// Sums over the workgroup through its memory: halving, log2(WG) rounds. Needs constants WG (a power of two) and SLOTS.
// Use: put each lane's SLOTS numbers, finish, read totals; everything in uniform control flow.

struct Lanes {
    @builtin(local_invocation_index) lane: u32,
}

var<workgroup> reduce_part: array<f32, WG * SLOTS>;

fn put(slot: u32, v: f32, l: Lanes) {
    reduce_part[slot * WG + l.lane] = v;
}

fn finish(l: Lanes) {
    workgroupBarrier();
    for (var s = WG / 2u; s > 0u; s >>= 1u) {
        if (l.lane < s) {
            for (var i = 0u; i < SLOTS; i++) {
                reduce_part[i * WG + l.lane] += reduce_part[i * WG + l.lane + s];
            }
        }
        workgroupBarrier();
    }
}

fn total(slot: u32, l: Lanes) -> f32 {
    return reduce_part[slot * WG];
}
