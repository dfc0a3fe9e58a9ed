//! Values of a running template, and the account of the memory that they hold.
//!
//! Every string remembers which of its bytes came from people (messages, tools, documents) and which the
//! template itself wrote. Strings and lists never change once made, nest to a bounded depth, and are charged to
//! a [`Budget`] while they live, so that no chain of doublings can outgrow it.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use super::ast::{For, MacroDef};
use super::eval::Env;

/// A failure inside a template, in words.
#[derive(Debug)]
pub(super) struct Fail(pub(super) String);

/// Results of template code.
pub(super) type Out<T> = Result<T, Fail>;

pub(super) fn fail<T>(message: impl Into<String>) -> Out<T> {
    Err(Fail(message.into()))
}

/// Longest string that a template may build, in bytes; also the bound of its output.
pub(super) const MAX_TEXT: usize = 16 << 20;
/// Longest list that a template may build.
pub(super) const MAX_LIST: usize = 1 << 20;
/// Deepest nesting of lists and maps; serde_json refuses deeper input by default as well.
pub(super) const MAX_NESTING: usize = 128;
/// Most values that a container may stand for, shared ones counted each time: what a comparison walks.
const MAX_WALK: usize = 4 << 20;
/// What one string costs besides its bytes: the boxes and the marks around it.
const TEXT_OVERHEAD: usize = 96;
/// What one list element or half a map entry costs: a value, with room for growth of the vector.
const VALUE_BYTES: usize = 48;

/// Bytes that values may hold at one time, and steps that a rendering may still take.
pub(super) struct Budget {
    live_bytes: Cell<usize>,
    max_bytes: Cell<usize>,
    fuel: Cell<u64>,
}

impl Budget {
    /// An account without limits, for what the caller hands in.
    pub(super) fn open() -> Rc<Self> {
        Rc::new(Self { live_bytes: Cell::new(0), max_bytes: Cell::new(usize::MAX), fuel: Cell::new(u64::MAX) })
    }

    /// From here on values may hold `bytes` more than now, and take `fuel` steps and one for each 16 bytes held now.
    pub(super) fn limit(&self, bytes: usize, fuel: u64) {
        let live = self.live_bytes.get();
        self.max_bytes.set(live.saturating_add(bytes));
        self.fuel.set(fuel.saturating_add(live as u64 / 16));
    }

    /// Takes `steps` from the fuel.
    pub(super) fn burn(&self, steps: usize) -> Out<()> {
        match self.fuel.get().checked_sub(steps as u64) {
            Some(rest) => {
                self.fuel.set(rest);
                Ok(())
            }
            None => fail("the template takes too many steps"),
        }
    }

    fn charge(self: &Rc<Self>, bytes: usize) -> Out<Charge> {
        self.burn(1 + bytes / 256)?;
        let live = self.live_bytes.get().saturating_add(bytes);
        if live > self.max_bytes.get() {
            return fail(format!("the template holds more than {} MB of text and lists", self.max_bytes.get() >> 20));
        }
        self.live_bytes.set(live);
        Ok(Charge { budget: Rc::clone(self), bytes })
    }
}

/// Bytes given back to the budget when the value goes.
pub(super) struct Charge {
    budget: Rc<Budget>,
    bytes: usize,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.live_bytes.set(self.budget.live_bytes.get().saturating_sub(self.bytes));
    }
}

/// Text under construction with the byte ranges that came from people, sorted and disjoint.
#[derive(Default)]
pub(super) struct Buf {
    pub(super) s: String,
    pub(super) marks: Vec<Range<usize>>,
    /// See [`Text::safe`].
    pub(super) safe: bool,
}

impl Buf {
    /// Appends text; `foreign` says that it came from people.
    pub(super) fn push(&mut self, s: &str, foreign: bool) -> Out<()> {
        if self.s.len() + s.len() > MAX_TEXT {
            return fail(format!("the template builds a text of more than {} MB", MAX_TEXT >> 20));
        }
        let start = self.s.len();
        self.s.push_str(s);
        if foreign && !s.is_empty() {
            self.mark(start..self.s.len());
        }
        Ok(())
    }

