//! Special tokens in text: found and cut out before any tokenizer sees the text between them.

use std::ops::Range;

use memchr::memmem::Finder;

use super::table::Trie;
use super::tokens::{TokenKind, Tokens};

pub(super) struct Specials {
    /// Longest text first.
    list: Vec<Special>,
    /// Text to place in `list`.
    trie: Trie,
    first_byte: [bool; 256],
}

struct Special {
    id: u32,
    /// Recognised in any text, not only where control tokens are meant.
    always: bool,
    /// White space to the left and right goes away.
    strip_left: bool,
    strip_right: bool,
}

/// A stretch of text, or a token found in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fragment {
    Text(Range<usize>),
    Token(u32),
}

impl Specials {
    /// `strip` says for a token's text whether white space to its left and right goes away.
    pub(super) fn new(tokens: &Tokens, strip: impl Fn(&[u8]) -> (bool, bool)) -> Self {
        let wanted = |kind| matches!(kind, TokenKind::Control | TokenKind::UserDefined | TokenKind::Unknown);
        let mut ids: Vec<u32> = (0..tokens.len()).filter(|id| wanted(tokens.kind(*id))).collect();
        ids.sort_by_key(|id| std::cmp::Reverse(tokens.text(*id).len()));
        let (mut trie, mut list, mut first_byte) = (Trie::new(), Vec::new(), [false; 256]);
        for id in ids {
            let text = tokens.text(id);
            let (strip_left, strip_right) = strip(text);
            let Ok(place) = u32::try_from(list.len()) else { break };
            if trie.insert(text, place) {
                first_byte[usize::from(text[0])] = true;
                let always = tokens.kind(id) == TokenKind::UserDefined;
                list.push(Special { id, always, strip_left, strip_right });
            }
        }
        Self { list, trie, first_byte }
    }

    /// Cuts `text` at special tokens: longer texts win over shorter ones wherever they begin. A token that is not
    /// recognised everywhere counts only where `meant` says so of its byte range.
    pub(super) fn cut(&self, tokens: &Tokens, text: &[u8], meant: impl Fn(&Range<usize>) -> bool) -> Vec<Fragment> {
        let mut fragments = Vec::new();
        if !text.is_empty() {
            fragments.push(Fragment::Text(0..text.len()));
        }
        // One walk finds which tokens occur at all: few of the many.
        let mut occurs = vec![false; self.list.len()];
        for (at, byte) in text.iter().enumerate() {
            if self.first_byte[usize::from(*byte)] {
                for (_, place) in self.trie.matches(&text[at..]) {
                    if let Some(slot) = usize::try_from(place).ok().and_then(|p| occurs.get_mut(p)) {
                        *slot = true;
                    }
                }
            }
        }
        for (special, _) in self.list.iter().zip(occurs).filter(|(_, occurs)| *occurs) {
            let finder = Finder::new(tokens.text(special.id));
            let mut next = Vec::with_capacity(fragments.len() + 2);
            for fragment in fragments {
                match fragment {
                    Fragment::Text(range) => special.cut(&finder, text, range, &meant, &mut next),
                    token => next.push(token),
                }
            }
            fragments = next;
        }
        fragments
    }
}

impl Special {
    fn cut(
        &self,
        finder: &Finder<'_>,
        text: &[u8],
        range: Range<usize>,
        meant: &impl Fn(&Range<usize>) -> bool,
        out: &mut Vec<Fragment>,
    ) {
        let len = finder.needle().len();
        let (mut from, mut search) = (range.start, range.start);
        while let Some(at) = finder.find(&text[search..range.end]).map(|i| search + i) {
            if !self.always && !meant(&(at..at + len)) {
                search = at + 1;
                continue;
            }
            let mut left = from..at;
            if self.strip_left {
                left.end = left.start + text[left.clone()].trim_ascii_end().len();
            }
            if !left.is_empty() {
                out.push(Fragment::Text(left));
            }
            out.push(Fragment::Token(self.id));
            from = at + len;
            if self.strip_right {
                from = range.end - text[from..range.end].trim_ascii_start().len();
            }
            search = from;
        }
        if from < range.end {
            out.push(Fragment::Text(from..range.end));
        }
    }
}
