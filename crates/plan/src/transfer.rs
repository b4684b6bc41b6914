//! Elements into and out of a device: whole sources of a few numbers, and large ones piece by piece.
//!
//! Invariant: what goes piece by piece is never held whole. Look next at `device` for what these stand on.

use crate::{Device, DeviceError, ProgramId, SourceId};
use bytemuck::{AnyBitPattern, NoUninit};
use remat_ir::Storage;

/// Bytes that are copied at a time.
const PIECE_BYTES: usize = 1 << 16;

impl dyn Device + '_ {
    /// The source of this name and storage.
    ///
    /// # Errors
    /// No loaded plan has it.
    pub fn known(&self, storage: Storage, name: &str) -> Result<SourceId, DeviceError> {
        let unknown = || DeviceError::UnknownSource { kind: storage.name(), name: name.to_string() };
        self.source(storage, name).ok_or_else(unknown)
    }

    /// Writes all elements of a source. Panics if their number is not the source's.
    ///
    /// # Errors
    /// As [`Device::write`].
    pub fn write_all<T: NoUninit>(&mut self, source: SourceId, elements: &[T]) -> Result<(), DeviceError> {
        let (bytes, wanted) = (bytemuck::cast_slice::<T, u8>(elements), self.source_type(source).bytes());
        assert_eq!(bytes.len(), wanted, "bytes for a source of {}", self.source_type(source));
        self.write(source, 0, bytes)
    }

    /// Zeroes a source.
    ///
    /// # Errors
    /// As [`Device::write`].
    pub fn write_zeros(&mut self, source: SourceId) -> Result<(), DeviceError> {
        let (zeros, bytes) = ([0; 4096], self.source_type(source).bytes());
        (0..bytes).step_by(zeros.len()).try_for_each(|at| self.write(source, at, &zeros[..zeros.len().min(bytes - at)]))
    }

    /// All elements of a source.
    ///
    /// # Errors
    /// As [`Device::read`].
    pub fn read_all<T: NoUninit + AnyBitPattern>(&self, source: SourceId) -> Result<Vec<T>, DeviceError> {
        let mut elements = vec![<T as bytemuck::Zeroable>::zeroed(); self.source_type(source).bytes() / size_of::<T>()];
        self.read(source, 0, bytemuck::cast_slice_mut(&mut elements))?;
        Ok(elements)
    }

    /// Hands over all bytes of a source, piece by piece; every piece holds whole elements. `buffer` is used for them.
    ///
    /// # Errors
    /// As [`Device::read`], and what `sink` returns.
    pub fn read_pieces<E: From<DeviceError>>(
        &self,
        source: SourceId,
        buffer: &mut Vec<u8>,
        sink: &mut dyn FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let bytes = self.source_type(source).bytes();
        buffer.resize(PIECE_BYTES.min(bytes), 0);
        for at in (0..bytes).step_by(PIECE_BYTES) {
            let piece = &mut buffer[..PIECE_BYTES.min(bytes - at)];
            self.read(source, at, piece)?;
            sink(piece)?;
        }
        Ok(())
    }

    /// An f32 output of one element.
    ///
    /// # Errors
    /// As [`Device::read_output`].
    pub fn read_number(&self, program: ProgramId, output: &str) -> Result<f32, DeviceError> {
        let mut bytes = [0; size_of::<f32>()];
        self.read_output(program, output, 0, &mut bytes)?;
        Ok(f32::from_le_bytes(bytes))
    }
}

/// Writes a source piece by piece. A failure is told at the end, so that whoever brings the pieces need not know of it.
pub struct SourceWriter<'d> {
    device: &'d mut dyn Device,
    source: SourceId,
    /// Bytes that were written, which must be all in the end.
    written: usize,
    outcome: Result<(), DeviceError>,
}

impl<'d> SourceWriter<'d> {
    /// Of `source`, from its first byte on.
    pub fn new(device: &'d mut dyn Device, source: SourceId) -> Self {
        SourceWriter { device, source, written: 0, outcome: Ok(()) }
    }

    /// Writes the next elements, behind as many bytes as were written.
    pub fn push<T: NoUninit>(&mut self, elements: &[T]) {
        let bytes: &[u8] = bytemuck::cast_slice(elements);
        self.push_at(self.written, bytes);
    }

    /// Writes bytes from `offset` on.
    pub fn push_at(&mut self, offset: usize, bytes: &[u8]) {
        if self.outcome.is_ok() {
            self.outcome = self.device.write(self.source, offset, bytes);
        }
        self.written += bytes.len();
    }

    /// The end, wherever it is: what was not written stays as it was.
    ///
    /// # Errors
    /// The first write that failed.
    pub fn end(self) -> Result<(), DeviceError> {
        self.outcome
    }

    /// The end. Panics if bytes are missing.
    ///
    /// # Errors
    /// The first write that failed.
    pub fn finish(self) -> Result<(), DeviceError> {
        let wanted = self.device.source_type(self.source).bytes();
        let written = self.written;
        assert!(self.outcome.is_err() || written == wanted, "{written} of {wanted} bytes of a source were written");
        self.outcome
    }
}
