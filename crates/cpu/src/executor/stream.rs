//! A step whose states lie in a file: it runs on some elements after the other, which are read before and written back.
//!
//! Method: the kernel is called on pieces of its operands, at element boundaries that its op allows; what lies in memory it
//! reads and writes there. Invariants: the pieces are of fixed lengths, so a result has the bits that a call on all of it
//! has; a run allocates nothing. Look next at `remat_plan::streamed` for the workspace.

use super::dispatch;
use super::resolved_step::ResolvedStep;
use super::weights_file::{FilePlace, WeightFiles};
use crate::ThreadPool;
use crate::kernels::grad_norm::SquareSum;
use remat_ir::{Op, OpDef, Type};
use remat_plan::{DeviceError, Plan, STREAM_ELEMENTS};
use remat_tensor::Shape;
use std::cell::RefCell;

/// An operand that goes by element.
struct Part {
    operand: usize,
    /// The result that replaces it.
    result: Option<usize>,
    /// How many elements of the first operand belong to one, and the bytes of one.
    per: usize,
    element_bytes: usize,
    /// Where it begins: in memory, and in a file if that is only where its pieces pass.
    start: *mut u8,
    home: Option<FilePlace>,
}

/// What a streamed step needs beside what a resolved one has.
pub(super) struct Stream {
    parts: Vec<Part>,
    /// Elements of the first operand.
    elements: usize,
    /// Whether it adds up its operands, one after the other, and replaces none.
    is_sum: bool,
    /// The step on a whole piece, and on what is left at the end.
    calls: RefCell<[ResolvedStep; 2]>,
}

impl Stream {
    /// What it takes in memory for each operand, beside two more of its step.
    pub(super) const PART_BYTES: usize = size_of::<Part>();

    /// Of a step whose operands that pass through the workspace point there; `home` says of these where they lie.
    pub(super) fn of(op: &Op, step: &ResolvedStep, home: impl Fn(usize) -> Option<FilePlace>) -> Stream {
        let per = op.by_element(step.reads.len()).expect("the checker lets only such a step stream");
        let elements = step.reads[0].ty.shape.numel();
        let donations = op.donations();
        let part = |(operand, &per): (usize, &usize)| {
            let Type { dtype, shape } = &step.reads[operand].ty;
            let result = donations.iter().find(|donation| donation.0 == operand).map(|donation| donation.1);
            let element_bytes = dtype.element_bytes().unwrap_or_else(|| step.reads[operand].ty.bytes() / shape.numel());
            Part { operand, result, per, element_bytes, start: step.reads[operand].start, home: home(operand) }
        };
        let parts: Vec<Part> = per.iter().enumerate().filter(|(_, per)| **per > 0).map(part).collect();
        let on = |count: usize| {
            let mut call = step.clone();
            for part in &parts {
                let shape = Shape::new([count.div_ceil(part.per)]);
                call.reads[part.operand].ty.shape = shape.clone();
                if let Some(result) = part.result {
                    call.writes[result].ty.shape = shape;
                    call.writes[result].start = part.start;
                }
            }
            call
        };
        let calls = RefCell::new([on(STREAM_ELEMENTS), on(elements % STREAM_ELEMENTS)]);
        Stream { parts, elements, is_sum: donations.is_empty(), calls }
    }

    /// Runs it.
    pub(super) fn run(
        &self,
        pool: &ThreadPool,
        plan: &Plan,
        step: &ResolvedStep,
        files: &WeightFiles,
    ) -> Result<(), DeviceError> {
        if self.is_sum {
            return self.run_grad_norm(pool, step, files);
        }
        let mut calls = self.calls.borrow_mut();
        for from in (0..self.elements).step_by(STREAM_ELEMENTS) {
            let count = (self.elements - from).min(STREAM_ELEMENTS);
            let call = &mut calls[usize::from(count < STREAM_ELEMENTS)];
            for part in &self.parts {
                match part.home {
                    Some(home) => part.read(files, home, from, count)?,
                    None => part.move_to(call, from),
                }
            }
            dispatch::run(pool, plan, call)?;
            for part in &self.parts {
                if let (Some(home), Some(_)) = (part.home, part.result) {
                    part.write(files, home, from, count)?;
                }
            }
        }
        Ok(())
    }

    /// The norm of all operands, one after the other, as the kernel adds it up.
    fn run_grad_norm(&self, pool: &ThreadPool, step: &ResolvedStep, files: &WeightFiles) -> Result<(), DeviceError> {
        let mut squares = 0.0;
        for part in &self.parts {
            let elements = step.reads[part.operand].ty.shape.numel();
            let mut sum = SquareSum::new(elements);
            for from in (0..elements).step_by(STREAM_ELEMENTS) {
                let count = (elements - from).min(STREAM_ELEMENTS);
                let start = match part.home {
                    Some(home) => {
                        part.read(files, home, from, count)?;
                        part.start
                    }
                    None => part.at(from),
                };
                // SAFETY: so many elements of the operand, or of the workspace that this piece was read to.
                sum.add(pool, unsafe { std::slice::from_raw_parts(start.cast(), count) });
            }
            squares += sum.total();
        }
        // SAFETY: the checked plan gave the result four bytes, aligned.
        unsafe { step.writes[0].start.cast::<f32>().write(squares.sqrt() as f32) };
        Ok(())
    }
}

impl Part {
    /// The first byte of the piece that begins at an element of the first operand, of what lies in memory.
    fn at(&self, from: usize) -> *mut u8 {
        // SAFETY: the element exists.
        unsafe { self.start.add(from / self.per * self.element_bytes) }
    }

    fn move_to(&self, call: &mut ResolvedStep, from: usize) {
        call.reads[self.operand].start = self.at(from);
        if let Some(result) = self.result {
            call.writes[result].start = self.at(from);
        }
    }

    /// Where the piece lies in the file, and how many bytes it has.
    fn piece(&self, home: FilePlace, from: usize, count: usize) -> (FilePlace, usize) {
        let at = home.at + (from / self.per * self.element_bytes) as u64;
        (FilePlace { at, ..home }, count.div_ceil(self.per) * self.element_bytes)
    }

    fn read(&self, files: &WeightFiles, home: FilePlace, from: usize, count: usize) -> Result<(), DeviceError> {
        let (place, bytes) = self.piece(home, from, count);
        // SAFETY: the checked plan keeps so many bytes of the workspace for this operand.
        let into = unsafe { std::slice::from_raw_parts_mut(self.start, bytes) };
        files.read(place, into).map_err(|error| files.failed(place, &error))
    }

    fn write(&self, files: &WeightFiles, home: FilePlace, from: usize, count: usize) -> Result<(), DeviceError> {
        let (place, bytes) = self.piece(home, from, count);
        // SAFETY: as in `read`.
        let bytes = unsafe { std::slice::from_raw_parts(self.start, bytes) };
        files.write(place, bytes).map_err(|error| files.failed(place, &error))
    }
}
