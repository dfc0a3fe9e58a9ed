// Q5_K, eight groups a block. wq: the file's block, eleven vec4: head, 32 bytes of fifth bits (bit s of byte l is
// weight l of group s), then nibbles as in Q4_K.
const HAS_MIN: bool = true;

fn codes32(g: u32) -> Codes {
    let s = g & 7u;
    let at = (g >> 3u) * 11u;
    let quants = at + 3u + (s >> 1u) * 2u;
    let shift = vec4<u32>((s & 1u) * 4u);
    let one = vec4<u32>(0x01010101u);
    let fifth = vec4<u32>(s);
    let lo = low_nibbles(wq[quants] >> shift) | (((wq[at + 1u] >> fifth) & one) << vec4<u32>(4u));
    let hi = low_nibbles(wq[quants + 1u] >> shift) | (((wq[at + 2u] >> fifth) & one) << vec4<u32>(4u));
    let dm = scale_and_min(wq[at], s);
    return Codes(lo, hi, vec2<f32>(dm.x), vec2<f32>(-dm.y));
}
