// What both kernels of attention share.

struct Attend {
    // Queries: head h, column c of a row lies at row * q_row + q_start + h * q_stride + c.
    q_row: u32,
    q_start: u32,
    q_stride: u32,
    // Results, likewise.
    out_row: u32,
    out_start: u32,
    out_stride: u32,
    // Heads of keys and values, and query heads that share one.
    kv_heads: u32,
    group: u32,
    n_slot: u32,
    // Positions up to its own that a query sees, its own included; 0xffffffff for all.
    window: u32,
    // Factor of the scores.
    scale: f32,
    // Soft cap of the scores; 0 for none.
    softcap: f32,
    // Temperature of the query (plan::Temper); length 0 for none.
    temper_scale: f32,
    temper_length: u32,
    temper_add: u32,
    // Biases by distance (plan::Alibi): steepest exponent, 0 for none, and the largest power of two up to the heads.
    alibi_max: f32,
    alibi_heads: u32,
    // Later positions that a query sees, too; 0xffffffff for all.
    ahead: u32,
    // Positions of a chunk, beyond which no query sees; 0 for none.
    chunk: u32,
    // Is there a score without a key for each head?
    has_sinks: u32,
}

// The oldest position that a query sees.
fn oldest_seen(pos: u32) -> u32 {
    if p.chunk != 0u {
        return pos - pos % p.chunk;
    }
    return select(0u, pos + 1u - p.window, pos >= p.window);
}

// Slope of the biases of head h.
fn slope(h: u32) -> f32 {
    let n = p.alibi_heads;
    let even = f32(h + 1u) / f32(n);
    let odd = f32(2u * h + 1u - 2u * min(h, n)) / f32(2u * n);
    return exp2(-p.alibi_max * select(odd, even, h < n));
}

// Stands for a score that is not there. Finite, since fast math may assume that every number is.
const MASK = -1e30;
// Numbers of a record of `part`: maximum, sum, and the unnormalised result.
const RECORD = DV + 2u;

// The record of one part of the keys for the query of row i and head h.
fn record(i: u32, h: u32, split: u32) -> u32 {
    let query = (h / p.group * seq.count + i) * p.group + h % p.group;
    return (query * seq.n_split + split) * RECORD;
}

// Where the result of row i and head h begins.
fn result_at(i: u32, h: u32) -> u32 {
    return order[seq.first + i] * p.out_row + p.out_start + h * p.out_stride;
}
