//! Row products of the codebook and ternary formats, said once for every way to add products of bytes, in
//! vectors of 256 bits: what limits them is taking blocks apart, not the width of sums.

pub(super) mod rows;

use super::{load_128, load_256, store_128, store_256};
use bytemuck::Pod;
use std::arch::asm;
use std::arch::x86_64::*;
use tealight_quant::blocks::iq::{BlockIq1M, BlockIq1S, BlockIq2S, BlockIq2Xs, BlockIq2Xxs, BlockIq3S};
use tealight_quant::blocks::mx::half_e4m3;
use tealight_quant::grids::IQ1_GRID;

/// Eight times the entries of IQ1's codebook, plus eight: codes of 0, 8 and 16.
pub(super) static IQ1_EIGHTHS: [[i8; 8]; 2048] = {
    let mut codes = [[0; 8]; 2048];
    let mut i = 0;
    while i < 8 * 2048 {
        codes[i / 8][i % 8] = 8 * (IQ1_GRID[i / 8][i % 8] + 1);
        i += 1;
    }
    codes
};

/// The scales of NVFP4, halved, by their byte.
pub(super) static E4M3: [f32; 256] = {
    let mut scales = [0.0; 256];
    let mut byte = 0;
    while byte < 256 {
        scales[byte] = half_e4m3(byte as u8);
        byte += 1;
    }
    scales
};

/// Shuffles that put scale i of each half into all of its lanes of 16 bits.
static LANES: [[u8; 32]; 8] = {
    let mut lanes = [[0; 32]; 8];
    let mut i = 0;
    while i < 256 {
        lanes[i / 32][i % 32] = (i / 32 * 2 + i % 2) as u8;
        i += 1;
    }
    lanes
};

/// The scales of the elements 32 i and up, of scales of 16 elements each: those of even places in the low half,
/// those of odd ones in the high half.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn scales_of(scales: __m256i, i: usize) -> __m256i {
    _mm256_shuffle_epi8(scales, load_256(&LANES[i]))
}

/// Scales, eight in each half, in order of their places.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn in_order(scales: __m256i) -> __m256i {
    let (even, odd) = (_mm256_castsi256_si128(scales), _mm256_extracti128_si256::<1>(scales));
    _mm256_set_m128i(_mm_unpackhi_epi16(even, odd), _mm_unpacklo_epi16(even, odd))
}

/// The index after `i`, which the compiler does not know: it would unroll loops over groups, take vectors of indices
/// apart instead of reading them from memory, and load all entries before it used the first.
#[inline(always)]
pub(super) fn next(i: usize) -> usize {
    let mut next = i + 1;
    // SAFETY: no instruction.
    unsafe { asm!("/* {0} */", inout(reg) next, options(pure, nomem, nostack, preserves_flags)) };
    next
}

/// What belongs to each of eight groups.
#[inline(always)]
pub(super) fn by_group<T, const N: usize, const M: usize>(all: &[T; M]) -> &[[T; N]; 8] {
    const { assert!(8 * N == M) };
    all.as_chunks().0.first_chunk().expect("eight groups")
}

/// The indices of a group of IQ2_XXS.
#[inline(always)]
pub(super) fn first_four(group: &[u8; 8]) -> &[u8; 4] {
    group.first_chunk().expect("eight bytes")
}

/// Entry `$i` in every place of a vector, by a load alone. The compiler would make vectors of entries by shuffles,
/// for which these kernels have no port left; what is broadcast is joined on any port.
macro_rules! broadcast {
    ($load:literal, $grid:expr, $i:expr) => {{
        let v: __m256i;
        // SAFETY: an entry of the codebook, as the caller promises.
        unsafe {
            asm!($load, v = lateout(ymm_reg) v, grid = in(reg) $grid.as_ptr(), i = in(reg) $i,
                options(pure, readonly, nostack, preserves_flags));
        }
        v
    }};
}

/// A vector from four entries of eight.
///
/// # Safety
/// The codebook has these entries.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn entries_of_8<I: Copy + Into<usize>, const N: usize>(grid: &[[i8; 8]; N], i: &[I; 4]) -> __m256i {
    let entry = |k: usize| {
        let i: usize = i[k].into();
        broadcast!("vpbroadcastq {v}, qword ptr [{grid} + 8*{i}]", grid, i)
    };
    let low = _mm256_blend_epi32::<0b0000_1100>(entry(0), entry(1));
    let high = _mm256_blend_epi32::<0b1100_0000>(entry(2), entry(3));
    _mm256_blend_epi32::<0b1111_0000>(low, high)
}

