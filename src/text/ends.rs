//! Special ids that files leave out, and the set of tokens that end a generation.

use super::tokens::{TokenKind, Tokens};

/// Texts that end a generation wherever they are tokens.
const ENDS: [&str; 22] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
];
/// Texts that end a turn, the likeliest first.
const TURN_ENDS: [&str; 11] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "<｜end▁of▁sentence｜>",
    "<end_of_utterance>",
];
const FIM_PAD: [&str; 5] = ["<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"];
const FIM_REPO: [&str; 5] = ["<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"];
const FIM_SEP: [&str; 1] = ["<|file_sep|>"];
/// The parts of a fill-in-the-middle prompt.
const FIM_PREFIX: [&str; 8] = [
    "<|fim_prefix|>",
    "<fim-prefix>",
    "<fim_prefix>",
    "<｜fim▁begin｜>",
    "<PRE>",
    "▁<PRE>",
    "<|code_prefix|>",
    "<|prefix|>",
];
const FIM_SUFFIX: [&str; 8] = [
    "<|fim_suffix|>",
    "<fim-suffix>",
    "<fim_suffix>",
    "<｜fim▁hole｜>",
    "<SUF>",
    "▁<SUF>",
    "<|code_suffix|>",
    "<|suffix|>",
];
const FIM_MIDDLE: [&str; 8] = [
    "<|fim_middle|>",
    "<fim-middle>",
    "<fim_middle>",
    "<｜fim▁end｜>",
    "<MID>",
    "▁<MID>",
    "<|code_middle|>",
    "<|middle|>",
];
/// Always shown, since programs read them.
const SHOWN: [&str; 4] = ["<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"];

/// Ids that end a generation or steer filling in, from the file or found by name.
#[derive(Clone, Debug, Default)]
pub(super) struct Ends {
    pub(super) eos: Option<u32>,
    pub(super) eot: Option<u32>,
    pub(super) eom: Option<u32>,
    pub(super) fim_pre: Option<u32>,
    pub(super) fim_suf: Option<u32>,
    pub(super) fim_mid: Option<u32>,
    pub(super) fim_pad: Option<u32>,
    pub(super) fim_rep: Option<u32>,
    pub(super) fim_sep: Option<u32>,
}

impl Ends {
    /// Fills in what the file left out and gives the sorted ids that end a generation. Marks tokens as control or as
    /// text where their names say so.
    pub(super) fn complete(&mut self, tokens: &mut Tokens) -> Vec<u32> {
        let mut wanted: [(&mut Option<u32>, &[&str]); 8] = [
            (&mut self.fim_pre, &FIM_PREFIX),
            (&mut self.fim_suf, &FIM_SUFFIX),
            (&mut self.fim_mid, &FIM_MIDDLE),
            (&mut self.eot, &TURN_ENDS),
            (&mut self.eom, &["<|eom_id|>"]),
            (&mut self.fim_pad, &FIM_PAD),
            (&mut self.fim_rep, &FIM_REPO),
            (&mut self.fim_sep, &FIM_SEP),
        ];
        for (id, names) in &mut wanted {
            if id.is_none() {
                **id = names.iter().find_map(|n| tokens.find(n.as_bytes()));
                if let Some(id) = **id {
                    tokens.set_kind(id, TokenKind::Control);
                }
            }
        }
        let mut ends: Vec<u32> = Vec::new();
        for name in ENDS {
            if let Some(id) = tokens.find(name.as_bytes()) {
                tokens.set_kind(id, TokenKind::Control);
                ends.push(id);
            }
        }
        ends.extend([self.eos, self.eot, self.eom, self.fim_pad, self.fim_rep, self.fim_sep].into_iter().flatten());
        for name in SHOWN {
            if let Some(id) = tokens.find(name.as_bytes()) {
                tokens.set_kind(id, TokenKind::UserDefined);
            }
        }
        let holds = |ends: &[u32], name: &str| tokens.find(name.as_bytes()).is_some_and(|id| ends.contains(&id));
        // gpt-oss and Solar end messages with `<|end|>` and go on; Gemma 4 and PLaMo use `</s>` as text.
        let harmony = (holds(&ends, "<|return|>") || holds(&ends, "<|flush|>"))
            && (holds(&ends, "<|call|>") || holds(&ends, "<|calls|>"))
            && holds(&ends, "<|end|>");
        let plain =
            holds(&ends, "<|tool_response>") || tokens.find(b"<|plamo:eos|>").is_some_and(|id| ends.contains(&id));
        for (applies, name, kind) in [(harmony, "<|end|>", TokenKind::UserDefined), (plain, "</s>", TokenKind::Normal)]
        {
            if let Some(id) = tokens.find(name.as_bytes()).filter(|_| applies) {
                ends.retain(|e| *e != id);
                tokens.set_kind(id, kind);
            }
        }
        ends.sort_unstable();
        ends.dedup();
        ends
    }
}
