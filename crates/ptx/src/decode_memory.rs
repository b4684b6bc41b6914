//! Opcodes that reach memory: loads, stores, atomics, asynchronous copies, matrices of `ldmatrix`.

use crate::names::Names;
use crate::program::{Address, AtomicOp, Instr, Space, Vector};
use crate::syntax::Operand;
use crate::types::Type;

/// The instruction, `None` where the opcode is none of these.
pub(crate) fn memory_instr(names: &mut Names, parts: &[&str], operands: &[Operand]) -> Result<Option<Instr>, String> {
    Ok(Some(match parts {
        ["ld", rest @ ..] => load(names, rest, operands)?,
        ["st", rest @ ..] => store(names, rest, operands)?,
        ["atom" | "red", rest @ ..] => atomic(names, parts[0] == "atom", rest, operands)?,
        ["cp", "async", rest @ ..] => copy(names, rest, operands)?,
        ["ldmatrix", "sync", "aligned", "m8n8", rest @ ..] => matrices(names, rest, operands)?,
        ["membar", "gl" | "cta" | "sys"] | ["fence", ..] if operands.is_empty() => Instr::Nothing,
        _ => return Ok(None),
    }))
}

/// Space, elements and type of a load's or store's opcode.
fn access(parts: &[&str], allowed: &[&str]) -> Result<(Space, usize, Type), String> {
    let (mut space, mut count, mut ty) = (Space::Generic, 1, None);
    for part in parts {
        match *part {
            "global" => space = Space::Global,
            "shared" | "shared::cta" => space = Space::Shared,
            "local" => space = Space::Local,
            "const" => space = Space::Const,
            "param" => space = Space::Param,
            "v2" => count = 2,
            "v4" => count = 4,
            hint if allowed.contains(&hint) => {}
            other => match Type::named(other) {
                Some(known) if known != Type::Pred => ty = Some(known),
                _ => return Err(format!("modifier `.{other}` is not known")),
            },
        }
    }
    ty.map(|ty| (space, count, ty)).ok_or_else(|| "the type is missing".into())
}

fn rows_of(names: &mut Names, operand: &Operand, count: usize, ty: Type, written: bool) -> Result<Vector, String> {
    let parts = match operand {
        Operand::Vector(parts) => parts.as_slice(),
        single => std::slice::from_ref(single),
    };
    if parts.len() != count {
        return Err(format!("{count} registers are needed, not {}", parts.len()));
    }
    if count * ty.bytes() as usize > 16 {
        return Err("an access is at most 16 bytes wide".into());
    }
    names.vector(parts, ty.bytes() as usize, written)
}

fn load(names: &mut Names, parts: &[&str], operands: &[Operand]) -> Result<Instr, String> {
    // Hints of caching do not change what is read.
    let hints = ["nc", "volatile", "ca", "cg", "cs", "lu", "L1::no_allocate", "L1::evict_last", "L2::128B", "L2::256B"];
    let (space, count, ty) = access(parts, &hints)?;
    let [d, from] = operands else { return Err("takes a register and an address".into()) };
    let d = rows_of(names, d, count, ty, true)?;
    let wide = names.width(d.rows[0]);
    Ok(Instr::Load { d, from: names.address(from, space)?, signed: matches!(ty, Type::S(_)), wide })
}

fn store(names: &mut Names, parts: &[&str], operands: &[Operand]) -> Result<Instr, String> {
    let (space, count, ty) = access(parts, &["volatile", "wb", "cg", "cs", "wt", "L1::no_allocate"])?;
    if matches!(space, Space::Const | Space::Param) {
        return Err("constants and parameters cannot be written".into());
    }
    let [to, values] = operands else { return Err("takes an address and a register".into()) };
    let values = rows_of(names, values, count, ty, false)?;
    Ok(Instr::Store { to: names.address(to, space)?, values })
}

