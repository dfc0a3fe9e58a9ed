//! The numbers of a model, read from metadata once, each with its range.

mod keys;
mod rope;
mod state;

use super::family::{AlibiWhere, Block, Family, FfnAct, Mixer, OtherWhere, WindowKind};
use crate::error::{Error, ErrorKind, Result, printable};
use crate::gguf::{Metadata, Value};
use crate::plan::{Act, Groups, NormKind, PoolKind, Score};
use keys::Keys;
pub use rope::{RopeConfig, RopeScaling};
pub use state::StateConfig;

/// Largest width, length or table that a sane model has; a larger one is a broken file.
const MAX_SIZE: u32 = 1 << 20;
const MAX_LAYERS: u32 = 1024;
const MAX_HEADS: u32 = 1024;
const MAX_EXPERTS: u32 = 1 << 14;
const MAX_STREAMS: u32 = 64;

/// How the hidden states of a text become its vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Pooling {
    /// They do not: each token keeps its own.
    None,
    /// Their mean.
    Mean,
    /// The first token's.
    Cls,
    /// The last token's.
    Last,
}

impl Pooling {
    /// The step that does it.
    pub const fn kind(self) -> Option<PoolKind> {
        match self {
            Self::None => None,
            Self::Mean => Some(PoolKind::Mean),
            Self::Cls => Some(PoolKind::First),
            Self::Last => Some(PoolKind::Last),
        }
    }
}

/// Which layers are windowed, where the file says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WindowPattern {
    /// All but the last of each n.
    Period(u32),
    /// One flag per layer.
    Layers(Vec<bool>),
}

/// Residual streams side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamConfig {
    /// How many.
    pub count: u32,
    /// The one that layers read.
    pub active: u32,
}

/// Sizes of windowed layers, where they are others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowSizes {
    /// Width of queries and keys of one head.
    pub head_dim_k: u32,
    /// Width of values of one head.
    pub head_dim_v: u32,
    /// Dims of a head that rotate; absent: as in other layers.
    pub n_rot: Option<u32>,
}

/// The numbers of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `general.architecture`.
    pub arch: String,
    /// Transformer layers that compute the next token.
    pub n_layer: u32,
    /// Layers behind them, which predict further tokens and are left out.
    pub n_layer_ahead: u32,
    /// Width of the residual stream.
    pub n_embd: u32,
    /// Query heads.
    pub n_head: u32,
    /// Key and value heads, per layer.
    pub n_head_kv: Vec<u32>,
    /// Width of queries and keys of one head.
    pub head_dim_k: u32,
    /// Width of values of one head.
    pub head_dim_v: u32,
    /// The same in windowed layers.
    pub of_window: Option<WindowSizes>,
    /// Layers at the end that use keys and values of layers before them.
    pub n_layer_shared_kv: u32,
    /// Numbers that each layer gets of each token's own embedding; `None`: no layer does.
    pub n_embd_per_layer: Option<u32>,
    /// Residual streams, where there are several.
    pub streams: Option<StreamConfig>,
    /// Standard deviations above the mean below which gates are 0, per layer; absent where no layer has such.
    pub sparsity: Option<Vec<Option<f32>>>,
    /// Width of the feed-forward part, per layer.
    pub n_ff: Vec<u32>,
    /// Context length that the model was trained for.
    pub n_ctx_train: u32,
    /// Epsilon of the norms.
    pub norm_eps: f32,
    /// Rotation.
    pub rope: RopeConfig,
    /// Visible tokens of windowed layers.
    pub window: Option<u32>,
    /// Which layers are windowed.
    pub window_pattern: Option<WindowPattern>,
    /// Factor of the scores instead of 1/sqrt(head_dim).
    pub attn_scale: Option<f32>,
    /// Soft cap of the scores.
    pub attn_softcap: Option<f32>,
    /// Soft cap of the logits.
    pub final_softcap: Option<f32>,
    /// Limit of queries, keys and values.
    pub clamp_kqv: Option<f32>,
    /// Strength and length of the queries' temperature.
    pub temperature: Option<(f32, u32)>,
    /// Factor of the token embeddings.
    pub embedding_scale: Option<f32>,
    /// Factor of each branch before it is added.
    pub residual_scale: Option<f32>,
    /// Divisor or factor of the logits.
    pub logit_scale: Option<f32>,
    /// Largest exponent of biases by distance.
    pub alibi_max: f32,
    /// Is the file's block parallel, where its architecture leaves it open?
    pub parallel: Option<bool>,
    /// Raw numbers of xIELU, per layer: positive, negative, beta, eps.
    pub xielu: Option<Vec<[f32; 4]>>,
    /// Sizes of layers that keep a state.
    pub state: StateConfig,
    /// Does a row see earlier ones alone?
    pub causal: bool,
    /// The activation that the file names, in place of the family's.
    pub act: Option<Act>,
    /// How a text gets its vector, where the file or the caller says so.
    pub pooling: Option<Pooling>,
    /// Are the results hidden states rather than logits?
    pub embeds: bool,
    /// Experts, where the file has any.
    pub experts: Option<ExpertConfig>,
    /// Latent attention, where the family has it.
    pub latent: Option<LatentConfig>,
    /// The choice of positions, where the family has it.
    pub indexer: Option<IndexerConfig>,
}

