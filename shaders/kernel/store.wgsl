// cache[(len + i) % n_slot] = the key and the value of row order[first + i], for the rows i of one sequence.
//
// k, v: views of [n_row, row_stride] f32; head h, column c of a row lies at start + h * stride + c.
// Without values v_dim is 0. cache_k, cache_v: cells of cache/*. Bit 0 of status[0] is set if a number cannot be stored.
// One invocation stores UNIT_k numbers of the key or UNIT_v of the value, which lie in one head.
// Dispatch: (ceil(units of a row / 64), count, 1); count <= 65535.    Twin: cpu/sequence.rs::RowStore::put

struct Store {
    n_slot: u32,
    heads: u32,
    // Columns of a head.
    k_dim: u32,
    v_dim: u32,
    k_row: u32,
    k_start: u32,
    k_stride: u32,
    v_row: u32,
    v_start: u32,
    v_stride: u32,
    pad0: u32,
    pad1: u32,
}

@group(0) @binding(0) var<storage, read> k: array<f32>;
@group(0) @binding(1) var<storage, read> v: array<f32>;
@group(0) @binding(2) var<storage, read_write> cache_k: array<Cell_k>;
@group(0) @binding(3) var<storage, read_write> cache_v: array<Cell_v>;
@group(0) @binding(4) var<storage, read> order: array<u32>;
@group(0) @binding(5) var<storage, read_write> status: array<atomic<u32>>;
@group(0) @binding(6) var<uniform> p: Store;
@group(0) @binding(7) var<uniform> seq: Sequence;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let k_width = p.heads * p.k_dim;
    let v_width = p.heads * p.v_dim;
    let k_units = k_width / UNIT_k;
    if id.x >= k_units + v_width / UNIT_v || id.y >= seq.count {
        return;
    }
    let row = order[seq.first + id.y];
    let slot = (seq.len + id.y) % p.n_slot;
    if id.x < k_units {
        let c = id.x * UNIT_k;
        let at = row * p.k_row + p.k_start + c / p.k_dim * p.k_stride + c % p.k_dim;
        put_k(row_k(slot, k_width), k_width, c, at);
    } else {
        let c = (id.x - k_units) * UNIT_v;
        let at = row * p.v_row + p.v_start + c / p.v_dim * p.v_stride + c % p.v_dim;
        put_v(row_v(slot, v_width), v_width, c, at);
    }
}
