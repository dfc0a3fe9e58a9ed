//! GBNF, the grammars of llama.cpp (`grammars/README.md` there): read into rules over sets of characters.
//!
//! Left recursion, which llama.cpp refuses, is taken: the engine parses by Earley's method.

use std::collections::HashMap;

use crate::error::{Error, ErrorKind, Result, printable};

/// Parentheses in parentheses at most.
const MAX_DEPTH: usize = 128;
/// A count of repetitions at most.
const MAX_COUNT: u32 = 10_000;
/// Elements of a rule at most, with its repetitions written out.
const MAX_SIZE: u64 = 1_000_000;
const MAX_CHAR: u32 = char::MAX as u32;

/// A part of a rule.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    /// One character of these ranges, which are sorted, do not touch and leave out surrogates.
    Set(Vec<(u32, u32)>),
    Seq(Vec<Node>),
    Alt(Vec<Node>),
    /// A rule by its place.
    Rule(usize),
    Repeat(Box<Node>, u32, Option<u32>),
}

/// The rules of a grammar; all that are named are defined and can end.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) rules: Vec<Node>,
    pub(super) root: usize,
}

/// Reads a grammar.
///
/// # Errors
/// Usage, with line and column.
pub(super) fn parse(text: &str) -> Result<Rules> {
    let mut parser = Parser { chars: text.chars().collect(), at: 0, names: HashMap::new(), rules: Vec::new() };
    parser.grammar()?;
    parser.finish()
}

/// A rule by its name.
struct Named {
    name: String,
    /// Where it is first mentioned.
    mentioned: usize,
    body: Option<Node>,
}

struct Parser {
    chars: Vec<char>,
    at: usize,
    names: HashMap<String, usize>,
    rules: Vec<Named>,
}

impl Parser {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn looks_at(&self, text: &str) -> bool {
        text.chars().enumerate().all(|(i, c)| self.chars.get(self.at + i) == Some(&c))
    }

    fn error_at(&self, at: usize, what: impl std::fmt::Display) -> Error {
        let before = &self.chars[..at.min(self.chars.len())];
        let line = 1 + before.iter().filter(|c| **c == '\n').count();
        let column = 1 + before.iter().rev().take_while(|c| **c != '\n').count();
        Error::new(ErrorKind::Usage, format!("grammar: line {line}, column {column}: {what}"))
    }

    fn error(&self, what: impl std::fmt::Display) -> Error {
        self.error_at(self.at, what)
    }

    /// What stands here, for messages.
    fn found(&self) -> String {
        self.peek().map_or_else(|| "the end".into(), |c| format!("`{}`", printable(&c.to_string())))
    }

    /// Passes blanks and comments, and where `lines` line ends too.
    fn space(&mut self, lines: bool) {
        while let Some(c) = self.peek() {
            match c {
                ' ' | '\t' => self.at += 1,
                '#' => self.at += self.chars[self.at..].iter().take_while(|c| !matches!(c, '\n' | '\r')).count(),
                '\n' | '\r' if lines => self.at += 1,
                _ => return,
            }
        }
    }

    fn grammar(&mut self) -> Result<()> {
        self.space(true);
        while self.peek().is_some() {
            let start = self.at;
            let rule = self.name()?;
            self.space(false);
            if !self.looks_at("::=") {
                return Err(self.error(format!("expected `::=` behind the name of a rule, found {}", self.found())));
            }
            self.at += 3;
            self.space(true);
            let body = self.alternatives(0)?;
            if !matches!(self.peek(), None | Some('\n' | '\r')) {
                return Err(self.error(format!("expected the end of the rule, found {}", self.found())));
            }
            if size(&body) > MAX_SIZE {
                return Err(self.error_at(start, "the repetitions of this rule are too many"));
            }
            if self.rules[rule].body.replace(body).is_some() {
                let name = printable(&self.rules[rule].name);
                return Err(self.error_at(start, format!("rule `{name}` is defined twice")));
            }
            self.space(true);
        }
        Ok(())
    }

    /// The place of the rule that is named here.
    fn name(&mut self) -> Result<usize> {
        let start = self.at;
        let is_word = |c: &&char| c.is_ascii_alphanumeric() || matches!(**c, '-' | '_');
        self.at += self.chars[start..].iter().take_while(is_word).count();
        if self.at == start {
            return Err(self.error(format!("expected the name of a rule, found {}", self.found())));
        }
        let name: String = self.chars[start..self.at].iter().collect();
        let next = self.rules.len();
        let place = *self.names.entry(name.clone()).or_insert(next);
        if place == next {
            self.rules.push(Named { name, mentioned: start, body: None });
        }
        Ok(place)
    }

    fn alternatives(&mut self, depth: usize) -> Result<Node> {
        let mut options = vec![self.sequence(depth)?];
        while self.peek() == Some('|') {
            self.at += 1;
            self.space(true);
            options.push(self.sequence(depth)?);
        }
        Ok(if options.len() == 1 { options.remove(0) } else { Node::Alt(options) })
    }

