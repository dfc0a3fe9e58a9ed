//! A Hugging Face folder: its JSON files, and what `config.json` calls things. The words of that side
//! (`hidden_size`, `num_attention_heads`) stand here and nowhere else; the rest of the house asks for a [`Field`].

mod kinds;
mod layers;
mod lenient;

pub(super) use self::kinds::Branch;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::names::HfFamily;
use crate::error::{Error, ErrorKind, Result, printable};

/// The key of what Kimi Linear says of delta attention.
const LINEAR: &str = "linear_attn_config";

/// Largest JSON or text file that is read. The largest known, a `tokenizer.json` of 256 k tokens, has 33 MB.
const MAX_BYTES: u64 = 256 << 20;

/// An object of a JSON file, and where it stands in it.
#[derive(Clone, Debug)]
pub(super) struct Section {
    file: PathBuf,
    /// `text_config.`, say; empty at the top.
    at: String,
    map: Map<String, Value>,
}

impl Section {
    /// The object that a file holds.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when it cannot be read, [`ErrorKind::Model`] when it is no JSON object.
    pub(super) fn read(path: &Path) -> Result<Self> {
        match lenient::parse(&read_file(path)?) {
            Ok(Value::Object(map)) => Ok(Self { file: path.to_owned(), at: String::new(), map }),
            Ok(_) => Err(Error::new(ErrorKind::Model, "found no object, expected a JSON object").in_file(path)),
            Err(e) => {
                let error = Error::new(ErrorKind::Model, format!("no valid JSON: {e}")).in_file(path).caused_by(e);
                Err(error.with_hint("the file is damaged or incomplete: download it again"))
            }
        }
    }

    /// As [`Self::read`], if there is such a file.
    pub(super) fn read_if_present(path: &Path) -> Result<Option<Self>> {
        path.is_file().then(|| Self::read(path)).transpose()
    }

    /// The names of its keys.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.map.keys().map(String::as_str)
    }

    /// A value; JSON's `null` counts as absent.
    pub(super) fn value(&self, key: &str) -> Option<&Value> {
        self.map.get(key).filter(|v| !v.is_null())
    }

    /// A text.
    pub(super) fn text(&self, key: &str) -> Result<Option<&str>> {
        self.typed(key, "a text", Value::as_str)
    }

    /// A bool.
    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "true or false", Value::as_bool)
    }

    /// A finite number.
    pub(super) fn float(&self, key: &str) -> Result<Option<f64>> {
        self.typed(key, "a number", |v| v.as_f64().filter(|x| x.is_finite()))
    }

    /// A whole number below 2^32; 8.0 is one too, as some files have it.
    pub(super) fn uint(&self, key: &str) -> Result<Option<u32>> {
        self.typed(key, "a whole number below 2^32", whole)
    }

    /// An object.
    pub(super) fn section(&self, key: &str) -> Result<Option<Section>> {
        let map = self.typed(key, "an object", Value::as_object)?;
        Ok(map.map(|m| Section { file: self.file.clone(), at: format!("{}{key}.", self.at), map: m.clone() }))
    }

    /// An object, which is no longer part of this one: large ones are not copied.
    pub(super) fn take(&mut self, key: &str) -> Result<Option<Section>> {
        if self.typed(key, "an object", Value::as_object)?.is_none() {
            return Ok(None);
        }
        let Some(Value::Object(map)) = self.map.swap_remove(key) else { return Ok(None) };
        Ok(Some(Section { file: self.file.clone(), at: format!("{}{key}.", self.at), map }))
    }

    /// A list of finite numbers.
    fn numbers(&self, key: &str) -> Result<Option<Vec<f64>>> {
        let number = |v: &Value| v.as_f64().filter(|x| x.is_finite());
        self.typed(key, "a list of numbers", |v| v.as_array()?.iter().map(number).collect())
    }

    /// A list of finite numbers, in the single precision of factors of rotations.
    #[expect(clippy::cast_possible_truncation, reason = "f64 to f32 rounds")]
    pub(super) fn floats(&self, key: &str) -> Result<Option<Vec<f32>>> {
        Ok(self.numbers(key)?.map(|list| list.into_iter().map(|x| x as f32).collect()))
    }

    /// A list of texts.
    pub(super) fn texts(&self, key: &str) -> Result<Option<Vec<&str>>> {
        self.typed(key, "a list of texts", |v| v.as_array()?.iter().map(Value::as_str).collect())
    }

    /// One whole number or a list of them, for keys that have both forms.
    pub(super) fn uints(&self, key: &str) -> Result<Vec<u32>> {
        let list = |v: &Value| match v {
            Value::Array(list) => list.iter().map(whole).collect(),
            one => whole(one).map(|n| vec![n]),
        };
        Ok(self.typed(key, "whole numbers below 2^32", list)?.unwrap_or_default())
    }

    fn typed<'a, T>(&'a self, key: &str, expected: &str, read: impl Fn(&'a Value) -> Option<T>) -> Result<Option<T>> {
        let Some(value) = self.value(key) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| self.error(key, value, expected))
    }

    /// "key `k`: found x, expected y", in this file.
    pub(super) fn error(&self, key: &str, found: impl fmt::Display, expected: &str) -> Error {
        let found = printable(&found.to_string());
        let message = format!("key `{}{}`: found {found}, expected {expected}", self.at, printable(key));
        Error::new(ErrorKind::Model, message).in_file(&self.file)
    }
}

