// Activations as int8 in groups of 32: scale = max |x| / 127, codes rounded to the nearest; the scale and the sums of
// both halves beside them, as int8.wgsl wants them. a: view of n columns (a multiple of 32). Outputs: `codes`
// [rows, n / 32] of 2 vec4<u32>, `scales` [rows, n / 32]. One invocation per group; grid (groups / WG, rows).
struct Quantize {
    start: u32,
    row: u32,
    groups: u32,
    pad: u32,
}
@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read_write> codes: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> scales: array<vec4<f32>>;
@group(0) @binding(3) var<uniform> p: Quantize;
@group(0) @binding(4) var<uniform> batch: Batch;

struct Half {
    codes: vec4<u32>,
    sum: f32,
}

fn load4(at: u32) -> vec4<f32> {
    return vec4<f32>(a[at], a[at + 1u], a[at + 2u], a[at + 3u]);
}

// The greatest magnitude as bits, which are ordered as numbers are; what is no number is greater than all.
fn greatest(v: vec4<f32>) -> u32 {
    let m = bitcast<vec4<u32>>(v) & vec4<u32>(0x7fffffffu);
    return max(max(m.x, m.y), max(m.z, m.w));
}

fn half16(at: u32, inverse: f32) -> Half {
    let q0 = round(load4(at) * inverse);
    let q1 = round(load4(at + 4u) * inverse);
    let q2 = round(load4(at + 8u) * inverse);
    let q3 = round(load4(at + 12u) * inverse);
    let codes = vec4<u32>(
        pack4xI8(vec4<i32>(q0)), pack4xI8(vec4<i32>(q1)), pack4xI8(vec4<i32>(q2)), pack4xI8(vec4<i32>(q3)));
    return Half(codes, dot(q0 + q1 + q2 + q3, vec4<f32>(1.0)));
}

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let n = select(batch.n_row, batch.n_want, TAKEN != 0u);
    if (id.x >= p.groups || id.y >= n) {
        return;
    }
    let at = id.y * p.row + p.start + id.x * 32u;
    var bits = 0u;
    for (var i = 0u; i < 32u; i += 4u) {
        bits = max(bits, greatest(load4(at + i)));
    }
    // Not a number if any of them is none, so that it reaches the results.
    let m = bitcast<f32>(bits);
    let scale = m / 127.0;
    // The inverse of a smaller one passes the range of f32.
    var inverse = 0.0;
    if (m > 1e-36) {
        inverse = 127.0 / m;
    }
    let lo = half16(at, inverse);
    let hi = half16(at + 16u, inverse);
    let g = id.y * p.groups + id.x;
    codes[2u * g] = lo.codes;
    codes[2u * g + 1u] = hi.codes;
    scales[g] = vec4<f32>(scale, scale * lo.sum, scale * hi.sum, 0.0);
}
