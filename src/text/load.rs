//! The vocabulary gate: metadata to a [`Vocab`]. What cannot be right is refused by key; what can be mended is mended
//! with a warning.

use std::sync::Arc;

use super::bpe::Bpe;
use super::bytes::{ALPHABET, byte_token};
use super::ends::Ends;
use super::greedy::{Plamo2, Rwkv, unescape};
use super::pretokenizer::{self, Pre};
use super::special::{self, Specials};
use super::spm::Spm;
use super::table::{MAX_TRIE_TEXT, NONE};
use super::tokens::{TokenKind, Tokens};
use super::unigram::{Charsmap, Unigram};
use super::vocab::{Encoder, Vocab, VocabKind};
use super::wordpiece::WordPiece;
use crate::error::{Error, ErrorKind, Result, printable};
use crate::gguf::{Gguf, Metadata, Value};

const MODEL: &str = "tokenizer.ggml.model";
const PRE: &str = "tokenizer.ggml.pre";
const TOKENS: &str = "tokenizer.ggml.tokens";
const SCORES: &str = "tokenizer.ggml.scores";
const TYPES: &str = "tokenizer.ggml.token_type";
const MERGES: &str = "tokenizer.ggml.merges";
const CHARSMAP: &str = "tokenizer.ggml.precompiled_charsmap";
const SUPPRESS: &str = "tokenizer.ggml.suppress_tokens";

/// What a kind of tokenizer takes for granted where the file is silent.
struct Defaults {
    bos: Option<u32>,
    eos: Option<u32>,
    unk: Option<u32>,
    sep: Option<u32>,
    pad: Option<u32>,
    mask: Option<u32>,
    add_bos: bool,
    add_eos: bool,
    add_space_prefix: bool,
    clean_spaces: bool,
}

fn defaults(kind: VocabKind) -> Defaults {
    let none = Defaults {
        bos: None,
        eos: None,
        unk: None,
        sep: None,
        pad: None,
        mask: None,
        add_bos: false,
        add_eos: false,
        add_space_prefix: false,
        clean_spaces: false,
    };
    match kind {
        VocabKind::Spm => {
            Defaults { bos: Some(1), eos: Some(2), unk: Some(0), add_bos: true, add_space_prefix: true, ..none }
        }
        VocabKind::Bpe => Defaults { bos: Some(11), eos: Some(11), clean_spaces: true, ..none },
        VocabKind::Wpm => Defaults {
            bos: Some(101),
            unk: Some(100),
            sep: Some(102),
            pad: Some(0),
            mask: Some(103),
            add_bos: true,
            clean_spaces: true,
            ..none
        },
        VocabKind::Ugm => Defaults { eos: Some(1), unk: Some(2), pad: Some(0), add_eos: true, ..none },
        VocabKind::Rwkv => none,
        VocabKind::Plamo2 => Defaults { bos: Some(1), eos: Some(2), unk: Some(0), pad: Some(3), ..none },
    }
}

/// A load in progress.
struct Loader<'a> {
    meta: Metadata<'a>,
    n: u32,
    warnings: Vec<String>,
}

impl Vocab {
    /// Whether the metadata holds a vocabulary at all.
    pub fn is_present(meta: &Metadata<'_>) -> bool {
        !matches!(meta.str(MODEL), Ok(None | Some("no_vocab" | "none")))
    }

    /// The vocabulary of a model.
    ///
    /// # Errors
    /// [`ErrorKind::Model`], naming the key: no vocabulary, a kind of tokenizer that is not supported, arrays that are
    /// missing, of the wrong type or too short.
    pub fn load(gguf: &Arc<Gguf>) -> Result<Self> {
        let meta = gguf.metadata();
        let model = match meta.str(MODEL)? {
            Some(model) if !matches!(model, "no_vocab" | "none") => model,
            _ => {
                let e = Error::new(ErrorKind::Model, "the file holds no vocabulary").in_file(meta.path());
                return Err(e.with_hint("this model takes and gives token ids only"));
            }
        };
        let kind = match model {
            "llama" => VocabKind::Spm,
            "gpt2" | "gemma4" | "whitespace" => VocabKind::Bpe,
            "bert" => VocabKind::Wpm,
            "t5" => VocabKind::Ugm,
            "rwkv" => VocabKind::Rwkv,
            "plamo2" => VocabKind::Plamo2,
            other => {
                let expected = "one of llama, gpt2, gemma4, whitespace, bert, t5, rwkv, plamo2";
                return Err(meta.key_error(MODEL, format!("`{}`", printable(other)), expected));
            }
        };
        let tokens = tokens(gguf, meta)?;
        let mut loader = Loader { meta, n: tokens.len(), warnings: Vec::new() };
        loader.load(kind, model, tokens)
    }
}

