//! Tokens to the syntax tree: tags and statements, with a bound on nesting. Expressions are in `expressions.rs`.

use std::sync::Arc;

use super::ast::{Args, Expr, For, MacroDef, Name, Post, Stmt, StmtKind, Target};
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

pub(super) struct Parser {
    tokens: Vec<(Token, u32)>,
    pub(super) at: usize,
    depth: usize,
}

impl Parser {
    pub(super) fn peek(&self) -> &Token {
        self.look(0)
    }

    pub(super) fn look(&self, ahead: usize) -> &Token {
        self.tokens.get(self.at + ahead).map_or(&Token::End, |t| &t.0)
    }

    pub(super) fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at = (self.at + 1).min(self.tokens.len());
        token
    }

    pub(super) fn is_op(&self, op: &str) -> bool {
        matches!(self.peek(), Token::Op(o) if *o == op)
    }

    pub(super) fn is_name(&self, name: &str) -> bool {
        matches!(self.peek(), Token::Name(n) if n == name)
    }

    pub(super) fn take_op(&mut self, op: &str) -> bool {
        let found = self.is_op(op);
        self.at += usize::from(found);
        found
    }

    pub(super) fn take_name(&mut self, name: &str) -> bool {
        let found = self.is_name(name);
        self.at += usize::from(found);
        found
    }

    pub(super) fn expect_op(&mut self, op: &str) -> Out<()> {
        if self.take_op(op) { Ok(()) } else { fail(format!("expected `{op}`, found {}", shown(self.peek()))) }
    }

    pub(super) fn name(&mut self) -> Out<Name> {
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

    pub(super) fn nested<T>(&mut self, parse: impl FnOnce(&mut Self) -> Out<T>) -> Out<T> {
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
}

pub(super) fn shown(token: &Token) -> String {
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