/// The numbers of what chooses positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexerConfig {
    /// Heads.
    pub heads: u32,
    /// Width of a head.
    pub dim: u32,
    /// Positions that are chosen.
    pub top: u32,
}

/// The numbers of latent attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LatentConfig {
    /// Numbers that keys and values are made from.
    pub rank: u32,
    /// Numbers that queries are made from; `None`: they come from the row itself.
    pub q_rank: Option<u32>,
    /// Dims of a key that rotate; all heads share them.
    pub n_rot: u32,
    /// Dims of a key that do not.
    pub n_nope: u32,
    /// Dims of a value.
    pub value: u32,
}

/// The numbers of the experts.
#[derive(Clone, Debug, PartialEq)]
pub struct ExpertConfig {
    /// Experts of a layer.
    pub count: u32,
    /// Experts that a row goes to.
    pub used: u32,
    /// Groups, and how many of them are chosen from.
    pub groups: Option<Groups>,
    /// How scores come about, where the file says it.
    pub score: Option<Score>,
    /// Are weights divided by their sum, where the file says it?
    pub renorm: Option<bool>,
    /// Factor of the weights.
    pub scale: f32,
}

impl Keys<'_> {
    /// Keys that change the computation in a way that no step does yet: a file with them must not run as if they
    /// were not there.
    fn refuse_unsupported(&self, family: &Family) -> Result<()> {
        for key in ["expert_count", "attention.shared_kv_layers", "nextn_predict_layers", "attention.max_alibi_bias"] {
            let name = self.name(key);
            let is_known = match key {
                "attention.max_alibi_bias" => family.alibi != AlibiWhere::Never,
                "attention.shared_kv_layers" => family.shares_kv,
                _ => family.experts.is_some(),
            };
            if is_known {
                continue;
            }
            if let Some(x) = self.meta.f32(&name)?
                && x != 0.0
            {
                return Err(self.meta.key_error(&name, x, "0: more is not supported yet"));
            }
        }
        Ok(())
    }

    /// How a text gets its vector.
    fn pooling(&self) -> Result<Option<Pooling>> {
        let key = "pooling_type";
        Ok(match self.size(key, 0..=u32::MAX)? {
            None => None,
            Some(0) => Some(Pooling::None),
            Some(1) => Some(Pooling::Mean),
            Some(2) => Some(Pooling::Cls),
            Some(3) => Some(Pooling::Last),
            Some(n) => {
                let expected = "0 to 3 (none, mean, cls, last): models that rank texts are not supported";
                return Err(self.meta.key_error(&self.name(key), n, expected));
            }
        })
    }

    /// The activation that the key `hidden_activation` names, in the words of transformers.
    fn activation(&self) -> Result<Option<Act>> {
        let name = self.name("hidden_activation");
        Ok(match self.meta.str(&name)? {
            None => None,
            Some("gelu") => Some(Act::GeluErf),
            Some("gelu_new" | "gelu_pytorch_tanh") => Some(Act::Gelu),
            Some("silu" | "swish") => Some(Act::Silu),
            Some("relu") => Some(Act::Relu),
            Some(other) => {
                let expected = "gelu, gelu_new, gelu_pytorch_tanh, silu or relu";
                return Err(self.meta.key_error(&name, format!("`{}`", printable(other)), expected));
            }
        })
    }

    /// The four numbers of xIELU per layer. Their keys carry no architecture's name, and may hold one number
    /// for all layers.
    fn xielu(&self, n_layer: u32) -> Result<Vec<[f32; 4]>> {
        let mut all = vec![[0.0; 4]; n_layer as usize];
        for (i, part) in ["alpha_p", "alpha_n", "beta", "eps"].into_iter().enumerate() {
            let name = format!("xielu.{part}");
            let Some(list) = self.floats_of_layers(&name, n_layer, |x| x.is_finite())? else {
                return Err(self.missing(&name));
            };
            all.iter_mut().zip(list).for_each(|(layer, x)| layer[i] = x);
        }
        Ok(all)
    }

    /// The residual streams of a family that has several.
    fn streams(&self) -> Result<StreamConfig> {
        let count = self.required("altup.num_inputs", 2..=MAX_STREAMS)?;
        Ok(StreamConfig { count, active: self.required("altup.active_idx", 0..=count - 1)? })
    }

    /// Standard deviations above the mean below which gates are 0; none for a layer whose number is -inf.
    fn sparsity(&self, n_layer: u32) -> Result<Vec<Option<f32>>> {
        let fits = |x: f32| x.is_finite() || x == f32::NEG_INFINITY;
        let name = self.name("activation_sparsity_scale");
        let Some(list) = self.floats_of_layers(&name, n_layer, fits)? else { return Err(self.missing(&name)) };
        Ok(list.into_iter().map(|x| x.is_finite().then_some(x)).collect())
    }

    /// The numbers of latent attention, in the form whose keys say what is remembered.
    fn latent(&self) -> Result<LatentConfig> {
        let n_rot = self.required("rope.dimension_count", 2..=MAX_SIZE)?;
        let key = self.required("attention.key_length_mla", n_rot + 1..=MAX_SIZE)?;
        Ok(LatentConfig {
            rank: self.required("attention.kv_lora_rank", 1..=MAX_SIZE)?,
            q_rank: self.size("attention.q_lora_rank", 0..=MAX_SIZE)?.filter(|&n| n > 0),
            n_rot,
            n_nope: key - n_rot,
            value: self.required("attention.value_length_mla", 1..=MAX_SIZE)?,
        })
    }

    /// The numbers of experts, where the file has any.
    fn experts(&self) -> Result<Option<ExpertConfig>> {
        let Some(count) = self.size("expert_count", 0..=MAX_EXPERTS)?.filter(|&n| n > 0) else { return Ok(None) };
        let used = self.required("expert_used_count", 1..=count)?;
        let n_group = self.size("expert_group_count", 0..=count)?.unwrap_or(0);
        let groups = match n_group > 1 {
            true => Some(Groups { count: n_group, used: self.required("expert_group_used_count", 1..=n_group)? }),
            false => None,
        };
        if let Some(g) = groups
            && !(count.is_multiple_of(g.count) && count / g.count * g.used >= used)
        {
            let name = self.name("expert_group_count");
            return Err(self.meta.key_error(
                &name,
                g.count,
                format!("groups that divide {count} experts and hold {used}"),
            ));
        }
        let name = self.name("expert_gating_func");
        let score = match self.size("expert_gating_func", 0..=u32::MAX)? {
            None | Some(0) => None,
            Some(1) => Some(Score::Softmax),
            Some(2) => Some(Score::Sigmoid),
            Some(3) => Some(Score::Chosen),
            Some(n) => return Err(self.meta.key_error(&name, n, "1 (softmax), 2 (sigmoid) or 3 (of the chosen)")),
        };
        Ok(Some(ExpertConfig {
            count,
            used,
            groups,
            score,
            renorm: self.meta.bool(&self.name("expert_weights_norm"))?,
            scale: self.positive("expert_weights_scale")?.unwrap_or(1.0),
        }))
    }

    /// Sizes of windowed layers; values of other layers have `head_dim_v` numbers.
    fn window_sizes(&self, head_dim_v: u32) -> Result<Option<WindowSizes>> {
        let Some(head_dim_k) = self.size("attention.key_length_swa", 1..=MAX_SIZE)? else { return Ok(None) };
        let n_rot = self.size("rope.dimension_count_swa", 1..=MAX_SIZE)?;
        if let Some(n) = n_rot.filter(|n| n % 2 != 0 || *n > head_dim_k) {
            let name = self.name("rope.dimension_count_swa");
            return Err(self.meta.key_error(&name, n, format!("an even number up to the head's {head_dim_k}")));
        }
        if n_rot.is_none() && head_dim_k % 2 != 0 {
            let name = self.name("attention.key_length_swa");
            return Err(self.meta.key_error(
                &name,
                head_dim_k,
                "an even number, or `rope.dimension_count_swa` beside it",
            ));
        }
        let head_dim_v = self.size("attention.value_length_swa", 1..=MAX_SIZE)?.unwrap_or(head_dim_v);
        Ok(Some(WindowSizes { head_dim_k, head_dim_v, n_rot }))
    }

    fn window_pattern(&self, n_layer: u32) -> Result<Option<WindowPattern>> {
        let key = "attention.sliding_window_pattern";
        let name = self.name(key);
        match self.meta.value(&name) {
            None => Ok(None),
            Some(Value::Array(array)) => match array.bools().map(Iterator::collect::<Vec<bool>>) {
                Some(list) if list.len() == n_layer as usize => Ok(Some(WindowPattern::Layers(list))),
                _ => Err(self.meta.key_error(&name, format!("{} values", array.len()), format!("{n_layer} booleans"))),
            },
            Some(_) => Ok(self.size(key, 0..=MAX_LAYERS)?.map(WindowPattern::Period)),
        }
    }
}

