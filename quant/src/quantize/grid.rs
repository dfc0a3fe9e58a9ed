//! IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS and IQ3_S. Source: `quantize_row_iq2_*_impl` and
//! `quantize_row_iq3_*_impl` of ggml's `ggml-quants.c`.
//!
//! Magnitudes of a group become levels, and runs of levels entries of a codebook; level l stands for
//! `scale * (2l + 1)`. Some scales are tried, and the one that explains the group best is kept.

use super::codebook::{self, Choice, Codebook, Target};
use super::dispatch::Quantizer;
use super::lanes::Lanes;
use super::rows::{Rows, sum_of_squares};
use super::search::positive;
use crate::blocks::iq::{BlockIq2S, BlockIq2Xs, BlockIq2Xxs, BlockIq3S, BlockIq3Xxs};
use half::f16;

/// Elements of a block.
const N: usize = 256;

/// How the groups of a format are searched.
struct Search {
    /// A group whose greatest magnitude is below counts as zero.
    tiny: f32,
    /// The value of the highest level, in scales.
    top: f32,
    /// Scales tried: `(top + step * k) / reference` for k in `-n_trial..=n_trial`.
    n_trial: i8,
    step: f32,
    refine: Refine,
    /// Whether a run of 8 has room for an even number of minus signs only.
    even_signs: bool,
    /// Whether a scale without codebook is sought first.
    fitted_start: bool,
    /// `sigma2` is this times the sum of squares of a block.
    sigma: f32,
    /// The weight without importance is `x * x` plus this times sigma2.
    raise: f32,
    /// What ggml multiplies the stored scale with, as levels come out too great or small on average.
    correction: f32,
}

/// Which runs choose entries again once the scale is known.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Refine {
    All,
    /// Those that were no entries.
    Snapped,
    /// All if any was no entry.
    AllIfAnySnapped,
}

/// More than any format tries.
const TRIALS: usize = 32;

/// A group of at most 32 elements, quantized.
#[derive(Clone, Copy, Default)]
struct Group {
    scale: f32,
    /// Entries of its runs.
    entries: [u16; 8],
    /// Minus signs, a byte for 8 elements.
    signs: [u8; 4],
}

