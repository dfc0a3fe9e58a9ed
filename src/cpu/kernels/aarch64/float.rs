//! NEON: the primitives of [`float_kernels`], and its kernels. A vector is two registers, so that each
//! step has two independent chains.

use super::super::float::float_kernels;
use super::prefetch;
use bytemuck::Pod;
use std::arch::aarch64::*;

const LANES: usize = 8;

/// Eight numbers.
type V = float32x4x2_t;

float_kernels!("neon");

/// Defines functions that work lane by lane.
macro_rules! lane_by_lane {
    ($($name:ident($($x:ident),*) = $value:expr;)*) => {$(
        #[inline]
        #[target_feature(enable = "neon")]
        fn $name($($x: V),*) -> V {
            let part = |$($x: float32x4_t),*| $value;
            float32x4x2_t(part($($x.0),*), part($($x.1),*))
        }
    )*};
}

lane_by_lane! {
    add(a, b) = vaddq_f32(a, b);
    sub(a, b) = vsubq_f32(a, b);
    mul(a, b) = vmulq_f32(a, b);
    div(a, b) = vdivq_f32(a, b);
    xor(a, b) = vreinterpretq_f32_u32(veorq_u32(vreinterpretq_u32_f32(a), vreinterpretq_u32_f32(b)));
    // a comparison with NaN is false
    min(a, b) = vbslq_f32(vcltq_f32(a, b), a, b);
    max(a, b) = vbslq_f32(vcgtq_f32(a, b), a, b);
    fmadd(a, b, c) = vfmaq_f32(c, a, b);
    fnmadd(a, b, c) = vfmsq_f32(c, a, b);
}

#[inline]
#[target_feature(enable = "neon")]
fn zero() -> V {
    set1(0.0)
}

#[inline]
#[target_feature(enable = "neon")]
fn set1(x: f32) -> V {
    float32x4x2_t(vdupq_n_f32(x), vdupq_n_f32(x))
}

#[inline]
#[target_feature(enable = "neon")]
fn load<T: Pod, const N: usize>(x: &[T; N]) -> V {
    let [a, b] = super::load_2(x);
    float32x4x2_t(vreinterpretq_f32_u8(a), vreinterpretq_f32_u8(b))
}

#[inline]
#[target_feature(enable = "neon")]
fn load_f16<T: Pod, const N: usize>(x: &[T; N]) -> V {
    let x = vreinterpretq_f16_u8(super::load(x));
    float32x4x2_t(vcvt_f32_f16(vget_low_f16(x)), vcvt_high_f32_f16(x))
}

#[inline]
#[target_feature(enable = "neon")]
fn load_bf16(x: &[u8; 2 * LANES]) -> V {
    let x = vreinterpretq_u16_u8(super::load(x));
    let wide = |x: uint16x4_t| vreinterpretq_f32_u32(vshll_n_u16::<16>(x));
    float32x4x2_t(wide(vget_low_u16(x)), wide(vget_high_u16(x)))
}

#[inline]
#[target_feature(enable = "neon")]
fn store(v: V, to: &mut [f32; LANES]) {
    let (to, _) = to.as_chunks_mut::<4>();
    super::store_f32(v.0, &mut to[0]);
    super::store_f32(v.1, &mut to[1]);
}

#[inline]
#[target_feature(enable = "neon")]
fn store_f16(v: V, to: &mut [f16; LANES]) {
    let v = vcombine_f16(vcvt_f16_f32(v.0), vcvt_f16_f32(v.1));
    super::store(vreinterpretq_u8_f16(v), to);
}

#[inline]
#[target_feature(enable = "neon")]
fn sum(v: V) -> f32 {
    vaddvq_f32(vaddq_f32(v.0, v.1))
}

#[inline]
#[target_feature(enable = "neon")]
fn greatest(v: V) -> f32 {
    vmaxnmvq_f32(vmaxnmq_f32(v.0, v.1))
}

#[inline]
#[target_feature(enable = "neon")]
fn round(x: V) -> (V, int32x4x2_t) {
    let (a, b) = (vcvtnq_s32_f32(x.0), vcvtnq_s32_f32(x.1));
    (float32x4x2_t(vcvtq_f32_s32(a), vcvtq_f32_s32(b)), int32x4x2_t(a, b))
}

#[inline]
#[target_feature(enable = "neon")]
fn scale(x: V, n: int32x4x2_t) -> V {
    float32x4x2_t(scale_part(x.0, n.0), scale_part(x.1, n.1))
}

/// In two steps: 2^n alone leaves the range of normal numbers at both ends.
#[inline]
#[target_feature(enable = "neon")]
fn scale_part(x: float32x4_t, n: int32x4_t) -> float32x4_t {
    let n_first = vshrq_n_s32::<1>(n);
    vmulq_f32(vmulq_f32(x, power_of_two(n_first)), power_of_two(vsubq_s32(n, n_first)))
}

/// `2^n` for n in -126..=127.
#[inline]
#[target_feature(enable = "neon")]
fn power_of_two(n: int32x4_t) -> float32x4_t {
    vreinterpretq_f32_s32(vshlq_n_s32::<23>(vaddq_s32(n, vdupq_n_s32(127))))
}
