//! How a family of Hugging Face becomes an architecture of GGUF: names of tensors in both worlds, what is done to
//! each, and where the metadata come from. Data only; `tensors.rs` and `metadata.rs` read it.
//!
//! These tables stand here and not beside `arch::family`: one architecture of GGUF takes checkpoints of several
//! classes (`llama` those of Llama, Mistral, Mixtral ...) with other names and other arithmetic, and running a file
//! needs none of that. The names of architectures tie the two; a test holds them together.

use super::hf::Field;

/// Heads that a transformation counts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heads {
    /// Query heads.
    Query,
    /// Key and value heads.
    KeyValue,
}

/// What is done to a tensor on its way. Several are done in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// Rows of each head, from (first half, second half) to adjacent pairs: what turns rotations of halves into
    /// rotations of neighbours. Weights and biases.
    Pairs(Heads),
    /// w + 1.
    AddOne,
    /// The last two dimensions change places.
    Transpose,
    /// Part `.0` of `.1` equal ones along the rows (the last dimension but one; a vector's only one).
    RowPart(u64, u64),
    /// Rows are (key-value head, [its queries.., key, value], width of a head): one of the three.
    Grouped(Third),
    /// Rows `.0`, `.0` + `.1`, ...: interleaved ones are taken apart.
    RowEvery(u64, u64),
    /// The same of the last dimension.
    LastEvery(u64, u64),
    /// Rows are (head, [key without rotation, value], latent): keys, with the last two dimensions exchanged.
    LatentKeys,
    /// Rows are (head, [key without rotation, value], latent): values.
    LatentValues,
    /// Rows are (head, [query, key, value], width of a head): all queries, then all keys, then all values.
    Ungroup,
    /// -exp(w).
    NegExp,
    /// Dimensions of one vanish.
    Squeeze,
    /// A vector becomes a matrix of one column.
    Column,
    /// A vector becomes a matrix with a row for each group of a state.
    StateGroups,
    /// Value heads of a delta net, from those of one key head side by side to those of all key heads in turn.
    InTurn(Turned),
    /// Rows are (key head of a delta net, [query, key, its values, their gates]): a part of them.
    OfKeyHeads(DeltaPart),
    /// Rows behind the one of the padding token's id.
    RowsBehindPad,
    /// Rows are (key-value head, [its queries.., key, value], width of a head): all queries, then all keys, then all
    /// values.
    Regroup,
    /// w times a factor that the folder names.
    Times(Factor),
    /// Rows of a state's projection, each of its five parts times its own factor.
    TimesParts,
    /// Four dimensions.
    Four([Dim; 4]),
    /// Rows up to the vocabulary's; those that are lacking are as the first one.
    FillRows,
}

/// A dimension that a tensor gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dim {
    /// 1.
    One,
    /// All of its numbers.
    All,
    /// Its first dimension.
    First,
    /// Its last dimension.
    Last,
}

/// A factor that a family has beside a matrix, and its files have in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Factor {
    /// Of the embeddings.
    Embeddings,
    /// Of the head.
    Head,
    /// Of attention's input.
    AttnIn,
    /// Of attention's input and of keys.
    Keys,
    /// Of attention's output.
    AttnOut,
    /// Of the gates.
    Gate,
    /// Of the feed-forward part's output.
    Down,
    /// Of a state's output.
    StateOut,
}

/// A part of what a delta net's projection makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DeltaPart {
    /// All queries, then all keys, then all values.
    Inputs,
    /// The gates.
    Gate,
}

/// Where value heads of a delta net lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turned {
    /// They are the rows.
    Rows,
    /// They are the rows behind those of queries and keys.
    RowsBehindKeys,
    /// They are the columns.
    Columns,
}

/// A member of queries, keys and values that are stored together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Third {
    /// Queries.
    Query,
    /// Keys.
    Key,
    /// Values.
    Value,
}