/// `general.architecture` of a file.
///
/// # Errors
/// The key is missing or empty.
pub fn architecture<'a>(meta: Metadata<'a>) -> Result<&'a str> {
    match meta.str("general.architecture")? {
        Some(arch) if !arch.is_empty() => Ok(arch),
        found => {
            let what = if found.is_some() { "is empty" } else { "is missing" };
            let text = format!("key `general.architecture` {what}: the file holds no model that can run");
            Err(Error::new(ErrorKind::Model, text).in_file(meta.path()))
        }
    }
}

impl Config {
    /// Reads and checks the numbers of the model.
    ///
    /// # Errors
    /// [`ErrorKind::Model`] naming the key, its place, what was found and what was expected.
    pub fn read(meta: Metadata<'_>, family: &Family, n_vocab: u32, pooling: Option<Pooling>) -> Result<Config> {
        let arch = architecture(meta)?;
        let keys = Keys { meta, arch };
        keys.refuse_unsupported(family)?;
        let n_block = keys.required("block_count", 1..=MAX_LAYERS)?;
        let n_layer_ahead = keys.size("nextn_predict_layers", 0..=n_block - 1)?.unwrap_or(0);
        let n_layer = n_block - n_layer_ahead;
        let n_embd = keys.required("embedding_length", 1..=MAX_SIZE)?;
        // Families of one other mixer write 0 heads, or none.
        let n_head = match family.mixer {
            Mixer::Attention => keys.required("attention.head_count", 1..=MAX_HEADS)?,
            _ => 0,
        };
        // Some families mark layers of their other mixer by 0 heads.
        let least_kv = u32::from(family.other.is_none() || family.other_where != OtherWhere::NoKvHeads);
        let n_head_kv = match n_head {
            0 => None,
            _ => keys.per_layer("attention.head_count_kv", n_block, least_kv..=MAX_HEADS)?,
        };
        let n_head_kv = n_head_kv.unwrap_or_else(|| vec![n_head; n_block as usize]);
        if let Some(n) = n_head_kv.iter().find(|n| **n > 0 && !n_head.is_multiple_of(**n)) {
            let name = keys.name("attention.head_count_kv");
            return Err(meta.key_error(&name, n, format!("a divisor of the {n_head} query heads")));
        }
        let head_dim_k = match n_head {
            0 => 0,
            _ => keys.size("attention.key_length", 1..=MAX_SIZE)?.unwrap_or(n_embd / n_head),
        };
        if head_dim_k == 0 && n_head > 0 {
            return Err(meta.key_error(&keys.name("attention.head_count"), n_head, format!("at most {n_embd} heads")));
        }
        // The family's kind of norm first: some converters write the other one's key.
        let (rms, layer) = ("attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon");
        let (own, other) = if family.norm == NormKind::Rms { (rms, layer) } else { (layer, rms) };
        let norm_eps = match keys.above_zero(own)? {
            Some(eps) => eps,
            None => keys.above_zero(other)?.ok_or_else(|| keys.missing(own))?,
        };
        let or_default = |key: &str, default: Option<f32>| match meta.value(&keys.name(key)) {
            None => Ok(default),
            Some(_) => keys.positive(key),
        };
        let n_ctx_train = keys.size("context_length", 0..=u32::MAX)?.unwrap_or(0);
        if let Some(n) = keys.size("vocab_size", 0..=u32::MAX)?
            && (1..n).contains(&n_vocab)
        {
            return Err(meta.key_error(
                &keys.name("vocab_size"),
                n,
                format!("at most the {n_vocab} rows of the embeddings"),
            ));
        }
        let experts = keys.experts()?;
        // Layers without a feed-forward part have a width of 0, or no layer has one of a single width.
        let least_ff = u32::from(family.block != Block::One);
        let n_ff = match keys.per_layer("feed_forward_length", n_block, least_ff..=MAX_SIZE)? {
            Some(n_ff) => n_ff,
            None if least_ff == 0 || experts.is_some() => vec![0; n_block as usize],
            None => return Err(keys.missing("feed_forward_length")),
        };
        let causal = meta.bool(&keys.name("attention.causal"))?.unwrap_or(family.causal);
        let of_file = keys.pooling()?;
        let window = keys.size("attention.sliding_window", 0..=u32::MAX)?.or(family.windows.default).filter(|&n| n > 0);
        if window.is_some() && causal != (family.windows.kind != WindowKind::Near) {
            let expected = if causal { "false" } else { "true" };
            return Err(meta.key_error(
                &keys.name("attention.causal"),
                causal,
                format!("{expected}: the windows of this architecture want it"),
            ));
        }
        let latent = family.latent.then(|| keys.latent()).transpose()?;
        let rope_n_rot = latent.map_or(0, |l| l.n_rot);
        let rope_dims = latent.map_or(head_dim_k, |l| l.n_rot + l.n_nope);
        let rope = RopeConfig::read(&keys, n_ctx_train, rope_dims)?;
        let head_dim_v = keys.size("attention.value_length", 1..=MAX_SIZE)?.unwrap_or(head_dim_k);
        let warm = family.temper_default;
        let temper_length = match keys.size("attention.temperature_length", 1..=u32::MAX)? {
            Some(length) => length,
            None => warm.map_or(rope.n_ctx_orig.max(1), |(_, length)| length),
        };
        let temper_scale = keys.positive("attention.temperature_scale")?.or(warm.map(|(scale, _)| scale));
        Ok(Config {
            arch: arch.to_owned(),
            n_layer,
            n_layer_ahead,
            n_embd,
            n_head,
            n_head_kv,
            head_dim_k,
            head_dim_v,
            of_window: keys.window_sizes(head_dim_v)?,
            n_layer_shared_kv: keys.size("attention.shared_kv_layers", 0..=n_layer - 1)?.unwrap_or(0),
            n_embd_per_layer: keys.size("embedding_length_per_layer_input", 0..=MAX_SIZE / n_layer)?.filter(|n| *n > 0),
            n_ff,
            n_ctx_train,
            norm_eps,
            window,
            window_pattern: keys.window_pattern(n_block)?,
            attn_scale: keys.positive("attention.scale")?,
            attn_softcap: or_default("attn_logit_softcapping", family.attn_softcap)?,
            final_softcap: or_default("final_logit_softcapping", family.final_softcap)?,
            clamp_kqv: keys.positive("attention.clamp_kqv")?,
            temperature: temper_scale.map(|scale| (scale, temper_length)),
            embedding_scale: keys.positive("embedding_scale")?,
            residual_scale: keys.positive("residual_scale")?,
            logit_scale: keys.positive("logit_scale")?,
            // What the models with such biases have; most files do not carry it.
            alibi_max: keys.positive("attention.max_alibi_bias")?.unwrap_or(8.0),
            parallel: meta.bool(&keys.name("use_parallel_residual"))?,
            streams: family.streams.then(|| keys.streams()).transpose()?,
            sparsity: family.streams.then(|| keys.sparsity(n_layer)).transpose()?,
            xielu: match family.act {
                FfnAct::Xielu => Some(keys.xielu(n_layer)?),
                FfnAct::Fixed(_) => None,
            },
            state: StateConfig::read(&keys, family, n_block, n_head)?,
            causal,
            act: keys.activation()?,
            // Writers of text carry a 0 at times.
            embeds: !causal || pooling.is_some() || of_file.is_some_and(|p| p != Pooling::None),
            pooling: pooling.or(of_file),
            experts,
            latent,
            indexer: match family.indexer {
                true => Some(IndexerConfig {
                    heads: keys.required("attention.indexer.head_count", 1..=MAX_HEADS)?,
                    dim: keys.required("attention.indexer.key_length", rope_n_rot.max(1)..=MAX_SIZE)?,
                    top: keys.required("attention.indexer.top_k", 1..=MAX_SIZE)?,
                }),
                false => None,
            },
            rope,
        })
    }
}