    fn sequence(&mut self, depth: usize) -> Result<Node> {
        let mut items = Vec::new();
        while let Some(c) = self.peek() {
            let item = match c {
                '"' => self.literal()?,
                '[' => self.set()?,
                '.' => {
                    self.at += 1;
                    Node::Set(normal(vec![(0, MAX_CHAR)]))
                }
                '(' => {
                    if depth == MAX_DEPTH {
                        return Err(self.error(format!("more than {MAX_DEPTH} parentheses in one another")));
                    }
                    let open = self.at;
                    self.at += 1;
                    self.space(true);
                    let inner = self.nested(depth + 1)?;
                    if self.peek() != Some(')') {
                        return Err(self.error_at(open, "this parenthesis is never closed"));
                    }
                    self.at += 1;
                    inner
                }
                '<' | '!' => return Err(self.error("tokens in grammars (`<...>`) are not supported: write their text")),
                '*' | '+' | '?' | '{' => {
                    return Err(self.error(format!("`{c}` repeats nothing: it stands behind an item")));
                }
                c if c.is_ascii_alphanumeric() || c == '-' || c == '_' => Node::Rule(self.name()?),
                _ => break,
            };
            items.push(self.repeated(item)?);
            self.space(depth > 0);
        }
        Ok(if items.len() == 1 { items.remove(0) } else { Node::Seq(items) })
    }

    fn nested(&mut self, depth: usize) -> Result<Node> {
        self.alternatives(depth)
    }

    /// The item with the repetitions that follow it.
    fn repeated(&mut self, mut item: Node) -> Result<Node> {
        loop {
            self.space(false);
            let start = self.at;
            let (min, max) = match self.peek() {
                Some('*') => (0, None),
                Some('+') => (1, None),
                Some('?') => (0, Some(1)),
                Some('{') => {
                    self.at += 1;
                    let min = self.count()?;
                    self.space(false);
                    let max = match self.peek() {
                        Some('}') => Some(min),
                        Some(',') => {
                            self.at += 1;
                            self.space(false);
                            if self.peek() == Some('}') { None } else { Some(self.count()?) }
                        }
                        _ => return Err(self.error(format!("expected `,` or `}}`, found {}", self.found()))),
                    };
                    self.space(false);
                    if self.peek() != Some('}') {
                        return Err(self.error(format!("expected `}}`, found {}", self.found())));
                    }
                    (min, max)
                }
                _ => return Ok(item),
            };
            self.at += 1;
            if max.is_some_and(|max| max < min) {
                return Err(self.error_at(start, "the least count is above the greatest"));
            }
            item = Node::Repeat(Box::new(item), min, max);
            if size(&item) > MAX_SIZE {
                return Err(self.error_at(start, "the repetitions are too many"));
            }
        }
    }

    fn count(&mut self) -> Result<u32> {
        self.space(false);
        let start = self.at;
        self.at += self.chars[start..].iter().take_while(|c| c.is_ascii_digit()).count();
        let digits: String = self.chars[start..self.at].iter().collect();
        if digits.is_empty() {
            return Err(self.error(format!("expected a count, found {}", self.found())));
        }
        let count = digits.parse().ok().filter(|n| *n <= MAX_COUNT);
        count.ok_or_else(|| self.error_at(start, format!("a count is {MAX_COUNT} at most")))
    }

    fn literal(&mut self) -> Result<Node> {
        let open = self.at;
        self.at += 1;
        let mut items = Vec::new();
        loop {
            match self.peek() {
                Some('"') => break,
                None | Some('\n') => return Err(self.error_at(open, "this text is never closed by `\"`")),
                Some(_) => {
                    let c = self.character()?;
                    items.push(Node::Set(vec![(c, c)]));
                }
            }
        }
        self.at += 1;
        Ok(if items.len() == 1 { items.remove(0) } else { Node::Seq(items) })
    }

    fn set(&mut self) -> Result<Node> {
        let open = self.at;
        self.at += 1;
        let negated = self.peek() == Some('^');
        self.at += usize::from(negated);
        let mut ranges = Vec::new();
        loop {
            match self.peek() {
                Some(']') => break,
                None | Some('\n') => return Err(self.error_at(open, "this set is never closed by `]`")),
                Some(_) => {}
            }
            let start = self.at;
            let low = self.character()?;
            let is_range = self.peek() == Some('-') && !matches!(self.chars.get(self.at + 1), None | Some(']'));
            let high = if is_range {
                self.at += 1;
                self.character()?
            } else {
                low
            };
            if high < low {
                return Err(self.error_at(start, "the range ends before it begins"));
            }
            ranges.push((low, high));
        }
        self.at += 1;
        let ranges = normal(if negated { complement(normal(ranges)) } else { ranges });
        if ranges.is_empty() {
            return Err(self.error_at(open, "no character is in this set"));
        }
        Ok(Node::Set(ranges))
    }

