// What the kernels that choose positions share.

struct Positions {
    // Queries: head h, column c of a row lies at row * q_row + q_start + h * q_stride + c.
    q_row: u32,
    q_start: u32,
    q_stride: u32,
    heads: u32,
    // What each head counts.
    w_row: u32,
    w_start: u32,
    out_row: u32,
    out_start: u32,
    // Positions that are chosen.
    top: u32,
    n_slot: u32,
    // Room for the scores of a row.
    stride: u32,
    // The first of the sequence's rows that this dispatch treats.
    first: u32,
    scale: f32,
    pad_0: u32,
    pad_1: u32,
    pad_2: u32,
}

// Greater numbers give greater keys; -0 equals 0.
fn key(bits: u32) -> u32 {
    if bits == 0x80000000u {
        return 0x80000000u;
    }
    return select(bits | 0x80000000u, ~bits, bits >= 0x80000000u);
}
