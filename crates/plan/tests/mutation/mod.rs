//! Changed plans: one function that makes them of a valid one, and one that says what must be true of any text.
//!
//! The same two are run by a test on seeded changes and by the fuzz target `plan_text`.

mod simulate;

use remat_ir::{Array, Graph};
use remat_plan::{Action, BufferId, CheckError, Place, Plan, StepId, Tier, WeightOperand, check};
use simulate::{reference, simulate};

/// Bytes that choices are made from; when they run out, the first choice is taken.
pub struct Draw<'a> {
    bytes: &'a [u8],
}

impl<'a> Draw<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Draw { bytes }
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        let (taken, rest) = self.bytes.split_at(self.bytes.len().min(if bound <= 256 { 1 } else { 4 }));
        self.bytes = rest;
        taken.iter().fold(0, |number, &byte| number << 8 | usize::from(byte)) % bound
    }
}

/// A valid plan, its source graph, and what that computes.
pub struct Seed {
    pub plan: Plan,
    pub source: Graph,
    expected: Vec<(String, Array)>,
}

/// What became of a text.
#[derive(Debug, PartialEq)]
pub enum Verdict {
    NotAPlan,
    Refused(CheckError),
    Accepted,
}

impl Seed {
    pub fn new(plan: Plan, source: Graph) -> Seed {
        let expected = reference(&source);
        Seed { plan, source, expected }
    }

    /// Holds a text to what is true of every text: it is refused with a line, or a plan that is printed as it is read; the
    /// checker refuses that, or it computes what the source graph computes, in every order that its queues allow.
    pub fn examine(&self, text: &str, draw: &mut Draw<'_>) -> Verdict {
        let plan: Plan = match text.parse() {
            Ok(plan) => plan,
            Err(_) => return Verdict::NotAPlan,
        };
        assert_eq!(plan.to_string().parse(), Ok(plan.clone()));
        if let Err(error) = check(&plan, &self.source) {
            assert!(!error.to_string().is_empty());
            return Verdict::Refused(error);
        }
        for _ in 0..2 {
            let made = simulate(&plan, draw).unwrap_or_else(|error| panic!("accepted, but {error}:\n{text}"));
            assert_eq!(made.len(), self.expected.len());
            for ((name, made), (_, expected)) in made.iter().zip(&self.expected) {
                let scale = expected.data.iter().fold(1.0f64, |scale, x| scale.max(x.abs()));
                let near = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-9 * scale;
                let same = made.shape == expected.shape && made.data.iter().zip(&expected.data).all(near);
                assert!(same, "accepted, but {name} differs:\n{text}");
            }
        }
        Verdict::Accepted
    }

    /// The text of the plan after one to three changes, of the plan or of its text.
    pub fn mutant(&self, draw: &mut Draw<'_>) -> String {
        let mut plan = self.plan.clone();
        for _ in 0..=draw.below(3) {
            if draw.below(5) == 0 {
                return edited(&plan.to_string(), draw);
            }
            change(&mut plan, draw);
        }
        plan.to_string()
    }
}

/// One change to what the plan says beside its graph.
fn change(plan: &mut Plan, draw: &mut Draw<'_>) {
    let (step, buffer) = (draw.below(plan.steps.len()), draw.below(plan.buffers.len()));
    let other = draw.below(plan.steps.len());
    match draw.below(12) {
        0 => plan.buffers[buffer].slot.offset = draw.below(plan.arena_bytes / 64 + 2) * 64,
        1 => plan.buffers[buffer].slot.offset = plan.buffers[draw.below(plan.buffers.len())].slot.offset,
        2 => plan.buffers[buffer].last = StepId(other as u32),
        3 => plan.buffers[buffer].first = StepId(other as u32),
        4 => exchange(plan, step),
        5 if draw.below(2) == 0 => plan.steps[step].waits.clear(),
        5 => plan.steps[step].waits.push(StepId(other as u32)),
        6 => plan.steps[step].signals ^= true,
        7 => {
            let place = place(plan, draw);
            let step = &mut plan.steps[step];
            let reads = step.reads.len();
            let index = draw.below((reads + step.writes.len()).max(1));
            if let Some(at) = step.reads.iter_mut().chain(&mut step.writes).nth(index) {
                *at = place;
            }
        }
        8 => {
            if let Some(slot) = &mut plan.steps[step].workspace {
                slot.offset = draw.below(plan.arena_bytes / 64 + 2) * 64;
            }
        }
        9 => {
            let (a, b) = (plan.buffers[buffer].value, draw.below(plan.buffers.len()));
            plan.buffers[buffer].value = plan.buffers[b].value;
            plan.buffers[b].value = a;
        }
        10 => plan.steps.swap(step, other),
        _ => elsewhere(plan, draw),
    }
    if draw.below(2) == 0 {
        let workspaces = plan.steps.iter().filter_map(|step| step.workspace);
        plan.arena_bytes =
            plan.buffers.iter().map(|buffer| buffer.slot).chain(workspaces).map(|s| s.end()).max().unwrap_or(0);
    }
}

