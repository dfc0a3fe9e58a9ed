// Scale and minimum of group s of a block of Q4_K or Q5_K, whose first 16 bytes are `head`: (d, dmin), then eight
// 6-bit scales and eight 6-bit minimums in 12 bytes.
fn scale_and_min(head: vec4<u32>, s: u32) -> vec2<f32> {
    let v = head.yzw >> vec3<u32>((s & 3u) * 8u);
    let first = v.xy & vec2<u32>(63u);
    let second = (vec2<u32>(v.z, v.z >> 4u) & vec2<u32>(15u)) | ((v.xy >> vec2<u32>(2u)) & vec2<u32>(48u));
    return unpack2x16float(head.x) * vec2<f32>(select(first, second, s >= 4u));
}
