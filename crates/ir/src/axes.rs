//! Axes of shapes: broadcasting as NumPy has it, strides, and walks over elements by strides.
//!
//! Invariant: a shape that passes the checks here has at most [`MOST_AXES`] axes, so that kernels hold strides in arrays of
//! that size. Naive on purpose: `eval` of ops is made of these. Look next at `ops/binary.rs`.

use crate::Type;

/// Axes that an op which walks by strides can have, at most.
pub const MOST_AXES: usize = 8;

/// Refuses a shape of more axes than kernels walk.
pub(crate) fn few_axes(name: &str, shape: &[usize]) -> Result<(), String> {
    if shape.len() <= MOST_AXES { Ok(()) } else { Err(format!("{name} {shape:?} has more than {MOST_AXES} axes")) }
}

/// The shape that operands of these shapes have together: aligned at the last axis, an axis of size 1 stands for any size.
pub(crate) fn broadcast(a: (&str, &Type), b: (&str, &Type)) -> Result<Vec<usize>, String> {
    few_axes(a.0, &a.1.shape)?;
    few_axes(b.0, &b.1.shape)?;
    let axes = a.1.shape.len().max(b.1.shape.len());
    let size = |ty: &Type, axis: usize| match (axis + ty.shape.len()).checked_sub(axes) {
        Some(own) => ty.shape[own],
        None => 1,
    };
    let join = |axis: usize| match (size(a.1, axis), size(b.1, axis)) {
        (left, right) if left == right || right == 1 => Ok(left),
        (1, right) => Ok(right),
        _ => Err(format!("{} {} and {} {} do not broadcast: sizes must be equal or 1", a.0, a.1, b.0, b.1)),
    };
    (0..axes).map(join).collect()
}

/// Whether an operand of this shape broadcasts to that one, which it does not make larger.
pub(crate) fn broadcasts_to(operand: &[usize], shape: &[usize]) -> bool {
    let sizes = shape.iter().rev().zip(operand.iter().rev());
    operand.len() <= shape.len() && sizes.clone().all(|(&size, &own)| own == size || own == 1)
}

/// Elements between neighbours along each axis of a row-major tensor.
pub fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

/// Strides of an operand along the axes of a shape that it broadcasts to: 0 where it has one element for all.
pub fn strides_within(operand: &[usize], shape: &[usize]) -> Vec<usize> {
    let (own, missing) = (strides(operand), shape.len() - operand.len());
    let stride = |axis: usize| match axis.checked_sub(missing) {
        Some(own_axis) if operand[own_axis] != 1 => own[own_axis],
        _ => 0,
    };
    (0..shape.len()).map(stride).collect()
}

/// Where the elements of a row-major walk over `shape` are, in memory of these strides.
pub(crate) fn offsets(shape: &[usize], strides: &[usize]) -> Vec<usize> {
    let mut offsets = vec![0];
    for (&size, &stride) in shape.iter().zip(strides) {
        offsets = offsets.iter().flat_map(|&start| (0..size).map(move |i| start + i * stride)).collect();
    }
    offsets
}

/// The index of an axis counted from the last, which is −1.
pub(crate) fn from_last(axis: i64, axes: usize) -> Option<usize> {
    usize::try_from(i64::try_from(axes).ok()?.checked_add(axis)?).ok().filter(|&index| index < axes)
}

/// An axis cuts a tensor into blocks: how many lie before it, its own size, and elements behind it.
pub fn around(shape: &[usize], axis: usize) -> [usize; 3] {
    [shape[..axis].iter().product(), shape[axis], shape[axis + 1..].iter().product()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use remat_tensor::DType;

    #[test]
    fn shapes_broadcast_as_in_numpy() {
        let ty = |shape: &[usize]| Type::new(DType::F32, shape);
        let of = |a: &[usize], b: &[usize]| broadcast(("a", &ty(a)), ("b", &ty(b)));
        assert_eq!(of(&[2, 1, 4], &[3, 1]), Ok(vec![2, 3, 4]));
        assert_eq!(of(&[1], &[5, 6]), Ok(vec![5, 6]));
        assert_eq!(of(&[2, 3], &[2, 1]), Ok(vec![2, 3]));
        let refused = of(&[2, 3], &[4, 3]).unwrap_err();
        assert_eq!(refused, "a f32[2, 3] and b f32[4, 3] do not broadcast: sizes must be equal or 1");
        assert!(of(&[1; 9], &[1]).unwrap_err().contains("has more than 8 axes"));
        assert!(broadcasts_to(&[1, 3], &[2, 3]) && !broadcasts_to(&[2, 3], &[1, 3]) && !broadcasts_to(&[1, 3], &[3]));
    }

    #[test]
    fn a_walk_by_strides_finds_the_elements() {
        assert_eq!(strides(&[2, 3, 4]), [12, 4, 1]);
        assert_eq!(strides_within(&[3, 1], &[2, 3, 4]), [0, 1, 0]);
        assert_eq!(offsets(&[2, 3], &[1, 2]), [0, 2, 4, 1, 3, 5]);
        assert_eq!(
            (from_last(-1, 3), from_last(-3, 3), from_last(-4, 3), from_last(0, 3)),
            (Some(2), Some(0), None, None)
        );
        assert_eq!(around(&[2, 3, 4], 1), [2, 3, 4]);
    }
}
