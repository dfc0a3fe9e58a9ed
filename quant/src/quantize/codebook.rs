//! The codebooks of the IQ formats, seen from the side of the quantizer: which entry a run of levels
//! is, or which entries are near it. Source: `iq2xs_init_impl`, `iq3xs_init_impl` and
//! `iq*_find_best_neighbour*` of ggml's `ggml-quants.c`.

use super::lanes::Lanes;
use crate::grids::{IQ1_CODES, IQ2_S_CODES, IQ2_XS_CODES, IQ2_XXS_CODES, IQ3_S_CODES, IQ3_XXS_CODES};
use std::sync::OnceLock;

/// Neighbours that are compared at once.
const WIDTH: usize = 8;

/// A codebook of runs of `R` elements, each a level from 0.
pub(super) struct Codebook<const R: usize> {
    /// The levels of the entries.
    entries: Vec<[u8; R]>,
    /// By code: the entry, or minus one minus the index of the list of its neighbours.
    by_code: Vec<i32>,
    /// Where the neighbours of a code stand in `neighbours`, and in how many pieces.
    lists: Vec<(usize, usize)>,
    neighbours: Vec<Neighbours<R>>,
}

/// A piece of a list of neighbours. The last piece is filled up with the first of the list, which
/// loses against itself.
struct Neighbours<const R: usize> {
    entries: [u16; WIDTH],
    /// Element i of each.
    levels: [[u8; WIDTH]; R],
}

/// Where an entry is needed near a run that is none.
pub(super) struct Target<'a, const R: usize> {
    pub(super) x: &'a [f32; R],
    pub(super) w: &'a [f32; R],
    pub(super) scale: f32,
    /// What level 0 stands for, and how far levels are apart.
    pub(super) lowest: f32,
    pub(super) step: f32,
}

/// An entry for a run.
#[derive(Clone, Copy, Default)]
pub(super) struct Choice {
    pub(super) entry: u16,
    /// Whether the run itself is no entry.
    pub(super) snapped: bool,
}