fn whole(v: &Value) -> Option<u32> {
    let fraction = || v.as_f64().filter(|x| x.fract() == 0.0 && (0.0..4294967296.0).contains(x));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole and in range")]
    v.as_u64().or_else(|| fraction().map(|x| x as u64)).and_then(|n| u32::try_from(n).ok())
}

/// A whole file of bounded size.
///
/// # Errors
/// [`ErrorKind::Io`] when it cannot be read, [`ErrorKind::Model`] when it is larger than any that is known.
pub(super) fn read_file(path: &Path) -> Result<Vec<u8>> {
    let meta = fs::metadata(path).map_err(|e| Error::io("cannot find", path, e))?;
    if !meta.is_file() || meta.len() > MAX_BYTES {
        let message = format!("no regular file of at most {MAX_BYTES} bytes");
        return Err(Error::new(ErrorKind::Model, message).in_file(path));
    }
    fs::read(path).map_err(|e| Error::io("cannot read", path, e))
}

macro_rules! fields {
    ($($field:ident = [$($name:literal),+], $doc:literal;)*) => {
        /// What `config.json` says of a model, whatever its family calls it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Field { $(#[doc = $doc] $field,)* }

        impl Field {
            /// Its names, the first one found counts.
            const fn names(self) -> &'static [&'static str] {
                match self { $(Field::$field => &[$($name),+],)* }
            }
        }
    };
}

