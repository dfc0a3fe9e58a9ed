// What every kernel shares. Text is joined in src/gpu/compose.rs: constants, this file, fragments, the kernel.

// The batch at hand; written once per submission.
struct Batch {
    // Rows of the batch.
    n_row: u32,
    // Wanted rows that this submission treats, and the first of them.
    n_want: u32,
    want_start: u32,
    pad: u32,
}

// The rows of one sequence in the batch, and what the sequence holds.
struct Sequence {
    // First entry of its rows in `order`, and their number.
    first: u32,
    count: u32,
    // Positions held before the batch: the row order[first + i] has position len + i.
    len: u32,
    // Parts into which attention cuts the keys of each row.
    n_split: u32,
    // Sides of the states that the batch reads and writes. Where `len` is 0 a state is zeros, whatever lies there.
    side_now: u32,
    side_next: u32,
    pad_0: u32,
    pad_1: u32,
}
