//! IQ1_S and IQ1_M. Source: `iq1_s_process_1block` and `quantize_row_iq1_*_impl` of ggml's
//! `ggml-quants.c`.
//!
//! Elements become -1, 0 or 1, shifted by an eighth up or down, times a scale. The best split of a
//! sorted group in three is found by trying all; then runs must be entries of the codebook.

use super::codebook::{self, Codebook, Target};
use super::dispatch::Quantizer;
use super::lanes::Lanes;
use super::rows::{Rows, greatest_magnitude, sum_of_squares};
use crate::blocks::iq::{BlockIq1M, BlockIq1S};
use half::f16;

/// Elements of a block.
const N: usize = 256;
/// How far levels are shifted.
const SHIFT: f32 = 0.125;

/// What the levels 0, 1 and 2 stand for under a shift.
#[inline(always)]
fn values(shift: f32) -> [f32; 3] {
    [-1.0 + shift, shift, 1.0 + shift]
}

/// A group of at most 32 elements, quantized.
#[derive(Clone, Copy)]
struct Group {
    scale: f32,
    /// Which shifts of its halves are negative: bit 0 the first, bit 1 the second.
    negative: usize,
    /// Entries of its runs of 8.
    entries: [u16; 4],
}

impl Group {
    const ZERO: Self = Self { scale: 0.0, negative: 0, entries: [0; 4] };

    /// What its levels stand for in half `h`.
    #[inline(always)]
    fn values(&self, h: usize) -> [f32; 3] {
        values(if self.negative >> h & 1 == 1 { -SHIFT } else { SHIFT })
    }
}

/// The order of elements, ascending.
#[inline(always)]
fn sorted<const G: usize>(x: &[f32; G]) -> [usize; G] {
    let mut order: [usize; G] = std::array::from_fn(|i| i);
    // Stable, and an order of any bits: values that compare equal, zeros of both signs, keep their places.
    order.sort_by(|&a, &b| x[a].partial_cmp(&x[b]).unwrap_or_else(|| x[a].is_nan().cmp(&x[b].is_nan())));
    order
}

/// The best split of a sorted group so far.
struct Split {
    best: f32,
    scale: f32,
    /// Elements of level 0, and of level 0 or 1.
    ends: (usize, usize),
    negative: usize,
}

impl Split {
    const NONE: Self = Self { best: f32::MIN, scale: 0.0, ends: (0, 0), negative: 0 };

    #[inline(always)]
    fn offer(&mut self, p: f32, r: f32, ends: (usize, usize), negative: usize) {
        if r > 0.0 && p * p > self.best * r {
            let scale = p / r;
            *self = Self { best: scale * p, scale, ends, negative };
        }
    }

    /// The levels of the elements in their own order, and the group without entries. A negative scale
    /// is turned round.
    #[inline(always)]
    fn levels<const G: usize>(&self, order: &[usize; G], all: usize) -> ([u8; G], Group) {
        let mut levels = [0; G];
        for (place, &i) in order.iter().enumerate() {
            levels[i] = u8::from(place >= self.ends.0) + u8::from(place >= self.ends.1);
        }
        if self.scale < 0.0 {
            let group = Group { scale: -self.scale, negative: all - self.negative, entries: [0; 4] };
            return (levels.map(|l| 2 - l), group);
        }
        (levels, Group { scale: self.scale, negative: self.negative, entries: [0; 4] })
    }
}

/// Makes runs entries of the codebook. `half_len`: elements under one shift.
#[inline(always)]
fn snap<const G: usize>(
    book: &Codebook<8>,
    x: &[f32; G],
    w: &[f32; G],
    mut levels: [u8; G],
    group: &mut Group,
    half_len: usize,
) {
    let mut any_snapped = false;
    let runs = x.as_chunks::<8>().0.iter().zip(w.as_chunks::<8>().0).zip(levels.as_chunks_mut::<8>().0);
    for (run, ((x, w), levels)) in runs.enumerate() {
        let lowest = group.values(run * 8 / half_len)[0];
        let choice = book.choose(levels, &Target { x, w, scale: group.scale, lowest, step: 1.0 });
        group.entries[run] = choice.entry;
        *levels = *book.levels(choice.entry);
        any_snapped |= choice.snapped;
    }
    if !any_snapped {
        return;
    }
    let (mut p, mut r) = (0.0, 0.0);
    for (i, (&x, &w)) in x.iter().zip(w).enumerate() {
        let value = group.values(i / half_len)[usize::from(levels[i])];
        p += (w * value) * x;
        r += (w * value) * value;
    }
    if p > 0.0 && r > 0.0 {
        group.scale = p / r;
    }
}

