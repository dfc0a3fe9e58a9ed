//! Methods of Python's strings, dicts and lists. Those that change their object are refused, as in the sandbox.

use std::ops::Range;
use std::rc::Rc;

use super::eval::{CallArgs, Machine};
use super::value::{Buf, ListKind, MAX_LIST, Out, Text, Value, fail};
use super::{access, format};

const STR: [&str; 41] = [
    "strip",
    "lstrip",
    "rstrip",
    "split",
    "rsplit",
    "splitlines",
    "replace",
    "startswith",
    "endswith",
    "upper",
    "lower",
    "title",
    "capitalize",
    "swapcase",
    "casefold",
    "find",
    "rfind",
    "index",
    "rindex",
    "count",
    "format",
    "join",
    "isdigit",
    "isalpha",
    "isalnum",
    "isspace",
    "isupper",
    "islower",
    "isnumeric",
    "isdecimal",
    "isidentifier",
    "isascii",
    "zfill",
    "ljust",
    "rjust",
    "center",
    "removeprefix",
    "removesuffix",
    "partition",
    "rpartition",
    "expandtabs",
];
const DICT: [&str; 10] = ["items", "keys", "values", "get", "copy", "pop", "update", "clear", "setdefault", "popitem"];
const LIST: [&str; 11] =
    ["index", "count", "copy", "append", "extend", "insert", "pop", "remove", "clear", "sort", "reverse"];

pub(super) fn is_str_method(name: &str) -> bool {
    STR.contains(&name)
}

pub(super) fn is_dict_method(name: &str) -> bool {
    DICT.contains(&name)
}

pub(super) fn is_list_method(name: &str) -> bool {
    LIST.contains(&name)
}

/// `receiver.name(args)`.
pub(super) fn call(m: &mut Machine, receiver: &Value, name: &str, args: &CallArgs) -> Out<Value> {
    match receiver {
        Value::Str(t) => string(m, t, name, args),
        Value::Map(map) => match name {
            "items" => {
                let pair = |(k, v): &(Value, Value)| m.list(vec![k.clone(), v.clone()], ListKind::Tuple);
                let pairs: Out<Vec<_>> = map.entries.iter().map(pair).collect();
                m.list(pairs?, ListKind::Lazy)
            }
            "keys" => m.list(map.entries.iter().map(|(k, _)| k.clone()).collect(), ListKind::Lazy),
            "values" => m.list(map.entries.iter().map(|(_, v)| v.clone()).collect(), ListKind::Lazy),
            "copy" => Ok(receiver.clone()),
            "get" => {
                let Some(key) = args.take(0, "key") else { return fail("TypeError: get() needs a key") };
                m.budget.burn(map.entries.len() / 16)?;
                let default = || args.take(1, "default").cloned().unwrap_or(Value::None);
                Ok(map.find(key).cloned().unwrap_or_else(default))
            }
            _ => unsafe_method(receiver, name),
        },
        Value::List(l) => match name {
            "copy" => Ok(receiver.clone()),
            "count" | "index" => {
                let Some(item) = args.take(0, "value") else {
                    return fail(format!("TypeError: {name}() needs a value"));
                };
                m.budget.burn(receiver.weight())?;
                if name == "count" {
                    return int(l.items.iter().filter(|v| v.same(item)).count());
                }
                l.items.iter().position(|v| v.same(item)).map_or_else(|| fail("ValueError: not in list"), int)
            }
            _ => unsafe_method(receiver, name),
        },
        Value::Cycler(c) => {
            let at = c.at.get();
            c.at.set(if name == "reset" { 0 } else { (at + 1) % c.items.len() });
            Ok(if name == "reset" { Value::None } else { c.items[at].clone() })
        }
        Value::Loop(info) if name == "cycle" => match args.positional.len() {
            0 => fail("TypeError: no items for cycling given"),
            n => Ok(args.positional[info.idx.get() % n].clone()),
        },
        Value::Loop(info) => {
            let now = m.list(args.positional.clone(), ListKind::Tuple)?;
            let before = info.changed.replace(Some(now.clone()));
            Ok(Value::Bool(!before.is_some_and(|b| b.same(&now))))
        }
        other => fail(format!("'{} object' has no method '{name}'", other.type_name())),
    }
}

fn unsafe_method<T>(receiver: &Value, name: &str) -> Out<T> {
    fail(format!("SecurityError: access to attribute '{name}' of '{}' object is unsafe", receiver.type_name()))
}

fn int(n: usize) -> Out<Value> {
    Ok(Value::Int(i64::try_from(n).unwrap_or(i64::MAX)))
}

