//! The instruction sets of x86-64, and what their kernels share: loads and stores whose bounds the
//! type system proves, prefetch, and the order of scales.
#![allow(unsafe_code)] // loads, stores and prefetch

mod amx;
mod avx2;
mod avx512;
mod avxvnni;
mod blocks;
mod codebooks;
mod panel;
mod peak;
mod rows;

use super::KernelSet;
use super::codes::Coded;
use bytemuck::Pod;
use std::arch::x86_64::*;
use tealight_quant::blocks::iq::{BlockIq4Nl, BlockIq4Xs};
use tealight_quant::blocks::mx::BlockMxfp4;
use tealight_quant::grids::{FP4_DOUBLED, IQ4_VALUES};

/// Every set of this machine, best first.
pub(super) fn available() -> Vec<KernelSet> {
    let mut sets = Vec::new();
    let has_avx2 =
        is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
    let has_avx512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vnni");
    if has_avx2 && has_avx512 {
        if amx::is_available() {
            sets.push(AMX);
        }
        sets.push(AVX512);
    }
    if has_avx2 && is_x86_feature_detected!("avxvnni") {
        sets.push(AVX_VNNI);
    }
    if has_avx2 {
        sets.push(AVX2);
    }
    sets
}

const AVX2: KernelSet = KernelSet {
    name: "avx2",
    matvec_f32: avx2::float::matvec_f32_f32,
    matvec_f16: avx2::float::matvec_f16_f32,
    matvec_bf16: avx2::float::matvec_bf16_f32,
    matvec_blocks: avx2::float::matvec_blocks,
    matvec_q4_0: avx2::blocks::matvec_q4_0_q8_0,
    matvec_q4_1: avx2::blocks::matvec_q4_1_q8_0,
    matvec_q8_0: avx2::blocks::matvec_q8_0_q8_0,
    matvec_q4_k: avx2::blocks::matvec_q4_k_q8_k,
    matvec_q6_k: avx2::blocks::matvec_q6_k_q8_k,
    quantize_q8_0: avx2::quantize_q8_0,
    quantize_q8_k: avx2::quantize_q8_k,
    dot_f32: avx2::float::dot_f32,
    axpy_f32: avx2::float::axpy_f32,
    scale_f32: avx2::float::scale_f32,
    f32_to_f16: avx2::float::f32_to_f16,
    max_f32: avx2::float::max_f32,
    exp_sum: avx2::float::exp_sum,
    silu_mul: avx2::float::silu_mul,
    gelu_mul: avx2::float::gelu_mul,
    matvec_codes: avx2::matvec_codes,
    matvec_rows: |_| None,
    attention: avx2::attention::ATTENTION,
    panels: avx2::panel::PANELS,
    peak: peak::avx2,
};

const AVX_VNNI: KernelSet = KernelSet {
    name: "avxvnni",
    matvec_q4_0: avxvnni::blocks::matvec_q4_0_q8_0,
    matvec_q4_1: avxvnni::blocks::matvec_q4_1_q8_0,
    matvec_q8_0: avxvnni::blocks::matvec_q8_0_q8_0,
    matvec_q4_k: avxvnni::blocks::matvec_q4_k_q8_k,
    matvec_q6_k: avxvnni::blocks::matvec_q6_k_q8_k,
    matvec_codes: avxvnni::matvec_codes,
    panels: avxvnni::panel::PANELS,
    peak: peak::avxvnni,
    ..AVX2
};

const AMX: KernelSet = KernelSet { name: "amx", panels: amx::panel::PANELS, ..AVX512 };

const AVX512: KernelSet = KernelSet {
    name: "avx512",
    matvec_f32: avx512::float::matvec_f32_f32,
    matvec_f16: avx512::float::matvec_f16_f32,
    matvec_bf16: avx512::float::matvec_bf16_f32,
    matvec_blocks: avx512::float::matvec_blocks_or_avx2,
    matvec_q4_0: avx512::blocks_32::matvec_q4_0_q8_0,
    matvec_q4_1: avx512::blocks_32::matvec_q4_1_q8_0,
    matvec_q8_0: avx512::matvec_q8_0_q8_0,
    matvec_q4_k: avx512::matvec_q4_k_q8_k,
    matvec_q6_k: avx512::matvec_q6_k_q8_k,
    quantize_q8_0: avx512::quantize_q8_0,
    quantize_q8_k: avx512::quantize_q8_k,
    dot_f32: avx512::float::dot_f32,
    axpy_f32: avx512::float::axpy_f32,
    scale_f32: avx512::float::scale_f32,
    f32_to_f16: avx512::float::f32_to_f16,
    max_f32: avx512::float::max_f32,
    exp_sum: avx512::float::exp_sum,
    silu_mul: avx512::float::silu_mul,
    gelu_mul: avx512::float::gelu_mul,
    matvec_codes: avx512::matvec_codes,
    matvec_rows: avx512::matvec_rows,
    attention: avx512::attention::ATTENTION,
    panels: avx512::panel::PANELS,
    peak: peak::avx512,
};

