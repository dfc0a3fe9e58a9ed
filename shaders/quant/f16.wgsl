// F16: four vec4 a group, two weights a word.
fn four_weights(a: u32, b: u32) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(a), unpack2x16float(b));
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