/// A vector from eight entries of four.
///
/// # Safety
/// The codebook has these entries.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn entries_of_4<I: Copy + Into<usize>, const N: usize>(grid: &[[i8; 4]; N], i: &[I; 8]) -> __m256i {
    let entry = |k: usize| {
        let i: usize = i[k].into();
        broadcast!("vpbroadcastd {v}, dword ptr [{grid} + 4*{i}]", grid, i)
    };
    let a = _mm256_blend_epi32::<0b0000_0010>(entry(0), entry(1));
    let b = _mm256_blend_epi32::<0b0000_1000>(entry(2), entry(3));
    let c = _mm256_blend_epi32::<0b0010_0000>(entry(4), entry(5));
    let d = _mm256_blend_epi32::<0b1000_0000>(entry(6), entry(7));
    _mm256_blend_epi32::<0xf0>(_mm256_blend_epi32::<0b0000_1100>(a, b), _mm256_blend_epi32::<0b1100_0000>(c, d))
}

/// The signs of 32 runs by their codes of 7 bits, a byte each: the eighth makes their number even.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn even_signs(codes: __m256i) -> [u32; 8] {
    let parity = _mm_setr_epi8(0, -128, -128, 0, -128, 0, 0, -128, -128, 0, 0, -128, 0, -128, -128, 0);
    let (parity, nibble) = (_mm256_broadcastsi128_si256(parity), _mm256_set1_epi8(15));
    let low = _mm256_shuffle_epi8(parity, _mm256_and_si256(codes, nibble));
    let high = _mm256_shuffle_epi8(parity, _mm256_and_si256(_mm256_srli_epi16::<4>(codes), nibble));
    let mut signs = [0; 8];
    store_256(_mm256_xor_si256(codes, _mm256_xor_si256(low, high)), &mut signs);
    signs
}

/// The signs of eight groups, from words with four codes of 7 bits.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn word_signs(words: __m256i) -> [u32; 8] {
    let code = |shifted, at: u32| _mm256_and_si256(shifted, _mm256_set1_epi32(0x7f << at));
    let low = _mm256_or_si256(code(words, 0), code(_mm256_slli_epi32::<1>(words), 8));
    let high = _mm256_or_si256(code(_mm256_slli_epi32::<2>(words), 16), code(_mm256_slli_epi32::<3>(words), 24));
    even_signs(_mm256_or_si256(low, high))
}

/// 2 s + 1 of numbers of 16 bits.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn odd_numbers(s: __m256i) -> __m256i {
    _mm256_add_epi16(_mm256_add_epi16(s, s), _mm256_set1_epi16(1))
}

/// 2 s + 1 of eight numbers s below 16, a scale for 32 elements each.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn odd_scales(s: __m256i) -> __m256i {
    odd_numbers(_mm256_permute4x64_epi64::<0b10_00_10_00>(_mm256_packs_epi32(s, s)))
}

/// The scales of eight groups, from the highest four bits of words.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn word_scales(words: __m256i) -> __m256i {
    odd_scales(_mm256_srli_epi32::<28>(words))
}

/// The words of IQ2_XXS.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn iq2_xxs_words(b: &BlockIq2Xxs) -> __m256i {
    let (groups, _) = b.qs.as_chunks::<4>();
    let (low, high) = (_mm256_castsi256_ps(load_256(&groups[0])), _mm256_castsi256_ps(load_256(&groups[1])));
    // the odd words of both, which go by lanes of 128 bits
    _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_castps_si256(_mm256_shuffle_ps::<0b11_01_11_01>(low, high)))
}

/// The 9-bit indices of IQ2_XS.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn iq2_xs_indices(b: &BlockIq2Xs) -> [u16; 32] {
    let mut out = [0; 32];
    for (out, runs) in out.as_chunks_mut::<16>().0.iter_mut().zip(b.qs.as_chunks::<16>().0) {
        store_256(_mm256_and_si256(load_256(runs), _mm256_set1_epi16(511)), out);
    }
    out
}

