//! Emphasis and code spans within a line, by the rules of CommonMark 0.31, section 6.2, on text that comes in parts.

use super::{Piece, Style};

/// Characters behind an open marker after which the marker is taken for text.
pub const MAX_HELD: usize = 160;

/// What a backslash makes text of. CommonMark has all punctuation here; `\(` and `\[` are left to formulas.
const ESCAPABLE: &str = "*_`#~>";

/// Reads the text of a line.
#[derive(Clone, Debug)]
pub(super) struct Inline {
    /// Text from the first marker on whose meaning is open.
    held: Vec<char>,
    /// The character before.
    before: char,
    /// The style of the line.
    pub(super) base: Style,
}

/// A part of the text that is held.
#[derive(Debug)]
enum Token {
    Char(char),
    Code(String),
    Run(Run),
}

/// Marks of emphasis.
#[derive(Debug)]
struct Run {
    mark: char,
    /// Marks that have no partner yet.
    left: usize,
    /// Marks as they were written.
    n: usize,
    opens: bool,
    closes: bool,
    /// Where it begins in what is held.
    at: usize,
}

/// Tokens from one to another that are emphasised.
struct Span {
    tokens: std::ops::Range<usize>,
    strong: bool,
}

impl Default for Inline {
    fn default() -> Self {
        Self { held: Vec::new(), before: ' ', base: Style::default() }
    }
}

impl Inline {
    pub(super) fn push(&mut self, c: char, out: &mut Vec<Piece>) {
        let is_marker = matches!(c, '*' | '_' | '`' | '\\');
        if self.held.is_empty() && !is_marker {
            self.before = c;
            return emit(c, self.base, out);
        }
        let follows_marker = self.held.last().is_some_and(|c| matches!(c, '*' | '_' | '`' | '\\'));
        self.held.push(c);
        if is_marker || follows_marker || self.held.len() > MAX_HELD {
            self.settle(false, out);
        }
    }

    /// The line is over.
    pub(super) fn end(&mut self, out: &mut Vec<Piece>) {
        if !self.held.is_empty() {
            self.settle(true, out);
        }
        *self = Self::default();
    }

    /// Gives everything before the first marker whose meaning is open.
    fn settle(&mut self, ended: bool, out: &mut Vec<Piece>) {
        loop {
            let (mut tokens, scanned) = self.scan(ended);
            let spans = pair(&mut tokens);
            let open = tokens.iter().find_map(|t| match t {
                Token::Run(run) if run.opens && run.left > 0 && !ended => Some(run.at),
                _ => None,
            });
            let settled = uncrossed(open.unwrap_or(scanned), &tokens, &spans);
            self.emit(&tokens, &spans, settled, out);
            self.drop_front(settled);
            if self.held.len() <= MAX_HELD {
                return;
            }
            // The marker at the front has waited long enough: it is text.
            let mark = self.held[0];
            let n = self.held.iter().take_while(|c| **c == mark).count();
            self.held[..n].iter().for_each(|c| emit(*c, self.base, out));
            self.drop_front(n);
        }
    }

    fn drop_front(&mut self, n: usize) {
        if let Some(last) = self.held.drain(..n).next_back() {
            self.before = last;
        }
    }

    /// The tokens up to the first marker whose end is not known, and where that is.
    fn scan(&self, ended: bool) -> (Vec<Token>, usize) {
        let held = &self.held;
        let mut tokens = Vec::new();
        let mut at = 0;
        while let Some(&c) = held.get(at) {
            let n = held[at..].iter().take_while(|x| **x == c).count();
            let next = held.get(at + n).copied();
            match c {
                '\\' => match held.get(at + 1) {
                    None if !ended => return (tokens, at),
                    Some(&escaped) if ESCAPABLE.contains(escaped) => {
                        tokens.push(Token::Char(escaped));
                        at += 2;
                    }
                    _ => {
                        tokens.push(Token::Char(c));
                        at += 1;
                    }
                },
                '`' if next.is_none() && !ended => return (tokens, at),
                '`' => match closing_backticks(held, at + n, n, ended) {
                    Some(close) => {
                        tokens.push(Token::Code(code(&held[at + n..close])));
                        at = close + n;
                    }
                    None if !ended => return (tokens, at),
                    None => {
                        tokens.extend((0..n).map(|_| Token::Char(c)));
                        at += n;
                    }
                },
                '*' | '_' if next.is_none() && !ended => return (tokens, at),
                '*' | '_' => {
                    let before = if at == 0 { self.before } else { held[at - 1] };
                    tokens.push(Token::Run(run(c, n, at, before, next.unwrap_or(' '))));
                    at += n;
                }
                _ => {
                    tokens.push(Token::Char(c));
                    at += 1;
                }
            }
        }
        (tokens, at)
    }

