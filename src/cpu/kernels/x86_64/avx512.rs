//! AVX-512 with VNNI: row products over 8-bit activations, and their quantization.
//!
//! Two rows of weights go together, as the activations are then loaded and arranged once for both, and up to
//! five rows of activations, as weights are then taken apart once for all; the arithmetic of a row by a row is
//! the same alone. `vpdpbusd` wants unsigned weights: Q4_0, Q8_0 and Q6_K keep their
//! offset, and the accumulator begins with minus the offset times the sum of the activations.

use super::super::{MatvecQ8, MatvecRowsQ8, Row8, SUM_LEN};
use super::{
    eight_scales, four_halves, half, load_128, load_256, load_512, prefetch, scales_then_mins, sixteen_scales,
    store_128, sums_of_32,
};
use half::f16;
use std::arch::x86_64::*;
use tealight_quant::BlockType;
use tealight_quant::blocks::k::{BlockQ4K, BlockQ6K};
use tealight_quant::blocks::legacy::BlockQ8_0;

/// Row products of all rows of weights, `$one` with one row of activations and `$many` with some, from the dot
/// products of two rows and of one.
macro_rules! matvec {
    ($one:ident, $many:ident, $dots:ident, $block:ty) => {
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
        pub(in crate::cpu::kernels) fn $one(rows: &[u8], x: Row8<'_>, out: &mut [f32]) {
            $many(rows, &[x], &mut [out]);
        }

        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
        pub(in crate::cpu::kernels) fn $many(rows: &[u8], x: &[Row8<'_>], out: &mut [&mut [f32]]) {
            #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
            fn some<const T: usize>(rows: &[u8], x: &[Row8<'_>], out: &mut [&mut [f32]]) {
                let (Some(x), Some(out)) = (x.first_chunk::<T>(), out.first_chunk_mut::<T>()) else { return };
                let n_row = out[0].len();
                let row_bytes = rows.len() / n_row.max(1);
                let row = |r: usize| bytemuck::cast_slice::<u8, $block>(&rows[r * row_bytes..][..row_bytes]);
                for first in (0..n_row & !1).step_by(2) {
                    let products = $dots([row(first), row(first + 1)], x);
                    for (r, products) in products.iter().enumerate() {
                        out.iter_mut().zip(products).for_each(|(out, product)| out[first + r] = *product);
                    }
                }
                if n_row % 2 == 1 {
                    let [products] = $dots([row(n_row - 1)], x);
                    out.iter_mut().zip(products).for_each(|(out, product)| out[n_row - 1] = product);
                }
            }
            let (mut x, mut out) = (x, out);
            while !x.is_empty() {
                let n = if x.len() > 5 { 4 } else { x.len() };
                match n {
                    1 => some::<1>(rows, x, out),
                    2 => some::<2>(rows, x, out),
                    3 => some::<3>(rows, x, out),
                    4 => some::<4>(rows, x, out),
                    _ => some::<5>(rows, x, out),
                }
                (x, out) = (&x[n..], &mut out[n..]);
            }
        }
    };
}

/// The dot products of rows of blocks of 256 and rows of activations. `$unpack` takes a block apart, `$load`
/// arranges the activations of one, quants and sums, and `$add` adds their product to the sums: lanes of two
/// vectors, all of which count.
macro_rules! dots_256 {
    ($name:ident, $block:ty, $unpack:ident, $load:ident, $add:ident) => {
        #[inline]
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
        fn $name<const R: usize, const T: usize>(rows: [&[$block]; R], x: &[Row8<'_>; T]) -> [[f32; T]; R] {
            let n = rows[0].len();
            let (rows, x) = (first_of(rows, n), Blocks::<256, 1, 16>::of(x, n));
            let mut acc = [[[_mm512_setzero_ps(); 2]; T]; R];
            for i in 0..n {
                let mut w = [$unpack(&rows[0][i]); R];
                prefetch(&rows[0][i], size_of::<$block>());
                for r in 1..R {
                    w[r] = $unpack(&rows[r][i]);
                    prefetch(&rows[r][i], size_of::<$block>());
                }
                for (t, Blocks { q, d, sums }) in x.iter().enumerate() {
                    let x = $load(&q[i], &sums[i]);
                    for (w, acc) in w.iter().zip(&mut acc) {
                        $add(&mut acc[t], w, &x, d[i][0]);
                    }
                }
            }
            reduce(acc)
        }
    };
}

pub(super) mod attention;
pub(super) mod blocks_256;
pub(super) mod blocks_32;
mod codebooks;
pub(super) mod float;
pub(super) mod panel;
pub(super) mod unpack;

matvec!(matvec_q8_0_q8_0, matvec_rows_q8_0_q8_0, dots_q8_0_q8_0, BlockQ8_0);
matvec!(matvec_q4_k_q8_k, matvec_rows_q4_k_q8_k, dots_q4_k_q8_k, BlockQ4K);
matvec!(matvec_q6_k_q8_k, matvec_rows_q6_k_q8_k, dots_q6_k_q8_k, BlockQ6K);

dots_256!(dots_q4_k_q8_k, BlockQ4K, unpack_q4_k, load_by_64, add_with_minimum);
dots_256!(dots_q6_k_q8_k, BlockQ6K, unpack_q6_k, load_plain, add_without_offset);

/// Blocks of 32 that go together.
const GROUP: usize = 4;

/// Lanes of i32 from the low four by index, in a vector of 16.
const SPREAD_BY_4: [i32; 16] = [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3];
const SPREAD_BY_8: [[i32; 16]; 2] =
    [[0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1], [2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3]];

/// Two vectors of i32 sums packed to i16 lie in each 128-bit lane as four of the first, then four of
/// the second: which of the scales goes with each.
const fn packed_lanes(first: [i16; 4], second: [i16; 4]) -> [i16; 32] {
    let mut lanes = [0; 32];
    let mut i = 0;
    while i < 32 {
        lanes[i] = if i % 8 < 4 { first[i / 8] } else { second[i / 8] };
        i += 1;
    }
    lanes
}

/// Q4_K: the vectors hold sub-blocks 0, 2 | 1, 3 and 4, 6 | 5, 7.
static Q4_K_LANES: [[i16; 32]; 2] =
    [packed_lanes([0, 0, 2, 2], [1, 1, 3, 3]), packed_lanes([4, 4, 6, 6], [5, 5, 7, 7])];
/// Q6_K: the vectors hold sixteens 0..4 | 4..8 and 8..12 | 12..16.
static Q6_K_LANES: [[i16; 32]; 2] =
    [packed_lanes([0, 1, 2, 3], [4, 5, 6, 7]), packed_lanes([8, 9, 10, 11], [12, 13, 14, 15])];

/// Adds the products of two vectors of quants, scaled. Sums of four products are packed to i16 and
/// scaled by one multiply-add: quants up to 63 keep 4 * 63 * 127 below 2^15.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn scaled_products(sum: __m512i, w: [__m512i; 2], q: [__m512i; 2], scales: __m512i) -> __m512i {
    let zero = _mm512_setzero_si512();
    let packed = _mm512_packs_epi32(_mm512_dpbusd_epi32(zero, w[0], q[0]), _mm512_dpbusd_epi32(zero, w[1], q[1]));
    _mm512_dpwssd_epi32(sum, packed, scales)
}

/// Two halves of a vector.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn join(low: __m256i, high: __m256i) -> __m512i {
    _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high)
}