    fn mark(&mut self, range: Range<usize>) {
        match self.marks.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => self.marks.push(range),
        }
    }

    /// Appends `range` of a text with its marks.
    pub(super) fn push_part(&mut self, t: &Text, range: Range<usize>) -> Out<()> {
        let start = self.s.len();
        self.push(&t.s[range.clone()], false)?;
        let first = t.marks.partition_point(|m| m.end <= range.start);
        for m in t.marks[first..].iter().take_while(|m| m.start < range.end) {
            let (a, b) = (m.start.max(range.start) - range.start, m.end.min(range.end) - range.start);
            self.mark(start + a..start + b);
        }
        Ok(())
    }

    pub(super) fn push_text(&mut self, t: &Text) -> Out<()> {
        self.push_part(t, 0..t.s.len())
    }
}

/// A string: its bytes, and which of them came from people.
pub(super) struct Text {
    pub(super) s: String,
    pub(super) marks: Vec<Range<usize>>,
    /// Made by `safe` or `escape`: what is added to it by `+` is escaped for HTML, as markupsafe does.
    pub(super) safe: bool,
    _charge: Charge,
}

impl Text {
    pub(super) fn new(budget: &Rc<Budget>, buf: Buf) -> Out<Rc<Self>> {
        let charge = budget.charge(buf.s.capacity() + buf.marks.len() * 16 + TEXT_OVERHEAD)?;
        Ok(Rc::new(Self { s: buf.s, marks: buf.marks, safe: buf.safe, _charge: charge }))
    }

    /// The text cut where its origin changes: byte ranges, and whether they came from people.
    pub(super) fn segments(&self) -> Vec<(Range<usize>, bool)> {
        let mut out = Vec::with_capacity(2 * self.marks.len() + 1);
        let mut at = 0;
        for mark in &self.marks {
            if at < mark.start {
                out.push((at..mark.start, false));
            }
            out.push((mark.clone(), true));
            at = mark.end;
        }
        if at < self.s.len() {
            out.push((at..self.s.len(), false));
        }
        out
    }

    /// Whether any byte came from people.
    pub(super) fn foreign(&self) -> bool {
        !self.marks.is_empty()
    }
}

/// What Python would call the type of a list.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ListKind {
    List,
    Tuple,
    /// A generator or a view: can be walked, but has no length, no items and no JSON.
    Lazy,
}

/// How large a container is when it is walked: shared parts count each time.
#[derive(Clone, Copy)]
struct Shape {
    depth: usize,
    n_value: usize,
}

pub(super) struct List {
    pub(super) items: Vec<Value>,
    pub(super) kind: ListKind,
    shape: Shape,
    _charge: Charge,
}

pub(super) struct Map {
    pub(super) entries: Vec<(Value, Value)>,
    shape: Shape,
    _charge: Charge,
}

impl Map {
    pub(super) fn find(&self, key: &Value) -> Option<&Value> {
        self.entries.iter().find(|(k, _)| k.same(key)).map(|(_, v)| v)
    }

    pub(super) fn find_str(&self, key: &str) -> Option<&Value> {
        self.entries.iter().find(|(k, _)| matches!(k, Value::Str(t) if t.s == key)).map(|(_, v)| v)
    }
}

/// `namespace(...)`: the only value that a template can change.
pub(super) struct Namespace {
    pub(super) fields: RefCell<Vec<(Arc<str>, Value)>>,
}

/// The `loop` variable of a `for`.
pub(super) struct Loop {
    pub(super) items: Rc<List>,
    pub(super) idx: Cell<usize>,
    pub(super) depth0: usize,
    pub(super) changed: RefCell<Option<Value>>,
    /// Of a `recursive` loop: what `loop(items)` runs.
    pub(super) recursion: Option<(Arc<For>, Rc<Env>)>,
}

