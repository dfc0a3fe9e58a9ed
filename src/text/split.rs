//! Cutting text into words by a pre-tokenizer's steps, in time linear in the text.

use std::ops::Range;
use std::sync::OnceLock;

use regex_automata::meta::Regex;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input, MatchKind};

use super::pretokenizer::{Step, Tail};

/// A pre-tokenizer ready to run. Patterns are compiled at first use, which costs some milliseconds.
pub(super) struct Splitter {
    steps: Vec<Step>,
    compiled: OnceLock<Vec<Option<Regex>>>,
}

/// A pattern over bytes: classes match Unicode characters, and bytes that are not UTF-8 match nothing.
/// Of alternatives and of patterns the first that matches wins.
pub(super) fn compile(patterns: &[&str]) -> Regex {
    Regex::builder()
        .configure(Regex::config().match_kind(MatchKind::LeftmostFirst).utf8_empty(false).nfa_size_limit(None))
        .syntax(syntax::Config::new().utf8(false))
        .build_many(patterns)
        .expect("the patterns of the table are constants, and a test compiles them all")
}

impl Splitter {
    pub(super) fn new(steps: Vec<Step>) -> Self {
        Self { steps, compiled: OnceLock::new() }
    }

    fn compiled(&self) -> &[Option<Regex>] {
        self.compiled.get_or_init(|| {
            let regex = |step: &Step| match step {
                Step::Pattern(p, Tail::None) => Some(compile(&[p])),
                Step::Pattern(p, _) => Some(compile(&[p, r"\s+"])),
                Step::Threes => Some(compile(&[r"\p{N}+"])),
                Step::TrailingSpace => Some(compile(&[r"\s+"])),
                Step::Words => Some(compile(&[r"\S+"])),
            };
            self.steps.iter().map(regex).collect()
        })
    }

    /// The words of `text` in order, as byte ranges that are not empty.
    pub(super) fn split(&self, text: &[u8]) -> Vec<Range<usize>> {
        let mut pieces = Vec::new();
        if !text.is_empty() {
            pieces.push(0..text.len());
        }
        for (step, regex) in self.steps.iter().zip(self.compiled()) {
            let Some(regex) = regex else { continue };
            let mut next = Vec::with_capacity(pieces.len() * 2 + text.len() / 8);
            for piece in pieces {
                let bytes = &text[piece.clone()];
                cut(step, regex, bytes, |r| next.push(piece.start + r.start..piece.start + r.end));
            }
            pieces = next;
        }
        pieces
    }
}

/// Applies one step to one piece.
fn cut(step: &Step, regex: &Regex, bytes: &[u8], mut emit: impl FnMut(Range<usize>)) {
    if *step == Step::TrailingSpace {
        let mut end = bytes.len();
        while let Some(len) = last_space(&bytes[..end]) {
            end -= len;
        }
        for r in [0..end, end..bytes.len()] {
            if !r.is_empty() {
                emit(r);
            }
        }
        return;
    }
    let mut at = 0;
    let mut gap = 0;
    while at < bytes.len() {
        // Most matches begin where the last one ended, and an anchored search needs no second pass for the start.
        let anchored = Input::new(bytes).range(at..).anchored(Anchored::Yes);
        let found = regex.search(&anchored).or_else(|| regex.search(&Input::new(bytes).range(at..)));
        let Some(found) = found else { break };
        let (start, mut end) = (found.start(), found.end());
        if gap < start && *step != Step::Words {
            emit(gap..start);
        }
        match step {
            Step::Pattern(_, Tail::Leave) if found.pattern().as_usize() == 1 && end < bytes.len() => {
                let last = last_space(&bytes[start..end]).unwrap_or(1);
                if start + last < end {
                    end -= last;
                }
            }
            Step::Pattern(_, Tail::Powers) if found.pattern().as_usize() == 1 => {
                end = start + power_of_two_run(&bytes[start..end], end == bytes.len());
            }
            Step::Threes => {
                threes(&bytes[start..end], |r| emit(start + r.start..start + r.end));
                (at, gap) = (end, end);
                continue;
            }
            _ => {}
        }
        // No pattern of the table matches nothing; this keeps the loop finite even so.
        end = end.max(start + 1);
        emit(start..end);
        (at, gap) = (end, end);
    }
    if gap < bytes.len() && *step != Step::Words {
        emit(gap..bytes.len());
    }
}

