//! Ids, positions and other small integers that kernels index by, checked on the host before a run.
//!
//! Invariant: inputs that a kernel indexes by are known here as they were written, so that a bad one is an error that names it,
//! as on the CPU, and never an access of a kernel.

use remat_ir::{Node, Op, Type, ValueId};
use remat_plan::{DeviceError, Place};

/// What an input must be.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Check {
    /// The input's name.
    pub(super) input: String,
    op: &'static str,
    node: String,
    rule: Rule,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Rule {
    /// Ids of rows of a table.
    Rows(usize),
    /// Positions in a cache.
    Positions(usize),
    /// Classes, or the number of what is ignored.
    Classes(usize, i32),
    /// Numbers of updates, from 1 on.
    Counted,
    /// Where groups of so many rows end.
    Ends(usize),
    /// Numbers of slices along an axis.
    Numbers(usize),
    /// 0 and 1.
    Mask,
}

impl Check {
    /// What a node needs of its inputs.
    pub(super) fn of(node: &Node, reads: &[Place], types: &[&Type], name_of: impl Fn(ValueId) -> String) -> Vec<Check> {
        let made = |(operand, rule): (usize, Rule)| match reads[operand] {
            Place::Input(id) => Some(Check { input: name_of(id), op: node.op.name(), node: node.name.clone(), rule }),
            _ => None,
        };
        rules(&node.op, types).into_iter().filter_map(made).collect()
    }

    /// Refuses integers that break the rule.
    pub(super) fn check(&self, integers: &[i32]) -> Result<(), DeviceError> {
        let below = |x: i32, bound: usize| usize::try_from(x).is_ok_and(|x| x < bound);
        if let Rule::Ends(rows) = self.rule {
            return self.check_ends(integers, rows);
        }
        let fits = |x: &i32| match self.rule {
            Rule::Rows(rows) => below(*x, rows),
            Rule::Positions(capacity) => below(*x, capacity),
            Rule::Classes(classes, ignored) => *x == ignored || below(*x, classes),
            Rule::Counted => *x > 0,
            Rule::Ends(_) => true,
            Rule::Numbers(size) => below(*x, size),
            Rule::Mask => *x == 0 || *x == 1,
        };
        let Some(bad) = integers.iter().find(|x| !fits(x)) else { return Ok(()) };
        let message = match self.rule {
            Rule::Rows(rows) => format!("id {bad} lies outside the table's {rows} rows"),
            Rule::Positions(capacity) => format!("position {bad} lies outside the cache of {capacity}"),
            Rule::Classes(classes, ignored) => {
                let classes = classes.saturating_sub(1);
                format!("target {bad} is neither a class, from 0 to {classes}, nor {ignored}, which is ignored")
            }
            Rule::Counted => format!("step {bad} must be at least 1"),
            Rule::Ends(_) => String::new(),
            Rule::Numbers(size) => {
                format!("id {bad} lies outside the axis, which has ids 0 to {}", size.saturating_sub(1))
            }
            Rule::Mask => format!("the mask holds {bad}: a mask is of 0 and 1"),
        };
        Err(self.bad_input(message))
    }

    fn bad_input(&self, message: String) -> DeviceError {
        DeviceError::BadInput { op: self.op, node: self.node.clone(), message }
    }

    fn check_ends(&self, ends: &[i32], rows: usize) -> Result<(), DeviceError> {
        let last = ends.last().is_some_and(|&end| usize::try_from(end) == Ok(rows));
        if last && ends.first().is_none_or(|&first| first >= 0) && ends.is_sorted() {
            return Ok(());
        }
        Err(self.bad_input(format!("ends {ends:?} must never fall and end at the {rows} rows")))
    }
}

/// Operands that are indexed by, and what they must be.
fn rules(op: &Op, types: &[&Type]) -> Vec<(usize, Rule)> {
    let first_axis = |operand: usize| types[operand].shape[0];
    let head = |operand: usize| vec![(operand, Rule::Classes(first_axis(1), remat_ir::ops::IGNORED))];
    let last = |operand: usize| types[operand].shape.last();
    if let Op::Embedding(_) = op {
        vec![(1, Rule::Rows(first_axis(0)))]
    } else if let Op::EmbeddingGrad(op) = op {
        vec![(1, Rule::Rows(op.rows))]
    } else if let Op::CacheWrite(_) = op {
        vec![(2, Rule::Positions(types[0].shape[1]))]
    } else if let Op::CachedAttention(_) = op {
        vec![(3, Rule::Positions(types[1].shape[1]))]
    } else if let Op::LinearCrossEntropy(op) = op {
        head(op.targets_operand())
    } else if let Op::LinearCrossEntropyGrad(op) = op {
        head(op.forward().targets_operand())
    } else if let Op::LinearCrossEntropyWithGrad(op) = op {
        head(op.0.forward().targets_operand())
    } else if let Op::CrossEntropy(op) = op {
        vec![(1, Rule::Classes(last(0), op.ignored))]
    } else if let Op::CrossEntropyGrad(op) = op {
        vec![(1, Rule::Classes(last(0), op.ignored))]
    } else if let Op::TargetWeight(op) = op {
        let classes = if op.weighted { last(1) } else { usize::MAX };
        vec![(0, Rule::Classes(classes, op.ignored))]
    } else if let Op::AdamW(_) = op {
        vec![(5, Rule::Counted)]
    } else if let Op::AdamW8bit(_) = op {
        vec![(7, Rule::Counted)]
    } else if let Op::GroupedLinear(_) | Op::GroupedLinearDw(_) = op {
        vec![(0, Rule::Ends(types[1].shape.rows()))]
    } else if let Op::Gather(op) = op {
        vec![(1, Rule::Numbers(types[0].shape[op.axis]))]
    } else if let Op::GatherGrad(op) = op {
        vec![(1, Rule::Numbers(op.size))]
    } else if let Op::TakeAlongAxis(op) = op {
        vec![(1, Rule::Numbers(types[0].shape[op.axis]))]
    } else if let Op::TakeAlongAxisGrad(op) = op {
        vec![(1, Rule::Numbers(op.size))]
    } else if let Op::Select(_) = op {
        vec![(0, Rule::Mask)]
    } else if let Op::MaskedFill(_) = op {
        vec![(1, Rule::Mask)]
    } else {
        Vec::new()
    }
}
