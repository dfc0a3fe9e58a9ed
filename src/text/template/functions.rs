//! Global functions of the Hugging Face environment.

use std::cell::Cell;
use std::rc::Rc;

use super::eval::{CallArgs, Machine};
use super::value::{Buf, Cycler, ListKind, Out, Value, fail};
use super::{access, time};

/// Longest `range`, as in Jinja2's sandbox.
const MAX_RANGE: i64 = 100_000;

const NAMES: [&str; 7] = ["range", "dict", "namespace", "raise_exception", "strftime_now", "cycler", "joiner"];

/// The global of that name.
pub(super) fn global(name: &str) -> Option<Value> {
    NAMES.iter().find(|n| **n == name).map(|n| Value::Function(n))
}

pub(super) fn call(m: &mut Machine, name: &str, args: &CallArgs) -> Out<Value> {
    match name {
        "range" => range(m, args),
        "dict" | "namespace" => {
            let mut entries = Vec::new();
            match args.positional.first() {
                None => {}
                Some(Value::Map(map)) => entries.extend(map.entries.iter().cloned()),
                Some(pairs) => {
                    for pair in &access::iterate(m, pairs)?.items {
                        match access::iterate(m, pair)?.items.as_slice() {
                            [k, v] => entries.push((k.clone(), v.clone())),
                            _ => return fail("ValueError: dict() needs pairs"),
                        }
                    }
                }
            }
            if name == "dict" {
                for (n, v) in &args.named {
                    // A name may come from `**` over people's keys.
                    entries.push((Value::marked(&m.budget, n, true)?, v.clone()));
                }
                return Value::map(&m.budget, entries);
            }
            let mut fields = Vec::new();
            for (k, v) in entries {
                if let Value::Str(k) = k {
                    fields.push((k.s.as_str().into(), v));
                }
            }
            fields.extend(args.named.iter().cloned());
            m.namespace(fields)
        }
        "raise_exception" => {
            let mut buf = Buf::default();
            if let Some(message) = args.take(0, "message") {
                message.print(&mut buf)?;
            }
            fail(buf.s)
        }
        "strftime_now" => match args.take(0, "format") {
            Some(Value::Str(format)) => Value::marked(&m.budget, &time::strftime(&format.s, m.now_s), format.foreign()),
            _ => fail("TypeError: strftime_now() needs a format"),
        },
        "cycler" | "joiner" => {
            let joiner = name == "joiner";
            let items = match (joiner, args.take(0, "sep")) {
                (false, _) => args.positional.clone(),
                (true, Some(sep)) => vec![sep.clone()],
                (true, None) => vec![m.text(", ")?],
            };
            if items.is_empty() {
                return fail("TypeError: cycler() needs items");
            }
            Ok(Value::Cycler(Rc::new(Cycler { items, at: Cell::new(0), joiner })))
        }
        _ => fail(format!("`{name}` is not a function")),
    }
}

/// Calls a joiner: empty the first time, the separator from then on.
pub(super) fn cycle(m: &Machine, cycler: &Cycler) -> Out<Value> {
    if !cycler.joiner {
        return fail("TypeError: 'Cycler' object is not callable");
    }
    if cycler.at.replace(1) == 0 { m.text("") } else { Ok(cycler.items[0].clone()) }
}

fn range(m: &Machine, args: &CallArgs) -> Out<Value> {
    let numbers: Option<Vec<i64>> = args.positional.iter().map(Value::as_i64).collect();
    let (start, stop, step) = match numbers.as_deref() {
        Some([stop]) => (0, *stop, 1),
        Some([start, stop]) => (*start, *stop, 1),
        Some([start, stop, step]) if *step != 0 => (*start, *stop, *step),
        _ => return fail("TypeError: range() needs one to three integers"),
    };
    let mut items = Vec::new();
    let mut at = start;
    while if step > 0 { at < stop } else { at > stop } {
        if items.len() as u64 >= MAX_RANGE.unsigned_abs() {
            return fail(format!("OverflowError: a range has more than {MAX_RANGE} items"));
        }
        items.push(Value::Int(at));
        let Some(next) = at.checked_add(step) else { break };
        at = next;
    }
    m.budget.burn(items.len() / 16)?;
    m.list(items, ListKind::List)
}
