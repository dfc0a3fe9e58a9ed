//! Operators with Python's meaning.

use std::cmp::Ordering;

use super::ast::{Cmp, Op};
use super::eval::Machine;
use super::value::{Buf, ListKind, MAX_LIST, Out, Value, fail};
use super::{format, methods};

pub(super) fn negate(value: &Value) -> Out<Value> {
    match (value.as_i64(), value) {
        (Some(i), _) => i.checked_neg().map_or_else(overflow, |i| Ok(Value::Int(i))),
        (_, Value::Float(f)) => Ok(Value::Float(-f)),
        _ => fail(format!("TypeError: bad operand type for unary -: '{}'", value.type_name())),
    }
}

pub(super) fn compare(m: &Machine, op: Cmp, a: &Value, b: &Value) -> Out<bool> {
    m.budget.burn(a.weight().min(b.weight()))?;
    Ok(match op {
        Cmp::Eq => a.same(b),
        Cmp::Ne => !a.same(b),
        Cmp::In => contains(m, b, a)?,
        Cmp::NotIn => !contains(m, b, a)?,
        Cmp::Lt => a.order(b)? == Ordering::Less,
        Cmp::Le => a.order(b)? != Ordering::Greater,
        Cmp::Gt => a.order(b)? == Ordering::Greater,
        Cmp::Ge => a.order(b)? != Ordering::Less,
    })
}

/// Python's `needle in hay`.
pub(super) fn contains(m: &Machine, hay: &Value, needle: &Value) -> Out<bool> {
    m.budget.burn(hay.weight())?;
    match (hay, needle) {
        (Value::Str(h), Value::Str(n)) => Ok(h.s.contains(&n.s)),
        (Value::Str(_), n) => {
            fail(format!("TypeError: 'in <string>' requires string as left operand, not {}", n.type_name()))
        }
        (Value::List(l), n) => Ok(l.items.iter().any(|v| v.same(n))),
        (Value::Map(map), n) => Ok(map.find(n).is_some()),
        (Value::Undefined(_), _) => Ok(false),
        (h, _) => fail(format!("TypeError: argument of type '{}' is not iterable", h.type_name())),
    }
}

pub(super) fn math(m: &Machine, op: Op, a: &Value, b: &Value) -> Out<Value> {
    if let Value::Undefined(name) = a {
        return fail(format!("UndefinedError: {name} is undefined"));
    }
    match (op, a, b) {
        (Op::Mod, Value::Str(t), _) => return format::percent(m, t, b),
        (_, _, Value::Undefined(name)) => return fail(format!("UndefinedError: {name} is undefined")),
        (Op::Add, Value::Str(x), Value::Str(y)) => {
            let mut buf = Buf { safe: x.safe || y.safe, ..Buf::default() };
            for t in [x, y] {
                if buf.safe && !t.safe {
                    buf.push_text(&*methods::escaped(m, t)?)?;
                } else {
                    buf.push_text(t)?;
                }
            }
            return m.finish(buf);
        }
        (Op::Add, Value::List(x), Value::List(y)) if x.kind == y.kind && x.kind != ListKind::Lazy => {
            if x.items.len() + y.items.len() > MAX_LIST {
                return fail(format!("the template builds a list of more than {MAX_LIST} items"));
            }
            return m.list(x.items.iter().chain(&y.items).cloned().collect(), x.kind);
        }
        (Op::Mul, Value::Str(_) | Value::List(_), n) if n.as_i64().is_some() => return repeat(m, a, n),
        (Op::Mul, n, Value::Str(_) | Value::List(_)) if n.as_i64().is_some() => return repeat(m, b, n),
        (Op::Add, Value::Str(_), other) => {
            return fail(format!("TypeError: can only concatenate str (not \"{}\") to str", other.type_name()));
        }
        _ => {}
    }
    match (a.as_i64(), b.as_i64(), a.as_f64(), b.as_f64()) {
        (Some(x), Some(y), ..) => integers(op, x, y),
        (_, _, Some(x), Some(y)) => floats(op, x, y),
        _ => fail(format!("TypeError: unsupported operand types: '{}' and '{}'", a.type_name(), b.type_name())),
    }
}

fn overflow<T>() -> Out<T> {
    fail("OverflowError: a number is out of range")
}

fn integers(op: Op, x: i64, y: i64) -> Out<Value> {
    if y == 0 && matches!(op, Op::Div | Op::FloorDiv | Op::Mod) {
        return fail("ZeroDivisionError: division by zero");
    }
    // Python rounds towards minus infinity and gives the remainder the divisor's sign.
    let uneven = |x: i64, y: i64| x.checked_rem(y).is_some_and(|r| r != 0) && ((x < 0) != (y < 0));
    let result = match op {
        Op::Add => x.checked_add(y),
        Op::Sub => x.checked_sub(y),
        Op::Mul => x.checked_mul(y),
        Op::Div => return Ok(Value::Float(x as f64 / y as f64)),
        Op::FloorDiv => x.checked_div(y).map(|q| q - i64::from(uneven(x, y))),
        Op::Mod => x.checked_rem(y).map(|r| if uneven(x, y) { r + y } else { r }),
        Op::Pow if y < 0 => return floats(op, x as f64, y as f64),
        Op::Pow => u32::try_from(y).ok().and_then(|y| x.checked_pow(y)),
    };
    result.map_or_else(overflow, |i| Ok(Value::Int(i)))
}

fn floats(op: Op, x: f64, y: f64) -> Out<Value> {
    if y == 0.0 && matches!(op, Op::Div | Op::FloorDiv | Op::Mod) {
        return fail("ZeroDivisionError: float division by zero");
    }
    Ok(Value::Float(match op {
        Op::Add => x + y,
        Op::Sub => x - y,
        Op::Mul => x * y,
        Op::Div => x / y,
        Op::FloorDiv => (x / y).floor(),
        Op::Mod => x - (x / y).floor() * y,
        Op::Pow => x.powf(y),
    }))
}

fn repeat(m: &Machine, what: &Value, n: &Value) -> Out<Value> {
    let n = usize::try_from(n.as_i64().unwrap_or(0).max(0)).unwrap_or(usize::MAX);
    match what {
        Value::Str(t) => {
            let mut buf = Buf { safe: t.safe, ..Buf::default() };
            if !t.s.is_empty() {
                for _ in 0..n {
                    buf.push_text(t)?;
                    m.budget.burn(1)?;
                }
            }
            m.finish(buf)
        }
        Value::List(l) if l.kind != ListKind::Lazy => {
            if l.items.len().saturating_mul(n) > MAX_LIST {
                return fail(format!("the template builds a list of more than {MAX_LIST} items"));
            }
            let mut items = Vec::with_capacity(l.items.len() * n);
            if !l.items.is_empty() {
                for _ in 0..n {
                    items.extend(l.items.iter().cloned());
                }
            }
            m.list(items, l.kind)
        }
        other => fail(format!("TypeError: cannot repeat '{}'", other.type_name())),
    }
}
