//! Tokens to expressions: Jinja2's precedence, loosest first.

use super::ast::{Args, Cmp, Expr, Name, Op, Post};
use super::lex::Token;
use super::parse::{Parser, shown};
use super::value::{Out, fail};

impl Parser {
    /// An expression, or several with commas; `conditional` allows `a if b else c` in it.
    pub(super) fn tuple_or_expr(&mut self, conditional: bool) -> Out<Expr> {
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

    pub(super) fn expr(&mut self) -> Out<Expr> {
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

    pub(super) fn or(&mut self) -> Out<Expr> {
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
    pub(super) fn filters(&mut self, posts: &mut Vec<Post>) -> Out<()> {
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

    pub(super) fn args(&mut self) -> Out<Args> {
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
