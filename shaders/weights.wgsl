// The weights of a chunk of rows, in the two planes that src/gpu/planes.rs lays out, and what fragments of formats
// share.
//
// A fragment of a format (quant/*.wgsl) gives the weights of group g: 32 consecutive weights of a row, in natural
// order, g = row * groups per row + group of the row. Integer formats give `codes32(g) -> Codes` and say by `HAS_MIN`
// whether their minimums can be other than zero; quant/integer.wgsl derives `group32(g) -> Group` from that. Formats of
// plain numbers give `group32` alone. Any bytes give indices within the planes and tables, if g is in the chunk.
@group(0) @binding(0) var<storage, read> wq: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> ws: array<u32>;
@group(0) @binding(2) var<storage, read> tables: array<u32>;

// 32 weights `code * d + m`. Codes are int8, four a word, lowest byte first: lo has weights 0 to 15, which go with d.x
// and m.x, hi has weights 16 to 31, with d.y and m.y.
struct Codes {
    lo: vec4<u32>,
    hi: vec4<u32>,
    d: vec2<f32>,
    m: vec2<f32>,
}

// 32 weights.
struct Group {
    w0: vec4<f32>,
    w1: vec4<f32>,
    w2: vec4<f32>,
    w3: vec4<f32>,
    w4: vec4<f32>,
    w5: vec4<f32>,
    w6: vec4<f32>,
    w7: vec4<f32>,
}

// Formats with an f16 beside n words a block keep two blocks together in `ws`: the words of both, then both halves.
// The first word of block b.
fn pair_word(b: u32, n: u32) -> u32 {
    return (b >> 1u) * (2u * n + 1u) + (b & 1u) * n;
}

// The f16 of block b.
fn pair_half(b: u32, n: u32) -> f32 {
    let both = ws[(b >> 1u) * (2u * n + 1u) + 2u * n];
    return unpack2x16float(both >> ((b & 1u) * 16u)).x;
}

// Words x and y of a vec4, or z and w.
fn half_of(v: vec4<u32>, second: u32) -> vec2<u32> {
    return select(v.xy, v.zw, second != 0u);
}

fn low_nibbles(v: vec4<u32>) -> vec4<u32> {
    return v & vec4<u32>(0x0f0f0f0fu);
}

fn high_nibbles(v: vec4<u32>) -> vec4<u32> {
    return (v >> vec4<u32>(4u)) & vec4<u32>(0x0f0f0f0fu);
}

// The four bytes of a word.
fn bytes_of(w: u32) -> vec4<u32> {
    return (vec4<u32>(w) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(0xffu);
}

// Bits 0 to 15, each the lowest bit of a byte. The factor puts bit i of a nibble at 8i; its parts do not overlap.
fn spread_bits(w: u32) -> vec4<u32> {
    let nibbles = (vec4<u32>(w) >> vec4<u32>(0u, 4u, 8u, 12u)) & vec4<u32>(15u);
    return (nibbles * 0x00204081u) & vec4<u32>(0x01010101u);
}

// The four 2-bit fields of each component (a byte), each the lowest bits of a byte.
fn spread_fields(v: vec4<u32>) -> vec4<u32> {
    let halves = (v | (v << vec4<u32>(12u))) & vec4<u32>(0x000f000fu);
    return (halves | (halves << vec4<u32>(6u))) & vec4<u32>(0x03030303u);
}

// Bytes v - k, signed. `k` has the same byte four times, bytes of v - k lie in -128..128, and none of v + (128 - k)
// passes 255: so no borrow leaves a byte.
fn lowered(v: vec4<u32>, k: u32) -> vec4<u32> {
    return (v + (0x80808080u - k)) ^ vec4<u32>(0x80808080u);
}

// Bytes v, negated where the lowest 16 bits of `signs` are set, one bit a byte. Bytes are 1 to 127: a zero would carry.
fn with_signs(v: vec4<u32>, signs: u32) -> vec4<u32> {
    let minus = spread_bits(signs);
    return (v ^ (minus * 255u)) + minus;
}
