//! What a model family is: a record of enums, numbers and small structs, and what a layer is made of.
//! Defaults are Llama's. Everything that a file does not say stands here, with its reason.

use super::config::{Config, WindowPattern};
use crate::plan::{Act, Alibi, NormKind, Pairs, Score, Span, Spread};

/// How a layer's two branches join the residual stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// x += attention(norm x); x += ffn(norm x).
    Serial,
    /// x += attention(norm x) + ffn(norm x).
    Parallel,
    /// Parallel if the key `use_parallel_residual` says so or is absent, else serial.
    ByKey,
    /// Serial where the layer has a norm before the feed-forward part, else parallel with one norm for both.
    ByNorm,
    /// One branch per layer behind one norm: x += mixer(norm x), or x += ffn(norm x).
    One,
}

/// What makes the rows of a sequence know of each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mixer {
    /// Attention over keys and values.
    Attention,
    /// A short convolution between two gates (LFM2).
    ShortConv,
    /// A selective state with rates of their own for every channel and number.
    Mamba1,
    /// A selective state with one rate per head.
    Mamba2,
    /// A gated delta rule with one decay per head.
    Delta,
    /// A gated delta rule with a decay for each key channel.
    KeyDelta,
}

/// Which layers have the family's other mixer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherWhere {
    /// Those with `attention.head_count_kv` 0.
    NoKvHeads,
    /// Those that `attention.recurrent_layers` names; without it all but each `full_attention_interval`-th.
    Key,
    /// All, beside the first one.
    Beside,
}

/// How a delta net's file holds the two numbers of each value head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BetaForm {
    /// `ssm_beta` and `ssm_alpha`.
    Apart,
    /// `ssm_ba`: of each key head first the betas of its value heads, then their alphas.
    PerKeyHead,
}

/// Which layers rotate queries and keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeWhere {
    /// All.
    All,
    /// None.
    Never,
    /// All but each n-th (layers n - 1, 2 n - 1, ...).
    NotEvery(u32),
    /// Windowed layers only, where there are any; else all.
    Windowed,
    /// All, unless the key `rope.scaling.finetuned` is false.
    Flag,
}

/// Which models bias scores by distance instead of rotating.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlibiWhere {
    /// None.
    Never,
    /// All.
    Always,
    /// Models of that many layers: the file does not say it.
    Layers(u32),
}

/// Weights of the norms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormWeights {
    /// A weight, and a bias if the file has one.
    File,
    /// Neither.
    None,
}

/// Normalisation of queries and keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QkNorm {
    /// None.
    None,
    /// Each head by itself, one weight of head_dim, before the rotation.
    PerHead,
    /// The same behind the rotation.
    PerHeadRotated,
    /// All heads together, before the rotation.
    Whole,
    /// If the file has it, a LayerNorm of each head with a weight of its own, before the rotation.
    LayerIfThere,
    /// If the file has it, [`QkNorm::PerHead`].
    PerHeadIfThere,
    /// Each head by itself behind the rotation, in layers that rotate, without a weight; but in models of that many
    /// experts not at all, which the file does not say.
    Weightless {
        /// Experts of the models that have no such norm.
        unless_experts: u32,
    },
}

/// When the weights of the chosen experts are divided by their sum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Renorm {
    /// Never.
    Never,
    /// Always; this is added to the sum.
    Always(f32),
    /// When the key `expert_weights_norm` says so; this is added to the sum.
    Key(f32),
}

/// How experts are chosen and weighed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExpertRule {
    /// Scores; the key `expert_gating_func` overrides it where `by_key`.
    pub score: Score,
    /// Scores where a layer has biases to choose by and no key says it; `None`: `score`.
    pub score_biased: Option<Score>,
    /// Does that key say it, where it is there?
    pub by_key: bool,
    /// Division by the sum.
    pub renorm: Renorm,
    /// Does a weight multiply the input of its expert?
    pub on_input: bool,
    /// Does a dense part stand beside the experts, with norms for each of both? The router then reads the stream itself,
    /// normalised by `ffn_gate_inp.scale` and divided by sqrt(n_embd).
    pub beside_dense: bool,
}