/// `cycler(...)` and `joiner(...)`.
pub(super) struct Cycler {
    pub(super) items: Vec<Value>,
    pub(super) at: Cell<usize>,
    pub(super) joiner: bool,
}

#[derive(Clone)]
pub(super) enum Value {
    /// With the name under which it was sought.
    Undefined(Arc<str>),
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(Rc<Text>),
    List(Rc<List>),
    Map(Rc<Map>),
    Namespace(Rc<Namespace>),
    Loop(Rc<Loop>),
    Cycler(Rc<Cycler>),
    Macro(Arc<MacroDef>, Rc<Env>),
    /// A global function.
    Function(&'static str),
    /// A method not called yet.
    Method(Rc<Value>, Arc<str>),
}

impl Value {
    pub(super) fn list(budget: &Rc<Budget>, items: Vec<Self>, kind: ListKind) -> Out<Self> {
        if items.len() > MAX_LIST {
            return fail(format!("the template builds a list of more than {MAX_LIST} items"));
        }
        let shape = shape(items.iter())?;
        let charge = budget.charge(VALUE_BYTES * (items.len() + 2))?;
        Ok(Self::List(Rc::new(List { items, kind, shape, _charge: charge })))
    }

    /// A map; of equal keys the last value holds, in the first one's place.
    pub(super) fn map(budget: &Rc<Budget>, entries: Vec<(Self, Self)>) -> Out<Self> {
        let mut unique: Vec<(Self, Self)> = Vec::with_capacity(entries.len());
        for (k, v) in entries {
            if matches!(k, Self::List(ref l) if l.kind != ListKind::Tuple) || matches!(k, Self::Map(_)) {
                return fail(format!("TypeError: unhashable type: '{}'", k.type_name()));
            }
            budget.burn(1 + unique.len() / 16)?;
            match unique.iter_mut().find(|(u, _)| u.same(&k)) {
                Some(old) => old.1 = v,
                None => unique.push((k, v)),
            }
        }
        Self::unique_map(budget, unique)
    }

    /// A map whose keys are known to differ.
    pub(super) fn unique_map(budget: &Rc<Budget>, entries: Vec<(Self, Self)>) -> Out<Self> {
        let shape = shape(entries.iter().flat_map(|(k, v)| [k, v]))?;
        let charge = budget.charge(2 * VALUE_BYTES * (entries.len() + 1))?;
        Ok(Self::Map(Rc::new(Map { entries, shape, _charge: charge })))
    }

    /// The template's own text.
    pub(super) fn text(budget: &Rc<Budget>, s: &str) -> Out<Self> {
        Self::marked(budget, s, false)
    }

    pub(super) fn marked(budget: &Rc<Budget>, s: &str, foreign: bool) -> Out<Self> {
        let mut buf = Buf::default();
        buf.push(s, foreign)?;
        Ok(Self::Str(Text::new(budget, buf)?))
    }

    pub(super) fn undefined(name: &str) -> Self {
        Self::Undefined(name.into())
    }

    fn shape(&self) -> Shape {
        match self {
            Self::List(l) => l.shape,
            Self::Map(m) => m.shape,
            Self::Loop(l) => l.items.shape,
            Self::Method(v, _) => Shape { depth: v.shape().depth + 1, ..v.shape() },
            Self::Cycler(c) => c.items.iter().map(Self::shape).max_by_key(|s| s.depth).unwrap_or(Shape::LEAF),
            _ => Shape::LEAF,
        }
    }