/// The 16 bytes of nibbles of four blocks: the low nibbles, the high nibbles.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn four_nibbles(qs: [&[u8; 16]; GROUP]) -> [__m512i; 2] {
    let low = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(load_128(qs[0])), load_128(qs[1]));
    let high = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(load_128(qs[2])), load_128(qs[3]));
    let bytes = join(low, high);
    let mask = _mm512_set1_epi8(15);
    [_mm512_and_si512(bytes, mask), _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), mask)]
}

/// The first sixteens of four blocks of activations, and the second ones: as nibbles come apart.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn sixteens(q: &[i8; 128]) -> [__m512i; 2] {
    let (q, _) = q.as_chunks::<64>();
    let (a, b) = (load_512(&q[0]), load_512(&q[1]));
    [_mm512_shuffle_i64x2::<0x88>(a, b), _mm512_shuffle_i64x2::<0xdd>(a, b)]
}

/// The nibbles of one block in order of elements.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn nibbles(qs: &[u8; 16]) -> __m256i {
    let bytes = load_128(qs);
    _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16::<4>(bytes), bytes), _mm256_set1_epi8(15))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn dots_q8_0_q8_0<const R: usize, const T: usize>(rows: [&[BlockQ8_0]; R], x: &[Row8<'_>; T]) -> [[f32; T]; R] {
    let spread = [load_512(&SPREAD_BY_8[0]), load_512(&SPREAD_BY_8[1])];
    let flip = _mm512_set1_epi8(-128);
    let mut acc = [[[_mm512_setzero_ps(); 2]; T]; R];
    let n = rows[0].len() / GROUP;
    let (groups, x_groups) = (groups_of(rows, n), Blocks::<128, GROUP, 8>::of(x, n));
    for i in 0..n {
        let mut w = [([flip; 2], _mm_setzero_ps()); R];
        for (row, (w, d)) in groups.iter().zip(&mut w) {
            let [b0, b1, b2, b3] = &row[i];
            prefetch(b0, GROUP * size_of::<BlockQ8_0>());
            w[0] = _mm512_xor_si512(join(load_256(&b0.qs), load_256(&b1.qs)), flip);
            w[1] = _mm512_xor_si512(join(load_256(&b2.qs), load_256(&b3.qs)), flip);
            *d = four_halves([b0.d, b1.d, b2.d, b3.d]);
        }
        for (t, x) in x_groups.iter().enumerate() {
            let (q, d) = (x.q[i].as_chunks::<64>().0, _mm_castsi128_ps(load_128(&x.d[i])));
            let sums = _mm512_castsi128_si512(load_128(&x.sums[i]));
            for h in 0..2 {
                let sums = _mm512_maskz_permutexvar_epi32(0x0101, spread[h], sums);
                let start = _mm512_dpwssd_epi32(_mm512_setzero_si512(), sums, _mm512_set1_epi16(-128));
                for ((w, w_d), acc) in w.iter().zip(&mut acc) {
                    let d = _mm512_castps128_ps512(_mm_mul_ps(*w_d, d));
                    let dot = _mm512_cvtepi32_ps(_mm512_dpbusd_epi32(start, w[h], load_512(&q[h])));
                    acc[t][h] = _mm512_fmadd_ps(_mm512_permutexvar_ps(spread[h], d), dot, acc[t][h]);
                }
            }
        }
    }
    for acc in acc.as_flattened_mut() {
        *acc = [_mm512_add_ps(acc[0], acc[1]), _mm512_setzero_ps()];
    }
    for (t, x) in x.iter().enumerate() {
        for (i, (q, d, sums)) in rest(*x, n).enumerate() {
            let start = minus_offset(128, sums);
            for (row, acc) in rows.iter().zip(&mut acc) {
                let b = &row[GROUP * n + i];
                let w = _mm256_xor_si256(load_256(&b.qs), _mm256_set1_epi8(-128));
                acc[t][0] = add_scaled(acc[t][0], half(b.d) * d, _mm256_dpbusd_epi32(start, w, load_256(q)));
            }
        }
    }
    reduce(acc)
}

/// A row of activations in blocks, with their scales and sums.
#[derive(Clone, Copy)]
struct Blocks<'a, const N: usize, const D: usize, const S: usize> {
    q: &'a [[i8; N]],
    d: &'a [[f32; D]],
    sums: &'a [[i16; S]],
}

