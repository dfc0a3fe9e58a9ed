//! Attention: what is remembered, who sees it, and the step.

use std::ops::Range;

use super::operand::{CacheId, Operand, WeightId};

/// Which keys the query at position q may see among its sequence's cached keys at positions k.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Span {
    /// k <= q.
    Full,
    /// The last n: k <= q and q - k < n.
    Slide(u32),
    /// Every k, earlier and later ones.
    All,
    /// Those up to n away, earlier and later ones: |k - q| <= n.
    Near(u32),
    /// Those of the same n positions: k <= q and floor(k / n) = floor(q / n).
    Chunk(u32),
}

impl Span {
    /// The oldest position that a query at `pos` sees.
    pub const fn first_visible(self, pos: u32) -> u32 {
        match self {
            Self::Full | Self::All => 0,
            Self::Slide(n) => (pos + 1).saturating_sub(n),
            Self::Near(n) => pos.saturating_sub(n),
            Self::Chunk(n) => pos / n * n,
        }
    }

    /// The positions that a query at `pos` sees in a sequence that holds `len`.
    pub fn visible(self, pos: u32, len: u32) -> Range<u32> {
        let end = match self {
            Self::Full | Self::Slide(_) | Self::Chunk(_) => pos + 1,
            Self::All => len,
            Self::Near(n) => pos.saturating_add(n).saturating_add(1).min(len),
        };
        self.first_visible(pos)..end
    }

    /// Are later positions seen, too? Then a sequence comes in one batch, whole.
    pub const fn looks_ahead(self) -> bool {
        matches!(self, Self::All | Self::Near(_))
    }
}

/// Rows of keys and values that a sequence remembers: one pair per position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheSpec {
    /// Name, after the layer that fills it.
    pub name: String,
    /// Numbers of a key row: n_head_kv * head_dim.
    pub k: u32,
    /// Numbers of a value row; 0 where values are parts of the keys.
    pub v: u32,
    /// Heads that a row consists of.
    pub heads: u32,
    /// What may be forgotten.
    pub span: Span,
}

/// Position-dependent temperature of the query: q *= 1 + scale * ln(1 + floor((pos + add) / length)).
/// Source: Llama 4 and Ministral 3 in transformers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Temper {
    /// Strength of the logarithm.
    pub scale: f32,
    /// Positions per step.
    pub length: u32,
    /// Offset of the position.
    pub add: u32,
}

/// Biases that grow with the distance of a key: slope_h (key position - query position), from ALiBi (Press et al. 2021,
/// arXiv 2108.12409). With n the largest power of two up to the number of heads, head h < n has the slope
/// 2^(-max (h + 1) / n); head h >= n lies between two of those: 2^(-max (2 (h - n) + 1) / (2 n)).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Alibi {
    /// Steepest exponent.
    pub max: f32,
}

impl Alibi {
    /// The slope of head `h` of `heads`.
    pub fn slope(self, h: u32, heads: u32) -> f32 {
        let n = 1u32 << heads.max(1).ilog2();
        let exponent = match h < n {
            true => (h + 1) as f32 / n as f32,
            false => (2 * (h - n) + 1) as f32 / (2 * n) as f32,
        };
        (-self.max * exponent).exp2()
    }
}

/// `out[h]` = sum_j softmax_j(score) v_j over the cached rows of the row's sequence that the span shows;
/// score = softcap(scale * t(pos) * q_h . k_g) + alibi, g = h / (heads / kv_heads).
#[derive(Clone, Debug, PartialEq)]
pub struct Attend {
    /// Queries, [heads, head_dim].
    pub q: Operand,
    /// Result, [heads * value head_dim].
    pub out: Operand,
    /// Keys and values.
    pub cache: CacheId,
    /// Query heads.
    pub heads: u32,
    /// Key and value heads.
    pub kv_heads: u32,
    /// Factor of the scores.
    pub scale: f32,
    /// Which keys are visible.
    pub span: Span,
    /// Soft cap c of the scores: c tanh(s / c).
    pub softcap: Option<f32>,
    /// Temperature of the query.
    pub temper: Option<Temper>,
    /// Biases by distance, added to the capped scores.
    pub alibi: Option<Alibi>,
    /// One more score per head, `[heads]`, which takes its share of the softmax and has no value.
    pub sinks: Option<WeightId>,
    /// Values are the first so many numbers of the keys, and the cache has none of its own (latent attention).
    pub v_prefix: Option<u32>,
    /// What [`Select`] has chosen: only these positions are seen.
    pub select: Option<Operand>,
}

impl Attend {
    /// Of `heads` over `kv_heads`, without anything besides.
    pub const fn plain(q: Operand, out: Operand, cache: CacheId, heads: [u32; 2], scale: f32, span: Span) -> Self {
        let [heads, kv_heads] = heads;
        Self {
            q,
            out,
            cache,
            heads,
            kv_heads,
            scale,
            span,
            softcap: None,
            temper: None,
            alibi: None,
            sinks: None,
            v_prefix: None,
            select: None,
        }
    }
}

/// The `out.len()` positions up to the row's own with the greatest scores sum_h w_h relu(scale * q_h . k), ascending,
/// then -1 where there are not so many. Ties go to the lowest position. Source: DeepSeek-V3.2's indexer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Select {
    /// Queries, [heads, head_dim].
    pub q: Operand,
    /// What each head counts, `[heads]`.
    pub w: Operand,
    /// Keys, of one head.
    pub cache: CacheId,
    /// Result, `[positions]`.
    pub out: Operand,
    /// Factor of the products.
    pub scale: f32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_show_what_they_say() {
        for len in [1, 7, 20] {
            for pos in 0..len {
                let seen = |see: &dyn Fn(u32) -> bool| (0..len).filter(|k| see(*k)).collect::<Vec<u32>>();
                let check = |span: Span, see: &dyn Fn(u32) -> bool| {
                    assert_eq!(span.visible(pos, len).collect::<Vec<_>>(), seen(see), "{span:?} {pos} {len}");
                };
                check(Span::Full, &|k| k <= pos);
                check(Span::Slide(3), &|k| k <= pos && pos - k < 3);
                check(Span::All, &|_| true);
                check(Span::Near(4), &|k| k.abs_diff(pos) <= 4);
            }
        }
        assert_eq!(Span::Near(u32::MAX).visible(3, 9), 0..9);
    }

    #[test]
    fn slopes_of_other_counts_than_powers_of_two_lie_between() {
        let slopes = |heads| (0..heads).map(|h| Alibi { max: 8.0 }.slope(h, heads)).collect::<Vec<_>>();
        let powers = |exponents: &[i32]| exponents.iter().map(|e| 2f32.powi(-e)).collect::<Vec<_>>();
        assert_eq!(slopes(8), powers(&[1, 2, 3, 4, 5, 6, 7, 8]));
        assert_eq!(slopes(6), powers(&[2, 4, 6, 8, 1, 3]));
        assert_eq!(slopes(1), powers(&[8]));
    }
}
