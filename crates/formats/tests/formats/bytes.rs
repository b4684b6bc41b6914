//! What the tests share: files made by hand, and messages without the temporary folder in them.

use remat_formats::FormatsError;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A safetensors file: the header's length, the header, the data.
pub fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(data);
    bytes
}

/// One entry of a header.
pub fn entry(name: &str, dtype: &str, shape: &str, begin: u64, end: u64) -> String {
    format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{begin},{end}]}}"#)
}

/// A folder with files in it.
pub fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, bytes) in files {
        std::fs::write(folder.path().join(name), bytes).expect("a file in a temporary folder");
    }
    folder
}

/// The message of an error, with `DIR` for the folder.
pub fn message<T: std::fmt::Debug>(folder: &Path, result: Result<T, FormatsError>) -> String {
    let error = result.expect_err("an error");
    error.to_string().replace(&folder.display().to_string(), "DIR")
}

/// A folder of the parity fixtures.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/parity").join(name)
}