/// What an atomic or a warp's reduction does to integers.
pub(crate) fn atomic_op(name: &str) -> Option<AtomicOp> {
    Some(match name {
        "add" => AtomicOp::Add,
        "min" => AtomicOp::Min,
        "max" => AtomicOp::Max,
        "and" => AtomicOp::And,
        "or" => AtomicOp::Or,
        "xor" => AtomicOp::Xor,
        "exch" => AtomicOp::Exchange,
        "cas" => AtomicOp::CompareSwap,
        _ => return None,
    })
}

fn atomic(names: &mut Names, returns: bool, parts: &[&str], operands: &[Operand]) -> Result<Instr, String> {
    let [space @ ("global" | "shared"), op, ty] = parts else {
        return Err("the instruction, or one of its modifiers, is not known".into());
    };
    let space = if *space == "global" { Space::Global } else { Space::Shared };
    let op = atomic_op(op).ok_or("the operation is not known")?;
    let ty = match Type::named(ty) {
        Some(ty @ (Type::U(4 | 8) | Type::S(4 | 8) | Type::B(4 | 8))) => ty,
        Some(_) => return Err("atomics on floats are refused: their sum depends on the order of threads".into()),
        None => return Err("the type is not known".into()),
    };
    let (d, rest) = match operands {
        [d, rest @ ..] if returns => (names.target(d)?, rest),
        rest => (0, rest),
    };
    let (at, b, c) = match (rest, op) {
        ([at, b, c], AtomicOp::CompareSwap) => (at, b, c),
        ([at, b], _) if op != AtomicOp::CompareSwap => (at, b, b),
        _ => return Err("the operands do not fit the operation".into()),
    };
    let at = names.address(at, space)?;
    let (b, c) = (names.source(b, ty.mask())?, names.source(c, ty.mask())?);
    Ok(Instr::Atomic { op, signed: matches!(ty, Type::S(_)), bytes: ty.bytes() as u8, d, at, b, c })
}

fn copy(names: &mut Names, parts: &[&str], operands: &[Operand]) -> Result<Instr, String> {
    let (cached, rest) = match (parts, operands) {
        (["commit_group"], []) => return Ok(Instr::CopyCommit),
        (["wait_all"], []) => return Ok(Instr::CopyWait { open: None }),
        (["wait_group"], [Operand::Number(open)]) => return Ok(Instr::CopyWait { open: Some(*open as u32) }),
        ([cached @ ("ca" | "cg"), "shared" | "shared::cta", "global", rest @ ..], _) => (*cached, rest),
        _ => return Err("the instruction, or one of its modifiers, is not known".into()),
    };
    if let Some(other) = rest.iter().find(|part| !matches!(**part, "L2::64B" | "L2::128B" | "L2::256B")) {
        return Err(format!("modifier `.{other}` is not known"));
    }
    let (to, from, bytes, given) = match operands {
        [to, from, Operand::Number(bytes)] => (to, from, *bytes, None),
        [to, from, Operand::Number(bytes), given] => (to, from, *bytes, Some(names.source(given, 0xffff_ffff)?)),
        _ => return Err("takes two addresses, a size, and perhaps the size of the source".into()),
    };
    if !(bytes == 16 || cached == "ca" && matches!(bytes, 4 | 8)) {
        return Err(format!("copies of {bytes} bytes do not exist with `.{cached}`"));
    }
    let (to, from) = (names.address(to, Space::Shared)?, names.address(from, Space::Global)?);
    Ok(Instr::CopyAsync { to, from, bytes: bytes as u32, given })
}

fn matrices(names: &mut Names, parts: &[&str], operands: &[Operand]) -> Result<Instr, String> {
    let (count, rest) = match parts {
        ["x1", rest @ ..] => (1, rest),
        ["x2", rest @ ..] => (2, rest),
        ["x4", rest @ ..] => (4, rest),
        _ => return Err("the count of matrices is not known".into()),
    };
    let (transposed, rest) = match rest {
        ["trans", rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let ["shared" | "shared::cta", "b16"] = rest else { return Err("only `.shared.b16` is known".into()) };
    let [d, from] = operands else { return Err("takes registers and an address".into()) };
    let d = rows_of(names, d, count, Type::B(4), true)?;
    let from: Address = names.address(from, Space::Shared)?;
    Ok(Instr::LoadMatrix { d, from, transposed })
}
