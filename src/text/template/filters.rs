//! Filters: what stands behind `|`.

use std::cmp::Ordering;
use std::rc::Rc;

use super::eval::{CallArgs, Machine};
use super::json::{self, Style};
use super::value::{Buf, Fail, List, ListKind, Out, Text, Value, fail};
use super::{access, checks, format, methods, operators};

const NAMES: [&str; 53] = [
    "abs",
    "attr",
    "batch",
    "capitalize",
    "center",
    "count",
    "d",
    "default",
    "dictsort",
    "e",
    "escape",
    "first",
    "float",
    "forceescape",
    "format",
    "groupby",
    "indent",
    "int",
    "items",
    "join",
    "last",
    "length",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "pprint",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "safe",
    "select",
    "selectattr",
    "slice",
    "sort",
    "string",
    "striptags",
    "sum",
    "title",
    "tojson",
    "trim",
    "truncate",
    "unique",
    "upper",
    "urlencode",
    "wordcount",
    "keys",
    "values",
    "strip",
    "from_json",
];

pub(super) fn exists(name: &str) -> bool {
    NAMES.contains(&name)
}

/// `value | name(args)`.
pub(super) fn apply(m: &mut Machine, name: &str, value: &Value, args: &CallArgs) -> Out<Value> {
    m.budget.burn(1)?;
    let arg_text = |at: usize, key: &str, default: &str| match args.take(at, key) {
        None | Some(Value::None) => m.text(default).and_then(|v| text(m, &v)),
        Some(v) => text(m, v),
    };
    let flag = |at: usize, key: &str| args.take(at, key).is_some_and(Value::truthy);
    match name {
        "default" | "d" => {
            let missing = matches!(value, Value::Undefined(_)) || (flag(1, "boolean") && !value.truthy());
            match args.take(0, "default_value") {
                Some(default) if missing => Ok(default.clone()),
                None if missing => m.text(""),
                _ => Ok(value.clone()),
            }
        }
        "string" | "pprint" => Ok(Value::Str(text(m, value)?)),
        "upper" => methods::mapped(m, &*text(m, value)?, str::to_uppercase),
        "lower" => methods::mapped(m, &*text(m, value)?, str::to_lowercase),
        "capitalize" | "center" => {
            let t = text(m, value)?;
            let mut args = CallArgs { positional: args.positional.clone(), named: args.named.clone() };
            if name == "center" && args.positional.is_empty() && args.named.is_empty() {
                args.positional.push(Value::Int(80));
            }
            methods::call(m, &Value::Str(t), name, &args)
        }
        "title" => {
            let t = text(m, value)?;
            methods::titled(m, &t, |before| before.is_whitespace() || "-({[<".contains(before))
        }
        "format" => {
            let values = m.list(args.positional.clone(), ListKind::Tuple)?;
            format::percent(m, &*text(m, value)?, &values)
        }
        "trim" | "strip" => {
            let t = text(m, value)?;
            let chars = match args.take(0, "chars") {
                Some(Value::Str(c)) => Some(c.s.as_str()),
                _ => None,
            };
            m.budget.burn(chars.map_or(0, str::len).saturating_mul(t.s.len()) / 256)?;
            access::part(m, &t, methods::stripped(&t.s, chars, true, true))
        }
        "replace" => {
            let count = args.take(2, "count").and_then(Value::as_i64).and_then(|n| usize::try_from(n).ok());
            methods::replace(m, &*text(m, value)?, &*arg_text(0, "old", "")?, &*arg_text(1, "new", "")?, count)
        }
        "indent" => indent(m, &*text(m, value)?, args),
        "escape" | "e" | "forceescape" => {
            let t = text(m, value)?;
            Ok(Value::Str(if t.safe && name != "forceescape" { t } else { methods::escaped(m, &t)? }))
        }
        "safe" => {
            let mut buf = Buf { safe: true, ..Buf::default() };
            buf.push_text(&*text(m, value)?)?;
            m.finish(buf)
        }
        "striptags" => {
            let t = text(m, value)?;
            let mut inside = false;
            let plain: String =
                t.s.chars()
                    .filter(|&c| {
                        let keep = !inside && c != '<';
                        inside = c == '<' || (inside && c != '>');
                        keep
                    })
                    .collect();
            let words: Vec<&str> = plain.split_whitespace().collect();
            Value::marked(&m.budget, &words.join(" "), t.foreign())
        }
        "truncate" => truncate(m, &text(m, value)?, args),
        "urlencode" => methods::mapped(m, &*text(m, value)?, |s| {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"_.-~/".contains(&b);
            s.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
        }),
        "wordcount" => {
            let t = text(m, value)?;
            int(t.s.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|w| !w.is_empty()).count())
        }
        "tojson" => {
            let style = json_style(args)?;
            let mut buf = Buf::default();
            json::write(value, &style, 0, &mut buf)?;
            m.finish(buf)
        }
        "from_json" => {
            let t = text(m, value)?;
            let parsed: serde_json::Value =
                serde_json::from_str(&t.s).map_err(|e| Fail(format!("JSONDecodeError: {e}")))?;
            json::from_json(&m.budget, &parsed)
        }
        "length" | "count" => match value {
            Value::Str(t) => int(t.s.chars().count()),
            Value::List(l) if l.kind != ListKind::Lazy => int(l.items.len()),
            Value::Map(map) => int(map.entries.len()),
            Value::Undefined(_) => Ok(Value::Int(0)),
            other => fail(format!("TypeError: object of type '{}' has no len()", other.type_name())),
        },
        "items" | "keys" | "values" => match value {
            Value::Map(_) => methods::call(m, value, name, args),
            Value::Undefined(_) => m.list(Vec::new(), ListKind::Lazy),
            _ => fail("TypeError: Can only get item pairs from a mapping."),
        },
        "int" => number_of(value, args, true),
        "float" => number_of(value, args, false),
        "abs" => match (value.as_i64(), value) {
            (Some(i), _) => Ok(Value::Int(i.checked_abs().unwrap_or(i64::MAX))),
            (_, Value::Float(f)) => Ok(Value::Float(f.abs())),
            _ => fail(format!("TypeError: bad operand type for abs(): '{}'", value.type_name())),
        },
        "round" => {
            let Some(f) = value.as_f64() else { return fail("TypeError: round needs a number") };
            let precision = args.take(0, "precision").and_then(Value::as_i64).unwrap_or(0).clamp(-300, 300);
            let scale = 10f64.powi(i32::try_from(precision).unwrap_or(0));
            let rounded = match args.take(1, "method") {
                Some(Value::Str(t)) if t.s == "ceil" => (f * scale).ceil(),
                Some(Value::Str(t)) if t.s == "floor" => (f * scale).floor(),
                _ => (f * scale).round_ties_even(),
            };
            Ok(Value::Float(rounded / scale))
        }
        "attr" => match args.take(0, "name") {
            Some(Value::Str(n)) => match value {
                Value::Map(_) => Ok(Value::undefined("attribute")),
                _ => access::attribute(m, value, &n.s.as_str().into()),
            },
            _ => fail("TypeError: attr needs a name"),
        },
        "reverse" => match value {
            Value::Str(_) => access::slice(m, value, (None, None, Some(-1))),
            _ => {
                let items = access::iterate(m, value)?;
                m.list(items.items.iter().rev().cloned().collect(), ListKind::Lazy)
            }
        },
        _ => of_items(m, name, value, args),
    }
}