/// Where a tensor of the GGUF file comes from.
///
/// Names of the checkpoint are without the prefixes that only say where the text model sits (`model.`,
/// `language_model.`, `transformer.` ...). A name in `_blocks` stands for blocks of 4 bits and their `_scales`. `{}` is the layer. `{e}` is an expert, `{q}` a query head, `{k}` a key head:
/// the tensors of all are stacked, as are those of `{s}`, residual streams but the first. `|` separates tensors that are joined along their rows. A rule whose `to` has no ending is for `.weight` and `.bias` both; with `!` the name ends there. A `to` of `=key {}!` is no tensor but a key, with the one number of each layer's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    pub(super) to: &'static str,
    pub(super) from: &'static str,
    pub(super) how: &'static [How],
}

/// A tensor that keeps its numbers.
pub(super) const fn same(to: &'static str, from: &'static str) -> Rule {
    Rule { to, from, how: &[] }
}

/// A tensor that changes.
pub(super) const fn with(to: &'static str, from: &'static str, how: &'static [How]) -> Rule {
    Rule { to, from, how }
}

/// Where the value of a key comes from. A source that the folder lacks writes no key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum From {
    /// A whole number.
    Uint(Field),
    /// A number.
    Float(Field),
    /// A bool.
    Flag(Field),
    /// This text.
    Text(&'static str),
    /// One number over another.
    Ratio(Field, Field),
    /// A number over the root of the number of layers.
    PerRootLayers(Field),
    /// The sum of two whole numbers.
    Sum(Field, Field),
    /// The product of two whole numbers.
    Product(Field, Field),
    /// This whole number.
    Fixed(u32),
    /// How scores of experts are made: 1 softmax, 2 sigmoid; or this where the folder is silent.
    Gating(u32),
    /// The width of the feed-forward part, or four times the stream's.
    FfOrFourfold,
    /// The rows of a tensor of the file.
    RowsOf(&'static str),
    /// This.
    Bool(bool),
    /// Whether a text is this one; it is where the folder is silent.
    Is(Field, &'static str),
    /// A whole number, or the second one over 16, rounded up.
    OrSixteenth(Field, Field),
    /// Not.
    False,
    /// A text.
    Word(Field),
    /// A whole number less those up to the padding token's id.
    BehindPad(Field),
    /// A whole number, or the product of the other two.
    OrProduct(Field, Field, Field),
    /// How many layers come before the first with experts.
    LeadingDense,
}

/// A metadata key without the name of the architecture.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) from: From,
}

/// A key.
pub(super) const fn key(name: &'static str, from: From) -> Key {
    Key { name, from }
}

/// Factors of rotations that depend on the length of the context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Longrope {
    /// The family has none.
    No,
    /// Two tensors of divisors, and a factor of cosines and sines.
    Tensors,
}

/// Windowed layers of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Windows {
    /// Readers of the architecture take all layers as full.
    None,
    /// 0: all layers are windowed where the folder names a window; n: all but the last of each n. A folder that
    /// says otherwise gets its layers written one by one.
    Period(u32),
    /// Readers assume nothing: layers are written one by one.
    Listed,
    /// All but the first of each so many that the folder says. A folder that says otherwise gets its layers written
    /// one by one.
    FullFirst,
}

/// The factor of scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ScoreScale {
    /// 1 / sqrt(width of a head).
    Heads,
    /// 1 / sqrt(`query_pre_attn_scalar`). Readers assume the width of a head, in models of `by_width` layers
    /// n_embd / n_head; another number is written.
    Scalar { by_width: u32 },
}

/// How a file tells layers that keep a state from those with attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StateLayers {
    /// All layers are of one kind.
    None,
    /// `attention.head_count_kv` is 0 there.
    NoKvHeads,
    /// The same; the others have one head, their latent.
    NoLatentHead,
    /// `attention.recurrent_layers`.
    Listed,
    /// A layer has one branch: `attention.head_count_kv` and `feed_forward_length` are 0 where it has another one.
    Branches,
}

/// Which folders of a class are a family's: one class may have several kinds of files. `None`: either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Form {
    /// Whether some layers have experts.
    pub(super) experts: Option<bool>,
    /// Whether some layers keep a state.
    pub(super) states: Option<bool>,
}

impl Form {
    /// All of them.
    pub(super) const ANY: Form = Form { experts: None, states: None };
}

/// What layers have that differ from one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LayerSizes {
    /// Nothing.
    Equal,
    /// The width of the feed-forward part, and the share of its gates that are 0.
    Gates,
    /// The width of the feed-forward part; heads by whether the layer is windowed.
    Heads,
}

