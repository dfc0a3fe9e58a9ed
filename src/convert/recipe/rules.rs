//! What a recipe says about a tensor by its place in the model.

use super::{ModelFacts, Recipe, TensorFacts, is_quantized, layer, row_len};
use crate::quant::BlockType;

/// The place of a tensor in a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Category {
    Output,
    Embedding,
    Qkv,
    KvB,
    V,
    K,
    Q,
    AttnOutput,
    Up,
    Gate,
    Down,
    Other,
}

impl Category {
    /// The first part of a name that says it.
    const PARTS: &[(&str, Self)] = &[
        ("attn_qkv.weight", Self::Qkv),
        ("attn_kv_b.weight", Self::KvB),
        ("attn_v.weight", Self::V),
        ("attn_k.weight", Self::K),
        ("attn_q.weight", Self::Q),
        ("attn_output.weight", Self::AttnOutput),
        ("ffn_up", Self::Up),
        ("ffn_gate", Self::Gate),
        ("ffn_down", Self::Down),
    ];

    pub(super) fn of(name: &str) -> Self {
        match name {
            "output.weight" => Self::Output,
            "token_embd.weight" | "per_layer_token_embd.weight" => Self::Embedding,
            _ => Self::PARTS.iter().find(|(part, _)| name.contains(part)).map_or(Self::Other, |p| p.1),
        }
    }

    /// Values, alone or fused with others: the rules of values hold.
    fn has_values(self) -> bool {
        matches!(self, Self::V | Self::Qkv | Self::KvB)
    }

    pub(super) fn is_outside_of_blocks(self) -> bool {
        matches!(self, Self::Output | Self::Embedding)
    }
}

/// A recipe at work on a model: some rules depend on how many tensors of a kind came before.
pub(super) struct Rules<'a> {
    recipe: Recipe,
    model: &'a ModelFacts,
    /// Whether embeddings serve as output.
    is_tied: bool,
    /// Tensors with values in the model, and those seen.
    n_values: usize,
    values: usize,
    up: usize,
    gate: usize,
    down: usize,
}