/// Filters over the items of a list.
fn of_items(m: &mut Machine, name: &str, value: &Value, args: &CallArgs) -> Out<Value> {
    if !exists(name) {
        return fail(format!("TemplateAssertionError: no filter named `{}`", crate::error::printable(name)));
    }
    // Jinja asks `if value` before it walks, so these accept None.
    if matches!(name, "map" | "select" | "reject" | "selectattr" | "rejectattr") && !value.truthy() {
        return m.list(Vec::new(), ListKind::Lazy);
    }
    let items = access::iterate(m, value)?;
    m.budget.burn(items.items.len() / 4)?;
    let n = args.positional.first().and_then(Value::as_i64).and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
    match name {
        "first" => Ok(items.items.first().cloned().unwrap_or_else(|| Value::undefined("the first item"))),
        "last" => Ok(items.items.last().cloned().unwrap_or_else(|| Value::undefined("the last item"))),
        "list" => m.list(items.items.clone(), ListKind::List),
        "join" => {
            let separator = match args.take(0, "d") {
                Some(v) => text(m, v)?,
                None => text(m, &m.text("")?)?,
            };
            let mut buf = Buf::default();
            for (i, item) in items.items.iter().enumerate() {
                if i > 0 {
                    buf.push_text(&separator)?;
                }
                keyed(m, item, args.take(1, "attribute"))?.print(&mut buf)?;
            }
            m.finish(buf)
        }
        "map" => {
            let mut out = Vec::with_capacity(items.items.len());
            let attribute = args.named.iter().find(|(n, _)| &**n == "attribute").map(|(_, v)| v);
            for item in &items.items {
                out.push(match (attribute, args.positional.first()) {
                    (Some(path), _) => {
                        let found = keyed(m, item, Some(path))?;
                        match args.take(usize::MAX, "default") {
                            Some(default) if matches!(found, Value::Undefined(_)) => default.clone(),
                            _ => found,
                        }
                    }
                    (None, Some(Value::Str(filter))) => {
                        let rest = CallArgs { positional: args.positional[1..].to_vec(), named: args.named.clone() };
                        apply(m, &filter.s, item, &rest)?
                    }
                    _ => return fail("FilterArgumentError: map requires a filter argument"),
                });
            }
            m.list(out, ListKind::Lazy)
        }
        "select" | "reject" | "selectattr" | "rejectattr" => select(m, name, &items, args),
        "sort" | "unique" | "min" | "max" | "groupby" => by_key(m, name, &items, args),
        "dictsort" => {
            let Value::Map(map) = value else { return fail("TypeError: dictsort needs a dict") };
            let at = usize::from(matches!(args.take(1, "by"), Some(Value::Str(t)) if t.s == "value"));
            let mut pairs: Vec<(Value, Value)> = Vec::with_capacity(map.entries.len());
            for (k, v) in &map.entries {
                let key = folded(m, if at == 0 { k } else { v }, args.take(0, "case_sensitive"))?;
                pairs.push((key, m.list(vec![k.clone(), v.clone()], ListKind::Tuple)?));
            }
            sort_pairs(m, &mut pairs, args.take(2, "reverse").is_some_and(Value::truthy))?;
            m.list(pairs.into_iter().map(|(_, pair)| pair).collect(), ListKind::List)
        }
        "sum" => {
            let mut total = args.take(1, "start").cloned().unwrap_or(Value::Int(0));
            for item in &items.items {
                let item = keyed(m, item, args.take(0, "attribute"))?;
                total = operators::math(m, super::ast::Op::Add, &total, &item)?;
            }
            Ok(total)
        }
        "batch" | "slice" => {
            let Some(n) = n else { return fail(format!("TypeError: {name} needs a positive number")) };
            let fill = args.take(1, "fill_with");
            let total = items.items.len();
            let mut out = Vec::new();
            let mut at = 0;
            let n_part = if name == "batch" { total.div_ceil(n) } else { n };
            for i in 0..n_part.min(super::value::MAX_LIST) {
                let len = if name == "batch" { n.min(total - at) } else { total / n + usize::from(i < total % n) };
                let mut part: Vec<Value> = items.items[at..at + len].to_vec();
                at += len;
                if let Some(fill) = fill {
                    let full = if name == "batch" { n.min(super::value::MAX_LIST) } else { total.div_ceil(n) };
                    part.resize(full.max(part.len()), fill.clone());
                }
                out.push(m.list(part, ListKind::List)?);
            }
            m.list(out, ListKind::Lazy)
        }
        _ => fail(format!("TemplateAssertionError: no filter named `{name}`")),
    }
}

