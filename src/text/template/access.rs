//! Attributes, subscripts, slices and iteration, as Jinja's sandbox gives them.

use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use super::eval::Machine;
use super::methods;
use super::value::{Buf, List, ListKind, Loop, Out, Text, Value, fail};

/// `value.name`: a method first, then an item; what is not there is undefined.
pub(super) fn attribute(m: &Machine, value: &Value, name: &Arc<str>) -> Out<Value> {
    if name.starts_with("__") {
        return fail(format!("SecurityError: access to attribute '{name}' is unsafe"));
    }
    let method = || Value::Method(Rc::new(value.clone()), Arc::clone(name));
    let found = match value {
        Value::Undefined(what) => return fail(format!("UndefinedError: {what} is undefined")),
        Value::Map(_) if methods::is_dict_method(name) => Some(method()),
        Value::Map(map) => map.find_str(name).cloned(),
        Value::Str(_) if methods::is_str_method(name) => Some(method()),
        Value::List(l) if l.kind != ListKind::Lazy && methods::is_list_method(name) => Some(method()),
        Value::Namespace(n) => n.fields.borrow().iter().find(|(f, _)| f == name).map(|(_, v)| v.clone()),
        Value::Loop(info) => loop_field(m, info, name)?.or_else(|| matches!(&**name, "cycle" | "changed").then(method)),
        Value::Cycler(c) => match &**name {
            "current" => c.items.get(c.at.get()).cloned(),
            "next" | "reset" => Some(method()),
            _ => None,
        },
        Value::Macro(def, _) if &**name == "name" => Some(m.text(&def.name)?),
        _ => None,
    };
    Ok(found.unwrap_or_else(|| missing(value, name)))
}

fn missing(value: &Value, name: &str) -> Value {
    Value::Undefined(format!("'{} object' attribute '{name}'", value.type_name()).into())
}

fn loop_field(m: &Machine, info: &Rc<Loop>, name: &str) -> Out<Option<Value>> {
    let (i, n) = (info.idx.get(), info.items.items.len());
    let int = |i: usize| Value::Int(i64::try_from(i).unwrap_or(i64::MAX));
    m.budget.burn(1)?;
    Ok(Some(match name {
        "index" => int(i + 1),
        "index0" => int(i),
        "revindex" => int(n - i),
        "revindex0" => int(n - i - 1),
        "first" => Value::Bool(i == 0),
        "last" => Value::Bool(i + 1 == n),
        "length" => int(n),
        "depth" => int(info.depth0 + 1),
        "depth0" => int(info.depth0),
        "previtem" => i
            .checked_sub(1)
            .and_then(|i| info.items.items.get(i).cloned())
            .unwrap_or_else(|| Value::undefined("there is no previous item")),
        "nextitem" => info.items.items.get(i + 1).cloned().unwrap_or_else(|| Value::undefined("there is no next item")),
        _ => return Ok(None),
    }))
}

/// `value[key]`.
pub(super) fn item(m: &Machine, value: &Value, key: &Value) -> Out<Value> {
    match (value, key) {
        (Value::Undefined(what), _) => fail(format!("UndefinedError: {what} is undefined")),
        (Value::Map(map), key) => {
            m.budget.burn(map.entries.len() / 16)?;
            if let Some(found) = map.find(key) {
                return Ok(found.clone());
            }
            match key {
                Value::Str(name) if methods::is_dict_method(&name.s) => attribute(m, value, &name.s.as_str().into()),
                Value::Str(name) => Ok(missing(value, &name.s)),
                _ => Ok(missing(value, "key")),
            }
        }
        (Value::List(l), key) if l.kind != ListKind::Lazy && key.as_i64().is_some() => {
            let i = key.as_i64().and_then(|i| index(i, l.items.len()));
            Ok(i.and_then(|i| l.items.get(i).cloned()).unwrap_or_else(|| missing(value, "element")))
        }
        (Value::Str(t), key) if key.as_i64().is_some() => {
            m.budget.burn(t.s.len() / 64)?;
            let n = t.s.chars().count();
            let Some(i) = key.as_i64().and_then(|i| index(i, n)) else { return Ok(missing(value, "element")) };
            let Some((at, c)) = t.s.char_indices().nth(i) else { return Ok(missing(value, "element")) };
            part(m, t, at..at + c.len_utf8())
        }
        (_, Value::Str(name)) => attribute(m, value, &name.s.as_str().into()),
        _ => Ok(missing(value, "element")),
    }
}

