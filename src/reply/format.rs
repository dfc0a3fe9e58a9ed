//! The forms in which models think and call tools: a table of marks.
//!
//! A mark counts where the template's text has its sign or the vocabulary has it as a token. Sources: the templates of
//! the families, as they ship in model files.

use serde_json::Value;

use super::calls::Body;
use super::parser::Parser;

/// What a block of calls stands between, and how it is read.
#[derive(Debug)]
pub(super) struct Block {
    /// What it begins with.
    pub open: &'static str,
    /// What it ends with; a block also ends with the answer.
    pub close: &'static [&'static str],
    /// The last bytes of `open` that belong to what is read.
    pub keep: usize,
    /// How it is read.
    pub body: Body,
    /// What the template has if its models write such blocks; empty: `open`.
    sign: &'static str,
}

const fn block(open: &'static str, close: &'static [&'static str], body: Body) -> Block {
    Block { open, close, keep: 0, body, sign: "" }
}

/// Blocks of tool calls.
static BLOCKS: &[Block] = &[
    // Hermes, Qwen, Granite 4, SmolLM3 and many more; with XML inside Qwen3-Coder and Qwen3.5, with keys GLM and Ling.
    block("<tool_call>", &["</tool_call>"], Body::Tagged),
    block("<seed:tool_call>", &["</seed:tool_call>"], Body::Tagged),
    block("<minimax:tool_call>", &["</minimax:tool_call>"], Body::Invoke("")),
    // DeepSeek V4.
    Block {
        sign: "｜DSML｜", ..block("<｜DSML｜tool_calls>", &["</｜DSML｜tool_calls>"], Body::Invoke("｜DSML｜"))
    },
    // MiniMax M1.
    block("<tool_calls>", &["</tool_calls>"], Body::Json),
    // Nemotron.
    block("<TOOLCALL>", &["</TOOLCALL>"], Body::Json),
    // Mistral, with a list of objects or with names and arguments; the next call ends one.
    block("[TOOL_CALLS]", &["[TOOL_CALLS]"], Body::Mistral),
    // DeepSeek V3, R1, V3.1.
    block("<｜tool▁calls▁begin｜>", &["<｜tool▁calls▁end｜>"], Body::DeepSeek),
    block("<|tool_calls_section_begin|>", &["<|tool_calls_section_end|>"], Body::Kimi),
    // Solar.
    Block { sign: "<|tool_call:begin|>", ..block("<|tool_calls|>", &["<|calls|>"], Body::Solar) },
    // Apertus.
    block("<|tools_prefix|>", &["<|tools_suffix|>"], Body::Keyed),
    // Cohere.
    block("<|START_ACTION|>", &["<|END_ACTION|>"], Body::Json),
    Block { sign: "Action:", ..block("Action:\n```json\n", &["```"], Body::Json) },
    // GigaChat.
    Block {
        sign: "function call",
        ..block("<|message_sep|>\n\nfunction call<|role_sep|>\n", &["<|message_sep|>"], Body::Json)
    },
    // Granite 3.
    block("<|tool_call|>", &[], Body::Json),
    // Functionary 3.1, and Qwen3-Coder where it leaves out the outer tags.
    block("<function=", &["</function>"], Body::Function),
    // FireFunction.
    Block { keep: 1, sign: "functools", ..block("functools[", &[], Body::Json) },
    // Gemma 4 and FunctionGemma.
    block("<|tool_call>", &["<tool_call|>"], Body::Gemma("<|\"|>")),
    block("<start_function_call>", &["<end_function_call>"], Body::Gemma("<escape>")),
    // LFM2, Llama 4.
    block("<|tool_call_start|>", &["<|tool_call_end|>"], Body::Python),
    // Llama 3.x.
    block("<|python_tag|>", &[], Body::PythonTag),
];

/// Marks around thoughts.
const THOUGHTS: &[(&str, &str)] = &[
    ("<think>", "</think>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
    ("<|channel>thought", "<channel|>"),
    ("<|think|>", "<|end|>"),
];

/// Marks that only say that text begins or ends, with the sign of their templates.
const SILENT: &[(&str, &str)] = &[
    ("<|START_TEXT|>", "<|START_TEXT|>"),
    ("<|END_TEXT|>", "<|END_TEXT|>"),
    ("<|START_RESPONSE|>", "<|START_RESPONSE|>"),
    ("<|END_RESPONSE|>", "<|END_RESPONSE|>"),
    ("<|begin|>assistant", "<|begin|>assistant"),
    ("<|content|>", "<|content|>"),
    ("<|end|>", "<|content|>"),
    // GigaChat.
    ("<|message_sep|>", "<|message_sep|>"),
    // Granite 3.
    ("<response>", "<response></response>"),
    ("</response>", "<response></response>"),
];

/// In which form a model answers.
#[derive(Clone, Debug, Default)]
pub struct Format {
    pub(super) blocks: Vec<&'static Block>,
    pub(super) thoughts: Vec<(&'static str, &'static str)>,
    pub(super) silent: Vec<&'static str>,
    /// Messages in channels, as gpt-oss writes them.
    pub(super) harmony: bool,
    /// Parts behind `>>>` and a name, as Functionary 3.2 writes them.
    pub(super) recipients: bool,
    /// An answer that is one JSON object, or several, calls tools.
    pub(super) bare_json: bool,
    /// Definitions of tools, for the types of their arguments.
    pub(super) tools: Option<Value>,
}

impl Format {
    /// Plain text: nothing is taken apart.
    pub fn plain() -> Self {
        Self::default()
    }

    /// The form of a model with this chat template, whose vocabulary has the tokens of which `has_token` says so, and
    /// which was given these tools.
    pub fn detect(template: &str, has_token: &dyn Fn(&str) -> bool, tools: Option<&Value>) -> Self {
        let tools = tools.filter(|t| t.as_array().is_none_or(|t| !t.is_empty()));
        if template.contains("<|channel|>") && template.contains("<|message|>") {
            return Self { harmony: true, tools: tools.cloned(), ..Self::default() };
        }
        let known = |sign: &str| template.contains(sign) || has_token(sign);
        let blocks = BLOCKS.iter().filter(|b| known(if b.sign.is_empty() { b.open } else { b.sign }));
        // The end of thoughts may be a token of other use; some templates have it alone.
        let thoughts = THOUGHTS.iter().filter(|(open, close)| known(open) || template.contains(close));
        let mut format = Self {
            blocks: blocks.collect(),
            thoughts: thoughts.copied().collect(),
            silent: SILENT.iter().filter(|(_, sign)| template.contains(sign)).map(|(mark, _)| *mark).collect(),
            recipients: template.contains(">>>all"),
            tools: tools.cloned(),
            ..Self::default()
        };
        // Llama 3.x writes calls without any mark. Its templates know the tool that runs Python, and have no other form.
        let llama = template.contains("ipython") && !template.contains("<function=") && !template.contains("functools");
        format.bare_json = llama && tools.is_some();
        format
    }

    /// Thoughts alone are taken apart.
    pub fn thoughts_only(self) -> Self {
        Self { thoughts: self.thoughts, ..Self::default() }
    }

    /// Is there anything to take apart?
    pub fn is_plain(&self) -> bool {
        let marks = self.blocks.len() + self.thoughts.len() + self.silent.len();
        marks == 0 && !self.harmony && !self.recipients && !self.bare_json
    }

    /// A reader of one answer to `prompt`, whose calls without ids are numbered from `n_call` on. A prompt may open the
    /// thoughts itself.
    pub fn parser(&self, prompt: &str, n_call: usize) -> Parser {
        Parser::new(self.clone(), prompt, n_call)
    }
}
