//! Answers that keep to a form: a JSON schema, a grammar or a regular expression decides which tokens may come next.
//!
//! A [`Grammar`] is read and checked without a model. With the [`TokenTable`] of a vocabulary it becomes a [`Guide`],
//! which follows one answer: the bytes of every token as they appear in the text are matched, so any tokenizer will
//! do and any way to cut a text into tokens is allowed. Control tokens are never allowed; the tokens that end a
//! generation are exactly where the text may end. Schemas and grammars are programs of strangers: they have limits of
//! size, depth and time, and are compiled on a thread with a stack of its own.

mod bounded;
mod formats;
mod gbnf;
mod pattern;
mod schema;
mod terminals;

use std::fmt;
use std::sync::Arc;

use llguidance::api::{GrammarInit, ParserLimits, TopLevelGrammar};
use llguidance::toktrie::{ApproximateTokEnv, INVALID_TOKEN, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};

use crate::error::{Error, ErrorKind, Result};
use crate::text::{TokenKind, Vocab};
use bounded::bounded;

/// Bytes of a grammar or schema at most.
pub const MAX_TEXT: usize = 4 << 20;

/// A form that answers keep to. Cheap to copy.
#[derive(Clone)]
pub struct Grammar(Arc<Inner>);

struct Inner {
    kind: Kind,
    /// What the engine compiles.
    compiled: TopLevelGrammar,
}

/// What a grammar was written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    JsonSchema,
    Gbnf,
    Lark,
    Regex,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::JsonSchema => "JSON schema",
            Self::Gbnf | Self::Lark => "grammar",
            Self::Regex => "regular expression",
        }
    }
}

impl Grammar {
    /// Answers are JSON texts that are valid by this JSON schema. Properties come in the order of the schema; between
    /// the parts of the text there is at most one blank, or one or two line ends with up to 20 blanks behind them.
    /// Numbers without bounds stay within the integers that an f64 holds exactly, and `format` stands for the common
    /// forms of each format: both are narrower than the schema, never wider.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] with line and column where the text is no JSON; with the path of the part where a keyword
    /// is unknown or not supported, by its name; where no text can be valid; where it is too large or too deep.
    pub fn json_schema(text: &str) -> Result<Self> {
        let text = checked(Kind::JsonSchema, text)?.to_owned();
        bounded("the JSON schema", move || {
            let schema = schema::prepare(&text)?;
            Self::of(Kind::JsonSchema, TopLevelGrammar::from_json_schema(schema))
        })
    }

    /// Answers match a grammar in the GBNF of llama.cpp, from its rule `root`. Tokens (`<...>`) are not supported.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] with line and column of what is wrong: syntax, a rule that is not defined or never ends,
    /// repetitions that are too many.
    pub fn gbnf(text: &str) -> Result<Self> {
        let text = checked(Kind::Gbnf, text)?.to_owned();
        bounded("the grammar", move || {
            let rules = gbnf::parse(&text)?;
            // A grammar that is one regular expression takes the fastest way; where it is too large for that, rules
            // will do.
            if let Some(regex) = terminals::as_regex(&rules)
                && let Ok(grammar) = Self::of(Kind::Gbnf, TopLevelGrammar::from_lark(regex))
            {
                return Ok(grammar);
            }
            Self::of(Kind::Gbnf, TopLevelGrammar::from_lark(terminals::as_lark(&rules)))
        })
    }