    /// Gives the tokens that begin before `settled`.
    fn emit(&self, tokens: &[Token], spans: &[Span], settled: usize, out: &mut Vec<Piece>) {
        for (i, token) in tokens.iter().enumerate() {
            let mut style = self.base;
            for span in spans.iter().filter(|s| s.tokens.contains(&i)) {
                style.bold |= span.strong;
                style.italic |= !span.strong;
            }
            match token {
                Token::Char(c) => emit(*c, style, out),
                Token::Code(text) => text.chars().for_each(|c| emit(c, Style { code: true, ..style }, out)),
                Token::Run(run) if run.at >= settled => return,
                Token::Run(run) => (0..run.left).for_each(|_| emit(run.mark, style, out)),
            }
        }
    }
}

fn emit(c: char, style: Style, out: &mut Vec<Piece>) {
    match out.last_mut() {
        Some(Piece::Text(text, last)) if *last == style => text.push(c),
        _ => out.push(Piece::Text(c.into(), style)),
    }
}

/// The last place up to `at` that no emphasis crosses: marks that close one may go on to open another.
fn uncrossed(mut at: usize, tokens: &[Token], spans: &[Span]) -> usize {
    let place = |i: usize| match &tokens[i] {
        Token::Run(run) => run.at,
        _ => 0,
    };
    let ends = |span: &Span| (place(span.tokens.start - 1), place(span.tokens.end));
    while let Some((open, _)) = spans.iter().map(ends).filter(|(open, close)| *open < at && *close >= at).min() {
        at = open;
    }
    at
}

/// Where the backticks stand that close a code span of `n`.
fn closing_backticks(held: &[char], from: usize, n: usize, ended: bool) -> Option<usize> {
    let mut at = from;
    while at < held.len() {
        let len = held[at..].iter().take_while(|c| **c == '`').count();
        if len == n && (ended || at + len < held.len()) {
            return Some(at);
        }
        at += len.max(1);
    }
    None
}

/// The text of a code span, without the blanks that keep backticks away from its marks.
fn code(text: &[char]) -> String {
    let is_padded = text.len() > 1 && text.starts_with(&[' ']) && text.ends_with(&[' ']);
    let text = if is_padded && text.iter().any(|c| *c != ' ') { &text[1..text.len() - 1] } else { text };
    text.iter().collect()
}

/// What marks may do between these characters.
fn run(mark: char, n: usize, at: usize, before: char, after: char) -> Run {
    // Punctuation beyond ASCII counts as letters, unlike in CommonMark: Chinese writes no blanks around emphasis.
    let is_punct = |c: char| c.is_ascii_punctuation();
    let left = !after.is_whitespace() && (!is_punct(after) || before.is_whitespace() || is_punct(before));
    let right = !before.is_whitespace() && (!is_punct(before) || after.is_whitespace() || is_punct(after));
    let (opens, closes) = match mark {
        '_' => (left && (!right || is_punct(before)), right && (!left || is_punct(after))),
        _ => (left, right),
    };
    Run { mark, left: n, n, opens, closes, at }
}

/// Finds what is emphasised; the marks that do it are taken away.
fn pair(tokens: &mut [Token]) -> Vec<Span> {
    let mut spans = Vec::new();
    for close in 0..tokens.len() {
        while let Token::Run(Run { closes: true, left: 1.., .. }) = &tokens[close] {
            let Some(open) = (0..close).rev().find(|open| fits(&tokens[*open], &tokens[close])) else { break };
            let strong = [open, close].iter().all(|i| matches!(&tokens[*i], Token::Run(run) if run.left >= 2));
            // Marks between the two have no partner.
            for (i, token) in tokens.iter_mut().enumerate().take(close + 1).skip(open) {
                let Token::Run(run) = token else { continue };
                if i == open || i == close {
                    run.left -= if strong { 2 } else { 1 };
                } else {
                    run.opens = false;
                }
            }
            spans.push(Span { tokens: open + 1..close, strong });
        }
    }
    spans
}

/// Whether the marks of `open` begin what those of `close` end.
fn fits(open: &Token, close: &Token) -> bool {
    let (Token::Run(open), Token::Run(close)) = (open, close) else { return false };
    let of_three = (open.closes || close.opens) && (open.n + close.n).is_multiple_of(3);
    let both_of_three = open.n.is_multiple_of(3) && close.n.is_multiple_of(3);
    open.opens && open.left > 0 && open.mark == close.mark && (!of_three || both_of_three)
}
