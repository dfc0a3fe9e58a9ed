//! JSON in and out: messages to values, and Python's `json.dumps`.

use std::rc::Rc;

use super::value::{Budget, Buf, ListKind, MAX_NESTING, Out, Text, Value, fail};

/// How `tojson` writes.
pub(super) struct Style {
    pub(super) indent: Option<String>,
    pub(super) item_separator: String,
    pub(super) key_separator: String,
    pub(super) sort_keys: bool,
    pub(super) ascii: bool,
}

/// A value from JSON whose strings all came from people, but for roles: the application chooses those.
pub(super) fn from_json(budget: &Rc<Budget>, json: &serde_json::Value) -> Out<Value> {
    convert(budget, json, false, 0)
}

/// A variable of the application: a plain word is its own, everything else came from people.
pub(super) fn from_variable(budget: &Rc<Budget>, json: &serde_json::Value) -> Out<Value> {
    convert(budget, json, true, 0)
}

fn convert(budget: &Rc<Budget>, json: &serde_json::Value, role: bool, depth: usize) -> Out<Value> {
    use serde_json::Value as Json;
    if depth > MAX_NESTING {
        return fail("the messages are nested too deeply");
    }
    Ok(match json {
        Json::Null => Value::None,
        Json::Bool(b) => Value::Bool(*b),
        Json::Number(n) => match n.as_i64() {
            Some(i) => Value::Int(i),
            None => Value::Float(n.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(s) => {
            let plain = role && s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
            Value::marked(budget, s, !plain)?
        }
        Json::Array(items) => {
            let items: Out<Vec<_>> = items.iter().map(|v| convert(budget, v, false, depth + 1)).collect();
            Value::list(budget, items?, ListKind::List)?
        }
        Json::Object(map) => {
            let mut entries = Vec::with_capacity(map.len());
            for (k, v) in map {
                entries.push((Value::marked(budget, k, true)?, convert(budget, v, k == "role", depth + 1)?));
            }
            Value::unique_map(budget, entries)?
        }
    })
}

/// Appends `value` as JSON; what Python cannot write as JSON is an error.
pub(super) fn write(value: &Value, style: &Style, level: usize, out: &mut Buf) -> Out<()> {
    match value {
        Value::None => out.push("null", false),
        Value::Bool(b) => out.push(if *b { "true" } else { "false" }, false),
        Value::Int(_) => value.repr(out),
        Value::Float(f) if f.is_nan() => out.push("NaN", false),
        Value::Float(f) if f.is_infinite() => out.push(if *f > 0.0 { "Infinity" } else { "-Infinity" }, false),
        Value::Float(_) => value.repr(out),
        Value::Str(t) => write_text(t, style.ascii, out),
        Value::List(l) if l.kind != ListKind::Lazy => {
            out.push("[", false)?;
            for (i, item) in l.items.iter().enumerate() {
                out.push(if i > 0 { &style.item_separator } else { "" }, false)?;
                new_line(style, level + 1, out)?;
                write(item, style, level + 1, out)?;
            }
            if !l.items.is_empty() {
                new_line(style, level, out)?;
            }
            out.push("]", false)
        }
        Value::Map(m) => {
            out.push("{", false)?;
            let mut entries: Vec<_> = m.entries.iter().collect();
            if style.sort_keys {
                let mut failed = None;
                entries.sort_by(|a, b| {
                    a.0.order(&b.0).unwrap_or_else(|e| {
                        failed = Some(e);
                        std::cmp::Ordering::Equal
                    })
                });
                if let Some(e) = failed {
                    return Err(e);
                }
            }
            for (i, (k, v)) in entries.into_iter().enumerate() {
                out.push(if i > 0 { &style.item_separator } else { "" }, false)?;
                new_line(style, level + 1, out)?;
                match k {
                    Value::Str(t) => write_text(t, style.ascii, out)?,
                    Value::None | Value::Bool(_) | Value::Int(_) | Value::Float(_) => {
                        out.push("\"", false)?;
                        write(k, style, level, out)?;
                        out.push("\"", false)?;
                    }
                    other => return fail(format!("TypeError: keys must be str, not {}", other.type_name())),
                }
                out.push(&style.key_separator, false)?;
                write(v, style, level + 1, out)?;
            }
            if !m.entries.is_empty() {
                new_line(style, level, out)?;
            }
            out.push("}", false)
        }
        other => fail(format!("TypeError: Object of type {} is not JSON serializable", other.type_name())),
    }
}

fn new_line(style: &Style, level: usize, out: &mut Buf) -> Out<()> {
    let Some(indent) = &style.indent else { return Ok(()) };
    out.push("\n", false)?;
    for _ in 0..level {
        out.push(indent, false)?;
    }
    Ok(())
}

fn write_text(t: &Text, ascii: bool, out: &mut Buf) -> Out<()> {
    out.push("\"", false)?;
    for (range, foreign) in t.segments() {
        let text = &t.s[range];
        let mut plain_from = 0;
        for (i, c) in text.char_indices() {
            let escape = match c {
                '"' => "\\\"".to_owned(),
                '\\' => "\\\\".to_owned(),
                '\n' => "\\n".to_owned(),
                '\r' => "\\r".to_owned(),
                '\t' => "\\t".to_owned(),
                '\u{8}' => "\\b".to_owned(),
                '\u{c}' => "\\f".to_owned(),
                c if c < ' ' => format!("\\u{:04x}", u32::from(c)),
                c if ascii && !c.is_ascii() => {
                    c.encode_utf16(&mut [0; 2]).iter().map(|u| format!("\\u{u:04x}")).collect()
                }
                _ => continue,
            };
            out.push(&text[plain_from..i], foreign)?;
            out.push(&escape, foreign)?;
            plain_from = i + c.len_utf8();
        }
        out.push(&text[plain_from..], foreign)?;
    }
    out.push("\"", false)
}
