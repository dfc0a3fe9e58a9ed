// TQ1_0, eight groups a block. A byte B holds base-3 digits as a fraction of 256: digit n is ((B 3^n) mod 256) 3 / 256.
// wq: 48 bytes: the digits n of the first 32 are group n, those of the last 16 are the following 80 weights.
// ws: pairs, one word whose digits are the last 16 weights, d.
const HAS_MIN: bool = false;

// Digits after multiplication by `power`, minus one. Bytes are treated two at a time, so that products have room.
fn digits(v: vec4<u32>, power: vec4<u32>) -> vec4<u32> {
    let two = vec4<u32>(0x00ff00ffu);
    let even = (((v & two) * power) & two) * 3u;
    let odd = ((((v >> vec4<u32>(8u)) & two) * power) & two) * 3u;
    let t = ((even >> vec4<u32>(8u)) & vec4<u32>(0x00030003u)) | (odd & vec4<u32>(0x03000300u));
    return lowered(t, 0x01010101u);
}

// 3^n for n < 5.
fn power_of_three(n: u32) -> u32 {
    return select((0x1b090301u >> ((n & 3u) * 8u)) & 0xffu, 81u, n == 4u);
}

fn codes32(g: u32) -> Codes {
    let b = g >> 3u;
    let s = g & 7u;
    let is_first = s < 5u;
    let is_last = s == 7u;
    let lo = wq[b * 3u + select(2u, 0u, is_first)];
    let hi = select(wq[b * 3u + select(2u, 1u, is_first)], vec4<u32>(ws[pair_word(b, 1u)]), is_last);
    // Groups 5 and 6 have digits 0 and 1, 2 and 3; group 7 has digit 4, then all four of the last bytes.
    let n = select((s * 2u) - 10u, s, is_first);
    let lo_power = vec4<u32>(power_of_three(n));
    let hi_power = vec4<u32>(power_of_three(select(n + 1u, n, is_first)));
    let d = pair_half(b, 1u);
    return Codes(
        digits(lo, lo_power),
        digits(hi, select(hi_power, vec4<u32>(1u, 3u, 9u, 27u), is_last)),
        vec2<f32>(d),
        vec2<f32>(0.0),
    );
}
