// NVFP4, two groups a block. wq: 16 bytes of nibbles a group; 8 bytes are 16 weights, low nibbles first. ws: a word of
// four scales a block.
const HAS_MIN: bool = false;

// Half the value of an unsigned E4M3 number; bit 7 is ignored, 0x7f counts as zero.
fn half_e4m3(byte: u32) -> f32 {
    let b = byte & 0x7fu;
    let normal = bitcast<f32>((((b >> 3u) + 119u) << 23u) | ((b & 7u) << 20u));
    let scale = select(f32(b) * (1.0 / 1024.0), normal, b >= 8u);
    return select(scale, 0.0, b == 0x7fu);
}

fn codes32(g: u32) -> Codes {
    let q = wq[g];
    let scales = ws[g >> 1u] >> ((g & 1u) * 16u);
    let low = fp4(low_nibbles(q));
    let high = fp4(high_nibbles(q));
    let d = vec2<f32>(half_e4m3(scales), half_e4m3(scales >> 8u));
    return Codes(vec4<u32>(low.xy, high.xy), vec4<u32>(low.zw, high.zw), d, vec2<f32>(0.0));
}
