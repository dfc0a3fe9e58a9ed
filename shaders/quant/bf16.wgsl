// BF16: four vec4 a group, two weights a word; a weight is the upper half of its f32.
fn four_weights(a: u32, b: u32) -> vec4<f32> {
    let bits = vec4<u32>(a << 16u, a & 0xffff0000u, b << 16u, b & 0xffff0000u);
    return bitcast<vec4<f32>>(bits);
}

fn group32(g: u32) -> Group {
    let a = wq[g * 4u];
    let b = wq[g * 4u + 1u];
    let c = wq[g * 4u + 2u];
    let d = wq[g * 4u + 3u];
    return Group(
        four_weights(a.x, a.y),
        four_weights(a.z, a.w),
        four_weights(b.x, b.y),
        four_weights(b.z, b.w),
        four_weights(c.x, c.y),
        four_weights(c.z, c.w),
        four_weights(d.x, d.y),
        four_weights(d.z, d.w),
    );
}
