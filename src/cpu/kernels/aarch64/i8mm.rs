//! `smmla`: the products of two rows and two columns of eight bytes in one instruction. Its intrinsics are
//! not stable in Rust.
#![allow(clippy::needless_range_loop)] // tokens and vectors are lanes of several arrays

use super::super::panel::{PANEL_COLS, Panel};
use super::super::{ActivationKind, SUM_LEN};
use super::panel::panel_kernels;
use super::peak::peak_kernels;
use super::{dotprod, load, load_2, load_f32};
use std::arch::aarch64::*;
use std::arch::asm;

panel_kernels!("neon,dotprod,i8mm");
peak_kernels!("neon,dotprod,i8mm", |acc, a, b| add_matrix_products(acc, a, b));

/// `acc[2 i + j] += sum_k a[8 i + k] * b[8 j + k]`.
#[inline]
#[target_feature(enable = "neon,dotprod,i8mm")]
fn add_matrix_products(mut acc: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: an instruction on registers, of the features of this function.
    unsafe {
        asm!("smmla {acc:v}.4s, {a:v}.16b, {b:v}.16b", acc = inout(vreg) acc, a = in(vreg) a, b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags));
    }
    acc
}

/// `start` and the products of sub-block `s`, for `T` tokens and four vectors of rows: two tokens and two
/// rows at a time, a token alone by `sdot`.
///
/// # Safety
/// `x` points at a block of 256 elements of `T` tokens, and the panel has that sub-block.
#[inline]
#[target_feature(enable = "neon,dotprod,i8mm")]
unsafe fn dots<const T: usize, const SUB: usize, const HIGH: bool>(
    panel: &Panel,
    half: usize,
    x: &Tokens,
    s: usize,
    start: [i32; T],
) -> [[int32x4_t; 4]; T] {
    if T % 2 == 1 {
        // SAFETY: the caller's promise.
        return unsafe { dotprod::dots::<T, SUB, HIGH>(panel, half, x, s, start) };
    }
    let half = half.min(1);
    // of the tokens 2p and 2p + 1 and the rows 2i and 2i + 1 of vector v at [2p + i][v]
    let mut acc = [[vdupq_n_s32(0); 4]; T];
    for (acc, start) in acc.as_chunks_mut::<2>().0.iter_mut().zip(start.as_chunks::<2>().0) {
        let start = vreinterpretq_s32_s64(vdupq_n_s64(bytemuck::cast(*start)));
        *acc = [[start; 4]; 2];
    }
    for first in (s * (SUB / 4)..(s + 1) * (SUB / 4)).step_by(4) {
        let mut q = [[vdupq_n_s8(0); 2]; T];
        for p in 0..T / 2 {
            // SAFETY: the caller's promise.
            let two = unsafe { [vld1q_s8(x.q(2 * p).add(4 * first)), vld1q_s8(x.q(2 * p + 1).add(4 * first))] };
            let two = two.map(|q| vreinterpretq_s64_s8(q));
            q[p] = [vzip1q_s64(two[0], two[1]), vzip2q_s64(two[0], two[1])].map(|q| vreinterpretq_s8_s64(q));
        }
        for pair in 0..2 {
            // SAFETY: the caller's promise.
            let w = unsafe { [panel.q.get_unchecked(first + 2 * pair), panel.q.get_unchecked(first + 2 * pair + 1)] };
            for v in 0..4 {
                let words = w.map(|w| {
                    let w = load(&w.as_chunks::<16>().0[4 * half + v]);
                    vreinterpretq_u32_u8(if HIGH { veorq_u8(w, vdupq_n_u8(0x80)) } else { w })
                });
                let rows = [vzip1q_u32(words[0], words[1]), vzip2q_u32(words[0], words[1])];
                let rows = rows.map(|rows| vreinterpretq_s8_u32(rows));
                for p in 0..T / 2 {
                    for i in 0..2 {
                        acc[2 * p + i][v] = add_matrix_products(acc[2 * p + i][v], rows[i], q[p][pair]);
                    }
                }
            }
        }
    }
    for acc in acc.as_chunks_mut::<2>().0 {
        for v in 0..4 {
            let (rows_01, rows_23) = (acc[0][v], acc[1][v]);
            (acc[0][v], acc[1][v]) = (vuzp1q_s32(rows_01, rows_23), vuzp2q_s32(rows_01, rows_23));
        }
    }
    acc
}
