// F32: eight vec4 a group.
fn group32(g: u32) -> Group {
    let at = g * 8u;
    return Group(
        bitcast<vec4<f32>>(wq[at]),
        bitcast<vec4<f32>>(wq[at + 1u]),
        bitcast<vec4<f32>>(wq[at + 2u]),
        bitcast<vec4<f32>>(wq[at + 3u]),
        bitcast<vec4<f32>>(wq[at + 4u]),
        bitcast<vec4<f32>>(wq[at + 5u]),
        bitcast<vec4<f32>>(wq[at + 6u]),
        bitcast<vec4<f32>>(wq[at + 7u]),
    );
}