fn tokens(gguf: &Arc<Gguf>, meta: Metadata<'_>) -> Result<Tokens> {
    let array = meta.array(TOKENS)?.ok_or_else(|| meta.key_error(TOKENS, "nothing", "the texts of the tokens"))?;
    if array.is_empty() {
        return Err(meta.key_error(TOKENS, "an empty list", "the texts of the tokens"));
    }
    let Some(places) = array.strings_with_offsets() else {
        return Err(meta.key_error(TOKENS, format!("an array of {}", array.element()), "an array of str"));
    };
    let places: Vec<(u64, usize)> = places.map(|(at, text)| (at, text.len())).collect();
    let n = places.len();
    Tokens::new(gguf, places.into_iter())
        .ok_or_else(|| meta.key_error(TOKENS, format!("{n} tokens"), "tokens numbered in 32 bits, each below 16 MB"))
}

impl Loader<'_> {
    fn load(&mut self, kind: VocabKind, model: &str, mut tokens: Tokens) -> Result<Vocab> {
        self.token_kinds(&mut tokens)?;
        if tokens.n_duplicate > 0 {
            self.warn(format!("`{TOKENS}`: {} texts come more than once; the first id is used", tokens.n_duplicate));
        }
        if tokens.n_empty > 0 {
            self.warn(format!("`{TOKENS}`: {} tokens have no text", tokens.n_empty));
        }
        let (pre_name, pre) = match kind {
            VocabKind::Bpe => self.pre(model)?,
            _ => (None, None),
        };
        let mut d = defaults(kind);
        if let Some(pre) = &pre {
            d.add_bos = pre.add_bos;
            d.clean_spaces = pre.clean_spaces;
            if pre.no_bos {
                d.bos = None;
            }
        }
        let bos = self.id("bos", d.bos)?;
        let unk = self.id("unknown", d.unk)?;
        let mut ends = Ends {
            eos: self.id("eos", d.eos)?,
            eot: self.id("eot", None)?,
            eom: self.id("eom", None)?,
            fim_pre: self.id_or_alias("fim_pre", "prefix")?,
            fim_suf: self.id_or_alias("fim_suf", "suffix")?,
            fim_mid: self.id_or_alias("fim_mid", "middle")?,
            fim_pad: self.id("fim_pad", None)?,
            fim_rep: self.id("fim_rep", None)?,
            fim_sep: self.id("fim_sep", None)?,
        };
        if kind == VocabKind::Spm && self.meta.value(TYPES).is_none() {
            self.infer_kinds(&mut tokens, [bos, ends.eos], unk);
        }
        let sep = self.id("seperator", d.sep)?;
        let (pad, mask) = (self.id("padding", d.pad)?, self.id("mask", d.mask)?);
        let eog = ends.complete(&mut tokens);
        self.report_long(kind, &tokens);
        let mut add_bos = self.flag("add_bos_token", d.add_bos)?;
        if pre_name.as_deref() == Some("gemma4") {
            add_bos = true;
        }
        let mut add_eos = self.flag("add_eos_token", d.add_eos)?;
        if add_bos && bos.is_none() && kind != VocabKind::Wpm {
            self.warn("BOS is to be added but the file names none; it is left out".into());
            add_bos = false;
        }
        if add_eos && ends.eos.is_none() {
            self.warn("EOS is to be added but the file names none; it is left out".into());
            add_eos = false;
        }
        let add_space_prefix = self.flag("add_space_prefix", d.add_space_prefix)?;
        let raw_text = pre.as_ref().is_some_and(|p| p.raw);
        let alphabet = kind == VocabKind::Wpm || (kind == VocabKind::Bpe && !raw_text);
        let byte_ids = byte_ids(&tokens, alphabet);
        self.report_bytes(kind, &byte_ids);
        let encoder = self.encoder(kind, model, &tokens, pre.as_ref(), byte_ids, unk, add_space_prefix)?;
        let specials = Specials::new(&tokens, self.strip_rule(pre_name.as_deref())?);
        let suppressed = self.suppressed()?;
        Ok(Vocab {
            tokens,
            kind,
            pre: pre_name,
            warnings: std::mem::take(&mut self.warnings),
            encoder,
            specials,
            byte_ids,
            bos,
            ends,
            unk,
            sep,
            pad,
            mask,
            add_bos,
            add_eos,
            add_sep: self.flag("add_sep_token", pre.as_ref().is_some_and(|p| p.add_sep))?,
            add_space_prefix,
            clean_spaces: d.clean_spaces,
            raw_text,
            eog,
            suppressed,
        })
    }

    fn warn(&mut self, warning: String) {
        self.warnings.push(warning);
    }

    fn token_kinds(&mut self, tokens: &mut Tokens) -> Result<()> {
        let Some(array) = self.meta.array(TYPES)? else { return Ok(()) };
        let Some(types) = array.integers() else {
            return Err(self.meta.key_error(TYPES, format!("an array of {}", array.element()), "an array of i32"));
        };
        self.check_length(TYPES, array.len())?;
        for (i, (ty, slot)) in types.zip(&mut tokens.kinds).enumerate() {
            *slot = TokenKind::from_id(ty)
                .ok_or_else(|| self.meta.key_error(TYPES, format!("{ty} for token {i}"), "a type from 0 to 6"))?;
        }
        Ok(())
    }

    /// What a SentencePiece file without types means: `<0x0A>` is a byte, and the tokens around a text are no text.
    fn infer_kinds(&mut self, tokens: &mut Tokens, around: [Option<u32>; 2], unk: Option<u32>) {
        let mut set = |id: Option<u32>, kind: TokenKind| {
            if let Some(slot) = id.and_then(|id| tokens.kinds.get_mut(id as usize)) {
                *slot = kind;
            }
        };
        around.into_iter().for_each(|id| set(id, TokenKind::Control));
        set(unk, TokenKind::Unknown);
        for byte in 0..=255u8 {
            let id = tokens.find(&byte_token(byte));
            if let Some(slot) = id.and_then(|id| tokens.kinds.get_mut(id as usize)) {
                *slot = TokenKind::Byte;
            }
        }
        self.warn(format!("`{TYPES}` is missing; byte tokens are told by their names, other special tokens are text"));
    }

    /// Arrays beside the tokens: too short is an error, too long is harmless.
    fn check_length(&mut self, key: &str, len: usize) -> Result<()> {
        let n = usize::try_from(self.n).unwrap_or(usize::MAX);
        if len < n {
            return Err(self.meta.key_error(key, format!("{len} values"), format!("{n}, one for each token")));
        }
        if len > n {
            self.warn(format!("`{key}`: {len} values for {n} tokens; the rest is ignored"));
        }
        Ok(())
    }

    fn scores(&mut self) -> Result<Vec<f32>> {
        let n = usize::try_from(self.n).unwrap_or(usize::MAX);
        let Some(array) = self.meta.array(SCORES)? else { return Ok(vec![0.0; n]) };
        self.check_length(SCORES, array.len())?;
        let scores: Vec<f32> = match (array.floats(), array.integers()) {
            (Some(floats), _) => floats.take(n).collect(),
            #[expect(clippy::cast_precision_loss, reason = "ranks stay below 2^24")]
            (None, Some(integers)) => integers.take(n).map(|i| i as f32).collect(),
            _ => {
                return Err(self.meta.key_error(SCORES, format!("an array of {}", array.element()), "an array of f32"));
            }
        };
        match scores.iter().position(|s| s.is_nan()) {
            Some(i) => Err(self.meta.key_error(SCORES, format!("NaN for token {i}"), "a number")),
            None => Ok(scores),
        }
    }

    /// A special id; out of range or negative, it is as if absent.
    fn id(&mut self, name: &str, default: Option<u32>) -> Result<Option<u32>> {
        let key = format!("tokenizer.ggml.{name}_token_id");
        let id = match self.meta.value(&key) {
            None => return Ok(default.filter(|id| *id < self.n)),
            Some(Value::U64(id)) => u32::try_from(id).ok(),
            Some(Value::I64(id)) => u32::try_from(id).ok(),
            Some(_) => return Err(self.meta.key_error(&key, "another type", "an integer")),
        };
        let id = id.filter(|id| *id < self.n);
        if id.is_none() {
            self.warn(format!("`{key}` names no token of the {}; it is ignored", self.n));
        }
        Ok(id)
    }

    /// A special id that old files keep under another name.
    fn id_or_alias(&mut self, name: &str, alias: &str) -> Result<Option<u32>> {
        let old = self.id(alias, None)?;
        self.id(name, old)
    }

    fn flag(&self, name: &str, default: bool) -> Result<bool> {
        Ok(self.meta.bool(&format!("tokenizer.ggml.{name}"))?.unwrap_or(default))
    }

    fn pre(&mut self, model: &str) -> Result<(Option<String>, Option<Pre>)> {
        let name = match model {
            "gpt2" => self.meta.str(PRE)?,
            forced => Some(forced),
        };
        let used = match name {
            None | Some("") => {
                self.warn(format!(
                    "`{PRE}` is missing; `default` is used, and text may be cut otherwise than in training"
                ));
                "default"
            }
            Some(name) if pretokenizer::pre(name).is_some() => name,
            Some(name) => {
                let near = pretokenizer::nearest(name);
                self.warn(format!(
                    "`{PRE}`: pre-tokenizer `{}` is unknown; the nearest name `{near}` is used, and text may be cut otherwise than in training; correct this key, or convert the model again with a known name",
                    printable(name)
                ));
                near
            }
        };
        Ok((Some(used.to_owned()), pretokenizer::pre(used)))
    }

    /// Warns of bytes that text consists of; many vocabularies lack control characters and bytes that UTF-8 does not
    /// use, which nobody misses.
    fn report_bytes(&mut self, kind: VocabKind, byte_ids: &[u32; 256]) {
        let occurs = |byte: u8| match byte {
            b'\t' | b'\n' | b'\r' => true,
            0..=0x1f | 0x7f => false,
            // Lead bytes of planes without characters, and what is never valid.
            0xc0 | 0xc1 | 0xf1 | 0xf2 | 0xf5..=0xff => false,
            _ => true,
        };
        let missing = (0..=255u8).filter(|&b| byte_ids[usize::from(b)] == NONE && occurs(b)).count();
        if missing > 0 && matches!(kind, VocabKind::Spm | VocabKind::Bpe | VocabKind::Plamo2) {
            let loss =
                if kind == VocabKind::Bpe { "they are left out of prompts" } else { "they become the unknown token" };
            self.warn(format!("{missing} of the bytes that text is made of have no token; {loss}"));
        }
    }

    /// Warns of tokens that no trie takes.
    fn report_long(&mut self, kind: VocabKind, tokens: &Tokens) {
        let is_long = |(id, text): &(u32, &[u8])| {
            let of_trie = || match kind {
                VocabKind::Spm | VocabKind::Bpe => false,
                VocabKind::Rwkv => unescape(text).len() > MAX_TRIE_TEXT,
                VocabKind::Wpm | VocabKind::Ugm | VocabKind::Plamo2 => true,
            };
            text.len() > MAX_TRIE_TEXT && (special::is_special(tokens.kind(*id)) || of_trie())
        };
        let (mut long, mut n) = (None, 0);
        for (id, _) in tokens.iter().filter(is_long) {
            long = long.or(Some(id));
            n += 1;
        }
        if let Some(first) = long {
            self.warn(format!(
                "`{TOKENS}`: {n} tokens, number {first} first, are longer than {MAX_TRIE_TEXT} bytes and are never found in text, which becomes other tokens there; real tokens stay below 400 bytes, so check how the file was made"
            ));
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one call, in which everything known so far meets")]
    fn encoder(
        &mut self,
        kind: VocabKind,
        model: &str,
        tokens: &Tokens,
        pre: Option<&Pre>,
        byte_ids: [u32; 256],
        unk: Option<u32>,
        add_space_prefix: bool,
    ) -> Result<Encoder> {
        Ok(match (kind, pre) {
            (VocabKind::Bpe, Some(pre)) => Encoder::Bpe(self.bpe(model, tokens, pre, byte_ids)?),
            (VocabKind::Wpm | VocabKind::Bpe, _) => {
                let lowercase = self.flag("normalizer.lowercase", true)?;
                let strip_accents = self.flag("normalizer.strip_accents", lowercase)?;
                Encoder::Wpm(WordPiece::new(tokens, lowercase, strip_accents, unk))
            }
            (VocabKind::Spm, _) => Encoder::Spm(Spm::new(tokens, self.scores()?, byte_ids, add_space_prefix, unk)),
            (VocabKind::Ugm, _) => {
                let charsmap = self.charsmap()?;
                let remove_extra = self.flag("remove_extra_whitespaces", false)?;
                let unk = unk.ok_or_else(|| {
                    self.meta.key_error("tokenizer.ggml.unknown_token_id", "nothing", "the unknown token")
                })?;
                Encoder::Ugm(Unigram::new(tokens, self.scores()?, charsmap, unk, add_space_prefix, remove_extra))
            }
            (VocabKind::Rwkv, _) => Encoder::Rwkv(Rwkv::new(tokens, unk)),
            (VocabKind::Plamo2, _) => Encoder::Plamo2(Plamo2::new(tokens, self.scores()?, byte_ids, unk)),
        })
    }

    fn bpe(&mut self, model: &str, tokens: &Tokens, pre: &Pre, byte_ids: [u32; 256]) -> Result<Bpe> {
        let array = self.meta.array(MERGES)?;
        let name = self.meta.str(PRE)?.unwrap_or(model);
        if array.is_none() && !matches!(name, "kimi-k2" | "whitespace") {
            return Err(self.meta.key_error(MERGES, "nothing", "the merges of the vocabulary"));
        }
        let n_merge = array.map_or(0, |a| a.len());
        let merges = match array {
            None => None,
            Some(array) => Some(array.strings().ok_or_else(|| {
                self.meta.key_error(MERGES, format!("an array of {}", array.element()), "an array of str")
            })?),
        };
        if n_merge == 0 {
            self.warn(format!("`{MERGES}` is empty; text becomes single bytes unless a word is a token"));
        }
        let (bpe, report) = Bpe::new(tokens, pre, merges.into_iter().flatten(), n_merge, byte_ids);
        if let Some(first) = report.first_dropped {
            self.warn(format!(
                "`{MERGES}`: {} of {n_merge} have parts or results that are no tokens and are ignored, number {first} first",
                report.n_dropped
            ));
        }
        let lowercase = model == "whitespace" && self.flag("normalizer.lowercase", true)?;
        Ok(bpe.with_whole_newlines(name == "gemma4" || model == "gemma4").with_lowercase(lowercase))
    }

    fn charsmap(&mut self) -> Result<Option<Charsmap>> {
        let Some(array) = self.meta.array(CHARSMAP)? else { return Ok(None) };
        let Some(bytes) = array.bytes() else {
            return Err(self.meta.key_error(CHARSMAP, format!("an array of {}", array.element()), "an array of u8"));
        };
        if bytes.is_empty() {
            return Ok(None);
        }
        match Charsmap::new(bytes) {
            Some(map) => Ok(Some(map)),
            None => {
                Err(self.meta.key_error(CHARSMAP, format!("{} bytes", bytes.len()), "a length and that many bytes"))
            }
        }
    }

    fn suppressed(&mut self) -> Result<Vec<u32>> {
        let Some(array) = self.meta.array(SUPPRESS)? else { return Ok(Vec::new()) };
        let Some(ids) = array.integers() else {
            return Err(self.meta.key_error(SUPPRESS, format!("an array of {}", array.element()), "an array of i32"));
        };
        let ids: Vec<u32> = ids.filter_map(|id| u32::try_from(id).ok()).filter(|id| *id < self.n).collect();
        if ids.len() < array.len() {
            self.warn(format!("`{SUPPRESS}`: {} ids are no tokens and are ignored", array.len() - ids.len()));
        }
        Ok(ids)
    }

    /// For which tokens white space on the left or right goes away. Files do not say; llama.cpp goes by these names.
    fn strip_rule(&self, pre: Option<&str>) -> Result<impl Fn(&[u8]) -> (bool, bool) + use<>> {
        let architecture = self.meta.str("general.architecture")?.unwrap_or("");
        let name = self.meta.str("general.name")?.unwrap_or("").to_lowercase();
        let mask = matches!(pre, Some("jina-v2-de" | "jina-v2-es" | "jina-v2-code"))
            || matches!(architecture, "nomic-bert-moe" | "jina-bert-v3");
        let phi3 = name.contains("phi-3") || name.contains("phi3");
        let modern = name.contains("modern-bert");
        Ok(move |text: &[u8]| {
            let left = (mask && text == b"<mask>") || (modern && text == b"[MASK]");
            let right = phi3 && !matches!(text, b"<unk>" | b"<s>" | b"<|endoftext|>");
            (left, right)
        })
    }
}

/// The token of each byte, [`NONE`] where there is none.
fn byte_ids(tokens: &Tokens, alphabet: bool) -> [u32; 256] {
    let mut ids = [NONE; 256];
    for (byte, id) in (0..=255u8).zip(&mut ids) {
        let found = if alphabet {
            tokens.find(ALPHABET[usize::from(byte)].encode_utf8(&mut [0; 4]).as_bytes())
        } else {
            tokens.find(&byte_token(byte)).or_else(|| tokens.find(&[byte]))
        };
        *id = found.unwrap_or(NONE);
    }
    ids
}