/// The signs of IQ2_XS.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn iq2_xs_signs(b: &BlockIq2Xs) -> [u32; 8] {
    let (runs, _) = b.qs.as_chunks::<16>();
    let codes = |i: usize| _mm256_srli_epi16::<9>(load_256(&runs[i]));
    even_signs(_mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi16(codes(0), codes(1))))
}

/// The scales of IQ2_XS and IQ2_S: nibbles s mean 2 s + 1 here.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn iq2_scales(nibbles: &[u8; 8]) -> __m256i {
    let both = _mm_cvtepu8_epi16(_mm_cvtsi64_si128(i64::from_le_bytes(*nibbles)));
    odd_numbers(_mm256_set_m128i(_mm_srli_epi16::<4>(both), _mm_and_si128(both, _mm_set1_epi16(15))))
}

/// Sixteen bytes, each below the bits of `high` that `mask` has.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn indices(low: &[u8; 16], high: __m256i, mask: i16, out: &mut [u16; 16]) {
    let high = _mm256_and_si256(high, _mm256_set1_epi16(mask));
    store_256(_mm256_or_si256(_mm256_cvtepu8_epi16(load_128(low)), high), out);
}

/// The 10-bit indices of IQ2_S.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn iq2_s_indices(b: &BlockIq2S) -> [u16; 32] {
    let mut out = [0; 32];
    // each byte of `qh` serves four runs, two bits each, which go up to bits 8 and 9
    let up = _mm256_set1_epi64x(0x0004_0010_0040_0100);
    let qh = _mm256_set1_epi64x(i64::from_le_bytes(b.qh));
    let four = |i: i64| -0x7fff_7fff_7fff_8000 + i * 0x0001_0001_0001_0001;
    for (i, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let at = 4 * i as i64;
        let places = _mm256_setr_epi64x(four(at), four(at + 1), four(at + 2), four(at + 3));
        let high = _mm256_mullo_epi16(_mm256_shuffle_epi8(qh, places), up);
        indices(&b.qs.as_chunks().0[i], high, 0x300, out);
    }
    out
}

/// The 9-bit indices of IQ3_S.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn iq3_s_indices(b: &BlockIq3S) -> [u16; 64] {
    let mut out = [0; 64];
    // each byte of `qh` serves eight entries, a bit each, which goes up to bit 8
    let up = _mm256_broadcastsi128_si256(_mm_setr_epi16(256, 128, 64, 32, 16, 8, 4, 2));
    let bytes = b.qh.as_chunks::<2>().0;
    for (i, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let two = |i: usize| _mm_set1_epi16(i16::from(bytes[i / 2][i % 2]));
        let high = _mm256_mullo_epi16(_mm256_set_m128i(two(2 * i + 1), two(2 * i)), up);
        indices(&b.qs.as_chunks().0[i], high, 0x100, out);
    }
    out
}

/// The scales of IQ3_S, by nibbles.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn iq3_s_scales(b: &BlockIq3S) -> __m256i {
    let nibbles = _mm256_set1_epi32(i32::from_le_bytes(b.scales));
    let nibbles = _mm256_srlv_epi32(nibbles, _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28));
    odd_scales(_mm256_and_si256(nibbles, _mm256_set1_epi32(15)))
}

/// The 11-bit indices of IQ1_S.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn iq1_s_indices(b: &BlockIq1S) -> [u16; 32] {
    let mut out = [0; 32];
    // each word of `qh` serves four runs, three bits each, which go to bits 8 to 10: those of the fourth down
    let up = _mm256_set1_epi64x(0x0000_0004_0020_0100);
    let twice =
        _mm256_setr_epi64x(0x0100_0100_0100_0100, 0x0302_0302_0302_0302, 0x0504_0504_0504_0504, 0x0706_0706_0706_0706);
    for (i, (out, qh)) in out.as_chunks_mut::<16>().0.iter_mut().zip(b.qh.as_chunks::<4>().0).enumerate() {
        let qh = _mm256_shuffle_epi8(_mm256_set1_epi64x(i64::from_le_bytes(bytemuck::cast(*qh))), twice);
        let high = _mm256_blend_epi16::<0x88>(_mm256_mullo_epi16(qh, up), _mm256_srli_epi16::<1>(qh));
        indices(&b.qs.as_chunks().0[i], high, 0x700, out);
    }
    out
}