fields! {
    Layers = ["num_hidden_layers", "n_layers", "n_layer", "num_layers"], "Layers.";
    Width = ["hidden_size", "n_embd", "d_model", "model_dim"], "Width of the residual stream.";
    Ff = ["intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size"], "Width of the feed-forward part.";
    Heads = ["num_attention_heads", "n_heads", "n_head"], "Query heads.";
    KvHeads = ["num_key_value_heads", "n_head_kv", "num_kv_heads", "multi_query_group_num"], "Key and value heads.";
    HeadDim = ["head_dim", "attention_head_dim", "kv_channels"], "Width of a head, where it is said.";
    Context = ["max_position_embeddings", "n_ctx", "n_positions", "max_sequence_length", "max_seq_len",
        "model_max_length", "seq_length"],
        "Positions it was trained for.";
    OriginalContext = ["original_max_position_embeddings"], "Positions before the rotations were stretched.";
    RmsEps = ["rms_norm_eps", "layernorm_epsilon"], "Epsilon of RMS norms.";
    LayerEps = ["layer_norm_eps", "layer_norm_epsilon", "norm_epsilon", "norm_eps"], "Epsilon of LayerNorms.";
    RopeTheta = ["rope_theta", "rotary_emb_base", "global_rope_theta"], "Base of the rotations.";
    RopeThetaLocal = ["rope_local_base_freq", "local_rope_theta"], "Base of the rotations of windowed layers.";
    PartialRotary = ["partial_rotary_factor", "rotary_pct", "rope_pct"], "The part of a head that rotates.";
    Vocab = ["vocab_size", "padded_vocab_size"], "Rows of the embeddings.";
    Window = ["sliding_window", "local_attention"], "Visible tokens of windowed layers.";
    UseWindow = ["use_sliding_window"], "Whether there are windowed layers.";
    FirstWindowed = ["max_window_layers"], "Layers before the first windowed one.";
    WindowPeriod = ["sliding_window_pattern", "_sliding_window_pattern"], "Each how many layers one is not windowed.";
    LayerTypes = ["layer_types", "layers_block_type"], "Kind of each layer.";
    LayerLetters = ["hybrid_override_pattern"], "Kind of each layer, a letter each.";
    AttnSoftcap = ["attn_logit_softcapping"], "Soft cap of scores.";
    FinalSoftcap = ["final_logit_softcapping"], "Soft cap of logits.";
    EmbedScale = ["embedding_multiplier", "scale_emb"], "Factor of the embeddings.";
    DepthScale = ["scale_depth"], "Factor of each branch, before it is divided by the root of the layers.";
    BaseWidth = ["dim_model_base"], "Width for which the head is scaled.";
    ParallelResidual = ["use_parallel_residual"], "Whether both branches read the same stream.";
    ResidualScale = ["residual_multiplier"], "Factor of each branch.";
    AttnScale = ["attention_multiplier"], "Factor of scores.";
    ScoreScalar = ["query_pre_attn_scalar"], "Scores are divided by its root.";
    Unrotated = ["no_rope_layers"], "0 for each layer without rotations.";
    LogitScale = ["logits_scaling", "logit_scale"], "Divisor or factor of logits.";
    AlibiMax = ["alibi_bias_max"], "Largest exponent of biases by distance.";
    Alibi = ["alibi"], "Whether scores are biased by distance.";
    NormedHeads = ["qk_ln"], "Whether queries and keys have norms.";
    ClampQkv = ["clip_qkv"], "Bound of queries, keys and values.";
    Experts = ["num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"], "Experts of a layer.";
    ExpertsUsed = ["num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k", "top_k_experts"], "Experts of a token.";
    ExpertFf = ["moe_intermediate_size", "expert_intermediate_size"], "Width of an expert.";
    SharedExpertFf = ["shared_expert_intermediate_size", "moe_shared_expert_intermediate_size"], "Width of the shared expert.";
    ExpertsShared = ["n_shared_experts", "num_shared_expert", "moe_num_shared_experts", "num_shared_experts"], "Experts of every token.";
    ExpertGroups = ["n_group", "num_expert_group"], "Groups of experts.";
    ExpertGroupsUsed = ["topk_group"], "Groups of a token.";
    ExpertScale = ["routed_scaling_factor"], "Factor of the experts' weights.";
    ExpertNorm = ["norm_topk_prob", "moe_renormalize"], "Whether the experts' weights are made to sum to 1.";
    Gating = ["scoring_func", "moe_router_activation_func"], "How scores of experts are made.";
    LeadingDense = ["first_k_dense_replace", "num_dense_layers", "moe_layer_start_index"], "First layers without experts.";
    DenseFf = ["intermediate_size_mlp"], "Width of the feed-forward part of layers without experts.";
    MoeStep = ["interleave_moe_layer_step", "moe_layer_interval"], "Each how many layers one has experts.";
    Nextn = ["num_nextn_predict_layers"], "Layers behind the last one that guess further tokens.";
    KvRank = ["kv_lora_rank"], "Width of the latent of keys and values.";
    QueryRank = ["q_lora_rank"], "Width of the latent of queries.";
    RotaryDim = ["qk_rope_head_dim", "rotary_dim"], "Numbers of a head that rotate, where it is said.";
    NopeDim = ["qk_nope_head_dim"], "Numbers of a head that do not rotate.";
    ValueDim = ["v_head_dim"], "Width of a head's values.";
    Chunk = ["attention_chunk_size"], "Tokens of a chunk that see each other.";
    FloorScale = ["floor_scale"], "Positions after which queries warm.";
    WarmScale = ["attn_scale"], "How much queries warm.";
    IndexHeads = ["index_n_heads"], "Heads that choose positions.";
    IndexDim = ["index_head_dim"], "Width of such a head.";
    IndexTop = ["index_topk"], "Positions that are chosen.";
    Tied = ["tie_word_embeddings"], "Whether the embeddings are the head too.";
    Eos = ["eos_token_id"], "Ends a sequence.";
    Activation = ["activation_function", "hidden_act", "activation"], "Activation of the feed-forward part.";
    NormFirst = ["do_layer_norm_before"], "Whether norms stand before the branches.";
    ConvKernel = ["conv_kernel", "mamba_d_conv", "linear_conv_kernel_dim", "conv_L_cache"],
        "Inputs that a convolution along the sequence sees.";
    StateSize = ["state_size", "mamba_d_state", "ssm_state_size", "linear_key_head_dim"], "Numbers of a state for each channel.";
    StateExpand = ["expand", "mamba_expand"], "That width over the stream's.";
    StateRank = ["time_step_rank", "mamba_dt_rank"], "Rank of step sizes.";
    StateHeads = ["num_heads", "mamba_n_heads", "mamba_num_heads"], "Heads of layers that keep a state.";
    StateHeadDim = ["mamba_head_dim"], "Width of such a head.";
    StateGroups = ["n_groups", "mamba_n_groups"], "Groups of such heads.";
    DeltaKeyHeads = ["linear_num_key_heads"], "Key heads of a delta net.";
    DeltaValueHeads = ["linear_num_value_heads"], "Value heads of a delta net.";
    DeltaValueDim = ["linear_value_head_dim"], "Width of a value head of a delta net.";
    FullPeriod = ["full_attention_interval", "attn_layer_period"], "Each how many layers one has attention.";
    FullOffset = ["attn_layer_offset"], "Which of those that is; the last one where nothing is said.";
    SharedFf = ["shared_intermediate_size"], "Width of the feed-forward part of every token.";
    Positions = ["position_embedding_type"], "How positions enter.";
    StateEps = ["layer_norm_epsilon", "norm_eps"], "Epsilon of RMS norms in families that call it so.";
    HiddenActivation = ["hidden_activation"], "Activation of the feed-forward part, where it may be another.";
    Pad = ["pad_token_id"], "Id of the padding token.";
    TrainedContext = ["max_trained_positions"], "Positions it was trained for, where more are allowed.";
    Prenorm = ["prenorm"], "Whether norms stand before the branches.";
    Interleaved = ["rotary_emb_interleaved"], "Whether rotations turn neighbours.";
    FullEvery = ["global_attn_every_n_layers"], "Each how many layers one is not windowed, from the first on.";
    BothWays = ["use_bidirectional_attention"], "Whether tokens see later ones.";
    NormedResidual = ["apply_residual_connection_post_layernorm"], "Whether branches are added to what their norm made.";
    FfTypes = ["mlp_layer_types"], "Kind of each layer's feed-forward part.";
    FfActivation = ["mlp_hidden_act"], "Activation of the feed-forward part in layers of one branch.";
    FfBias = ["mlp_bias"], "Whether the feed-forward part has biases.";
    AttnBias = ["attention_bias"], "Whether attention has biases.";
    HeadNorms = ["qk_norm"], "Whether queries and keys have norms.";
    PostNorm = ["post_norm"], "Whether norms stand behind the branches.";
    GroupedQueries = ["multi_query_attention"], "Whether several query heads share keys and values.";
    MultiQuery = ["multi_query"], "Whether all query heads share keys and values.";
    NewDecoder = ["new_decoder_architecture"], "Whether each branch has its norm, and groups share keys and values.";
    ParallelBranches = ["parallel_attn"], "Whether both branches read the same stream.";
    RmsNorms = ["rmsnorm"], "Whether norms are RMS norms.";
    FinalNorm = ["post_layer_norm"], "Whether there is a norm behind the last layer.";
    RopeRatio = ["rope_ratio"], "Factor of the base of rotations.";
    PerLayerWidth = ["hidden_size_per_layer_input"], "Numbers that each token brings to each layer.";
    SharedKv = ["num_kv_shared_layers"], "Last layers that use keys and values of others.";
    Streams = ["altup_num_inputs"], "Residual streams.";
    ActiveStream = ["altup_active_idx"], "The stream that layers read.";
    CorrectScale = ["altup_correct_scale"], "Whether the corrected stream has a scale.";
    Sparsity = ["activation_sparsity_pattern"], "Share of gates that are 0, by layer.";
    FullHeadDim = ["global_head_dim"], "Width of a head in layers without a window.";
    FullKvHeads = ["num_global_key_value_heads"], "Key and value heads of layers without a window.";
    KeysAreValues = ["attention_k_eq_v"], "Whether layers without a window have no matrix for values.";
    OfLayers = ["per_layer_config"], "What single layers have in place of the rest.";
    DoubleWide = ["use_double_wide_mlp"], "Whether layers with others' keys and values are twice as wide.";
    HasExperts = ["enable_moe_block"], "Whether there are experts.";
    ExpertPeriod = ["moe_layer_freq"], "Each how many layers one has experts, behind the first ones.";
    ExpertLatent = ["moe_latent_size"], "Width of the experts' own stream.";
    LinearHeadDim = ["linear_head_dim"], "Width of a head of delta attention.";
    LinearHeads = ["linear_num_heads"], "Heads of delta attention.";
    NoRotation = ["mla_use_nope"], "Whether nothing rotates.";
    OutputGate = ["mla_use_output_gate"], "Whether attention's output has a gate.";
    ResidualBlock = ["attn_res_block_size"], "Layers of a block that attends to earlier blocks.";
    StateInner = ["mamba_d_ssm"], "Width of a state's inner stream.";
    StateBias = ["mamba_proj_bias"], "Whether a state's projections have biases.";
    StateNorm = ["mamba_rms_norm"], "Whether a state's output has a norm.";
    StateNormFirst = ["mamba_norm_before_gate"], "Whether that norm stands before the gate.";
    StepLimit = ["time_step_limit"], "Least and greatest step size.";
    ProjectorBias = ["projectors_bias"], "Whether attention's projections have biases.";
    HeadScale = ["lm_head_multiplier"], "Factor of logits.";
    KeyScale = ["key_multiplier"], "Factor of keys.";
    AttnInScale = ["attention_in_multiplier"], "Factor of attention's input.";
    AttnOutScale = ["attention_out_multiplier"], "Factor of attention's output.";
    StateInScale = ["ssm_in_multiplier"], "Factor of a state's input.";
    StateOutScale = ["ssm_out_multiplier"], "Factor of a state's output.";
    StatePartScales = ["ssm_multipliers"], "Factors of the parts of a state's projection.";
    FfScales = ["mlp_multipliers"], "Factors of the gates and of the feed-forward part's output.";
}

