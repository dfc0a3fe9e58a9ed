// scores[j, t] = sum_h w[i, h] scale max(q[i, h] . k[t], 0) for the positions t up to that of row i = first + j of one
// sequence.
//
// q, w: views of [n_row, row_stride] f32. cache_k: cells of cache/*, position t in slot t % n_slot. scores: [rows, stride]
// f32. One invocation has one key in registers and goes through the heads.
// Dispatch: (ceil(positions / 64), rows, 1).    Constants: DK, columns of a key, a multiple of 4.
// Scalar twin: src/cpu/attention.rs::SelectWork

@group(0) @binding(0) var<storage, read> q: array<f32>;
@group(0) @binding(1) var<storage, read> w: array<f32>;
@group(0) @binding(2) var<storage, read> cache_k: array<Cell_k>;
@group(0) @binding(3) var<storage, read_write> scores: array<f32>;
@group(0) @binding(4) var<storage, read> order: array<u32>;
@group(0) @binding(5) var<uniform> p: Positions;
@group(0) @binding(6) var<uniform> seq: Sequence;

const QUADS = DK / 4u;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = p.first + id.y;
    let t = id.x;
    if i >= seq.count || t > seq.len + i {
        return;
    }
    var key = array<vec4<f32>, QUADS>();
    let k_row = row_k(t % p.n_slot, DK);
    for (var c = 0u; c < QUADS; c++) {
        key[c] = load_k(k_row, DK, 4u * c);
    }
    let row = order[seq.first + i];
    var sum = 0.0;
    for (var h = 0u; h < p.heads; h++) {
        let a = row * p.q_row + p.q_start + h * p.q_stride;
        var product = 0.0;
        for (var c = 0u; c < QUADS; c++) {
            let b = a + 4u * c;
            product += dot(key[c], vec4<f32>(q[b], q[b + 1u], q[b + 2u], q[b + 3u]));
        }
        sum += w[row * p.w_row + p.w_start + h] * p.scale * max(product, 0.0);
    }
    scores[id.y * p.stride + t] = sum;
}