/// The scales of IQ1_S, and what an offset of 8 and the shift of the entries, in eighths, make of the sums of
/// activations: each scale times -9 or -7, for two sums of 16.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn iq1_s_scales(b: &BlockIq1S) -> (__m256i, __m256i) {
    let qh = load_128(&b.qh);
    let scales = _mm_and_si128(_mm_srli_epi16::<12>(qh), _mm_set1_epi16(7));
    let scales = _mm_add_epi16(_mm_add_epi16(scales, scales), _mm_set1_epi16(1));
    let negative = _mm_srai_epi16::<15>(qh);
    let shifts = _mm_mullo_epi16(scales, _mm_add_epi16(_mm_add_epi16(negative, negative), _mm_set1_epi16(-7)));
    let shifts = _mm256_set_m128i(_mm_unpackhi_epi16(shifts, shifts), _mm_unpacklo_epi16(shifts, shifts));
    (_mm256_broadcastsi128_si256(scales), shifts)
}

/// The 11-bit indices of IQ1_M, and for each run one more than the sign of its shift: 0 or 2.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn iq1_m_indices(b: &BlockIq1M) -> ([u16; 32], [[u8; 4]; 8]) {
    let nibbles = _mm256_cvtepu8_epi16(load_128(&b.qh));
    let nibbles = _mm256_and_si256(_mm256_or_si256(nibbles, _mm256_slli_epi16::<4>(nibbles)), _mm256_set1_epi8(15));
    let (high, low) = (_mm256_and_si256(nibbles, _mm256_set1_epi8(7)), load_256(&b.qs));
    let pairs = [_mm256_unpacklo_epi8(low, high), _mm256_unpackhi_epi8(low, high)];
    let mut out = [0; 32];
    let (parts, _) = out.as_chunks_mut::<8>();
    store_128(_mm256_castsi256_si128(pairs[0]), &mut parts[0]);
    store_128(_mm256_castsi256_si128(pairs[1]), &mut parts[1]);
    store_128(_mm256_extracti128_si256::<1>(pairs[0]), &mut parts[2]);
    store_128(_mm256_extracti128_si256::<1>(pairs[1]), &mut parts[3]);
    let is_negative = _mm256_cmpgt_epi8(nibbles, _mm256_set1_epi8(7));
    let mut shifts = [[0; 4]; 8];
    store_256(_mm256_andnot_si256(is_negative, _mm256_set1_epi8(2)), &mut shifts);
    (out, shifts)
}

/// Each of four bytes eight times.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn eight_times(bytes: [u8; 4]) -> __m256i {
    let places = _mm256_setr_epi64x(0, 0x0101_0101_0101_0101, 0x0202_0202_0202_0202, 0x0303_0303_0303_0303);
    _mm256_shuffle_epi8(_mm256_set1_epi32(i32::from_le_bytes(bytes)), places)
}

/// The scales of IQ1_M, and they in order of their places: three bits s mean 2 s + 1.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn iq1_m_scales(b: &BlockIq1M) -> (__m256i, __m256i) {
    let words = _mm256_set1_epi64x(i64::from_le_bytes(bytemuck::cast(b.scales)));
    let places = _mm_setr_epi8(0, 1, 0, 1, 2, 3, 2, 3, 4, 5, 4, 5, 6, 7, 6, 7);
    let words = _mm256_shuffle_epi8(words, _mm256_broadcastsi128_si256(places));
    // from bits 0 and 6 for even places, 3 and 9 for odd ones; one more, as a shift is a product's high half
    let down = |even: i32, odd: i32| (1 << (15 - odd)) << 16 | 1 << (15 - even);
    let (even, odd) = (_mm_set1_epi32(down(0, 6)), _mm_set1_epi32(down(3, 9)));
    // the compiler would make shifts again, by way of vectors of 512 bits
    let factors = opaque(_mm256_set_m128i(odd, even));
    let scales = _mm256_mulhi_epu16(_mm256_add_epi16(words, words), factors);
    let scales = odd_numbers(_mm256_and_si256(scales, _mm256_set1_epi16(7)));
    (scales, in_order(scales))
}

/// Four planes of two bits of 32 bytes.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn two_bits(qs: __m256i) -> [__m256i; 4] {
    let planes = [qs, _mm256_srli_epi16::<2>(qs), _mm256_srli_epi16::<4>(qs), _mm256_srli_epi16::<6>(qs)];
    planes.map(|plane| _mm256_and_si256(plane, _mm256_set1_epi8(3)))
}

