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
    pub(super) fn batches<const G: usize>(
        &self,
        block_len: usize,
        block_bytes: usize,
        out: &mut [u8],
        mut each: impl FnMut(Batch<'a, G>, &mut [u8]),
    ) {
        let n_number = G * LANES;
        let n_byte = n_number / block_len * block_bytes;
        let mut weights = vec![0.0; if self.importance.is_some() { n_number } else { 0 }];
        for (i, (numbers, out)) in self.x.chunks(n_number).zip(out.chunks_mut(n_byte)).enumerate() {
            let importance = self.importance.map(|q| {
                // Groups lie within rows, but batches may not.
                let columns = (i * n_number..).step_by(G).map(|at| at % self.row_len);
                for (weights, column) in weights.chunks_mut(G).zip(columns).take(numbers.len() / G) {
                    weights.copy_from_slice(&q[column..column + G]);
                }
                across(&weights[..numbers.len()])
            });
            each(Batch { numbers, x: across(numbers), importance }, out);
        }
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

/// Puts groups side by side: element i of group l becomes lane l of item i.
#[inline(always)]
pub(super) fn across<const G: usize, const L: usize>(x: &[f32]) -> [Lanes<L>; G] {
    let mut out = [Lanes::ZERO; G];
    for (l, group) in x.as_chunks::<G>().0.iter().enumerate() {
        for (out, &x) in out.iter_mut().zip(group) {
            out.0[l] = x;
        }
    }
    out
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