fn string(m: &mut Machine, t: &Rc<Text>, name: &str, args: &CallArgs) -> Out<Value> {
    m.budget.burn(1 + t.s.len() / 64)?;
    let text = |at: usize, key: &str| match args.take(at, key) {
        Some(Value::Str(s)) => Ok(s),
        Some(other) => fail(format!("TypeError: {name}() needs a str, not {}", other.type_name())),
        None => fail(format!("TypeError: {name}() needs an argument")),
    };
    let whole = || Ok(Value::Str(Rc::clone(t)));
    match name {
        "strip" | "lstrip" | "rstrip" => {
            let chars = match args.take(0, "chars") {
                None | Some(Value::None) => None,
                Some(_) => Some(text(0, "chars")?.s.as_str()),
            };
            m.budget.burn(chars.map_or(0, str::len).saturating_mul(t.s.len()) / 256)?;
            access::part(m, t, stripped(&t.s, chars, name != "rstrip", name != "lstrip"))
        }
        "split" | "rsplit" => split(m, t, name == "rsplit", args),
        "splitlines" => {
            let lines: Out<Vec<_>> = lines(&t.s).into_iter().map(|r| access::part(m, t, r)).collect();
            m.list(lines?, ListKind::List)
        }
        "replace" => {
            let count = args.take(2, "count").and_then(Value::as_i64).and_then(|n| usize::try_from(n).ok());
            replace(m, t, text(0, "old")?, text(1, "new")?, count)
        }
        "startswith" | "endswith" => {
            let Some(range) = window(t, args)? else { return Ok(Value::Bool(false)) };
            let s = &t.s[range];
            let fits = |p: &Value| match p {
                Value::Str(p) if name == "startswith" => Ok(s.starts_with(&p.s)),
                Value::Str(p) => Ok(s.ends_with(&p.s)),
                other => fail(format!("TypeError: {name}() needs a str, not {}", other.type_name())),
            };
            match args.take(0, "prefix") {
                Some(Value::List(all)) => {
                    let mut found = false;
                    for p in &all.items {
                        found |= fits(p)?;
                    }
                    Ok(Value::Bool(found))
                }
                Some(p) => fits(p).map(Value::Bool),
                None => fail(format!("TypeError: {name}() needs an argument")),
            }
        }
        "upper" => mapped(m, t, str::to_uppercase),
        "lower" | "casefold" => mapped(m, t, str::to_lowercase),
        "title" => titled(m, t, |before| !before.is_alphabetic()),
        "capitalize" => {
            let mut first = true;
            titled(m, t, move |_| std::mem::take(&mut first))
        }
        "swapcase" => mapped(m, t, |s| {
            let swap = |c: char| {
                if c.is_uppercase() { c.to_lowercase().collect() } else { c.to_uppercase().collect::<String>() }
            };
            s.chars().map(swap).collect()
        }),
        "find" | "rfind" | "index" | "rindex" => {
            let needle = text(0, "sub")?.s.as_str();
            let found = window(t, args)?.and_then(|range| {
                let s = &t.s[range.clone()];
                let at = if name.starts_with('r') { s.rfind(needle) } else { s.find(needle) };
                at.map(|at| range.start + at)
            });
            match found {
                Some(at) => int(t.s[..at].chars().count()),
                None if name.ends_with("find") => Ok(Value::Int(-1)),
                None => fail("ValueError: substring not found"),
            }
        }
        "count" => {
            let needle = text(0, "sub")?.s.as_str();
            let Some(range) = window(t, args)? else { return Ok(Value::Int(0)) };
            match needle {
                "" => int(t.s[range].chars().count() + 1),
                needle => int(t.s[range].matches(needle).count()),
            }
        }
        "format" => format::braces(m, t, args),
        "join" => {
            let Some(items) = args.positional.first() else { return fail("TypeError: join() needs a list") };
            let mut buf = Buf::default();
            for (i, item) in access::iterate(m, items)?.items.iter().enumerate() {
                let Value::Str(item) = item else {
                    return fail(format!(
                        "TypeError: sequence item {i}: expected str instance, {} found",
                        item.type_name()
                    ));
                };
                if i > 0 {
                    buf.push_text(t)?;
                }
                buf.push_text(item)?;
            }
            m.finish(buf)
        }
        "isdigit" | "isdecimal" | "isnumeric" => all_chars(t, char::is_numeric),
        "isalpha" => all_chars(t, char::is_alphabetic),
        "isalnum" => all_chars(t, char::is_alphanumeric),
        "isspace" => all_chars(t, char::is_whitespace),
        "isascii" => Ok(Value::Bool(t.s.is_ascii())),
        "isidentifier" => {
            let start = t.s.chars().next().is_some_and(|c| c.is_alphabetic() || c == '_');
            Ok(Value::Bool(start && t.s.chars().all(|c| c.is_alphanumeric() || c == '_')))
        }
        "isupper" => cased(t, char::is_lowercase),
        "islower" => cased(t, char::is_uppercase),
        "zfill" | "ljust" | "rjust" | "center" => justify(m, t, name, args),
        "removeprefix" => {
            let prefix = text(0, "prefix")?;
            if t.s.starts_with(&prefix.s) { access::part(m, t, prefix.s.len()..t.s.len()) } else { whole() }
        }
        "removesuffix" => {
            let suffix = text(0, "suffix")?;
            if t.s.ends_with(&suffix.s) { access::part(m, t, 0..t.s.len() - suffix.s.len()) } else { whole() }
        }
        "partition" | "rpartition" => {
            let sep = text(0, "sep")?;
            let found = if name == "partition" { t.s.find(&sep.s) } else { t.s.rfind(&sep.s) };
            let n = t.s.len();
            let ranges: [Range<usize>; 3] = match found {
                Some(at) => [0..at, at..at + sep.s.len(), at + sep.s.len()..n],
                None if name == "partition" => [0..n, n..n, n..n],
                None => [0..0, 0..0, 0..n],
            };
            let parts: Out<Vec<_>> = ranges.into_iter().map(|r| access::part(m, t, r)).collect();
            m.list(parts?, ListKind::Tuple)
        }
        "expandtabs" => mapped(m, t, |s| s.replace('\t', "        ")),
        _ => fail(format!("UndefinedError: 'str object' has no attribute '{name}'")),
    }
}