impl<'a, const N: usize, const D: usize, const S: usize> Blocks<'a, N, D, S> {
    /// The first `n` blocks of all rows. Closures of functions with features would not become part of `map`.
    #[inline(always)]
    fn of<const T: usize>(x: &[Row8<'a>; T], n: usize) -> [Self; T] {
        x.map(|x| Self { q: &x.q.as_chunks().0[..n], d: &x.d.as_chunks().0[..n], sums: &x.sums.as_chunks().0[..n] })
    }
}

#[inline(always)]
fn first_of<B, const R: usize>(rows: [&[B]; R], n: usize) -> [&[B]; R] {
    rows.map(|row| &row[..n])
}

/// The first `n` groups of blocks.
#[inline(always)]
fn groups_of<B, const R: usize>(rows: [&[B]; R], n: usize) -> [&[[B; GROUP]]; R] {
    rows.map(|row| &row.as_chunks().0[..n])
}

/// The blocks of activations behind the first `n` groups, each with its scale and sums.
fn rest(x: Row8<'_>, n: usize) -> impl Iterator<Item = (&[i8; 32], f32, [i16; 2])> {
    let (q, sums) = (x.q.as_chunks().0, x.sums.as_chunks().0);
    let n = GROUP * n;
    q[n..].iter().zip(&x.d[n..]).zip(&sums[n..]).map(|((q, d), sums)| (q, *d, *sums))
}

/// Minus the offset of the weights times the sum of a block's activations, in the first lane.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn minus_offset(offset: i32, sums: [i16; 2]) -> __m256i {
    _mm256_zextsi128_si256(_mm_cvtsi32_si128(-offset * (i32::from(sums[0]) + i32::from(sums[1]))))
}

