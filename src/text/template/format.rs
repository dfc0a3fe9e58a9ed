//! `"%s" % values` and `"{}".format(values)`, for the conversions that templates use.

use super::access;
use super::eval::{CallArgs, Machine};
use super::value::{Buf, ListKind, Out, Text, Value, fail};

/// Widest field; Python has no bound.
const MAX_WIDTH: usize = 10_000;

/// Width, precision and padding of one field.
#[derive(Default)]
struct Spec {
    left: Option<bool>,
    centre: bool,
    zero: bool,
    plus: bool,
    comma: bool,
    fill: Option<char>,
    width: usize,
    precision: Option<usize>,
}

/// Python's `text % values`.
pub(super) fn percent(m: &Machine, t: &Text, values: &Value) -> Out<Value> {
    let single = [values.clone()];
    let mut values: std::slice::Iter<'_, Value> = match values {
        Value::List(l) if l.kind == ListKind::Tuple => l.items.iter(),
        _ => single.iter(),
    };
    let mut out = Buf::default();
    let mut at = 0;
    while let Some(i) = t.s[at..].find('%') {
        out.push_part(t, at..at + i)?;
        at += i + 1;
        let mut spec = Spec::default();
        let bytes = t.s.as_bytes();
        while let Some(flag) = bytes.get(at).filter(|b| matches!(b, b'-' | b'0' | b'+' | b' ' | b'#')) {
            match flag {
                b'-' => spec.left = Some(true),
                b'0' => spec.zero = true,
                b'+' => spec.plus = true,
                _ => {}
            }
            at += 1;
        }
        spec.width = digits(bytes, &mut at)?.unwrap_or(0);
        if bytes.get(at) == Some(&b'.') {
            at += 1;
            spec.precision = Some(digits(bytes, &mut at)?.unwrap_or(0));
        }
        let Some(&kind) = bytes.get(at) else { return fail("ValueError: incomplete format") };
        at += 1;
        if kind == b'%' {
            out.push("%", false)?;
            continue;
        }
        if matches!(kind, b's' | b'r') {
            spec.left.get_or_insert(false);
        }
        let Some(value) = values.next() else { return fail("TypeError: not enough arguments for format string") };
        field(value, char::from(kind), &spec, &mut out)?;
    }
    out.push_part(t, at..t.s.len())?;
    m.finish(out)
}

/// Python's `text.format(values)`.
pub(super) fn braces(m: &Machine, t: &Text, args: &CallArgs) -> Out<Value> {
    let mut out = Buf::default();
    let (mut at, mut auto) = (0, 0usize);
    while let Some(i) = t.s[at..].find(['{', '}']) {
        out.push_part(t, at..at + i)?;
        at += i;
        let brace = &t.s[at..=at];
        if t.s[at + 1..].starts_with(brace) {
            out.push_part(t, at..at + 1)?;
            at += 2;
            continue;
        }
        let Some(len) = t.s[at..].find('}').filter(|_| brace == "{") else {
            return fail("ValueError: single brace in format string");
        };
        let inner = &t.s[at + 1..at + len];
        at += len + 1;
        let (name, spec) = inner.split_once(':').unwrap_or((inner, ""));
        let (name, conversion) = name.split_once('!').unwrap_or((name, "s"));
        let path_at = name.find(['.', '[']).unwrap_or(name.len());
        let (head, path) = name.split_at(path_at);
        let value = if head.is_empty() {
            auto += 1;
            args.positional.get(auto - 1)
        } else if let Ok(i) = head.parse::<usize>() {
            args.positional.get(i)
        } else {
            args.named.iter().find(|(n, _)| &**n == head).map(|(_, v)| v)
        };
        let Some(value) = value else { return fail("IndexError: format string names a missing argument") };
        let mut value = value.clone();
        for step in path.split(['.', '[']).filter(|s| !s.is_empty()) {
            let step = step.trim_end_matches(']');
            let key = step.parse().map_or_else(|_| m.text(step), |i| Ok(Value::Int(i)))?;
            value = access::item(m, &value, &key)?;
        }
        if conversion == "r" {
            let mut text = Buf::default();
            value.repr(&mut text)?;
            value = m.finish(text)?;
        }
        let (spec, kind) = parse_spec(spec)?;
        let kind = kind.unwrap_or(match value {
            Value::Int(_) => 'd',
            Value::Float(_) if spec.precision.is_some() => 'f',
            _ => 's',
        });
        field(&value, kind, &spec, &mut out)?;
    }
    out.push_part(t, at..t.s.len())?;
    m.finish(out)
}

fn digits(bytes: &[u8], at: &mut usize) -> Out<Option<usize>> {
    let from = *at;
    let mut n = 0usize;
    while let Some(d) = bytes.get(*at).filter(|b| b.is_ascii_digit()) {
        n = n.saturating_mul(10).saturating_add(usize::from(d - b'0'));
        *at += 1;
    }
    if n > MAX_WIDTH { fail("ValueError: a field is too wide") } else { Ok((*at > from).then_some(n)) }
}