/// Length of the white-space character that `bytes` ends with.
fn last_space(bytes: &[u8]) -> Option<usize> {
    let start = bytes.iter().rposition(|b| b & 0xc0 != 0x80)?;
    let c = std::str::from_utf8(&bytes[start..]).ok()?.chars().next()?;
    c.is_whitespace().then_some(bytes.len() - start)
}

fn char_len(first: u8) -> usize {
    match first {
        0xf0.. => 4,
        0xe0.. => 3,
        0xc0.. => 2,
        _ => 1,
    }
}

/// Digits in groups of three from the right: the first piece has what is left over.
fn threes(digits: &[u8], mut emit: impl FnMut(Range<usize>)) {
    let n = digits.iter().filter(|b| **b & 0xc0 != 0x80).count();
    let mut want = if n % 3 == 0 { 3 } else { n % 3 };
    let (mut at, mut start) = (0, 0);
    while at < digits.len() {
        at = (at + char_len(digits[at])).min(digits.len());
        want -= 1;
        if want == 0 || at == digits.len() {
            emit(start..at);
            (start, want) = (at, 3);
        }
    }
}

/// Bytes of the next piece of a white-space run: the largest power of two of characters, up to 512, that does not
/// leave the run without a last character for what follows.
fn power_of_two_run(run: &[u8], at_end: bool) -> usize {
    let available = run.iter().filter(|b| **b & 0xc0 != 0x80).take(514).count();
    let may_take = if at_end { available } else { available - 1 }.max(1);
    let n = if may_take >= 512 { 512 } else { 1 << may_take.ilog2() };
    let mut len = 0;
    for _ in 0..n {
        len += char_len(run[len]);
    }
    len.min(run.len())
}

#[cfg(test)]
mod tests {
    use super::super::pretokenizer::pre;
    use super::*;

    fn check(name: &str, text: &str, want: &[&str]) {
        let splitter = Splitter::new(pre(name).unwrap().steps);
        let got: Vec<&str> = splitter.split(text.as_bytes()).into_iter().map(|r| &text[r]).collect();
        assert_eq!(got, want, "{name}");
    }

    #[test]
    fn words_are_cut_as_the_patterns_say() {
        check("gpt-2", "it's  3.14   \n", &["it", "'s", " ", " 3", ".", "14", "   \n"]);
        check("llama3", "  a 12345\n\n b?!\n", &[" ", " a", " ", "123", "45", "\n\n", " b", "?!\n"]);
        check("qwen2", "IT'S x", &["IT", "'S", " x"]);
        check("starcoder", "a12", &["a", "1", "2"]);
        check("falcon", "a 12345!", &["a", " ", "123", "45", "!"]);
        check("gpt-4o", "camelCase ABCdef'll", &["camel", "Case", " ABCdef'll"]);
        check("tekken", "Ünïcode ΑΒΓαβγ", &["Ünïcode", " ΑΒΓαβγ"]);
        check("tiny_aya", "1234567", &["1", "234", "567"]);
        check("superbpe", "x 12345 y", &["x ", "12", "345", " y"]);
        check("deepseek-llm", "a b \n  ", &["a", " b", " ", "\n", "  "]);
        check("gemma4", "a b\n\nc", &["a b", "\n\n", "c"]);
        check("whitespace", " a  b\n", &["a", "b"]);
        check("jais-2", &(" ".repeat(7) + "x"), &["    ", "  ", " x"]);
        check("kimi-k2", "中文abc XYz", &["中文", "abc", " XYz"]);
    }

    #[test]
    fn pieces_cover_any_bytes() {
        let mut bytes: Vec<u8> = (0..=255).collect();
        bytes.extend("  a\u{301}ß中 😀\r\n\t12345 \u{2003}".bytes());
        bytes.extend(b" \xff \xc3( x");
        for name in [
            "gpt-2",
            "llama3",
            "deepseek-v3",
            "deepseek-llm",
            "gpt-4o",
            "chameleon",
            "jais-2",
            "afmoe",
            "youtu",
            "kimi-k2",
        ] {
            let pieces = Splitter::new(pre(name).unwrap().steps).split(&bytes);
            let mut at = 0;
            for piece in pieces {
                assert!(piece.start == at && piece.end > at, "{name} at {at}");
                at = piece.end;
            }
            assert_eq!(at, bytes.len(), "{name}");
        }
    }

    #[test]
    fn every_pattern_compiles() {
        for name in super::super::pretokenizer::names() {
            Splitter::new(pre(name).unwrap().steps).split(b"a");
        }
    }
}
