// Writes numbers into a row of cache/f16.

const UNIT_KV = 4u;

// KV[at .. at + 4] become columns c .. c + 4 of the row that begins at `row`.
fn put_KV(row: u32, width: u32, c: u32, at: u32) {
    let x = vec4<f32>(KV[at], KV[at + 1u], KV[at + 2u], KV[at + 3u]);
    // Beyond 65504, the bits 0x477fe000, or not finite. By bits, since fast math may assume that every number is finite.
    if any((bitcast<vec4<u32>>(x) & vec4<u32>(0x7fffffffu)) > vec4<u32>(0x477fe000u)) {
        atomicOr(&status[0], 1u);
    }
    // What pack2x16float makes of larger numbers differs between drivers.
    let y = clamp(x, vec4<f32>(-65504.0), vec4<f32>(65504.0));
    cache_KV[row + c / 4u] = vec2<u32>(pack2x16float(y.xy), pack2x16float(y.zw));
}
