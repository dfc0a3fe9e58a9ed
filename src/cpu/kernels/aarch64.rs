//! The instruction sets of aarch64, and what their kernels share: loads and stores whose bounds the
//! type system proves, prefetch, and the order of scales.
//!
//! `neon` is what every such CPU has; `dotprod` adds sums of four products of bytes (`sdot`), `i8mm`
//! products of small matrices of bytes (`smmla`) on top of that.
#![allow(unsafe_code)] // loads, stores, prefetch, and instructions that have no stable intrinsic

mod dotprod;
mod float;
mod i8mm;
mod neon;
mod numbers;
mod panel;
mod peak;
mod quantize;
mod rows;
mod unpack;

use super::KernelSet;
use bytemuck::Pod;
use std::arch::aarch64::*;
use std::arch::{asm, is_aarch64_feature_detected};

/// Every set of this machine, best first.
pub(super) fn available() -> Vec<KernelSet> {
    let mut sets = Vec::new();
    let has_neon = is_aarch64_feature_detected!("neon");
    let has_dotprod = has_neon && is_aarch64_feature_detected!("dotprod");
    if has_dotprod && is_aarch64_feature_detected!("i8mm") {
        sets.push(I8MM);
    }
    if has_dotprod {
        sets.push(DOTPROD);
    }
    if has_neon {
        sets.push(NEON);
    }
    sets
}

const NEON: KernelSet = KernelSet {
    name: "neon",
    matvec_f32: float::matvec_f32_f32,
    matvec_f16: float::matvec_f16_f32,
    matvec_bf16: float::matvec_bf16_f32,
    matvec_blocks: float::matvec_blocks,
    matvec_q4_0: neon::matvec_q4_0_q8_0,
    matvec_q4_1: neon::matvec_q4_1_q8_0,
    matvec_q8_0: neon::matvec_q8_0_q8_0,
    matvec_q4_k: neon::matvec_q4_k_q8_k,
    matvec_q6_k: neon::matvec_q6_k_q8_k,
    matvec_codes: neon::matvec_codes,
    matvec_rows: |_| None,
    quantize_q8_0: quantize::quantize_q8_0,
    quantize_q8_k: quantize::quantize_q8_k,
    dot_f32: float::dot_f32,
    axpy_f32: float::axpy_f32,
    scale_f32: float::scale_f32,
    f32_to_f16: float::f32_to_f16,
    max_f32: float::max_f32,
    exp_sum: float::exp_sum,
    silu_mul: float::silu_mul,
    gelu_mul: float::gelu_mul,
    attention: super::scalar::attention::ATTENTION,
    panels: neon::PANELS,
    peak: peak::neon,
};

const DOTPROD: KernelSet = KernelSet {
    name: "dotprod",
    matvec_q4_0: dotprod::matvec_q4_0_q8_0,
    matvec_q4_1: dotprod::matvec_q4_1_q8_0,
    matvec_q8_0: dotprod::matvec_q8_0_q8_0,
    matvec_q4_k: dotprod::matvec_q4_k_q8_k,
    matvec_q6_k: dotprod::matvec_q6_k_q8_k,
    matvec_codes: dotprod::matvec_codes,
    panels: dotprod::PANELS,
    peak: peak::dotprod,
    ..NEON
};

/// Row products wait for memory, not for products: they stay those of `dotprod`.
const I8MM: KernelSet = KernelSet { name: "i8mm", panels: i8mm::PANELS, peak: peak::i8mm, ..DOTPROD };

/// Bytes ahead that a row product prefetches into L1, and into L2.
const NEAR: usize = 1024;
const FAR: usize = 8192;

/// Prefetches what lies [`NEAR`] and [`FAR`] behind the `n_bytes` from `at`, a constant of the caller.
#[inline(always)]
fn prefetch<T>(at: &T, n_bytes: usize) {
    let at = std::ptr::from_ref(at).cast::<u8>();
    for line in (0..n_bytes).step_by(64) {
        let (near, far) = (at.wrapping_add(NEAR + line), at.wrapping_add(FAR + line));
        // SAFETY: a prefetch of any address is a hint that cannot fault.
        unsafe {
            asm!("prfm pldl1keep, [{near}]", "prfm pldl2keep, [{far}]", near = in(reg) near, far = in(reg) far,
                options(nostack, preserves_flags, readonly));
        }
    }
}