/// `acc + d * dot`, in the low half.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn add_scaled(acc: __m512, d: f32, dot: __m256i) -> __m512 {
    _mm512_fmadd_ps(_mm512_set1_ps(d), _mm512_cvtepi32_ps(_mm512_zextsi256_si512(dot)), acc)
}

/// The sums of the lanes of pairs of vectors.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn reduce<const R: usize, const T: usize>(acc: [[[__m512; 2]; T]; R]) -> [[f32; T]; R] {
    let mut out = [[0.0; T]; R];
    for (out, acc) in out.as_flattened_mut().iter_mut().zip(acc.as_flattened()) {
        *out = _mm512_reduce_add_ps(_mm512_add_ps(acc[0], acc[1]));
    }
    out
}

/// A block of 256 taken apart.
#[derive(Clone, Copy)]
struct Unpacked {
    /// Codes: four vectors in the format's order.
    w: [[__m512i; 2]; 2],
    /// Scales as [`scaled_products`] takes them.
    scales: [__m512i; 2],
    /// What the sums of activations are multiplied with, i16.
    by_sums: __m256i,
    d: f32,
    /// The factor of minimums.
    dmin: f32,
}

/// The activations of a block of 256 in a format's order, and their sums.
#[derive(Clone, Copy)]
struct Loaded {
    q: [[__m512i; 2]; 2],
    sums: __m256i,
}

/// The integer product of codes and activations.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn product(start: __m512i, w: &Unpacked, x: &Loaded) -> __m512 {
    let first = scaled_products(start, w.w[0], x.q[0], w.scales[0]);
    _mm512_cvtepi32_ps(scaled_products(first, w.w[1], x.q[1], w.scales[1]))
}

/// Adds the product with a block of eight minimums.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn add_with_minimum(acc: &mut [__m512; 2], w: &Unpacked, x: &Loaded, d: f32) {
    acc[0] = _mm512_fmadd_ps(_mm512_set1_ps(w.d * d), product(_mm512_setzero_si512(), w, x), acc[0]);
    let (mins, sums) = (_mm256_castsi256_si128(w.by_sums), _mm256_castsi256_si128(x.sums));
    let (min, old) = (_mm_cvtepi32_ps(_mm_madd_epi16(mins, sums)), _mm512_castps512_ps128(acc[1]));
    acc[1] = _mm512_zextps128_ps512(_mm_fnmadd_ps(_mm_set1_ps(w.dmin * d), min, old));
}

/// Adds the product with a block whose codes have an offset: `by_sums` are the scales of sixteens times it.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn add_without_offset(acc: &mut [__m512; 2], w: &Unpacked, x: &Loaded, d: f32) {
    let offset = _mm256_madd_epi16(w.by_sums, x.sums);
    let start = _mm512_zextsi256_si512(_mm256_sub_epi32(_mm256_setzero_si256(), offset));
    acc[0] = _mm512_fmadd_ps(_mm512_set1_ps(w.d * d), product(start, w, x), acc[0]);
}

/// Activations of sub-blocks of 32 as nibbles come apart, and sums of 32.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn load_by_64(q: &[i8; 256], sums: &[i16; 16]) -> Loaded {
    let (q, _) = q.as_chunks::<32>();
    let pair = |s: usize| join(load_256(&q[s]), load_256(&q[s + 2]));
    Loaded { q: [[pair(0), pair(1)], [pair(4), pair(5)]], sums: _mm256_zextsi128_si256(sums_of_32(sums)) }
}

