//! Special tokens in text: found and cut out before any tokenizer sees the text between them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::ops::Range;

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
    /// Bytes of its text.
    len: usize,
    /// Place in `list` of the longest other text that its own begins with.
    shorter: Option<usize>,
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

/// Whether tokens of this kind are cut out of text before it is tokenized.
pub(super) fn is_special(kind: TokenKind) -> bool {
    matches!(kind, TokenKind::Control | TokenKind::UserDefined | TokenKind::Unknown)
}

impl Specials {
    /// `strip` says for a token's text whether white space to its left and right goes away.
    pub(super) fn new(tokens: &Tokens, strip: impl Fn(&[u8]) -> (bool, bool)) -> Self {
        let kinds = (0..tokens.len()).map(|id| (id, tokens.kind(id)));
        let special = kinds.filter(|(_, kind)| is_special(*kind));
        Self::of(special.map(|(id, kind)| (id, tokens.text(id), kind == TokenKind::UserDefined)).collect(), strip)
    }

    /// Of ids, their texts, and whether they are recognised in any text.
    fn of(mut tokens: Vec<(u32, &[u8], bool)>, strip: impl Fn(&[u8]) -> (bool, bool)) -> Self {
        tokens.sort_by_key(|(_, text, _)| Reverse(text.len()));
        let (mut trie, mut list, mut first_byte) = (Trie::new(), Vec::new(), [false; 256]);
        tokens.retain(|&(id, text, always)| {
            let (strip_left, strip_right) = strip(text);
            let taken = u32::try_from(list.len()).is_ok_and(|place| trie.insert(text, place));
            if taken {
                first_byte[usize::from(text[0])] = true;
                list.push(Special { id, len: text.len(), shorter: None, always, strip_left, strip_right });
            }
            taken
        });
        for (special, (_, text, _)) in list.iter_mut().zip(tokens) {
            let shorter = trie.longest(&text[..text.len() - 1]);
            special.shorter = shorter.and_then(|(_, place)| usize::try_from(place).ok());
        }
        Self { list, trie, first_byte }
    }

    /// Cuts `text` at special tokens: longer texts win over shorter ones wherever they begin. A token that is not
    /// recognised everywhere counts only where `meant` says so of its byte range.
    pub(super) fn cut(&self, text: &[u8], meant: impl Fn(&Range<usize>) -> bool) -> Vec<Fragment> {
        // For each position one token, the longest that may still stand there; the heap gives them as they win: by
        // place in `list`, then from the left. All tokens that match would be too many to hold.
        let first = |at: usize| {
            let (_, place) = self.trie.longest(&text[at..])?;
            self.fitting(usize::try_from(place).ok(), at..text.len(), &meant)
        };
        let begins = text.iter().enumerate().filter(|(_, byte)| self.first_byte[usize::from(**byte)]);
        let mut waiting: BinaryHeap<_> = begins.filter_map(|(at, _)| Some(Reverse((first(at)?, at)))).collect();
        let mut claims = Claims::default();
        while let Some(Reverse((place, at))) = waiting.pop() {
            let Some(free) = claims.free_around(at, text.len()) else { continue };
            let special = &self.list[place];
            let mut range = at..at + special.len;
            if range.end > free.end {
                let next = self.fitting(special.shorter, at..free.end, &meant);
                waiting.extend(next.map(|place| Reverse((place, at))));
                continue;
            }
            if special.strip_left {
                range.start = free.start + text[free.start..at].trim_ascii_end().len();
            }
            if special.strip_right {
                range.end = free.end - text[range.end..free.end].trim_ascii_start().len();
            }
            claims.0.insert(range.start, (range.end, special.id));
        }
        claims.fragments(text.len())
    }

    /// The first token from `place` on, through ever shorter beginnings of it, that fits into `range` from its start
    /// and is meant there.
    fn fitting(
        &self,
        mut place: Option<usize>,
        range: Range<usize>,
        meant: &impl Fn(&Range<usize>) -> bool,
    ) -> Option<usize> {
        while let Some(special) = self.list.get(place?) {
            if special.len <= range.len() && (special.always || meant(&(range.start..range.start + special.len))) {
                return place;
            }
            place = special.shorter;
        }
        None
    }
}

/// Disjoint stretches of text that tokens have taken, with the white space that went away around them: start to end
/// and token.
#[derive(Default)]
struct Claims(BTreeMap<usize, (usize, u32)>);

