//! A template as a tree. Invariant: chains of operators, filters and branches are lists, not nested nodes, so the tree is
//! no deeper than the brackets and blocks that its author nested, and the parser bounds those.

use crate::builtins::{Filter, Test};
use crate::value::Value;
use std::sync::Arc;

pub(crate) type Name = Arc<str>;

/// A statement with its line.
#[derive(Debug)]
pub(crate) struct Statement {
    pub(crate) line: usize,
    pub(crate) kind: StatementKind,
}

#[derive(Debug)]
pub(crate) enum StatementKind {
    Data(Value),
    Output(Expr),
    If {
        branches: Vec<(Expr, Vec<Statement>)>,
        otherwise: Vec<Statement>,
    },
    For(Box<For>),
    Set {
        target: Target,
        value: Expr,
    },
    SetBlock {
        target: Target,
        filters: Vec<Postfix>,
        body: Vec<Statement>,
    },
    FilterBlock {
        filters: Vec<Postfix>,
        body: Vec<Statement>,
    },
    With {
        targets: Vec<(Target, Expr)>,
        body: Vec<Statement>,
    },
    Macro(Name, Arc<Macro>),
    /// `{% call(a) f(x) %}`: `f` may call the body as `caller`.
    Call {
        body: Arc<Macro>,
        call: Expr,
    },
    /// `{% generation %}`.
    Generation(Vec<Statement>),
    Break,
    Continue,
}

#[derive(Debug)]
pub(crate) struct For {
    pub(crate) target: Target,
    pub(crate) items: Expr,
    pub(crate) condition: Option<Expr>,
    pub(crate) recursive: bool,
    pub(crate) body: Vec<Statement>,
    pub(crate) otherwise: Vec<Statement>,
}

#[derive(Debug)]
pub(crate) struct Macro {
    pub(crate) name: Name,
    pub(crate) parameters: Vec<(Name, Option<Expr>)>,
    pub(crate) body: Vec<Statement>,
    /// Whether the body asks for surplus arguments.
    pub(crate) varargs: bool,
    pub(crate) kwargs: bool,
    pub(crate) caller: bool,
}

/// What is assigned to.
#[derive(Debug)]
pub(crate) enum Target {
    Name(Name),
    /// `namespace.attribute`.
    Attribute(Name, Name),
    Tuple(Vec<Target>),
}

#[derive(Debug)]
pub(crate) enum Expr {
    Literal(Value),
    Name(Name),
    List(Vec<Expr>),
    Tuple(Vec<Expr>),
    Dict(Vec<(Expr, Expr)>),
    /// The first operand, then each operator with its right operand.
    Chain(Box<Expr>, Vec<(Binary, Expr)>),
    Concat(Vec<Expr>),
    Compare(Box<Expr>, Vec<(Comparison, Expr)>),
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Not(Box<Expr>),
    Negative(Box<Expr>),
    Positive(Box<Expr>),
    /// `then if condition else otherwise`.
    If(Box<(Expr, Expr, Option<Expr>)>),
    /// A value and what stands behind it: attributes, calls, filters, tests.
    Postfix(Box<Expr>, Vec<Postfix>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    FloorDiv,
    Mod,
    Pow,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    In,
    NotIn,
}

#[derive(Debug)]
pub(crate) struct Postfix {
    pub(crate) line: usize,
    pub(crate) kind: PostfixKind,
}

#[derive(Debug)]
pub(crate) enum PostfixKind {
    Attribute(Name),
    Item(Expr),
    Slice(Box<[Option<Expr>; 3]>),
    Call(Arguments),
    /// An attribute that is called at once.
    Method(Name, Arguments),
    /// None: there is no such filter, which is an error only where it is reached.
    Filter {
        filter: Option<Filter>,
        name: Name,
        arguments: Arguments,
    },
    Test {
        test: Option<Test>,
        name: Name,
        arguments: Arguments,
        negated: bool,
    },
}

#[derive(Debug, Default)]
pub(crate) struct Arguments {
    pub(crate) positional: Vec<Expr>,
    pub(crate) named: Vec<(Name, Expr)>,
    /// `*list` and `**dict`.
    pub(crate) rest: Option<Box<Expr>>,
    pub(crate) named_rest: Option<Box<Expr>>,
}