    /// Steps that a comparison with this value may take, in units of 16.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Str(t) => t.s.len() / 256,
            // Maps are compared entry by entry, each sought in the other map.
            Self::Map(m) => (m.shape.n_value + m.entries.len().saturating_mul(m.entries.len())) / 16,
            other => other.shape().n_value / 16,
        }
    }

    pub(super) fn truthy(&self) -> bool {
        match self {
            Self::Undefined(_) | Self::None => false,
            Self::Bool(b) => *b,
            Self::Int(i) => *i != 0,
            Self::Float(f) => *f != 0.0,
            Self::Str(t) => !t.s.is_empty(),
            Self::List(l) => l.kind == ListKind::Lazy || !l.items.is_empty(),
            Self::Map(m) => !m.entries.is_empty(),
            _ => true,
        }
    }

    /// Python's name of the type, for messages.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Undefined(_) => "Undefined",
            Self::None => "NoneType",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float",
            Self::Str(_) => "str",
            Self::List(l) => match l.kind {
                ListKind::List => "list",
                ListKind::Tuple => "tuple",
                ListKind::Lazy => "generator",
            },
            Self::Map(_) => "dict",
            Self::Namespace(_) => "Namespace",
            Self::Loop(_) => "LoopContext",
            Self::Cycler(_) => "Cycler",
            Self::Macro(..) => "Macro",
            Self::Function(_) => "function",
            Self::Method(..) => "method",
        }
    }

    /// Number value of int, float and bool.
    pub(super) fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Int(i) => Some(*i as f64),
            Self::Float(f) => Some(*f),
            Self::Bool(b) => Some(f64::from(u8::from(*b))),
            _ => None,
        }
    }

    pub(super) fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Int(i) => Some(*i),
            Self::Bool(b) => Some(i64::from(*b)),
            _ => None,
        }
    }

    /// Python's `==`.
    pub(super) fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Undefined(_), Self::Undefined(_)) | (Self::None, Self::None) => true,
            (Self::Str(a), Self::Str(b)) => a.s == b.s,
            (Self::List(a), Self::List(b)) => {
                a.kind == b.kind
                    && a.items.len() == b.items.len()
                    && a.items.iter().zip(&b.items).all(|(x, y)| x.same(y))
            }
            (Self::Map(a), Self::Map(b)) => {
                a.entries.len() == b.entries.len()
                    && a.entries.iter().all(|(k, v)| b.find(k).is_some_and(|w| v.same(w)))
            }
            (Self::Namespace(a), Self::Namespace(b)) => Rc::ptr_eq(a, b),
            (Self::Macro(a, _), Self::Macro(b, _)) => Arc::ptr_eq(a, b),
            (Self::Function(a), Self::Function(b)) => a == b,
            _ => match (self.as_i64(), other.as_i64()) {
                (Some(a), Some(b)) => a == b,
                _ => matches!((self.as_f64(), other.as_f64()), (Some(a), Some(b)) if a == b),
            },
        }
    }

    /// Python's `<` and its kin; an error where Python raises TypeError.
    pub(super) fn order(&self, other: &Self) -> Out<std::cmp::Ordering> {
        use std::cmp::Ordering;
        match (self, other) {
            (Self::Str(a), Self::Str(b)) => Ok(a.s.cmp(&b.s)),
            (Self::List(a), Self::List(b)) if a.kind == b.kind => {
                for (x, y) in a.items.iter().zip(&b.items) {
                    if !x.same(y) {
                        return x.order(y);
                    }
                }
                Ok(a.items.len().cmp(&b.items.len()))
            }
            _ => match (self.as_i64(), other.as_i64(), self.as_f64(), other.as_f64()) {
                (Some(a), Some(b), ..) => Ok(a.cmp(&b)),
                // A NaN is neither less nor greater; "greater" makes a sort stable and `<` false.
                (_, _, Some(a), Some(b)) => Ok(a.partial_cmp(&b).unwrap_or(Ordering::Greater)),
                _ => fail(format!(
                    "TypeError: '<' not supported between instances of '{}' and '{}'",
                    self.type_name(),
                    other.type_name()
                )),
            },
        }
    }

    /// Appends what Python's `str()` gives.
    pub(super) fn print(&self, out: &mut Buf) -> Out<()> {
        match self {
            Self::Undefined(_) => Ok(()),
            Self::Str(t) => out.push_text(t),
            _ => self.repr(out),
        }
    }

    /// Appends what Python's `repr()` gives.
    pub(super) fn repr(&self, out: &mut Buf) -> Out<()> {
        match self {
            Self::Undefined(_) => out.push("Undefined", false),
            Self::None => out.push("None", false),
            Self::Bool(b) => out.push(if *b { "True" } else { "False" }, false),
            Self::Int(i) => out.push(&i.to_string(), false),
            Self::Float(f) => out.push(&float_repr(*f), false),
            Self::Str(t) => repr_text(t, out),
            Self::List(l) => {
                let (open, close) = match l.kind {
                    ListKind::Tuple => ("(", if l.items.len() == 1 { ",)" } else { ")" }),
                    ListKind::List => ("[", "]"),
                    ListKind::Lazy => return fail("TypeError: a generator cannot be printed; use `| list`"),
                };
                out.push(open, false)?;
                for (i, item) in l.items.iter().enumerate() {
                    out.push(if i > 0 { ", " } else { "" }, false)?;
                    item.repr(out)?;
                }
                out.push(close, false)
            }
            Self::Map(m) => {
                out.push("{", false)?;
                for (i, (k, v)) in m.entries.iter().enumerate() {
                    out.push(if i > 0 { ", " } else { "" }, false)?;
                    k.repr(out)?;
                    out.push(": ", false)?;
                    v.repr(out)?;
                }
                out.push("}", false)
            }
            other => out.push(&format!("<{}>", other.type_name()), false),
        }
    }
}