fn int(n: usize) -> Out<Value> {
    Ok(Value::Int(i64::try_from(n).unwrap_or(i64::MAX)))
}

/// The value as Python's `str()` gives it.
fn text(m: &Machine, value: &Value) -> Out<Rc<Text>> {
    if let Value::Str(t) = value {
        return Ok(Rc::clone(t));
    }
    let mut buf = Buf::default();
    value.print(&mut buf)?;
    Text::new(&m.budget, buf)
}

/// The item, or what the dotted path in `attribute` leads to.
fn keyed(m: &Machine, item: &Value, attribute: Option<&Value>) -> Out<Value> {
    match attribute {
        None | Some(Value::None) => Ok(item.clone()),
        Some(Value::Str(path)) => {
            let mut value = item.clone();
            for step in path.s.split('.') {
                let key = step.parse().map_or_else(|_| m.text(step), |i| Ok(Value::Int(i)))?;
                value = access::item(m, &value, &key)?;
            }
            Ok(value)
        }
        Some(key) => access::item(m, item, key),
    }
}

fn select(m: &Machine, name: &str, items: &Rc<List>, args: &CallArgs) -> Out<Value> {
    let by_attribute = name.ends_with("attr");
    let wanted = name.starts_with("select");
    let mut rest = args.positional.as_slice();
    let attribute = match (by_attribute, rest.split_first()) {
        (true, Some((first, tail))) => {
            rest = tail;
            Some(first)
        }
        (true, None) => return fail("FilterArgumentError: missing parameter for attribute name"),
        (false, _) => None,
    };
    let test = match rest.split_first() {
        Some((Value::Str(test), tail)) => Some((test, CallArgs { positional: tail.to_vec(), named: Vec::new() })),
        Some(_) => return fail("TypeError: the name of a test must be a string"),
        None => None,
    };
    let mut out = Vec::new();
    for item in &items.items {
        let value = keyed(m, item, attribute)?;
        let fits = match &test {
            Some((test, args)) => checks::test(m, &test.s, &value, args)?,
            None => value.truthy(),
        };
        if fits == wanted {
            out.push(item.clone());
        }
    }
    m.list(out, ListKind::Lazy)
}

