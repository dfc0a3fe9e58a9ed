// Four bytes of signs from four 7-bit codes: the eighth sign makes the number of minus signs even.
fn even_signs(codes: u32) -> u32 {
    let c = (vec4<u32>(codes) >> vec4<u32>(0u, 7u, 14u, 21u)) & vec4<u32>(127u);
    let b = c | ((countOneBits(c) & vec4<u32>(1u)) << vec4<u32>(7u));
    return b.x | (b.y << 8u) | (b.z << 16u) | (b.w << 24u);
}
