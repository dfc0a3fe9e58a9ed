//! What a sequence remembers whatever its length, and the steps that go on from it.
//!
//! Keys and values are rows by position (`CacheSpec`); a state is an array of fixed size that every row of a sequence
//! changes. It starts at zero, is kept in f32, and cannot be taken apart again by position.

use super::operand::{Operand, StateId, WeightId};
use super::{Plan, Step};

/// An array of f32 that a sequence remembers beside its rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateSpec {
    /// Name, after the layer that changes it.
    pub name: String,
    /// Its form.
    pub kind: StateKind,
}

/// Forms of states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StateKind {
    /// The last inputs of a convolution, oldest first: [taps, channels].
    Tail {
        /// Rows that are remembered: one less than the kernel is long.
        taps: u32,
        /// Columns.
        channels: u32,
    },
    /// A matrix per head: [heads, rows, cols].
    Matrices {
        /// Heads.
        heads: u32,
        /// Rows of a matrix.
        rows: u32,
        /// Columns of a matrix.
        cols: u32,
    },
}

impl StateSpec {
    /// Numbers in all.
    pub const fn numbers(&self) -> u64 {
        match self.kind {
            StateKind::Tail { taps, channels } => taps as u64 * channels as u64,
            StateKind::Matrices { heads, rows, cols } => heads as u64 * rows as u64 * cols as u64,
        }
    }

    /// How often a sequence has each state: behind the last batch, before it, so that a batch that fails leaves what was
    /// there, and where the last answer began.
    pub const COPIES: usize = 3;

    /// Bytes that a sequence needs.
    pub const fn bytes(&self) -> u64 {
        Self::COPIES as u64 * 4 * self.numbers()
    }
}

/// Which key head a value head works with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Spread {
    /// Neighbouring value heads share one: j / (heads / key_heads).
    Block,
    /// In turn: j % key_heads.
    Cyclic,
}

impl Spread {
    /// Key head of value head `j`.
    pub const fn key_head(self, j: u32, heads: u32, key_heads: u32) -> u32 {
        match self {
            Self::Block => j / (heads / key_heads),
            Self::Cyclic => j % key_heads,
        }
    }
}

/// Gated delta rule (Yang et al. 2024, arXiv 2412.06464). Per value head with its key head's q and k and a state S
/// [dk, dv]: S *= exp(a softplus(decay + dt)), row by row where there is a decay per key channel;
/// u = sigmoid(beta) (v - S^T k); S += k u^T; out = scale S^T q.
#[derive(Clone, Debug, PartialEq)]
pub struct Delta {
    /// Queries, [key_heads * dk]; contiguous.
    pub q: Operand,
    /// Keys, [key_heads * dk]; contiguous.
    pub k: Operand,
    /// Values, [heads * dv]; contiguous.
    pub v: Operand,
    /// One number per head, or [heads * dk]: one per key channel.
    pub decay: Operand,
    /// One number per head.
    pub beta: Operand,
    /// Result, [heads * dv]; contiguous.
    pub out: Operand,
    /// The matrices, [heads, dk, dv].
    pub state: StateId,
    /// Value heads.
    pub heads: u32,
    /// Key heads.
    pub key_heads: u32,
    /// Negative rates, `[heads]`.
    pub a: WeightId,
    /// Added to `decay`, as many numbers.
    pub dt: WeightId,
    /// Which key head a value head works with.
    pub spread: Spread,
    /// Factor of the queries.
    pub scale: f32,
}

