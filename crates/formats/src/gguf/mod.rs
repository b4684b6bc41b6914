//! GGUF, the file of llama.cpp: its header read, and files written of models and adapters.
//!
//! ```text
//! "GGUF", version u32, tensors u64, entries u64
//! entry     key, type u32, value: a number, a flag, a text (length u64, bytes), or a list (type u32, count u64, values)
//! tensor    name, axes u32, sizes u64 (the innermost first), element type u32, offset u64 within the data
//! data      begins at a multiple of 32, as does each tensor in it
//! ```
//!
//! `header` reads, `write` writes; `element` has the element types. What llama.cpp calls things is in `architecture` (tensors
//! and sizes of a model) and `vocabulary` (its tokenizer). Keys, names and layouts are those of llama.cpp and its converter.
//! Invariant: what llama.cpp would compute otherwise than the model it is written of is refused by name, never written.

mod architecture;
mod element;
mod header;
mod pre_tokenizer;
mod scores;
mod tokenizer_json;
mod vocabulary;
mod write;

pub use architecture::{GgufArchitecture, GgufName};
pub use element::{GgufElement, OutOfRange};
pub use header::{GgufHeader, GgufTensor, GgufValue};
pub use vocabulary::{GgufVocabulary, VocabularyOf};
pub use write::{GgufEntry, GgufFile, GgufSpec};