/// `[[fill]align][+][0][width][,][.precision][type]`
fn parse_spec(text: &str) -> Out<(Spec, Option<char>)> {
    let mut spec = Spec::default();
    let chars: Vec<char> = text.chars().collect();
    let is_align = |i: usize| chars.get(i).is_some_and(|c| matches!(c, '<' | '>' | '^'));
    let align_at = if is_align(1) {
        Some(1)
    } else if is_align(0) {
        Some(0)
    } else {
        None
    };
    let mut rest = text;
    if let Some(i) = align_at {
        spec.fill = (i == 1).then_some(chars[0]);
        spec.left = Some(chars[i] == '<');
        spec.centre = chars[i] == '^';
        rest = &text[chars[..=i].iter().map(|c| c.len_utf8()).sum()..];
    }
    if let Some(r) = rest.strip_prefix('+') {
        (spec.plus, rest) = (true, r);
    }
    if let Some(r) = rest.strip_prefix('0') {
        (spec.zero, rest) = (true, r);
    }
    let mut at = 0;
    spec.width = digits(rest.as_bytes(), &mut at)?.unwrap_or(0);
    if rest.as_bytes().get(at) == Some(&b',') {
        spec.comma = true;
        at += 1;
    }
    if rest.as_bytes().get(at) == Some(&b'.') {
        at += 1;
        spec.precision = digits(rest.as_bytes(), &mut at)?;
    }
    let mut tail = rest.get(at..).unwrap_or("").chars();
    match (tail.next(), tail.next()) {
        (kind, None) => Ok((spec, kind)),
        _ => fail("ValueError: invalid format specifier"),
    }
}

fn field(value: &Value, kind: char, spec: &Spec, out: &mut Buf) -> Out<()> {
    let mut text = Buf::default();
    let number = || match value.as_f64() {
        Some(f) => Ok(f),
        None => fail(format!("TypeError: %{kind} format: a number is required, not {}", value.type_name())),
    };
    let sign = |negative: bool| {
        if negative {
            "-"
        } else if spec.plus {
            "+"
        } else {
            ""
        }
    };
    let mut numeric = true;
    match kind {
        's' | 'r' => {
            numeric = false;
            if kind == 's' {
                value.print(&mut text)?
            } else {
                value.repr(&mut text)?
            }
            if let Some((end, _)) = spec.precision.and_then(|p| text.s.char_indices().nth(p)) {
                text.s.truncate(end);
                text.marks.retain(|r| r.start < end);
                if let Some(last) = text.marks.last_mut() {
                    last.end = last.end.min(end);
                }
            }
        }
        'd' | 'i' => {
            let i = value.as_i64().map_or_else(|| number().map(|f| f.trunc() as i64), Ok)?;
            text.push(sign(i < 0), false)?;
            text.push(&grouped(&i.unsigned_abs().to_string(), spec.comma), false)?;
        }
        'f' | 'F' => {
            let f = number()?;
            text.push(sign(f < 0.0), false)?;
            let plain = format!("{:.*}", spec.precision.unwrap_or(6).min(60), f.abs());
            let (whole, rest) = plain.split_at(plain.find('.').unwrap_or(plain.len()));
            text.push(&format!("{}{rest}", grouped(whole, spec.comma)), false)?;
        }
        'x' | 'X' | 'o' | 'b' | 'c' => {
            let Some(i) = value.as_i64() else { return fail(format!("TypeError: %{kind} format needs an integer")) };
            text.push(sign(i < 0 && kind != 'c'), false)?;
            let a = i.unsigned_abs();
            let shown = match kind {
                'x' => format!("{a:x}"),
                'X' => format!("{a:X}"),
                'o' => format!("{a:o}"),
                'b' => format!("{a:b}"),
                _ => u32::try_from(i).ok().and_then(char::from_u32).map(String::from).unwrap_or_default(),
            };
            text.push(&shown, kind == 'c')?;
        }
        'g' | 'e' => value.repr(&mut text)?,
        other => return fail(format!("ValueError: unsupported format character '{other}'")),
    }
    let missing = spec.width.saturating_sub(text.s.chars().count());
    let zero = spec.zero && numeric && spec.left.is_none();
    let fill = spec.fill.unwrap_or(if zero { '0' } else { ' ' }).to_string();
    let left = spec.left.unwrap_or(!numeric && spec.fill.is_none() && !zero);
    let before = if spec.centre {
        missing / 2
    } else if left {
        0
    } else {
        missing
    };
    let sign_len = if zero { text.s.len() - text.s.trim_start_matches(['-', '+']).len() } else { 0 };
    out.push(&text.s[..sign_len], false)?;
    out.push(&fill.repeat(before), false)?;
    for (range, foreign) in segments(&text) {
        out.push(&text.s[range.start.max(sign_len)..range.end.max(sign_len)], foreign)?;
    }
    out.push(&fill.repeat(missing - before), false)
}

fn segments(buf: &Buf) -> Vec<(std::ops::Range<usize>, bool)> {
    let mut out = Vec::new();
    let mut at = 0;
    for mark in &buf.marks {
        out.push((at..mark.start, false));
        out.push((mark.clone(), true));
        at = mark.end;
    }
    out.push((at..buf.s.len(), false));
    out
}

fn grouped(digits: &str, comma: bool) -> String {
    if !comma {
        return digits.to_owned();
    }
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}