/// The level of a group's scale, 0..=7.
#[inline(always)]
fn scale_level(inverse: f32, scale: f32) -> u8 {
    Lanes([0.5 * (inverse * scale - 1.0)]).level(0.0, 7.0).bytes()[0]
}

/// The weights of a group's elements with importance `q`.
#[inline(always)]
fn weights<const G: usize>(q: &[f32], sigma2: f32, x: &[f32; G]) -> [f32; G] {
    std::array::from_fn(|i| q[i] * (sigma2 + x[i] * x[i]).sqrt())
}

#[inline(always)]
fn group_of_32(book: &Codebook<8>, x: &[f32; 32], w: &[f32; 32]) -> Group {
    if greatest_magnitude(x) < 1e-12 {
        return Group::ZERO;
    }
    let order = sorted(x);
    let (mut sum_x, mut sum_w) = ([0.0; 33], [0.0; 33]);
    for (j, &i) in order.iter().enumerate() {
        sum_x[j + 1] = sum_x[j] + w[i] * x[i];
        sum_w[j + 1] = sum_w[j] + w[i];
    }
    let mut split = Split::NONE;
    for i1 in 0..=32 {
        for i2 in i1..=32 {
            for (negative, shift) in [(0, SHIFT), (3, -SHIFT)] {
                let [v0, v1, v2] = values(shift);
                let x = [sum_x[i1] - sum_x[0], sum_x[i2] - sum_x[i1], sum_x[32] - sum_x[i2]];
                let w = [sum_w[i1] - sum_w[0], sum_w[i2] - sum_w[i1], sum_w[32] - sum_w[i2]];
                let p = x[0] * v0 + x[1] * v1 + x[2] * v2;
                let r = w[0] * v0 * v0 + w[1] * v1 * v1 + w[2] * v2 * v2;
                split.offer(p, r, (i1, i2), negative);
            }
        }
    }
    let (levels, mut group) = split.levels(&order, 3);
    snap(book, x, w, levels, &mut group, 16);
    group
}

pub(super) struct Iq1S;

impl Quantizer for Iq1S {
    #[inline(always)]
    fn run(rows: &Rows<'_>, out: &mut [u8]) {
        let book = codebook::iq1();
        out.fill(0);
        let blocks = rows.x.as_chunks::<N>().0.iter().zip(out.chunks_exact_mut(size_of::<BlockIq1S>()));
        for (i, (x, out)) in blocks.enumerate() {
            let sigma2 = 2.0 * sum_of_squares(x) / N as f32;
            let importance = rows.importance_at(i * N, N).unwrap_or(&[1.0; N]);
            let mut groups = [Group::ZERO; 8];
            for (g, (x, group)) in x.as_chunks::<32>().0.iter().zip(&mut groups).enumerate() {
                *group = group_of_32(book, x, &weights(&importance[32 * g..], sigma2, x));
            }
            let max = groups.iter().fold(0.0, |max, g| if g.scale > max { g.scale } else { max });
            if max == 0.0 {
                continue;
            }
            let d = max / 15.0;
            let inverse = 1.0 / d;
            let block: &mut BlockIq1S = bytemuck::from_bytes_mut(out);
            block.d = f16::from_f32(d * 1.125).to_le_bytes();
            for (g, group) in groups.iter().enumerate() {
                let level = scale_level(inverse, group.scale) | u8::from(group.negative != 0) << 3;
                let high = (0..4).fold(0, |bits, r| bits | (group.entries[r] >> 8) << (3 * r));
                block.qs.as_chunks_mut::<4>().0[g] = group.entries.map(|e| e as u8);
                block.qh[g] = (high | u16::from(level) << 12).to_le_bytes();
            }
        }
    }
}

