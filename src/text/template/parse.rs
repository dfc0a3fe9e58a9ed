//! Tokens to the syntax tree: Jinja2's grammar and precedence, with a bound on nesting.

use std::sync::Arc;

use super::ast::{Args, Cmp, Expr, For, MacroDef, Name, Op, Post, Stmt, StmtKind, Target};
use super::lex::{Token, lex};
use super::value::{Fail, Out, fail};

/// Deepest nesting of tags and brackets together. Real templates stay below 30; the parser's stack at this depth
/// stays below 1 MB in a debug build.
const MAX_DEPTH: usize = 100;

/// The statements of a template.
pub(super) fn parse(source: &str) -> Out<Vec<Stmt>> {
    let mut parser = Parser { tokens: lex(source)?, at: 0, depth: 0 };
    let line_of = |p: &Parser| p.tokens.get(p.at).map_or(0, |t| t.1);
    let body = parser.body(&[]).map_err(|Fail(m)| match m.starts_with("line ") {
        true => Fail(m),
        false => Fail(format!("line {}: {m}", line_of(&parser))),
    })?;
    match parser.peek() {
        Token::End => Ok(body),
        other => fail(format!("line {}: unexpected {other:?}", line_of(&parser))),
    }
}

struct Parser {
    tokens: Vec<(Token, u32)>,
    at: usize,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> &Token {
        self.look(0)
    }

    fn look(&self, ahead: usize) -> &Token {
        self.tokens.get(self.at + ahead).map_or(&Token::End, |t| &t.0)
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at = (self.at + 1).min(self.tokens.len());
        token
    }

    fn is_op(&self, op: &str) -> bool {
        matches!(self.peek(), Token::Op(o) if *o == op)
    }

    fn is_name(&self, name: &str) -> bool {
        matches!(self.peek(), Token::Name(n) if n == name)
    }

    fn take_op(&mut self, op: &str) -> bool {
        let found = self.is_op(op);
        self.at += usize::from(found);
        found
    }

    fn take_name(&mut self, name: &str) -> bool {
        let found = self.is_name(name);
        self.at += usize::from(found);
        found
    }

    fn expect_op(&mut self, op: &str) -> Out<()> {
        if self.take_op(op) { Ok(()) } else { fail(format!("expected `{op}`, found {}", shown(self.peek()))) }
    }

    fn name(&mut self) -> Out<Name> {
        match self.next() {
            Token::Name(n) => Ok(n.into()),
            other => fail(format!("expected a name, found {}", shown(&other))),
        }
    }

    fn block_end(&mut self) -> Out<()> {
        match self.next() {
            Token::BlockEnd => Ok(()),
            other => fail(format!("expected the end of the tag, found {}", shown(&other))),
        }
    }

