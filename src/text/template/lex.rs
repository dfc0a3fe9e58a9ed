//! Template source to tokens, with Jinja's whitespace control (`trim_blocks` and `lstrip_blocks` are on).

use super::value::{Out, fail};

/// Tokens of one expression or tag; real templates stay below a few hundred.
const MAX_TOKENS: usize = 2000;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// Text between tags.
    Data(String),
    /// `{{`
    VarStart,
    /// `}}`
    VarEnd,
    /// `{%`
    BlockStart,
    /// `%}`
    BlockEnd,
    Name(String),
    Str(String),
    Int(i64),
    Float(f64),
    Op(&'static str),
    End,
}

const OPERATORS: [&str; 29] = [
    "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}", ">", "<", "=", ".",
    ":", "|", ",", ";", "!", "&", "^",
];

/// The tokens of a template with their line numbers, ending in [`Token::End`].
pub(super) fn lex(source: &str) -> Out<Vec<(Token, u32)>> {
    let mut source = source.replace("\r\n", "\n").replace('\r', "\n");
    if source.ends_with('\n') {
        source.pop();
    }
    let mut lexer = Lexer { s: &source, at: 0, line: 1, out: Vec::new(), trim_newline: false, trim_all: false };
    lexer.run()?;
    let line = lexer.line;
    lexer.out.push((Token::End, line));
    Ok(lexer.out)
}

struct Lexer<'a> {
    s: &'a str,
    at: usize,
    line: u32,
    out: Vec<(Token, u32)>,
    /// The tag just passed takes the newline behind it.
    trim_newline: bool,
    /// The tag just passed takes all white space behind it.
    trim_all: bool,
}