    /// Answers match a grammar in the Lark of llguidance, from its rule `start`
    /// (<https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md>).
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] with line and column of what is wrong.
    pub fn lark(text: &str) -> Result<Self> {
        let text = checked(Kind::Lark, text)?.to_owned();
        bounded("the grammar", move || Self::of(Kind::Lark, TopLevelGrammar::from_lark(text)))
    }

    /// Answers match a grammar in GBNF, or in Lark: one that begins with `%llguidance`, or that has no `::=` and a
    /// rule `start`.
    ///
    /// # Errors
    /// As [`Grammar::gbnf`] and [`Grammar::lark`].
    pub fn parse(text: &str) -> Result<Self> {
        let is_start = |line: &str| line.trim_start().trim_start_matches(['?', '!']).starts_with("start");
        let is_lark = text.trim_start().starts_with("%llguidance")
            || !text.contains("::=") && text.lines().any(|l| is_start(l) && l.contains(':'));
        if is_lark { Self::lark(text) } else { Self::gbnf(text) }
    }

    /// Answers match a regular expression as a whole, in the syntax of Rust's `regex` without look-around,
    /// backreferences and lazy repetitions. A `^` in front and a `$` behind may stand there.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] with line and column of what is wrong.
    pub fn regex(text: &str) -> Result<Self> {
        let text = checked(Kind::Regex, text)?.to_owned();
        bounded("the regular expression", move || {
            let body = pattern::whole(&text)?;
            let lark = match body {
                "" => "start: \"\"".to_owned(),
                _ => format!("start: /{}/", llguidance::regex_to_lark(body, "")),
            };
            Self::of(Kind::Regex, TopLevelGrammar::from_lark(lark))
        })
    }

    /// Checks that the engine takes it.
    fn of(kind: Kind, compiled: TopLevelGrammar) -> Result<Self> {
        match GrammarInit::Serialized(compiled.clone()).validate(None, limits()).into_error() {
            Some(text) => Err(fault(kind, &text)),
            None => Ok(Self(Arc::new(Inner { kind, compiled }))),
        }
    }

    /// A guide along one answer.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when the grammar is too large or too slow to compile, or names tokens that the vocabulary
    /// does not have.
    pub fn guide(&self, tokens: &Arc<TokenTable>) -> Result<Guide> {
        let (grammar, table) = (self.clone(), Arc::clone(tokens));
        bounded(self.0.kind.name(), move || {
            let parser = table.factory.create_parser(grammar.0.compiled.clone());
            let parser = parser.map_err(|e| fault(grammar.0.kind, &e.to_string()))?;
            Ok(Guide {
                matcher: Matcher::new(Ok(parser)),
                table,
                allowed: Vec::new(),
                is_fresh: false,
                goes_on: true,
                n_accepted: 0,
            })
        })
    }
}

impl fmt::Debug for Grammar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Grammar").field(&self.0.kind).finish()
    }
}

/// The tokens of a vocabulary as texts, sorted for looking up which of them continue a text. Takes up to a second to make
/// for 128k tokens; one will do for all answers.
pub struct TokenTable {
    factory: ParserFactory,
    /// For each token: is it text?
    is_text: Vec<bool>,
    eog: Vec<u32>,
}

impl TokenTable {
    /// The tokens of `vocab`.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when the table cannot be made.
    pub fn new(vocab: &Vocab) -> Result<Self> {
        let pieces: Vec<Vec<u8>> = (0..vocab.n_tokens()).map(|id| text_of(vocab, id)).collect();
        let is_text = pieces.iter().map(|p| !p.is_empty()).collect();
        let eog: Vec<u32> = vocab.eog().iter().copied().filter(|id| *id < vocab.n_tokens()).collect();
        let info = TokRxInfo {
            vocab_size: vocab.n_tokens(),
            tok_eos: eog.first().copied().unwrap_or(INVALID_TOKEN),
            tok_bos: None,
            tok_pad: None,
            tok_unk: None,
            tok_end_of_turn: None,
        };
        let mut trie = TokTrie::from(&info, &pieces);
        if !eog.is_empty() {
            trie = trie.with_eos_tokens(&eog);
        }
        // Not canonical: nothing is forced, the model cuts its text into tokens as it likes.
        let env: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let failed = |e| Error::new(ErrorKind::Internal, format!("the table of tokens cannot be made: {e}"));
        let mut factory = ParserFactory::new_simple(&env).map_err(failed)?;
        factory.quiet();
        *factory.limits_mut() = limits();
        Ok(Self { factory, is_text, eog })
    }
}

impl fmt::Debug for TokenTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenTable").field("n_tokens", &self.is_text.len()).finish_non_exhaustive()
    }
}

/// What a token adds to a text; nothing for one that no grammar may write.
fn text_of(vocab: &Vocab, id: u32) -> Vec<u8> {
    let piece = vocab.piece(id, false);
    let steers = vocab.token_kind(id) == TokenKind::UserDefined && piece.starts_with(b"<|") && piece.ends_with(b"|>");
    // No character begins with 0xff, and the engine takes it as the mark of a control token.
    let is_mark = piece.first() == Some(&TokTrie::SPECIAL_TOKEN_MARKER);
    if vocab.is_eog(id) || vocab.suppressed().contains(&id) || steers || is_mark {
        return Vec::new();
    }
    piece.into_owned()
}

/// Follows one answer through a grammar.
pub struct Guide {
    matcher: Matcher,
    table: Arc<TokenTable>,
    allowed: Vec<u32>,
    /// Does `allowed` hold for the tokens accepted so far?
    is_fresh: bool,
    /// Is there text in `allowed`?
    goes_on: bool,
    n_accepted: usize,
}

