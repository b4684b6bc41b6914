//! `cargo xtask new-op NAME`: the files and lines that an op consists of, with the identity for a definition, from which the
//! right one is made. What it writes compiles and passes every test of ops.
//!
//! Invariant: nothing is written unless everything can be. Look next at `tidy`, which holds all ops to these places.

use std::fs;
use std::path::{Path, PathBuf};

/// The table of ops.
pub const TABLE: &str = "crates/ir/src/ops/mod.rs";
/// The list of kernels.
pub const KERNELS: &str = "crates/cpu/src/kernels.rs";
/// Which kernel an op calls.
pub const DISPATCH: &str = "crates/cpu/src/executor/dispatch.rs";

/// The file of an op's definition.
pub fn definition(name: &str) -> String {
    format!("crates/ir/src/ops/{name}.rs")
}

/// The file of an op's kernel.
pub fn kernel(name: &str) -> String {
    format!("crates/cpu/src/kernels/{name}.rs")
}

/// Ops of the table as (variant, name), in its order.
pub fn table(text: &str) -> Vec<(&str, &str)> {
    let Some((_, rest)) = text.split_once("\nops! {\n") else { return Vec::new() };
    let lines = rest.lines().take_while(|line| *line != "}");
    lines.filter_map(|line| line.trim().strip_suffix(',')?.split_once(' ')).collect()
}

/// Adds an op to the code base at `root`. Returns what was written.
///
/// # Errors
/// A name that no op can have, or that one has; files that are not as they should be.
pub fn add(root: &Path, name: &str) -> Result<Vec<PathBuf>, Box<dyn std::error::Error>> {
    let read = |path: &str| fs::read_to_string(root.join(path)).map_err(|error| format!("{path}: {error}"));
    let (ops, kernels, dispatch) = (read(TABLE)?, read(KERNELS)?, read(DISPATCH)?);
    let variant = variant(name)?;
    let taken = table(&ops).iter().any(|&(other, module)| other == variant || module == name);
    if taken || root.join(definition(name)).exists() || root.join(kernel(name)).exists() {
        return Err(format!("there is an op or a kernel named {name}").into());
    }
    let last = table(&ops).last().map(|(variant, module)| format!("    {variant} {module},\n"));
    let last = last.ok_or("the table of ops is not where it was")?;
    let ops = with_line(&ops, &last, &format!("{last}    {variant} {name},\n"))?;
    let listed = || kernels.lines().filter_map(|line| line.strip_prefix("pub mod "));
    let before = listed().take_while(|other| *other < name).last().map(|other| format!("pub mod {other}\n"));
    let before = before.ok_or("the list of kernels is not where it was")?;
    let kernels = with_line(&kernels, &before, &format!("{before}pub mod {name};\n"))?;
    let call = format!("kernels::{name}::{name}(pool, call.shared::<T>(0), call.out::<T>(0))");
    let custom = "        Op::Custom(op) => {\n";
    let dispatch = with_line(&dispatch, custom, &format!("        Op::{variant}(_) => {call},\n{custom}"))?;
    let files = [
        (definition(name), OP.replace("NAME", name).replace("VARIANT", &variant)),
        (kernel(name), KERNEL.replace("NAME", name)),
        (TABLE.to_string(), ops),
        (KERNELS.to_string(), kernels),
        (DISPATCH.to_string(), dispatch),
    ];
    files
        .into_iter()
        .map(|(path, text)| {
            let path = root.join(path);
            fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
            Ok(path)
        })
        .collect()
}

/// `text` with the only `old` in it replaced.
fn with_line(text: &str, old: &str, new: &str) -> Result<String, String> {
    match text.matches(old).count() {
        1 => Ok(text.replacen(old, new, 1)),
        count => Err(format!("expected '{}' once, found it {count} times", old.trim())),
    }
}

/// The enum's variant of an op: `soft_cap` is `SoftCap`.
fn variant(name: &str) -> Result<String, String> {
    const RESERVED: [&str; 12] =
        ["custom", "mod", "op", "fn", "move", "ref", "use", "type", "loop", "match", "static", "trait"];
    let plain = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    let words = || name.split('_');
    if !plain || RESERVED.contains(&name) || !words().all(|word| word.starts_with(|c: char| c.is_ascii_lowercase())) {
        return Err(format!(
            "'{name}' is no name for an op: words of small letters joined by underscores, as soft_cap"
        ));
    }
    let capital = |word: &str| word[..1].to_ascii_uppercase() + &word[1..];
    Ok(words().map(capital).collect())
}

const OP: &str = r#"//! `NAME`: y = x, element-wise.
//!
//! Operand: x. Result: y like x. Saves nothing: the derivative is dy.

use super::{OpDef, float, operands};
use crate::{Array, Cost, IrError, Sample, Type, ValueId, Vjp};
use serde::{Deserialize, Serialize};

/// `NAME` has no attributes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VARIANT;

impl OpDef for VARIANT {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 1)?;
        float("x", inputs[0])?;
        Ok(vec![inputs[0].clone()])
    }

    fn in_place(&self) -> Vec<(usize, usize)> {
        vec![(0, 0)]
    }

    fn row_operands(&self) -> Option<Vec<usize>> {
        Some(vec![0])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        let dy = cx.dy("NAME")?;
        Ok(vec![cx.needs[0].then_some(dy)])
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::pointwise(0.0, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], _results: &[&Type]) -> Vec<Array> {
        vec![inputs[0].clone()]
    }

    fn samples() -> Vec<Sample> {
        vec![Sample::new(VARIANT).normal([1, 3, 5]), Sample::new(VARIANT).normal([2, 7, 33])]
    }
}
"#;

const KERNEL: &str = r#"//! `NAME`: `y = x`. Bound by memory.

use super::pointwise::{Pointwise, for_each};
use crate::element::Element;
use crate::pool::ThreadPool;
use crate::shared::{Out, View};
use crate::simd::Simd;

struct Forward<'a, T> {
    x: View<'a, T>,
    y: Out<'a, T>,
}

impl<T: Element> Pointwise for Forward<'_, T> {
    #[inline(always)]
    unsafe fn at<S: Simd>(&self, i: usize, lanes: usize) {
        unsafe { T::store::<S>(self.y.at(i), T::load::<S>(self.x.at(i), lanes), lanes) }
    }
}

/// `y = x`; `y` may be `x`, in place.
pub fn NAME<'a, T: Element>(pool: &ThreadPool, x: impl Into<View<'a, T>>, y: impl Into<Out<'a, T>>) {
    let (x, y) = (x.into(), y.into());
    assert_eq!(x.len(), y.len(), "NAME: x and y differ in size");
    for_each(pool, x.len(), &Forward { x, y });
}
"#;
