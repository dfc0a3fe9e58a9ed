//! The Markdown of an answer, read while it is written: text in, styled pieces out. Nothing is printed here.
//!
//! What comes out does not depend on how the text was cut. A marker is hidden only once its partner has been seen, so
//! an answer that breaks off, or a lone asterisk, loses no character; text behind an open marker is held back for
//! [`MAX_HELD`] characters at most. Emphasis and code spans follow CommonMark within one line; of blocks there are
//! headings, lists, quotes, fenced code, rules and lines of tables. Everything else, links too, stays as it is written.

mod inline;

use inline::Inline;
pub use inline::MAX_HELD;

/// How text looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Style {
    /// Strong emphasis.
    pub bold: bool,
    /// Emphasis.
    pub italic: bool,
    /// A code span.
    pub code: bool,
    /// The text of a heading.
    pub heading: bool,
}

/// What stands before the text of a line. A wrapped line repeats quotes and is indented by the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lead {
    /// So many blanks.
    Indent(usize),
    /// One level of a quote.
    Quote,
    /// An item of a list.
    Bullet,
    /// An item of a numbered list, as in `1.`.
    Number(String),
}

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Piece {
    /// Text within a line.
    Text(String, Style),
    /// Code of a block, within a line; it is not wrapped.
    Code(String),
    /// The line that has begun is not wrapped: a row of a table.
    Unwrapped,
    /// What stands before the text of the line.
    Lead(Lead),
    /// The end of a line.
    LineEnd,
    /// A line of its own between sections.
    Rule,
    /// A line of its own before code, with the name of its language, which may be empty.
    CodeBegin(String),
    /// A line of its own behind code.
    CodeEnd,
}

/// Reads Markdown that comes in parts.
#[derive(Clone, Debug)]
pub struct Markdown {
    state: State,
    inline: Inline,
    /// The text of an item has not begun: blanks before it are its mark's.
    before_item: bool,
    out: Vec<Piece>,
}

/// Quotes in one another; further marks are text.
const MAX_DEPTH: usize = 8;
/// Characters of a line's beginning after which it is surely text.
const MAX_START: usize = 120;

#[derive(Clone, Debug)]
enum State {
    /// The beginning of a line, as far as it is not understood yet, behind so many quotes.
    Start { held: String, depth: usize },
    /// Text of a line.
    Text,
    /// The line that opens a block of code, as it is written.
    Fence { fence: Fence, line: String },
    /// The beginning of a line of code, which may turn out to be the closing fence.
    CodeStart { fence: Fence, held: String },
    /// A line of code.
    Code { fence: Fence },
}

/// What encloses a block of code.
#[derive(Clone, Copy, Debug)]
struct Fence {
    mark: char,
    len: usize,
    /// Blanks before it, which lines of code lose too.
    indent: usize,
}

/// What the beginning of a line is.
enum Class {
    /// More of it must be seen.
    Open,
    Text,
    Row,
    Rule,
    Heading {
        skip: usize,
    },
    Quote {
        skip: usize,
    },
    Bullet {
        skip: usize,
    },
    Number {
        skip: usize,
    },
    Fence(Fence),
}

impl Default for Markdown {
    fn default() -> Self {
        Self { state: State::begin(0), inline: Inline::default(), before_item: false, out: Vec::new() }
    }
}

impl State {
    fn begin(depth: usize) -> Self {
        Self::Start { held: String::new(), depth }
    }
}

impl Markdown {
    /// Takes further text and gives what is understood of it.
    pub fn push(&mut self, text: &str) -> Vec<Piece> {
        text.chars().for_each(|c| self.character(c));
        std::mem::take(&mut self.out)
    }

    /// Gives what is held back, and closes an open block of code; the next text begins anew.
    pub fn finish(&mut self) -> Vec<Piece> {
        match std::mem::replace(&mut self.state, State::begin(0)) {
            State::Start { held, depth } => {
                self.begin(&held, depth, true);
                // Nothing follows that it could fence.
                if matches!(self.state, State::Fence { .. }) {
                    self.text(&held);
                }
            }
            State::Text => {}
            State::Fence { fence, line } => {
                self.open_code(fence, &line);
                self.out.push(Piece::CodeEnd);
            }
            State::CodeStart { fence, held } => {
                if !held.is_empty() && !closes(&held, fence) {
                    self.code(&held, fence);
                    self.out.push(Piece::LineEnd);
                }
                self.out.push(Piece::CodeEnd);
            }
            State::Code { .. } => self.out.extend([Piece::LineEnd, Piece::CodeEnd]),
        }
        self.inline.end(&mut self.out);
        self.before_item = false;
        self.state = State::begin(0);
        std::mem::take(&mut self.out)
    }