macro_rules! codebooks {
    ($($(#[$doc:meta])* $name:ident: $run:literal, $codes:ident, $n_distance:literal;)*) => {
        $($(#[$doc])*
        pub(super) fn $name() -> &'static Codebook<$run> {
            static BOOK: OnceLock<Codebook<$run>> = OnceLock::new();
            BOOK.get_or_init(|| Codebook::new(&$codes, $n_distance))
        })*
    };
}

codebooks! {
    /// Made on first use, as all of them.
    iq2_xxs: 8, IQ2_XXS_CODES, 2;
    iq2_xs: 8, IQ2_XS_CODES, 2;
    iq2_s: 8, IQ2_S_CODES, 1;
    iq3_xxs: 4, IQ3_XXS_CODES, 2;
    iq3_s: 4, IQ3_S_CODES, 3;
    iq1: 8, IQ1_CODES, 3;
}

/// Bits of a level in a code, and levels that there are.
const fn code_form(run: usize) -> (usize, u8) {
    if run == 8 { (2, 3) } else { (3, 8) }
}

/// Levels i at bits 2i for runs of 8, at bits 3i for runs of 4.
#[inline(always)]
fn code<const R: usize>(levels: &[u8; R]) -> usize {
    let word = levels.iter().rev().fold(0, |word, &level| word << 8 | u64::from(level));
    // Neighbouring fields are moved together, in ever larger ones.
    let code = if R == 8 {
        let word = (word | word >> 6) & 0x000f_000f_000f_000f;
        let word = (word | word >> 12) & 0x0000_00ff_0000_00ff;
        (word | word >> 24) & 0xffff
    } else {
        let word = (word | word >> 5) & 0x003f_003f;
        (word | word >> 10) & 0xfff
    };
    code as usize
}

impl<const R: usize> Codebook<R> {
    /// The neighbours of a run are the entries at the `n_distance` smallest distances that occur.
    fn new(codes: &[u16], n_distance: usize) -> Self {
        let (bits, n_level) = code_form(R);
        let unpacked =
            |code: usize| -> [u8; R] { std::array::from_fn(|i| (code >> (bits * i) & ((1 << bits) - 1)) as u8) };
        let entries: Vec<[u8; R]> = codes.iter().map(|&code| unpacked(code.into())).collect();
        let mut book = Self { by_code: vec![0; 1 << (bits * R)], lists: Vec::new(), neighbours: Vec::new(), entries };
        let mut distances = vec![0; book.entries.len()];
        for code in 0..book.by_code.len() {
            let levels = unpacked(code);
            if levels.iter().any(|&level| level >= n_level) {
                continue;
            }
            for (distance, entry) in distances.iter_mut().zip(&book.entries) {
                *distance = entry.iter().zip(&levels).map(|(&a, &b)| u16::from(a.abs_diff(b)).pow(2)).sum::<u16>();
            }
            book.by_code[code] = match distances.iter().position(|&d| d == 0) {
                Some(entry) => entry as i32,
                None => book.add_list(&distances, n_distance),
            };
        }
        book
    }

    fn add_list(&mut self, distances: &[u16], n_distance: usize) -> i32 {
        let mut near: Vec<u16> = Vec::new();
        let mut last = 0;
        for _ in 0..n_distance {
            let Some(next) = distances.iter().copied().filter(|&d| d > last).min() else { break };
            near.extend((0..).zip(distances).filter(|&(_, &d)| d == next).map(|(entry, _)| entry));
            last = next;
        }
        let first = self.neighbours.len();
        for piece in near.chunks(WIDTH) {
            let entries: [u16; WIDTH] = std::array::from_fn(|l| *piece.get(l).unwrap_or(&near[0]));
            let level = |i: usize| entries.map(|entry| self.entries[usize::from(entry)][i]);
            self.neighbours.push(Neighbours { entries, levels: std::array::from_fn(level) });
        }
        self.lists.push((first, self.neighbours.len() - first));
        -(self.lists.len() as i32)
    }

    /// The entry of a run of levels, or its neighbour that is nearest to the target: with the smallest
    /// sum of `w * (scale * value - x)^2`, the first of equals.
    #[inline(always)]
    pub(super) fn choose(&self, levels: &[u8; R], target: &Target<'_, R>) -> Choice {
        let found = self.by_code[code(levels)];
        match u16::try_from(found) {
            Ok(entry) => Choice { entry, snapped: false },
            Err(_) => Choice { entry: self.nearest(-1 - found, target), snapped: true },
        }
    }

    #[inline(always)]
    fn nearest(&self, list: i32, target: &Target<'_, R>) -> u16 {
        let (first, n) = self.lists[list as usize];
        let pieces = &self.neighbours[first..first + n];
        let places: [f32; WIDTH] = std::array::from_fn(|l| l as f32);
        let (mut best, mut best_place) = (Lanes::splat(f32::INFINITY), Lanes(places));
        let mut place = Lanes(places);
        for piece in pieces {
            let mut sum = Lanes::ZERO;
            for (piece, (&x, &w)) in piece.levels.iter().zip(target.x.iter().zip(target.w)) {
                let mut levels = Lanes::ZERO;
                for (level, &piece) in levels.0.iter_mut().zip(piece) {
                    *level = f32::from(piece);
                }
                let value = levels * Lanes::splat(target.step) + Lanes::splat(target.lowest);
                let d = Lanes::splat(target.scale) * value - Lanes::splat(x);
                sum += (Lanes::splat(w) * d) * d;
            }
            let better = sum.lt(best);
            best = better.pick(sum, best);
            best_place = better.pick(place, best_place);
            place += Lanes::splat(WIDTH as f32);
        }
        let is_least = best.eq(Lanes::splat(least(best)));
        let place = least(is_least.pick(best_place, Lanes::splat(f32::INFINITY))) as usize;
        pieces[place / WIDTH].entries[place % WIDTH]
    }

    /// The levels of an entry.
    #[inline(always)]
    pub(super) fn levels(&self, entry: u16) -> &[u8; R] {
        &self.entries[usize::from(entry)]
    }
}

/// The least lane, by halves.
#[inline(always)]
fn least(lanes: Lanes<WIDTH>) -> f32 {
    let mut v = lanes.0;
    for half in [4, 2, 1] {
        for l in 0..half {
            v[l] = if v[l + half] < v[l] { v[l + half] } else { v[l] };
        }
    }
    v[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_run_of_levels_is_an_entry_or_has_neighbours() {
        fn check<const R: usize>(book: &Codebook<R>, n_code: usize) {
            let (_, n_level) = code_form(R);
            let target = Target { x: &[1.0; R], w: &[1.0; R], scale: 1.0, lowest: 1.0, step: 2.0 };
            let mut levels = [0; R];
            let mut n = 0;
            loop {
                let choice = book.choose(&levels, &target);
                assert_eq!(choice.snapped, book.levels(choice.entry) != &levels);
                n += 1;
                let Some(i) = levels.iter().position(|&l| l + 1 < n_level) else { break };
                levels[..i].fill(0);
                levels[i] += 1;
            }
            assert_eq!(n, n_code);
        }
        check(iq2_xxs(), 6561);
        check(iq3_s(), 4096);
        check(iq1(), 6561);
    }

    #[test]
    fn the_nearest_neighbour_is_that_of_a_plain_search() {
        let book = iq2_xs();
        let (x, w) = ([0.3, 4.0, 1.1, 0.2, 5.2, 2.9, 0.1, 3.3], [1.0, 2.0, 0.5, 1.5, 1.0, 3.0, 0.25, 1.0]);
        let target = Target { x: &x, w: &w, scale: 0.9, lowest: 1.0, step: 2.0 };
        let error = |levels: &[u8; 8]| {
            let d = |i: usize| 0.9 * (f32::from(levels[i]) * 2.0 + 1.0) - x[i];
            (0..8).fold(0.0, |sum, i| sum + (w[i] * d(i)) * d(i))
        };
        for list in 0..book.lists.len() {
            let (first, n) = book.lists[list];
            let all = book.neighbours[first..first + n].iter().flat_map(|p| p.entries);
            let best = all.fold((f32::INFINITY, 0), |best, entry| {
                let e = error(book.levels(entry));
                if e < best.0 { (e, entry) } else { best }
            });
            assert_eq!(book.nearest(list as i32, &target), best.1);
        }
    }
}
