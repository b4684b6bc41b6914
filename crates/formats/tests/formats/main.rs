//! Tests of the file formats, in one binary: each module is named after what it tests.

mod atomic;
mod bytes;
mod config;
mod families;
mod hostile;
mod model_files;
mod peft;
mod quantised;
mod safetensors;
mod tokenizer;