    fn character(&mut self, c: char) {
        match &mut self.state {
            State::Text if c == '\n' => self.end_line(),
            State::Text if c == ' ' && self.before_item => {}
            State::Text => {
                self.before_item = false;
                self.inline.push(c, &mut self.out);
            }
            State::Start { held, depth } => {
                let (mut held, depth) = (std::mem::take(held), *depth);
                if c != '\n' {
                    held.push(c);
                }
                self.begin(&held, depth, c == '\n');
                match self.state {
                    State::Fence { .. } if c == '\n' => self.character(c),
                    _ if c == '\n' => self.end_line(),
                    _ => {}
                }
            }
            State::Fence { fence, line } => {
                let (fence, mut line) = (*fence, std::mem::take(line));
                if c == '\n' {
                    self.open_code(fence, &line);
                    return;
                }
                line.push(c);
                // Behind backticks that are a fence there are no others; and nobody names a language at length.
                let is_text = fence.mark == '`' && info(&line, fence).contains('`') || line.len() > MAX_START;
                match is_text {
                    true => self.text(&line),
                    false => self.state = State::Fence { fence, line },
                }
            }
            State::CodeStart { fence, held } => {
                let (fence, mut held) = (*fence, std::mem::take(held));
                if c == '\n' {
                    if closes(&held, fence) {
                        self.out.push(Piece::CodeEnd);
                        self.state = State::begin(0);
                    } else {
                        self.code(&held, fence);
                        self.out.push(Piece::LineEnd);
                        self.state = State::CodeStart { fence, held: String::new() };
                    }
                    return;
                }
                held.push(c);
                match may_close(&held, fence) {
                    true => self.state = State::CodeStart { fence, held },
                    false => {
                        self.code(&held, fence);
                        self.state = State::Code { fence };
                    }
                }
            }
            State::Code { fence } if c == '\n' => {
                self.out.push(Piece::LineEnd);
                self.state = State::CodeStart { fence: *fence, held: String::new() };
            }
            State::Code { fence } => {
                let fence = Fence { indent: 0, ..*fence };
                self.code(c.encode_utf8(&mut [0; 4]), fence);
            }
        }
    }

    /// Understands as much as possible of the beginning of a line, `ended` if it is all of the line.
    fn begin(&mut self, held: &str, depth: usize, ended: bool) {
        let class = match classify(held, depth, ended) {
            Class::Open if held.len() > MAX_START => Class::Text,
            class => class,
        };
        let blanks = width_of_blanks(held);
        let indent = |out: &mut Vec<Piece>| {
            if blanks > 0 {
                out.push(Piece::Lead(Lead::Indent(blanks)));
            }
        };
        match class {
            Class::Open => self.state = State::Start { held: held.to_owned(), depth },
            Class::Text => self.text(held),
            Class::Row => {
                self.out.push(Piece::Unwrapped);
                self.text(held);
            }
            Class::Rule => {
                self.out.push(Piece::Rule);
                self.state = State::begin(0);
            }
            Class::Heading { skip } => {
                self.inline.base = Style { heading: true, ..Style::default() };
                self.text(&held[skip..]);
            }
            Class::Quote { skip } => {
                self.out.push(Piece::Lead(Lead::Quote));
                self.begin(&held[skip..], depth + 1, ended);
            }
            Class::Bullet { skip } => {
                indent(&mut self.out);
                self.out.push(Piece::Lead(Lead::Bullet));
                self.text(&held[skip..]);
                self.before_item = true;
            }
            Class::Number { skip } => {
                indent(&mut self.out);
                let number = held[..skip].trim().to_owned();
                self.out.push(Piece::Lead(Lead::Number(number)));
                self.text(&held[skip..]);
                self.before_item = true;
            }
            Class::Fence(fence) => self.state = State::Fence { fence, line: held.to_owned() },
        }
    }

    /// From here on the line is text.
    fn text(&mut self, text: &str) {
        self.state = State::Text;
        let blanks = width_of_blanks(text);
        let rest = text.trim_start_matches([' ', '\t']);
        if blanks > 0 && !rest.is_empty() {
            self.out.push(Piece::Lead(Lead::Indent(blanks)));
        }
        rest.chars().for_each(|c| self.inline.push(c, &mut self.out));
    }