/// Selective state space (Gu and Dao 2023, arXiv 2312.00752; Dao and Gu 2024, arXiv 2405.21060). Per head h of p
/// channels with group g = h / (heads / groups) and a state S [p, n]: d = softplus(dt + bias);
/// S = exp(d A) S + d x B_g^T; out = S C_g + D x.
#[derive(Clone, Debug, PartialEq)]
pub struct Scan {
    /// Input, [heads * p]; contiguous.
    pub x: Operand,
    /// Step sizes, `[heads]`; contiguous.
    pub dt: Operand,
    /// What enters, [groups * n]; contiguous.
    pub b: Operand,
    /// What is read, [groups * n]; contiguous.
    pub c: Operand,
    /// Result, [heads * p]; contiguous.
    pub out: Operand,
    /// The matrices, [heads, p, n].
    pub state: StateId,
    /// Heads.
    pub heads: u32,
    /// Groups of heads that share `b` and `c`.
    pub groups: u32,
    /// Negative rates: [heads, n] (Mamba 1, whose heads have one channel) or [heads, 1] (Mamba 2).
    pub a: WeightId,
    /// Factor of the input that passes by, `[heads]`.
    pub d: WeightId,
    /// Added to `dt`, `[heads]`.
    pub bias: WeightId,
}

impl Plan {
    /// Do the operands, weights and states of a step fit each other?
    pub(super) fn verify_state(&self, step: &Step) -> Result<(), String> {
        let need = |right: bool, what: &str| if right { Ok(()) } else { Err(what.to_owned()) };
        let numbers = |id: &WeightId| self.weights()[id.index()].row_len() * self.weights()[id.index()].n_rows();
        let is = |o: Operand, n: u32| o.is_contiguous() && o.len() == n;
        let kind = |id: &StateId| self.states()[id.index()].kind;
        match step {
            Step::Conv { x, out, state, weight, bias, .. } => {
                let StateKind::Tail { taps, channels } = kind(state) else {
                    return Err("its state is no tail of inputs".into());
                };
                need(is(*x, channels) && is(*out, channels), "operands do not fit the tail")?;
                let fits = self.weights()[weight.index()].row_len() == taps as usize + 1;
                need(fits && numbers(weight) == (taps as usize + 1) * channels as usize, "kernel does not fit")?;
                need(bias.is_none_or(|b| numbers(&b) == channels as usize), "bias does not fit")
            }
            Step::Delta(d) => {
                let StateKind::Matrices { heads, rows, cols } = kind(&d.state) else {
                    return Err("its state has no matrices".into());
                };
                need(d.heads == heads && d.key_heads > 0 && heads.is_multiple_of(d.key_heads), "heads do not divide")?;
                need(is(d.q, d.key_heads * rows) && is(d.k, d.key_heads * rows), "keys do not fit the state")?;
                need(is(d.v, heads * cols) && is(d.out, heads * cols), "values do not fit the state")?;
                let decays = d.decay.len();
                need((decays == heads || decays == heads * rows) && d.beta.len() == heads, "decays do not fit")?;
                need(numbers(&d.a) == heads as usize && numbers(&d.dt) == decays as usize, "weights do not fit")
            }
            Step::Scan(s) => {
                let StateKind::Matrices { heads, rows, cols } = kind(&s.state) else {
                    return Err("its state has no matrices".into());
                };
                need(s.heads == heads && s.groups > 0 && heads.is_multiple_of(s.groups), "heads do not divide")?;
                need(is(s.x, heads * rows) && is(s.out, heads * rows), "input does not fit the state")?;
                need(is(s.b, s.groups * cols) && is(s.c, s.groups * cols), "groups do not fit the state")?;
                need(is(s.dt, heads), "steps do not fit the heads")?;
                let (heads, rates) = (heads as usize, numbers(&s.a));
                need(rates == heads || rates == heads * cols as usize, "rates do not fit")?;
                need(numbers(&s.d) == heads && numbers(&s.bias) == heads, "weights do not fit")
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_heads_find_their_key_heads() {
        let of = |spread: Spread| (0..6).map(|j| spread.key_head(j, 6, 2)).collect::<Vec<_>>();
        assert_eq!(of(Spread::Block), [0, 0, 0, 1, 1, 1]);
        assert_eq!(of(Spread::Cyclic), [0, 1, 0, 1, 0, 1]);
    }
}