impl Claims {
    /// The stretch around a position that no token has taken, in a text of `len` bytes; `None` if the position is taken.
    fn free_around(&self, at: usize, len: usize) -> Option<Range<usize>> {
        let start = self.0.range(..=at).next_back().map_or(0, |(_, (end, _))| *end);
        let end = self.0.range(at..).next().map_or(len, |(start, _)| *start);
        (start <= at).then_some(start..end)
    }

    fn fragments(&self, len: usize) -> Vec<Fragment> {
        let (mut fragments, mut from) = (Vec::with_capacity(2 * self.0.len() + 1), 0);
        for (&start, &(end, id)) in &self.0 {
            if from < start {
                fragments.push(Fragment::Text(from..start));
            }
            fragments.push(Fragment::Token(id));
            from = end;
        }
        if from < len {
            fragments.push(Fragment::Text(from..len));
        }
        fragments
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A token's text, whether it is recognised anywhere, and whether it strips left and right.
    type Made = (Vec<u8>, bool, (bool, bool));

    /// Token after token, longest first, each over all the text that is left.
    fn plain(made: &[Made], text: &[u8], meant: impl Fn(&Range<usize>) -> bool) -> Vec<Fragment> {
        let mut order: Vec<usize> = (0..made.len()).collect();
        order.sort_by_key(|i| Reverse(made[*i].0.len()));
        let mut fragments = if text.is_empty() { vec![] } else { vec![Fragment::Text(0..text.len())] };
        for i in order {
            let (token, always, (left, right)) = &made[i];
            let mut next = Vec::new();
            for fragment in fragments {
                let Fragment::Text(range) = fragment else {
                    next.push(fragment);
                    continue;
                };
                let (mut from, mut at) = (range.start, range.start);
                while at + token.len() <= range.end {
                    let here = at..at + token.len();
                    if text[here.clone()] != token[..] || !(*always || meant(&here)) {
                        at += 1;
                        continue;
                    }
                    let mut end = at;
                    while *left && end > from && text[end - 1].is_ascii_whitespace() {
                        end -= 1;
                    }
                    if from < end {
                        next.push(Fragment::Text(from..end));
                    }
                    next.push(Fragment::Token(u32::try_from(i).unwrap()));
                    at = here.end;
                    while *right && at < range.end && text[at].is_ascii_whitespace() {
                        at += 1;
                    }
                    from = at;
                }
                if from < range.end {
                    next.push(Fragment::Text(from..range.end));
                }
            }
            fragments = next;
        }
        fragments
    }

    /// Few different bytes, so that texts overlap, contain and repeat each other.
    fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![4 => Just(b'a'), 3 => Just(b'b'), 2 => Just(b' '), 1 => Just(b'\n')];
        proptest::collection::vec(byte, 0..most)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn cuts_are_those_of_one_token_after_the_other(
            mut made in proptest::collection::vec((bytes(7), any::<bool>(), any::<(bool, bool)>()), 0..12),
            text in bytes(60),
            salt in 0usize..64,
        ) {
            // Of equal texts the first counts; empty ones are no tokens.
            for i in (0..made.len()).rev() {
                if made[i].0.is_empty() || made[..i].iter().any(|(text, ..)| *text == made[i].0) {
                    made.remove(i);
                }
            }
            let meant = |range: &Range<usize>| (range.start * 5 + range.end * 3 + salt) & 4 == 0;
            let strip = |text: &[u8]| made.iter().find(|m| m.0 == text).map_or((false, false), |m| m.2);
            let tokens = (0..).zip(&made).map(|(id, (text, always, _))| (id, &text[..], *always)).collect();
            prop_assert_eq!(Specials::of(tokens, strip).cut(&text, meant), plain(&made, &text, meant));
        }
    }

    #[test]
    fn of_equal_texts_the_first_counts() {
        let tokens: Vec<(u32, &[u8], bool)> =
            vec![(7, b"ab", true), (8, b"ab", true), (9, b"", true), (10, b"a", true)];
        let specials = Specials::of(tokens, |_| (false, false));
        let want = [Fragment::Token(10), Fragment::Token(7), Fragment::Text(3..4), Fragment::Token(10)];
        assert_eq!(specials.cut(b"aabxa", |_| false), want);
        assert_eq!(specials.cut(b"", |_| false), []);
    }
}
