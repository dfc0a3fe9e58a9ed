//! Steps and their operands. `reads`, `writes` and `in_place` are what verification, liveness, printing
//! and fusion need; they stand in one match each, so that a new step cannot forget them.

use super::attend::{Attend, Select};
use super::experts::{Experts, Route};
use super::operand::{BufId, CacheId, Operand, StateId, TableId, WeightId};
use super::state::{Delta, Scan};

/// Angular frequencies of a rotation; scaling of every kind is already in them.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeTable {
    /// Radians per position of each pair, [n_rot / 2].
    pub freqs: Vec<f64>,
    /// Factor of cos and sin (attention factor of yarn and longrope).
    pub amp: f32,
}

/// What picks the row of an embedding table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Index {
    /// The token of the row.
    Token,
    /// The position of the row, plus this.
    Position(u32),
    /// Always this one.
    Row(u32),
}

/// Kinds of normalisation over groups of columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NormKind {
    /// x / sqrt(mean(x^2) + eps).
    Rms,
    /// (x - mean) / sqrt(var + eps).
    Layer,
    /// x / sqrt(sum(x^2) + eps).
    L2,
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
    /// 1 / (1 + exp(-x)).
    Sigmoid,
    /// g sigmoid(alpha g) with g = min(x, limit), and the factor is its value between -limit and limit plus 1. Source:
    /// gpt-oss in transformers.
    ClampedSwiglu {
        /// Steepness of the sigmoid.
        alpha: f32,
        /// Largest gate and largest magnitude of the factor.
        limit: f32,
    },
    /// x.
    Id,
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
    /// Matrix, [out, in]; or [heads, out, in], one for each head of the input, and the result has as many heads.
    pub weight: WeightId,
    /// Bias, `[out]`.
    pub bias: Option<WeightId>,
    /// Factor of W x, before the bias.
    pub scale: f32,
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
        /// Input, `[in]`; contiguous, or heads of `in` that have matrices of their own.
        x: Operand,
        /// The matrices; results are contiguous, or such heads.
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
        /// Values; `None` where the cache has none of its own.
        v: Option<Operand>,
    },
    /// Attention.
    Attend(Box<Attend>),
    /// out = act(x) * by.
    Gate {
        /// Input; one number where it is the same for all of `by`. Its heads may lie apart.
        x: Operand,
        /// Result; may be `x` or `by`.
        out: Operand,
        /// Activation.
        act: Act,
        /// Factor, as wide as `out`. Its heads may lie apart.
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
    /// out = factor * weight * x.
    Scale {
        /// Input.
        x: Operand,
        /// Result; may be `x`.
        out: Operand,
        /// The factor of all columns.
        factor: f32,
        /// Factors of the columns.
        weight: Option<WeightId>,
    },
    /// Each head of x as strong as another: out = x * rms(like) / sqrt(max(mean(x^2), eps)).
    Rescale {
        /// Heads of the width of `like`.
        x: Operand,
        /// One head.
        like: Operand,
        /// Result; may be `x`.
        out: Operand,
        /// The least mean square.
        eps: f32,
    },
    /// Streams that take from streams, head by head: out_i = base_i + sum over j of (coef[i, j] + offset) x_j.
    Mix {
        /// J heads.
        x: Operand,
        /// [I, J] numbers of each row.
        coef: Operand,
        /// I heads.
        base: Operand,
        /// I heads.
        out: Operand,
        /// Added to every coefficient.
        offset: f32,
    },
    /// What stands out: out = max(x - (mean + n_std * std), 0), over all columns.
    Sparsify {
        /// Input.
        x: Operand,
        /// Result; may be `x`.
        out: Operand,
        /// Standard deviations above the mean.
        n_std: f32,
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
    /// Causal convolution of every channel by itself along the sequence:
    /// out_t = act(bias + sum_j `weight[:, j]` x_(t - K + 1 + j)).
    Conv {
        /// Input, `[channels]`; contiguous.
        x: Operand,
        /// Result, `[channels]`; contiguous.
        out: Operand,
        /// The inputs before, [K - 1, channels].
        state: StateId,
        /// [channels, K].
        weight: WeightId,
        /// `[channels]`.
        bias: Option<WeightId>,
        /// Activation.
        act: Act,
    },
    /// Gated delta rule.
    Delta(Box<Delta>),
    /// Selective state space.
    Scan(Box<Scan>),
    /// The choice of experts.
    Route(Box<Route>),
    /// The chosen experts.
    Experts(Box<Experts>),
    /// The choice of positions that attention sees.
    Select(Select),
}

/// What a step names outside of its buffers.
#[derive(Default)]
pub(super) struct IdsMut<'a> {
    pub weights: Vec<&'a mut WeightId>,
    pub cache: Option<&'a mut CacheId>,
    pub table: Option<&'a mut TableId>,
    pub state: Option<&'a mut StateId>,
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
            Self::Scale { .. } => "Scale",
            Self::Rescale { .. } => "Rescale",
            Self::Mix { .. } => "Mix",
            Self::Sparsify { .. } => "Sparsify",
            Self::Take { .. } => "Take",
            Self::Pool { .. } => "Pool",
            Self::Conv { .. } => "Conv",
            Self::Delta(_) => "Delta",
            Self::Scan(_) => "Scan",
            Self::Route(_) => "Route",
            Self::Experts(_) => "Experts",
            Self::Select(_) => "Select",
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
            Self::Softcap { x, .. } | Self::Scale { x, .. } | Self::Sparsify { x, .. } | Self::Pool { x, .. } => {
                vec![*x]
            }
            Self::Rescale { x, like, .. } => vec![*x, *like],
            Self::Mix { x, coef, base, .. } => vec![*x, *coef, *base],
            Self::Store { k, v, .. } => [Some(*k), *v].into_iter().flatten().collect(),
            Self::Attend(a) => [Some(a.q), a.select].into_iter().flatten().collect(),
            Self::Gate { x, by, .. } => [Some(*x), *by].into_iter().flatten().collect(),
            Self::Add { x, y, .. } => vec![*x, *y],
            Self::Take { .. } => vec![],
            Self::Conv { x, .. } => vec![*x],
            Self::Delta(d) => vec![d.q, d.k, d.v, d.decay, d.beta],
            Self::Scan(s) => vec![s.x, s.dt, s.b, s.c],
            Self::Route(r) => vec![r.x],
            Self::Experts(e) => vec![e.x, e.idx, e.w],
            Self::Select(s) => vec![s.q, s.w],
        }
    }

    /// Operands that the step writes.
    pub fn writes(&self) -> Vec<Operand> {
        match self {
            Self::Embed { out, .. } | Self::Norm { out, .. } | Self::Rope { out, .. } | Self::Gate { out, .. } => {
                vec![*out]
            }
            Self::Add { out, .. } | Self::Softcap { out, .. } => vec![*out],
            Self::Scale { out, .. } | Self::Rescale { out, .. } | Self::Mix { out, .. } => vec![*out],
            Self::Sparsify { out, .. } | Self::Pool { out, .. } => vec![*out],
            Self::Linear { parts, .. } => parts.iter().map(|p| p.out).collect(),
            Self::Attend(a) => vec![a.out],
            Self::Conv { out, .. } => vec![*out],
            Self::Delta(d) => vec![d.out],
            Self::Scan(s) => vec![s.out],
            Self::Store { .. } | Self::Take { .. } => vec![],
            Self::Route(r) => vec![r.idx, r.w],
            Self::Experts(e) => vec![e.out],
            Self::Select(s) => vec![s.out],
        }
    }

    /// Weights that the step reads.
    pub fn weights(&self) -> Vec<WeightId> {
        match self {
            Self::Embed { table, .. } => vec![*table],
            Self::Norm { weight, bias, .. } => [*weight, *bias].into_iter().flatten().collect(),
            Self::Linear { parts, .. } => parts.iter().flat_map(|p| [Some(p.weight), p.bias]).flatten().collect(),
            Self::Rope { .. } | Self::Store { .. } | Self::Gate { .. } => vec![],
            Self::Attend(a) => a.sinks.into_iter().collect(),
            Self::Add { .. } | Self::Softcap { .. } | Self::Rescale { .. } | Self::Mix { .. } => vec![],
            Self::Sparsify { .. } | Self::Take { .. } | Self::Pool { .. } | Self::Select(_) => vec![],
            Self::Scale { weight, .. } => weight.iter().copied().collect(),
            Self::Conv { weight, bias, .. } => [Some(*weight), *bias].into_iter().flatten().collect(),
            Self::Delta(d) => vec![d.a, d.dt],
            Self::Scan(s) => vec![s.a, s.d, s.bias],
            Self::Route(r) => [r.bias, r.per_expert].into_iter().flatten().collect(),
            Self::Experts(e) => e.parts().flat_map(|p| [Some(p.weight), p.bias]).flatten().collect(),
        }
    }

    /// The names of weights, caches, tables and states in the step, to change them.
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
            Self::Attend(a) => {
                ids.cache = Some(&mut a.cache);
                ids.weights.extend(&mut a.sinks);
            }
            Self::Select(s) => ids.cache = Some(&mut s.cache),
            Self::Route(r) => ids.weights.extend([&mut r.bias, &mut r.per_expert].into_iter().flatten()),
            Self::Experts(e) => {
                for part in e.gate.iter_mut().chain([&mut e.up, &mut e.down]) {
                    ids.weights.push(&mut part.weight);
                    ids.weights.extend(&mut part.bias);
                }
            }
            Self::Gate { .. } | Self::Add { .. } | Self::Softcap { .. } | Self::Rescale { .. } => {}
            Self::Mix { .. } | Self::Sparsify { .. } | Self::Take { .. } | Self::Pool { .. } => {}
            Self::Scale { weight, .. } => ids.weights.extend(weight),
            Self::Conv { weight, bias, state, .. } => {
                ids.weights.push(weight);
                ids.weights.extend(bias);
                ids.state = Some(state);
            }
            Self::Delta(d) => {
                ids.weights.extend([&mut d.a, &mut d.dt]);
                ids.state = Some(&mut d.state);
            }
            Self::Scan(s) => {
                ids.weights.extend([&mut s.a, &mut s.d, &mut s.bias]);
                ids.state = Some(&mut s.state);
            }
        }
        ids
    }

    /// May a result lie exactly on an input? (Element by element, or head by head.)
    pub const fn in_place(&self) -> bool {
        match self {
            Self::Embed { .. } | Self::Norm { .. } | Self::Rope { .. } | Self::Store { .. } | Self::Gate { .. } => true,
            Self::Add { .. } | Self::Softcap { .. } | Self::Scale { .. } | Self::Take { .. } => true,
            Self::Rescale { .. } | Self::Sparsify { .. } => true,
            Self::Mix { .. } => false,
            Self::Linear { .. } | Self::Attend(_) | Self::Pool { .. } | Self::Route(_) | Self::Experts(_) => false,
            Self::Conv { .. } | Self::Delta(_) | Self::Scan(_) | Self::Select(_) => false,
        }
    }

    /// Does the step look at other rows, or remember something for them?
    pub const fn mixes_rows(&self) -> bool {
        match self {
            Self::Store { .. } | Self::Attend(_) | Self::Pool { .. } | Self::Select(_) => true,
            Self::Conv { .. } | Self::Delta(_) | Self::Scan(_) => true,
            Self::Embed { .. } | Self::Norm { .. } | Self::Linear { .. } | Self::Rope { .. } | Self::Gate { .. } => {
                false
            }
            Self::Add { .. } | Self::Softcap { .. } | Self::Scale { .. } | Self::Take { .. } => false,
            Self::Rescale { .. } | Self::Mix { .. } | Self::Sparsify { .. } => false,
            Self::Route(_) | Self::Experts(_) => false,
        }
    }
}
