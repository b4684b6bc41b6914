//! Reads the text form of a plan that `print` writes.
//!
//! Invariant: what is read has the form of a plan and a graph that `verify` accepts; whether it is a right one, `check` says.
//! Any other text is an error with its line. Nothing in it can ask for more memory than its own length.

use crate::{
    Action, Buffer, BufferId, HeadChunk, KernelRules, Place, Plan, Policy, Queue, Slot, Step, StepId, Tier,
    WeightLayout, WeightOperand,
};
use remat_ir::{CustomOps, Graph, IrError, OpId, Text, ValueId, parse_with};
use std::str::FromStr;
use std::sync::Arc;

/// A text that is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct PlanTextError {
    /// Line number, from 1.
    pub line: usize,
    /// What is wrong there.
    pub message: String,
}

impl FromStr for Plan {
    type Err = PlanTextError;

    fn from_str(text: &str) -> Result<Self, PlanTextError> {
        Plan::parse_with(text, &CustomOps::new())
    }
}

impl Plan {
    /// The plan that `text` describes, with definitions for the custom ops of its graph.
    ///
    /// # Errors
    /// Text that is not of the printed form, a graph that `verify` refuses, a custom op without definition: with the line.
    pub fn parse_with(text: &str, custom: &CustomOps) -> Result<Plan, PlanTextError> {
        let mut lines = Lines { lines: text.lines().collect(), next: 0 };
        lines.next(|text| text.expect("plan {"))?;
        let policy = lines.next(|text| {
            text.expect("policy ")?;
            text.remainder().parse::<Policy>()
        })?;
        let arena_bytes = lines.next(|text| {
            text.expect("arena ")?;
            text.number()
        })?;
        let rules = lines.next(rules)?;
        let graph = Arc::new(lines.graph(custom)?);
        let mut plan =
            Plan { graph, steps: Vec::new(), buffers: Vec::new(), arena_bytes, policy, rules, spilled: Vec::new() };
        while lines.next(|text| plan.line(text))? == Some(()) {}
        lines.end()?;
        Ok(plan)
    }

    /// A buffer or a step; `None` for what closes the plan.
    fn line(&mut self, text: &mut Text<'_>) -> Result<Option<()>, String> {
        let numbered = |text: &mut Text<'_>, sign: &str, next: usize| match text.id(sign)? {
            id if id as usize == next => Ok(()),
            id => Err(format!("{sign}{id} must be {sign}{next}: buffers and steps are numbered in order")),
        };
        match text.rest().chars().next() {
            Some('w') if self.steps.is_empty() && self.buffers.is_empty() && self.spilled.is_empty() => {
                text.expect("weights")?;
                // Whether there are states among them, the graph says.
                text.eat("and states");
                self.spilled = text.items("(", ")", value)?;
                text.expect("in spill")?;
                if self.spilled.is_empty() {
                    return Err("a line of weights names none: leave it out".to_string());
                }
            }
            Some('b') if self.steps.is_empty() => {
                numbered(text, "b", self.buffers.len())?;
                self.buffers.push(buffer(text)?);
            }
            Some('s') => {
                numbered(text, "s", self.steps.len())?;
                self.steps.push(step(text)?);
            }
            Some('}') => {
                text.expect("}")?;
                return Ok(None);
            }
            _ => return Err(format!("expected a buffer, a step or a closing brace before '{}'", text.excerpt())),
        }
        Ok(Some(()))
    }
}

/// The lines of the text that are not read yet.
struct Lines<'a> {
    lines: Vec<&'a str>,
    next: usize,
}

