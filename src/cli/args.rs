//! Arguments as they are typed; `Model*::resolve` and the subcommands apply defaults. Flags, variables and their
//! meaning are llama.cpp's where it has them.

mod adapters;
mod answers;
mod models;
mod shelf;

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use tealight::plan::CacheType;
use tealight::{DeviceChoice, GpuCheck, GpuLayers, Knobs, ModelOptions, SessionOptions};

use super::bench::{Numbers, pair};
use super::chats::ChatsArgs;
use super::embed::EmbedArgs;
use super::{Outcome, usage};
pub(crate) use adapters::LoraArgs;
pub(crate) use answers::{AnswerArgs, ChatArgs, Overflow, RunArgs};
use models::{IMATRIX_NOTES, QUANTIZE_NOTES};
pub(crate) use models::{ImatrixArgs, PerplexityArgs, QuantizeArgs};
use shelf::{CHECK_NOTES, MODELS_NOTES};
pub(crate) use shelf::{CheckArgs, HelpArgs, ModelsArgs};

pub(crate) const FIRST_STEPS: &str = "begin with one of

  tealight run MODEL.gguf \"a question\"   one answer
  tealight chat MODEL.gguf               a conversation
  tealight inspect MODEL.gguf            what a file holds and needs
  tealight models                        the models on this machine

`tealight --help` shows all commands";

const EXIT_CODES: &str = "Exit codes:
  0    done, or nobody reads the output any more
  1    a fault of tealight itself
  2    wrong usage
  3    the model is malformed or not supported
  4    not enough memory or disk
  5    reading or writing failed
  6    the GPU failed
  7    the network failed
  130  interrupted by Ctrl-C

Where llama.cpp has a variable for a flag it is read, such as LLAMA_ARG_THREADS for --threads; the
command line wins.";

/// Runs language models from GGUF files on this machine.
#[derive(Debug, Parser)]
#[command(name = "tealight", version, after_help = EXIT_CODES, args_override_self = true, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub shared: Shared,
    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Debug, Args)]
pub(crate) struct Shared {
    /// Errors only: no warnings, notices, progress or timings
    #[arg(short, long, global = true, help_heading = "Messages")]
    pub quiet: bool,
    /// More about the model and the run on standard error
    #[arg(short, long, global = true, help_heading = "Messages")]
    pub verbose: bool,
    /// No colours on standard error [env: NO_COLOR]
    #[arg(long, global = true, env = "NO_COLOR", hide_env = true, value_parser = is_set, help_heading = "Messages")]
    pub no_color: bool,
    #[arg(long, global = true, env = "TERM", hide = true)]
    pub term: Option<OsString>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Answer one prompt, from arguments, files and standard input
    #[command(after_help = RUN_NOTES, override_usage = "tealight run [OPTIONS] [MODEL] [PROMPT]")]
    Run(Box<RunArgs>),
    /// Hold a conversation
    #[command(after_help = super::chat::commands(), override_usage = "tealight chat [OPTIONS] [MODEL]")]
    Chat(Box<ChatArgs>),
    /// List, show, remove and export the chats of `chat --name`
    #[command(override_usage = "tealight chats [OPTIONS] [COMMAND]")]
    Chats(ChatsArgs),
    /// List the models on this machine, whose names stand for their files
    #[command(after_help = MODELS_NOTES, override_usage = "tealight models [OPTIONS]")]
    Models(ModelsArgs),
    /// Tell whether a model runs here: memory, speed, and faults of its file
    #[command(after_help = CHECK_NOTES, override_usage = "tealight check [OPTIONS] MODEL")]
    Check(CheckArgs),
    /// Show what a file holds, what it needs, and whether it runs
    #[command(override_usage = "tealight inspect [OPTIONS] MODEL")]
    Inspect(InspectArgs),
    /// Show the token ids of a text
    #[command(override_usage = "tealight tokenize [OPTIONS] MODEL [TEXT]")]
    Tokenize(TokenizeArgs),
    /// Write the logits of given tokens as numbers
    #[command(after_help = LOGITS_NOTES, override_usage = "tealight logits [OPTIONS] MODEL --tokens IDS -o FILE")]
    Logits(LogitsArgs),
    /// Turn texts into vectors
    #[command(after_help = super::embed::NOTES, override_usage = "tealight embed [OPTIONS] MODEL [TEXT]...")]
    Embed(EmbedArgs),
    /// Measure how well a model predicts a text
    #[command(override_usage = "tealight perplexity [OPTIONS] MODEL --file FILE")]
    Perplexity(PerplexityArgs),
    /// Make a GGUF file of another type, from a Hugging Face folder or a GGUF file
    #[command(after_help = QUANTIZE_NOTES, override_usage = "tealight quantize [OPTIONS] IN [OUT] TYPE [THREADS]")]
    Quantize(Box<QuantizeArgs>),
    /// Find out which columns of weights matter, for `quantize --imatrix`
    #[command(after_help = IMATRIX_NOTES, override_usage = "tealight imatrix [OPTIONS] MODEL --file FILE")]
    Imatrix(ImatrixArgs),
    /// Measure how fast models read prompts and write answers
    #[command(after_help = BENCH_NOTES, override_usage = "tealight bench [OPTIONS] MODEL...")]
    Bench(Box<BenchArgs>),
    /// Write the completions of a shell to standard output
    #[command(hide = true, override_usage = "tealight completions [OPTIONS] SHELL")]
    Completions(CompletionsArgs),
    /// Write manual pages: that of `tealight` to standard output, or all of them to a folder
    #[command(hide = true, override_usage = "tealight man [OPTIONS] [DIR]")]
    Man(ManArgs),
    /// List the GPUs that `--device` takes
    #[command(override_usage = "tealight devices [OPTIONS]")]
    Devices(DevicesArgs),
    /// Print the help of a command, or answer a question about a topic
    #[command(override_usage = "tealight help [COMMAND | TOPIC]")]
    Help(HelpArgs),
}

