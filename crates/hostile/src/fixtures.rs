//! Files of `fixtures/`, which the seeds are, and folders to put changed ones into.

use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A path below `fixtures/`.
pub(crate) fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name)
}

/// The bytes of a fixture.
pub(crate) fn bytes(name: &str) -> Vec<u8> {
    let path = path(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The bytes of the files with an ending in a folder of fixtures, by name.
pub(crate) fn all(folder: &str, ending: &str) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(path(folder)).expect("a folder of fixtures");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.to_str().is_some_and(|path| path.ends_with(ending)));
    paths.sort();
    paths.iter().map(|path| fs::read(path).expect("a fixture")).collect()
}

/// A folder of its own with these files.
pub(crate) fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, bytes) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("in the folder")).expect("a folder");
        fs::write(path, bytes).expect("a file");
    }
    folder
}

/// Of an input whose first byte chooses among `choices`, the choice and the rest.
pub(crate) fn choose<'i, T>(input: &'i [u8], choices: &'static [T]) -> Option<(&'static T, &'i [u8])> {
    let (&first, rest) = input.split_first()?;
    Some((&choices[usize::from(first) % choices.len()], rest))
}

/// An input whose first byte makes the choice `index`.
pub(crate) fn chosen(index: usize, rest: &[u8]) -> Vec<u8> {
    let mut input = vec![u8::try_from(index).expect("few choices")];
    input.extend_from_slice(rest);
    input
}