/// Rotations, from the keys of transformers 4 and 5.
#[derive(Clone, Debug)]
pub(super) struct Rope {
    pub(super) theta: Option<f64>,
    /// Base in windowed layers, where it differs.
    pub(super) theta_local: Option<f64>,
    /// The part of a head that rotates.
    pub(super) partial: f64,
    /// `default`, `linear`, `yarn`, `llama3`, `longrope`, ...
    pub(super) kind: String,
    /// The parameters of the kind.
    pub(super) params: Option<Section>,
    /// Those of windowed layers, where they have their own.
    pub(super) local: Option<Section>,
}

/// The JSON files of a folder.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) path: PathBuf,
    /// `config.json`; of a multimodal model its text part over the rest.
    pub(super) config: Section,
    /// `architectures[0]`.
    pub(super) architecture: String,
    pub(super) generation: Option<Section>,
    pub(super) tokenizer_config: Option<Section>,
    /// What a family takes for granted where `config.json` is silent.
    defaults: &'static [(Field, f64)],
    /// Kind and part of rotations where it has no parameters for them.
    rope_silent: (&'static str, Option<f64>),
}

impl Folder {
    /// Reads the folder's JSON files but the tokenizer's.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] or [`ErrorKind::Model`] naming the file and the key.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let config = path.join("config.json");
        if !config.is_file() {
            let message = "the folder holds no `config.json`, so it is no Hugging Face model";
            let hint = "name the folder with `config.json`, `model.safetensors` and the tokenizer";
            return Err(Error::new(ErrorKind::Model, message).in_file(path).with_hint(hint));
        }
        let mut config = Section::read(&config)?;
        let architectures = config.texts("architectures")?.unwrap_or_default();
        let architecture = match architectures[..] {
            [name, ..] => name.to_owned(),
            [] => return Err(config.error("architectures", "nothing", "the name of the model's class")),
        };
        for key in ["text_config", "llm_config", "language_config"] {
            if let Some(text) = config.section(key)? {
                config.map.extend(text.map);
            }
        }
        // MPT's: what it says of attention stands nowhere else, and the rest of it is no description of the model.
        if let Some(attention) = config.section("attn_config")? {
            for (key, value) in attention.map {
                config.map.entry(key).or_insert(value);
            }
        }
        // Kimi Linear's, in the words of transformers.
        if let Some(linear) = config.section(LINEAR)? {
            for (name, own) in [
                ("linear_head_dim", "head_dim"),
                ("linear_num_heads", "num_heads"),
                ("linear_conv_kernel_dim", "short_conv_kernel_size"),
            ] {
                if let Some(value) = linear.value(own) {
                    config.map.insert(name.to_owned(), value.clone());
                }
            }
        }
        Ok(Self {
            config,
            architecture,
            generation: Section::read_if_present(&path.join("generation_config.json"))?,
            tokenizer_config: Section::read_if_present(&path.join("tokenizer_config.json"))?,
            path: path.to_owned(),
            defaults: &[],
            rope_silent: ("default", None),
        })
    }

    /// From now on silence means what the family takes for granted.
    pub(super) fn belongs_to(&mut self, family: &HfFamily) {
        (self.defaults, self.rope_silent) = (family.defaults, family.rope_silent);
    }

    /// The key of a field that `config.json` has, or its first name.
    pub(super) fn key(&self, field: Field) -> &'static str {
        let names = field.names();
        names.iter().copied().find(|n| self.config.value(n).is_some()).unwrap_or(names[0])
    }

    /// What the family takes for granted of a field that `config.json` does not have.
    fn default(&self, field: Field) -> Option<f64> {
        // A `null` says that there is none.
        if field.names().iter().any(|n| self.config.map.contains_key(*n)) {
            return None;
        }
        self.defaults.iter().find(|(f, _)| *f == field).map(|(_, x)| *x)
    }

    /// A whole number, or a list of equal ones: Hunyuan names them layer by layer.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "defaults are small whole numbers")]
    pub(super) fn uint(&self, field: Field) -> Result<Option<u32>> {
        let key = self.key(field);
        if !self.config.value(key).is_some_and(Value::is_array) {
            return Ok(self.config.uint(key)?.or(self.default(field).map(|x| x as u32)));
        }
        let list = self.config.uints(key)?;
        match list.first() {
            Some(first) if list.iter().all(|n| n == first) => Ok(Some(*first)),
            _ => Err(self.config.error(key, format!("{list:?}"), "one number for all layers")),
        }
    }

    /// A number.
    pub(super) fn float(&self, field: Field) -> Result<Option<f64>> {
        Ok(self.config.float(self.key(field))?.or(self.default(field)))
    }

    /// A list of numbers.
    pub(super) fn numbers(&self, field: Field) -> Result<Option<Vec<f64>>> {
        self.config.numbers(self.key(field))
    }

    /// A bool.
    pub(super) fn flag(&self, field: Field) -> Result<Option<bool>> {
        Ok(self.config.flag(self.key(field))?.or(self.default(field).map(|x| x != 0.0)))
    }

    /// A whole number of `range` that must be there.
    pub(super) fn size(&self, field: Field, range: std::ops::RangeInclusive<u32>) -> Result<u32> {
        let expected = || format!("a whole number of {} to {}", range.start(), range.end());
        match self.uint(field)? {
            Some(n) if range.contains(&n) => Ok(n),
            Some(n) => Err(self.config.error(self.key(field), n, &expected())),
            None => Err(self.config.error(self.key(field), "nothing", &expected())),
        }
    }

    /// Does the family take it for granted that there is none?
    pub(super) fn expects_none(&self, field: Field) -> bool {
        self.defaults.contains(&(field, 0.0))
    }

    /// The JSON text of a field.
    pub(super) fn json(&self, field: Field) -> Option<String> {
        self.config.value(self.key(field)).map(Value::to_string)
    }

    /// The error for a field whose value cannot be used.
    pub(super) fn error(&self, field: Field, found: impl fmt::Display, expected: &str) -> Error {
        self.config.error(self.key(field), found, expected)
    }

    /// Rotations.
    pub(super) fn rope(&self) -> Result<Rope> {
        let (v4, v5) = (self.config.section("rope_scaling")?, self.config.section("rope_parameters")?);
        let mut theta_local = self.float(Field::RopeThetaLocal)?;
        let mut local = None;
        // Transformers 5 nests by kind of layer where the kinds differ.
        let params = match v5 {
            Some(v5) => match v5.section("full_attention")? {
                Some(full) => {
                    local = v5.section("sliding_attention")?;
                    if let Some(local) = &local {
                        theta_local = local.float("rope_theta")?.or(theta_local);
                    }
                    Some(full)
                }
                None => Some(v5),
            },
            None => v4,
        };
        let of = |key: &str| params.as_ref().map_or(Ok(None), |p| p.float(key));
        let (silent, part) = self.rope_silent;
        let theta = of("rope_theta")?.or(self.float(Field::RopeTheta)?);
        let part = part.filter(|_| params.is_none());
        let partial = of("partial_rotary_factor")?.or(self.float(Field::PartialRotary)?).or(part).unwrap_or(1.0);
        let kind = match &params {
            Some(p) => p.text("rope_type")?.or(p.text("type")?).unwrap_or("default"),
            None => silent,
        };
        // Their parameters are the point of these.
        if params.is_none() && kind == "llama3" {
            return Err(self.config.error("rope_parameters", "nothing", "parameters of rotations of type llama3"));
        }
        Ok(Rope { theta, theta_local, partial, kind: kind.to_owned(), params, local })
    }

    /// How a checkpoint of quantized tensors is made, and the tile that shares a scale.
    ///
    /// # Errors
    /// [`ErrorKind::Model`] for a method that is not read.
    pub(super) fn weight_tile(&self) -> Result<[u64; 2]> {
        let tile = [128, 128];
        let Some(q) = self.config.section("quantization_config")? else { return Ok(tile) };
        let method = q.text("quant_method")?.unwrap_or("unknown");
        let float = q.text("format")?.is_some_and(|f| f == "float-quantized" || f == "naive-quantized");
        if !(matches!(method, "fp8" | "mxfp4") || method == "compressed-tensors" && float) {
            let error = q.error("quant_method", format!("`{}`", printable(method)), "fp8 or mxfp4");
            return Err(error.with_hint("convert the folder of the model before it was quantized"));
        }
        match q.uints("weight_block_size")?[..] {
            [] => Ok(tile),
            [a, b] if a > 0 && b > 0 => Ok([a.into(), b.into()]),
            _ => Err(q.error("weight_block_size", "other numbers", "two sizes")),
        }
    }
}