const RUN_NOTES: &str =
    "Standard output carries the answer and nothing else. A model with a chat template answers one \
turn of a conversation; a model without one, or `--raw`, continues the text.

Examples:
  tealight run model.gguf \"Why is the sky blue?\"
  git diff | tealight run model.gguf \"Describe this change\"
  tealight run model.gguf --raw \"Once upon a time\" -n 50";

const LOGITS_NOTES: &str =
    "The file is [tokens, vocabulary] in little-endian 32-bit floats, one row per token: raw scores before sampling.";

const BENCH_NOTES: &str =
    "Flags that take NUMBERS take `512`, `1,2,4`, `1-4`, `128-1024*2` or `16-64+16`; every combination is measured.

Examples:
  tealight bench model.gguf
  tealight bench model.gguf -p 256 -n 64 -t 1,2,4 -o json
  tealight bench model.gguf -p 0 -n 32 -d 512,8192
  tealight bench --kernels Q4_K Q8_0 -t 1,2";

/// Which model file.
#[derive(Debug, Args)]
pub(crate) struct ModelFlag {
    /// Model file, or any shard of one, in place of MODEL
    #[arg(short, long, value_name = "FILE", help_heading = "Model")]
    pub model: Option<PathBuf>,
    #[arg(long, env = "LLAMA_ARG_MODEL", hide = true)]
    pub model_from_env: Option<PathBuf>,
}

impl ModelFlag {
    /// Does anything name a model?
    pub(crate) fn is_named(&self, words: &[OsString]) -> bool {
        !words.is_empty() || self.model.is_some() || self.model_from_env.is_some()
    }

    /// Tells the model apart from at most one further word.
    pub(crate) fn split(&self, words: &[OsString], accepts_text: bool) -> Outcome<(PathBuf, Option<OsString>)> {
        let limit = usize::from(self.model.is_none()) + usize::from(accepts_text);
        if words.len() > limit {
            let extra = words[limit].to_string_lossy().into_owned();
            return Err(usage(
                format!("unexpected argument `{}`", tealight::error::printable(&extra)),
                if accepts_text { "put a text of several words in quotes" } else { "one model at a time" },
            ));
        }
        let n_word = words.len();
        let mut words = words.iter().cloned();
        if let Some(model) = &self.model {
            return Ok((model.clone(), words.next()));
        }
        // The variable is a default: a word that must be the model, or looks like one, wins over it.
        let is_model = |word: &OsString| n_word == limit || word.to_string_lossy().ends_with(".gguf");
        match (words.next(), self.model_from_env.clone()) {
            (Some(word), Some(model)) if !is_model(&word) => Ok((model, Some(word))),
            (Some(word), _) => Ok((word.into(), words.next())),
            (None, Some(model)) => Ok((model, None)),
            (None, None) => Err(usage("no model given", "name a GGUF file, as in `tealight run MODEL.gguf`")),
        }
    }
}

