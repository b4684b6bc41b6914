//! Tests of the file formats, in one binary: each module is named after what it tests.

mod atomic;
mod bytes;
mod config;
mod families;
mod hostile;
mod model_files;
mod output_file;
mod own_files;
mod peft;
mod places;
mod quantised;
mod safetensors;
mod tokenizer;