impl ExpertRule {
    /// Softmax over all, divided by the sum.
    pub const DEFAULT: Self = Self {
        score: Score::Softmax,
        score_biased: None,
        by_key: true,
        renorm: Renorm::Always(0.0),
        on_input: false,
        beside_dense: false,
    };
    /// Softmax over all as it is.
    pub const SOFTMAX: Self = Self { renorm: Renorm::Never, ..Self::DEFAULT };
    /// Sigmoid, divided by the sum.
    pub const SIGMOID: Self = Self { score: Score::Sigmoid, ..Self::DEFAULT };
}

/// Queries whose temperature grows with their position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TemperWhere {
    /// None.
    Never,
    /// Those of all layers, counted from position 0.
    All,
    /// Those of layers that do not rotate, counted from position 1.
    Unrotated,
}

/// Kinds of windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowKind {
    /// The last n tokens.
    Slide,
    /// Those of the same n.
    Chunk,
    /// Those up to n / 2 away, on both sides.
    Near,
}

/// Form of the feed-forward part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ffn {
    /// down(act(gate x) * up x).
    Gated,
    /// The same; `ffn_up` holds [gate | up].
    Fused,
    /// down(act(up x)).
    Plain,
}

/// Factor of the token embeddings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum EmbedScale {
    /// The key `embedding_scale`, or 1.
    Key,
    /// The key, or this.
    KeyOr(f32),
    /// sqrt(n_embd).
    Sqrt,
}

/// The activation of the feed-forward part.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FfnAct {
    /// The same in every model.
    Fixed(Act),
    /// xIELU with the numbers of `xielu.*`, one per layer.
    Xielu,
}

/// How the key `logit_scale` acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogitScale {
    /// Logits are divided by it; without it they stay.
    Divide,
    /// Logits are divided by it, or by n_embd over this width.
    DivideOrWidth(u32),
    /// Logits are multiplied by it; without it they stay.
    Multiply,
}

/// Which layers see only the last `attention.sliding_window` tokens, if that key is there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Windows {
    /// 0: all layers; n: all but the last of each n. The key `attention.sliding_window_pattern` overrides it.
    pub period: u32,
    /// Rotation base of windowed layers when `rope.freq_base_swa` is absent; `None`: that of the others.
    pub rope_theta: Option<f32>,
    /// Does the scaling of rotations apply to windowed layers too?
    pub rope_scaled: bool,
    /// Visible tokens when the key is absent; `None`: no layer is windowed then.
    pub default: Option<u32>,
    /// What a window is.
    pub kind: WindowKind,
    /// Is the first layer of each period the full one, rather than the last?
    pub full_first: bool,
}