/// A table of values as codes.
const fn shifted(values: &[i8; 16], offset: u8) -> [u8; 16] {
    let mut codes = [0; 16];
    let mut i = 0;
    while i < 16 {
        codes[i] = (values[i] as u8).wrapping_add(offset);
        i += 1;
    }
    codes
}

static IQ4_CODES: [u8; 16] = shifted(&IQ4_VALUES, <BlockIq4Nl as Coded<32>>::OFFSET);
static FP4_CODES: [u8; 16] = shifted(&FP4_DOUBLED, <BlockMxfp4 as Coded<32>>::OFFSET);

/// Bytes ahead that a row product prefetches into L1, and into L2. The far one crosses page borders
/// before the hardware does; chosen by measurement from 0.5 to 16 KiB, flat around these values.
const NEAR: usize = 1024;
const FAR: usize = 8192;

/// Prefetches what lies [`NEAR`] and [`FAR`] behind the `n_bytes` from `at`, a constant of the caller.
#[inline(always)]
fn prefetch<T>(at: &T, n_bytes: usize) {
    let at = std::ptr::from_ref(at).cast::<i8>();
    for line in (0..n_bytes).step_by(64) {
        // SAFETY: a prefetch of any address is a hint that cannot fault.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(NEAR + line)) };
        // SAFETY: as above.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(at.wrapping_add(FAR + line)) };
    }
}

/// Prefetches what follows a row's columns in memory: its next ones, as many lines.
#[inline(always)]
fn prefetch_next(row: &[u8]) {
    for line in (0..row.len() + 63).step_by(64) {
        // SAFETY: a prefetch of any address is a hint that cannot fault.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(row.as_ptr().wrapping_add(row.len() + line).cast()) };
    }
}

/// Prefetches bytes that are read soon.
fn prefetch_bytes(bytes: &[u8]) {
    for line in bytes.chunks(64) {
        // SAFETY: a prefetch of any address is a hint that cannot fault.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
    }
}

#[inline]
#[target_feature(enable = "avx")]
fn load_128<T: Pod, const N: usize>(x: &[T; N]) -> __m128i {
    const { assert!(size_of::<[T; N]>() == 16) };
    // SAFETY: the array has 16 bytes, of any alignment.
    unsafe { _mm_loadu_si128(x.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx")]
fn load_256<T: Pod, const N: usize>(x: &[T; N]) -> __m256i {
    const { assert!(size_of::<[T; N]>() == 32) };
    // SAFETY: the array has 32 bytes, of any alignment.
    unsafe { _mm256_loadu_si256(x.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_512<T: Pod, const N: usize>(x: &[T; N]) -> __m512i {
    const { assert!(size_of::<[T; N]>() == 64) };
    // SAFETY: the array has 64 bytes, of any alignment.
    unsafe { _mm512_loadu_si512(x.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx")]
fn store_128<T: Pod, const N: usize>(v: __m128i, to: &mut [T; N]) {
    const { assert!(size_of::<[T; N]>() == 16) };
    // SAFETY: the array has 16 bytes, of any alignment.
    unsafe { _mm_storeu_si128(to.as_mut_ptr().cast(), v) }
}

#[inline]
#[target_feature(enable = "avx")]
fn store_256<T: Pod, const N: usize>(v: __m256i, to: &mut [T; N]) {
    const { assert!(size_of::<[T; N]>() == 32) };
    // SAFETY: the array has 32 bytes, of any alignment.
    unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), v) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store_512<T: Pod, const N: usize>(v: __m512i, to: &mut [T; N]) {
    const { assert!(size_of::<[T; N]>() == 64) };
    // SAFETY: the array has 64 bytes, of any alignment.
    unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), v) }
}

/// A half as f32.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn half(d: [u8; 2]) -> f32 {
    _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(u16::from_le_bytes(d)))))
}

/// Four halves as f32.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn four_halves(d: [[u8; 2]; 4]) -> __m128 {
    _mm_cvtph_ps(_mm_cvtsi64_si128(i64::from_le_bytes(bytemuck::cast(d))))
}

/// The 12 bytes of scales of Q4_K as 16 bytes: eight scales, eight minimums. In general registers, as
/// the vector ports are what limits these kernels.
#[inline]
#[target_feature(enable = "avx2")]
fn scales_then_mins(s: &[u8; 12]) -> __m128i {
    let word = |i: usize| u32::from_le_bytes([s[i], s[i + 1], s[i + 2], s[i + 3]]);
    let (a, b, c) = (word(0), word(4), word(8));
    let scales = (a & 0x3f3f_3f3f, (c & 0x0f0f_0f0f) | ((a >> 2) & 0x3030_3030));
    let mins = (b & 0x3f3f_3f3f, ((c >> 4) & 0x0f0f_0f0f) | ((b >> 2) & 0x3030_3030));
    let join = |(low, high): (u32, u32)| (u64::from(high) << 32 | u64::from(low)) as i64;
    _mm_set_epi64x(join(mins), join(scales))
}

