//! Arguments of what makes model files and judges them: `quantize`, `imatrix`, `perplexity`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use tealight::convert::recipe::{self, TypeOverride};
use tealight::gguf::KeyValue;
use tealight::quant::BlockType;

use super::{CacheArgs, ComputeArgs, LoraArgs, ModelFlag};

pub(super) const QUANTIZE_NOTES: &str =
    "TYPE is a recipe by its name or number: F32 BF16 F16 Q8_0 Q6_K Q5_K_M Q5_K_S Q5_1 Q5_0 Q4_K_M \
Q4_K_S Q4_1 Q4_0 IQ4_NL IQ4_XS Q3_K_L Q3_K_M Q3_K_S IQ3_M IQ3_S IQ3_XS IQ3_XXS Q2_K Q2_K_S IQ2_M IQ2_S IQ2_XS \
IQ2_XXS IQ1_M IQ1_S TQ2_0 TQ1_0 Q2_0 Q1_0 MXFP4_MOE, or COPY to keep all types. Without OUT the file is \
ggml-model-TYPE.gguf beside IN.

Examples:
  tealight quantize ./Llama-3.2-1B-Instruct llama-q4.gguf Q4_K_M
  tealight quantize model-f16.gguf --imatrix imatrix.gguf model-iq3.gguf IQ3_S
  tealight quantize model.gguf Q4_K_M --dry-run
  tealight quantize model-f16.gguf model-q5.gguf Q5_K_M --check text.txt";

pub(super) const IMATRIX_NOTES: &str = "Examples:
  tealight imatrix model.gguf -f text.txt -o imatrix.gguf
  tealight imatrix --in-file a.gguf --in-file b.dat -o both.gguf";

#[derive(Debug, Args)]
pub(crate) struct PerplexityArgs {
    /// Model file
    #[arg(value_name = "MODEL")]
    pub words: Vec<OsString>,
    /// The text
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// File of all log-probabilities: written, or with --kl-divergence read in place of a text
    #[arg(long, value_name = "FILE")]
    pub kl_divergence_base: Option<PathBuf>,
    /// Compare with the model that wrote the file of --kl-divergence-base
    #[arg(long)]
    pub kl_divergence: bool,
    /// Tokens of a chunk; the second half of each is scored
    #[arg(short, long, alias = "ctx", value_name = "N", default_value_t = 512)]
    #[arg(value_parser = clap::value_parser!(u32).range(4..))]
    pub ctx_size: u32,
    /// Chunks at most [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub chunks: Option<u32>,
    #[command(flatten)]
    pub model: ModelFlag,
    #[command(flatten)]
    pub cache: CacheArgs,
    #[command(flatten)]
    pub compute: ComputeArgs,
    #[command(flatten)]
    pub lora: LoraArgs,
}

#[derive(Debug, Args)]
pub(crate) struct QuantizeArgs {
    /// Hugging Face folder, safetensors file or GGUF file; file to write; type; threads
    #[arg(value_names = ["IN", "OUT", "TYPE", "THREADS"], num_args = 1..=4, required = true)]
    pub words: Vec<OsString>,
    /// How much columns matter: a file of `tealight imatrix` or llama-imatrix
    #[arg(long, value_name = "FILE", help_heading = "Types")]
    pub imatrix: Option<PathBuf>,
    /// Use the importance matrix for tensors with this in their name alone, repeatable
    #[arg(long, value_name = "TEXT", help_heading = "Types", conflicts_with = "exclude_weights")]
    pub include_weights: Vec<String>,
    /// Use it for tensors without this in their name alone, repeatable
    #[arg(long, value_name = "TEXT", help_heading = "Types")]
    pub exclude_weights: Vec<String>,
    /// The same type for all tensors
    #[arg(long, help_heading = "Types")]
    pub pure: bool,
    /// Keep the type of `output.weight`
    #[arg(long, help_heading = "Types")]
    pub leave_output_tensor: bool,
    /// Type of `output.weight`
    #[arg(long, value_name = "TYPE", help_heading = "Types", value_parser = parse_type)]
    pub output_tensor_type: Option<BlockType>,
    /// Type of the token embeddings
    #[arg(long, value_name = "TYPE", help_heading = "Types", value_parser = parse_type)]
    pub token_embedding_type: Option<BlockType>,
    /// Type of tensors whose name matches a regular expression, repeatable, the first match wins
    #[arg(long, value_name = "NAME=TYPE", help_heading = "Types", value_parser = type_override)]
    pub tensor_type: Vec<TypeOverride>,
    /// The same from a file, separated by white space
    #[arg(long, value_name = "FILE", help_heading = "Types")]
    pub tensor_type_file: Option<PathBuf>,
    /// Quantize what has been quantized before, which loses quality twice
    #[arg(long, help_heading = "Types")]
    pub allow_requantize: bool,
    /// As many files as the source has
    #[arg(long, help_heading = "Output")]
    pub keep_split: bool,
    /// Several files of at most so many bytes, as in 500M or 2G
    #[arg(long, value_name = "SIZE", help_heading = "Output", value_parser = byte_size, conflicts_with = "keep_split")]
    pub split_max_size: Option<u64>,
    /// Set a key of the metadata; TYPE is int, float, bool or str; repeatable
    #[arg(long, value_name = "KEY=TYPE:VALUE", help_heading = "Output", value_parser = key_value)]
    pub override_kv: Vec<(String, KeyValue)>,
    /// Leave out layers
    #[arg(long, value_name = "L0,L1,...", help_heading = "Output", value_delimiter = ',')]
    pub prune_layers: Vec<u32>,
    /// Folder of the model that IN is a LoRA adapter of
    #[arg(long, value_name = "FOLDER", help_heading = "Output", conflicts_with = "check")]
    pub base: Option<PathBuf>,
    /// Show what each tensor would become, and write nothing
    #[arg(long, help_heading = "Output")]
    pub dry_run: bool,
    /// Compare the result with the source on a text: perplexity and KL divergence
    #[arg(long, value_name = "FILE", help_heading = "Check")]
    pub check: Option<PathBuf>,
    /// Tokens of a chunk of that text
    #[arg(long, value_name = "N", default_value_t = 512, help_heading = "Check")]
    #[arg(value_parser = clap::value_parser!(u32).range(4..))]
    pub check_ctx: u32,
    /// Chunks of it at most [default: all]
    #[arg(long, value_name = "N", help_heading = "Check", value_parser = clap::value_parser!(u32).range(1..))]
    pub check_chunks: Option<u32>,
}