impl Lexer<'_> {
    fn run(&mut self) -> Out<()> {
        while self.at < self.s.len() {
            let rest = &self.s[self.at..];
            let Some(tag) = next_tag(rest) else {
                self.data(self.s.len(), ' ', false);
                break;
            };
            let start = self.at + tag;
            let kind = self.s.as_bytes()[start + 1];
            let sign = self.s.as_bytes().get(start + 2).copied().unwrap_or(b' ');
            let sign = if matches!(sign, b'-' | b'+') { char::from(sign) } else { ' ' };
            self.data(start, sign, kind != b'{');
            self.at = start + 2 + usize::from(sign != ' ');
            match kind {
                b'#' => self.comment()?,
                b'{' => self.tag(Token::VarStart, Token::VarEnd, "}}")?,
                _ if self.raw()? => {}
                _ => self.tag(Token::BlockStart, Token::BlockEnd, "%}")?,
            }
        }
        Ok(())
    }

    /// Emits the text up to `end`; `sign` is that of the tag behind it, `lstrip` whether blanks before that tag go.
    fn data(&mut self, end: usize, sign: char, lstrip: bool) {
        let mut text = &self.s[self.at..end];
        let mut line_start = self.at == 0;
        let mut lines = text.matches('\n').count();
        if self.trim_all {
            text = text.trim_start();
        } else if self.trim_newline && text.starts_with('\n') {
            text = &text[1..];
            line_start = true;
        }
        if sign == '-' {
            text = text.trim_end();
        } else if lstrip && sign != '+' {
            let from = text.rfind('\n').map(|i| i + 1);
            if from.is_some() || line_start {
                let from = from.unwrap_or(0);
                if text[from..].chars().all(char::is_whitespace) {
                    text = &text[..from];
                }
            }
        }
        if !text.is_empty() {
            self.out.push((Token::Data(text.to_owned()), self.line));
        }
        while lines > 0 {
            self.line = self.line.saturating_add(1);
            lines -= 1;
        }
        (self.trim_all, self.trim_newline) = (false, false);
        self.at = end;
    }

    fn comment(&mut self) -> Out<()> {
        let rest = &self.s[self.at..];
        let Some(end) = rest.find("#}") else { return fail("a comment is not closed") };
        self.count_lines(&rest[..end]);
        self.closed_by(rest[..end].chars().next_back());
        self.at += end + 2;
        Ok(())
    }

    fn closed_by(&mut self, sign: Option<char>) {
        self.trim_all = sign == Some('-');
        self.trim_newline = sign != Some('+');
    }

    /// Handles `{% raw %}` if it stands here.
    fn raw(&mut self) -> Out<bool> {
        let rest = &self.s[self.at..];
        let Some(after) = rest.trim_start().strip_prefix("raw") else { return Ok(false) };
        let after = after.trim_start();
        let Some(body) = after.strip_prefix("%}").or_else(|| after.strip_prefix("-%}")) else { return Ok(false) };
        let trim_start = after.starts_with('-');
        let mut from = 0;
        while let Some(at) = body[from..].find("{%").map(|i| i + from) {
            let inner = body[at + 2..].trim_start_matches(['-', '+']);
            if let Some(tail) = inner.trim_start().strip_prefix("endraw") {
                let tail = tail.trim_start();
                let sign = tail.chars().next().filter(|c| matches!(c, '-' | '+'));
                if let Some(tail) = tail.trim_start_matches(['-', '+']).strip_prefix("%}") {
                    let mut text = &body[..at];
                    if trim_start {
                        text = text.trim_start();
                    } else {
                        text = text.strip_prefix('\n').unwrap_or(text);
                    }
                    let dash = body[at + 2..].chars().next();
                    if dash == Some('-') {
                        text = text.trim_end();
                    } else if dash != Some('+') {
                        let line = text.rfind('\n').map_or(0, |i| i + 1);
                        if line > 0 && text[line..].chars().all(char::is_whitespace) {
                            text = &text[..line];
                        }
                    }
                    self.out.push((Token::Data(text.to_owned()), self.line));
                    self.count_lines(body);
                    self.count_lines_back(tail);
                    self.closed_by(sign);
                    self.at = self.s.len() - tail.len();
                    return Ok(true);
                }
            }
            from = at + 2;
        }
        fail("`{% raw %}` is not closed")
    }

    fn count_lines(&mut self, text: &str) {
        self.line = self.line.saturating_add(u32::try_from(text.matches('\n').count()).unwrap_or(u32::MAX));
    }

    fn count_lines_back(&mut self, text: &str) {
        self.line = self.line.saturating_sub(u32::try_from(text.matches('\n').count()).unwrap_or(u32::MAX));
    }

    /// Tokens of one tag up to its end.
    fn tag(&mut self, start: Token, end: Token, close: &str) -> Out<()> {
        let is_block = end == Token::BlockEnd;
        self.out.push((start, self.line));
        let (mut depth, mut n_token) = (0usize, 0usize);
        loop {
            let rest = &self.s[self.at..];
            let trimmed = rest.trim_start();
            self.count_lines(&rest[..rest.len() - trimmed.len()]);
            self.at = self.s.len() - trimmed.len();
            let Some(c) = trimmed.chars().next() else { return fail("a tag is not closed") };
            if depth == 0 {
                let unsigned = trimmed.strip_prefix(['-', '+']).unwrap_or(trimmed);
                if unsigned.starts_with(close) && (is_block || c != '+') {
                    self.closed_by(Some(c));
                    // trim_blocks concerns tags and comments, not `{{ }}`.
                    self.trim_newline &= is_block;
                    self.at = self.s.len() - unsigned.len() + close.len();
                    self.out.push((end, self.line));
                    return Ok(());
                }
            }
            n_token += 1;
            if n_token > MAX_TOKENS {
                return fail(format!("line {}: a tag has more than {MAX_TOKENS} tokens", self.line));
            }
            let token = self.token(trimmed, c)?;
            match token {
                Token::Op("(" | "[" | "{") => depth += 1,
                Token::Op(")" | "]" | "}") => depth = depth.saturating_sub(1),
                _ => {}
            }
            self.out.push((token, self.line));
        }
    }

    fn token(&mut self, rest: &str, c: char) -> Out<Token> {
        if c.is_alphabetic() || c == '_' {
            let len = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            self.at += len;
            return Ok(Token::Name(rest[..len].to_owned()));
        }
        if c.is_ascii_digit() {
            return self.number(rest);
        }
        if c == '"' || c == '\'' {
            return self.string(rest, c);
        }
        match OPERATORS.iter().find(|op| rest.starts_with(**op)) {
            Some(op) => {
                self.at += op.len();
                Ok(Token::Op(op))
            }
            None => fail(format!("line {}: unexpected character {c:?}", self.line)),
        }
    }

    fn number(&mut self, rest: &str) -> Out<Token> {
        let b = rest.as_bytes();
        let digits = |mut i: usize| {
            while i < b.len() && (b[i].is_ascii_digit() || b[i] == b'_') {
                i += 1;
            }
            i
        };
        let mut len = digits(0);
        let mut float = false;
        if b.get(len) == Some(&b'.') && b.get(len + 1).is_some_and(u8::is_ascii_digit) {
            len = digits(len + 1);
            float = true;
        }
        if matches!(b.get(len), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(b.get(len + 1), Some(b'+' | b'-')));
            if b.get(len + 1 + sign).is_some_and(u8::is_ascii_digit) {
                len = digits(len + 1 + sign);
                float = true;
            }
        }
        self.at += len;
        let text = rest[..len].replace('_', "");
        let bad = |_| format!("line {}: number {text} is out of range", self.line);
        if float {
            return text.parse().map(Token::Float).or_else(|e: std::num::ParseFloatError| fail(e.to_string()));
        }
        text.parse().map(Token::Int).or_else(|e: std::num::ParseIntError| fail(bad(e)))
    }

    fn string(&mut self, rest: &str, quote: char) -> Out<Token> {
        let mut out = String::new();
        let mut chars = rest.char_indices().skip(1);
        while let Some((i, c)) = chars.next() {
            if c == quote {
                self.count_lines(&rest[..i]);
                self.at += i + 1;
                return Ok(Token::Str(out));
            }
            if c != '\\' {
                out.push(c);
                continue;
            }
            let Some((j, e)) = chars.next() else { break };
            let digits = match e {
                'x' => 2,
                'u' => 4,
                'U' => 8,
                _ => 0,
            };
            match e {
                'n' => out.push('\n'),
                't' => out.push('\t'),
                'r' => out.push('\r'),
                'a' => out.push('\u{7}'),
                'b' => out.push('\u{8}'),
                'f' => out.push('\u{c}'),
                'v' => out.push('\u{b}'),
                '0' => out.push('\0'),
                '\\' | '\'' | '"' => out.push(e),
                '\n' => {}
                _ if digits > 0 => {
                    let hex = rest.get(j + 1..j + 1 + digits).and_then(|h| u32::from_str_radix(h, 16).ok());
                    let Some(c) = hex.and_then(char::from_u32) else {
                        return fail(format!("line {}: bad escape in a string", self.line));
                    };
                    out.push(c);
                    chars.nth(digits - 1);
                }
                _ => out.extend(['\\', e]),
            }
        }
        fail(format!("line {}: a string is not closed", self.line))
    }
}

/// Position of the next `{{`, `{%` or `{#`.
fn next_tag(s: &str) -> Option<usize> {
    let b = s.as_bytes();
    (0..b.len().saturating_sub(1)).find(|&i| b[i] == b'{' && matches!(b[i + 1], b'{' | b'%' | b'#'))
}
