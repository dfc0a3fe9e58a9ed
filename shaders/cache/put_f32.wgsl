// Writes numbers into a row of cache/f32.

const UNIT_KV = 4u;

// KV[at .. at + 4] become columns c .. c + 4 of the row that begins at `row`.
fn put_KV(row: u32, width: u32, c: u32, at: u32) {
    let x = vec4<f32>(KV[at], KV[at + 1u], KV[at + 2u], KV[at + 3u]);
    // By bits, since fast math may assume that every number is finite.
    if any((bitcast<vec4<u32>>(x) & vec4<u32>(0x7fffffffu)) >= vec4<u32>(0x7f800000u)) {
        atomicOr(&status[0], 1u);
    }
    cache_KV[row + c / 4u] = x;
}
