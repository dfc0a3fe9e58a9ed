// Writes numbers into a row of cache/q8_0: scale = max |x| / 127, codes rounded to the nearest, ties to even.

const UNIT_KV = 32u;

// KV[at .. at + 32] become columns c .. c + 32 of the row that begins at `row`.
fn put_KV(row: u32, width: u32, c: u32, at: u32) {
    // The greatest magnitude by bits: they order like the numbers, and fast math cannot lose one that is not finite.
    var top = 0u;
    for (var i = 0u; i < 32u; i++) {
        top = max(top, bitcast<u32>(KV[at + i]) & 0x7fffffffu);
    }
    if top >= 0x7f800000u {
        atomicOr(&status[0], 1u);
    }
    let greatest = bitcast<f32>(top);
    // Below 1e-36 the inverse is not finite; such numbers are zero for every purpose.
    var inverse = 0.0;
    if greatest > 1e-36 {
        inverse = 127.0 / greatest;
    }
    for (var i = 0u; i < 8u; i++) {
        let a = at + 4u * i;
        let x = vec4<f32>(KV[a], KV[a + 1u], KV[a + 2u], KV[a + 3u]);
        let code = clamp(round(x * inverse), vec4<f32>(-127.0), vec4<f32>(127.0));
        cache_KV[row + c / 4u + i] = pack4xI8(vec4<i32>(code));
    }
    cache_KV[row + width / 4u + c / 32u] = bitcast<u32>(greatest / 127.0);
}