    /// A character or an escape.
    fn character(&mut self) -> Result<u32> {
        let start = self.at;
        let next = self.peek().ok_or_else(|| self.error("the grammar ends within a text"))?;
        self.at += 1;
        if next != '\\' {
            return Ok(u32::from(next));
        }
        let escape = self.peek().ok_or_else(|| self.error_at(start, "the grammar ends within an escape"))?;
        self.at += 1;
        let n_digit = match escape {
            'n' => return Ok(10),
            'r' => return Ok(13),
            't' => return Ok(9),
            '\\' | '"' | '[' | ']' | '-' | '^' => return Ok(u32::from(escape)),
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => {
                let text = format!("unknown escape `\\{}`", printable(&escape.to_string()));
                return Err(self
                    .error_at(start, text)
                    .with_hint(r#"there are \n \r \t \\ \" \[ \] \- \^ \xHH \uHHHH \UHHHHHHHH"#));
            }
        };
        let digits: String = self.chars[self.at..].iter().take(n_digit).collect();
        let is_hex = digits.len() == n_digit && digits.chars().all(|c| c.is_ascii_hexdigit());
        let code = u32::from_str_radix(&digits, 16).ok().filter(|_| is_hex);
        let code =
            code.ok_or_else(|| self.error_at(start, format!("`\\{escape}` needs {n_digit} hexadecimal digits")))?;
        self.at += n_digit;
        match char::from_u32(code) {
            Some(_) => Ok(code),
            None => Err(self.error_at(start, "this is no character of Unicode")),
        }
    }

    /// Checks what only the whole grammar shows.
    fn finish(mut self) -> Result<Rules> {
        let Some(&root) = self.names.get("root").filter(|place| self.rules[**place].body.is_some()) else {
            return Err(self.error("there is no rule `root`, where texts begin"));
        };
        if let Some(rule) = self.rules.iter().find(|r| r.body.is_none()) {
            return Err(self.error_at(rule.mentioned, format!("rule `{}` is not defined", printable(&rule.name))));
        }
        let named: Vec<(String, usize)> = self.rules.iter().map(|r| (r.name.clone(), r.mentioned)).collect();
        let rules: Vec<Node> = self.rules.iter_mut().filter_map(|r| r.body.take()).collect();
        let ends = ending(&rules);
        if let Some(place) = ends.iter().position(|ends| !ends) {
            let (name, at) = &named[place];
            return Err(self.error_at(*at, format!("rule `{}` never ends: it always needs itself", printable(name))));
        }
        Ok(Rules { rules, root })
    }
}

/// Elements of a part, with its repetitions written out.
fn size(node: &Node) -> u64 {
    match node {
        Node::Set(_) | Node::Rule(_) => 1,
        Node::Seq(items) | Node::Alt(items) => items.iter().fold(1, |n, item| n.saturating_add(size(item))),
        Node::Repeat(item, min, max) => size(item).saturating_mul(u64::from(max.unwrap_or(*min).max(1))),
    }
}

/// For each rule: does it match any text?
fn ending(rules: &[Node]) -> Vec<bool> {
    fn ends(node: &Node, known: &[bool]) -> bool {
        match node {
            Node::Set(_) => true,
            Node::Rule(place) => known[*place],
            Node::Seq(items) => items.iter().all(|item| ends(item, known)),
            Node::Alt(items) => items.iter().any(|item| ends(item, known)),
            Node::Repeat(item, min, _) => *min == 0 || ends(item, known),
        }
    }
    let mut known = vec![false; rules.len()];
    loop {
        let next: Vec<bool> = rules.iter().map(|rule| ends(rule, &known)).collect();
        if next == known {
            return known;
        }
        known = next;
    }
}

/// Sorted ranges that do not touch, without surrogates.
fn normal(mut ranges: Vec<(u32, u32)>) -> Vec<(u32, u32)> {
    const SURROGATES: (u32, u32) = (0xd800, 0xdfff);
    ranges.sort_unstable();
    let mut out: Vec<(u32, u32)> = Vec::with_capacity(ranges.len());
    for (low, high) in ranges {
        match out.last_mut() {
            Some(last) if low <= last.1.saturating_add(1) => last.1 = last.1.max(high),
            _ => out.push((low, high)),
        }
    }
    let cut = |(low, high): (u32, u32)| [(low, high.min(SURROGATES.0 - 1)), (low.max(SURROGATES.1 + 1), high)];
    out.into_iter().flat_map(cut).filter(|(low, high)| low <= high).collect()
}

/// All characters but these ranges, which are sorted.
fn complement(ranges: Vec<(u32, u32)>) -> Vec<(u32, u32)> {
    let mut out = Vec::with_capacity(ranges.len() + 1);
    let mut from = 0;
    for (low, high) in ranges {
        if from < low {
            out.push((from, low - 1));
        }
        from = high + 1;
    }
    if from <= MAX_CHAR {
        out.push((from, MAX_CHAR));
    }
    out
}
