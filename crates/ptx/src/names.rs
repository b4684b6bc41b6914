//! Names of a kernel as rows and addresses: registers, special registers, variables, labels, constants.

use crate::error::PtxError;
use crate::program::{Address, Program, Row, Space, Special, Step, Vector};
use crate::syntax::{Entry, Operand, Source, Variable};
use std::collections::HashMap;

/// The names that a kernel's statements may use.
pub(crate) struct Names {
    registers: HashMap<String, Row>,
    /// Ones where a register has bits, by row.
    widths: Vec<u64>,
    addresses: HashMap<String, u64>,
    labels: HashMap<String, u32>,
    constants: HashMap<u64, Row>,
    specials: HashMap<String, (Row, Special)>,
    rows: Row,
    params: Vec<u64>,
    shared_bytes: u64,
    dynamic_offset: u64,
    local_bytes: u64,
    constant_bytes: Vec<u8>,
}

impl Names {
    /// Lays out the kernel's variables and gives its registers rows. Row 0 takes what `_` throws away.
    pub fn new(source: &Source, entry: &Entry) -> Result<Names, PtxError> {
        let mut registers = HashMap::new();
        let mut rows = 1;
        let mut widths = vec![u64::MAX];
        for (name, ty) in &entry.registers {
            registers.insert(name.clone(), rows);
            widths.push(ty.mask());
            rows += 1;
        }
        let mut addresses = HashMap::new();
        let fixed = source.shared.iter().chain(&entry.shared).filter(|variable| variable.bytes > 0);
        let shared_bytes = lay_out(fixed, &mut addresses).1;
        let dynamic: Vec<_> = source.shared.iter().chain(&entry.shared).filter(|v| v.bytes == 0).collect();
        let align = dynamic.iter().map(|variable| variable.align).max().unwrap_or(1).max(16);
        let dynamic_offset = shared_bytes.next_multiple_of(align);
        for variable in dynamic {
            addresses.insert(variable.name.clone(), dynamic_offset);
        }
        let local_bytes = lay_out(entry.local.iter(), &mut addresses).1.next_multiple_of(16);
        let (offsets, constant_size) = lay_out(source.constants.iter(), &mut addresses);
        let mut constant_bytes = vec![0; constant_size as usize];
        for (variable, offset) in source.constants.iter().zip(offsets) {
            constant_bytes[offset as usize..][..variable.initial.len()].copy_from_slice(&variable.initial);
        }
        let (params, _) = lay_out(entry.params.iter(), &mut addresses);
        let labels = entry.labels.iter().map(|(name, at)| (name.clone(), *at as u32)).collect();
        let (constants, specials) = (HashMap::new(), HashMap::new());
        let shared_bytes = shared_bytes.next_multiple_of(4);
        Ok(Names {
            registers,
            widths,
            addresses,
            labels,
            constants,
            specials,
            rows,
            params,
            shared_bytes,
            dynamic_offset,
            local_bytes,
            constant_bytes,
        })
    }

    /// Row of a register that a guard names.
    pub fn register(&self, name: &str, line: u32) -> Result<Row, PtxError> {
        let problem = || PtxError::Read { line, problem: format!("register `{name}` is not declared") };
        self.registers.get(name).copied().ok_or_else(problem)
    }

    /// Ones where a register that is written has bits.
    pub fn width(&self, row: Row) -> u64 {
        self.widths.get(row as usize).copied().unwrap_or(u64::MAX)
    }

    /// Index of the instruction that a label stands before.
    pub fn label(&self, name: &str) -> Option<u32> {
        self.labels.get(name).copied()
    }

    /// Row of a constant.
    pub fn constant(&mut self, bits: u64) -> Row {
        let rows = &mut self.rows;
        *self.constants.entry(bits).or_insert_with(|| take(rows))
    }

    /// Row of an operand that is read; `mask` cuts a constant to its type.
    pub fn source(&mut self, operand: &Operand, mask: u64) -> Result<Row, String> {
        match operand {
            Operand::Number(bits) => Ok(self.constant(bits & mask)),
            Operand::Name(name) => {
                if let Some(&row) = self.registers.get(name) {
                    return Ok(row);
                }
                if let Some(&address) = self.addresses.get(name) {
                    return Ok(self.constant(address));
                }
                let special = special(name).ok_or_else(|| format!("`{name}` is not declared"))?;
                let rows = &mut self.rows;
                Ok(self.specials.entry(name.clone()).or_insert_with(|| (take(rows), special)).0)
            }
            _ => Err("a register or a number is missing".into()),
        }
    }