/// A family of checkpoints.
#[derive(Clone, Copy, Debug)]
pub(super) struct HfFamily {
    /// Values of `architectures`.
    pub(super) names: &'static [&'static str],
    /// Which of their folders.
    pub(super) form: Form,
    /// `general.architecture`.
    pub(super) arch: &'static str,
    /// Groups of rules, before the common ones. The first rule whose sources are there makes a tensor; what a group
    /// has used, later ones leave alone.
    pub(super) rules: &'static [&'static [Rule]],
    /// Beside the common ones, whose values they replace.
    pub(super) keys: &'static [Key],
    /// What the family takes for granted where `config.json` is silent. Source: the configuration classes of
    /// transformers.
    pub(super) defaults: &'static [(Field, f64)],
    /// Endings of tensors that a GGUF file does not need.
    pub(super) drop: &'static [&'static str],
    /// Long and short factors of rotations.
    pub(super) longrope: Longrope,
    /// Windowed layers.
    pub(super) windows: Windows,
    /// Readers assume a window where the file names none: it is written as 0.
    pub(super) names_no_window: bool,
    /// Each how many layers one does not rotate, as readers take for granted. Other folders are refused.
    pub(super) unrotated: Option<u32>,
    /// What the folder must say, in JSON, if it says anything: with another value it is another computation.
    pub(super) expects: &'static [(Field, &'static str)],
    /// The factor of scores.
    pub(super) score_scale: ScoreScale,
    /// What the factor of yarn's logarithm is multiplied with for its key; 0: readers have no such key.
    pub(super) yarn_log: f64,
    /// Common keys that files of the architecture do not have.
    pub(super) omits: &'static [&'static str],
    /// How layers that keep a state are told from those with attention.
    pub(super) state_layers: StateLayers,
    /// Names of pre-tokenizers to prefer among those of equal patterns.
    pub(super) pre: &'static [&'static str],
    /// The pre-tokenizer of folders that have a vocabulary of tiktoken, whose patterns stand in their Python code.
    pub(super) tiktoken_pre: Option<&'static str>,
    /// Sizes that are a layer's own.
    pub(super) layer_sizes: LayerSizes,
    /// The kind of rotations, and the part of a head that rotates, where the folder has no parameters of rotations.
    pub(super) rope_silent: (&'static str, Option<f64>),
    /// Merges of characters, not of bytes, in files too: the tokenizer model `gemma4`.
    pub(super) raw_merges: bool,
}

/// Prefixes of tensors that belong to eyes and ears.
pub(super) const OTHER_SENSES: &[&str] = &[
    "vision_tower.",
    "vision_model.",
    "vision_embed_tokens.",
    "multi_modal_projector.",
    "mm_projector.",
    "visual.",
    "audio_tower.",
    "audio_model.",
    "audio_projector.",
    "patch_merger.",
    "pre_mm_projector_norm.",
    "vision_encoder.",
    "vision_language_adapter.",
    "embed_vision.",
    "embed_audio.",
];

/// Endings of tensors that transformers computes again.
pub(super) const COMPUTED: &[&str] =
    &["rotary_emb.inv_freq", "rotary_emb.original_inv_freq", "embeddings.position_ids", ".attn.masked_bias"];

/// Prefixes that only say where the text model sits.
pub(super) const PLACES: &[&str] =
    &["model.", "language_model.", "transformer.", "text_model.", "gpt_neox.", "decoder.", "backbone."];

