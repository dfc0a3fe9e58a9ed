//! WordPiece of BERT: words are normalised, then covered by the longest tokens from the left.

use std::sync::OnceLock;

use regex_automata::Input;
use regex_automata::meta::Regex;
use unicode_normalization::UnicodeNormalization;

use super::bytes::BLANK;
use super::split::compile;
use super::table::Trie;
use super::tokens::Tokens;

pub(super) struct WordPiece {
    trie: Trie,
    lowercase: bool,
    strip_accents: bool,
    unk: Option<u32>,
    classes: OnceLock<Regex>,
}

/// What a character does, by the number of its pattern; the rest are parts of words.
const PATTERNS: [&str; 3] = [
    r"\s",
    r"[\x00\x{FFFD}\p{C}]",
    r"[\p{P}$+<=>^`|~\x{4E00}-\x{9FFF}\x{3400}-\x{4DBF}\x{20000}-\x{2A6DF}\x{2A700}-\x{2B73F}\x{2B740}-\x{2B81F}\x{2B920}-\x{2CEAF}\x{F900}-\x{FAFF}\x{2F800}-\x{2FA1F}]",
];
const SPACE: usize = 0;
const DROP: usize = 1;

impl WordPiece {
    pub(super) fn new(tokens: &Tokens, lowercase: bool, strip_accents: bool, unk: Option<u32>) -> Self {
        let mut trie = Trie::new();
        for (id, text) in tokens.iter() {
            trie.insert(text, id);
        }
        Self { trie, lowercase, strip_accents, unk, classes: OnceLock::new() }
    }

    /// Appends the tokens of one fragment of text.
    pub(super) fn encode(&self, text: &[u8], out: &mut Vec<u32>) {
        let text = self.normalise(&String::from_utf8_lossy(text));
        let classes = self.classes.get_or_init(|| compile(&PATTERNS));
        let mut word = BLANK.to_vec();
        let mut at = 0;
        for found in classes.find_iter(Input::new(&text)) {
            word.extend_from_slice(&text.as_bytes()[at..found.start()]);
            at = found.end();
            if found.pattern().as_usize() == DROP {
                continue;
            }
            self.word(&mut word, out);
            if found.pattern().as_usize() != SPACE {
                word.extend_from_slice(&text.as_bytes()[found.range()]);
                self.word(&mut word, out);
            }
        }
        word.extend_from_slice(&text.as_bytes()[at..]);
        self.word(&mut word, out);
    }

    fn normalise(&self, text: &str) -> String {
        let lower = |s: String| if self.lowercase { s.to_lowercase() } else { s };
        if !self.strip_accents {
            return lower(text.to_owned());
        }
        lower(text.nfd().filter(|c| !unicode_normalization::char::is_combining_mark(*c)).collect())
    }

    /// Appends the tokens of a word, which stands behind U+2581, and empties it.
    fn word(&self, word: &mut Vec<u8>, out: &mut Vec<u32>) {
        if word.len() > BLANK.len() {
            let before = out.len();
            let mut at = 0;
            while at < word.len() {
                let Some((len, id)) = self.trie.longest(&word[at..]) else {
                    out.truncate(before);
                    out.extend(self.unk);
                    break;
                };
                out.push(id);
                at += len;
            }
        }
        word.truncate(BLANK.len());
    }
}
