//! Formats of one or two bits with one scale a block: Q1_0, Q2_0, TQ1_0, TQ2_0. Source:
//! `quantize_row_*_ref` of ggml's `ggml-quants.c`.

use super::dispatch::Quantizer;
use super::lanes::Lanes;
use super::rows::{Rows, greatest_magnitude};
use crate::blocks::legacy::{BlockQ1_0, BlockQ2_0};
use crate::blocks::tq::{BlockTq1_0, BlockTq2_0};
use bytemuck::{Pod, Zeroable};
use half::f16;

/// Quantizes blocks of `N` numbers one after the other.
#[inline(always)]
fn blocks<B: Pod, const N: usize>(rows: &Rows<'_>, out: &mut [u8], block: impl Fn(&[f32; N]) -> B) {
    for (x, out) in rows.x.as_chunks().0.iter().zip(out.chunks_exact_mut(size_of::<B>())) {
        *bytemuck::from_bytes_mut(out) = block(x);
    }
}

/// Levels 0, 1 and 2 for -d, 0 and d, d being the greatest magnitude.
#[inline(always)]
fn ternary<const N: usize>(x: &[f32; N]) -> (f16, [u8; N]) {
    let d = greatest_magnitude(x);
    let inverse = Lanes([d]).inverse().0[0];
    let levels = (Lanes(*x) * Lanes::splat(inverse)).rounded_away() + Lanes::splat(1.0);
    (f16::from_f32(d), levels.level(0.0, 3.0).bytes())
}

pub(super) struct Q1_0;

impl Quantizer for Q1_0 {
    #[inline(always)]
    fn run(rows: &Rows<'_>, out: &mut [u8]) {
        blocks(rows, out, |x: &[f32; 128]| {
            let sum = x.iter().fold(0.0, |sum, x| sum + x.abs());
            let mut qs = [0; 16];
            for (out, x) in qs.iter_mut().zip(x.as_chunks::<8>().0) {
                *out = x.iter().enumerate().fold(0, |bits, (i, &x)| bits | u8::from(x >= 0.0) << i);
            }
            BlockQ1_0 { d: f16::from_f32(sum / 128.0).to_le_bytes(), qs }
        });
    }
}

pub(super) struct Q2_0;

impl Quantizer for Q2_0 {
    #[inline(always)]
    fn run(rows: &Rows<'_>, out: &mut [u8]) {
        blocks(rows, out, |x: &[f32; 64]| {
            let (d, levels) = ternary(x);
            let mut qs = [0; 16];
            for (out, q) in qs.iter_mut().zip(levels.as_chunks::<4>().0) {
                *out = q[0] | q[1] << 2 | q[2] << 4 | q[3] << 6;
            }
            BlockQ2_0 { d: d.to_le_bytes(), qs }
        });
    }
}

pub(super) struct Tq2_0;

impl Quantizer for Tq2_0 {
    #[inline(always)]
    fn run(rows: &Rows<'_>, out: &mut [u8]) {
        blocks(rows, out, |x: &[f32; 256]| {
            let (d, levels) = ternary(x);
            let mut qs = [0; 64];
            for (out, levels) in qs.as_chunks_mut::<32>().0.iter_mut().zip(levels.as_chunks::<128>().0) {
                for (l, out) in out.iter_mut().enumerate() {
                    *out = levels[l] | levels[l + 32] << 2 | levels[l + 64] << 4 | levels[l + 96] << 6;
                }
            }
            BlockTq2_0 { qs, d: d.to_le_bytes() }
        });
    }
}

pub(super) struct Tq1_0;

impl Quantizer for Tq1_0 {
    #[inline(always)]
    fn run(rows: &Rows<'_>, out: &mut [u8]) {
        blocks(rows, out, |x: &[f32; 256]| {
            let (d, levels) = ternary(x);
            let mut block = BlockTq1_0 { d: d.to_le_bytes(), ..BlockTq1_0::zeroed() };
            let (first, rest) = block.qs.split_at_mut(32);
            for (out, levels) in [(first, &levels[..160]), (rest, &levels[160..240]), (&mut block.qh, &levels[240..])] {
                digits(levels, out);
            }
            block
        });
    }
}

/// Digit n of byte b is level `n * bytes + b`; digits are in base 3, most significant first, and a
/// byte is the fraction that they make, of 256, rounded up.
#[inline(always)]
fn digits(levels: &[u8], out: &mut [u8]) {
    let n = out.len();
    for (b, out) in out.iter_mut().enumerate() {
        let digit = |i: usize| u32::from(levels.get(i * n + b).copied().unwrap_or(0));
        let value = (0..5).fold(0, |value, i| value * 3 + digit(i));
        *out = (value * 256).div_ceil(243) as u8;
    }
}
