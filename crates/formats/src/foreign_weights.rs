//! Files of weights in other formats than safetensors: what they are and how to convert them. None is ever opened.
//!
//! Invariant: what is in a folder is told by names alone, what a file is by its first bytes, which no reader interprets.

use crate::FormatsError;
use std::path::Path;

/// A format of weights that is not read.
#[derive(Clone, Copy)]
struct Format {
    /// Ends of file names.
    ends: &'static [&'static str],
    what: &'static str,
    remedy: &'static str,
}

const SAVE: &str = "load the model with transformers and call save_pretrained(folder, safe_serialization=True)";

const FORMATS: [Format; 5] = [
    Format {
        ends: &[".bin", ".bin.index.json", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"],
        what: "a PyTorch pickle file, which can run code when it is opened",
        remedy: SAVE,
    },
    Format {
        ends: &[".gguf", ".ggml"],
        what: "a model in llama.cpp's format",
        remedy: "download the model it was made of, or load it with transformers' gguf_file and call \
                 save_pretrained(folder)",
    },
    Format { ends: &[".h5", ".msgpack", ".ot", ".tflite"], what: "weights of another framework", remedy: SAVE },
    Format { ends: &[".onnx"], what: "an ONNX graph", remedy: "download the model it was exported from" },
    Format { ends: &[".npz", ".npy"], what: "NumPy arrays", remedy: SAVE },
];

/// Beginnings of names of what trainers keep beside a model under the same ends.
const NO_WEIGHTS: [&str; 6] = ["optimizer", "scheduler", "training_args", "rng_state", "scaler", "tokenizer"];

/// The format of a file of this name, if it would hold weights.
fn format_of(name: &str) -> Option<Format> {
    let name = name.to_ascii_lowercase();
    let holds_weights = !NO_WEIGHTS.iter().any(|begin| name.starts_with(begin));
    FORMATS.into_iter().find(|format| holds_weights && format.ends.iter().any(|end| name.ends_with(end)))
}

/// Whether a file of this name would hold weights in a format that is not read.
pub(crate) fn is_foreign(name: &str) -> bool {
    format_of(name).is_some()
}

/// What a folder without readable weights holds instead, and how to convert it; `names` are those of its files.
pub(crate) fn instead(names: &[String]) -> Option<String> {
    let (name, format) = names.iter().find_map(|name| Some((name, format_of(name)?)))?;
    Some(format!("{name:?} is {}; convert it: {}", format.what, format.remedy))
}

/// What a file is that is no safetensors file, by its first bytes.
pub(crate) fn told_by(first: &[u8]) -> Option<String> {
    let is = |name| format_of(name).map(|format| format!("it is {}; convert it: {}", format.what, format.remedy));
    match first {
        // A zip archive, or protocols 2 to 5 of pickle.
        [b'P', b'K', 3, 4, ..] | [0x80, 2..=5, ..] => is(".pt"),
        [b'G', b'G', b'U', b'F', ..] => is(".gguf"),
        _ if first.starts_with(b"version ") => {
            Some("it is a pointer of Git LFS in place of the file; fetch the file with git lfs pull".to_string())
        }
        _ => None,
    }
}

/// Refuses a path of a file where the folder of a model is wanted.
///
/// # Errors
/// Of a file: what it is and what to give.
pub fn refuse_weight_file(path: &Path) -> Result<(), FormatsError> {
    if !path.is_file() {
        return Ok(());
    }
    let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let problem = match format_of(&name) {
        Some(format) => format!("is {}, and no folder of a model; convert it: {}", format.what, format.remedy),
        None => "is a file; give the folder of a model, with config.json in it".to_string(),
    };
    Err(FormatsError::malformed(path, problem))
}
