// What the kernels of selection share: numbers in the order of their size as u32, so that neither fast math nor the
// sign of zero can change a comparison.

struct Select {
    // Logits of a row, words from one row to the next, and the first of the first row.
    n: u32,
    row: u32,
    start: u32,
    // Wanted numbers of a row.
    k: u32,
    // Logits of a workgroup of the first stage, and workgroups of a row: per * n_part >= n.
    per: u32,
    n_part: u32,
    pad0: u32,
    pad1: u32,
}

// No index.
const NONE = 0xffffffffu;
// Words before the pairs of a record: the flag, and the number of pairs that hold something.
const HEAD = 2u;

// Greater numbers give greater keys; -0 equals 0.
fn key(bits: u32) -> u32 {
    if bits == 0x80000000u {
        return 0x80000000u;
    }
    return select(bits | 0x80000000u, ~bits, bits >= 0x80000000u);
}

fn is_odd(bits: u32) -> bool {
    return (bits & 0x7f800000u) == 0x7f800000u;
}

// Does a pair of key and index come before another one? Lower indices win ties.
fn before(a: u32, a_idx: u32, b: u32, b_idx: u32) -> bool {
    return a > b || (a == b && a_idx < b_idx);
}
