//! Recipes such as Q4_K_M: which type each tensor of a quantized file gets. Source: llama.cpp
//! (`llama-quant.cpp`), whose decisions these are, tensor by tensor.
//!
//! Start at [`choose_types`]. Everything is a function of names, shapes and a few facts of the model;
//! nothing here reads or computes tensors.

mod rules;

use crate::error::{Error, ErrorKind, Result, printable};
use crate::quant::BlockType;
use regex_automata::meta::Regex;
use std::fmt;

macro_rules! recipes {
    ($($variant:ident = $id:literal, $name:literal, $base:ident;)*) => {
        /// A kind of quantized file.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[expect(missing_docs, reason = "the names are llama.cpp's")]
        #[non_exhaustive]
        pub enum Recipe {
            $($variant,)*
        }

        impl Recipe {
            /// Every recipe, in the order of their numbers.
            pub const ALL: &'static [Recipe] = &[$(Recipe::$variant,)*];

            /// The name as users know it, `Q4_K_M` say.
            pub const fn name(self) -> &'static str {
                match self { $(Recipe::$variant => $name,)* }
            }

            /// The number that a file has as `general.file_type`.
            pub const fn file_type(self) -> u32 {
                match self { $(Recipe::$variant => $id,)* }
            }

            /// The type of tensors that no rule speaks of.
            pub const fn base(self) -> BlockType {
                match self { $(Recipe::$variant => BlockType::$base,)* }
            }
        }
    };
}

recipes! {
    F32 = 0, "F32", F32;
    F16 = 1, "F16", F16;
    Q4_0 = 2, "Q4_0", Q4_0;
    Q4_1 = 3, "Q4_1", Q4_1;
    Q8_0 = 7, "Q8_0", Q8_0;
    Q5_0 = 8, "Q5_0", Q5_0;
    Q5_1 = 9, "Q5_1", Q5_1;
    Q2K = 10, "Q2_K", Q2K;
    Q3KS = 11, "Q3_K_S", Q3K;
    Q3KM = 12, "Q3_K_M", Q3K;
    Q3KL = 13, "Q3_K_L", Q3K;
    Q4KS = 14, "Q4_K_S", Q4K;
    Q4KM = 15, "Q4_K_M", Q4K;
    Q5KS = 16, "Q5_K_S", Q5K;
    Q5KM = 17, "Q5_K_M", Q5K;
    Q6K = 18, "Q6_K", Q6K;
    Iq2Xxs = 19, "IQ2_XXS", Iq2Xxs;
    Iq2Xs = 20, "IQ2_XS", Iq2Xs;
    Q2KS = 21, "Q2_K_S", Q2K;
    Iq3Xs = 22, "IQ3_XS", Iq3S;
    Iq3Xxs = 23, "IQ3_XXS", Iq3Xxs;
    Iq1S = 24, "IQ1_S", Iq1S;
    Iq4Nl = 25, "IQ4_NL", Iq4Nl;
    Iq3S = 26, "IQ3_S", Iq3S;
    Iq3M = 27, "IQ3_M", Iq3S;
    Iq2S = 28, "IQ2_S", Iq2Xs;
    Iq2M = 29, "IQ2_M", Iq2S;
    Iq4Xs = 30, "IQ4_XS", Iq4Xs;
    Iq1M = 31, "IQ1_M", Iq1M;
    Bf16 = 32, "BF16", Bf16;
    Tq1_0 = 36, "TQ1_0", Tq1_0;
    Tq2_0 = 37, "TQ2_0", Tq2_0;
    Mxfp4Moe = 38, "MXFP4_MOE", Mxfp4;
    Q1_0 = 40, "Q1_0", Q1_0;
    Q2_0 = 41, "Q2_0", Q2_0;
}

impl Recipe {
    /// The recipe of a name, in letters of any case, or of a number; `Q4_K` means `Q4_K_M`, and so do
    /// its neighbours.
    ///
    /// # Errors
    /// There is no such recipe; the hint lists all.
    pub fn parse(text: &str) -> Result<Self> {
        let name = match text.to_ascii_uppercase().as_str() {
            "Q3_K" => "Q3_K_M".to_owned(),
            "Q4_K" => "Q4_K_M".to_owned(),
            "Q5_K" => "Q5_K_M".to_owned(),
            other => other.to_owned(),
        };
        let is_it = |r: &&Self| r.name() == name || text.parse() == Ok(r.file_type());
        Self::ALL.iter().find(is_it).copied().ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|r| r.name()).collect();
            Error::new(ErrorKind::Usage, format!("unknown recipe `{}`", printable(text)))
                .with_hint(format!("recipes: {}", names.join(", ")))
        })
    }
}

impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What the rules ask of a model. Counts are those of its metadata, zero where it has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelFacts {
    /// `general.architecture`.
    pub arch: String,
    /// Blocks, those for the prediction of further tokens included.
    pub n_layer: usize,
    /// Heads of layer 0.
    pub n_head: usize,
    /// Heads of keys and values of layer 0.
    pub n_head_kv: usize,
    /// Experts of a layer.
    pub n_expert: usize,
    /// Whether there is an importance matrix.
    pub has_importance: bool,
}

