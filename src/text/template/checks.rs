//! Tests: what stands behind `is`.

use super::ast::Cmp;
use super::eval::{CallArgs, Machine};
use super::operators;
use super::value::{ListKind, Out, Value, fail};

/// `value is name(args)`.
pub(super) fn test(m: &Machine, name: &str, value: &Value, args: &CallArgs) -> Out<bool> {
    let other = || match args.positional.first() {
        Some(v) => Ok(v),
        None => fail(format!("TypeError: test `{name}` needs an argument")),
    };
    let compare = |op| operators::compare(m, op, value, other()?);
    Ok(match name {
        "defined" => !matches!(value, Value::Undefined(_)),
        "undefined" => matches!(value, Value::Undefined(_)),
        "none" => matches!(value, Value::None),
        "boolean" => matches!(value, Value::Bool(_)),
        "true" => matches!(value, Value::Bool(true)),
        "false" => matches!(value, Value::Bool(false)),
        "integer" => matches!(value, Value::Int(_)),
        "float" => matches!(value, Value::Float(_)),
        "number" => value.as_f64().is_some(),
        "string" => matches!(value, Value::Str(_)),
        "mapping" => matches!(value, Value::Map(_)),
        "iterable" => matches!(value, Value::Str(_) | Value::List(_) | Value::Map(_) | Value::Undefined(_)),
        // Python asks for a length and items, which strings and dicts have as well.
        "sequence" => match value {
            Value::List(l) => l.kind != ListKind::Lazy,
            _ => matches!(value, Value::Str(_) | Value::Map(_)),
        },
        "callable" => matches!(value, Value::Macro(..) | Value::Function(_) | Value::Method(..)),
        "escaped" => false,
        "sameas" => match (value, other()?) {
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Bool(_), _) | (_, Value::Bool(_)) => false,
            (a, b) => a.same(b),
        },
        "odd" | "even" | "divisibleby" => {
            let by = if name == "divisibleby" { other()?.as_i64() } else { Some(2) };
            match (value.as_i64(), by) {
                (Some(_), Some(0)) => return fail("ZeroDivisionError: division by zero"),
                (Some(i), Some(by)) => (i.checked_rem(by).unwrap_or(0) == 0) != (name == "odd"),
                _ => return fail(format!("TypeError: test `{name}` needs integers")),
            }
        }
        "lower" | "upper" => match value {
            Value::Str(t) => {
                let wrong = |c: char| if name == "lower" { c.is_uppercase() } else { c.is_lowercase() };
                t.s.chars().any(|c| c.is_lowercase() || c.is_uppercase()) && !t.s.chars().any(wrong)
            }
            _ => false,
        },
        "eq" | "equalto" | "==" => compare(Cmp::Eq)?,
        "ne" | "!=" => compare(Cmp::Ne)?,
        "lt" | "lessthan" | "<" => compare(Cmp::Lt)?,
        "le" | "<=" => compare(Cmp::Le)?,
        "gt" | "greaterthan" | ">" => compare(Cmp::Gt)?,
        "ge" | ">=" => compare(Cmp::Ge)?,
        "in" => compare(Cmp::In)?,
        "filter" => matches!(value, Value::Str(t) if super::filters::exists(&t.s)),
        "test" => matches!(value, Value::Str(t) if NAMES.contains(&t.s.as_str())),
        _ => return fail(format!("TemplateRuntimeError: no test named `{}`", crate::error::printable(name))),
    })
}

const NAMES: [&str; 33] = [
    "defined",
    "undefined",
    "none",
    "boolean",
    "true",
    "false",
    "integer",
    "float",
    "number",
    "string",
    "mapping",
    "iterable",
    "sequence",
    "callable",
    "escaped",
    "sameas",
    "odd",
    "even",
    "divisibleby",
    "lower",
    "upper",
    "eq",
    "equalto",
    "ne",
    "lt",
    "lessthan",
    "le",
    "gt",
    "greaterthan",
    "ge",
    "in",
    "filter",
    "test",
];
