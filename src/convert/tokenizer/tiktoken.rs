//! Vocabularies of tiktoken: lines of a token's bytes in base64 and its rank, no merges. A merge is what its two parts
//! are when a token is cut by the ranks below its own, as tiktoken itself would cut it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::base64;
use crate::convert::hf::read_file;
use crate::error::{Error, ErrorKind, Result};
use crate::text::ALPHABET;

/// Longest token that is cut, which takes the square of its length; the longest known are runs of 128 blanks.
const MAX_TOKEN: usize = 256;

/// Tokens in the order of their ranks.
#[derive(Debug)]
pub(super) struct Ranks {
    path: PathBuf,
    tokens: Vec<Vec<u8>>,
}

impl Ranks {
    /// The vocabulary of a folder, if it has one; a `tokenizer.model` may be one of SentencePiece instead.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when a file cannot be read, [`ErrorKind::Model`] for a line of `tiktoken.model` that is none.
    pub(super) fn find(folder: &Path) -> Result<Option<Self>> {
        for name in ["tiktoken.model", "tokenizer.model"] {
            let path = folder.join(name);
            if !path.is_file() {
                continue;
            }
            let bytes = read_file(&path)?;
            let begins = bytes.split(|b| *b == b'\n').next().is_some_and(|l| line(l).is_some());
            if name == "tiktoken.model" || begins {
                return Self::parse(path, &bytes).map(Some);
            }
        }
        Ok(None)
    }

    fn parse(path: PathBuf, bytes: &[u8]) -> Result<Self> {
        let mut tokens = Vec::new();
        for (i, text) in bytes.split(|b| *b == b'\n').enumerate().filter(|(_, l)| !l.is_empty()) {
            match line(text).filter(|(token, rank)| *rank == tokens.len() && !token.is_empty()) {
                Some((token, _)) => tokens.push(token),
                None => {
                    let message = format!("line {}: expected a token in base64 and rank {}", i + 1, tokens.len());
                    return Err(Error::new(ErrorKind::Model, message).in_file(&path));
                }
            }
        }
        Ok(Self { path, tokens })
    }

    /// Its file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Texts of tokens by id, in the alphabet of bytes.
    pub(super) fn texts(&self) -> impl Iterator<Item = (u32, String)> {
        (0u32..).zip(self.tokens.iter().map(|token| shown(token)))
    }

    /// Pairs that are merged, in order. Tokens that no two others make are never merged: only whole words are they.
    pub(super) fn merges(&self) -> Vec<(String, String)> {
        let ranks: HashMap<&[u8], usize> = self.tokens.iter().enumerate().map(|(i, t)| (t.as_slice(), i)).collect();
        let merge = |(rank, token): (usize, &Vec<u8>)| {
            let cut = halves(token, &ranks, rank)?;
            let (left, right) = token.split_at_checked(cut)?;
            Some((shown(left), shown(right)))
        };
        self.tokens.iter().enumerate().filter_map(merge).collect()
    }
}

/// Where a token is cut into the two that make it, by merges of lower ranks; `None` where these leave another number.
fn halves(token: &[u8], ranks: &HashMap<&[u8], usize>, below: usize) -> Option<usize> {
    if token.len() > MAX_TOKEN {
        return None;
    }
    // Where the parts begin, and the end.
    let mut ends: Vec<usize> = (0..=token.len()).collect();
    while ends.len() > 3 {
        let rank = |i: usize| ranks.get(&token[ends[i]..ends[i + 2]]).copied().filter(|rank| *rank < below);
        let (_, i) = (0..ends.len() - 2).filter_map(|i| Some((rank(i)?, i))).min()?;
        ends.remove(i + 1);
    }
    (ends.len() == 3).then(|| ends[1])
}

fn line(text: &[u8]) -> Option<(Vec<u8>, usize)> {
    let text = str::from_utf8(text).ok()?.trim_end();
    let (token, rank) = text.split_once(' ')?;
    Some((base64(token)?, rank.parse().ok()?))
}

fn shown(bytes: &[u8]) -> String {
    bytes.iter().map(|b| ALPHABET[usize::from(*b)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merges_come_from_ranks() {
        // a, b, c, blank, ab, "abc" by "ab" and "c", " a"; "cab" by "c" and "ab"; "zz" of no tokens.
        let text = "YQ== 0\nYg== 1\nYw== 2\nIA== 3\nYWI= 4\nYWJj 5\nIGE= 6\nY2Fi 7\nenp6 8\n";
        let ranks = Ranks::parse(PathBuf::from("t"), text.as_bytes()).unwrap();
        let merges = ranks.merges();
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(merges, [pair("a", "b"), pair("ab", "c"), pair("\u{120}", "a"), pair("c", "ab")]);
        assert_eq!(ranks.texts().nth(6), Some((6, "\u{120}a".into())));
        for bad in ["YQ== 1\n", "YQ==\n", "Y* 0\n", "YQ== 0\nYg== 0\n", " 0\n"] {
            let e = Ranks::parse(PathBuf::from("t"), bad.as_bytes()).unwrap_err();
            assert!(e.to_string().contains("line "), "{e}");
        }
    }
}
