// Weights of integer formats as numbers.
fn code_values(codes: u32, d: f32, m: f32) -> vec4<f32> {
    let scaled = vec4<f32>(unpack4xI8(codes)) * d;
    if (HAS_MIN) {
        return scaled + m;
    }
    return scaled;
}

fn group32(g: u32) -> Group {
    let c = codes32(g);
    return Group(
        code_values(c.lo.x, c.d.x, c.m.x),
        code_values(c.lo.y, c.d.x, c.m.x),
        code_values(c.lo.z, c.d.x, c.m.x),
        code_values(c.lo.w, c.d.x, c.m.x),
        code_values(c.hi.x, c.d.y, c.m.y),
        code_values(c.hi.y, c.d.y, c.m.y),
        code_values(c.hi.z, c.d.y, c.m.y),
        code_values(c.hi.w, c.d.y, c.m.y),
    );
}