impl Search {
    /// `x`: one group; `w`: weights of its elements.
    #[inline(always)]
    fn group<const G: usize, const R: usize>(&self, book: &Codebook<R>, x: &[f32; G], w: &[f32; G]) -> Group {
        let (magnitudes, mut signs) = self.split_signs(x, w);
        let max = magnitudes.iter().fold(0.0, |max, &x| if x > max { x } else { max });
        if max < self.tiny || max == 0.0 {
            return Group::default();
        }
        // The scale of a group in which no trial succeeds, and what trials divide by.
        let (start, reference) = if self.fitted_start {
            let levels = (self.top + 1.0) * 0.5;
            let start = positive(levels + 1.0, &magnitudes.map(|x| Lanes([x])), &w.map(|w| Lanes([w]))).scale.0[0];
            (start, start * levels)
        } else {
            (max / self.top, max)
        };
        if reference <= 0.0 {
            return Group::default();
        }
        let roots = Lanes(*w).sqrt().0;
        let n_run = G / R;
        let n_trial = 2 * usize::from(self.n_trial.unsigned_abs()) + 1;
        let mut trials = [[Choice::default(); 8]; TRIALS];
        // The levels of the trials, by element.
        let mut chosen = [[0; TRIALS]; G];
        for (t, (k, trial)) in (-self.n_trial..=self.n_trial).zip(&mut trials).enumerate() {
            let inverse = (self.top + f32::from(k) * self.step) / reference;
            let levels = self.levels(&magnitudes, inverse);
            for (run, choice) in trial.iter_mut().enumerate().take(n_run) {
                *choice = choose(book, run, &levels, &magnitudes, &roots, 1.0 / inverse);
                for (chosen, &level) in chosen[run * R..].iter_mut().zip(book.levels(choice.entry)) {
                    chosen[t] = level;
                }
            }
        }
        // Trials side by side: each sum runs in the order of elements.
        let (mut p, mut r) = (Lanes::<TRIALS>::ZERO, Lanes::<TRIALS>::ZERO);
        for (chosen, (&x, &w)) in chosen.iter().zip(magnitudes.iter().zip(w)) {
            let mut value = Lanes::ZERO;
            for (value, &level) in value.0.iter_mut().zip(chosen) {
                *value = f32::from(2 * level + 1);
            }
            p += Lanes::splat(w * x) * value;
            r += (Lanes::splat(w) * value) * value;
        }
        let (mut scale, mut best, mut taken) = (start, 0.0, None);
        for t in 0..n_trial {
            let (p, r) = (p.0[t], r.0[t]);
            if r > 0.0 && p * p > best * r {
                scale = p / r;
                best = scale * p;
                taken = Some(t);
            }
        }
        let mut choices = trials[taken.unwrap_or(TRIALS - 1)];
        let any_snapped = choices[..n_run].iter().any(|c| c.snapped);
        let is_refined = match self.refine {
            Refine::All => true,
            Refine::Snapped => any_snapped,
            Refine::AllIfAnySnapped => any_snapped || taken.is_none(),
        };
        if is_refined && scale > 0.0 {
            let levels = self.levels(&magnitudes, 1.0 / scale);
            for (run, choice) in choices.iter_mut().enumerate().take(n_run) {
                if choice.snapped || self.refine != Refine::Snapped {
                    *choice = choose(book, run, &levels, &magnitudes, &roots, scale);
                }
            }
            let (mut p, mut r) = (0.0, 0.0);
            for (i, (&x, &w)) in magnitudes.iter().zip(w).enumerate() {
                let value = f32::from(2 * book.levels(choices[i / R].entry)[i % R] + 1);
                p += (w * x) * value;
                r += (w * value) * value;
            }
            if r > 0.0 {
                scale = p / r;
            }
        }
        if scale < 0.0 {
            scale = -scale;
            signs = signs.map(|s| !s);
        }
        Group { scale, entries: choices.map(|c| c.entry), signs }
    }

    /// The nearest levels, whatever the codebook.
    #[inline(always)]
    fn levels<const G: usize>(&self, magnitudes: &[f32; G], inverse: f32) -> [u8; G] {
        let value = Lanes::splat(inverse) * Lanes(*magnitudes) - Lanes::splat(1.0);
        (Lanes::splat(0.5) * value).level(0.0, (self.top - 1.0) * 0.5).bytes()
    }

    /// Magnitudes and minus signs. Where signs must be even and are not, the element that matters
    /// least keeps the wrong one: its magnitude is negative.
    #[inline(always)]
    fn split_signs<const G: usize>(&self, x: &[f32; G], w: &[f32; G]) -> ([f32; G], [u8; 4]) {
        let mut magnitudes = Lanes(*x).abs().0;
        let mut signs = [0; 4];
        let runs =
            magnitudes.as_chunks_mut::<8>().0.iter_mut().zip(x.as_chunks::<8>().0.iter().zip(w.as_chunks::<8>().0));
        for ((magnitudes, (x, w)), signs) in runs.zip(&mut signs) {
            *signs = x.iter().enumerate().fold(0, |bits, (i, &x)| bits | u8::from(x < 0.0) << i);
            if self.even_signs && signs.count_ones() % 2 == 1 {
                let cost: [f32; 8] = std::array::from_fn(|i| (w[i] * x[i]) * x[i]);
                let least = (1..8).fold(0, |least, i| if cost[i] < cost[least] { i } else { least });
                magnitudes[least] = -magnitudes[least];
                *signs ^= 1 << least;
            }
        }
        (magnitudes, signs)
    }

