// Q4_1. wq: nibbles as in Q4_0. ws: a word (d, m) a block.
const HAS_MIN: bool = true;

fn codes32(g: u32) -> Codes {
    let q = wq[g];
    let dm = unpack2x16float(ws[g]);
    return Codes(low_nibbles(q), high_nibbles(q), vec2<f32>(dm.x), vec2<f32>(dm.y));
}