fn parse_type(text: &str) -> Result<BlockType, String> {
    recipe::parse_type(text).map_err(|e| e.to_string())
}

fn type_override(text: &str) -> Result<TypeOverride, String> {
    TypeOverride::parse(text).map_err(|e| e.to_string())
}

/// `500M` or `2G`.
fn byte_size(text: &str) -> Result<u64, String> {
    let (number, unit) = match text.char_indices().next_back() {
        Some((at, 'M' | 'm')) => (&text[..at], 1_000_000),
        Some((at, 'G' | 'g')) => (&text[..at], 1_000_000_000),
        _ => (text, 1),
    };
    let bytes = number.parse::<u64>().ok().and_then(|n| n.checked_mul(unit)).filter(|n| *n > 0);
    bytes.ok_or_else(|| "expected a size such as 500M or 2G".into())
}

/// `KEY=TYPE:VALUE`, as llama.cpp spells it.
fn key_value(text: &str) -> Result<(String, KeyValue), String> {
    let shape = || "expected KEY=TYPE:VALUE, as in llama.context_length=int:4096".to_owned();
    let (key, rest) = text.split_once('=').ok_or_else(shape)?;
    let (ty, value) = rest.split_once(':').ok_or_else(shape)?;
    let wrong = || format!("`{}` is no {ty}", tealight::error::printable(value));
    let value = match ty {
        "int" => match value.parse::<i64>().map_err(|_| wrong())? {
            n if u32::try_from(n).is_ok() => KeyValue::U32(n as u32),
            n => KeyValue::I64(n),
        },
        "float" => KeyValue::F32(value.parse().map_err(|_| wrong())?),
        "bool" => KeyValue::Bool(value.parse().map_err(|_| wrong())?),
        "str" => value.into(),
        _ => return Err("the type is int, float, bool or str".into()),
    };
    if key.is_empty() { Err(shape()) } else { Ok((key.to_owned(), value)) }
}

#[derive(Debug, Args)]
pub(crate) struct ImatrixArgs {
    /// Model file
    #[arg(value_name = "MODEL")]
    pub words: Vec<OsString>,
    /// The text; without one the files of --in-file are added up
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// File to write
    #[arg(short, long, alias = "output-file", value_name = "FILE", default_value = "imatrix.gguf")]
    pub output: PathBuf,
    /// Importance matrix to add to, of either form, repeatable
    #[arg(long, value_name = "FILE")]
    pub in_file: Vec<PathBuf>,
    /// Tokens of a chunk
    #[arg(short, long, alias = "ctx", value_name = "N", default_value_t = 512)]
    #[arg(value_parser = clap::value_parser!(u32).range(4..))]
    pub ctx_size: u32,
    /// Chunks at most [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub chunks: Option<u32>,
    /// Chunks of the text to pass over
    #[arg(long, alias = "from-chunk", value_name = "N", default_value_t = 0)]
    pub chunk: u32,
    /// Also the matrix of the output
    #[arg(long)]
    pub process_output: bool,
    /// Do not score the text meanwhile
    #[arg(long)]
    pub no_ppl: bool,
    #[command(flatten)]
    pub model: ModelFlag,
    #[command(flatten)]
    pub compute: ComputeArgs,
}
