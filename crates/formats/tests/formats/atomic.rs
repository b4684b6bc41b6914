//! Atomic writes and hashes.

use crate::bytes::{folder, message};
use remat_formats::{fsync_folder, sha256_file, write_atomic};
use std::path::Path;

#[test]
fn a_file_is_replaced_whole() {
    let dir = folder(&[("f", b"old")]);
    let path = dir.path().join("f");
    write_atomic(&path, b"new contents").expect("written");
    assert_eq!(std::fs::read(&path).expect("there"), b"new contents");
    write_atomic(&path, b"").expect("written");
    assert_eq!(std::fs::read(&path).expect("there"), b"");
    assert_eq!(std::fs::read_dir(dir.path()).expect("a folder").count(), 1, "no temporary file is left");
}

#[test]
fn a_failure_leaves_nothing_behind() {
    let dir = folder(&[]);
    let absent = message(dir.path(), write_atomic(&dir.path().join("absent/f"), b"x"));
    assert_eq!(absent, "DIR/absent/f: cannot create the file: No such file or directory (os error 2)");
    std::fs::create_dir(dir.path().join("taken")).expect("made");
    std::fs::write(dir.path().join("taken/inside"), b"x").expect("written");
    let taken = message(dir.path(), write_atomic(&dir.path().join("taken"), b"x"));
    assert!(taken.starts_with("DIR/taken: cannot write the file: "), "{taken}");
    assert_eq!(std::fs::read_dir(dir.path()).expect("a folder").count(), 1, "no temporary file is left");
}

#[test]
fn threads_writing_one_file_leave_one_of_theirs() {
    let dir = folder(&[]);
    let path = dir.path().join("f");
    std::thread::scope(|scope| {
        for thread in 0..4u8 {
            let path = &path;
            scope.spawn(move || {
                for _ in 0..8 {
                    write_atomic(path, &[thread; 10_000]).expect("written");
                }
            });
        }
    });
    let bytes = std::fs::read(&path).expect("there");
    assert!(bytes.len() == 10_000 && bytes.iter().all(|byte| *byte == bytes[0]));
    assert_eq!(std::fs::read_dir(dir.path()).expect("a folder").count(), 1);
}

#[test]
fn hashes_are_sha_256() {
    let dir = folder(&[("empty", b""), ("abc", b"abc")]);
    let hash = |name: &str| sha256_file(&dir.path().join(name)).expect("hashed");
    assert_eq!(hash("empty"), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_eq!(hash("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert!(sha256_file(dir.path()).is_err());
    assert!(sha256_file(&dir.path().join("absent")).is_err());
    fsync_folder(Path::new("")).expect("the current folder");
}
