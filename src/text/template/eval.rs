//! Walks the syntax tree: statements, expressions, scopes, calls.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use super::ast::{Args, Expr, For, MacroDef, Post, Stmt, StmtKind, Target};
use super::value::{Budget, Buf, Fail, List, ListKind, Loop, Namespace, Out, Text, Value, fail};
use super::{access, checks, filters, functions, methods, operators};

/// Deepest nesting of evaluation, calls of macros included. A level takes about 2 KB of stack in a debug build, and a
/// thread of Rust has 2 MB.
const MAX_DEPTH: usize = 200;
/// Output of all captures in progress together.
const MAX_OPEN_OUTPUT: usize = 64 << 20;
/// Namespaces and macro definitions that one rendering may run through; they live until its end.
const MAX_CYCLIC: usize = 100_000;

/// Variables of one scope.
pub(super) struct Env {
    pub(super) vars: RefCell<Vec<(Arc<str>, Value)>>,
    parent: Option<Rc<Env>>,
}

impl Env {
    pub(super) fn new(parent: Option<&Rc<Self>>) -> Rc<Self> {
        Rc::new(Self { vars: RefCell::default(), parent: parent.cloned() })
    }

    pub(super) fn set(&self, name: &Arc<str>, value: Value) {
        let mut vars = self.vars.borrow_mut();
        match vars.iter_mut().find(|(n, _)| n == name) {
            Some(old) => old.1 = value,
            None => vars.push((Arc::clone(name), value)),
        }
    }

    fn find(&self, name: &str) -> Option<Value> {
        let mut env = Some(self);
        while let Some(e) = env {
            if let Some((_, v)) = e.vars.borrow().iter().find(|(n, _)| &**n == name) {
                return Some(v.clone());
            }
            env = e.parent.as_deref();
        }
        None
    }
}

/// Evaluated arguments of a call.
#[derive(Default)]
pub(super) struct CallArgs {
    pub(super) positional: Vec<Value>,
    pub(super) named: Vec<(Arc<str>, Value)>,
}

impl CallArgs {
    /// The argument at `at` or of that name.
    pub(super) fn take(&self, at: usize, name: &str) -> Option<&Value> {
        self.positional.get(at).or_else(|| self.named.iter().find(|(n, _)| &**n == name).map(|(_, v)| v))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    Normal,
    Break,
    Continue,
}

/// One rendering in progress.
pub(super) struct Machine {
    pub(super) budget: Rc<Budget>,
    pub(super) out: Buf,
    /// Line of the statement that runs.
    pub(super) line: u32,
    /// Seconds since 1970 in the caller's local time.
    pub(super) now_s: i64,
    depth: usize,
    open_output: usize,
    /// Scopes and namespaces that may hold one another in a circle; emptied at the end.
    cyclic: Vec<Rc<Env>>,
    namespaces: Vec<Rc<Namespace>>,
}

impl Drop for Machine {
    fn drop(&mut self) {
        for env in &self.cyclic {
            let vars = env.vars.take();
            drop(vars);
        }
        for namespace in &self.namespaces {
            let fields = namespace.fields.take();
            drop(fields);
        }
    }
}

impl Machine {
    pub(super) fn new(budget: Rc<Budget>, now_s: i64) -> Self {
        Self {
            budget,
            out: Buf::default(),
            line: 0,
            now_s,
            depth: 0,
            open_output: 0,
            cyclic: Vec::new(),
            namespaces: Vec::new(),
        }
    }

    /// Runs a whole template.
    pub(super) fn run(&mut self, body: &[Stmt], env: &Rc<Env>) -> Out<()> {
        self.block(body, env).map(|_| ())
    }

    pub(super) fn text(&self, s: &str) -> Out<Value> {
        Value::text(&self.budget, s)
    }

    pub(super) fn finish(&self, buf: Buf) -> Out<Value> {
        Ok(Value::Str(Text::new(&self.budget, buf)?))
    }

