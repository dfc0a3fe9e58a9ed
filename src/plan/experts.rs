//! Experts: which of them a row goes to, and what they compute.

use super::op::Act;
use super::operand::{Operand, WeightId};

/// How a router's numbers become scores.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Score {
    /// Softmax over all experts; weights are the scores of the chosen.
    Softmax,
    /// Sigmoid of each; weights are the scores of the chosen.
    Sigmoid,
    /// The numbers themselves; weights are a softmax over the chosen.
    Chosen,
    /// The numbers themselves, two experts, each weighed by a softmax over those that come near it (sparse mixer of
    /// Phi-3.5-MoE, arXiv 2409.12136): experts count as far when they lie `2 * jitter` below, relative to the greater of
    /// their own magnitude and the best.
    Mixer {
        /// Half the relative distance of what is near.
        jitter: f32,
    },
}

/// Groups of adjoining experts, of which only the best ones are chosen from. A group's score is the sum of its two
/// best scores with [`Score::Sigmoid`] (DeepSeek-V3), else its best one (DeepSeek-V2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Groups {
    /// Groups in all; they divide the experts evenly.
    pub count: u32,
    /// Groups that are chosen from.
    pub used: u32,
}

/// The `idx.len()` best experts of each row and what their results count. Ties go to the lowest index.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// The router's numbers, `[experts]`; contiguous.
    pub x: Operand,
    /// Numbers of the chosen experts, best first, `[k]`; contiguous.
    pub idx: Operand,
    /// What each counts, `[k]`; contiguous.
    pub w: Operand,
    /// How scores come about.
    pub score: Score,
    /// Added to scores to choose by, not to weigh by; `[experts]`.
    pub bias: Option<WeightId>,
    /// Groups that limit the choice.
    pub groups: Option<Groups>,
    /// Weights are divided by their sum plus this.
    pub renorm: Option<f32>,
    /// Factor of the weights.
    pub scale: f32,
    /// Factor of each expert's weight, `[experts]`.
    pub per_expert: Option<WeightId>,
}

/// Matrices of all experts, [experts, out, in], and their biases, [experts, out].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpertPart {
    /// Matrices.
    pub weight: WeightId,
    /// Biases.
    pub bias: Option<WeightId>,
}

/// out = sum over the chosen e of w_e * (down_e(act(gate_e x) * up_e x)), in the order of `idx`.
#[derive(Clone, Debug, PartialEq)]
pub struct Experts {
    /// Input, `[in]`; contiguous.
    pub x: Operand,
    /// What [`Route`] has chosen, `[k]`.
    pub idx: Operand,
    /// What each counts, `[k]`.
    pub w: Operand,
    /// Result, `[out]`; contiguous.
    pub out: Operand,
    /// What goes through the activation, [experts, ff, in]; `None`: `up` does, and there is no factor.
    pub gate: Option<ExpertPart>,
    /// The factor of it, [experts, ff, in]; where `gate_up`, [experts, 2 ff, in], gate rows first.
    pub up: ExpertPart,
    /// Does `up` hold gate and up?
    pub gate_up: bool,
    /// [experts, out, ff].
    pub down: ExpertPart,
    /// Activation.
    pub act: Act,
    /// The weight multiplies the input of the expert instead of its result.
    pub on_input: bool,
}

impl Experts {
    /// Chosen experts of a row.
    pub const fn n_used(&self) -> u32 {
        self.idx.len()
    }

    /// Matrices that read `x`, in the order of their results.
    pub fn inputs(&self) -> impl Iterator<Item = &ExpertPart> {
        self.gate.iter().chain([&self.up])
    }

    /// All matrices.
    pub fn parts(&self) -> impl Iterator<Item = &ExpertPart> {
        self.inputs().chain([&self.down])
    }
}
