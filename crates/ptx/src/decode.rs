//! Statements into a program: names into rows, opcodes into instructions. Whatever is not known is refused with its line.

use crate::control_flow::{END, join_branches};
use crate::convert::{Comparison, Conversion, packed};
use crate::decode_memory::memory_instr;
use crate::decode_warp::warp_instr;
use crate::error::PtxError;
use crate::lanes::{LaneFn, divides, lane_fn};
use crate::names::Names;
use crate::program::{Instr, LOCAL_BASE, Program, SHARED_BASE, Step};
use crate::syntax::{Entry, Operand, Source, Statement};
use crate::types::Type;

/// The kernels of a module.
pub(crate) fn decode(source: &Source) -> Result<Vec<Program>, PtxError> {
    source.entries.iter().map(|entry| decode_entry(source, entry)).collect()
}

fn decode_entry(source: &Source, entry: &Entry) -> Result<Program, PtxError> {
    let mut names = Names::new(source, entry)?;
    let mut steps = Vec::with_capacity(entry.statements.len());
    for statement in &entry.statements {
        let guard = match &statement.guard {
            Some((name, negated)) => Some((names.register(name, statement.line)?, *negated)),
            None => None,
        };
        let instr = instruction(&mut names, statement).map_err(|problem| {
            let problem = format!("`{}`: {problem}", statement.opcode);
            PtxError::Read { line: statement.line, problem }
        })?;
        steps.push(Step { line: statement.line, guard, instr });
    }
    let last = steps.last().map(|step| (step.guard, step.instr));
    if !matches!(last, Some((None, Instr::Exit | Instr::Branch { .. } | Instr::Trap))) {
        steps.push(Step { line: entry.line, guard: None, instr: Instr::Exit });
    }
    join_branches(&mut steps);
    Ok(names.into_program(entry, steps))
}

fn instruction(names: &mut Names, statement: &Statement) -> Result<Instr, String> {
    let opcode = statement.opcode.as_str();
    let parts: Vec<&str> = opcode.split('.').collect();
    let operands = &statement.operands;
    let simple = match parts.as_slice() {
        ["bra"] | ["bra", "uni"] => return branch(names, operands),
        ["ret"] | ["exit"] => Some(Instr::Exit),
        ["trap"] => Some(Instr::Trap),
        ["mov", ..] => return moved(names, &parts, operands),
        ["cvt", rest @ ..] => return convert(names, rest, operands),
        ["setp", rest @ ..] => return compare(names, rest, operands),
        ["cvta", rest @ ..] => return address_of(names, rest, operands),
        _ => None,
    };
    if let Some(instr) = simple {
        return if operands.is_empty() { Ok(instr) } else { Err("takes no operands".into()) };
    }
    if let Some(instr) = memory_instr(names, &parts, operands)? {
        return Ok(instr);
    }
    if let Some(instr) = warp_instr(names, &parts, operands)? {
        return Ok(instr);
    }
    let Some(f) = lane_fn(opcode) else { return Err("the instruction, or one of its modifiers, is not known".into()) };
    let mask = parts.last().and_then(|name| Type::named(name)).map_or(u64::MAX, Type::mask);
    // The addend of a wide product has twice the width.
    let mask = if parts.contains(&"wide") { u64::MAX } else { mask };
    lane_instr(names, f, divides(opcode), mask, operands)
}

fn lane_instr(names: &mut Names, f: LaneFn, divides: bool, mask: u64, operands: &[Operand]) -> Result<Instr, String> {
    let count = match f {
        LaneFn::One(_) => 1,
        LaneFn::Two(_) => 2,
        LaneFn::Three(_) => 3,
        LaneFn::Four(_) => 4,
    };
    let [d, from @ ..] = operands else { return Err("operands are missing".into()) };
    if from.len() != count {
        return Err(format!("takes {count} sources, not {}", from.len()));
    }
    let mut sources = [0; 4];
    for (row, operand) in sources.iter_mut().zip(from) {
        *row = names.source(operand, mask)?;
    }
    let d = names.target(d)?;
    Ok(if divides { Instr::Divide { f, d, a: sources[0], b: sources[1] } } else { Instr::Lane { f, d, sources } })
}