    /// Quantizes rows by blocks: `pack` gets the groups, the levels of their scales, the scale of
    /// these and the bytes of the block, which are zero.
    #[inline(always)]
    fn rows<const G: usize, const R: usize, const K: usize>(
        &self,
        book: &Codebook<R>,
        rows: &Rows<'_>,
        block_bytes: usize,
        out: &mut [u8],
        pack: impl Fn(&[Group; K], &[u8; K], [u8; 2], &mut [u8]),
    ) {
        out.fill(0);
        for (i, (x, out)) in rows.x.as_chunks::<N>().0.iter().zip(out.chunks_exact_mut(block_bytes)).enumerate() {
            let importance = rows.importance_at(i * N, N);
            let sigma2 = sum_of_squares(x) * self.sigma;
            let mut groups = [Group::default(); K];
            for (g, (x, group)) in x.as_chunks::<G>().0.iter().zip(&mut groups).enumerate() {
                let w = match importance {
                    Some(q) => {
                        let mut w = Lanes([0.0; G]);
                        w.0.copy_from_slice(&q[g * G..][..G]);
                        w * (Lanes::splat(sigma2) + Lanes(*x) * Lanes(*x)).sqrt()
                    }
                    None => Lanes::splat(self.raise * sigma2) + Lanes(*x) * Lanes(*x),
                };
                *group = self.group(book, x, &w.0);
            }
            let max = groups.iter().fold(0.0, |max, g| if g.scale > max { g.scale } else { max });
            if max == 0.0 {
                continue;
            }
            let d = max / 31.0;
            let inverse = 1.0 / d;
            let levels = groups.map(|g| {
                let level = Lanes([0.5 * (inverse * g.scale - 1.0)]).level(0.0, 15.0);
                level.bytes()[0]
            });
            pack(&groups, &levels, f16::from_f32(d * self.correction).to_le_bytes(), out);
        }
    }
}

/// The entry for a run of a group; `w` are roots of weights.
#[inline(always)]
fn choose<const G: usize, const R: usize>(
    book: &Codebook<R>,
    run: usize,
    levels: &[u8; G],
    x: &[f32; G],
    w: &[f32; G],
    scale: f32,
) -> Choice {
    let (x, w) = (&x.as_chunks::<R>().0[run], &w.as_chunks::<R>().0[run]);
    book.choose(&levels.as_chunks::<R>().0[run], &Target { x, w, scale, lowest: 1.0, step: 2.0 })
}

/// Four 7-bit codes of signs and the level of a scale.
#[inline(always)]
fn signs_and_scale(group: &Group, level: u8) -> [u8; 4] {
    let signs = group.signs.iter().enumerate().fold(0, |word, (r, &s)| word | u32::from(s & 127) << (7 * r));
    (signs | u32::from(level) << 28).to_le_bytes()
}

pub(super) struct Iq2Xxs;

impl Quantizer for Iq2Xxs {
    #[inline(always)]
    fn run(rows: &Rows<'_>, out: &mut [u8]) {
        const SEARCH: Search = Search {
            tiny: 1e-15,
            top: 5.0,
            n_trial: 6,
            step: 0.1,
            refine: Refine::All,
            even_signs: true,
            fitted_start: true,
            sigma: 1.0 / 256.0,
            raise: 0.0,
            correction: 1.0,
        };
        let book = codebook::iq2_xxs();
        SEARCH.rows::<32, 8, 8>(book, rows, size_of::<BlockIq2Xxs>(), out, |groups, levels, d, out| {
            let block: &mut BlockIq2Xxs = bytemuck::from_bytes_mut(out);
            block.d = d;
            for ((group, &level), out) in groups.iter().zip(levels).zip(&mut block.qs) {
                let [e0, e1, e2, e3, ..] = group.entries.map(|e| e as u8);
                let [s0, s1, s2, s3] = signs_and_scale(group, level);
                *out = [e0, e1, e2, e3, s0, s1, s2, s3];
            }
        });
    }
}

/// IQ2_XS and IQ2_S differ in signs, weights and codebook.
const IQ2_XS: Search = Search {
    tiny: 1e-15,
    top: 5.0,
    n_trial: 9,
    step: 0.1,
    refine: Refine::Snapped,
    even_signs: true,
    fitted_start: false,
    sigma: 1.0 / 256.0,
    raise: 0.0,
    correction: 1.0,
};

pub(super) struct Iq2Xs;