/// What the rules ask of a tensor.
#[derive(Clone, Copy, Debug)]
pub struct TensorFacts<'a> {
    /// Its name in the file.
    pub name: &'a str,
    /// Outermost first; the last is the length of a row.
    pub shape: &'a [u64],
    /// The type that it has.
    pub ty: BlockType,
}

/// What a user may change about a recipe.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct RecipeOptions {
    /// The base type for all tensors that are quantized at all.
    pub pure: bool,
    /// `output.weight` stays as it is.
    pub keep_output: bool,
    /// The type of `output.weight`, before every rule.
    pub output_type: Option<BlockType>,
    /// The type of token embeddings, before every rule.
    pub token_embedding_type: Option<BlockType>,
    /// Types of tensors by name, in place of the rules; the first that matches holds.
    pub overrides: Vec<TypeOverride>,
}

/// A type for the tensors whose name contains a match of a pattern.
#[derive(Clone, Debug)]
pub struct TypeOverride {
    pattern: Regex,
    ty: BlockType,
}

impl TypeOverride {
    /// From `PATTERN=TYPE`, `attn_v=Q8_0` say. A pattern is a regular expression.
    ///
    /// # Errors
    /// No `=`, a type that nothing is quantized to, or a pattern that is no regular expression.
    pub fn parse(text: &str) -> Result<Self> {
        let usage = |what: String| Error::new(ErrorKind::Usage, what).with_hint("write `attn_v=Q8_0` for example");
        let shown = printable(text);
        let (pattern, ty) = text.rsplit_once('=').ok_or_else(|| usage(format!("`{shown}` is not PATTERN=TYPE")))?;
        Ok(Self {
            pattern: Regex::new(pattern).map_err(|e| usage(format!("`{shown}`: {e}")).caused_by(e))?,
            ty: parse_type(ty)?,
        })
    }
}

/// A type by its name, in letters of any case.
///
/// # Errors
/// There is no such type, or nothing can be quantized to it; the hint lists all.
pub fn parse_type(name: &str) -> Result<BlockType> {
    BlockType::from_name(name).filter(|t| t.can_quantize()).ok_or_else(|| {
        let names: Vec<_> = BlockType::ALL.iter().filter(|t| t.can_quantize()).map(|t| t.name()).collect();
        Error::new(ErrorKind::Usage, format!("nothing can be quantized to `{}`", printable(name)))
            .with_hint(format!("types: {}", names.join(", ")))
    })
}

/// The type that a tensor gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The type.
    pub ty: BlockType,
    /// The type that it would have had, if its rows were whole blocks of that.
    pub instead_of: Option<BlockType>,
    /// Whether the tensor becomes too bad without an importance of its columns: see
    /// [`require_importance`].
    pub needs_importance: bool,
}

/// Sorts tensors as llama.cpp writes them: those of no block first, then block by block, and by the
/// bytes of their names. [`choose_types`] wants them so, because some rules count.
pub fn sort_for_output<T>(tensors: &mut [T], name: impl Fn(&T) -> &str) {
    tensors.sort_by(|a, b| {
        let (a, b) = (name(a), name(b));
        (layer(a), a.as_bytes()).cmp(&(layer(b), b.as_bytes()))
    });
}