    /// Row of an operand that is written; `_` is thrown away.
    pub fn target(&self, operand: &Operand) -> Result<Row, String> {
        match operand {
            Operand::Name(name) if name == "_" => Ok(0),
            Operand::Name(name) => {
                self.registers.get(name).copied().ok_or_else(|| format!("register `{name}` is not declared"))
            }
            _ => Err("a register is missing".into()),
        }
    }

    /// Rows of `p|q`, or of `p` and nothing.
    pub fn pair(&self, operand: &Operand) -> Result<(Row, Row), String> {
        match operand {
            Operand::Pair(a, b) => {
                Ok((self.target(&Operand::Name(a.clone()))?, self.target(&Operand::Name(b.clone()))?))
            }
            single => Ok((self.target(single)?, 0)),
        }
    }

    /// Rows of `{a, b, ...}`, each element of so many bytes.
    pub fn vector(&mut self, parts: &[Operand], bytes: usize, written: bool) -> Result<Vector, String> {
        if !(1..=4).contains(&parts.len()) || !(1..=8).contains(&bytes) {
            return Err("a vector has one to four elements of at most eight bytes".into());
        }
        let mut made = Vector { count: parts.len(), bytes: bytes as u8, ..Vector::default() };
        let mask = u64::MAX >> (64 - 8 * bytes);
        for (row, part) in made.rows.iter_mut().zip(parts) {
            *row = if written { self.target(part)? } else { self.source(part, mask)? };
        }
        Ok(made)
    }

    /// The address that an operand in brackets gives.
    pub fn address(&mut self, operand: &Operand, space: Space) -> Result<Address, String> {
        let Operand::Address(base, offset) = operand else { return Err("an address in brackets is missing".into()) };
        let base = match base {
            Some(name) => self.source(&Operand::Name(name.clone()), u64::MAX)?,
            None => self.constant(0),
        };
        Ok(Address { space, base, offset: *offset })
    }

    /// The program that these names and steps make.
    pub fn into_program(self, entry: &Entry, steps: Vec<Step>) -> Program {
        Program {
            name: entry.name.clone(),
            steps,
            rows: self.rows as usize,
            constants: self.constants.into_iter().map(|(bits, row)| (row, bits)).collect(),
            specials: self.specials.into_values().collect(),
            params: entry.params.clone(),
            param_offsets: self.params,
            static_shared_bytes: self.shared_bytes,
            dynamic_shared_offset: self.dynamic_offset,
            local_bytes: self.local_bytes,
            constant_bytes: self.constant_bytes,
            most_threads: entry.most_threads,
        }
    }
}

fn take(rows: &mut Row) -> Row {
    *rows += 1;
    *rows - 1
}

/// Offsets one after another, aligned; and their end.
fn lay_out<'a>(variables: impl Iterator<Item = &'a Variable>, addresses: &mut HashMap<String, u64>) -> (Vec<u64>, u64) {
    let mut end = 0u64;
    let mut offsets = Vec::new();
    for variable in variables {
        end = end.next_multiple_of(variable.align);
        addresses.insert(variable.name.clone(), end);
        offsets.push(end);
        end += variable.bytes;
    }
    (offsets, end)
}

fn special(name: &str) -> Option<Special> {
    let axis = |rest: &str| ["x", "y", "z"].iter().position(|axis| *axis == rest);
    let (name, rest) = name.strip_prefix('%')?.split_once('.').unwrap_or((name.strip_prefix('%')?, ""));
    Some(match name {
        "tid" => Special::Tid(axis(rest)?),
        "ntid" => Special::Ntid(axis(rest)?),
        "ctaid" => Special::Ctaid(axis(rest)?),
        "nctaid" => Special::Nctaid(axis(rest)?),
        "laneid" => Special::Lane,
        "warpid" => Special::Warp,
        "lanemask_lt" => Special::LaneMaskLt,
        "lanemask_le" => Special::LaneMaskLe,
        "lanemask_eq" => Special::LaneMaskEq,
        "lanemask_ge" => Special::LaneMaskGe,
        "lanemask_gt" => Special::LaneMaskGt,
        _ => return None,
    })
}