/// A vector of which the compiler knows nothing.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn opaque(mut v: __m256i) -> __m256i {
    // SAFETY: no instruction.
    unsafe { asm!("/* {0} */", inout(ymm_reg) v, options(pure, nomem, nostack, preserves_flags)) };
    v
}

/// Three times each byte, modulo 256; of several times three the compiler would make products, which are slow.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn triple(x: __m256i) -> __m256i {
    opaque(_mm256_add_epi8(_mm256_add_epi8(x, x), x))
}

/// The digit in base 3 of each byte, which is a fraction of 256 plus a half: the whole part of 3 x / 256. The half
/// makes comparisons signed, and stays where it is when a byte is tripled.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn ternary_digits(x: __m256i) -> __m256i {
    // 85 and 170, less a half
    let (is_one, is_two) = (_mm256_cmpgt_epi8(x, _mm256_set1_epi8(-43)), _mm256_cmpgt_epi8(x, _mm256_set1_epi8(42)));
    _mm256_sub_epi8(_mm256_sub_epi8(_mm256_setzero_si256(), is_one), is_two)
}

/// Four bytes times 1, 3, 9 and 27, modulo 256.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn times_powers_of_three(bytes: [u8; 4]) -> __m128i {
    let bytes = _mm_set1_epi32(i32::from_le_bytes(bytes));
    let powers = _mm_setr_epi16(1, 1, 3, 3, 9, 9, 27, 27);
    let even = _mm_and_si128(_mm_mullo_epi16(bytes, powers), _mm_set1_epi16(0xff));
    _mm_or_si128(even, _mm_slli_epi16::<8>(_mm_mullo_epi16(_mm_srli_epi16::<8>(bytes), powers)))
}

/// Two vectors of 16 bytes.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn both<T: Pod>(low: &[T; 16], high: &[T; 16]) -> __m256i {
    _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(load_128(low)), load_128(high))
}

/// Elements 4 i + j of two blocks of 64, by j.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn by_4(q: &[i8; 128]) -> [__m256i; 4] {
    let (q, _) = q.as_chunks::<16>();
    let fours = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    let part = |i: usize| _mm256_shuffle_epi8(both(&q[i], &q[4 + i]), fours);
    let (a, b, c, d) = (part(0), part(1), part(2), part(3));
    let low = [_mm256_unpacklo_epi32(a, b), _mm256_unpacklo_epi32(c, d)];
    let high = [_mm256_unpackhi_epi32(a, b), _mm256_unpackhi_epi32(c, d)];
    [
        _mm256_unpacklo_epi64(low[0], low[1]),
        _mm256_unpackhi_epi64(low[0], low[1]),
        _mm256_unpacklo_epi64(high[0], high[1]),
        _mm256_unpackhi_epi64(high[0], high[1]),
    ]
}

/// Elements 8 i + j of two blocks of 128, by j.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn by_8(q: &[i8; 256]) -> [__m256i; 8] {
    let (q, _) = q.as_chunks::<16>();
    let pairs = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15));
    let mut from = [_mm256_setzero_si256(); 8];
    for (i, part) in from.iter_mut().enumerate() {
        *part = _mm256_shuffle_epi8(both(&q[i], &q[8 + i]), pairs);
    }
    // vectors of 2 consecutive elements for all j become 4 for four j, 8 for two j, 16 for one
    let mut to = from;
    for i in 0..4 {
        to[i] = _mm256_unpacklo_epi16(from[2 * i], from[2 * i + 1]);
        to[4 + i] = _mm256_unpackhi_epi16(from[2 * i], from[2 * i + 1]);
    }
    for i in 0..2 {
        for h in 0..2 {
            from[4 * h + i] = _mm256_unpacklo_epi32(to[4 * h + 2 * i], to[4 * h + 2 * i + 1]);
            from[4 * h + 2 + i] = _mm256_unpackhi_epi32(to[4 * h + 2 * i], to[4 * h + 2 * i + 1]);
        }
    }
    for h in 0..4 {
        to[2 * h] = _mm256_unpacklo_epi64(from[2 * h], from[2 * h + 1]);
        to[2 * h + 1] = _mm256_unpackhi_epi64(from[2 * h], from[2 * h + 1]);
    }
    to
}
