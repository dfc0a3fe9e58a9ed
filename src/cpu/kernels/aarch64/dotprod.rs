//! `sdot`: four products of bytes added to each lane. Its intrinsics are not stable in Rust.

use super::super::panel::Panel;
use super::panel::{dots_by_row, panel_kernels};
use super::peak::peak_kernels;
use super::rows::row_kernels;
use std::arch::aarch64::*;
use std::arch::asm;

row_kernels!("neon,dotprod");
panel_kernels!("neon,dotprod");
dots_by_row!("neon,dotprod");
peak_kernels!("neon,dotprod", |acc, a, b| add_products(acc, a, b));

/// Adds the products of sixteen bytes to four lanes.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn add_products(mut acc: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: an instruction on registers, of the features of this function.
    unsafe {
        asm!("sdot {acc:v}.4s, {a:v}.16b, {b:v}.16b", acc = inout(vreg) acc, a = in(vreg) a, b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags));
    }
    acc
}

/// Adds to each of four lanes the products of its four bytes of `w` with those of word `WORD` of `q`.
#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(super) fn add_row_products<const WORD: i32>(mut acc: int32x4_t, w: int8x16_t, q: int8x16_t) -> int32x4_t {
    // SAFETY: as above.
    unsafe {
        asm!("sdot {acc:v}.4s, {w:v}.16b, {q:v}.4b[{word}]", acc = inout(vreg) acc, w = in(vreg) w, q = in(vreg) q,
            word = const WORD, options(pure, nomem, nostack, preserves_flags));
    }
    acc
}