/// One model family.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// Values of `general.architecture`.
    pub names: &'static [&'static str],
    /// How the branches join.
    pub block: Block,
    /// Kind of all norms but those of queries and keys.
    pub norm: NormKind,
    /// What the norms multiply with.
    pub norm_weights: NormWeights,
    /// Norm of the embeddings.
    pub embed_norm: Option<&'static str>,
    /// Norm before attention: the first of these that the layer has; none when the list is empty.
    pub attn_norm: &'static [&'static str],
    /// Norm before the feed-forward part; `None` in parallel blocks: the attention's.
    pub ffn_norm: Option<&'static str>,
    /// Norm on the attention's result, before it is added.
    pub attn_post_norm: Option<&'static str>,
    /// Norm on the feed-forward result, before it is added.
    pub ffn_post_norm: Option<&'static str>,
    /// Pairs that the rotation turns.
    pub rope: Pairs,
    /// Layers that rotate.
    pub rope_where: RopeWhere,
    /// Models whose scores are biased by distance; they do not rotate.
    pub alibi: AlibiWhere,
    /// Offset of the first row of `position_embd`, which is added to the embeddings; `None`: no such table.
    pub positions: Option<u32>,
    /// Are values normalised, without a weight? Full layers without a matrix for them then take the raw keys.
    pub v_norm: bool,
    /// May the last layers use keys and values of layers before them? `attention.shared_kv_layers` says how many do.
    pub shares_kv: bool,
    /// Norms of queries and keys.
    pub qk_norm: QkNorm,
    /// Models of that many layers scale scores by 1/sqrt(n_embd / n_head) instead of 1/sqrt(head_dim):
    /// the file lacks query_pre_attn_scalar.
    pub scale_n_embd_layers: Option<u32>,
    /// Factor of the scores; `None`: the key `attention.scale`, or 1/sqrt(head_dim).
    pub attn_scale: Option<f32>,
    /// Whose queries `attention.temperature_scale` warms by position.
    pub temper: TemperWhere,
    /// Strength and length of that where the file does not say it.
    pub temper_default: Option<(f32, u32)>,
    /// Are the ends of yarn's ramp whole pairs?
    pub yarn_rounds: bool,
    /// Windowed layers.
    pub windows: Windows,
    /// Form of the feed-forward part.
    pub ffn: Ffn,
    /// Its activation.
    pub act: FfnAct,
    /// Experts, in layers that have `ffn_gate_inp`.
    pub experts: Option<ExpertRule>,
    /// Factor of the embeddings.
    pub embed_scale: EmbedScale,
    /// Factor of the branches when `residual_scale` is absent: this over sqrt(layers); `None`: 1.
    pub residual: Option<f32>,
    /// How `logit_scale` acts.
    pub logit_scale: LogitScale,
    /// Soft cap of the scores when the key is absent.
    pub attn_softcap: Option<f32>,
    /// Soft cap of the logits when the key is absent.
    pub final_softcap: Option<f32>,
    /// Do keys and values come from one vector per token, which alone is remembered?
    pub latent: bool,
    /// Does latent attention see chosen positions only?
    pub indexer: bool,
    /// Tensors whose absence nothing else would betray: `x.bias` is needed beside every `x.weight`, `x<y` beside every
    /// `y`. The lists are the published models'; without them a file that lost one would be computed silently wrong.
    pub needs: &'static [&'static [&'static str]],
    /// Endings of tensors that this computation does not need.
    pub ignore: &'static [&'static str],
    /// What mixes the rows.
    pub mixer: Mixer,
    /// Another mixer that some layers have.
    pub other: Option<Mixer>,
    /// Which layers those are.
    pub other_where: OtherWhere,
    /// Does `attn_q` hold [query | gate] of each head, whose sigmoid multiplies attention's result?
    pub gated: bool,
    /// Where a delta net's numbers per head stand.
    pub beta: BetaForm,
    /// Which key head of a delta net a value head works with.
    pub spread: Spread,
    /// Does Mamba 1 have norms of step sizes, inputs and outputs?
    pub dt_norms: bool,
    /// Does a row see earlier ones alone? The key `attention.causal` overrides it. What looks both ways has no head: its
    /// results are hidden states.
    pub causal: bool,
    /// Are there several residual streams, and gates of which only what stands out counts?
    pub streams: bool,
    /// Norms of the stream itself, behind the addition of attention and of the feed-forward part.
    pub stream_norms: Option<[&'static str; 2]>,
    /// Norm behind the last layer.
    pub output_norm: Option<&'static str>,
    /// Is row 0 of `token_types`, where the file has it, added to the embeddings?
    pub token_types: bool,
    /// Does the first layer have a norm before attention? Else it reads the embeddings' norm.
    pub first_attn_norm: bool,
}

/// One layer, resolved.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Layer {
    /// Which keys its queries see.
    pub span: Span,
    /// Rotation, if any.
    pub rope: Option<Pairs>,
    /// Biases by distance, if any.
    pub alibi: Option<Alibi>,
    /// Key and value heads.
    pub n_head_kv: u32,
    /// Width of queries and keys of a head.
    pub head_dim_k: u32,
    /// Width of values of a head.
    pub head_dim_v: u32,
    /// Dims of a head that rotate.
    pub n_rot: u32,
    /// The layer whose keys and values it uses: mostly its own.
    pub kv_from: u32,
    /// Width of the feed-forward part.
    pub n_ff: u32,
    /// What mixes its rows, side by side.
    pub mixers: [Option<Mixer>; 2],
    /// Has it a feed-forward part?
    pub has_ffn: bool,
}