/// Names that most families share. Source: transformers `modeling_llama.py` and those that follow it.
pub(super) const COMMON: &[Rule] = &[
    same("token_embd", "embed_tokens"),
    same("output_norm", "norm"),
    same("output", "lm_head"),
    same("blk.{}.attn_norm", "layers.{}.input_layernorm"),
    same("blk.{}.attn_q", "layers.{}.self_attn.q_proj"),
    same("blk.{}.attn_k", "layers.{}.self_attn.k_proj"),
    same("blk.{}.attn_v", "layers.{}.self_attn.v_proj"),
    same("blk.{}.attn_output", "layers.{}.self_attn.o_proj"),
    same("blk.{}.attn_q_norm", "layers.{}.self_attn.q_norm"),
    same("blk.{}.attn_k_norm", "layers.{}.self_attn.k_norm"),
    same("blk.{}.ffn_norm", "layers.{}.post_attention_layernorm"),
    same("blk.{}.ffn_gate", "layers.{}.mlp.gate_proj"),
    same("blk.{}.ffn_up", "layers.{}.mlp.up_proj"),
    same("blk.{}.ffn_down", "layers.{}.mlp.down_proj"),
    same("blk.{}.ffn_gate_inp", "layers.{}.mlp.gate"),
    same("blk.{}.ffn_gate_exps", "layers.{}.mlp.experts.{e}.gate_proj"),
    same("blk.{}.ffn_up_exps", "layers.{}.mlp.experts.{e}.up_proj"),
    same("blk.{}.ffn_down_exps", "layers.{}.mlp.experts.{e}.down_proj"),
    same("blk.{}.ffn_gate_inp_shexp", "layers.{}.mlp.shared_expert_gate"),
    same("blk.{}.ffn_gate_shexp", "layers.{}.mlp.shared_expert.gate_proj"),
    same("blk.{}.ffn_up_shexp", "layers.{}.mlp.shared_expert.up_proj"),
    same("blk.{}.ffn_down_shexp", "layers.{}.mlp.shared_expert.down_proj"),
    same("blk.{}.ffn_gate_shexp", "layers.{}.mlp.shared_experts.gate_proj"),
    same("blk.{}.ffn_up_shexp", "layers.{}.mlp.shared_experts.up_proj"),
    same("blk.{}.ffn_down_shexp", "layers.{}.mlp.shared_experts.down_proj"),
    same("blk.{}.exp_probs_b.bias", "layers.{}.mlp.gate.e_score_correction_bias"),
];

/// Queries and keys whose rotations turn neighbours in GGUF and halves in the checkpoint.
pub(super) const PAIRS: &[Rule] = &[
    with("blk.{}.attn_q", "layers.{}.self_attn.q_proj", &[How::Pairs(Heads::Query)]),
    with("blk.{}.attn_k", "layers.{}.self_attn.k_proj", &[How::Pairs(Heads::KeyValue)]),
];

/// Names of latent attention.
pub(super) const LATENT: &[Rule] = &[
    same("blk.{}.attn_q_a", "layers.{}.self_attn.q_a_proj"),
    same("blk.{}.attn_q_a_norm", "layers.{}.self_attn.q_a_layernorm"),
    same("blk.{}.attn_q_b", "layers.{}.self_attn.q_b_proj"),
    same("blk.{}.attn_kv_a_mqa", "layers.{}.self_attn.kv_a_proj_with_mqa"),
    same("blk.{}.attn_kv_a_norm", "layers.{}.self_attn.kv_a_layernorm"),
    with("blk.{}.attn_k_b.weight", "layers.{}.self_attn.kv_b_proj.weight", &[How::LatentKeys]),
    with("blk.{}.attn_v_b.weight", "layers.{}.self_attn.kv_b_proj.weight", &[How::LatentValues]),
];

/// Keys that most families share, from what the folder has.
pub(super) const COMMON_KEYS: &[Key] = &[
    key("context_length", From::Uint(Field::Context)),
    key("embedding_length", From::Uint(Field::Width)),
    key("feed_forward_length", From::Uint(Field::Ff)),
    key("attention.layer_norm_rms_epsilon", From::Float(Field::RmsEps)),
    key("attention.layer_norm_epsilon", From::Float(Field::LayerEps)),
    key("attention.key_length", From::Uint(Field::HeadDim)),
    key("attention.value_length", From::Uint(Field::HeadDim)),
];

/// Keys that families with experts share.
pub(super) const EXPERT_KEYS: &[Key] = &[
    key("expert_count", From::Uint(Field::Experts)),
    key("expert_used_count", From::Uint(Field::ExpertsUsed)),
    key("expert_feed_forward_length", From::Uint(Field::ExpertFf)),
    key("expert_shared_feed_forward_length", From::Uint(Field::SharedExpertFf)),
];
