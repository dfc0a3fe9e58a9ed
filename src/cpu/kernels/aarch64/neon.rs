//! What every aarch64 CPU has: products of bytes in i16, added in pairs to i32.

use super::super::panel::Panel;
use super::panel::{dots_by_row, panel_kernels};
use super::peak::peak_kernels;
use super::rows::row_kernels;
use std::arch::aarch64::*;

row_kernels!("neon");
panel_kernels!("neon");
dots_by_row!("neon");
peak_kernels!("neon", |acc, a, _| add_products(acc, a, vreinterpretq_s8_s32(acc)));

/// Adds the products of sixteen bytes to four lanes. Two products fit i16 as long as one factor of each is
/// not -128.
#[inline]
#[target_feature(enable = "neon")]
fn add_products(acc: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    let products = vmull_s8(vget_low_s8(a), vget_low_s8(b));
    vpadalq_s16(acc, vmlal_high_s8(products, a, b))
}

/// Adds to each of four lanes the products of its four bytes of `w` with those of word `WORD` of `q`.
#[inline]
#[target_feature(enable = "neon")]
fn add_row_products<const WORD: i32>(acc: int32x4_t, w: int8x16_t, q: int8x16_t) -> int32x4_t {
    let q = vreinterpretq_s8_s32(vdupq_laneq_s32::<WORD>(vreinterpretq_s32_s8(q)));
    let pairs = vpaddq_s16(vmull_s8(vget_low_s8(w), vget_low_s8(q)), vmull_high_s8(w, q));
    vpadalq_s16(acc, pairs)
}
