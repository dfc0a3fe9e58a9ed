//! A vocabulary: its special ids, and text to tokens. Loading is in `load.rs`, the way back in `detokenize.rs`.

use std::ops::Range;

use super::bpe::Bpe;
use super::ends::Ends;
use super::greedy::{Plamo2, Rwkv};
use super::special::{Fragment, Specials};
use super::spm::Spm;
use super::template::{Prompt, Trust};
use super::tokens::{TokenKind, Tokens};
use super::unigram::Unigram;
use super::wordpiece::WordPiece;

/// The kinds of tokenizers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum VocabKind {
    /// SentencePiece BPE with byte fallback (`llama`).
    Spm,
    /// Byte-pair encoding by ranked merges (`gpt2`, `gemma4`, `whitespace`).
    Bpe,
    /// WordPiece (`bert`).
    Wpm,
    /// Unigram (`t5`).
    Ugm,
    /// Greedy longest match (`rwkv`).
    Rwkv,
    /// Segmentation of least cost (`plamo2`).
    Plamo2,
}

/// How to encode a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Encode {
    /// Add the tokens that the model expects around a sequence (BOS, EOS, CLS and SEP, as the file says).
    pub add_special: bool,
    /// Recognise control tokens spelt out in the text. Only for text that no stranger wrote.
    pub parse_special: bool,
}

/// The vocabulary of a model: text to tokens and back. Texts stay in the file's memory map.
pub struct Vocab {
    pub(super) tokens: Tokens,
    pub(super) kind: VocabKind,
    pub(super) pre: Option<String>,
    pub(super) warnings: Vec<String>,
    pub(super) encoder: Encoder,
    pub(super) specials: Specials,
    pub(super) byte_ids: [u32; 256],
    pub(super) bos: Option<u32>,
    pub(super) ends: Ends,
    pub(super) unk: Option<u32>,
    pub(super) sep: Option<u32>,
    pub(super) pad: Option<u32>,
    pub(super) mask: Option<u32>,
    pub(super) add_bos: bool,
    pub(super) add_eos: bool,
    pub(super) add_sep: bool,
    pub(super) add_space_prefix: bool,
    pub(super) clean_spaces: bool,
    /// Tokens of a BPE are UTF-8 text rather than the byte alphabet.
    pub(super) raw_text: bool,
    pub(super) eog: Vec<u32>,
    pub(super) suppressed: Vec<u32>,
}

pub(super) enum Encoder {
    Spm(Spm),
    Bpe(Bpe),
    Wpm(WordPiece),
    Ugm(Unigram),
    Rwkv(Rwkv),
    Plamo2(Plamo2),
}

impl Vocab {
    /// What was wrong with the file but could be mended: each a sentence without a full stop.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// How many tokens there are.
    pub fn n_tokens(&self) -> u32 {
        self.tokens.len()
    }

    /// The kind of tokenizer.
    pub fn kind(&self) -> VocabKind {
        self.kind
    }

    /// The name of the pre-tokenizer in use, for BPE.
    pub fn pre(&self) -> Option<&str> {
        self.pre.as_deref()
    }

    /// The token that begins a sequence.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The token that ends a sequence.
    pub fn eos(&self) -> Option<u32> {
        self.ends.eos
    }

    /// The token that ends a turn.
    pub fn eot(&self) -> Option<u32> {
        self.ends.eot
    }

    /// The token that ends a message which the same speaker goes on after.
    pub fn eom(&self) -> Option<u32> {
        self.ends.eom
    }

    /// The tokens before the prefix, before the suffix and before the middle of a text to be filled in, if it has all.
    pub fn fill_in(&self) -> Option<[u32; 3]> {
        Some([self.ends.fim_pre?, self.ends.fim_suf?, self.ends.fim_mid?])
    }

    /// The token for what the vocabulary cannot write.
    pub fn unk(&self) -> Option<u32> {
        self.unk
    }

    /// The token between the texts of a pair.
    pub fn sep(&self) -> Option<u32> {
        self.sep
    }

    /// The token that fills batches.
    pub fn pad(&self) -> Option<u32> {
        self.pad
    }

    /// The token that hides a word from a masked model.
    pub fn mask(&self) -> Option<u32> {
        self.mask
    }

    /// The token of a newline.
    pub fn nl(&self) -> Option<u32> {
        match self.kind {
            VocabKind::Spm => Some(self.byte_ids[usize::from(b'\n')]).filter(|id| *id < self.n_tokens()),
            VocabKind::Wpm => self.pad,
            _ => {
                let mut out = Vec::new();
                self.encode_text(b"\n", &mut out);
                out.first().copied()
            }
        }
    }

