//! Files that a person names: what is under the name decides how it is written.

use crate::bytes::{folder, message};
use remat_formats::{OutputFile, write_atomic};
use std::fs;
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

fn open(path: &Path) -> OutputFile {
    OutputFile::open("--report", path).unwrap_or_else(|error| panic!("{error}"))
}

fn make_pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().expect("mkfifo runs").success());
}

#[test]
fn a_file_is_replaced_when_the_new_one_is_whole() {
    let dir = folder(&[("there", b"old")]);
    for name in ["there", "new"] {
        let path = dir.path().join(name);
        let file = open(&path);
        assert_eq!(fs::read(&path).ok(), (name == "there").then(|| b"old".to_vec()), "opening changes nothing");
        file.write(b"contents").expect("written");
        assert_eq!(fs::read(&path).expect("there"), b"contents");
    }
    assert_eq!(fs::read_dir(dir.path()).expect("a folder").count(), 2, "no temporary file is left");
}

#[test]
fn a_link_stays_and_what_it_leads_to_is_replaced() {
    let dir = folder(&[("target", b"old")]);
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("sub")).expect("made");
    symlink("../target", at("sub/first")).expect("linked");
    symlink("sub/first", at("second")).expect("linked");
    symlink("sub/absent", at("dangling")).expect("linked");
    open(&at("second")).write(b"new").expect("written");
    open(&at("dangling")).write(b"made").expect("written");
    for (link, target, bytes) in [("second", "target", "new"), ("dangling", "sub/absent", "made")] {
        assert!(at(link).symlink_metadata().expect("there").is_symlink());
        assert_eq!(fs::read_to_string(at(target)).expect("there"), bytes);
    }
    // A name in a folder of remat's is a name: the link goes, and what it leads to stays.
    write_atomic(&at("second"), b"by name").expect("written");
    assert!(at("second").symlink_metadata().expect("there").is_file());
    assert_eq!(fs::read_to_string(at("target")).expect("there"), "new");
    symlink("circle", at("circle")).expect("linked");
    let circle = message(dir.path(), OutputFile::open("--report", &at("circle")));
    assert!(circle.starts_with("--report DIR/circle: cannot be written: "), "{circle}");
}

#[test]
fn devices_and_pipes_are_written_through() {
    let null = Path::new("/dev/null");
    open(null).write(b"nothing").expect("written");
    let kind = fs::metadata(null).expect("there").file_type();
    assert!(kind.is_char_device(), "the device is still one");
    let full = open(Path::new("/dev/full")).write(b"x").expect_err("always full").to_string();
    assert!(full.starts_with("/dev/full: cannot write "), "{full}");

    let dir = folder(&[]);
    let pipe = dir.path().join("pipe");
    make_pipe(&pipe);
    let unread = message(dir.path(), OutputFile::open("--report", &pipe));
    assert_eq!(unread, "--report DIR/pipe: is a pipe that nobody reads; start its reader first");
    let long = vec![7; 1 << 18];
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut bytes = Vec::new();
            fs::File::open(&pipe).expect("opened").read_to_end(&mut bytes).expect("read");
            bytes
        });
        let file = loop {
            if let Ok(file) = OutputFile::open("--report", &pipe) {
                break file;
            }
            std::thread::yield_now();
        };
        file.write(&long).expect("written");
        assert!(reader.join().expect("read") == long, "more than a pipe holds at once");
    });
    assert!(fs::symlink_metadata(&pipe).expect("there").file_type().is_fifo());
    let named = message(dir.path(), write_atomic(&pipe, b"x"));
    assert!(named.starts_with("DIR/pipe: cannot replace what is no file: "), "{named}");
}

#[test]
fn what_cannot_be_written_is_refused_when_it_is_opened() {
    let dir = folder(&[("file", b"x")]);
    let at = |name: &str| dir.path().join(name);
    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).expect("bound");
    symlink("/proc/self", at("link")).expect("linked");
    for (name, problem) in [
        ("absent/report.html", "make its folder first"),
        ("file/report.html", "cannot be written: Not a directory"),
        ("socket", "is a socket or a disk"),
        ("link", "is a folder; name a file in it"),
        ("", "is a folder; name a file in it"),
    ] {
        let refused = message(dir.path(), OutputFile::open("--report", &at(name)));
        assert!(refused.contains(problem), "{name}: {refused}");
    }
    fs::set_permissions(at("file"), fs::Permissions::from_mode(0o444)).expect("set");
    // The system's administrator may write it all the same.
    if fs::File::options().write(true).open(at("file")).is_err() {
        let refused = message(dir.path(), OutputFile::open("--report", &at("file")));
        assert!(refused.contains("Permission denied"), "{refused}");
    }
    assert_eq!(fs::read(at("file")).expect("there"), b"x");
}
