// Pairs of a row and one of its experts (experts.wgsl), grouped by expert. table: the number of tiles; the pairs, those
// of one expert side by side; the tiles: expert, place of the first pair, pairs (at most COLS, of one expert).
// The order of pairs within an expert is any: a product's columns do not depend on each other.
// idx: the choice of each row, f32 [rows, idx_row]. One workgroup of 256 lanes does it all; grid (1, 1).
// Needs TAKEN, N (experts), COLS. Scalar twin: src/cpu/exec/experts.rs.
struct Group {
    idx_start: u32,
    idx_row: u32,
    n_used: u32,
    pad: u32,
}
@group(0) @binding(0) var<storage, read> idx: array<f32>;
@group(0) @binding(1) var<storage, read_write> table: array<u32>;
@group(0) @binding(2) var<uniform> p: Group;
@group(0) @binding(3) var<uniform> batch: Batch;

var<workgroup> counts: array<atomic<u32>, N>;
// Where the next pair of each expert goes.
var<workgroup> places: array<atomic<u32>, N>;

fn expert(pair: u32) -> u32 {
    return min(u32(idx[pair / p.n_used * p.idx_row + p.idx_start + pair % p.n_used]), N - 1u);
}

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) lane: u32) {
    let n_pair = select(batch.n_row, batch.n_want, TAKEN != 0u) * p.n_used;
    for (var e = lane; e < N; e += 256u) {
        atomicStore(&counts[e], 0u);
    }
    workgroupBarrier();
    for (var pair = lane; pair < n_pair; pair += 256u) {
        atomicAdd(&counts[expert(pair)], 1u);
    }
    workgroupBarrier();
    for (var e = lane; e < N; e += 256u) {
        var place = 0u;
        var tile = 0u;
        for (var before = 0u; before < e; before++) {
            let n = atomicLoad(&counts[before]);
            place += n;
            tile += (n + COLS - 1u) / COLS;
        }
        let n = atomicLoad(&counts[e]);
        atomicStore(&places[e], place);
        for (var done = 0u; done < n; done += COLS) {
            let at = 1u + n_pair + 3u * tile;
            table[at] = e;
            table[at + 1u] = place + done;
            table[at + 2u] = min(n - done, COLS);
            tile++;
        }
        if (e == N - 1u) {
            table[0] = tile;
        }
    }
    workgroupBarrier();
    for (var pair = lane; pair < n_pair; pair += 256u) {
        table[1u + atomicAdd(&places[expert(pair)], 1u)] = pair;
    }
}
