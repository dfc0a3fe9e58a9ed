//! The arguments of `run` and `chat`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use tealight::ContextOverflow;

use super::super::chat::{KeptArgs, Think};
use super::super::form::FormArgs;
use super::super::prompt_cache::PromptCacheArgs;
use super::super::sampling::SamplingArgs;
use super::{CacheArgs, ComputeArgs, ContextArgs, LoraArgs, ModelFlag, StartArgs};

/// How an answer is made.
#[derive(Debug, Args)]
pub(crate) struct AnswerArgs {
    /// Tokens to write at most; -1 = until the model ends, -2 = until the context is full
    #[arg(short = 'n', long, alias = "n-predict", value_name = "N", env = "LLAMA_ARG_N_PREDICT")]
    #[arg(hide_env = true, allow_negative_numbers = true, default_value_t = -1)]
    #[arg(value_parser = clap::value_parser!(i64).range(-2..=i64::from(u32::MAX)))]
    pub predict: i64,
    /// System message (short: -sys)
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub system_prompt: Option<String>,
    /// System message from a file (short: -sysf)
    #[arg(long, value_name = "FILE", conflicts_with = "system_prompt")]
    pub system_prompt_file: Option<PathBuf>,
    /// Text that ends the answer, repeatable
    #[arg(short, long = "reverse-prompt", alias = "stop", value_name = "TEXT", allow_hyphen_values = true)]
    pub reverse_prompt: Vec<String>,
    /// When the context is full: stop = end the answer, shift = leave out the oldest turns, error
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = Overflow::Stop, hide_possible_values = true)]
    pub context_overflow: Overflow,
    /// Show control tokens as text (short: -sp)
    #[arg(long)]
    pub special: bool,
    #[command(flatten)]
    pub form: FormArgs,
    /// Show no timings
    #[arg(long, overrides_with = "show_timings")]
    pub no_show_timings: bool,
    #[arg(long, hide = true, overrides_with = "no_show_timings")]
    show_timings: bool,
}

impl AnswerArgs {
    pub(crate) fn shows_timings(&self) -> bool {
        !self.no_show_timings
    }
}

/// What happens when the context is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Overflow {
    Stop,
    Shift,
    Error,
}

impl From<Overflow> for ContextOverflow {
    fn from(overflow: Overflow) -> Self {
        match overflow {
            Overflow::Stop => Self::Stop,
            Overflow::Shift => Self::Shift,
            Overflow::Error => Self::Error,
        }
    }
}

impl From<ContextOverflow> for Overflow {
    fn from(overflow: ContextOverflow) -> Self {
        match overflow {
            ContextOverflow::Shift => Self::Shift,
            ContextOverflow::Error => Self::Error,
            _ => Self::Stop,
        }
    }
}

impl std::fmt::Display for Overflow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Stop => "stop",
            Self::Shift => "shift",
            Self::Error => "error",
        })
    }
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Model file or name, then the prompt; `-` as the prompt reads standard input. Without a model the small
    /// built-in one answers, or the only one on this machine
    #[arg(value_names = ["MODEL", "PROMPT"])]
    pub words: Vec<OsString>,
    /// The prompt
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true)]
    pub prompt: Option<OsString>,
    /// The prompt, or its beginning, from a file
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Continue the text without the model's chat template
    #[arg(long, alias = "no-conversation")]
    pub raw: bool,
    /// With --raw: names of control tokens in the prompt become control tokens
    #[arg(long, requires = "raw")]
    pub parse_special: bool,
    /// One JSON object in the end: content, reasoning, tool calls, why it ended, figures
    #[arg(long)]
    pub json: bool,
    /// Tools that the model may call: a JSON list of definitions as OpenAI has them
    #[arg(long, value_name = "FILE", conflicts_with = "raw")]
    pub tools: Option<PathBuf>,
    /// Read `\n`, `\t`, `\"`, `\\` and such in the prompt, system message and stop texts as what they stand for
    #[arg(short, long, overrides_with = "no_escape")]
    pub escape: bool,
    #[arg(long, hide = true)]
    no_escape: bool,
    #[command(flatten)]
    pub answer: AnswerArgs,
    #[command(flatten)]
    pub prompt_cache: PromptCacheArgs,
    #[command(flatten)]
    pub model: ModelFlag,
    #[command(flatten)]
    pub context: ContextArgs,
    #[command(flatten)]
    pub cache: CacheArgs,
    #[command(flatten)]
    pub compute: ComputeArgs,
    #[command(flatten)]
    pub lora: LoraArgs,
    #[command(flatten)]
    pub start: StartArgs,
    #[command(flatten)]
    pub sampling: SamplingArgs,
    // What `run` does anyway; scripts written for llama.cpp say it.
    #[arg(long, hide = true)]
    conversation: bool,
    #[arg(long, hide = true)]
    single_turn: bool,
    #[arg(long, hide = true)]
    no_display_prompt: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ChatArgs {
    /// Model file or name; without one the small built-in model answers, or the only one on this machine
    #[arg(value_name = "MODEL")]
    pub words: Vec<OsString>,
    #[command(flatten)]
    pub kept: KeptArgs,
    #[command(flatten)]
    pub answer: AnswerArgs,
    /// File of earlier input lines [default: tealight/history in the folder of application state]
    #[arg(long, value_name = "FILE")]
    pub history: Option<PathBuf>,
    /// Neither read nor write the history of input lines
    #[arg(long)]
    pub no_history: bool,
    #[command(flatten)]
    pub view: ViewArgs,
    #[arg(long, env = "XDG_STATE_HOME", hide = true)]
    pub state_home: Option<PathBuf>,
    #[command(flatten)]
    pub model: ModelFlag,
    #[command(flatten)]
    pub context: ContextArgs,
    #[command(flatten)]
    pub cache: CacheArgs,
    #[command(flatten)]
    pub compute: ComputeArgs,
    #[command(flatten)]
    pub lora: LoraArgs,
    #[command(flatten)]
    pub start: StartArgs,
    #[command(flatten)]
    pub sampling: SamplingArgs,
    #[arg(long, hide = true)]
    conversation: bool,
}

/// How a conversation is shown.
#[derive(Debug, Args)]
pub(crate) struct ViewArgs {
    /// Ask the model to think before it answers, or not to; `hide` = leave thoughts out [default: as it does]
    #[arg(long, value_name = "HOW", value_enum)]
    pub think: Option<Think>,
    /// Show answers as they are written, without styles
    #[arg(long)]
    pub no_markdown: bool,
    /// Leave the ends of lines to the terminal
    #[arg(long)]
    pub no_word_wrap: bool,
}