impl<'a> Lines<'a> {
    /// Reads the next line, which must be there, to its end.
    fn next<T>(&mut self, read: impl FnOnce(&mut Text<'a>) -> Result<T, String>) -> Result<T, PlanTextError> {
        self.skip_blank();
        let line = (self.next + 1).min(self.lines.len()).max(1);
        let at = |message| PlanTextError { line, message };
        let Some(line) = self.lines.get(self.next) else {
            return Err(at("the text ends before the plan does (expected: a closing brace)".to_string()));
        };
        let mut text = Text::new(line);
        let read = read(&mut text).and_then(|read| text.end().map(|()| read)).map_err(at)?;
        self.next += 1;
        Ok(read)
    }

    fn skip_blank(&mut self) {
        while self.lines.get(self.next).is_some_and(|line| line.trim().is_empty()) {
            self.next += 1;
        }
    }

    /// The graph: from the next line to the first that is a closing brace alone.
    fn graph(&mut self, custom: &CustomOps) -> Result<Graph, PlanTextError> {
        self.skip_blank();
        let first = self.next;
        let length = self.lines[first..].iter().position(|line| line.trim() == "}").map_or(0, |last| last + 1);
        self.next += length;
        let text = self.lines[first..self.next].join("\n");
        parse_with(&text, custom).map_err(|error| match error {
            IrError::Parse { line, message } => PlanTextError { line: first + line, message },
            error => PlanTextError { line: first + 1, message: error.to_string() },
        })
    }

    fn end(&mut self) -> Result<(), PlanTextError> {
        self.skip_blank();
        if self.next == self.lines.len() {
            return Ok(());
        }
        let message = "nothing may follow the closing brace".to_string();
        Err(PlanTextError { line: self.next + 1, message })
    }
}

fn rules(text: &mut Text<'_>) -> Result<KernelRules, String> {
    let mut number = |before: &str| {
        text.expect(before)?;
        text.number()
    };
    let slot_alignment_bytes = number("rules alignment ")?;
    let token_block = number(", token block ")?;
    let (tokens, narrow, tokens_when_wide) = (number(", head ")?, number("to ")?, number("then ")?);
    let head = HeadChunk { tokens, narrow, tokens_when_wide };
    Ok(KernelRules { slot_alignment_bytes, token_block, head, attention_shares: number(", shares ")? })
}

fn slot(text: &mut Text<'_>) -> Result<Slot, String> {
    let bytes = text.number()?;
    text.expect("at ")?;
    Ok(Slot { offset: text.number()?, bytes })
}

fn buffer(text: &mut Text<'_>) -> Result<Buffer, String> {
    let value = value(text)?;
    text.expect(":")?;
    let slot = slot(text)?;
    text.expect(",")?;
    let first = step_id(text)?;
    text.expect("to ")?;
    Ok(Buffer { value, slot, first, last: step_id(text)? })
}

fn step(text: &mut Text<'_>) -> Result<Step, String> {
    let word = text.word();
    let queue = Queue::ALL.into_iter().find(|queue| queue.to_string() == word);
    let queue = queue.ok_or_else(|| format!("'{word}' is not a queue (compute, copy, comm)"))?;
    let action = action(text)?;
    let reads = text.items("(", ")", place)?;
    text.expect("->")?;
    let writes = text.items("(", ")", place)?;
    let workspace = if text.eat("workspace ") { Some(slot(text)?) } else { None };
    let waits = if text.eat("waits") { text.items("(", ")", step_id)? } else { Vec::new() };
    Ok(Step { action, queue, reads, writes, workspace, waits, signals: text.eat("signals") })
}

fn action(text: &mut Text<'_>) -> Result<Action, String> {
    if text.rest().starts_with('#') {
        return Ok(Action::Compute(OpId(text.id("#")?)));
    }
    match text.word() {
        "evict" => {
            let value = value(text)?;
            text.expect("to ")?;
            Ok(Action::Evict { value, tier: tier(text.word())? })
        }
        "fetch" => {
            let value = value(text)?;
            text.expect("from ")?;
            let tier = tier(text.word())?;
            let rows = if text.eat("rows ") { Some(self::value(text)?) } else { None };
            Ok(Action::Fetch { value, tier, rows })
        }
        word => Err(format!("'{word}' is not what a step does (#, evict, fetch)")),
    }
}

fn place(text: &mut Text<'_>) -> Result<Place, String> {
    match text.word() {
        "state" => Ok(Place::State(value(text)?)),
        "input" => Ok(Place::Input(value(text)?)),
        word => match word.strip_prefix('b').map(str::parse) {
            Some(Ok(number)) => Ok(Place::Arena(BufferId(number))),
            _ => {
                let tier = tier(word)?;
                if tier == Tier::Spill && text.eat("state ") {
                    return Ok(Place::Spilled(value(text)?));
                }
                text.expect("weight ")?;
                let layout = WeightLayout::RowMajor;
                Ok(Place::Weight(WeightOperand { value: value(text)?, tier, layout }))
            }
        },
    }
}

fn tier(word: &str) -> Result<Tier, String> {
    let tier = [Tier::Resident, Tier::Spill].into_iter().find(|tier| tier.to_string() == word);
    tier.ok_or_else(|| format!("'{word}' is not a memory (resident, spill)"))
}

fn value(text: &mut Text<'_>) -> Result<ValueId, String> {
    text.id("%").map(ValueId)
}

fn step_id(text: &mut Text<'_>) -> Result<StepId, String> {
    text.id("s").map(StepId)
}
