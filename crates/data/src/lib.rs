//! Rows of a file become token samples, and samples become batches of a fixed shape in a fixed order.
//!
//! ```text
//! file ──source──▶ object ──row──▶ Row ──encode──▶ Sample ──dataset──▶ Dataset ──packing──▶ Sequences
//!                                                                 order: which sequence when (Sampler)
//!                                                                 loader: Sequences × Sampler ──▶ UpdateBatch ──▶ Batch
//! ```
//!
//! Invariants: every bad row is an error with file and line before step 1; what is cut or left out is counted; the
//! batches are a pure function of (samples, options, seed), so a run resumes exactly where it stopped; after the
//! first batch nothing is allocated. Look next at `train`, which feeds batches to the compiled step.

mod batch;
mod chat;
mod check;
mod dataset;
mod encode;
mod error;
mod loader;
mod model_tokens;
mod order;
mod packing;
mod row;
mod rows_file;
mod source;
mod tokens;
mod utf8;
mod words;

pub use batch::Batch;
pub use chat::{ChatTemplate, Conversation, Day, SpecialTokens, TrainOn};
pub use check::{FileCheck, Piece, ShownRow, check_file};
pub use dataset::{Dataset, DatasetBuilder, SampleId, SampleStats};
pub use encode::{Encoder, Sample};
pub use error::{DataError, RowPlace};
pub use loader::{DataLoader, LoaderOptions, UpdateBatch};
pub use model_tokens::ModelTokens;
pub use order::{Order, Sampler, SamplerState};
pub use packing::{SequenceId, Sequences};
pub use row::parser::RowSink;
pub use row::{BadRow, BadRows, Column, DEFAULT_BAD_SHARE, FileRows, Row, RowKind, RowOptions, file_of};
pub use source::{MAX_ROW_BYTES, read_rows, read_rows_from};
pub use tokens::{IGNORED_LABEL, TokenSource, TokenSpan};
