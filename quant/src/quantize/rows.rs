//! Rows to quantize, and how their groups come to lie across lanes.

use super::lanes::Lanes;

/// Groups that are worked on at once: two AVX2 vectors hide the latency of sums that must run in
/// order, and one AVX-512 vector holds them.
pub(super) const LANES: usize = 16;

/// Whole rows.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    /// [n_row, row_len]
    pub(super) x: &'a [f32],
    pub(super) row_len: usize,
    /// [row_len]
    pub(super) importance: Option<&'a [f32]>,
}

/// A few neighbouring groups of `G` elements, and what is known of them.
pub(super) struct Batch<'a, const G: usize> {
    /// Where its numbers begin in the rows.
    pub(super) first: usize,
    /// The numbers: at most `G * LANES`, whole groups.
    pub(super) numbers: &'a [f32],
    /// The same; lanes without a group hold zeros.
    pub(super) x: [Lanes<LANES>; G],
    /// Importance of their columns, if columns differ.
    pub(super) importance: Option<[Lanes<LANES>; G]>,
}

impl<'a> Rows<'a> {
    /// The importance of the `n` columns that begin at element `at` of the rows; they lie in one row.
    #[inline(always)]
    pub(super) fn importance_at(&self, at: usize, n: usize) -> Option<&'a [f32]> {
        let at = at % self.row_len;
        self.importance.map(|q| &q[at..at + n])
    }

    /// Cuts the rows, and the bytes of their blocks with them, into batches of groups of `G`.
    #[inline(always)]
    pub(super) fn batches<'o, const G: usize>(
        self,
        block_len: usize,
        block_bytes: usize,
        out: &'o mut [u8],
    ) -> Batches<'a, 'o, G> {
        Batches { rows: self, at: 0, n_byte: G * LANES / block_len * block_bytes, out }
    }
}

/// See [`Rows::batches`]. An iterator, since a closure would be compiled without the instructions of
/// its caller.
pub(super) struct Batches<'a, 'o, const G: usize> {
    rows: Rows<'a>,
    /// Numbers handed out.
    at: usize,
    /// Bytes of a full batch.
    n_byte: usize,
    /// The bytes left.
    out: &'o mut [u8],
}

impl<'a, 'o, const G: usize> Iterator for Batches<'a, 'o, G> {
    type Item = (Batch<'a, G>, &'o mut [u8]);

    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        let (rows, first) = (self.rows, self.at);
        let left = &rows.x[first..];
        if left.is_empty() {
            return None;
        }
        let numbers = &left[..left.len().min(G * LANES)];
        self.at += numbers.len();
        let out = std::mem::take(&mut self.out);
        let (out, rest) = out.split_at_mut(self.n_byte.min(out.len()));
        self.out = rest;
        let importance = rows.importance.map(|q| {
            let mut across = [Lanes::ZERO; G];
            for l in 0..numbers.len() / G {
                // Groups lie within rows, but batches may not.
                let column = (first + l * G) % rows.row_len;
                set_lane(&mut across, l, &q[column..column + G]);
            }
            across
        });
        Some((Batch { first, numbers, x: across(numbers), importance }, out))
    }
}

impl<const G: usize> Batch<'_, G> {
    /// `q * sqrt(sigma2 + x * x)`, ggml's weight of an element whose column has the importance q.
    #[inline(always)]
    pub(super) fn weights(&self, importance: &[Lanes<LANES>; G], sigma2: Lanes<LANES>) -> [Lanes<LANES>; G] {
        let mut w = *importance;
        for (w, &x) in w.iter_mut().zip(&self.x) {
            *w = *w * (sigma2 + x * x).sqrt();
        }
        w
    }

    /// In each lane the sum of squares of the `n` numbers around its group, times `factor`.
    #[inline(always)]
    pub(super) fn energy(&self, n: usize, factor: f32) -> Lanes<LANES> {
        let mut out = Lanes::ZERO;
        for (block, out) in self.numbers.chunks(n).zip(out.0.chunks_mut(n / G)) {
            out.fill(sum_of_squares(block) * factor);
        }
        out
    }
}

/// In the order of elements.
#[inline(always)]
pub(super) fn sum_of_squares(x: &[f32]) -> f32 {
    x.iter().fold(0.0, |sum, &x| sum + x * x)
}

/// Zero for no numbers; what is no number does not count.
#[inline(always)]
pub(super) fn greatest_magnitude(x: &[f32]) -> f32 {
    x.iter().fold(0.0, |max: f32, &x| if x.abs() > max { x.abs() } else { max })
}

/// The weights of elements whose columns do not differ, in many types.
#[inline(always)]
pub(super) fn squares<const G: usize>(x: &[Lanes<LANES>; G]) -> [Lanes<LANES>; G] {
    let mut w = *x;
    for w in &mut w {
        *w = *w * *w;
    }
    w
}

/// Puts groups side by side: element i of group l becomes lane l of item i.
#[inline(always)]
pub(super) fn across<const G: usize, const L: usize>(x: &[f32]) -> [Lanes<L>; G] {
    let mut out = [Lanes::ZERO; G];
    for (l, group) in x.as_chunks::<G>().0.iter().enumerate() {
        set_lane(&mut out, l, group);
    }
    out
}

#[inline(always)]
fn set_lane<const G: usize, const L: usize>(lanes: &mut [Lanes<L>; G], l: usize, group: &[f32]) {
    for (lanes, &x) in lanes.iter_mut().zip(group) {
        lanes.0[l] = x;
    }
}

/// The reverse of [`across`], for levels in 0..=255.
#[inline(always)]
pub(super) fn along<const G: usize, const L: usize>(levels: &[Lanes<L>; G]) -> [[u8; G]; L] {
    let mut out = [[0; G]; L];
    for (i, levels) in levels.iter().enumerate() {
        for (out, byte) in out.iter_mut().zip(levels.bytes()) {
            out[i] = byte;
        }
    }
    out
}
