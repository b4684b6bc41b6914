//! What can be wrong with a file. Invariant: each message has the path, what is wrong there, and the remedy if there is
//! one; text that comes from a file is shown escaped and cut, so that it cannot steer a terminal or flood it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// An error of reading or writing a file.
#[derive(Debug, thiserror::Error)]
pub enum FormatsError {
    /// A file that has to be there and is not.
    #[error("{path}: does not exist; {remedy}", path = path.display())]
    Missing {
        /// The file or folder.
        path: PathBuf,
        /// What to do about it.
        remedy: &'static str,
    },
    /// The operating system refused.
    #[error("{path}: cannot {action}: {source}", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried, as a verb with its object.
        action: &'static str,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A tensor with an element that is infinite or no number.
    #[error(
        "{path}: tensor {tensor:?} holds {value} at element {index}: the file is damaged, or whatever wrote it had failed; take an \
         earlier one",
        path = path.display()
    )]
    NotANumber {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The element, in row-major order.
        index: usize,
        /// What it is.
        value: f32,
    },
    /// The operating system refused to write, a full disk above all: no fault of what was asked for.
    #[error("{path}: cannot {action}: {source}", path = path.display())]
    NotWritten {
        /// The file or folder.
        path: PathBuf,
        /// What was tried, as a verb with its object.
        action: &'static str,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A place to write to that must not be written to, or cannot be.
    #[error("{output}: {problem}")]
    Output {
        /// The flag with its path, or the path.
        output: String,
        /// What is wrong, and the remedy.
        problem: String,
    },
    /// Contents that break the format.
    #[error("{path}: {problem}", path = path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong and where.
        problem: String,
    },
    /// A tensor that is missing or cannot be read as wanted.
    #[error("{path}: tensor {tensor:?} {problem}", path = path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// What is wrong.
        problem: String,
    },
    /// A key of a JSON file that is missing or out of range.
    #[error("{path}: {key:?} {problem}", path = path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// The key, with dots between nested keys.
        key: String,
        /// What is wrong.
        problem: String,
    },
}

impl FormatsError {
    pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> FormatsError {
        let path = path.to_path_buf();
        move |source| FormatsError::Io { path, action, source }
    }

    /// What an error of `open_file`, `read_file` or `read_text_file` means; `remedy` is for a file that is not there.
    pub fn reading(path: &Path, remedy: &'static str) -> impl FnOnce(std::io::Error) -> FormatsError {
        let path = path.to_path_buf();
        move |source| match source.kind() {
            ErrorKind::NotFound => FormatsError::Missing { path, remedy },
            // Our own words about the file.
            _ if source.get_ref().is_some() => FormatsError::Malformed { path, problem: source.to_string() },
            _ => FormatsError::Io { path, action: "read the file", source },
        }
    }

    /// What writing, removing or renaming came to.
    pub fn not_written(path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> FormatsError {
        let path = path.to_path_buf();
        move |source| FormatsError::NotWritten { path, action, source }
    }

    /// A file under a name that a command would write, which remat did not write, in the folder that the flag names.
    pub fn foreign(flag: &str, folder: &Path, name: &str) -> FormatsError {
        let problem = "there was not written by remat, so it is not replaced; choose another folder, or move it away";
        FormatsError::Output {
            output: format!("{flag} {}", folder.display()),
            problem: format!("{} {problem}", excerpt(name)),
        }
    }

    pub(crate) fn missing(path: &Path, remedy: &'static str) -> FormatsError {
        FormatsError::Missing { path: path.to_path_buf(), remedy }
    }

    pub(crate) fn malformed(path: &Path, problem: impl Into<String>) -> FormatsError {
        FormatsError::Malformed { path: path.to_path_buf(), problem: problem.into() }
    }

    pub(crate) fn tensor(path: &Path, tensor: &str, problem: impl Into<String>) -> FormatsError {
        FormatsError::Tensor { path: path.to_path_buf(), tensor: excerpt(tensor), problem: problem.into() }
    }

    pub(crate) fn key(path: &Path, key: &str, problem: impl Into<String>) -> FormatsError {
        FormatsError::Key { path: path.to_path_buf(), key: excerpt(key), problem: problem.into() }
    }
}

/// The beginning of a text from a file, short enough for a message.
pub(crate) fn excerpt(text: &str) -> String {
    const LONGEST: usize = 160;
    match text.char_indices().nth(LONGEST) {
        None => text.to_string(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}
