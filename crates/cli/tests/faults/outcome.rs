//! What a run left in its folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Files by path below a folder, with their bytes.
pub type Tree = BTreeMap<PathBuf, Vec<u8>>;

/// All files below a folder.
pub fn tree(folder: &Path) -> Tree {
    let mut found = Tree::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).expect("below it").to_path_buf();
                found.insert(name, std::fs::read(&path).expect("a file"));
            }
        }
    }
    found
}

/// Asserts that all of a result is there, byte for byte, and nothing else but what was `said` to be left or put aside: what
/// could not be read at the time, say, is not taken for one's own and not removed.
pub fn assert_same(found: &Tree, whole: &Tree, said: &str, place: &str) {
    for (name, bytes) in whole {
        assert!(found.get(name) == Some(bytes), "{place}: {} is not as without a fault: {said}", name.display());
    }
    for name in found.keys().filter(|name| !whole.contains_key(*name)) {
        let folder = name.components().next().expect("a name").as_os_str().to_string_lossy();
        assert!(
            name.components().count() > 1 && said.contains(&*folder),
            "{place}: {} is there: {said}",
            name.display()
        );
    }
}

/// Asserts that what was there before is there, with the same bytes.
pub fn assert_inputs_unchanged(folder: &Path, before: &Tree, place: &str) {
    let after = tree(folder);
    for (name, bytes) in before {
        assert!(after.get(name) == Some(bytes), "{place}: {} is not what it was", name.display());
    }
}

/// Asserts that nothing is there but what was before and what the job leaves.
pub fn assert_no_litter(folder: &Path, before: &Tree, left: &[&str], place: &str) {
    for name in tree(folder).into_keys() {
        let expected = left.iter().any(|expected| name.starts_with(expected));
        assert!(expected || before.contains_key(&name), "{place}: {} is left behind", name.display());
        let text = name.to_string_lossy();
        assert!(!text.contains(".tmp") && !text.contains(".unfinished"), "{place}: {text} is left behind");
    }
}