impl<'a> Rules<'a> {
    pub(super) fn new(recipe: Recipe, model: &'a ModelFacts, tensors: &[TensorFacts<'_>]) -> Self {
        let has_values = |t: &&TensorFacts<'_>| is_quantized(t) && Category::of(t.name).has_values();
        Self {
            recipe,
            model,
            is_tied: !tensors.iter().any(|t| t.name == "output.weight"),
            n_values: tensors.iter().filter(has_values).count(),
            values: 0,
            up: 0,
            gate: 0,
            down: 0,
        }
    }

    /// The type of the next tensor that is quantized.
    pub(super) fn next(&mut self, tensor: &TensorFacts<'_>, category: Category) -> BlockType {
        let counter = match category {
            Category::Up => &mut self.up,
            Category::Gate => &mut self.gate,
            Category::Down => &mut self.down,
            Category::V | Category::Qkv | Category::KvB => &mut self.values,
            _ => return self.choose(tensor, category, 0),
        };
        let count = *counter;
        *counter += 1;
        self.choose(tensor, category, count)
    }

    /// `count`: tensors of the kind that came before.
    fn choose(&self, tensor: &TensorFacts<'_>, category: Category, count: usize) -> BlockType {
        use Category as C;
        use Recipe as R;
        let base = self.recipe.base();
        if base.is_float() {
            return base;
        }
        // With experts, layers may have several tensors of a kind, or none: the layer counts then.
        let place = if self.model.n_expert > 1 { layer(tensor.name).unwrap_or(count) } else { count };
        let chosen = match (category, self.recipe) {
            (C::Output, _) => self.output(tensor),
            (C::Embedding, _) if self.is_tied => self.output(tensor),
            (_, R::Mxfp4Moe) => Some(if tensor.shape.len() > 2 { BlockType::Mxfp4 } else { BlockType::Q8_0 }),
            (C::Embedding, _) => self.embedding(),
            (_, R::Iq1S | R::Iq1M | R::Iq2Xxs | R::Iq2Xs | R::Iq2S | R::Iq2M) => self.two_bits(category, count),
            (C::V | C::Qkv | C::KvB, _) => Some(self.values(count)),
            (C::K, _) if self.model.n_expert == 8 => Some(BlockType::Q8_0),
            (C::K | C::Q, R::Iq3Xs) => Some(BlockType::Iq3Xxs),
            (C::K | C::Q, R::Iq3Xxs) => Some(BlockType::Iq2S),
            (C::Down, _) => self.down(place),
            (C::AttnOutput, _) => self.attn_output(),
            (C::Gate | C::Up, R::Iq3Xs) => {
                let n = self.model.n_layer;
                (n / 8..7 * n / 8).contains(&place).then_some(BlockType::Iq3Xxs)
            }
            (C::K | C::Q | C::Gate | C::Up | C::Other, _) => None,
        };
        chosen.unwrap_or(base)
    }

    fn is_falcon(&self) -> bool {
        self.model.arch == "falcon"
    }

    /// Whether four or more query heads share a head of values, so that these are few and matter.
    fn shares_values(&self) -> bool {
        self.model.n_head.checked_div(self.model.n_head_kv).unwrap_or(0) >= 4
    }

    /// A model about which llama.cpp knows that its values are small and can be had for little.
    fn is_70b(&self) -> bool {
        match (self.model.arch.as_str(), self.model.n_layer) {
            ("llama", 80) => self.model.n_head != self.model.n_head_kv,
            ("deci" | "olmo" | "qwen2", 80) | ("jais2", 68) => true,
            _ => false,
        }
    }

    fn output(&self, tensor: &TensorFacts<'_>) -> Option<BlockType> {
        use BlockType as T;
        use Recipe as R;
        let base = self.recipe.base();
        let is_whole = base.row_bytes(row_len(tensor)).is_some();
        match self.recipe {
            R::Mxfp4Moe => Some(T::Q8_0),
            _ if self.is_falcon() || !is_whole => Some(T::Q8_0),
            R::Iq1S | R::Iq1M | R::Iq2Xxs | R::Iq2Xs | R::Iq2S | R::Iq2M | R::Iq3Xxs => Some(T::Q5K),
            _ => (base != T::Q8_0).then_some(T::Q6K),
        }
    }

    fn embedding(&self) -> Option<BlockType> {
        use Recipe as R;
        match self.recipe {
            R::Iq1S | R::Iq1M | R::Iq2Xxs | R::Iq2Xs => Some(BlockType::Q2K),
            R::Iq2S | R::Iq2M | R::Iq3Xxs => Some(BlockType::Iq3S),
            R::Tq1_0 | R::Tq2_0 | R::Q2_0 => Some(BlockType::Q4K),
            _ => None,
        }
    }

    /// Recipes of two bits and less.
    fn two_bits(&self, category: Category, count: usize) -> Option<BlockType> {
        use BlockType as T;
        use Recipe as R;
        let n_expert = self.model.n_expert;
        let is_larger = matches!(self.recipe, R::Iq2S | R::Iq2M);
        let raised = if is_larger { T::Iq3S } else { T::Q2K };
        match category {
            c if c.has_values() => Some(if self.shares_values() || n_expert >= 4 { T::Q4K } else { raised }),
            Category::K if n_expert == 8 => Some(T::Q4K),
            Category::Down if count < self.model.n_layer / 8 => Some(raised),
            Category::AttnOutput if n_expert == 8 => Some(T::Q5K),
            Category::AttnOutput if matches!(self.recipe, R::Iq1S | R::Iq1M) => Some(T::Iq2Xxs),
            Category::AttnOutput if is_larger => Some(T::Iq3S),
            _ => None,
        }
    }

    fn values(&self, i: usize) -> BlockType {
        use BlockType as T;
        use Recipe as R;
        if self.model.n_expert == 8 {
            return T::Q8_0;
        }
        let shares = self.shares_values();
        let ty = match self.recipe {
            R::Q2K if shares => T::Q4K,
            R::Q2K => T::Q3K,
            R::Q2KS | R::Iq3Xxs | R::Iq3Xs | R::Iq3S if shares => T::Q4K,
            R::Iq3Xxs if !self.model.has_importance => T::Iq3S,
            R::Iq3M => T::Q4K,
            R::Q3KM if i < 2 => T::Q5K,
            R::Q3KM => T::Q4K,
            R::Q3KL => T::Q5K,
            R::Iq4Nl | R::Iq4Xs if shares => T::Q5K,
            R::Q4KM | R::Q5KM if gets_more_bits(i, self.n_values) => T::Q6K,
            R::Q4KS if i < 4 => T::Q5K,
            _ => self.recipe.base(),
        };
        if self.is_70b() && matches!(ty, T::Q3K | T::Q4K) { T::Q5K } else { ty }
    }

    fn down(&self, i: usize) -> Option<BlockType> {
        use BlockType as T;
        use Recipe as R;
        let (n, falcon, importance) = (self.model.n_layer, self.is_falcon(), self.model.has_importance);
        let is_early = i < n / 8;
        let more = gets_more_bits(i, n);
        match self.recipe {
            R::Q2K => Some(T::Q3K),
            R::Q2KS if is_early => Some(T::Q4K),
            R::Iq3Xxs if !importance => Some(if is_early { T::Q4K } else { T::Q3K }),
            R::Q3KM if i < n / 16 => Some(T::Q5K),
            R::Q3KM => Some(if !falcon || more { T::Q4K } else { T::Q3K }),
            R::Iq3M if is_early || self.model.n_expert == 8 && more => Some(T::Q4K),
            R::Q3KL => Some(if falcon { T::Q4K } else { T::Q5K }),
            R::Q4KM if falcon && i < n / 16 => Some(T::Q6K),
            R::Q4KM if falcon && more => Some(T::Q5K),
            R::Q4KM if !falcon && more => Some(T::Q6K),
            R::Iq4Nl | R::Iq4Xs if !importance && is_early => Some(T::Q5K),
            R::Q5KM if more => Some(T::Q6K),
            R::Q4KS if !falcon && is_early => Some(T::Q5K),
            R::Q4_0 if importance && is_early => Some(T::Q4_1),
            R::Q5_0 if importance && is_early => Some(T::Q5_1),
            _ => None,
        }
    }

    fn attn_output(&self) -> Option<BlockType> {
        use BlockType as T;
        use Recipe as R;
        if self.is_falcon() {
            return (self.recipe == R::Q3KL).then_some(T::Q4K);
        }
        let with_experts =
            [R::Q2K, R::Iq3Xs, R::Iq3Xxs, R::Q3KS, R::Q3KM, R::Iq4Nl, R::Q4KS, R::Q4KM, R::Iq3S, R::Iq3M, R::Iq4Xs];
        if self.model.n_expert == 8 {
            return with_experts.contains(&self.recipe).then_some(T::Q5K);
        }
        match self.recipe {
            R::Q2K => Some(T::Q3K),
            R::Iq3Xxs => Some(T::Iq3S),
            R::Q3KM | R::Iq3M => Some(T::Q4K),
            R::Q3KL => Some(T::Q5K),
            _ => None,
        }
    }
}

/// Whether tensor `i` of `n` is among those worth more bits: the first and last eighth, and every third
/// between.
fn gets_more_bits(i: usize, n: usize) -> bool {
    i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2
}
