//! A module as its text has it: variables, kernels, statements with their lines. Names are resolved in `decode`.

use crate::types::Type;

/// A variable of any state space.
#[derive(Debug, Clone)]
pub(crate) struct Variable {
    pub name: String,
    pub align: u64,
    /// Bytes in all; zero for `.extern .shared` arrays, whose size the launch gives.
    pub bytes: u64,
    /// Initial bytes of constants.
    pub initial: Vec<u8>,
}

/// An operand of an instruction.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Operand {
    /// A register, a special register, a variable's address, a label.
    Name(String),
    /// An integer, or the bits of a `0f`/`0d` float.
    Number(u64),
    /// `!%p`.
    Not(String),
    /// `{a, b}`.
    Vector(Vec<Operand>),
    /// `[base + offset]`; a number alone has no base.
    Address(Option<String>, i64),
    /// `%p|%q`, or `_` for none.
    Pair(String, String),
}

/// One instruction: `@!%p opcode operands;`.
#[derive(Debug, Clone)]
pub(crate) struct Statement {
    pub line: u32,
    /// The predicate, and whether it is negated.
    pub guard: Option<(String, bool)>,
    pub opcode: String,
    pub operands: Vec<Operand>,
}

/// An entry with its body. Names of registers are made unique to their scope.
#[derive(Debug, Clone, Default)]
pub(crate) struct Entry {
    pub name: String,
    pub line: u32,
    pub params: Vec<Variable>,
    pub registers: Vec<(String, Type)>,
    pub shared: Vec<Variable>,
    pub local: Vec<Variable>,
    pub statements: Vec<Statement>,
    /// Label and the index of the statement it stands before.
    pub labels: Vec<(String, usize)>,
    /// Most threads of a block, where the kernel states them, and whether it is exactly these.
    pub most_threads: Option<(u64, bool)>,
}

/// All of a module.
#[derive(Debug, Clone, Default)]
pub(crate) struct Source {
    pub entries: Vec<Entry>,
    pub shared: Vec<Variable>,
    pub constants: Vec<Variable>,
}
