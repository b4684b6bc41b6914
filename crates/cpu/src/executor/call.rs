//! A resolved step as its kernel sees it: operands and results as slices.
//!
//! Invariant: this file converts addresses to slices, and refuses ids, positions and masks that a kernel could not use. Operands
//! were laid out by a checked plan: distinct ones do not overlap, except where the op works in place.

use super::resolved_step::ResolvedStep;
use crate::ThreadPool;
use crate::element::Element;
use crate::kernels::dropout::Dropout;
use crate::kernels::linear::Weight;
use crate::shared::{Out, View};
use remat_ir::Node;
use remat_plan::DeviceError;
use remat_tensor::{DType, QuantisedView};

/// A step with everything its kernel needs.
pub(super) struct Call<'a> {
    pub pool: &'a ThreadPool,
    pub step: &'a ResolvedStep,
    pub node: &'a Node,
}

impl<'a> Call<'a> {
    /// Operand `index` as a slice.
    pub fn read<T: Element>(&self, index: usize) -> &'a [T] {
        let operand = &self.step.reads[index];
        debug_assert_eq!(operand.ty.dtype.element_bytes(), Some(size_of::<T>()));
        // SAFETY: the plan gave the operand this many bytes, aligned; nothing writes them during this step, except for
        // ops in place, which use `shared` instead.
        unsafe { std::slice::from_raw_parts(operand.start.cast(), operand.ty.shape.numel()) }
    }

    /// Operand `index`, a weight that is dense or quantised.
    pub fn weight<T: Element>(&self, index: usize) -> Weight<'a, T> {
        let operand = &self.step.reads[index];
        let Some(format) = operand.ty.dtype.quant_format() else { return Weight::Dense(self.read(index)) };
        // SAFETY: as in `read`.
        let bytes = unsafe { std::slice::from_raw_parts(operand.start, operand.ty.bytes()) };
        Weight::Quantised(QuantisedView::new(format, &operand.ty.shape, bytes))
    }

    /// Operand `index` of integers.
    pub fn ints(&self, index: usize) -> &'a [i32] {
        let operand = &self.step.reads[index];
        debug_assert_eq!(operand.ty.dtype, DType::I32);
        // SAFETY: as in `read`.
        unsafe { std::slice::from_raw_parts(operand.start.cast(), operand.ty.shape.numel()) }
    }

    /// Operand `index` that may share its memory with a result.
    pub fn shared<T: Element>(&self, index: usize) -> View<'a, T> {
        let operand = &self.step.reads[index];
        // SAFETY: as in `read`; if a result has the same address, it is the same slot, and the kernel is pointwise.
        unsafe { View::from_raw(operand.start.cast(), operand.ty.shape.numel()) }
    }

    /// Result `index` that may share its memory with an operand.
    pub fn out<T: Element>(&self, index: usize) -> Out<'a, T> {
        let result = &self.step.writes[index];
        // SAFETY: as in `write`.
        unsafe { Out::from_raw(result.start.cast(), result.ty.shape.numel()) }
    }

    /// Result `index` as a slice.
    #[allow(clippy::mut_from_ref)]
    pub fn write<T: Element>(&self, index: usize) -> &'a mut [T] {
        let result = &self.step.writes[index];
        debug_assert_eq!(result.ty.dtype.element_bytes(), Some(size_of::<T>()));
        // SAFETY: the plan gave the result this many bytes, aligned; no operand that the kernel reads through a slice
        // overlaps it (checked plan); each result is taken once per step.
        unsafe { std::slice::from_raw_parts_mut(result.start.cast(), result.ty.shape.numel()) }
    }

    /// Result `index` of bytes.
    #[allow(clippy::mut_from_ref)]
    pub fn write_bytes(&self, index: usize) -> &'a mut [u8] {
        let result = &self.step.writes[index];
        debug_assert_eq!(result.ty.dtype, DType::U8);
        // SAFETY: as in `write`.
        unsafe { std::slice::from_raw_parts_mut(result.start, result.ty.shape.numel()) }
    }

    /// The bytes of result `index`, which has taken over operand `index` or gets a copy of it.
    #[allow(clippy::mut_from_ref)]
    pub fn write_over(&self, index: usize) -> &'a mut [u8] {
        let (operand, result) = (&self.step.reads[index], &self.step.writes[index]);
        let bytes = result.ty.bytes();
        if operand.start != result.start {
            // SAFETY: both have as many bytes, by the checked plan, and are one place or share none.
            unsafe { std::ptr::copy_nonoverlapping(operand.start, result.start, bytes) };
        }
        // SAFETY: as in `write`.
        unsafe { std::slice::from_raw_parts_mut(result.start, bytes) }
    }

    /// The workspace, as f32.
    #[allow(clippy::mut_from_ref)]
    pub fn workspace(&self) -> &'a mut [f32] {
        let (start, bytes) = self.step.workspace;
        // SAFETY: the checked plan keeps these bytes free of anything else during this step.
        unsafe { std::slice::from_raw_parts_mut(start.cast(), bytes / size_of::<f32>()) }
    }

    /// Result `index` of integers.
    #[allow(clippy::mut_from_ref)]
    pub fn write_ints(&self, index: usize) -> &'a mut [i32] {
        let result = &self.step.writes[index];
        debug_assert_eq!(result.ty.dtype, DType::I32);
        // SAFETY: as in `write`.
        unsafe { std::slice::from_raw_parts_mut(result.start.cast(), result.ty.shape.numel()) }
    }

    /// Sizes of result `index`.
    pub fn result_shape(&self, index: usize) -> &'a [usize] {
        self.step.writes[index].ty.shape.dims()
    }

    /// Sizes of operand `index`.
    pub fn shape(&self, index: usize) -> &'a [usize] {
        self.step.reads[index].ty.shape.dims()
    }

    /// Rows (all axes but the last) of operand `index`.
    pub fn rows(&self, index: usize) -> usize {
        self.step.reads[index].ty.shape.rows()
    }

    pub fn last(&self, index: usize) -> usize {
        self.step.reads[index].ty.shape.last()
    }

    pub fn rng(&self, index: usize) -> [u32; 4] {
        let operand = &self.step.reads[index];
        debug_assert_eq!(operand.ty.shape.numel(), 4);
        // SAFETY: as in `read`: four aligned words.
        unsafe { operand.start.cast::<[u32; 4]>().read() }
    }

    pub fn bad_input(&self, message: String) -> DeviceError {
        DeviceError::BadInput { op: self.node.op.name(), node: self.node.name.clone(), message }
    }

    /// Ids that index a table of `rows` rows.
    pub fn ids(&self, index: usize, rows: usize) -> Result<&'a [i32], DeviceError> {
        let ids = self.ints(index);
        match ids.iter().find(|&&id| !usize::try_from(id).is_ok_and(|id| id < rows)) {
            Some(id) => Err(self.bad_input(format!("id {id} lies outside the table's {rows} rows"))),
            None => Ok(ids),
        }
    }

    /// Positions in a cache of `capacity` tokens.
    pub fn positions(&self, index: usize, capacity: usize) -> Result<&'a [i32], DeviceError> {
        let positions = self.ints(index);
        match positions.iter().find(|&&position| !usize::try_from(position).is_ok_and(|p| p < capacity)) {
            Some(position) => Err(self.bad_input(format!("position {position} lies outside the cache of {capacity}"))),
            None => Ok(positions),
        }
    }

    pub fn dropout(&self, p: f32, stream: u64, rng: usize) -> Option<Dropout> {
        (p > 0.0).then(|| Dropout::new(p, self.rng(rng), stream))
    }

    /// Numbers of slices along an axis of `size`.
    pub fn numbers(&self, index: usize, size: usize) -> Result<&'a [i32], DeviceError> {
        let ids = self.ints(index);
        match ids.iter().find(|&&id| !usize::try_from(id).is_ok_and(|id| id < size)) {
            Some(id) => Err(self.bad_input(format!("id {id} lies outside the axis, which has ids 0 to {}", size - 1))),
            None => Ok(ids),
        }
    }

    /// A mask of 0 and 1.
    pub fn mask(&self, index: usize) -> Result<&'a [i32], DeviceError> {
        let mask = self.ints(index);
        match mask.iter().find(|&&element| element != 0 && element != 1) {
            Some(element) => Err(self.bad_input(format!("the mask holds {element}: a mask is of 0 and 1"))),
            None => Ok(mask),
        }
    }
}
