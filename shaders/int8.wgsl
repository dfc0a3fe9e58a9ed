// 32 codes of weights times 32 codes of activations. `s`: the activations' scale e, then e * sum of the first 16 codes
// and of the last 16.
fn dot_codes(w: Codes, lo: vec4<u32>, hi: vec4<u32>, s: vec4<f32>) -> f32 {
    let a = dot4I8Packed(w.lo.x, lo.x) + dot4I8Packed(w.lo.y, lo.y) + dot4I8Packed(w.lo.z, lo.z)
        + dot4I8Packed(w.lo.w, lo.w);
    let b = dot4I8Packed(w.hi.x, hi.x) + dot4I8Packed(w.hi.y, hi.y) + dot4I8Packed(w.hi.z, hi.z)
        + dot4I8Packed(w.hi.w, hi.w);
    var sum = s.x * (w.d.x * f32(a) + w.d.y * f32(b));
    if (HAS_MIN) {
        sum += w.m.x * s.y + w.m.y * s.z;
    }
    return sum;
}
