//! Values as Python and Gemma write them, and calls in Python's form.

use serde_json::{Map, Number, Value};

/// Values within each other at most; deeper ones are no value.
const MAX_DEPTH: usize = 64;

/// How literals are written.
#[derive(Clone, Copy)]
pub(super) enum Style<'a> {
    /// Strings in single or double quotes, `True`, `None`; JSON's words too.
    Python,
    /// Strings between marks, keys bare.
    Marked(&'a str),
}

/// A reader of literals.
pub(super) struct Literals<'a> {
    pub rest: &'a str,
    style: Style<'a>,
}

impl<'a> Literals<'a> {
    pub fn new(text: &'a str, style: Style<'a>) -> Self {
        Self { rest: text, style }
    }

    fn blank(&mut self) {
        self.rest = self.rest.trim_start();
    }

    /// Takes a text, behind blanks.
    pub fn take(&mut self, text: &str) -> bool {
        self.blank();
        self.rest.strip_prefix(text).map(|rest| self.rest = rest).is_some()
    }

    /// Nothing but blanks is left.
    pub fn is_at_end(&mut self) -> bool {
        self.blank();
        self.rest.is_empty()
    }

    /// Takes a name, with dots.
    pub fn name(&mut self) -> Option<&'a str> {
        self.blank();
        let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-');
        let n = self.rest.find(|c: char| !is_part(c)).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(n);
        self.rest = rest;
        Some(name).filter(|n| !n.is_empty())
    }

    /// Takes a value.
    pub fn value(&mut self, depth: usize) -> Option<Value> {
        if depth > MAX_DEPTH {
            return None;
        }
        self.blank();
        if let Some(text) = self.string() {
            return Some(text.into());
        }
        if self.take("[") {
            return self.list(depth);
        }
        if self.take("{") {
            return self.entries(depth).map(Value::Object);
        }
        let n = self.rest.find(|c: char| matches!(c, ',' | ']' | '}' | ')') || c.is_whitespace());
        let (word, rest) = self.rest.split_at(n.unwrap_or(self.rest.len()));
        let value = match word {
            "True" | "true" => true.into(),
            "False" | "false" => false.into(),
            "None" | "null" => Value::Null,
            _ => Value::Number(word.parse::<Number>().ok()?),
        };
        self.rest = rest;
        Some(value)
    }

    fn string(&mut self) -> Option<String> {
        match self.style {
            Style::Marked(mark) => {
                let (text, rest) = self.rest.strip_prefix(mark)?.split_once(mark)?;
                self.rest = rest;
                Some(text.to_owned())
            }
            Style::Python => {
                let quote = self.rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
                let (mut out, mut chars) = (String::new(), self.rest[1..].char_indices());
                while let Some((at, c)) = chars.next() {
                    match c {
                        c if c == quote => {
                            self.rest = &self.rest[1 + at + 1..];
                            return Some(out);
                        }
                        '\\' => match chars.next()?.1 {
                            'n' => out.push('\n'),
                            't' => out.push('\t'),
                            'r' => out.push('\r'),
                            'u' => {
                                let code: String = chars.by_ref().take(4).map(|(_, c)| c).collect();
                                out.push(char::from_u32(u32::from_str_radix(&code, 16).ok()?)?);
                            }
                            c => out.push(c),
                        },
                        c => out.push(c),
                    }
                }
                None
            }
        }
    }

    fn list(&mut self, depth: usize) -> Option<Value> {
        let mut items = Vec::new();
        while !self.take("]") {
            items.push(self.value(depth + 1)?);
            if !self.take(",") && !self.rest.starts_with(']') {
                return None;
            }
        }
        Some(items.into())
    }

    /// The entries of a dictionary and its closing brace.
    pub fn entries(&mut self, depth: usize) -> Option<Map<String, Value>> {
        let mut map = Map::new();
        while !self.take("}") {
            self.blank();
            let key = match self.string() {
                Some(key) => key,
                None => self.name()?.to_owned(),
            };
            if !self.take(":") {
                return None;
            }
            map.insert(key, self.value(depth + 1)?);
            if !self.take(",") && !self.rest.starts_with('}') {
                return None;
            }
        }
        Some(map)
    }

    /// A call, `name(key=value, ..)`.
    pub fn call(&mut self) -> Option<(&'a str, Map<String, Value>)> {
        let name = self.name()?;
        if !self.take("(") {
            return None;
        }
        let mut map = Map::new();
        while !self.take(")") {
            let key = self.name()?.to_owned();
            if !self.take("=") {
                return None;
            }
            map.insert(key, self.value(0)?);
            if !self.take(",") && !self.rest.starts_with(')') {
                return None;
            }
        }
        Some((name, map))
    }
}

/// A whole text as one Python literal.
pub(super) fn python(text: &str) -> Option<Value> {
    let mut literals = Literals::new(text, Style::Python);
    let value = literals.value(0)?;
    literals.is_at_end().then_some(value)
}