/// Keys compare without regard to case unless asked.
fn folded(m: &Machine, key: &Value, case_sensitive: Option<&Value>) -> Out<Value> {
    match key {
        Value::Str(t) if !case_sensitive.is_some_and(Value::truthy) => m.text(&t.s.to_lowercase()),
        other => Ok(other.clone()),
    }
}

fn sort_pairs(m: &Machine, pairs: &mut [(Value, Value)], reverse: bool) -> Out<()> {
    m.budget.burn(pairs.len() * usize::try_from(pairs.len().max(1).ilog2() + 1).unwrap_or(1))?;
    let mut failed = None;
    pairs.sort_by(|a, b| {
        let order = a.0.order(&b.0).unwrap_or_else(|e| {
            failed = Some(e);
            Ordering::Equal
        });
        if reverse { order.reverse() } else { order }
    });
    failed.map_or(Ok(()), Err)
}

fn by_key(m: &Machine, name: &str, items: &Rc<List>, args: &CallArgs) -> Out<Value> {
    // The places of `case_sensitive` and `attribute` differ between these filters.
    let (case_at, attribute_at) = match name {
        "sort" => (1, 2),
        "groupby" => (usize::MAX, 0),
        _ => (0, 1),
    };
    let (case, attribute) = (args.take(case_at, "case_sensitive"), args.take(attribute_at, "attribute"));
    let mut pairs = Vec::with_capacity(items.items.len());
    for item in &items.items {
        let key = keyed(m, item, attribute)?;
        pairs.push((if name == "groupby" { key } else { folded(m, &key, case)? }, item.clone()));
    }
    match name {
        "sort" => {
            sort_pairs(m, &mut pairs, args.take(0, "reverse").is_some_and(Value::truthy))?;
            m.list(pairs.into_iter().map(|(_, item)| item).collect(), ListKind::List)
        }
        "unique" => {
            let mut kept: Vec<(Value, Value)> = Vec::new();
            for (key, item) in pairs {
                m.budget.burn(1 + kept.len() / 8 * (1 + key.weight()))?;
                if !kept.iter().any(|(k, _)| k.same(&key)) {
                    kept.push((key, item));
                }
            }
            m.list(kept.into_iter().map(|(_, item)| item).collect(), ListKind::Lazy)
        }
        "groupby" => {
            sort_pairs(m, &mut pairs, false)?;
            let mut groups: Vec<(Value, Vec<Value>)> = Vec::new();
            for (key, item) in pairs {
                match groups.last_mut() {
                    Some((k, group)) if k.same(&key) => group.push(item),
                    _ => groups.push((key, vec![item])),
                }
            }
            let pair = |(key, group)| m.list(vec![key, m.list(group, ListKind::List)?], ListKind::Tuple);
            let groups: Out<Vec<_>> = groups.into_iter().map(pair).collect();
            m.list(groups?, ListKind::List)
        }
        _ => {
            let mut best: Option<(Value, Value)> = None;
            for (key, item) in pairs {
                let better = match &best {
                    None => true,
                    Some((k, _)) => key.order(k)? == if name == "min" { Ordering::Less } else { Ordering::Greater },
                };
                if better {
                    best = Some((key, item));
                }
            }
            Ok(best.map_or_else(|| Value::undefined("the extreme of no items"), |(_, item)| item))
        }
    }
}

