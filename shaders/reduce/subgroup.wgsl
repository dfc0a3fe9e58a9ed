// Sums over the workgroup by subgroups of any size from 4 on; their sums meet in workgroup memory. Needs constants WG
// and SLOTS. Same use as reduce/tree.wgsl. Nothing is assumed of the size of a subgroup but num_subgroups <= WG / 4.

struct Lanes {
    @builtin(local_invocation_index) lane: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) n_subgroup: u32,
    @builtin(subgroup_invocation_id) place: u32,
}

const MAX_SUBGROUPS: u32 = WG / 4u;
var<workgroup> reduce_part: array<f32, MAX_SUBGROUPS * SLOTS>;

fn put(slot: u32, v: f32, l: Lanes) {
    let sum = subgroupAdd(v);
    if (l.place == 0u) {
        reduce_part[slot * MAX_SUBGROUPS + l.subgroup] = sum;
    }
}

fn finish(l: Lanes) {
    workgroupBarrier();
}

fn total(slot: u32, l: Lanes) -> f32 {
    var sum = 0.0;
    for (var i = 0u; i < l.n_subgroup; i++) {
        sum += reduce_part[slot * MAX_SUBGROUPS + i];
    }
    return sum;
}
