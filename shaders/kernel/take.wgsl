// Rows of the wanted tokens: out[r] = a[weight[want_start + r]], n columns. Also, with ALIGN 1, plain rows r, followed
// by zeros up to a multiple of 32: the input of a matrix that is not aligned. Grid (columns of out / WG, rows).
struct Take {
    a: View,
    out: View,
    n: u32,
}
@group(0) @binding(3) var<storage, read> weight: array<u32>;
@group(0) @binding(5) var<uniform> p: Take;

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x >= p.out.width || id.y >= rows_of_batch()) {
        return;
    }
    var source = id.y;
    if (ALIGN == 0u) {
        source = weight[batch.want_start + id.y];
    }
    var x = 0.0;
    if (id.x < p.n) {
        x = a[at(p.a, source, id.x)];
    }
    out[id.y * p.out.row + p.out.start + id.x] = x;
}
