//! Opcodes of a warp or a block together: barriers, shuffles, votes, reductions, tensor-core products.

use crate::decode_memory::atomic_op;
use crate::names::Names;
use crate::program::{AtomicOp, Instr, Mma, ShuffleMode, Vector, VoteMode};
use crate::syntax::Operand;

const ONES: u64 = 0xffff_ffff;

/// The instruction, `None` where the opcode is none of these.
pub(crate) fn warp_instr(names: &mut Names, parts: &[&str], operands: &[Operand]) -> Result<Option<Instr>, String> {
    Ok(Some(match parts {
        ["bar" | "barrier", "sync"] | ["barrier", "sync", "aligned"] => barrier(operands)?,
        ["bar", "warp", "sync"] => match operands {
            [members] => Instr::WarpSync { members: names.source(members, ONES)? },
            _ => return Err("takes the lanes that take part".into()),
        },
        ["shfl", "sync", mode, "b32"] => shuffle(names, mode, operands)?,
        ["vote", "sync", mode, ty] => vote(names, mode, ty, operands)?,
        ["redux", "sync", op, ty] => reduce(names, op, ty, operands)?,
        ["mma", "sync", "aligned", rest @ ..] => mma(names, rest, operands)?,
        _ => return Ok(None),
    }))
}

fn barrier(operands: &[Operand]) -> Result<Instr, String> {
    match operands {
        [Operand::Number(id)] if *id < 16 => Ok(Instr::Barrier { id: *id as u32 }),
        _ => Err("only barriers of a whole block, by a constant number below 16, are supported".into()),
    }
}

fn shuffle(names: &mut Names, mode: &str, operands: &[Operand]) -> Result<Instr, String> {
    let mode = match mode {
        "up" => ShuffleMode::Up,
        "down" => ShuffleMode::Down,
        "bfly" => ShuffleMode::Butterfly,
        "idx" => ShuffleMode::Index,
        _ => return Err("the mode is not known".into()),
    };
    let [d, a, b, c, members] = operands else { return Err("takes five operands".into()) };
    let (d, found) = names.pair(d)?;
    let [a, b, c, members] = [a, b, c, members].map(|operand| names.source(operand, ONES));
    Ok(Instr::Shuffle { mode, d, found, a: a?, b: b?, c: c?, members: members? })
}

fn vote(names: &mut Names, mode: &str, ty: &str, operands: &[Operand]) -> Result<Instr, String> {
    let mode = match (mode, ty) {
        ("all", "pred") => VoteMode::All,
        ("any", "pred") => VoteMode::Any,
        ("uni", "pred") => VoteMode::Uniform,
        ("ballot", "b32") => VoteMode::Ballot,
        _ => return Err("the mode is not known".into()),
    };
    let [d, a, members] = operands else { return Err("takes three operands".into()) };
    let (negated, a) = match a {
        Operand::Not(name) => (true, names.source(&Operand::Name(name.clone()), 1)?),
        plain => (false, names.source(plain, 1)?),
    };
    Ok(Instr::Vote { mode, d: names.target(d)?, negated, a, members: names.source(members, ONES)? })
}

fn reduce(names: &mut Names, op: &str, ty: &str, operands: &[Operand]) -> Result<Instr, String> {
    let known = atomic_op(op).filter(|op| !matches!(op, AtomicOp::Exchange | AtomicOp::CompareSwap));
    let (Some(op), "u32" | "s32" | "b32") = (known, ty) else { return Err("the operation is not known".into()) };
    let [d, a, members] = operands else { return Err("takes three operands".into()) };
    let (a, members) = (names.source(a, ONES)?, names.source(members, ONES)?);
    Ok(Instr::Reduce { op, signed: ty == "s32", d: names.target(d)?, a, members })
}

fn mma(names: &mut Names, parts: &[&str], operands: &[Operand]) -> Result<Instr, String> {
    let (k, bf16) = match parts {
        ["m16n8k16", "row", "col", "f32", "bf16", "bf16", "f32"] => (16, true),
        ["m16n8k16", "row", "col", "f32", "f16", "f16", "f32"] => (16, false),
        ["m16n8k8", "row", "col", "f32", "bf16", "bf16", "f32"] => (8, true),
        ["m16n8k8", "row", "col", "f32", "f16", "f16", "f32"] => (8, false),
        _ => return Err("only m16n8k16 and m16n8k8 of bf16 or f16 into f32 are known".into()),
    };
    let [d, a, b, c] = operands else { return Err("takes four operands".into()) };
    let mut rows = |operand: &Operand, count: usize, written: bool| -> Result<Vector, String> {
        match operand {
            Operand::Vector(parts) if parts.len() == count => names.vector(parts, 4, written),
            Operand::Name(_) if count == 1 => names.vector(std::slice::from_ref(operand), 4, written),
            _ => Err(format!("a fragment has {count} registers here")),
        }
    };
    let (d, c) = (rows(d, 4, true)?, rows(c, 4, false)?);
    Ok(Instr::Mma(Mma { k, bf16, d, a: rows(a, k / 4, false)?, b: rows(b, k / 8, false)?, c }))
}