impl Guide {
    /// The tokens that may come next, in ascending order: texts that keep to the grammar, and where it may end the
    /// tokens that end a generation. Empty where it must end and the vocabulary has no token for that.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] at a dead end: no token goes on and the text must not end, or finding them takes too long.
    pub fn allowed(&mut self) -> Result<&[u32]> {
        if self.is_fresh {
            return Ok(&self.allowed);
        }
        self.allowed.clear();
        let may_end = self.may_end()?;
        if !self.matcher.is_stopped() {
            match self.matcher.compute_mask() {
                Ok(mask) => {
                    let is_text = &self.table.is_text;
                    mask.iter_set_entries(|i| {
                        if is_text.get(i).is_some_and(|yes| *yes) {
                            self.allowed.push(i as u32);
                        }
                    });
                }
                Err(_) if may_end => {}
                Err(e) => return Err(self.stuck(&e.to_string())),
            }
        }
        self.goes_on = !self.allowed.is_empty();
        if may_end {
            self.allowed.extend_from_slice(&self.table.eog);
            self.allowed.sort_unstable();
        } else if !self.goes_on {
            return Err(self.stuck("no token of the model goes on"));
        }
        self.is_fresh = true;
        Ok(&self.allowed)
    }

    /// Takes the next token of the answer; one that ends the generation changes nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when it is not among [`Guide::allowed`], or the grammar needs too much memory.
    pub fn accept(&mut self, id: u32) -> Result<()> {
        if self.table.eog.contains(&id) {
            return Ok(());
        }
        self.is_fresh = false;
        self.matcher.consume_token(id).map_err(|e| self.stuck(&e.to_string()))?;
        self.n_accepted += 1;
        Ok(())
    }

    /// Is the text complete, so that nothing may follow?
    ///
    /// # Errors
    /// As [`Guide::allowed`].
    pub fn is_complete(&mut self) -> Result<bool> {
        if self.matcher.is_stopped() && !self.matcher.is_error() {
            return Ok(true);
        }
        self.allowed()?;
        Ok(!self.goes_on)
    }

    /// May the text end here?
    ///
    /// # Errors
    /// As [`Guide::accept`].
    pub fn may_end(&mut self) -> Result<bool> {
        self.matcher.is_accepting().map_err(|e| self.stuck(&e.to_string()))
    }

    /// The error of a text that cannot go on.
    pub(crate) fn stuck(&self, why: &str) -> Error {
        let why = match cleaned(why) {
            why if why.contains("NoExtension") => "no token of the model goes on".to_owned(),
            why => why,
        };
        let text = format!("the grammar is at a dead end behind {} tokens: {why}", self.n_accepted);
        Error::new(ErrorKind::Usage, text).with_hint("a grammar must be able to go on or end wherever it has come to")
    }
}

impl fmt::Debug for Guide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guide").field("n_accepted", &self.n_accepted).finish_non_exhaustive()
    }
}

/// Refuses texts that are too long.
fn checked(kind: Kind, text: &str) -> Result<&str> {
    match text.len() {
        0..=MAX_TEXT => Ok(text),
        n => Err(Error::new(
            ErrorKind::Usage,
            format!("the {} has {n} bytes, at most {MAX_TEXT} are taken", kind.name()),
        )),
    }
}

/// Limits of the engine. A step of a scannerless grammar makes an item for each character of each token.
fn limits() -> ParserLimits {
    ParserLimits {
        step_max_items: 2_000_000,
        step_lexer_fuel: 2_000_000,
        verbose_errors: false,
        ..ParserLimits::default()
    }
}

/// What the engine says is wrong with a grammar, in our words where its own would mislead.
fn fault(kind: Kind, text: &str) -> Error {
    let text = cleaned(text);
    let error = |text: String| Error::new(ErrorKind::Usage, text);
    if text.contains("oneOf constraints are not supported") {
        return error("JSON schema: the options of a `oneOf` may overlap".into()).with_hint(
            "options exclude each other by their types, or by a required property with different constants; `anyOf` \
             needs no such thing",
        );
    }
    error(format!("{}: {text}", kind.name()))
}

/// A message of the engine in one line: its places as ours, without the source that it repeats.
fn cleaned(text: &str) -> String {
    let first = text.lines().find(|l| !l.trim().is_empty() && !l.starts_with('<')).unwrap_or("it is refused").trim();
    let placed = first.strip_prefix("at ").unwrap_or(first);
    let place = placed.split_once("): ").and_then(|(place, rest)| {
        let (line, column) = place.split_once('(')?;
        let (line, column) = (line.parse::<usize>().ok()?, column.parse::<usize>().ok()?);
        Some(format!("line {line}, column {column}: {rest}"))
    });
    let text = place.unwrap_or_else(|| first.to_owned());
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect()
}