impl Layer {
    /// Does it see only a window?
    pub fn is_windowed(&self) -> bool {
        !matches!(self.span, Span::Full | Span::All)
    }
}

impl Family {
    /// Layer `i` of a model with this configuration.
    pub fn layer(&self, config: &Config, i: u32) -> Layer {
        let window = config.window.filter(|_| self.is_windowed(config, i));
        let span = match (window, self.windows.kind) {
            (Some(n), WindowKind::Slide) => Span::Slide(n),
            (Some(n), WindowKind::Chunk) => Span::Chunk(n),
            (Some(n), WindowKind::Near) => Span::Near(n / 2),
            (None, _) if config.causal => Span::Full,
            (None, _) => Span::All,
        };
        let alibi = match self.alibi {
            AlibiWhere::Never => false,
            AlibiWhere::Always => true,
            AlibiWhere::Layers(n) => n == config.n_layer,
        };
        let rotates = match self.rope_where {
            RopeWhere::All => true,
            RopeWhere::Never => false,
            RopeWhere::NotEvery(n) => !(i + 1).is_multiple_of(n),
            RopeWhere::Windowed => {
                window.is_some() || config.window.is_none() || !(0..config.n_layer).any(|j| self.is_windowed(config, j))
            }
            RopeWhere::Flag => config.rope.finetuned != Some(false),
        };
        let (mixers, has_ffn) = self.branches(config, i);
        let windowed = |j| config.window.is_some() && self.is_windowed(config, j);
        let of_window = config.of_window.filter(|_| windowed(i));
        let (head_dim_k, head_dim_v) =
            of_window.map_or((config.head_dim_k, config.head_dim_v), |w| (w.head_dim_k, w.head_dim_v));
        let n_rot = of_window.and_then(|w| w.n_rot).or(config.rope.n_rot).unwrap_or(head_dim_k).min(head_dim_k & !1);
        // The last layers share what the last one of their kind before them has stored.
        let n_own = config.n_layer - config.n_layer_shared_kv;
        let shared = (i >= n_own).then(|| (0..n_own).rev().find(|&j| windowed(j) == windowed(i)));
        let kv_from = shared.flatten().unwrap_or(i);
        Layer {
            span,
            rope: (rotates && !alibi).then_some(self.rope),
            alibi: alibi.then_some(Alibi { max: config.alibi_max }),
            n_head_kv: config.n_head_kv[kv_from as usize],
            head_dim_k,
            head_dim_v,
            n_rot,
            kv_from,
            n_ff: config.n_ff[i as usize],
            mixers,
            has_ffn,
        }
    }

    /// The mixers of layer `i`, and whether it has a feed-forward part.
    fn branches(&self, config: &Config, i: u32) -> ([Option<Mixer>; 2], bool) {
        let own = [Some(self.mixer), None];
        let Some(other) = self.other else { return (own, self.block != Block::One) };
        let is_other = match self.other_where {
            OtherWhere::NoKvHeads => config.n_head_kv[i as usize] == 0,
            OtherWhere::Key => match &config.state.layers {
                Some(layers) => layers[i as usize],
                None => !(i + 1).is_multiple_of(config.state.interval),
            },
            OtherWhere::Beside => return ([Some(self.mixer), Some(other)], true),
        };
        match (is_other, self.block) {
            (true, Block::One) if config.n_ff[i as usize] > 0 => ([None; 2], true),
            (true, block) => ([Some(other), None], block != Block::One),
            (false, block) => (own, block != Block::One),
        }
    }

    /// Does layer `i` see only a window, where the model has one?
    fn is_windowed(&self, config: &Config, i: u32) -> bool {
        match &config.window_pattern {
            Some(WindowPattern::Layers(list)) => list[i as usize],
            Some(WindowPattern::Period(n)) => self.windows.has(*n, i),
            None => self.windows.has(self.windows.period, i),
        }
    }
}

impl Windows {
    /// Is layer `i` one of the windowed ones of its period?
    fn has(&self, period: u32, i: u32) -> bool {
        period == 0 || i % period != if self.full_first { 0 } else { period - 1 }
    }
}