/// How a model computes.
#[derive(Debug, Args)]
pub(crate) struct ComputeArgs {
    /// Threads; -1 = physical cores
    #[arg(short, long, value_name = "N", env = "LLAMA_ARG_THREADS", hide_env = true, help_heading = "Model")]
    #[arg(allow_negative_numbers = true, default_value = "-1", value_parser = clap::value_parser!(i32).range(-1..=1024))]
    pub threads: i32,
    /// Compute exactly: f32 activations, dequantized weights, f32 cache (slow)
    #[arg(long, help_heading = "Model")]
    pub exact: bool,
    #[command(flatten)]
    pub device: DeviceArgs,
}

impl ComputeArgs {
    pub(crate) fn resolve(&self) -> Outcome<ModelOptions> {
        let options = self.device.resolve()?.with_exact(self.exact);
        Ok(match usize::try_from(self.threads) {
            Ok(n) if n > 0 => options.with_threads(n),
            _ => options,
        })
    }
}

/// How a model starts.
#[derive(Debug, Args)]
pub(crate) struct StartArgs {
    /// Read all weights before the first token, with a progress bar
    #[arg(long, help_heading = "Model")]
    pub warm: bool,
}

/// Where a model computes.
#[derive(Debug, Args)]
pub(crate) struct DeviceArgs {
    /// What computes: auto, cpu, gpu, a number of `tealight devices` or a part of a name (short: -dev)
    #[arg(long, value_name = "DEVICE", env = "LLAMA_ARG_DEVICE", hide_env = true, help_heading = "Model")]
    #[arg(default_value_t = DeviceChoice::Auto, value_parser = parsed::<DeviceChoice>)]
    pub device: DeviceChoice,
    /// Layers on the GPU, the last ones of the model: a number, auto or all (short: -ngl)
    #[arg(long, alias = "n-gpu-layers", value_name = "N", env = "LLAMA_ARG_N_GPU_LAYERS", hide_env = true)]
    #[arg(help_heading = "Model", allow_negative_numbers = true)]
    #[arg(default_value_t = GpuLayers::Auto, value_parser = parsed::<GpuLayers>)]
    pub gpu_layers: GpuLayers,
    /// Compare the GPU with the CPU: on = at its first use, force = each time, off
    #[arg(long, value_name = "WHEN", help_heading = "Model")]
    #[arg(default_value_t = GpuCheck::On, value_parser = parsed::<GpuCheck>)]
    pub gpu_check: GpuCheck,
}

impl DeviceArgs {
    /// Options of a model, with the knobs of the environment.
    pub(crate) fn resolve(&self) -> Outcome<ModelOptions> {
        let options = ModelOptions::default().with_knobs(Knobs::from_env()?);
        Ok(options.with_device(self.device.clone()).with_gpu_layers(self.gpu_layers).with_gpu_check(self.gpu_check))
    }
}

/// A value whose error has a hint of its own.
fn parsed<T: FromStr<Err = tealight::Error>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|e: tealight::Error| match e.hint() {
        Some(hint) => format!("{e}; {hint}"),
        None => e.to_string(),
    })
}

/// How a cache is stored.
#[derive(Debug, Args)]
pub(crate) struct CacheArgs {
    /// Storage of keys (short: -ctk) [default: f16, with --exact f32]
    #[arg(long, value_name = "TYPE", env = "LLAMA_ARG_CACHE_TYPE_K", hide_env = true, help_heading = "Model")]
    #[arg(value_parser = cache_type())]
    pub cache_type_k: Option<CacheType>,
    /// Storage of values (short: -ctv) [default: f16, with --exact f32]
    #[arg(long, value_name = "TYPE", env = "LLAMA_ARG_CACHE_TYPE_V", hide_env = true, help_heading = "Model")]
    #[arg(value_parser = cache_type())]
    pub cache_type_v: Option<CacheType>,
}

impl CacheArgs {
    pub(crate) fn resolve(&self, exact: bool) -> SessionOptions {
        let default = if exact { CacheType::F32 } else { CacheType::F16 };
        SessionOptions::default().with_cache(self.cache_type_k.unwrap_or(default), self.cache_type_v.unwrap_or(default))
    }
}