#[inline(always)]
fn group_of_16(book: &Codebook<8>, x: &[f32; 16], w: &[f32; 16]) -> Group {
    if greatest_magnitude(x) < 1e-7 {
        return Group::ZERO;
    }
    let order = sorted(x);
    // By half: sums up to a place of the order.
    let (mut sum_x, mut sum_w) = ([[0.0; 17]; 2], [[0.0; 17]; 2]);
    for (j, &i) in order.iter().enumerate() {
        for h in 0..2 {
            let (wx, w) = if i / 8 == h { (w[i] * x[i], w[i]) } else { (0.0, 0.0) };
            sum_x[h][j + 1] = sum_x[h][j] + wx;
            sum_w[h][j + 1] = sum_w[h][j] + w;
        }
    }
    let mut split = Split::NONE;
    for i1 in 0..=16 {
        for i2 in i1..=16 {
            // P and R of a half under a shift.
            let sums = |h: usize, shift: f32| {
                let [v0, v1, v2] = values(shift);
                let p = sum_x[h][16] * v2 - (sum_x[h][i1] + sum_x[h][i2]);
                let r =
                    sum_w[h][16] * v2 * v2 + sum_w[h][i1] * (v0 * v0 - v1 * v1) + sum_w[h][i2] * (v1 * v1 - v2 * v2);
                (p, r)
            };
            let half = |h| [sums(h, SHIFT), sums(h, -SHIFT)];
            let (first, second) = (half(0), half(1));
            for k in 0..4 {
                let ((p0, r0), (p1, r1)) = (first[k / 2], second[k % 2]);
                // Bit 0 is the first half's.
                split.offer(p0 + p1, r0 + r1, (i1, i2), (k / 2) | ((k % 2) << 1));
            }
        }
    }
    let (levels, mut group) = split.levels(&order, 3);
    snap(book, x, w, levels, &mut group, 8);
    group
}

pub(super) struct Iq1M;

impl Quantizer for Iq1M {
    #[inline(always)]
    fn run(rows: &Rows<'_>, out: &mut [u8]) {
        let book = codebook::iq1();
        out.fill(0);
        let blocks = rows.x.as_chunks::<N>().0.iter().zip(out.chunks_exact_mut(size_of::<BlockIq1M>()));
        for (i, (x, out)) in blocks.enumerate() {
            let sigma2 = 2.0 * sum_of_squares(x) / N as f32;
            let importance = rows.importance_at(i * N, N);
            let mut groups = [(Group::ZERO, [0.0; 16]); 16];
            for (g, (x, (group, w))) in x.as_chunks::<16>().0.iter().zip(&mut groups).enumerate() {
                *w = importance.map_or_else(|| x.map(|x| x * x), |q| weights(&q[16 * g..], sigma2, x));
                *group = group_of_16(book, x, w);
            }
            let max = groups.iter().fold(0.0, |max, (g, _)| if g.scale > max { g.scale } else { max });
            if max == 0.0 {
                continue;
            }
            let inverse = 1.0 / (max / 15.0);
            let block: &mut BlockIq1M = bytemuck::from_bytes_mut(out);
            let mut scales = [0u16; 4];
            // The scale of the scales once more, from the values as they came out.
            let (mut p, mut r) = (0.0, 0.0);
            for (g, ((group, w), x)) in groups.iter().zip(x.as_chunks::<16>().0).enumerate() {
                let level = scale_level(inverse, group.scale);
                scales[g / 4] |= u16::from(level) << (3 * (g % 4));
                for h in 0..2 {
                    let entry = group.entries[h];
                    let nibble = (entry >> 8) as u8 | ((group.negative >> h & 1) as u8) << 3;
                    block.qs[2 * g + h] = entry as u8;
                    block.qh[g] |= nibble << (4 * h);
                    for (i, &l) in (8 * h..).zip(book.levels(entry)) {
                        let value = group.values(h)[usize::from(l)] * f32::from(2 * level + 1);
                        p += (w[i] * value) * x[i];
                        r += (w[i] * value) * value;
                    }
                }
            }
            let d = if r > 0.0 { p / r } else { max / 15.0 };
            let bits = f16::from_f32(d * 1.1125).to_bits();
            for (i, (out, low)) in block.scales.iter_mut().zip(scales).enumerate() {
                *out = (low | (bits >> (4 * i) & 15) << 12).to_le_bytes();
            }
        }
    }
}
