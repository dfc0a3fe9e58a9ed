//! The syntax tree of a template. Operator chains are flat lists, so that only brackets and tags nest.

use std::sync::Arc;

pub(super) type Name = Arc<str>;

#[derive(Debug)]
pub(super) enum Expr {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(Arc<str>),
    Name(Name),
    List(Vec<Expr>),
    Tuple(Vec<Expr>),
    Dict(Vec<(Expr, Expr)>),
    /// `value if condition else other`.
    If(Box<(Expr, Expr, Option<Expr>)>),
    Or(Vec<Expr>),
    And(Vec<Expr>),
    Not(Box<Expr>),
    Neg(Box<Expr>),
    Pos(Box<Expr>),
    Compare(Box<Expr>, Vec<(Cmp, Expr)>),
    Math(Box<Expr>, Vec<(Op, Expr)>),
    Concat(Vec<Expr>),
    Postfix(Box<Expr>, Vec<Post>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cmp {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    In,
    NotIn,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Add,
    Sub,
    Mul,
    Div,
    FloorDiv,
    Mod,
    Pow,
}

#[derive(Debug)]
pub(super) enum Post {
    Attr(Name),
    Item(Expr),
    Slice(Option<Expr>, Option<Expr>, Option<Expr>),
    Call(Args),
    Filter(Name, Args),
    Test { name: Name, args: Args, negated: bool },
}

#[derive(Debug, Default)]
pub(super) struct Args {
    pub(super) positional: Vec<Expr>,
    pub(super) named: Vec<(Name, Expr)>,
    /// `*values`
    pub(super) star: Option<Box<Expr>>,
    /// `**values`
    pub(super) star_star: Option<Box<Expr>>,
}

#[derive(Debug)]
pub(super) enum Target {
    Name(Name),
    Names(Vec<Target>),
    /// `namespace.field`
    Field(Name, Name),
}

#[derive(Debug)]
pub(super) struct Stmt {
    pub(super) line: u32,
    pub(super) kind: StmtKind,
}

#[derive(Debug)]
pub(super) enum StmtKind {
    Data(Arc<str>),
    Print(Expr),
    If {
        arms: Vec<(Expr, Vec<Stmt>)>,
        otherwise: Vec<Stmt>,
    },
    For(Arc<For>),
    Set(Target, Expr),
    /// `{% set x %}...{% endset %}` with filters.
    SetBlock {
        target: Target,
        filters: Vec<Post>,
        body: Vec<Stmt>,
    },
    /// `{% filter f %}...{% endfilter %}`
    FilterBlock {
        filters: Vec<Post>,
        body: Vec<Stmt>,
    },
    With {
        values: Vec<(Target, Expr)>,
        body: Vec<Stmt>,
    },
    Macro(Arc<MacroDef>),
    /// `{% call(args) f(x) %}...{% endcall %}`
    Call {
        expr: Expr,
        caller: Arc<MacroDef>,
    },
    Do(Expr),
    /// Transparent tags: `generation`, `block`.
    Body(Vec<Stmt>),
    Break,
    Continue,
}

#[derive(Debug)]
pub(super) struct For {
    pub(super) target: Target,
    pub(super) iter: Expr,
    pub(super) condition: Option<Expr>,
    pub(super) recursive: bool,
    pub(super) body: Vec<Stmt>,
    pub(super) otherwise: Vec<Stmt>,
}

#[derive(Debug)]
pub(super) struct MacroDef {
    pub(super) name: Name,
    pub(super) params: Vec<(Name, Option<Expr>)>,
    pub(super) body: Vec<Stmt>,
    /// Whether the body names `caller`, `varargs` or `kwargs`, which it then receives.
    pub(super) uses_varargs: bool,
    pub(super) uses_kwargs: bool,
}