/// How long a sequence may become.
#[derive(Debug, Args)]
pub(crate) struct ContextArgs {
    /// Context length in tokens; 0 = what the model was trained for, at most 32768
    #[arg(short, long, value_name = "N", env = "LLAMA_ARG_CTX_SIZE", hide_env = true, help_heading = "Model")]
    #[arg(default_value_t = 0)]
    pub ctx_size: u32,
}

impl ContextArgs {
    pub(crate) fn resolve(&self, options: SessionOptions) -> SessionOptions {
        if self.ctx_size == 0 { options } else { options.with_ctx(self.ctx_size) }
    }
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// Model file, or any shard of one
    #[arg(value_name = "MODEL")]
    pub words: Vec<OsString>,
    /// List all tensors
    #[arg(long)]
    pub tensors: bool,
    /// Show the steps of one forward pass
    #[arg(long)]
    pub plan: bool,
    /// One JSON object, tensors included; shapes are row-major, outermost first
    #[arg(long)]
    pub json: bool,
    /// List the architectures of model files instead: names, models, and which run
    #[arg(long, conflicts_with_all = ["tensors", "plan", "words", "model"])]
    pub architectures: bool,
    #[command(flatten)]
    pub model: ModelFlag,
    #[command(flatten)]
    pub context: ContextArgs,
    #[command(flatten)]
    pub cache: CacheArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
}

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// Model files; with --kernels formats of weights, as in Q4_K
    #[arg(value_name = "MODEL")]
    pub words: Vec<OsString>,
    /// Model file, repeatable
    #[arg(short, long, value_name = "FILE")]
    pub model: Vec<PathBuf>,
    /// Tokens of a prompt [default: 512]
    #[arg(short = 'p', long, value_name = "NUMBERS")]
    pub n_prompt: Vec<Numbers>,
    /// Tokens of an answer [default: 128]
    #[arg(short, long, value_name = "NUMBERS")]
    pub n_gen: Vec<Numbers>,
    /// A prompt and an answer together, as in 512,128 (short: -pg)
    #[arg(long, value_name = "PP,TG", value_parser = pair)]
    pub prompt_and_gen: Vec<(usize, usize)>,
    /// Tokens that are there before [default: 0]
    #[arg(short = 'd', long, value_name = "NUMBERS")]
    pub n_depth: Vec<Numbers>,
    /// Threads [default: physical cores; with --kernels 1]
    #[arg(short, long, value_name = "NUMBERS")]
    pub threads: Vec<Numbers>,
    /// Tokens that are handed over at once
    #[arg(short, long, value_name = "N", default_value_t = 2048, value_parser = clap::value_parser!(u32).range(1..))]
    pub batch_size: u32,
    /// Tokens of one forward pass (short: -ub) [default: 256]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub ubatch_size: Option<u32>,
    /// Repetitions
    #[arg(short, long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub repetitions: u32,
    /// Measure the first run too
    #[arg(long)]
    pub no_warmup: bool,
    /// Do not measure what the machine can do at most
    #[arg(long)]
    pub no_limits: bool,
    /// Measure the kernels of each format and instruction set, without a model
    #[arg(long, conflicts_with_all = ["model", "n_prompt", "n_gen", "prompt_and_gen", "n_depth", "batch_size"])]
    #[arg(conflicts_with_all = ["ubatch_size", "repetitions", "no_warmup", "no_limits"])]
    pub kernels: bool,
    /// With --kernels: MiB of weights that are read from memory; 0 = products of prompts alone
    #[arg(long, value_name = "N", default_value_t = 600, requires = "kernels")]
    #[arg(value_parser = clap::value_parser!(u32).range(..=1 << 20))]
    pub mib: u32,
    /// Form of the results
    #[arg(short, long, value_name = "FORM", value_enum, default_value_t = BenchFormat::Md)]
    pub output: BenchFormat,
    #[command(flatten)]
    pub cache: CacheArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
    #[command(flatten)]
    pub lora: LoraArgs,
}

/// Form of a benchmark's results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum BenchFormat {
    /// A table in Markdown
    Md,
    /// An array of objects
    Json,
    /// An object a line
    Jsonl,
    /// A table of values separated by commas
    Csv,
}