    pub(super) fn list(&self, items: Vec<Value>, kind: ListKind) -> Out<Value> {
        Value::list(&self.budget, items, kind)
    }

    pub(super) fn namespace(&mut self, fields: Vec<(Arc<str>, Value)>) -> Out<Value> {
        if self.namespaces.len() >= MAX_CYCLIC {
            return fail("the template makes too many namespaces");
        }
        let namespace = Rc::new(Namespace { fields: RefCell::new(fields) });
        self.namespaces.push(Rc::clone(&namespace));
        Ok(Value::Namespace(namespace))
    }

    fn deeper<T>(&mut self, f: impl FnOnce(&mut Self) -> Out<T>) -> Out<T> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return fail("macros or expressions are nested too deeply");
        }
        let result = f(self);
        self.depth -= 1;
        result
    }

    // ---- statements

    fn block(&mut self, body: &[Stmt], env: &Rc<Env>) -> Out<Flow> {
        for stmt in body {
            self.budget.burn(1)?;
            self.line = stmt.line;
            let flow = match &stmt.kind {
                StmtKind::Data(text) => {
                    self.out.push(text, false)?;
                    Flow::Normal
                }
                StmtKind::Print(expr) => {
                    let value = self.eval(expr, env)?;
                    let before = self.out.s.len();
                    value.print(&mut self.out)?;
                    self.budget.burn((self.out.s.len() - before) / 256)?;
                    if self.open_output + self.out.s.len() > MAX_OPEN_OUTPUT {
                        return fail("the template holds too much output back");
                    }
                    Flow::Normal
                }
                kind => self.deeper(|m| m.statement(kind, env))?,
            };
            if flow != Flow::Normal {
                return Ok(flow);
            }
        }
        Ok(Flow::Normal)
    }

    fn statement(&mut self, kind: &StmtKind, env: &Rc<Env>) -> Out<Flow> {
        match kind {
            StmtKind::Data(_) | StmtKind::Print(_) => {}
            StmtKind::If { arms, otherwise } => {
                for (condition, body) in arms {
                    if self.eval(condition, env)?.truthy() {
                        return self.block(body, env);
                    }
                }
                return self.block(otherwise, env);
            }
            StmtKind::For(def) => {
                let items = self.eval(&def.iter, env)?;
                self.for_loop(def, &items, env, 0)?;
            }
            StmtKind::Set(target, expr) => {
                let value = self.eval(expr, env)?;
                self.assign(target, value, env)?;
            }
            StmtKind::SetBlock { target, filters, body } => {
                let text = self.capture(body, &Env::new(Some(env)))?;
                let value = self.postfix(text, filters, env)?;
                self.assign(target, value, env)?;
            }
            StmtKind::FilterBlock { filters, body } => {
                let text = self.capture(body, &Env::new(Some(env)))?;
                self.postfix(text, filters, env)?.print(&mut self.out)?;
            }
            StmtKind::With { values, body } => {
                let inner = Env::new(Some(env));
                for (target, expr) in values {
                    let value = self.eval(expr, env)?;
                    self.assign(target, value, &inner)?;
                }
                return self.block(body, &inner);
            }
            StmtKind::Macro(def) => {
                if self.cyclic.len() >= MAX_CYCLIC {
                    return fail("the template defines too many macros");
                }
                self.cyclic.push(Rc::clone(env));
                env.set(&def.name, Value::Macro(Arc::clone(def), Rc::clone(env)));
            }
            StmtKind::Call { expr, caller } => {
                let Expr::Postfix(base, posts) = expr else { return fail("`{% call %}` needs a call") };
                let Some((Post::Call(args), before)) = posts.split_last() else {
                    return fail("`{% call %}` needs a call");
                };
                let callee = self.eval(base, env)?;
                let callee = self.postfix(callee, before, env)?;
                let mut args = self.args(args, env)?;
                args.named.push(("caller".into(), Value::Macro(Arc::clone(caller), Rc::clone(env))));
                self.call(&callee, args)?.print(&mut self.out)?;
            }
            StmtKind::Do(expr) => drop(self.eval(expr, env)?),
            StmtKind::Body(body) => return self.block(body, env),
            StmtKind::Break => return Ok(Flow::Break),
            StmtKind::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Normal)
    }

    fn capture(&mut self, body: &[Stmt], env: &Rc<Env>) -> Out<Value> {
        let outer = std::mem::take(&mut self.out);
        self.open_output += outer.s.len();
        let result = self.block(body, env);
        self.open_output -= outer.s.len();
        let inner = std::mem::replace(&mut self.out, outer);
        result?;
        self.finish(inner)
    }

    fn for_loop(&mut self, def: &Arc<For>, items: &Value, env: &Rc<Env>, depth0: usize) -> Out<()> {
        let mut items = access::iterate(self, items)?;
        if let Some(condition) = &def.condition {
            let mut kept = Vec::new();
            for item in &items.items {
                let inner = Env::new(Some(env));
                self.assign(&def.target, item.clone(), &inner)?;
                if self.eval(condition, &inner)?.truthy() {
                    kept.push(item.clone());
                }
            }
            items = self.rc_list(kept)?;
        }
        if items.items.is_empty() {
            self.block(&def.otherwise, env)?;
            return Ok(());
        }
        let name: Arc<str> = "loop".into();
        let recursion = def.recursive.then(|| (Arc::clone(def), Rc::clone(env)));
        let info = Rc::new(Loop {
            items: Rc::clone(&items),
            idx: Cell::new(0),
            depth0,
            changed: RefCell::default(),
            recursion,
        });
        for (i, item) in items.items.iter().enumerate() {
            self.budget.burn(1)?;
            info.idx.set(i);
            let inner = Env::new(Some(env));
            inner.set(&name, Value::Loop(Rc::clone(&info)));
            self.assign(&def.target, item.clone(), &inner)?;
            if self.block(&def.body, &inner)? == Flow::Break {
                break;
            }
        }
        Ok(())
    }

    pub(super) fn rc_list(&self, items: Vec<Value>) -> Out<Rc<List>> {
        match self.list(items, ListKind::List)? {
            Value::List(l) => Ok(l),
            _ => fail("not a list"),
        }
    }

    fn assign(&mut self, target: &Target, value: Value, env: &Rc<Env>) -> Out<()> {
        match target {
            Target::Name(name) => env.set(name, value),
            Target::Field(name, field) => match env.find(name) {
                Some(Value::Namespace(n)) => {
                    let mut fields = n.fields.borrow_mut();
                    match fields.iter_mut().find(|(f, _)| f == field) {
                        Some(old) => old.1 = value,
                        None => fields.push((Arc::clone(field), value)),
                    }
                }
                _ => return fail("cannot assign attribute on non-namespace object"),
            },
            Target::Names(targets) => {
                let items = access::iterate(self, &value)?;
                if items.items.len() != targets.len() {
                    return fail(format!(
                        "ValueError: {} values to unpack into {} names",
                        items.items.len(),
                        targets.len()
                    ));
                }
                for (target, item) in targets.iter().zip(&items.items) {
                    self.assign(target, item.clone(), env)?;
                }
            }
        }
        Ok(())
    }

    // ---- expressions

    pub(super) fn eval(&mut self, expr: &Expr, env: &Rc<Env>) -> Out<Value> {
        self.budget.burn(1)?;
        match expr {
            Expr::None => Ok(Value::None),
            Expr::Bool(b) => Ok(Value::Bool(*b)),
            Expr::Int(i) => Ok(Value::Int(*i)),
            Expr::Float(f) => Ok(Value::Float(*f)),
            Expr::Str(s) => self.text(s),
            Expr::Name(name) => Ok(env
                .find(name)
                .or_else(|| functions::global(name))
                .unwrap_or_else(|| Value::Undefined(format!("'{name}'").into()))),
            _ => self.deeper(|m| m.compound(expr, env)),
        }
    }

    fn all(&mut self, exprs: &[Expr], env: &Rc<Env>) -> Out<Vec<Value>> {
        exprs.iter().map(|e| self.eval(e, env)).collect()
    }

    fn compound(&mut self, expr: &Expr, env: &Rc<Env>) -> Out<Value> {
        match expr {
            Expr::List(items) => {
                let items = self.all(items, env)?;
                self.list(items, ListKind::List)
            }
            Expr::Tuple(items) => {
                let items = self.all(items, env)?;
                self.list(items, ListKind::Tuple)
            }
            Expr::Dict(entries) => {
                let mut values = Vec::with_capacity(entries.len());
                for (k, v) in entries {
                    values.push((self.eval(k, env)?, self.eval(v, env)?));
                }
                Value::map(&self.budget, values)
            }
            Expr::If(parts) => {
                let (value, condition, other) = &**parts;
                if self.eval(condition, env)?.truthy() {
                    return self.eval(value, env);
                }
                match other {
                    Some(other) => self.eval(other, env),
                    None => Ok(Value::undefined("the inline if without an else")),
                }
            }
            Expr::Or(items) | Expr::And(items) => {
                let stop_at = matches!(expr, Expr::Or(_));
                let mut value = Value::None;
                for item in items {
                    value = self.eval(item, env)?;
                    if value.truthy() == stop_at {
                        break;
                    }
                }
                Ok(value)
            }
            Expr::Not(inner) => Ok(Value::Bool(!self.eval(inner, env)?.truthy())),
            Expr::Neg(inner) => operators::negate(&self.eval(inner, env)?),
            Expr::Pos(inner) => self.eval(inner, env),
            Expr::Compare(first, rest) => {
                let mut left = self.eval(first, env)?;
                for (op, right) in rest {
                    let right = self.eval(right, env)?;
                    if !operators::compare(self, *op, &left, &right)? {
                        return Ok(Value::Bool(false));
                    }
                    left = right;
                }
                Ok(Value::Bool(true))
            }
            Expr::Math(first, rest) => {
                let mut left = self.eval(first, env)?;
                for (op, right) in rest {
                    let right = self.eval(right, env)?;
                    left = operators::math(self, *op, &left, &right)?;
                }
                Ok(left)
            }
            Expr::Concat(items) => {
                let mut buf = Buf::default();
                for item in items {
                    self.eval(item, env)?.print(&mut buf)?;
                }
                self.finish(buf)
            }
            Expr::Postfix(base, posts) => {
                let value = self.eval(base, env)?;
                self.postfix(value, posts, env)
            }
            _ => fail("not an expression"),
        }
    }

    fn postfix(&mut self, mut value: Value, posts: &[Post], env: &Rc<Env>) -> Out<Value> {
        for post in posts {
            self.budget.burn(1)?;
            value = match post {
                Post::Attr(name) => access::attribute(self, &value, name)?,
                Post::Item(key) => {
                    let key = self.eval(key, env)?;
                    access::item(self, &value, &key)?
                }
                Post::Slice(start, stop, step) => {
                    let mut bound = |e: &Option<Expr>| match e {
                        None => Ok(None),
                        Some(e) => match self.eval(e, env)? {
                            Value::None => Ok(None),
                            v => v.as_i64().map(Some).ok_or(Fail("TypeError: slice indices must be integers".into())),
                        },
                    };
                    let bounds = (bound(start)?, bound(stop)?, bound(step)?);
                    access::slice(self, &value, bounds)?
                }
                Post::Call(args) => {
                    let args = self.args(args, env)?;
                    self.call(&value, args)?
                }
                Post::Filter(name, args) => {
                    let args = self.args(args, env)?;
                    filters::apply(self, name, &value, &args)?
                }
                Post::Test { name, args, negated } => {
                    let args = self.args(args, env)?;
                    Value::Bool(checks::test(self, name, &value, &args)? != *negated)
                }
            };
        }
        Ok(value)
    }

    fn args(&mut self, args: &Args, env: &Rc<Env>) -> Out<CallArgs> {
        let mut out = CallArgs { positional: self.all(&args.positional, env)?, named: Vec::new() };
        if let Some(star) = &args.star {
            let more = self.eval(star, env)?;
            out.positional.extend(access::iterate(self, &more)?.items.iter().cloned());
        }
        for (name, value) in &args.named {
            out.named.push((Arc::clone(name), self.eval(value, env)?));
        }
        if let Some(star_star) = &args.star_star {
            let Value::Map(map) = self.eval(star_star, env)? else {
                return fail("TypeError: argument after ** must be a mapping");
            };
            for (k, v) in &map.entries {
                let Value::Str(k) = k else { return fail("TypeError: keywords must be strings") };
                out.named.push((k.s.as_str().into(), v.clone()));
            }
        }
        Ok(out)
    }

    pub(super) fn call(&mut self, callee: &Value, args: CallArgs) -> Out<Value> {
        match callee {
            Value::Macro(def, env) => self.deeper(|m| m.call_macro(def, env, args)),
            Value::Function(name) => functions::call(self, name, &args),
            Value::Method(receiver, name) => methods::call(self, receiver, name, &args),
            Value::Cycler(cycler) => functions::cycle(self, cycler),
            Value::Loop(info) => {
                let Some((def, env)) = &info.recursion else {
                    return fail("TypeError: the loop is not marked `recursive`");
                };
                let Some(items) = args.positional.first() else { return fail("TypeError: `loop()` needs items") };
                let outer = std::mem::take(&mut self.out);
                self.open_output += outer.s.len();
                let result = self.deeper(|m| m.for_loop(def, items, env, info.depth0 + 1));
                self.open_output -= outer.s.len();
                let inner = std::mem::replace(&mut self.out, outer);
                result?;
                self.finish(inner)
            }
            Value::Undefined(name) => fail(format!("UndefinedError: {name} is undefined")),
            other => fail(format!("TypeError: '{}' object is not callable", other.type_name())),
        }
    }

    fn call_macro(&mut self, def: &Arc<MacroDef>, outer: &Rc<Env>, args: CallArgs) -> Out<Value> {
        let env = Env::new(Some(outer));
        let n_param = def.params.len();
        let mut positional = args.positional.into_iter();
        let mut named = args.named;
        for (name, default) in &def.params {
            let given =
                positional.next().or_else(|| named.iter().position(|(n, _)| n == name).map(|i| named.swap_remove(i).1));
            let value = match (given, default) {
                (Some(value), _) => value,
                (None, Some(default)) => self.eval(default, &env)?,
                (None, None) => Value::Undefined(format!("parameter '{name}'").into()),
            };
            env.set(name, value);
        }
        if let Some(i) = named.iter().position(|(n, _)| &**n == "caller") {
            let (name, caller) = named.swap_remove(i);
            env.set(&name, caller);
        }
        let rest: Vec<Value> = positional.collect();
        if !rest.is_empty() && !def.uses_varargs {
            return fail(format!("TypeError: macro '{}' takes not more than {n_param} argument(s)", def.name));
        }
        if def.uses_varargs {
            env.set(&"varargs".into(), self.list(rest, ListKind::Tuple)?);
        }
        if def.uses_kwargs {
            let entries: Out<Vec<_>> =
                named.iter().map(|(n, v)| Ok((Value::marked(&self.budget, n, true)?, v.clone()))).collect();
            env.set(&"kwargs".into(), Value::map(&self.budget, entries?)?);
        } else if let Some((n, _)) = named.first() {
            return fail(format!("TypeError: macro '{}' takes no keyword argument '{n}'", def.name));
        }
        self.capture(&def.body, &env)
    }
}
