//! Steps and their operands. `reads`, `writes` and `in_place` are what verification, liveness, printing
//! and fusion need; they stand in one match each, so that a new step cannot forget them.

use tealight_quant::BlockType;

macro_rules! ids {
    ($($(#[doc = $doc:literal])+ $name:ident;)*) => {$(
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub(super) u32);

        impl $name {
            /// Position in the plan's list of such things.
            pub const fn index(self) -> usize {
                self.0 as usize
            }
        }
    )*};
}

ids! {
    /// A buffer of the plan.
    BufId;
    /// A weight of the plan.
    WeightId;
    /// A cache of the plan.
    CacheId;
    /// A table of rotation frequencies of the plan.
    TableId;
}

/// Columns of a buffer: `heads` groups that lie `stride` apart, of each the `width` columns from `start` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Operand {
    /// The buffer.
    pub buf: BufId,
    /// First column.
    pub start: u32,
    /// Columns per head.
    pub width: u32,
    /// Number of heads; 1 for plain columns.
    pub heads: u32,
    /// Columns from one head to the next; 0 when there is one head.
    pub stride: u32,
}

impl Operand {
    /// Plain columns `start..start + width` of this operand, which must be plain itself.
    #[must_use]
    pub fn columns(self, start: u32, width: u32) -> Self {
        debug_assert!(self.heads == 1 && start + width <= self.width);
        Self { start: self.start + start, width, ..self }
    }

    /// This plain operand seen as `n` adjacent heads of `width` columns.
    #[must_use]
    pub fn split(self, n: u32, width: u32) -> Self {
        debug_assert!(self.heads == 1 && n * width <= self.width);
        Self { width, heads: n, stride: if n == 1 { 0 } else { width }, ..self }
    }

    /// Number of columns.
    pub const fn len(self) -> u32 {
        self.width * self.heads
    }

    /// Has it no columns?
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// One past the last column.
    pub const fn end(self) -> u32 {
        self.start + (self.heads - 1) * self.stride + self.width
    }

    /// Do the columns follow one another without gaps?
    pub const fn is_contiguous(self) -> bool {
        self.heads == 1 || self.stride == self.width
    }

    /// First columns of the heads.
    pub fn head_starts(self) -> impl Iterator<Item = usize> {
        (0..self.heads).map(move |h| (self.start + h * self.stride) as usize)
    }
}

/// A named buffer of [rows, width] f32.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// Role of its contents, unique in the plan.
    pub name: String,
    /// Columns.
    pub width: u32,
}

/// A weight that steps read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightRef {
    /// Name in the model file.
    pub name: String,
    /// Block format.
    pub ty: BlockType,
    /// Outermost first: a matrix is [out, in].
    pub shape: Vec<u64>,
}

impl WeightRef {
    /// Length of a row, the innermost dimension.
    pub fn row_len(&self) -> usize {
        self.shape.last().map_or(1, |&n| n as usize)
    }

    /// Rows of all outer dimensions.
    pub fn n_rows(&self) -> usize {
        self.shape.iter().rev().skip(1).map(|&n| n as usize).product()
    }

    /// Bytes of one row.
    pub fn row_bytes(&self) -> usize {
        self.row_len() / self.ty.block_len() * self.ty.block_bytes()
    }

    /// Bytes in all.
    pub fn bytes(&self) -> u64 {
        (self.row_bytes() * self.n_rows()) as u64
    }
}

/// Angular frequencies of a rotation; scaling of every kind is already in them.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeTable {
    /// Radians per position of each pair, [n_rot / 2].
    pub freqs: Vec<f64>,
    /// Factor of cos and sin (attention factor of yarn and longrope).
    pub amp: f32,
}

/// Which keys the query at position q may see among its sequence's cached keys at positions k.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Span {
    /// k <= q.
    Full,
    /// The last n: k <= q and q - k < n.
    Slide(u32),
}

impl Span {
    /// The oldest position that a query at `pos` sees.
    pub const fn first_visible(self, pos: u32) -> u32 {
        match self {
            Self::Full => 0,
            Self::Slide(n) => (pos + 1).saturating_sub(n),
        }
    }
}

/// Rows of keys and values that a sequence remembers: one pair per position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheSpec {
    /// Name, after the layer that fills it.
    pub name: String,
    /// Numbers of a key row: n_head_kv * head_dim.
    pub k: u32,
    /// Numbers of a value row.
    pub v: u32,
    /// Heads that a row consists of.
    pub heads: u32,
    /// What may be forgotten.
    pub span: Span,
}

/// What picks the row of an embedding table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Index {
    /// The token of the row.
    Token,
    /// The position of the row, plus this.
    Position(u32),
}

/// Kinds of normalisation over groups of columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NormKind {
    /// x / sqrt(mean(x^2) + eps).
    Rms,
    /// (x - mean) / sqrt(var + eps).
    Layer,
}

