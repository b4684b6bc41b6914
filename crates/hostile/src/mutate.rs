//! Changes of bytes as fuzzers make them, drawn from a number: the same changes every time.

use remat_tensor::Philox;

/// Bytes that readers take for more than a byte.
const TELLING: &[&[u8]] = &[
    b"\0",
    b"\"",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\n",
    b"\\",
    b"-",
    b"9",
    b"e9",
    b"null",
    b"-1",
    b"1e309",
    b"NaN",
    b"18446744073709551615",
    b"9223372036854775808",
    b"4294967296",
    b"0",
    b"../",
    b"/etc/passwd",
    b"\xff",
    b"\xc3",
    b"\xed\xa0\x80",
    b"{%",
    b"%}",
    b"\\ud800",
    b"true",
];

/// Draws changes of inputs.
#[derive(Debug)]
pub struct Mutator {
    numbers: Philox,
    drawn: u64,
}

impl Mutator {
    /// The changes that belong to a number.
    pub fn new(number: u64) -> Self {
        Mutator { numbers: Philox::new(number, 0), drawn: 0 }
    }

    /// A number below `limit`, which is at least 1.
    fn below(&mut self, limit: usize) -> usize {
        self.drawn += 1;
        self.numbers.word(self.drawn) as usize % limit
    }

    /// One of the inputs, changed in one to four places.
    ///
    /// # Panics
    /// If there are no inputs.
    pub fn changed(&mut self, inputs: &[Vec<u8>]) -> Vec<u8> {
        let index = self.below(inputs.len());
        let mut bytes = inputs[index].clone();
        for _ in 0..=self.below(4) {
            self.change(&mut bytes, inputs);
        }
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>, inputs: &[Vec<u8>]) {
        let at = self.below(bytes.len() + 1);
        let left = bytes.len() - at;
        match self.below(8) {
            0 => bytes.truncate(at),
            1 | 2 if left > 0 => bytes[at] ^= 1 << self.below(8),
            3 if left > 0 => bytes[at] = TELLING[self.below(TELLING.len())][0],
            4 => {
                let telling = TELLING[self.below(TELLING.len())];
                let replaced = self.below(telling.len() + 1).min(left);
                bytes.splice(at..at + replaced, telling.iter().copied());
            }
            5 => {
                let length = self.below(64).min(left);
                bytes.drain(at..at + length);
            }
            6 => {
                let length = self.below(256).min(left);
                let copy = bytes[at..at + length].to_vec();
                let to = self.below(bytes.len() + 1);
                bytes.splice(to..to, copy);
            }
            _ => {
                let other = self.below(inputs.len());
                let from = self.below(inputs[other].len() + 1);
                let piece = &inputs[other][from..];
                let piece = &piece[..piece.len().min(self.below(256))];
                bytes.splice(at..at, piece.iter().copied());
            }
        }
    }
}