    /// Whether [`Vocab::encode`] with `add_special` puts BOS in front.
    pub fn add_bos(&self) -> bool {
        self.add_bos
    }

    /// Whether [`Vocab::encode`] with `add_special` puts EOS behind.
    pub fn add_eos(&self) -> bool {
        self.add_eos
    }

    /// Whether a pair of texts has the separator between them.
    pub fn add_sep(&self) -> bool {
        self.add_sep
    }

    /// Whether a blank goes in front of text, and comes off when the text is decoded.
    pub fn add_space_prefix(&self) -> bool {
        self.add_space_prefix
    }

    /// Tokens that must never be sampled.
    pub fn suppressed(&self) -> &[u32] {
        &self.suppressed
    }

    /// Whether a token ends a generation.
    pub fn is_eog(&self, id: u32) -> bool {
        self.eog.binary_search(&id).is_ok()
    }

    /// All tokens that end a generation, sorted.
    pub fn eog(&self) -> &[u32] {
        &self.eog
    }

    /// What a token is for; undefined for an id that is no token.
    pub fn token_kind(&self, id: u32) -> TokenKind {
        self.tokens.kind(id)
    }

    /// The text of a token as the file has it; empty for an id that is no token.
    pub fn token_text(&self, id: u32) -> &[u8] {
        self.tokens.text(id)
    }

    /// The token with exactly this text in the file.
    pub fn token_id(&self, text: &[u8]) -> Option<u32> {
        self.tokens.find(text)
    }

    /// The tokens of a text, which may be any bytes. Takes time proportional to n log n at most.
    pub fn encode(&self, text: &[u8], how: Encode) -> Vec<u32> {
        self.encode_where(text, how.add_special, |_| how.parse_special)
    }

    /// The tokens of a rendered chat: control tokens are recognised only where the template wrote every byte of them,
    /// so no message can spell one. BOS is added as [`Vocab::encode`] does, unless the template wrote it itself.
    pub fn encode_prompt(&self, prompt: &Prompt) -> Vec<u32> {
        let mut ids = self.encode_parts(prompt.text.as_bytes(), &prompt.parts, false);
        if self.add_bos && self.kind != VocabKind::Wpm && self.bos.is_some() && ids.first().copied() != self.bos {
            ids.splice(..0, self.bos);
        }
        ids
    }

    /// The tokens of a text whose parts have different authors: control tokens are recognised only where every byte is
    /// the template's. `parts` are sorted; bytes in none of them count as content.
    pub fn encode_parts(&self, text: &[u8], parts: &[(Range<usize>, Trust)], add_special: bool) -> Vec<u32> {
        self.encode_where(text, add_special, |range| {
            let mut at = range.start;
            let first = parts.partition_point(|(p, _)| p.end <= at);
            for (part, trust) in &parts[first..] {
                if part.start > at || *trust != Trust::Template {
                    return false;
                }
                at = part.end;
                if at >= range.end {
                    return true;
                }
            }
            false
        })
    }

    fn encode_where(&self, text: &[u8], add_special: bool, meant: impl Fn(&Range<usize>) -> bool) -> Vec<u32> {
        let mut out = Vec::with_capacity(text.len() / 3 + 2);
        let add_special = |yes: bool| yes && add_special;
        if add_special(self.add_bos || self.kind == VocabKind::Wpm) {
            out.extend(self.bos);
        }
        for fragment in self.specials.cut(text, meant) {
            match fragment {
                Fragment::Token(id) => out.push(id),
                Fragment::Text(range) => self.encode_text(&text[range], &mut out),
            }
        }
        if add_special(self.kind == VocabKind::Wpm) {
            out.extend(self.sep);
        } else if add_special(self.add_eos) {
            out.extend(self.ends.eos);
        }
        out
    }

    fn encode_text(&self, text: &[u8], out: &mut Vec<u32>) {
        match &self.encoder {
            Encoder::Spm(e) => e.encode(&self.tokens, text, out),
            Encoder::Bpe(e) => e.encode(&self.tokens, text, out),
            Encoder::Wpm(e) => e.encode(text, out),
            Encoder::Ugm(e) => e.encode(&self.tokens, text, out),
            Encoder::Rwkv(e) => e.encode(text, out),
            Encoder::Plamo2(e) => e.encode(text, out),
        }
    }
}

impl std::fmt::Debug for Vocab {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vocab")
            .field("kind", &self.kind)
            .field("pre", &self.pre)
            .field("n_tokens", &self.n_tokens())
            .finish_non_exhaustive()
    }
}