/// The bytes between the characters `start` and `end` of the second and third argument; `None` if start is behind the
/// end of the text.
fn window(t: &Text, args: &CallArgs) -> Out<Option<Range<usize>>> {
    if args.positional.len() < 2 {
        return Ok(Some(0..t.s.len()));
    }
    let n = t.s.chars().count();
    let at = |i: usize, default: usize| match args.positional.get(i) {
        None | Some(Value::None) => Ok(default),
        Some(v) => match v.as_i64() {
            Some(i) if i < 0 => Ok(n.saturating_sub(usize::try_from(i.unsigned_abs()).unwrap_or(usize::MAX))),
            Some(i) => Ok(usize::try_from(i).unwrap_or(usize::MAX)),
            None => fail("TypeError: slice indices must be integers"),
        },
    };
    let (start, end) = (at(1, 0)?, at(2, n)?.min(n));
    if start > n || start > end {
        return Ok(None);
    }
    let byte = |i: usize| t.s.char_indices().nth(i).map_or(t.s.len(), |(at, _)| at);
    Ok(Some(byte(start)..byte(end)))
}

fn all_chars(t: &Text, good: fn(char) -> bool) -> Out<Value> {
    Ok(Value::Bool(!t.s.is_empty() && t.s.chars().all(good)))
}

/// Whether there are cased letters and none of the `wrong` case.
fn cased(t: &Text, wrong: fn(char) -> bool) -> Out<Value> {
    let some = t.s.chars().any(|c| c.is_lowercase() || c.is_uppercase());
    Ok(Value::Bool(some && !t.s.chars().any(wrong)))
}

/// What remains after stripping `chars` (white space if none).
pub(super) fn stripped(s: &str, chars: Option<&str>, left: bool, right: bool) -> Range<usize> {
    // Python counts the separators U+001C..U+001F as white space.
    let drop = |c: char| chars.map_or(c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c), |set| set.contains(c));
    let start = if left { s.len() - s.trim_start_matches(drop).len() } else { 0 };
    let end = if right { start + s[start..].trim_end_matches(drop).len() } else { s.len() };
    start..end
}

/// Ranges of the lines as `splitlines` sees them, without their ends.
pub(super) fn lines(s: &str) -> Vec<Range<usize>> {
    let mut out = Vec::new();
    let mut from = 0;
    let mut chars = s.char_indices().peekable();
    while let Some((i, c)) = chars.next() {
        if !matches!(c, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}') {
            continue;
        }
        if out.len() > MAX_LIST {
            break;
        }
        out.push(from..i);
        from = i + c.len_utf8();
        if c == '\r' && chars.next_if(|&(_, c)| c == '\n').is_some() {
            from += 1;
        }
    }
    if from < s.len() {
        out.push(from..s.len());
    }
    out
}

/// Changes the text piece by piece, so that each piece keeps its origin.
pub(super) fn mapped(m: &Machine, t: &Text, change: impl Fn(&str) -> String) -> Out<Value> {
    let mut buf = Buf { safe: t.safe, ..Buf::default() };
    for (range, foreign) in t.segments() {
        buf.push(&change(&t.s[range]), foreign)?;
    }
    m.finish(buf)
}

/// The text with `& < > ' "` written for HTML.
pub(super) fn escaped(m: &Machine, t: &Text) -> Out<Rc<Text>> {
    let escape = |s: &str| {
        let s = s.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        s.replace('\'', "&#39;").replace('"', "&#34;")
    };
    let mut buf = Buf { safe: true, ..Buf::default() };
    for (range, foreign) in t.segments() {
        buf.push(&escape(&t.s[range]), foreign)?;
    }
    Text::new(&m.budget, buf)
}