impl Quantizer for Iq2Xs {
    #[inline(always)]
    fn run(rows: &Rows<'_>, out: &mut [u8]) {
        let book = codebook::iq2_xs();
        IQ2_XS.rows::<16, 8, 16>(book, rows, size_of::<BlockIq2Xs>(), out, |groups, levels, d, out| {
            let block: &mut BlockIq2Xs = bytemuck::from_bytes_mut(out);
            block.d = d;
            for (run, out) in block.qs.iter_mut().enumerate() {
                let group = &groups[run / 2];
                *out = (group.entries[run % 2] | u16::from(group.signs[run % 2] & 127) << 9).to_le_bytes();
            }
            block.scales = std::array::from_fn(|i| levels[2 * i] | levels[2 * i + 1] << 4);
        });
    }
}

pub(super) struct Iq2S;

impl Quantizer for Iq2S {
    #[inline(always)]
    fn run(rows: &Rows<'_>, out: &mut [u8]) {
        const SEARCH: Search =
            Search { tiny: 1e-8, even_signs: false, sigma: 2.0 / 256.0, raise: 0.25, correction: 0.9875, ..IQ2_XS };
        let book = codebook::iq2_s();
        SEARCH.rows::<16, 8, 16>(book, rows, size_of::<BlockIq2S>(), out, |groups, levels, d, out| {
            let block: &mut BlockIq2S = bytemuck::from_bytes_mut(out);
            block.d = d;
            for run in 0..32 {
                let (group, part) = (&groups[run / 2], run % 2);
                block.qs[run] = group.entries[part] as u8;
                block.signs[run] = group.signs[part];
                block.qh[run / 4] |= ((group.entries[part] >> 8) as u8) << (2 * (run % 4));
            }
            block.scales = std::array::from_fn(|i| levels[2 * i] | levels[2 * i + 1] << 4);
        });
    }
}

const IQ3_XXS: Search = Search {
    tiny: 1e-8,
    top: 15.0,
    n_trial: 15,
    step: 0.2,
    refine: Refine::Snapped,
    even_signs: true,
    fitted_start: false,
    sigma: 2.0 / 256.0,
    raise: 0.0,
    correction: 1.0125,
};

pub(super) struct Iq3Xxs;

impl Quantizer for Iq3Xxs {
    #[inline(always)]
    fn run(rows: &Rows<'_>, out: &mut [u8]) {
        let book = codebook::iq3_xxs();
        IQ3_XXS.rows::<32, 4, 8>(book, rows, size_of::<BlockIq3Xxs>(), out, |groups, levels, d, out| {
            let block: &mut BlockIq3Xxs = bytemuck::from_bytes_mut(out);
            block.d = d;
            for (i, (group, &level)) in groups.iter().zip(levels).enumerate() {
                block.qs.as_chunks_mut::<8>().0[i] = group.entries.map(|e| e as u8);
                block.words[i] = signs_and_scale(group, level);
            }
        });
    }
}

pub(super) struct Iq3S;

impl Quantizer for Iq3S {
    #[inline(always)]
    fn run(rows: &Rows<'_>, out: &mut [u8]) {
        const SEARCH: Search = Search {
            tiny: 0.0,
            n_trial: 9,
            refine: Refine::AllIfAnySnapped,
            even_signs: false,
            correction: 1.033,
            ..IQ3_XXS
        };
        let book = codebook::iq3_s();
        SEARCH.rows::<32, 4, 8>(book, rows, size_of::<BlockIq3S>(), out, |groups, levels, d, out| {
            let block: &mut BlockIq3S = bytemuck::from_bytes_mut(out);
            block.d = d;
            for (i, group) in groups.iter().enumerate() {
                block.qs.as_chunks_mut::<8>().0[i] = group.entries.map(|e| e as u8);
                block.qh[i] = (0..8).fold(0, |bits, k| bits | ((group.entries[k] >> 8) as u8) << k);
                block.signs.as_chunks_mut::<4>().0[i] = group.signs;
            }
            block.scales = std::array::from_fn(|i| levels[2 * i] | levels[2 * i + 1] << 4);
        });
    }
}
