//! Rows of a matrix on their way into a GGUF file: gathered from pieces, put into llama.cpp's order, encoded.
//!
//! Within each head of E rows, transformers rotates row j with row j + E/2; llama.cpp, where it rotates pairs, row 2j with row
//! 2j + 1. So row j + s·E/2 is written as row 2j + s. Invariant: no more than the rows of one head are held.

use remat_formats::{FormatsError, GgufElement, OutOfRange};

/// Gathers the rows of one matrix.
pub(super) struct Rows<'a> {
    element: GgufElement,
    columns: usize,
    /// Rows that are ordered among themselves.
    head_rows: Option<usize>,
    held: Vec<f32>,
    ordered: Vec<f32>,
    bytes: Vec<u8>,
    /// The error of a number that does not fit.
    out_of_range: &'a dyn Fn(f32) -> FormatsError,
}

/// Rows that go together where their order stays.
const ROWS_TOGETHER_ELEMENTS: usize = 1 << 16;

impl<'a> Rows<'a> {
    /// Of so many columns; `head_rows` as of [`remat_formats::GgufName`].
    pub(super) fn new(
        element: GgufElement,
        columns: usize,
        head_rows: Option<usize>,
        out_of_range: &'a dyn Fn(f32) -> FormatsError,
    ) -> Self {
        let (held, ordered, bytes) = (Vec::new(), Vec::new(), Vec::new());
        Rows { element, columns, head_rows, held, ordered, bytes, out_of_range }
    }

    /// Bytes that are held of a matrix of so many columns.
    pub(super) fn held_bytes(columns: usize, head_rows: Option<usize>) -> usize {
        let elements = (head_rows.unwrap_or(1) * columns).max(ROWS_TOGETHER_ELEMENTS);
        elements * size_of::<f32>() * 3
    }

    /// Takes the next elements and hands over what is complete.
    pub(super) fn push(
        &mut self,
        mut piece: &[f32],
        sink: &mut dyn FnMut(&[u8]) -> Result<(), FormatsError>,
    ) -> Result<(), FormatsError> {
        let together = match self.head_rows {
            Some(rows) => rows * self.columns,
            None => (ROWS_TOGETHER_ELEMENTS / self.columns).max(1) * self.columns,
        };
        while !piece.is_empty() {
            let (taken, rest) = piece.split_at(piece.len().min(together - self.held.len()));
            self.held.extend_from_slice(taken);
            piece = rest;
            if self.held.len() == together {
                self.flush(sink)?;
            }
        }
        Ok(())
    }

    /// Hands over what is left.
    pub(super) fn finish(
        mut self,
        sink: &mut dyn FnMut(&[u8]) -> Result<(), FormatsError>,
    ) -> Result<(), FormatsError> {
        if self.held.is_empty() { Ok(()) } else { self.flush(sink) }
    }

    fn flush(&mut self, sink: &mut dyn FnMut(&[u8]) -> Result<(), FormatsError>) -> Result<(), FormatsError> {
        self.bytes.clear();
        let rows = match self.head_rows {
            None => &self.held,
            Some(rows) => {
                self.ordered.clear();
                for row in 0..rows {
                    let from = (row / 2 + (row % 2) * (rows / 2)) * self.columns;
                    self.ordered.extend_from_slice(&self.held[from..from + self.columns]);
                }
                &self.ordered
            }
        };
        let encoded = self.element.encode(rows, &mut self.bytes);
        encoded.map_err(|OutOfRange { value, .. }| (self.out_of_range)(value))?;
        self.held.clear();
        sink(&self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(head_rows: Option<usize>, columns: usize, numbers: &[f32], piece: usize) -> Vec<f32> {
        let fault = |_| unreachable!("all fit");
        let mut rows = Rows::new(GgufElement::F32, columns, head_rows, &fault);
        let mut bytes = Vec::new();
        let mut sink = |piece: &[u8]| {
            bytes.extend_from_slice(piece);
            Ok(())
        };
        numbers.chunks(piece).for_each(|piece| rows.push(piece, &mut sink).expect("taken"));
        rows.finish(&mut sink).expect("taken");
        bytes.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
    }

    #[test]
    fn the_halves_of_a_head_are_written_in_turns() {
        // Two heads of four rows, two columns.
        let numbers: Vec<f32> = (0..16).map(|i| i as f32).collect();
        let expected = [0.0, 1.0, 4.0, 5.0, 2.0, 3.0, 6.0, 7.0, 8.0, 9.0, 12.0, 13.0, 10.0, 11.0, 14.0, 15.0];
        for piece in [1, 3, 8, 16] {
            assert_eq!(written(Some(4), 2, &numbers, piece), expected, "in pieces of {piece}");
            assert_eq!(written(None, 2, &numbers, piece), numbers);
        }
        // A bias is a column.
        assert_eq!(written(Some(4), 1, &numbers[..4], 4), [0.0, 2.0, 1.0, 3.0]);
    }
}