/// Activations in their order, and sums of 16.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn load_plain(q: &[i8; 256], sums: &[i16; 16]) -> Loaded {
    let (q, _) = q.as_chunks::<64>();
    let q = [[load_512(&q[0]), load_512(&q[1])], [load_512(&q[2]), load_512(&q[3])]];
    Loaded { q, sums: load_256(sums) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn unpack_q4_k(b: &BlockQ4K) -> Unpacked {
    let mask = _mm512_set1_epi8(15);
    let (qs, _) = b.qs.as_chunks::<64>();
    let nibbles = |qs| [_mm512_and_si512(qs, mask), _mm512_and_si512(_mm512_srli_epi16::<4>(qs), mask)];
    let (scales, mins) = spread_scales(&b.scales);
    let w = [nibbles(load_512(&qs[0])), nibbles(load_512(&qs[1]))];
    Unpacked { w, scales, by_sums: mins, d: half(b.d), dmin: half(b.dmin) }
}

/// Scales and minimums of Q4_K and Q5_K as [`Unpacked`] has them.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn spread_scales(scales: &[u8; 12]) -> ([__m512i; 2], __m256i) {
    let scales = scales_then_mins(scales);
    let mins = _mm256_zextsi128_si256(_mm_cvtepu8_epi16(_mm_srli_si128::<8>(scales)));
    (spread(&Q4_K_LANES, _mm512_castsi128_si512(_mm_cvtepu8_epi16(scales))), mins)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn spread(lanes: &[[i16; 32]; 2], scales: __m512i) -> [__m512i; 2] {
    [_mm512_permutexvar_epi16(load_512(&lanes[0]), scales), _mm512_permutexvar_epi16(load_512(&lanes[1]), scales)]
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn unpack_q6_k(b: &BlockQ6K) -> Unpacked {
    let (low_mask, high_mask) = (_mm512_set1_epi8(15), _mm512_set1_epi8(0x30));
    // the upper two bits of j = 0, 1 go up to bits 4 and 5, those of j = 2, 3 stay and go down
    let up = join(_mm256_set1_epi16(4), _mm256_set1_epi16(2));
    let down = join(_mm256_set1_epi16(0), _mm256_set1_epi16(2));
    let codes = |h: usize| {
        let (ql, qh) = (load_512(&b.ql.as_chunks::<64>().0[h]), load_256(&b.qh.as_chunks::<32>().0[h]));
        let qh = _mm512_broadcast_i64x4(qh);
        let high = [_mm512_sllv_epi16(qh, up), _mm512_srlv_epi16(qh, down)];
        let high = [_mm512_and_si512(high[0], high_mask), _mm512_and_si512(high[1], high_mask)];
        // (ql & 15) | high in one operation
        [
            _mm512_ternarylogic_epi32::<0xea>(ql, low_mask, high[0]),
            _mm512_ternarylogic_epi32::<0xea>(_mm512_srli_epi16::<4>(ql), low_mask, high[1]),
        ]
    };
    let scales = _mm256_cvtepi8_epi16(load_128(&b.scales));
    Unpacked {
        w: [codes(0), codes(1)],
        scales: spread(&Q6_K_LANES, _mm512_castsi256_si512(scales)),
        by_sums: _mm256_slli_epi16::<5>(scales),
        d: half(b.d),
        dmin: 0.0,
    }
}

/// Quants of 16 values, and their sum.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn quantize_16(x: __m512, inverse: __m512, q: &mut [i8; SUM_LEN]) -> i16 {
    let wide = _mm512_cvtps_epi32(_mm512_mul_ps(x, inverse));
    store_128(_mm512_cvtepi32_epi8(wide), q);
    _mm512_reduce_add_epi32(wide) as i16
}

/// Magnitudes as integers, in whose order NaN is greatest.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn magnitude(x: __m512) -> __m512i {
    _mm512_castps_si512(_mm512_abs_ps(x))
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
pub(in crate::cpu::kernels) fn quantize_q8_0(x: &[f32], q: &mut [i8], d: &mut [f32], sums: &mut [i16]) {
    let x = x.as_chunks::<{ BlockQ8_0::LEN }>().0;
    let out = q.as_chunks_mut::<{ BlockQ8_0::LEN }>().0.iter_mut().zip(sums.as_chunks_mut::<2>().0);
    for ((x, d), (q, sums)) in x.iter().zip(d).zip(out) {
        let (x, _) = x.as_chunks::<16>();
        let x = [_mm512_castsi512_ps(load_512(&x[0])), _mm512_castsi512_ps(load_512(&x[1]))];
        let max = _mm512_max_epu32(magnitude(x[0]), magnitude(x[1]));
        let max = f32::from_bits(_mm512_reduce_max_epu32(max));
        *d = f16::from_f32(max / 127.0).to_f32();
        let inverse = _mm512_set1_ps(if max != 0.0 { 127.0 / max } else { 0.0 });
        for ((x, q), sum) in x.into_iter().zip(q.as_chunks_mut().0).zip(sums) {
            *sum = quantize_16(x, inverse, q);
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
pub(in crate::cpu::kernels) fn quantize_q8_k(x: &[f32], q: &mut [i8], d: &mut [f32], sums: &mut [i16]) {
    let x = x.as_chunks::<256>().0;
    let out = q.as_chunks_mut::<256>().0.iter_mut().zip(sums.as_chunks_mut::<16>().0);
    for ((x, d), (q, sums)) in x.iter().zip(d).zip(out) {
        let (parts, _) = x.as_chunks::<16>();
        let mut max = _mm512_setzero_si512();
        for x in parts {
            max = _mm512_max_epu32(max, magnitude(_mm512_castsi512_ps(load_512(x))));
        }
        let max = _mm512_set1_epi32(_mm512_reduce_max_epu32(max) as i32);
        let mut extreme = 0.0;
        for x in parts {
            let here = _mm512_cmpeq_epi32_mask(magnitude(_mm512_castsi512_ps(load_512(x))), max);
            if here != 0 {
                extreme = x[here.trailing_zeros() as usize];
                break;
            }
        }
        let inverse = if extreme != 0.0 { -127.0 / extreme } else { 0.0 };
        *d = if extreme != 0.0 { 1.0 / inverse } else { 0.0 };
        let inverse = _mm512_set1_ps(inverse);
        for ((x, q), sum) in parts.iter().zip(q.as_chunks_mut().0).zip(sums) {
            *sum = quantize_16(_mm512_castsi512_ps(load_512(x)), inverse, q);
        }
    }
}

/// Row products of the formats beside those that everybody uses.
pub(super) fn matvec_codes(ty: BlockType) -> Option<MatvecQ8> {
    Some(match ty {
        BlockType::Q5_0 => blocks_32::matvec_q5_0_q8_0,
        BlockType::Q5_1 => blocks_32::matvec_q5_1_q8_0,
        BlockType::Iq4Nl => blocks_32::matvec_iq4_nl_q8_0,
        BlockType::Mxfp4 => blocks_32::matvec_mxfp4_q8_0,
        BlockType::Q2K => blocks_256::matvec_q2_k_q8_k,
        BlockType::Q3K => blocks_256::matvec_q3_k_q8_k,
        BlockType::Q5K => blocks_256::matvec_q5_k_q8_k,
        BlockType::Iq4Xs => blocks_256::matvec_iq4_xs_q8_k,
        _ => return codebooks::matvec_codebook(ty),
    })
}

/// Products of some rows of activations at once.
pub(super) fn matvec_rows(ty: BlockType) -> Option<MatvecRowsQ8> {
    Some(match ty {
        BlockType::Q4_0 => blocks_32::matvec_rows_q4_0_q8_0,
        BlockType::Q4_1 => blocks_32::matvec_rows_q4_1_q8_0,
        BlockType::Q5_0 => blocks_32::matvec_rows_q5_0_q8_0,
        BlockType::Q5_1 => blocks_32::matvec_rows_q5_1_q8_0,
        BlockType::Q8_0 => matvec_rows_q8_0_q8_0,
        BlockType::Iq4Nl => blocks_32::matvec_rows_iq4_nl_q8_0,
        BlockType::Mxfp4 => blocks_32::matvec_rows_mxfp4_q8_0,
        BlockType::Q2K => blocks_256::matvec_rows_q2_k_q8_k,
        BlockType::Q3K => blocks_256::matvec_rows_q3_k_q8_k,
        BlockType::Q4K => matvec_rows_q4_k_q8_k,
        BlockType::Q5K => blocks_256::matvec_rows_q5_k_q8_k,
        BlockType::Q6K => matvec_rows_q6_k_q8_k,
        BlockType::Iq4Xs => blocks_256::matvec_rows_iq4_xs_q8_k,
        _ => return None,
    })
}