/// Upper case for each letter before which `starts` (given the character before it) holds; lower case for the others.
pub(super) fn titled(m: &Machine, t: &Text, mut starts: impl FnMut(char) -> bool) -> Out<Value> {
    let mut buf = Buf { safe: t.safe, ..Buf::default() };
    let mut before = ' ';
    for (range, foreign) in t.segments() {
        let mut piece = String::new();
        for c in t.s[range].chars() {
            if starts(before) {
                piece.extend(c.to_uppercase());
            } else {
                piece.extend(c.to_lowercase());
            }
            before = c;
        }
        buf.push(&piece, foreign)?;
    }
    m.finish(buf)
}

pub(super) fn replace(m: &Machine, t: &Text, old: &Text, new: &Text, count: Option<usize>) -> Out<Value> {
    let mut buf = Buf { safe: t.safe, ..Buf::default() };
    let mut at = 0;
    // `match_indices` of an empty text finds every boundary, as Python does.
    for (i, found) in t.s.match_indices(&old.s).take(count.unwrap_or(usize::MAX)) {
        m.budget.burn(1)?;
        buf.push_part(t, at..i)?;
        buf.push_text(new)?;
        at = i + found.len();
    }
    buf.push_part(t, at..t.s.len())?;
    m.finish(buf)
}

fn split(m: &Machine, t: &Text, from_right: bool, args: &CallArgs) -> Out<Value> {
    let limit = args.take(1, "maxsplit").and_then(Value::as_i64).and_then(|n| usize::try_from(n).ok());
    let limit = limit.unwrap_or(usize::MAX);
    let s = t.s.as_str();
    let mut ranges: Vec<Range<usize>> = Vec::new();
    match args.take(0, "sep") {
        None | Some(Value::None) => {
            let mut words: Vec<Range<usize>> = s
                .split_whitespace()
                .take(MAX_LIST + 1)
                .map(|w| {
                    let at = w.as_ptr() as usize - s.as_ptr() as usize;
                    at..at + w.len()
                })
                .collect();
            if words.len() > limit {
                // What is beyond the limit stays together, with its inner white space.
                if from_right {
                    let cut = words.len() - limit;
                    let end = words[cut - 1].end;
                    words.splice(..cut, std::iter::once(0..end));
                } else {
                    let end = s.len();
                    let start = words[limit].start;
                    words.truncate(limit);
                    words.push(start..end);
                }
            }
            ranges = words;
        }
        Some(Value::Str(sep)) if !sep.s.is_empty() => {
            let n = sep.s.len();
            let mut cuts: Vec<usize> = if from_right {
                s.rmatch_indices(&sep.s).map(|(i, _)| i).take(limit).collect()
            } else {
                s.match_indices(&sep.s).map(|(i, _)| i).take(limit.min(MAX_LIST + 1)).collect()
            };
            cuts.sort_unstable();
            let mut at = 0;
            for cut in cuts {
                ranges.push(at..cut);
                at = cut + n;
            }
            ranges.push(at..s.len());
        }
        Some(Value::Str(_)) => return fail("ValueError: empty separator"),
        Some(other) => return fail(format!("TypeError: must be str or None, not {}", other.type_name())),
    }
    let parts: Out<Vec<_>> = ranges.into_iter().map(|r| access::part(m, t, r)).collect();
    m.list(parts?, ListKind::List)
}

fn justify(m: &Machine, t: &Text, name: &str, args: &CallArgs) -> Out<Value> {
    let width = args.take(0, "width").and_then(Value::as_i64).unwrap_or(0);
    let width = usize::try_from(width).unwrap_or(0);
    let fill = match args.take(1, "fillchar") {
        Some(Value::Str(f)) if f.s.chars().count() == 1 => f.s.as_str(),
        None => {
            if name == "zfill" {
                "0"
            } else {
                " "
            }
        }
        Some(_) => return fail("TypeError: the fill character must be exactly one character long"),
    };
    let missing = width.saturating_sub(t.s.chars().count());
    if missing > super::value::MAX_TEXT {
        return fail("the template builds too long a text");
    }
    let before = match name {
        "ljust" => 0,
        "center" => missing / 2 + (missing & width & 1),
        _ => missing,
    };
    let sign = usize::from(name == "zfill" && t.s.starts_with(['-', '+']));
    let mut buf = Buf::default();
    buf.push_part(t, 0..sign)?;
    buf.push(&fill.repeat(before), false)?;
    buf.push_part(t, sign..t.s.len())?;
    buf.push(&fill.repeat(missing - before), false)?;
    m.finish(buf)
}