fn indent(m: &Machine, t: &Text, args: &CallArgs) -> Out<Value> {
    let by = match args.take(0, "width") {
        Some(Value::Str(s)) => s.s.clone(),
        Some(v) => " ".repeat(usize::try_from(v.as_i64().unwrap_or(4)).unwrap_or(0).min(10_000)),
        None => "    ".to_owned(),
    };
    let (first, blank) =
        (args.take(1, "first").is_some_and(Value::truthy), args.take(2, "blank").is_some_and(Value::truthy));
    let mut lines = methods::lines(&t.s);
    // Jinja adds a newline before it splits, so that a trailing one gives an empty last line.
    if t.s.is_empty() || lines.last().is_some_and(|l| l.end < t.s.len()) {
        lines.push(t.s.len()..t.s.len());
    }
    let mut buf = Buf::default();
    for (i, line) in lines.into_iter().enumerate() {
        if i > 0 {
            buf.push("\n", t.foreign())?;
        }
        if (i == 0 && first) || (i > 0 && (blank || !line.is_empty())) {
            buf.push(&by, false)?;
        }
        buf.push_part(t, line)?;
    }
    m.finish(buf)
}

fn truncate(m: &Machine, t: &Rc<Text>, args: &CallArgs) -> Out<Value> {
    let number = |at, key, default| {
        let n = args.take(at, key).and_then(Value::as_i64).unwrap_or(default);
        usize::try_from(n).unwrap_or(0)
    };
    let (length, leeway) = (number(0, "length", 255), number(3, "leeway", 5));
    let end = match args.take(2, "end") {
        Some(v) => text(m, v)?.s.clone(),
        None => "...".to_owned(),
    };
    if t.s.chars().count() <= length.saturating_add(leeway) {
        return Ok(Value::Str(Rc::clone(t)));
    }
    let keep = length.saturating_sub(end.chars().count());
    let mut cut = t.s.char_indices().nth(keep).map_or(t.s.len(), |(i, _)| i);
    if !args.take(1, "killwords").is_some_and(Value::truthy) {
        cut = t.s[..cut].rfind(' ').unwrap_or(cut);
    }
    let mut buf = Buf::default();
    buf.push_part(t, 0..cut)?;
    buf.push(&end, false)?;
    m.finish(buf)
}

fn number_of(value: &Value, args: &CallArgs, integer: bool) -> Out<Value> {
    let default =
        || args.take(0, "default").cloned().unwrap_or(if integer { Value::Int(0) } else { Value::Float(0.0) });
    let parsed = match value {
        Value::Str(t) => {
            let s = t.s.trim().replace('_', "");
            let base = args.take(1, "base").and_then(Value::as_i64).and_then(|b| u32::try_from(b).ok()).unwrap_or(10);
            if !(2..=36).contains(&base) {
                return Ok(default());
            }
            let digits = if base == 16 { s.trim_start_matches("0x") } else { &s };
            let whole = i64::from_str_radix(digits, base).ok().filter(|_| integer).map(Value::Int);
            whole.or_else(|| s.parse().ok().map(Value::Float))
        }
        Value::Undefined(_) | Value::None => None,
        other => other.as_i64().map(Value::Int).or_else(|| other.as_f64().map(Value::Float)),
    };
    Ok(match parsed {
        Some(Value::Float(f)) if integer && f.is_finite() => Value::Int(f.trunc() as i64),
        Some(Value::Float(_)) if integer => default(),
        Some(Value::Int(i)) if !integer => Value::Float(i as f64),
        Some(v) => v,
        None => default(),
    })
}

fn json_style(args: &CallArgs) -> Out<Style> {
    let named = |name: &str| args.named.iter().find(|(n, _)| &**n == name).map(|(_, v)| v);
    // Hugging Face's filter: tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False).
    let at = |i: usize, name: &str| named(name).or_else(|| args.positional.get(i));
    let indent = match at(1, "indent") {
        None | Some(Value::None) => None,
        Some(Value::Str(s)) => Some(s.s.clone()),
        Some(v) => Some(" ".repeat(usize::try_from(v.as_i64().unwrap_or(0)).unwrap_or(0).min(64))),
    };
    let mut separators = (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned());
    match at(2, "separators") {
        None | Some(Value::None) => {}
        Some(Value::List(pair)) => match pair.items.as_slice() {
            [Value::Str(item), Value::Str(key)] => separators = (item.s.clone(), key.s.clone()),
            _ => return fail("TypeError: separators must be two strings"),
        },
        Some(_) => return fail("TypeError: separators must be two strings"),
    }
    Ok(Style {
        indent,
        item_separator: separators.0,
        key_separator: separators.1,
        sort_keys: at(3, "sort_keys").is_some_and(Value::truthy),
        ascii: at(0, "ensure_ascii").is_some_and(Value::truthy),
    })
}