fn branch(names: &Names, operands: &[Operand]) -> Result<Instr, String> {
    let [Operand::Name(label)] = operands else { return Err("takes one label".into()) };
    let target = names.label(label).ok_or_else(|| format!("label `{label}` is not in this kernel"))?;
    Ok(Instr::Branch { target, join: END })
}

fn moved(names: &mut Names, parts: &[&str], operands: &[Operand]) -> Result<Instr, String> {
    let ["mov", ty] = parts else { return Err("the instruction, or one of its modifiers, is not known".into()) };
    let ty = Type::named(ty).ok_or("the type is not known")?;
    match operands {
        [d, Operand::Vector(from)] => {
            let parts = names.vector(from, ty.bytes() as usize / from.len().max(1), false)?;
            Ok(Instr::Pack { d: names.target(d)?, parts })
        }
        [Operand::Vector(to), a] => {
            let parts = names.vector(to, ty.bytes() as usize / to.len().max(1), true)?;
            Ok(Instr::Unpack { parts, a: names.source(a, ty.mask())? })
        }
        [d, a] => {
            let a = names.source(a, ty.mask())?;
            Ok(Instr::Lane { f: LaneFn::One(|a| a), d: names.target(d)?, sources: [a, 0, 0, 0] })
        }
        _ => Err("takes two operands".into()),
    }
}

fn convert(names: &mut Names, parts: &[&str], operands: &[Operand]) -> Result<Instr, String> {
    match (packed(parts), operands) {
        (Some(f), [d, a, b]) => {
            let sources = [names.source(a, u64::MAX)?, names.source(b, u64::MAX)?, 0, 0];
            Ok(Instr::Lane { f: LaneFn::Two(f), d: names.target(d)?, sources })
        }
        (None, [d, a]) => {
            let conversion = Conversion::decode(parts).ok_or("this conversion, or its rounding, is not known")?;
            let a = names.source(a, u64::MAX)?;
            let d = names.target(d)?;
            Ok(Instr::Convert { conversion, d, a, wide: names.width(d) })
        }
        _ => Err("the operands do not fit the conversion".into()),
    }
}

fn compare(names: &mut Names, parts: &[&str], operands: &[Operand]) -> Result<Instr, String> {
    let comparison = Comparison::decode(parts).ok_or("this comparison is not known")?;
    let (d, a, b, with) = match (operands, comparison.joins()) {
        ([d, a, b], false) => (d, a, b, None),
        ([d, a, b, with], true) => (d, a, b, Some(with)),
        _ => return Err("the operands do not fit the comparison".into()),
    };
    let (d, opposite) = names.pair(d)?;
    let (a, b) = (names.source(a, u64::MAX)?, names.source(b, u64::MAX)?);
    let with = match with {
        Some(Operand::Not(_)) => return Err("a negated predicate to join with is not supported".into()),
        Some(with) => names.source(with, 1)?,
        None => a,
    };
    Ok(Instr::Compare { comparison, d, opposite, a, b, with })
}

fn address_of(names: &mut Names, parts: &[&str], operands: &[Operand]) -> Result<Instr, String> {
    let f: fn(u64) -> u64 = match parts {
        ["global", "u64"] | ["to", "global", "u64"] => |a| a,
        ["shared", "u64"] => |a| a.wrapping_add(SHARED_BASE),
        ["to", "shared", "u64"] => |a| a.wrapping_sub(SHARED_BASE),
        ["local", "u64"] => |a| a.wrapping_add(LOCAL_BASE),
        ["to", "local", "u64"] => |a| a.wrapping_sub(LOCAL_BASE),
        _ => return Err("this change of address space is not known".into()),
    };
    let [d, a] = operands else { return Err("takes two operands".into()) };
    let a = names.source(a, u64::MAX)?;
    Ok(Instr::Lane { f: LaneFn::One(f), d: names.target(d)?, sources: [a, 0, 0, 0] })
}