#[derive(Debug, Args)]
pub(crate) struct DevicesArgs {
    /// One JSON object; sizes in bytes
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL", value_enum)]
    pub shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Folder for the pages
    #[arg(value_name = "DIR")]
    pub folder: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct TokenizeArgs {
    /// Model file, then the text; without a text, or with `-`, standard input is taken byte for byte
    #[arg(value_names = ["MODEL", "TEXT"])]
    pub words: Vec<OsString>,
    /// One token a line: id and text
    #[arg(long)]
    pub pieces: bool,
    /// Neither add the token that begins a text nor the one that ends it
    #[arg(long)]
    pub no_bos: bool,
    /// Names of control tokens in the text become control tokens
    #[arg(long, alias = "parse-special")]
    pub special: bool,
    #[command(flatten)]
    pub model: ModelFlag,
}

#[derive(Debug, Args)]
pub(crate) struct LogitsArgs {
    /// Model file
    #[arg(value_name = "MODEL")]
    pub words: Vec<OsString>,
    /// Token ids, separated by commas
    #[arg(long, value_name = "IDS", value_delimiter = ',', conflicts_with_all = ["prompt", "nll"])]
    pub tokens: Vec<u32>,
    /// Text, tokenized as by `tealight tokenize`
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true, conflicts_with = "nll")]
    pub prompt: Option<OsString>,
    /// Names of control tokens in the prompt become control tokens
    #[arg(long, alias = "parse-special")]
    pub special: bool,
    /// Where to write; `-` = standard output
    #[arg(short, long, value_name = "FILE", required_unless_present = "nll")]
    pub output: Option<PathBuf>,
    /// Feed so many tokens at a time [default: as many as a pass takes]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub chunk: Option<u32>,
    /// The last row only
    #[arg(long)]
    pub last: bool,
    /// Write an intermediate result instead: `17`, `17.k` or `blk.0.q` of `tealight inspect --plan`
    #[arg(long, value_name = "LABEL")]
    pub label: Option<String>,
    /// Print the perplexity of the text in --file by the method of llama-perplexity
    #[arg(long, hide = true, requires = "file")]
    pub nll: bool,
    #[arg(short, long, hide = true, value_name = "FILE", requires = "nll")]
    pub file: Option<PathBuf>,
    #[arg(short, long, alias = "ctx", hide = true, value_name = "N", requires = "nll", default_value_t = 512)]
    #[arg(value_parser = clap::value_parser!(u32).range(4..))]
    pub ctx_size: u32,
    #[arg(long, hide = true, value_name = "N", requires = "nll", value_parser = clap::value_parser!(u32).range(1..))]
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

/// A variable that is set to anything but nothing, as <https://no-color.org> has it; clap's own default is `false`.
fn is_set(value: &str) -> Result<bool, std::convert::Infallible> {
    Ok(!matches!(value, "" | "false"))
}

fn cache_type() -> impl TypedValueParser<Value = CacheType> {
    PossibleValuesParser::new(["f32", "f16", "q8_0"]).map(|name| match name.as_str() {
        "f32" => CacheType::F32,
        "q8_0" => CacheType::Q8_0,
        _ => CacheType::F16,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_declaration_of_arguments_is_sound() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    fn check(flag: Option<&str>, env: Option<&str>, words: &[&str], expected: Option<(&str, Option<&str>)>) {
        let flag = ModelFlag { model: flag.map(Into::into), model_from_env: env.map(Into::into) };
        let words: Vec<OsString> = words.iter().map(Into::into).collect();
        let found = flag.split(&words, true).ok();
        assert_eq!(found, expected.map(|(model, text)| (model.into(), text.map(Into::into))), "{words:?}");
    }

    #[test]
    fn a_model_is_told_apart_from_a_prompt() {
        check(None, None, &["m"], Some(("m", None)));
        check(None, None, &["m", "hi"], Some(("m", Some("hi"))));
        check(Some("m"), None, &["hi"], Some(("m", Some("hi"))));
        check(Some("m"), Some("e"), &[], Some(("m", None)));
        check(None, Some("e"), &["hi"], Some(("e", Some("hi"))));
        check(None, Some("e"), &["m.gguf"], Some(("m.gguf", None)));
        check(None, Some("e"), &["m", "hi"], Some(("m", Some("hi"))));
        check(None, None, &[], None);
        check(None, None, &["m", "why", "is"], None);
        check(Some("m"), None, &["why", "is"], None);
    }
}