/// The types of all tensors of a model, which are in the order of [`sort_for_output`].
///
/// # Errors
/// A tensor whose rows suit neither the type that it should get nor one in its place.
pub fn choose_types(
    recipe: Recipe,
    model: &ModelFacts,
    tensors: &[TensorFacts<'_>],
    options: &RecipeOptions,
) -> Result<Vec<Decision>> {
    let mut rules = rules::Rules::new(recipe, model, tensors);
    tensors.iter().map(|tensor| decide(recipe, &mut rules, tensor, options)).collect()
}

fn decide(
    recipe: Recipe,
    rules: &mut rules::Rules<'_>,
    tensor: &TensorFacts<'_>,
    options: &RecipeOptions,
) -> Result<Decision> {
    use rules::Category;
    let unchanged = Decision { ty: tensor.ty, instead_of: None, needs_importance: false };
    if !is_quantized(tensor) {
        return Ok(unchanged);
    }
    let category = Category::of(tensor.name);
    // Rules count tensors, also those whose type is not theirs to say.
    let by_rules = rules.next(tensor, category);
    if category == Category::Output && options.keep_output {
        return Ok(unchanged);
    }
    let explicit = match category {
        Category::Output => options.output_type,
        Category::Embedding => options.token_embedding_type,
        _ => None,
    };
    let overridden = || options.overrides.iter().find(|o| o.pattern.is_match(tensor.name)).map(|o| o.ty);
    let wanted = explicit.or_else(overridden).unwrap_or(if options.pure { recipe.base() } else { by_rules });
    let ty = fitting(wanted, tensor)?;
    Ok(Decision {
        ty,
        instead_of: (ty != wanted).then_some(wanted),
        needs_importance: ty != tensor.ty
            && (ty.needs_importance() || !category.is_outside_of_blocks() && suffers(recipe, ty)),
    })
}

/// Whether llama.cpp refuses to make a tensor of a block of this type without importance.
fn suffers(recipe: Recipe, ty: BlockType) -> bool {
    use BlockType as T;
    matches!(ty, T::Iq3Xxs | T::Iq2Xxs | T::Iq2Xs | T::Iq2S | T::Iq1S | T::Iq1M)
        || recipe == Recipe::Q2KS && ty == T::Q2K
}

/// Checks that every tensor that needs importance has it.
///
/// # Errors
/// One has not; the message names it.
pub fn require_importance(
    recipe: Recipe,
    tensors: &[TensorFacts<'_>],
    decisions: &[Decision],
    has_importance: impl Fn(&str) -> bool,
) -> Result<()> {
    let missing = |(t, d): &(&TensorFacts<'_>, &Decision)| d.needs_importance && !has_importance(t.name);
    match tensors.iter().zip(decisions).find(missing) {
        None => Ok(()),
        Some((tensor, decision)) => {
            let name = printable(tensor.name);
            let message = format!("{recipe} makes `{name}` {}, which needs an importance matrix", decision.ty);
            let hint = "give an importance matrix of this model (imatrix), or choose a recipe of more bits";
            Err(Error::new(ErrorKind::Usage, message).with_hint(hint))
        }
    }
}

/// Whether quantizing changes a tensor at all: llama.cpp leaves vectors, norms, routers, and small
/// tensors that a model is sensitive to.
fn is_quantized(tensor: &TensorFacts<'_>) -> bool {
    const PARTS: &[&str] = &[
        "_norm.weight",
        "ffn_gate_inp.weight",
        "ffn_gate_tid2eid.weight",
        "altup",
        "laurel",
        "per_layer_model_proj",
        "ssm_conv1d",
        "shortconv.conv.weight",
        "indexer.k_proj.weight",
        "indexer.q_proj.weight",
        "attn_rel_b.weight",
        "time_mix_first.weight",
        "time_mix_w0.weight",
        "time_mix_w1.weight",
        "time_mix_w2.weight",
        "time_mix_v0.weight",
        "time_mix_v1.weight",
        "time_mix_v2.weight",
        "time_mix_a0.weight",
        "time_mix_a1.weight",
        "time_mix_a2.weight",
        "time_mix_g1.weight",
        "time_mix_g2.weight",
        "time_mix_decay_w1.weight",
        "time_mix_decay_w2.weight",
        "time_mix_lerp_fused.weight",
        // of what sees and hears
        ".position_embd",
        "sam.pos_embd",
        "sam.neck.",
        "sam.net_",
        ".rel_pos",
        ".patch_embd",
        ".patch_merger",
        "a.rvq.codebook",
        "mm.a.code_embd",
    ];
    const NAMES: &[&str] = &["position_embd.weight", "token_types.weight"];
    let name = tensor.name;
    tensor.shape.len() > 1
        && name.ends_with("weight")
        && !NAMES.contains(&name)
        && !PARTS.iter().any(|part| name.contains(part))
}

/// The number of a tensor's block, from `blk.N.`.
fn layer(name: &str) -> Option<usize> {
    name.strip_prefix("blk.")?.split_once('.')?.0.parse().ok()
}

/// `wanted`, or what takes its place where rows are not whole blocks of it.
fn fitting(wanted: BlockType, tensor: &TensorFacts<'_>) -> Result<BlockType> {
    use BlockType as T;
    let fits = |ty: T| ty.row_bytes(row_len(tensor)).is_some();
    if fits(wanted) {
        return Ok(wanted);
    }
    let other = match wanted {
        T::Iq1S | T::Iq1M | T::Iq2Xxs | T::Iq2Xs | T::Iq2S | T::Iq3Xxs | T::Iq3S | T::Iq4Xs => T::Iq4Nl,
        T::Q2_0 | T::Q2K | T::Q3K | T::Tq1_0 | T::Tq2_0 => T::Q4_0,
        T::Q4K => T::Q5_0,
        T::Q5K => T::Q5_1,
        T::Q6K => T::Q8_0,
        ty if ty.block_len() == 32 => ty,
        ty => {
            let (name, n) = (printable(tensor.name), row_len(tensor));
            let message = format!("tensor `{name}` has rows of {n}, which are not whole blocks of {ty}");
            return Err(Error::new(ErrorKind::Usage, message).with_hint("choose another type for it"));
        }
    };
    Ok(if fits(other) { other } else { T::F16 })
}

fn row_len(tensor: &TensorFacts<'_>) -> u64 {
    tensor.shape.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests;