impl Shape {
    const LEAF: Self = Self { depth: 0, n_value: 1 };
}

/// The shape of a container with these members.
fn shape<'a>(members: impl Iterator<Item = &'a Value>) -> Out<Shape> {
    let mut all = Shape { depth: 1, n_value: 1 };
    for member in members.map(Value::shape) {
        all.depth = all.depth.max(member.depth + 1);
        all.n_value = all.n_value.saturating_add(member.n_value);
    }
    if all.depth > MAX_NESTING {
        return fail("lists or maps are nested too deeply");
    }
    if all.n_value > MAX_WALK {
        return fail(format!("lists and maps stand for more than {MAX_WALK} values"));
    }
    Ok(all)
}

/// Python's shortest representation: an exponent below 1e-4 and from 1e16 on.
pub(super) fn float_repr(f: f64) -> String {
    if f.is_nan() {
        return "nan".into();
    }
    if f.is_infinite() {
        return if f > 0.0 { "inf".into() } else { "-inf".into() };
    }
    let a = f.abs();
    if a != 0.0 && !(1e-4..1e16).contains(&a) {
        let s = format!("{f:e}");
        let (digits, exp) = s.split_once('e').unwrap_or((&s, "0"));
        let (sign, exp) = exp.strip_prefix('-').map_or(('+', exp), |e| ('-', e));
        return format!("{digits}e{sign}{exp:0>2}");
    }
    if f.fract() == 0.0 { format!("{f:.1}") } else { format!("{f}") }
}

fn repr_text(t: &Text, out: &mut Buf) -> Out<()> {
    let quote = if t.s.contains('\'') && !t.s.contains('"') { "\"" } else { "'" };
    out.push(quote, false)?;
    let mut plain_from = 0;
    for (i, c) in t.s.char_indices() {
        let escape = match c {
            '\\' => "\\\\".to_owned(),
            '\n' => "\\n".to_owned(),
            '\r' => "\\r".to_owned(),
            '\t' => "\\t".to_owned(),
            '\'' if quote == "'" => "\\'".to_owned(),
            c if u32::from(c) < 0x100 && c.is_control() => format!("\\x{:02x}", u32::from(c)),
            _ => continue,
        };
        out.push_part(t, plain_from..i)?;
        out.push(&escape, t.foreign())?;
        plain_from = i + c.len_utf8();
    }
    out.push_part(t, plain_from..t.s.len())?;
    out.push(quote, false)
}