/// Another place for a weight, or other rows of it.
fn elsewhere(plan: &mut Plan, draw: &mut Draw<'_>) {
    let value = remat_ir::ValueId(draw.below(plan.graph.values.len()) as u32);
    let fetches: Vec<usize> =
        (0..plan.steps.len()).filter(|&at| matches!(plan.steps[at].action, Action::Fetch { .. })).collect();
    match draw.below(3) {
        0 => {
            let listed = plan.spilled.binary_search(&value);
            match listed {
                Ok(at) => drop(plan.spilled.drain(at..=at)),
                Err(at) => plan.spilled.insert(at, value),
            }
        }
        changed if !fetches.is_empty() => {
            let step = &mut plan.steps[fetches[draw.below(fetches.len())]];
            if let Action::Fetch { tier, rows, .. } = &mut step.action {
                match changed {
                    1 => *tier = [Tier::Resident, Tier::Spill][draw.below(2)],
                    _ if rows.is_some() => (*rows, step.reads) = (None, Vec::new()),
                    _ => (*rows, step.reads) = (Some(value), vec![Place::Input(value)]),
                }
            }
        }
        _ => {}
    }
}

fn place(plan: &Plan, draw: &mut Draw<'_>) -> Place {
    let value = remat_ir::ValueId(draw.below(plan.graph.values.len()) as u32);
    match draw.below(7) {
        6 => Place::Spilled(value),
        0 => Place::Weight(WeightOperand {
            value,
            tier: [Tier::Resident, Tier::Spill][draw.below(2)],
            layout: remat_plan::WeightLayout::RowMajor,
        }),
        1 => Place::State(value),
        2 => Place::Input(value),
        _ => Place::Arena(BufferId(draw.below(plan.buffers.len() + 1) as u32)),
    }
}

/// Exchanges a step and the next, with everything that names them.
fn exchange(plan: &mut Plan, at: usize) {
    let next = at + 1;
    if next == plan.steps.len() {
        return;
    }
    plan.steps.swap(at, next);
    let rename = |id: &mut StepId| match id.index() {
        index if index == at => *id = StepId(next as u32),
        index if index == next => *id = StepId(at as u32),
        _ => {}
    };
    plan.steps.iter_mut().flat_map(|step| &mut step.waits).for_each(rename);
    plan.buffers.iter_mut().flat_map(|buffer| [&mut buffer.first, &mut buffer.last]).for_each(rename);
}

/// One change of the text: another number, a line less, a line twice, two lines exchanged, a character.
fn edited(text: &str, draw: &mut Draw<'_>) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    let (line, other) = (draw.below(lines.len()), draw.below(lines.len()));
    match draw.below(6) {
        0 => drop(lines.remove(line)),
        1 => lines.insert(other, lines[line]),
        2 => lines.swap(line, other),
        3 => {
            let mut chars: Vec<char> = text.chars().collect();
            let at = draw.below(chars.len());
            chars[at] = *[' ', '0', '9', 'b', 's', '%', '#', '(', ')', '{', '}', '"', ',', '-', '\n', 'é']
                .get(draw.below(16))
                .expect("as many");
            return chars.into_iter().collect();
        }
        _ => {
            let changed = with_another_number(lines[line], draw);
            lines[line] = &changed;
            return lines.join("\n");
        }
    }
    lines.join("\n")
}

fn with_another_number(line: &str, draw: &mut Draw<'_>) -> String {
    let starts: Vec<usize> = line
        .char_indices()
        .filter(|&(at, c)| c.is_ascii_digit() && !line[..at].ends_with(|c: char| c.is_ascii_digit()))
        .map(|(at, _)| at)
        .collect();
    if starts.is_empty() {
        return line.to_string();
    }
    let at = starts[draw.below(starts.len())];
    let end = line[at..].find(|c: char| !c.is_ascii_digit()).map_or(line.len(), |length| at + length);
    let number: u64 = line[at..end].parse().unwrap_or(0);
    let number = match draw.below(6) {
        0 => number.wrapping_add(1),
        1 => number.wrapping_sub(1),
        2 => 0,
        3 => number.wrapping_mul(2),
        4 => u64::MAX - draw.below(64) as u64,
        _ => draw.below(64) as u64,
    };
    format!("{}{number}{}", &line[..at], &line[end..])
}