    fn nested<T>(&mut self, parse: impl FnOnce(&mut Self) -> Out<T>) -> Out<T> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return fail(format!("tags and brackets are nested more than {MAX_DEPTH} deep"));
        }
        let result = parse(self);
        self.depth -= 1;
        result
    }

    // ---- statements

    /// Statements up to one of the tags in `ends`, which is left unread behind its `{%`.
    fn body(&mut self, ends: &[&str]) -> Out<Vec<Stmt>> {
        let mut out = Vec::new();
        loop {
            let line = self.tokens.get(self.at).map_or(0, |t| t.1);
            match self.next() {
                Token::End if ends.is_empty() => return Ok(out),
                Token::End => return fail(format!("`{{% {} %}}` is missing", ends[ends.len() - 1])),
                Token::Data(text) => out.push(Stmt { line, kind: StmtKind::Data(text.into()) }),
                Token::VarStart => {
                    let expr = self.tuple_or_expr(true)?;
                    match self.next() {
                        Token::VarEnd => out.push(Stmt { line, kind: StmtKind::Print(expr) }),
                        other => return fail(format!("expected `}}}}`, found {}", shown(&other))),
                    }
                }
                Token::BlockStart => {
                    if ends.iter().any(|e| self.is_name(e)) {
                        return Ok(out);
                    }
                    let kind = self.nested(Self::statement)?;
                    out.push(Stmt { line, kind });
                }
                other => return fail(format!("unexpected {}", shown(&other))),
            }
        }
    }

    /// Statements up to `{% end %}`, which is consumed.
    fn body_until(&mut self, end: &str) -> Out<Vec<Stmt>> {
        self.block_end()?;
        let body = self.body(&[end])?;
        self.at += 1;
        self.block_end()?;
        Ok(body)
    }

    fn statement(&mut self) -> Out<StmtKind> {
        let tag = self.name()?;
        let kind = match &*tag {
            "if" => return self.if_statement(),
            "for" => return self.for_statement(),
            "set" => return self.set_statement(),
            "macro" => {
                let name = self.name()?;
                return Ok(StmtKind::Macro(Arc::new(self.macro_definition(name, "endmacro")?)));
            }
            "call" => return self.call_statement(),
            "filter" => {
                let name = self.name()?;
                let args = if self.is_op("(") { self.args()? } else { Args::default() };
                let mut filters = vec![Post::Filter(name, args)];
                self.filters(&mut filters)?;
                return Ok(StmtKind::FilterBlock { filters, body: self.body_until("endfilter")? });
            }
            "with" => {
                let mut values = Vec::new();
                while *self.peek() != Token::BlockEnd {
                    if !values.is_empty() {
                        self.expect_op(",")?;
                    }
                    let target = self.target(false)?;
                    self.expect_op("=")?;
                    values.push((target, self.expr()?));
                }
                return Ok(StmtKind::With { values, body: self.body_until("endwith")? });
            }
            "generation" => return Ok(StmtKind::Body(self.body_until("endgeneration")?)),
            "do" => StmtKind::Do(self.tuple_or_expr(true)?),
            "break" => StmtKind::Break,
            "continue" => StmtKind::Continue,
            "include" | "import" | "from" | "extends" | "block" => {
                return fail(format!("`{{% {tag} %}}` is not available in chat templates"));
            }
            _ => return fail(format!("unknown tag `{}`", crate::error::printable(&tag))),
        };
        self.block_end()?;
        Ok(kind)
    }

    fn if_statement(&mut self) -> Out<StmtKind> {
        let (mut arms, mut otherwise) = (Vec::new(), Vec::new());
        loop {
            let condition = self.tuple_or_expr(false)?;
            self.block_end()?;
            arms.push((condition, self.body(&["elif", "else", "endif"])?));
            if self.take_name("elif") {
                continue;
            }
            if self.take_name("else") {
                self.block_end()?;
                otherwise = self.body(&["endif"])?;
            }
            self.at += 1;
            self.block_end()?;
            return Ok(StmtKind::If { arms, otherwise });
        }
    }

    fn for_statement(&mut self) -> Out<StmtKind> {
        let target = self.target(true)?;
        if !self.take_name("in") {
            return fail("expected `in`");
        }
        let iter = self.tuple_or_expr(false)?;
        let condition = if self.take_name("if") { Some(self.expr()?) } else { None };
        let recursive = self.take_name("recursive");
        self.block_end()?;
        let body = self.body(&["else", "endfor"])?;
        let mut otherwise = Vec::new();
        if self.take_name("else") {
            self.block_end()?;
            otherwise = self.body(&["endfor"])?;
        }
        self.at += 1;
        self.block_end()?;
        Ok(StmtKind::For(Arc::new(For { target, iter, condition, recursive, body, otherwise })))
    }

    fn set_statement(&mut self) -> Out<StmtKind> {
        let target = self.target(true)?;
        if self.take_op("=") {
            let value = self.tuple_or_expr(true)?;
            self.block_end()?;
            return Ok(StmtKind::Set(target, value));
        }
        let mut filters = Vec::new();
        self.filters(&mut filters)?;
        Ok(StmtKind::SetBlock { target, filters, body: self.body_until("endset")? })
    }

    fn call_statement(&mut self) -> Out<StmtKind> {
        let params = if self.is_op("(") { self.params()? } else { Vec::new() };
        let expr = self.expr()?;
        let from = self.at;
        let body = self.body_until("endcall")?;
        let (uses_varargs, uses_kwargs) = self.names_used(from);
        let caller = Arc::new(MacroDef { name: "caller".into(), params, body, uses_varargs, uses_kwargs });
        Ok(StmtKind::Call { expr, caller })
    }

    fn macro_definition(&mut self, name: Name, end: &str) -> Out<MacroDef> {
        let params = self.params()?;
        let from = self.at;
        let body = self.body_until(end)?;
        let (uses_varargs, uses_kwargs) = self.names_used(from);
        Ok(MacroDef { name, params, body, uses_varargs, uses_kwargs })
    }

    fn names_used(&self, from: usize) -> (bool, bool) {
        let has = |name: &str| self.tokens[from..self.at].iter().any(|(t, _)| matches!(t, Token::Name(n) if n == name));
        (has("varargs"), has("kwargs"))
    }

    fn params(&mut self) -> Out<Vec<(Name, Option<Expr>)>> {
        self.expect_op("(")?;
        let mut params: Vec<(Name, Option<Expr>)> = Vec::new();
        while !self.take_op(")") {
            if !params.is_empty() {
                self.expect_op(",")?;
                if self.take_op(")") {
                    break;
                }
            }
            let name = self.name()?;
            let default = if self.take_op("=") { Some(self.expr()?) } else { None };
            params.push((name, default));
        }
        Ok(params)
    }

    /// What `for` and `set` assign to.
    fn target(&mut self, tuple: bool) -> Out<Target> {
        let first = self.single_target()?;
        if !tuple || !self.is_op(",") {
            return Ok(first);
        }
        let mut all = vec![first];
        while self.take_op(",") {
            if !matches!(self.peek(), Token::Name(n) if n != "in") && !self.is_op("(") {
                break;
            }
            all.push(self.single_target()?);
        }
        Ok(Target::Names(all))
    }

    fn single_target(&mut self) -> Out<Target> {
        if self.take_op("(") {
            let inner = self.nested(|p| p.target(true))?;
            self.expect_op(")")?;
            return Ok(inner);
        }
        let name = self.name()?;
        if self.take_op(".") {
            return Ok(Target::Field(name, self.name()?));
        }
        Ok(Target::Name(name))
    }

    // ---- expressions, loosest first

    /// An expression, or several with commas; `conditional` allows `a if b else c` in it.
    fn tuple_or_expr(&mut self, conditional: bool) -> Out<Expr> {
        let mut items = Vec::new();
        loop {
            if !items.is_empty() && self.tuple_ends() {
                break;
            }
            items.push(if conditional { self.expr()? } else { self.nested(Self::or)? });
            if !self.take_op(",") {
                if items.len() == 1 {
                    return items.pop().map_or_else(|| fail("an expression is missing"), Ok);
                }
                break;
            }
        }
        Ok(Expr::Tuple(items))
    }

    fn tuple_ends(&self) -> bool {
        matches!(self.peek(), Token::VarEnd | Token::BlockEnd | Token::Op(")")) || self.is_name("recursive")
    }

    fn expr(&mut self) -> Out<Expr> {
        self.nested(|p| {
            let value = p.or()?;
            if !p.take_name("if") {
                return Ok(value);
            }
            let condition = p.or()?;
            let other = if p.take_name("else") { Some(p.expr()?) } else { None };
            Ok(Expr::If(Box::new((value, condition, other))))
        })
    }

    fn or(&mut self) -> Out<Expr> {
        let first = self.and()?;
        self.chain(first, "or", Self::and, Expr::Or)
    }

    fn and(&mut self) -> Out<Expr> {
        let first = self.not()?;
        self.chain(first, "and", Self::not, Expr::And)
    }

    fn chain(
        &mut self,
        first: Expr,
        word: &str,
        next: fn(&mut Self) -> Out<Expr>,
        make: fn(Vec<Expr>) -> Expr,
    ) -> Out<Expr> {
        if !self.is_name(word) {
            return Ok(first);
        }
        let mut all = vec![first];
        while self.take_name(word) {
            all.push(next(self)?);
        }
        Ok(make(all))
    }

    fn not(&mut self) -> Out<Expr> {
        let mut n = 0usize;
        while self.take_name("not") {
            n += 1;
        }
        let inner = self.compare()?;
        Ok(match n {
            0 => inner,
            n if n % 2 == 1 => Expr::Not(Box::new(inner)),
            _ => Expr::Not(Box::new(Expr::Not(Box::new(inner)))),
        })
    }

    fn compare(&mut self) -> Out<Expr> {
        let first = self.math1()?;
        let mut rest = Vec::new();
        loop {
            let (op, n_token) = match (self.peek(), self.look(1)) {
                (Token::Op("=="), _) => (Cmp::Eq, 1),
                (Token::Op("!="), _) => (Cmp::Ne, 1),
                (Token::Op("<"), _) => (Cmp::Lt, 1),
                (Token::Op("<="), _) => (Cmp::Le, 1),
                (Token::Op(">"), _) => (Cmp::Gt, 1),
                (Token::Op(">="), _) => (Cmp::Ge, 1),
                (Token::Name(n), _) if n == "in" => (Cmp::In, 1),
                (Token::Name(n), Token::Name(m)) if n == "not" && m == "in" => (Cmp::NotIn, 2),
                _ => break,
            };
            self.at += n_token;
            rest.push((op, self.math1()?));
        }
        Ok(if rest.is_empty() { first } else { Expr::Compare(Box::new(first), rest) })
    }

    fn math(&mut self, ops: &[(&str, Op)], next: fn(&mut Self) -> Out<Expr>) -> Out<Expr> {
        let first = next(self)?;
        let mut rest = Vec::new();
        while let Some((_, op)) = ops.iter().find(|(text, _)| self.is_op(text)) {
            self.at += 1;
            rest.push((*op, next(self)?));
        }
        Ok(if rest.is_empty() { first } else { Expr::Math(Box::new(first), rest) })
    }

    fn math1(&mut self) -> Out<Expr> {
        self.math(&[("+", Op::Add), ("-", Op::Sub)], Self::concat)
    }

    fn concat(&mut self) -> Out<Expr> {
        let first = self.math2()?;
        if !self.is_op("~") {
            return Ok(first);
        }
        let mut all = vec![first];
        while self.take_op("~") {
            all.push(self.math2()?);
        }
        Ok(Expr::Concat(all))
    }

    fn math2(&mut self) -> Out<Expr> {
        self.math(&[("*", Op::Mul), ("/", Op::Div), ("//", Op::FloorDiv), ("%", Op::Mod)], Self::pow)
    }

    fn pow(&mut self) -> Out<Expr> {
        self.math(&[("**", Op::Pow)], |p| p.unary(true))
    }

    fn unary(&mut self, with_filters: bool) -> Out<Expr> {
        let inner = if self.take_op("-") {
            Expr::Neg(Box::new(self.nested(|p| p.unary(false))?))
        } else if self.take_op("+") {
            Expr::Pos(Box::new(self.nested(|p| p.unary(false))?))
        } else {
            self.primary()?
        };
        let mut posts = Vec::new();
        self.postfix(&mut posts)?;
        if with_filters {
            self.filters(&mut posts)?;
        }
        Ok(if posts.is_empty() { inner } else { Expr::Postfix(Box::new(inner), posts) })
    }

    fn primary(&mut self) -> Out<Expr> {
        match self.next() {
            Token::Name(n) => Ok(match n.as_str() {
                "true" | "True" => Expr::Bool(true),
                "false" | "False" => Expr::Bool(false),
                "none" | "None" => Expr::None,
                _ => Expr::Name(n.into()),
            }),
            Token::Str(mut s) => {
                while let Token::Str(more) = self.peek() {
                    s.push_str(more);
                    self.at += 1;
                }
                Ok(Expr::Str(s.into()))
            }
            Token::Int(i) => Ok(Expr::Int(i)),
            Token::Float(f) => Ok(Expr::Float(f)),
            Token::Op("(") => {
                if self.take_op(")") {
                    return Ok(Expr::Tuple(Vec::new()));
                }
                let inner = self.tuple_or_expr(true)?;
                self.expect_op(")")?;
                Ok(inner)
            }
            Token::Op("[") => {
                let mut items = Vec::new();
                while !self.take_op("]") {
                    if !items.is_empty() {
                        self.expect_op(",")?;
                        if self.take_op("]") {
                            break;
                        }
                    }
                    items.push(self.expr()?);
                }
                Ok(Expr::List(items))
            }
            Token::Op("{") => {
                let mut entries = Vec::new();
                while !self.take_op("}") {
                    if !entries.is_empty() {
                        self.expect_op(",")?;
                        if self.take_op("}") {
                            break;
                        }
                    }
                    let key = self.expr()?;
                    self.expect_op(":")?;
                    entries.push((key, self.expr()?));
                }
                Ok(Expr::Dict(entries))
            }
            other => fail(format!("expected an expression, found {}", shown(&other))),
        }
    }

    /// `.name`, `[item]` and `(call)`.
    fn postfix(&mut self, posts: &mut Vec<Post>) -> Out<()> {
        loop {
            if self.take_op(".") {
                posts.push(match self.next() {
                    Token::Name(n) => Post::Attr(n.into()),
                    Token::Int(i) => Post::Item(Expr::Int(i)),
                    other => return fail(format!("expected a name, found {}", shown(&other))),
                });
            } else if self.take_op("[") {
                let post = self.subscript()?;
                posts.push(post);
            } else if self.is_op("(") {
                posts.push(Post::Call(self.args()?));
            } else {
                return Ok(());
            }
        }
    }

    fn subscript(&mut self) -> Out<Post> {
        let part = |p: &mut Self| {
            if p.is_op(":") || p.is_op("]") || p.is_op(",") { Ok(None) } else { p.expr().map(Some) }
        };
        let first = part(self)?;
        if self.take_op(":") {
            let stop = part(self)?;
            let step = if self.take_op(":") { part(self)? } else { None };
            self.expect_op("]")?;
            return Ok(Post::Slice(first, stop, step));
        }
        self.expect_op("]")?;
        first.map_or_else(|| fail("a subscript is empty"), |e| Ok(Post::Item(e)))
    }

    /// `| filter`, `is test`, and calls of their results.
    fn filters(&mut self, posts: &mut Vec<Post>) -> Out<()> {
        loop {
            if self.take_op("|") {
                let name = self.dotted_name()?;
                let args = if self.is_op("(") { self.args()? } else { Args::default() };
                posts.push(Post::Filter(name, args));
            } else if self.take_name("is") {
                let negated = self.take_name("not");
                let name = self.dotted_name()?;
                let args = self.test_args()?;
                posts.push(Post::Test { name, args, negated });
            } else if self.is_op("(") {
                posts.push(Post::Call(self.args()?));
            } else {
                return Ok(());
            }
        }
    }

    fn dotted_name(&mut self) -> Out<Name> {
        let mut name = self.name()?.to_string();
        while self.take_op(".") {
            name = format!("{name}.{}", self.name()?);
        }
        Ok(name.into())
    }

    /// A test takes arguments in brackets, or one plain operand: `x is divisibleby 3`.
    fn test_args(&mut self) -> Out<Args> {
        let operand = match self.peek() {
            Token::Op("(") => return self.args(),
            Token::Name(n) => !matches!(n.as_str(), "else" | "or" | "and" | "is" | "if" | "in" | "not" | "recursive"),
            Token::Str(_) | Token::Int(_) | Token::Float(_) | Token::Op("[" | "{") => true,
            _ => false,
        };
        let mut args = Args::default();
        if operand {
            let inner = self.nested(Self::primary)?;
            let mut posts = Vec::new();
            self.postfix(&mut posts)?;
            args.positional.push(if posts.is_empty() { inner } else { Expr::Postfix(Box::new(inner), posts) });
        }
        Ok(args)
    }

    fn args(&mut self) -> Out<Args> {
        self.expect_op("(")?;
        let mut args = Args::default();
        let mut first = true;
        while !self.take_op(")") {
            if !first {
                self.expect_op(",")?;
                if self.take_op(")") {
                    break;
                }
            }
            first = false;
            if self.take_op("**") {
                args.star_star = Some(Box::new(self.expr()?));
            } else if self.take_op("*") {
                args.star = Some(Box::new(self.expr()?));
            } else if let (Token::Name(n), Token::Op("=")) = (self.peek(), self.look(1)) {
                let name: Name = n.as_str().into();
                self.at += 2;
                args.named.push((name, self.expr()?));
            } else if args.named.is_empty() {
                args.positional.push(self.expr()?);
            } else {
                return fail("a positional argument follows a named one");
            }
        }
        Ok(args)
    }
}

fn shown(token: &Token) -> String {
    match token {
        Token::Name(n) => format!("`{}`", crate::error::printable(n)),
        Token::Op(op) => format!("`{op}`"),
        Token::Str(_) => "a string".into(),
        Token::Int(_) | Token::Float(_) => "a number".into(),
        Token::VarEnd => "`}}`".into(),
        Token::BlockEnd => "the end of the tag".into(),
        Token::End => "the end of the template".into(),
        Token::VarStart | Token::BlockStart | Token::Data(_) => "text".into(),
    }
}