/// Prefetches what follows a row's columns in memory: its next ones, as many lines.
#[inline(always)]
fn prefetch_next(row: &[u8]) {
    for line in (0..row.len() + 63).step_by(64) {
        let at = row.as_ptr().wrapping_add(row.len() + line);
        // SAFETY: a prefetch of any address is a hint that cannot fault.
        unsafe { asm!("prfm pldl1keep, [{at}]", at = in(reg) at, options(nostack, preserves_flags, readonly)) };
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn load<T: Pod, const N: usize>(x: &[T; N]) -> uint8x16_t {
    const { assert!(size_of::<[T; N]>() == 16) };
    // SAFETY: the array has 16 bytes, of any alignment.
    unsafe { vld1q_u8(x.as_ptr().cast()) }
}

/// Both vectors of 32 bytes.
#[inline]
#[target_feature(enable = "neon")]
fn load_2<T: Pod, const N: usize>(x: &[T; N]) -> [uint8x16_t; 2] {
    const { assert!(size_of::<[T; N]>() == 32) };
    let at: *const u8 = x.as_ptr().cast();
    // SAFETY: the array has 32 bytes, of any alignment.
    unsafe { [vld1q_u8(at), vld1q_u8(at.wrapping_add(16))] }
}

/// The same as signed bytes.
#[inline]
#[target_feature(enable = "neon")]
fn load_signed<const N: usize>(x: &[i8; N]) -> [int8x16_t; 2] {
    load_2(x).map(|x| vreinterpretq_s8_u8(x))
}

#[inline]
#[target_feature(enable = "neon")]
fn load_f32(x: &[f32; 4]) -> float32x4_t {
    // SAFETY: the array is a vector's.
    unsafe { vld1q_f32(x.as_ptr()) }
}

#[inline]
#[target_feature(enable = "neon")]
fn store<T: Pod, const N: usize>(v: uint8x16_t, to: &mut [T; N]) {
    const { assert!(size_of::<[T; N]>() == 16) };
    // SAFETY: the array has 16 bytes, of any alignment.
    unsafe { vst1q_u8(to.as_mut_ptr().cast(), v) }
}

#[inline]
#[target_feature(enable = "neon")]
fn store_f32(v: float32x4_t, to: &mut [f32; 4]) {
    // SAFETY: the array is a vector's.
    unsafe { vst1q_f32(to.as_mut_ptr(), v) }
}

/// A half as f32.
#[inline]
#[target_feature(enable = "neon")]
fn half(d: [u8; 2]) -> f32 {
    vgetq_lane_f32::<0>(vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(u16::from_le_bytes(d)))))
}

/// The 12 bytes of scales of Q4_K and Q5_K as eight scales and eight minimums; in general registers, as
/// they are otherwise idle.
#[inline(always)]
fn scales_and_mins(s: &[u8; 12]) -> ([u8; 8], [u8; 8]) {
    let word = |i: usize| u32::from_le_bytes([s[i], s[i + 1], s[i + 2], s[i + 3]]);
    let (a, b, c) = (word(0), word(4), word(8));
    let scales = (a & 0x3f3f_3f3f, (c & 0x0f0f_0f0f) | ((a >> 2) & 0x3030_3030));
    let mins = (b & 0x3f3f_3f3f, ((c >> 4) & 0x0f0f_0f0f) | ((b >> 2) & 0x3030_3030));
    let join = |(low, high): (u32, u32)| (u64::from(high) << 32 | u64::from(low)).to_le_bytes();
    (join(scales), join(mins))
}

/// The sixteen signed scales of Q3_K; as `BlockQ3K::scale`.
#[inline(always)]
fn sixteen_scales(s: &[u8; 12]) -> [i8; 16] {
    let word = |i: usize| u32::from_le_bytes([s[i], s[i + 1], s[i + 2], s[i + 3]]);
    let (a, b, c) = (word(0), word(4), word(8));
    // bytes below 64, which borrow nothing from each other with the highest bit set
    let four = |low: u32, high: u32| {
        let scales = (low & 0x0f0f_0f0f) | (high & 0x0303_0303) << 4;
        (((scales | 0x8080_8080) - 0x2020_2020) ^ 0x8080_8080).to_le_bytes().map(|s| s as i8)
    };
    bytemuck::cast([four(a, c), four(b, c >> 2), four(a >> 4, c >> 4), four(b >> 4, c >> 6)])
}

/// The eight signed scales of IQ4_XS.
#[inline(always)]
fn eight_scales(low: [u8; 4], high: [u8; 2]) -> [i32; 8] {
    let (low, high) = (u32::from_le_bytes(low), u32::from(u16::from_le_bytes(high)));
    std::array::from_fn(|s| (low >> (4 * s) & 15 | (high >> (2 * s) & 3) << 4) as i32 - 32)
}

#[cfg(test)]
mod tests {
    /// A kernel may use no feature that `available` does not detect.
    #[test]
    fn kernels_use_the_features_that_are_detected() {
        let detection = include_str!("aarch64.rs");
        let (neon, dotprod, i8mm) = ("neon", "neon,dotprod", "neon,dotprod,i8mm");
        for (text, features) in [
            (include_str!("aarch64/float.rs"), neon),
            (include_str!("aarch64/quantize.rs"), neon),
            (include_str!("aarch64/unpack.rs"), neon),
            (include_str!("aarch64/numbers.rs"), neon),
            (include_str!("aarch64/neon.rs"), neon),
            (include_str!("aarch64/dotprod.rs"), dotprod),
            (include_str!("aarch64/i8mm.rs"), i8mm),
        ] {
            let mut n = 0;
            for start in ["target_feature(enable = ", "_kernels!(", "dots_by_row!("] {
                for part in text.split(start).skip(1) {
                    assert_eq!(part.split('"').nth(1), Some(features));
                    n += 1;
                }
            }
            assert!(n > 2);
        }
        for shared in [include_str!("float.rs"), include_str!("aarch64/rows.rs"), include_str!("aarch64/panel.rs")] {
            assert!(shared.split("target_feature(enable = ").skip(1).all(|part| part.starts_with("$features)")));
        }
        for feature in i8mm.split(',') {
            assert!(detection.contains(&format!("is_aarch64_feature_detected!(\"{feature}\")")), "{feature}");
        }
    }

    #[test]
    fn scales_are_those_of_the_formats() {
        use tealight_quant::blocks::k::{BlockQ3K, scales_and_mins};
        let mut state = 1u64;
        for _ in 0..1000 {
            let bytes: [u8; 12] = std::array::from_fn(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            });
            assert_eq!(super::scales_and_mins(&bytes), scales_and_mins(&bytes));
            let block = BlockQ3K { scales: bytes, ..bytemuck::Zeroable::zeroed() };
            assert_eq!(super::sixteen_scales(&bytes), std::array::from_fn(|k| block.scale(k)));
        }
    }
}
