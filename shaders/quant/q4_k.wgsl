// Q4_K, eight groups a block. wq: the file's block, nine vec4: head, then 32 bytes for two groups, low nibbles the
// first of them.
const HAS_MIN: bool = true;

fn codes32(g: u32) -> Codes {
    let s = g & 7u;
    let at = (g >> 3u) * 9u;
    let quants = at + 1u + (s >> 1u) * 2u;
    let shift = vec4<u32>((s & 1u) * 4u);
    let lo = low_nibbles(wq[quants] >> shift);
    let hi = low_nibbles(wq[quants + 1u] >> shift);
    let dm = scale_and_min(wq[at], s);
    return Codes(lo, hi, vec2<f32>(dm.x), vec2<f32>(-dm.y));
}