fn index(i: i64, n: usize) -> Option<usize> {
    let n = i64::try_from(n).ok()?;
    usize::try_from(if i < 0 { i.checked_add(n)? } else { i }).ok()
}

/// A byte range of a text as a value.
pub(super) fn part(m: &Machine, t: &Text, range: Range<usize>) -> Out<Value> {
    let mut buf = Buf { safe: t.safe, ..Buf::default() };
    buf.push_part(t, range)?;
    m.finish(buf)
}

type Bounds = (Option<i64>, Option<i64>, Option<i64>);

/// `value[start:stop:step]`.
pub(super) fn slice(m: &Machine, value: &Value, bounds: Bounds) -> Out<Value> {
    match value {
        Value::List(l) if l.kind != ListKind::Lazy => {
            let picked = indices(l.items.len(), bounds)?;
            m.list(picked.filter_map(|i| l.items.get(i).cloned()).collect(), l.kind)
        }
        Value::Str(t) => {
            m.budget.burn(t.s.len() / 16)?;
            let mut starts: Vec<usize> = t.s.char_indices().map(|(i, _)| i).collect();
            let n = starts.len();
            starts.push(t.s.len());
            let mut picked = indices(n, bounds)?.peekable();
            let mut buf = Buf::default();
            if bounds.2.unwrap_or(1) == 1 {
                let range = match picked.peek().copied() {
                    Some(a) => starts[a]..starts[a + picked.count()],
                    None => 0..0,
                };
                buf.push_part(t, range)?;
            } else {
                for i in picked {
                    buf.push_part(t, starts[i]..starts[i + 1])?;
                }
            }
            m.finish(buf)
        }
        Value::Undefined(what) => fail(format!("UndefinedError: {what} is undefined")),
        other => fail(format!("TypeError: '{}' object is not subscriptable", other.type_name())),
    }
}

/// The indices that Python's slice of a sequence of `n` items visits, all below `n`.
fn indices(n: usize, (start, stop, step): Bounds) -> Out<impl Iterator<Item = usize>> {
    let step = step.unwrap_or(1);
    if step == 0 {
        return fail("ValueError: slice step cannot be zero");
    }
    let n = i64::try_from(n).unwrap_or(i64::MAX);
    let (low, high) = if step > 0 { (0, n) } else { (-1, n - 1) };
    let clamp = |i: i64| (if i < 0 { i.saturating_add(n) } else { i }).clamp(low, high);
    let start = start.map_or(if step > 0 { low } else { high }, clamp);
    let stop = stop.map_or(if step > 0 { high } else { low }, clamp);
    let next = move |i: &i64| i.checked_add(step);
    Ok(std::iter::successors(Some(start), next)
        .take_while(move |&i| if step > 0 { i < stop } else { i > stop })
        .filter_map(|i| usize::try_from(i).ok()))
}

/// What `for` walks: items, keys, or characters.
pub(super) fn iterate(m: &Machine, value: &Value) -> Out<Rc<List>> {
    match value {
        Value::List(l) => Ok(Rc::clone(l)),
        Value::Map(map) => m.rc_list(map.entries.iter().map(|(k, _)| k.clone()).collect()),
        Value::Undefined(_) => m.rc_list(Vec::new()),
        Value::Str(t) => {
            let items: Out<Vec<_>> = t.s.char_indices().map(|(i, c)| part(m, t, i..i + c.len_utf8())).collect();
            m.rc_list(items?)
        }
        other => fail(format!("TypeError: '{}' object is not iterable", other.type_name())),
    }
}