/// Which two dimensions of a head turn together; n_rot is twice the table's length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pairs {
    /// (2i, 2i + 1); ggml's NORM.
    Adjacent,
    /// (i, i + n_rot / 2); ggml's NEOX.
    Halves,
}

/// Pointwise activations.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Act {
    /// x * sigmoid(x).
    Silu,
    /// 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), computed in f32.
    Gelu,
    /// 0.5 x (1 + erf(x / sqrt(2))).
    GeluErf,
    /// max(x, 0).
    Relu,
    /// max(x, 0)^2.
    Relu2,
    /// x > 0: positive x^2 + beta x; else negative (exp(min(x, eps)) - 1 - x) + beta x. Source: arXiv 2411.13010.
    Xielu {
        /// Factor of the square.
        positive: f32,
        /// Factor of the exponential.
        negative: f32,
        /// Slope at 0.
        beta: f32,
        /// Largest exponent.
        eps: f32,
    },
}

/// How the rows of a sequence become one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PoolKind {
    /// The mean of the rows.
    Mean,
    /// The first row.
    First,
    /// The last row.
    Last,
}

/// One matrix of a [`Step::Linear`]: out = clamp(scale * W x + bias).
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// Result, `[out]`.
    pub out: Operand,
    /// Matrix, [out, in].
    pub weight: WeightId,
    /// Bias, `[out]`.
    pub bias: Option<WeightId>,
    /// Factor of W x, before the bias.
    pub scale: f32,
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
}

/// One operation of a forward pass. n rows; shapes are per row.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Step {
    /// out (+)= scale * `table[index]`.
    Embed {
        /// Result, `[n_embd]`.
        out: Operand,
        /// [entries, n_embd].
        table: WeightId,
        /// What picks the row.
        index: Index,
        /// Factor.
        scale: f32,
        /// Add to what is there instead of overwriting it.
        add: bool,
    },
    /// Normalises groups of `width` columns, then times weight, plus bias, times scale.
    Norm {
        /// Input.
        x: Operand,
        /// Result, as many columns as `x`; may be `x`.
        out: Operand,
        /// Formula.
        kind: NormKind,
        /// Added inside the root.
        eps: f32,
        /// Columns of a group.
        width: u32,
        /// `[width]`, or [groups, width]: one per group.
        weight: Option<WeightId>,
        /// `[width]`.
        bias: Option<WeightId>,
    },
    /// A group of matrices over one input.
    Linear {
        /// Input, `[in]`; contiguous.
        x: Operand,
        /// The matrices; results are contiguous.
        parts: Vec<Part>,
        /// Results are limited to +- this.
        clamp: Option<f32>,
    },
    /// Rotates the first 2 * freqs dims of each head by position * freqs; the rest passes.
    Rope {
        /// Input, heads of head_dim.
        x: Operand,
        /// Result; may be `x`.
        out: Operand,
        /// Frequencies and amplitude.
        table: TableId,
        /// Which dims turn together.
        pairs: Pairs,
    },
    /// Appends the rows' keys and values to the cache of each row's sequence.
    Store {
        /// Where to.
        cache: CacheId,
        /// Keys.
        k: Operand,
        /// Values.
        v: Operand,
    },
    /// Attention.
    Attend(Box<Attend>),
    /// out = act(x) * by.
    Gate {
        /// Input.
        x: Operand,
        /// Result; may be `x` or `by`.
        out: Operand,
        /// Activation.
        act: Act,
        /// Factor, as wide as `x`.
        by: Option<Operand>,
    },
    /// out = x + scale * y.
    Add {
        /// First input.
        x: Operand,
        /// Second input.
        y: Operand,
        /// Result; may be an input.
        out: Operand,
        /// Factor of `y`.
        scale: f32,
    },
    /// out = cap * tanh(x / cap).
    Softcap {
        /// Input.
        x: Operand,
        /// Result; may be `x`.
        out: Operand,
        /// The cap.
        cap: f32,
    },
    /// From here on the batch consists of the wanted rows only.
    Take {
        /// Buffers still needed; all others are void.
        keep: Vec<BufId>,
    },
    /// One vector per sequence, put in its first row.
    Pool {
        /// Input.
        x: Operand,
        /// Result.
        out: Operand,
        /// How.
        kind: PoolKind,
    },
}

/// What a step names outside of its buffers.
#[derive(Default)]
pub(super) struct IdsMut<'a> {
    pub weights: Vec<&'a mut WeightId>,
    pub cache: Option<&'a mut CacheId>,
    pub table: Option<&'a mut TableId>,
}

