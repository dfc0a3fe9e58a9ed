//! Regular expressions: checked with the place of what is wrong, and those of JSON Schema put as Rust's.

use crate::error::{Error, ErrorKind, Result};

/// A regular expression that stands for a whole text, without the anchors that say so.
///
/// # Errors
/// Usage, with line and column.
pub(super) fn whole(text: &str) -> Result<&str> {
    if let Err((line, column, what)) = check(text) {
        let text = format!("regular expression: line {line}, column {column}: {what}");
        return Err(Error::new(ErrorKind::Usage, text));
    }
    let body = text.strip_prefix('^').unwrap_or(text);
    let n_slash = body.strip_suffix('$').map_or(0, |b| b.chars().rev().take_while(|c| *c == '\\').count());
    let inner = body.strip_suffix('$').filter(|_| n_slash.is_multiple_of(2)).unwrap_or(body);
    // In `^a|b$` the anchors are those of alternatives.
    let inner = if inner.contains('|') && inner.len() < text.len() { text } else { inner };
    let looks = regex_syntax::Parser::new().parse(inner).map(|hir| hir.properties().look_set());
    if looks.is_ok_and(|looks| looks.is_empty()) {
        return Ok(inner);
    }
    let text = "regular expression: anchors and word boundaries within it are not supported";
    Err(Error::new(ErrorKind::Usage, text).with_hint("the whole answer is matched: leave them out"))
}

/// Line, column and kind of the first thing that is wrong.
fn check(text: &str) -> std::result::Result<(), (usize, usize, String)> {
    use regex_syntax::Error;
    let mut parser = regex_syntax::ParserBuilder::new().nest_limit(200).build();
    let (start, what) = match parser.parse(text) {
        Ok(_) => return Ok(()),
        Err(Error::Parse(e)) => (e.span().start, e.kind().to_string()),
        Err(Error::Translate(e)) => (e.span().start, e.kind().to_string()),
        Err(e) => return Err((1, 1, e.to_string())),
    };
    Err((start.line, start.column, what))
}

/// White space that every engine means by `\s`, as ranges of a class.
const COMMON_SPACE: &str = r"\t\n\f\r ";
/// White space of ECMAScript: what is outside of it is no white space for anybody.
const SPACE: &str = r"\t\n\x0B\f\r \u{a0}\u{1680}\u{2000}-\u{200a}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}\u{feff}";

/// A `pattern` of JSON Schema (ECMA-262) that means the same in the engine's syntax. `\d` and `\w` are left for it to
/// read as ASCII.
///
/// # Errors
/// What is wrong or not supported.
pub(super) fn from_ecma(text: &str) -> std::result::Result<String, String> {
    let mut out = String::with_capacity(text.len() + 16);
    let (mut chars, mut in_class, mut negated) = (text.chars().peekable(), false, false);
    while let Some(c) = chars.next() {
        match c {
            '\\' => match (chars.next(), in_class) {
                (None, _) => return Err("it ends within an escape".into()),
                // Engines differ in what is white space: what they differ in matches neither.
                (Some('s'), true) => out.push_str(if negated { SPACE } else { COMMON_SPACE }),
                (Some('s'), false) => out.push_str(&format!("[{COMMON_SPACE}]")),
                (Some('S'), _) => {
                    out.push_str(&format!("[^{}]", if in_class && negated { COMMON_SPACE } else { SPACE }))
                }
                (Some(c @ ('1'..='9' | 'k')), false) => {
                    return Err(format!("the backreference `\\{c}` is not supported"));
                }
                (Some(c @ ('b' | 'B')), _) => return Err(format!("`\\{c}` is not supported")),
                (Some('0'), _) => out.push_str(r"\x00"),
                (Some(escaped), _) => out.extend(['\\', escaped]),
            },
            '.' if !in_class => out.push_str(r"[^\n\r\u{2028}\u{2029}]"),
            '[' if !in_class => {
                in_class = true;
                out.push('[');
                negated = chars.next_if_eq(&'^').is_some();
                if negated {
                    out.push('^');
                }
                if chars.peek() == Some(&']') {
                    return Err("an empty class is not supported".into());
                }
            }
            ']' => {
                in_class = false;
                out.push(']');
            }
            '[' | '&' | '~' if in_class => out.extend(['\\', c]),
            '(' if !in_class => {
                let rest: String = chars.clone().take(3).collect();
                if ["?=", "?!", "?<=", "?<!"].iter().any(|look| rest.starts_with(look)) {
                    return Err("look-around is not supported".into());
                }
                out.push('(');
            }
            '*' | '+' | '?' | '}' if !in_class && chars.next_if_eq(&'?').is_some() => {
                // A lazy repetition matches the same texts.
                out.push(c);
            }
            '{' if !in_class && chars.peek() == Some(&',') => return Err("`{,` is not supported".into()),
            _ => out.push(c),
        }
    }
    match check(&out) {
        Ok(()) => Ok(out),
        Err((line, column, what)) => Err(format!("line {line}, column {column}: {what}")),
    }
}
