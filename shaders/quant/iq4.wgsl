// The values of IQ4_NL and IQ4_XS for bytes n < 16, chosen by the bits of n for 16 weights at once: no memory is read
// and no lane waits for another.
fn choose_bytes(mask: vec4<u32>, a: vec4<u32>, b: vec4<u32>) -> vec4<u32> {
    return a ^ (mask & (a ^ b));
}

// Bytes a or b, each given four times.
fn choose_byte(mask: vec4<u32>, a: u32, b: u32) -> vec4<u32> {
    return vec4<u32>(a) ^ (mask & vec4<u32>(a ^ b));
}

fn iq4(n: vec4<u32>) -> vec4<u32> {
    let one = vec4<u32>(0x01010101u);
    let m0 = (n & one) * 255u;
    let m1 = ((n >> vec4<u32>(1u)) & one) * 255u;
    let m2 = ((n >> vec4<u32>(2u)) & one) * 255u;
    let m3 = ((n >> vec4<u32>(3u)) & one) * 255u;
    // -127, -104, -83, -65
    let a = choose_bytes(m1, choose_byte(m0, 0x81818181u, 0x98989898u), choose_byte(m0, 0xadadadadu, 0xbfbfbfbfu));
    // -49, -35, -22, -10
    let b = choose_bytes(m1, choose_byte(m0, 0xcfcfcfcfu, 0xddddddddu), choose_byte(m0, 0xeaeaeaeau, 0xf6f6f6f6u));
    // 1, 13, 25, 38
    let c = choose_bytes(m1, choose_byte(m0, 0x01010101u, 0x0d0d0d0du), choose_byte(m0, 0x19191919u, 0x26262626u));
    // 53, 69, 89, 113
    let d = choose_bytes(m1, choose_byte(m0, 0x35353535u, 0x45454545u), choose_byte(m0, 0x59595959u, 0x71717171u));
    return choose_bytes(m3, choose_bytes(m2, a, b), choose_bytes(m2, c, d));
}