/// The sixteen signed scales of Q3_K, in bytes; as `BlockQ3K::scale`.
#[inline]
#[target_feature(enable = "avx2")]
fn sixteen_scales(s: &[u8; 12]) -> __m128i {
    let word = |i: usize| u32::from_le_bytes([s[i], s[i + 1], s[i + 2], s[i + 3]]);
    let (a, b, c) = (word(0), word(4), word(8));
    let four = |low: u32, high: u32| ((low & 0x0f0f_0f0f) | (high & 0x0303_0303) << 4) as i32;
    let scales = _mm_set_epi32(four(b >> 4, c >> 6), four(a >> 4, c >> 4), four(b, c >> 2), four(a, c));
    _mm_sub_epi8(scales, _mm_set1_epi8(32))
}

/// The eight signed scales of IQ4_XS.
#[inline]
#[target_feature(enable = "avx2")]
fn eight_scales(b: &BlockIq4Xs) -> __m256i {
    let low = _mm256_set1_epi32(i32::from_le_bytes(b.scales_l));
    let low = _mm256_srlv_epi32(low, _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28));
    let high = _mm256_set1_epi32(i32::from(u16::from_le_bytes(b.scales_h)));
    let high = _mm256_srlv_epi32(high, _mm256_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14));
    let low = _mm256_and_si256(low, _mm256_set1_epi32(15));
    let high = _mm256_slli_epi32::<4>(_mm256_and_si256(high, _mm256_set1_epi32(3)));
    _mm256_sub_epi32(_mm256_or_si256(low, high), _mm256_set1_epi32(32))
}

/// Eight sums of 32 quants from sixteen of 16; at most 32 * 127 in magnitude.
#[inline]
#[target_feature(enable = "avx2")]
fn sums_of_32(sums: &[i16; 16]) -> __m128i {
    let sums = load_256(sums);
    _mm_hadd_epi16(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums))
}

#[inline]
#[target_feature(enable = "avx")]
fn sum_128(v: __m128) -> f32 {
    let v = _mm_add_ps(v, _mm_movehl_ps(v, v));
    _mm_cvtss_f32(_mm_add_ss(v, _mm_movehdup_ps(v)))
}

#[inline]
#[target_feature(enable = "avx")]
fn sum_256(v: __m256) -> f32 {
    sum_128(_mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v)))
}

#[cfg(test)]
mod tests {
    /// A kernel may use no feature that `available` does not detect.
    #[test]
    fn kernels_use_the_features_that_are_detected() {
        let detection = include_str!("x86_64.rs");
        let avx2 = "avx2,fma,f16c";
        let avxvnni = "avx2,fma,f16c,avxvnni";
        let avx512 = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c";
        for (text, features) in [
            (include_str!("x86_64/avx2.rs"), avx2),
            (include_str!("x86_64/avx2/attention.rs"), avx2),
            (include_str!("x86_64/avx2/blocks.rs"), avx2),
            (include_str!("x86_64/avx2/codebooks.rs"), avx2),
            (include_str!("x86_64/avx2/float.rs"), avx2),
            (include_str!("x86_64/avx2/panel.rs"), avx2),
            (include_str!("x86_64/avx2/unpack.rs"), avx2),
            (include_str!("x86_64/avxvnni.rs"), avxvnni),
            (include_str!("x86_64/avxvnni/blocks.rs"), avxvnni),
            (include_str!("x86_64/avxvnni/codebooks.rs"), avxvnni),
            (include_str!("x86_64/avxvnni/panel.rs"), avxvnni),
            (include_str!("x86_64/amx/panel.rs"), avx512),
            (include_str!("x86_64/amx/whole.rs"), avx512),
            (include_str!("x86_64/avx512.rs"), avx512),
            (include_str!("x86_64/avx512/attention.rs"), avx512),
            (include_str!("x86_64/avx512/blocks_256.rs"), avx512),
            (include_str!("x86_64/avx512/blocks_32.rs"), avx512),
            (include_str!("x86_64/avx512/codebooks.rs"), avx512),
            (include_str!("x86_64/avx512/panel.rs"), avx512),
            (include_str!("x86_64/avx512/unpack.rs"), avx512),
            (include_str!("x86_64/avx512/float.rs"), avx512),
            // what is not a macro's is called by every set
            (include_str!("x86_64/blocks.rs"), avx2),
            (include_str!("x86_64/codebooks.rs"), avx2),
            (include_str!("x86_64/panel.rs"), avx2),
            (include_str!("x86_64/rows.rs"), avx2),
            (include_str!("x86_64/codebooks/rows.rs"), avx2),
            (include_str!("float.rs"), avx2),
        ] {
            let mut n = 0;
            for start in
                ["target_feature(enable = ", "float_kernels!(", "codebook_rows!(", "block_rows!(", "panel_tiles!("]
            {
                for part in text.split(start).skip(1) {
                    assert!(part.starts_with("$features)") || part.split('"').nth(1) == Some(features));
                    n += 1;
                }
            }
            assert!(n > 0);
        }
        for feature in avx512.split(',').chain(avxvnni.split(',')) {
            assert!(detection.contains(&format!("is_x86_feature_detected!(\"{feature}\")")), "{feature}");
        }
    }
}
