//! Arguments of what tells about models and topics: `models`, `check`, `help`.

use std::ffi::OsString;

use clap::Args;

use super::{CacheArgs, ContextArgs, DeviceArgs, ModelFlag};

pub(crate) const MODELS_NOTES: &str =
    "Looked into: the folder of tealight (TEALIGHT_MODELS_DIR), the caches of Hugging Face and llama.cpp, LM \
Studio and ollama. Files are read where they lie; nothing is copied. Every command that takes MODEL takes a name of \
this list, without publisher or tag where that is clear.

Examples:
  tealight models
  tealight chat llama3.2
  tealight models --json";

pub(crate) const CHECK_NOTES: &str =
    "The exit code is 0 for a model that runs here, 3 for one that is damaged or not supported, 4 for one that is \
too large for the memory that is free.

Examples:
  tealight check model.gguf
  tealight check model.gguf -c 32768 --hash";

#[derive(Debug, Args)]
pub(crate) struct ModelsArgs {
    /// One JSON object; sizes in bytes
    #[arg(long)]
    pub json: bool,
    /// Show the path of each file
    #[arg(long)]
    pub paths: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Model file or name
    #[arg(value_name = "MODEL")]
    pub words: Vec<OsString>,
    /// Compute the SHA-256 of each file, as hubs publish it
    #[arg(long)]
    pub hash: bool,
    /// Look at metadata only: no scan of the weights, no measuring
    #[arg(long)]
    pub quick: bool,
    /// One JSON object; sizes in bytes
    #[arg(long)]
    pub json: bool,
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
pub(crate) struct HelpArgs {
    /// A command, or a topic of `docs/faq.md`
    #[arg(value_name = "COMMAND | TOPIC")]
    pub words: Vec<String>,
    /// Write all topics as Markdown: `docs/faq.md` is made by this
    #[arg(long, hide = true)]
    pub faq: bool,
}