impl Step {
    /// Name as the printed plan shows it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Embed { .. } => "Embed",
            Self::Norm { .. } => "Norm",
            Self::Linear { .. } => "Linear",
            Self::Rope { .. } => "Rope",
            Self::Store { .. } => "Store",
            Self::Attend(_) => "Attend",
            Self::Gate { .. } => "Gate",
            Self::Add { .. } => "Add",
            Self::Softcap { .. } => "Softcap",
            Self::Take { .. } => "Take",
            Self::Pool { .. } => "Pool",
        }
    }

    /// Operands whose contents the step needs.
    pub fn reads(&self) -> Vec<Operand> {
        match self {
            Self::Embed { out, add, .. } => {
                if *add {
                    vec![*out]
                } else {
                    vec![]
                }
            }
            Self::Norm { x, .. } | Self::Linear { x, .. } | Self::Rope { x, .. } => vec![*x],
            Self::Softcap { x, .. } | Self::Pool { x, .. } => vec![*x],
            Self::Store { k, v, .. } => vec![*k, *v],
            Self::Attend(a) => vec![a.q],
            Self::Gate { x, by, .. } => [Some(*x), *by].into_iter().flatten().collect(),
            Self::Add { x, y, .. } => vec![*x, *y],
            Self::Take { .. } => vec![],
        }
    }

    /// Operands that the step writes.
    pub fn writes(&self) -> Vec<Operand> {
        match self {
            Self::Embed { out, .. } | Self::Norm { out, .. } | Self::Rope { out, .. } | Self::Gate { out, .. } => {
                vec![*out]
            }
            Self::Add { out, .. } | Self::Softcap { out, .. } | Self::Pool { out, .. } => vec![*out],
            Self::Linear { parts, .. } => parts.iter().map(|p| p.out).collect(),
            Self::Attend(a) => vec![a.out],
            Self::Store { .. } | Self::Take { .. } => vec![],
        }
    }

    /// Weights that the step reads.
    pub fn weights(&self) -> Vec<WeightId> {
        match self {
            Self::Embed { table, .. } => vec![*table],
            Self::Norm { weight, bias, .. } => [*weight, *bias].into_iter().flatten().collect(),
            Self::Linear { parts, .. } => parts.iter().flat_map(|p| [Some(p.weight), p.bias]).flatten().collect(),
            Self::Rope { .. } | Self::Store { .. } | Self::Attend(_) | Self::Gate { .. } => vec![],
            Self::Add { .. } | Self::Softcap { .. } | Self::Take { .. } | Self::Pool { .. } => vec![],
        }
    }

    /// The names of weights, caches and tables in the step, to change them.
    pub(super) fn ids_mut(&mut self) -> IdsMut<'_> {
        let mut ids = IdsMut::default();
        match self {
            Self::Embed { table, .. } => ids.weights.push(table),
            Self::Norm { weight, bias, .. } => ids.weights.extend([weight, bias].into_iter().flatten()),
            Self::Linear { parts, .. } => {
                for part in parts {
                    ids.weights.push(&mut part.weight);
                    ids.weights.extend(&mut part.bias);
                }
            }
            Self::Rope { table, .. } => ids.table = Some(table),
            Self::Store { cache, .. } => ids.cache = Some(cache),
            Self::Attend(a) => ids.cache = Some(&mut a.cache),
            Self::Gate { .. } | Self::Add { .. } | Self::Softcap { .. } | Self::Take { .. } | Self::Pool { .. } => {}
        }
        ids
    }

    /// May a result lie exactly on an input? (Element by element, or head by head.)
    pub const fn in_place(&self) -> bool {
        match self {
            Self::Embed { .. } | Self::Norm { .. } | Self::Rope { .. } | Self::Store { .. } | Self::Gate { .. } => true,
            Self::Add { .. } | Self::Softcap { .. } | Self::Take { .. } => true,
            Self::Linear { .. } | Self::Attend(_) | Self::Pool { .. } => false,
        }
    }

    /// Does the step look at other rows, or remember something for them?
    pub const fn mixes_rows(&self) -> bool {
        match self {
            Self::Store { .. } | Self::Attend(_) | Self::Pool { .. } => true,
            Self::Embed { .. } | Self::Norm { .. } | Self::Linear { .. } | Self::Rope { .. } | Self::Gate { .. } => {
                false
            }
            Self::Add { .. } | Self::Softcap { .. } | Self::Take { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes_of_other_counts_than_powers_of_two_lie_between() {
        let slopes = |heads| (0..heads).map(|h| Alibi { max: 8.0 }.slope(h, heads)).collect::<Vec<_>>();
        let powers = |exponents: &[i32]| exponents.iter().map(|e| 2f32.powi(-e)).collect::<Vec<_>>();
        assert_eq!(slopes(8), powers(&[1, 2, 3, 4, 5, 6, 7, 8]));
        assert_eq!(slopes(6), powers(&[2, 4, 6, 8, 1, 3]));
        assert_eq!(slopes(1), powers(&[8]));
    }
}