    fn end_line(&mut self) {
        // A rule is a line of its own already.
        let is_rule = matches!(self.out.last(), Some(Piece::Rule)) && matches!(self.state, State::Start { .. });
        self.inline.end(&mut self.out);
        self.before_item = false;
        if !is_rule {
            self.out.push(Piece::LineEnd);
        }
        self.state = State::begin(0);
    }

    fn open_code(&mut self, fence: Fence, line: &str) {
        let language = info(line, fence).split_whitespace().next().unwrap_or_default();
        self.out.push(Piece::CodeBegin(language.to_owned()));
        self.state = State::CodeStart { fence, held: String::new() };
    }

    /// Code, without the indentation that its block has.
    fn code(&mut self, text: &str, fence: Fence) {
        let blanks = text.chars().take(fence.indent).take_while(|c| *c == ' ').count();
        let text = &text[blanks..];
        match self.out.last_mut() {
            _ if text.is_empty() => {}
            Some(Piece::Code(code)) => code.push_str(text),
            _ => self.out.push(Piece::Code(text.to_owned())),
        }
    }
}

/// Columns of the blanks that a line begins with.
fn width_of_blanks(line: &str) -> usize {
    line.chars().map_while(|c| if c == ' ' { Some(1) } else { (c == '\t').then_some(4) }).sum()
}

fn classify(line: &str, depth: usize, ended: bool) -> Class {
    let rest = line.trim_start_matches([' ', '\t']);
    let blanks = line.len() - rest.len();
    let or_open = |class: Class| if ended { class } else { Class::Open };
    let Some(first) = rest.chars().next() else { return or_open(Class::Text) };
    let tail = rest.trim_start_matches(first);
    let n = (rest.len() - tail.len()) / first.len_utf8();
    let next = tail.chars().next();
    match first {
        '#' if n <= 6 && next == Some(' ') => {
            let text = tail.trim_start_matches(' ');
            // The text itself must be there, or its blanks would be taken for an indentation.
            if text.is_empty() && !ended { Class::Open } else { Class::Heading { skip: line.len() - text.len() } }
        }
        '#' if n <= 6 && next.is_none() => or_open(Class::Text),
        '>' if depth >= MAX_DEPTH => Class::Text,
        '>' => match rest[1..].chars().next() {
            None => or_open(Class::Quote { skip: line.len() }),
            Some(' ') => Class::Quote { skip: blanks + 2 },
            Some(_) => Class::Quote { skip: blanks + 1 },
        },
        '-' | '*' | '_' if next.is_none() && n >= 3 => or_open(Class::Rule),
        '-' | '*' | '_' | '+' if next.is_none() => or_open(Class::Text),
        '-' | '*' | '+' if n == 1 && next == Some(' ') => Class::Bullet { skip: blanks + 2 },
        '0'..='9' => {
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let mut behind = rest[digits..].chars();
            match (behind.next(), behind.next()) {
                _ if digits > 9 => Class::Text,
                (None, _) | (Some('.' | ')'), None) => or_open(Class::Text),
                (Some('.' | ')'), Some(' ')) => Class::Number { skip: blanks + digits + 2 },
                _ => Class::Text,
            }
        }
        '`' | '~' if next.is_none() && n < 3 => or_open(Class::Text),
        // A fence in a quote would frame the quote's marks as well.
        '`' | '~' if n >= 3 && depth == 0 && next != Some(first) => {
            let fence = Fence { mark: first, len: n, indent: width_of_blanks(line) };
            if next.is_none() { or_open(Class::Fence(fence)) } else { Class::Fence(fence) }
        }
        '|' => Class::Row,
        _ => Class::Text,
    }
}

/// What stands behind the marks of an opening fence.
fn info(line: &str, fence: Fence) -> &str {
    line.trim_start_matches([' ', '\t']).trim_start_matches(fence.mark)
}

/// Whether a line ends the block of code.
fn closes(line: &str, fence: Fence) -> bool {
    let marks = line.trim();
    marks.len() >= fence.len && marks.chars().all(|c| c == fence.mark)
}

/// Whether the beginning of a line may become one that ends the block of code.
fn may_close(line: &str, fence: Fence) -> bool {
    let marks = line.trim_start_matches(' ');
    let blanks = marks.trim_start_matches(fence.mark);
    line.len() <= MAX_START && blanks.chars().all(|c| c == ' ') && (blanks.is_empty() || closes(line, fence))
}

#[cfg(test)]
mod tests;
