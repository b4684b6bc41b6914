//! Results that grow under a name of their own beside the final one, and what was left of those whose process was killed.
//!
//! A file grows in `.remat-PID-N.tmp`, a folder NAME in `.NAME.remat-PID-N`. Whoever makes one holds a lock on it (`flock`)
//! until it has its final name, and the system lets go of the lock when the process ends, however it ends. So a lock
//! that can be taken tells that nobody is at work there; the number tells nothing, since numbers come again and are
//! others in another container. The first unfinished file or folder that a process makes in a folder takes away what
//! others left in it.
//!
//! Invariant: what a living process is writing is never removed, in whatever order makers and removers take their steps: a
//! remover removes only what it has locked while that name still led to it, and a maker uses only what it has locked
//! while it still had its name. On a file system without locks, only what processes that are gone left is removed.

use std::collections::BTreeSet;
use std::fs::{self, DirEntry, File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

const PREFIX: &str = ".remat-";
const SUFFIX: &str = ".tmp";
/// How often in a row what is made may be swept at once: each process sweeps a folder once.
const MOST_SWEPT: u32 = 16;
/// Between a folder's name and its maker's numbers.
const INFIX: &str = ".remat-";

/// A file or folder in the making; the name is nobody else's as long as `lock` is open.
#[derive(Debug)]
pub struct Unfinished {
    /// Where it grows.
    pub path: PathBuf,
    /// The file, open for writing, or the folder.
    pub lock: File,
}

/// A new file in a folder. A name that is taken (by a process that was killed, or by a link that somebody laid) is passed
/// over, never written through.
///
/// # Errors
/// What the system refuses.
pub(crate) fn unfinished_file(folder: &Path) -> io::Result<Unfinished> {
    made(
        folder,
        |numbers| format!("{PREFIX}{numbers}{SUFFIX}"),
        |path| File::options().write(true).create_new(true).open(path).map(Some),
    )
}

/// A new folder beside `target`, locked by its maker until it has its name.
///
/// # Errors
/// What the system refuses.
pub fn unfinished_folder(target: &Path) -> io::Result<Unfinished> {
    let name = target.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    made(
        parent(target),
        |numbers| format!(".{name}{INFIX}{numbers}"),
        |path| {
            fs::create_dir(path)?;
            match File::open(path) {
                // It was swept before it was opened.
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
                opened => opened.map(Some),
            }
        },
    )
}

/// Gives an open file that has no name the name of an unfinished one by `link`, which says whether that could be done.
pub(crate) fn named_unfinished(file: &File, folder: &Path, link: impl Fn(&File, &Path) -> bool) -> Option<PathBuf> {
    sweep_once(folder);
    let path = folder.join(format!("{PREFIX}{}{SUFFIX}", numbers()));
    // A second lock of the same open file is no lock against itself.
    (file.try_lock().is_ok() && link(file, &path)).then_some(path)
}

/// The folder that a path is in.
pub(crate) fn parent(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn made(
    folder: &Path,
    name: impl Fn(String) -> String,
    make: impl Fn(&Path) -> io::Result<Option<File>>,
) -> io::Result<Unfinished> {
    sweep_once(folder);
    let mut swept = 0;
    loop {
        let path = folder.join(name(numbers()));
        match make(&path) {
            // A sweep that comes between the steps of making it has it, and another name is tried; not without end, should a
            // file system tell nonsense.
            Ok(Some(lock)) if swept == MOST_SWEPT || is_locked(&lock, &path) => return Ok(Unfinished { path, lock }),
            Ok(_) if swept == MOST_SWEPT => return Err(io::Error::other("it is removed as soon as it is made")),
            Ok(_) => swept += 1,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}

/// The process's number and one that it has not used.
fn numbers() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Locks what was made; whether it is this process's own.
fn is_locked(file: &File, path: &Path) -> bool {
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => false,
        // Without locks nobody sweeps what a living process made. What was swept has no name any more.
        Ok(()) | Err(TryLockError::Error(_)) => {
            path.symlink_metadata().is_ok() && file.metadata().is_ok_and(|made| made.nlink() > 0)
        }
    }
}

/// Whether a name leads to an open file or folder, and not by a link.
fn leads_to(path: &Path, file: &File) -> bool {
    match (path.symlink_metadata(), file.metadata()) {
        (Ok(there), Ok(open)) => (there.dev(), there.ino()) == (open.dev(), open.ino()),
        _ => false,
    }
}

/// Sweeps a folder the first time that this process makes something there.
fn sweep_once(folder: &Path) {
    static SWEPT: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    let is_first = SWEPT.lock().is_ok_and(|mut swept| swept.insert(folder.to_path_buf()));
    if is_first {
        sweep_unfinished(folder);
    }
}

/// Removes unfinished files and folders that no living process is at work on. What cannot be removed takes room, and
/// nothing else.
fn sweep_unfinished(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(kind) = name.to_str().and_then(kind_of) else { continue };
        if is_of_kind(&entry, &kind) {
            remove_left(&entry.path(), &kind);
        }
    }
}

/// What a name is of.
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    File { process: u32 },
    Folder { process: u32 },
}

/// Whether a file or folder of this name is a result in the making, or was left of one.
pub fn is_unfinished(name: &str) -> bool {
    kind_of(name).is_some()
}

fn kind_of(name: &str) -> Option<Kind> {
    if let Some(numbers) = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(SUFFIX)) {
        return Some(Kind::File { process: process_of(numbers)? });
    }
    let (named, numbers) = name.strip_prefix('.')?.rsplit_once(INFIX)?;
    (!named.is_empty()).then_some(Kind::Folder { process: process_of(numbers)? })
}

/// The process of two numbers as they are written here.
fn process_of(numbers: &str) -> Option<u32> {
    let (process, number) = numbers.split_once('-')?;
    let (process, number) = (process.parse::<u32>().ok()?, number.parse::<u64>().ok()?);
    (format!("{process}-{number}") == numbers).then_some(process)
}

fn is_of_kind(entry: &DirEntry, kind: &Kind) -> bool {
    entry.file_type().is_ok_and(|found| match kind {
        Kind::File { .. } => found.is_file(),
        Kind::Folder { .. } => found.is_dir(),
    })
}

fn remove_left(path: &Path, kind: &Kind) {
    let (Kind::File { process } | Kind::Folder { process }) = kind;
    let is_file = matches!(kind, Kind::File { .. });
    // Some network file systems lock only what is open for writing, which a folder cannot be.
    let opened = File::options().read(true).write(is_file).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
    let Ok(file) = opened else { return };
    let is_left = match file.try_lock() {
        Ok(()) => true,
        Err(TryLockError::WouldBlock) => false,
        Err(TryLockError::Error(_)) => !is_alive(*process),
    };
    if is_left && leads_to(path, &file) {
        drop(if is_file { fs::remove_file(path) } else { fs::remove_dir_all(path) });
    }
}

/// Whether a process of this number goes. Where the system does not tell, it may.
fn is_alive(process: u32) -> bool {
    process == std::process::id()
        || !Path::new("/proc/self").exists()
        || Path::new(&format!("/proc/{process}")).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .expect("a folder")
            .flatten()
            .filter_map(|e| e.file_name().into_string().ok())
            .collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn what_nobody_is_at_work_on_is_swept_whatever_process_has_its_number() {
        let folder = tempfile::tempdir().expect("folder");
        let (own, parent) = (std::process::id(), std::os::unix::process::parent_id());
        for process in [own, parent, u32::MAX] {
            fs::write(folder.path().join(format!(".remat-{process}-7.tmp")), "half").expect("written");
            let left = folder.path().join(format!(".out.remat-{process}-7"));
            fs::create_dir(&left).expect("created");
            fs::write(left.join("config.json"), "half").expect("written");
        }
        let file = unfinished_file(folder.path()).expect("made");
        assert_eq!(names(folder.path()), [file.path.file_name().expect("a name").to_str().expect("text")]);
        let target = folder.path().join("out");
        let made = unfinished_folder(&target).expect("made");
        sweep_unfinished(folder.path());
        assert_eq!(names(folder.path()).len(), 2, "what is being written stays");
        fs::rename(&made.path, &target).expect("renamed");
        drop(file);
        sweep_unfinished(folder.path());
        assert_eq!(names(folder.path()), ["out"], "its lock is gone with who held it");
    }

    #[test]
    fn a_folder_that_takes_nothing_is_an_error_and_no_loop() {
        let absent = tempfile::tempdir().expect("folder").path().join("absent");
        assert_eq!(unfinished_file(&absent).expect_err("refused").kind(), ErrorKind::NotFound);
        assert_eq!(unfinished_folder(&absent.join("x")).expect_err("refused").kind(), ErrorKind::NotFound);
        if cfg!(target_os = "linux") {
            unfinished_file(Path::new("/proc")).expect_err("refused");
            unfinished_folder(Path::new("/proc/x")).expect_err("refused");
        }
    }

    #[test]
    fn only_its_own_names_are_swept() {
        let folder = tempfile::tempdir().expect("folder");
        let path = |name: &str| folder.path().join(name);
        let files = [
            ".out.remat-1-2",
            ".remat-01-2.tmp",
            ".remat-1-2",
            ".remat-1.tmp",
            ".remat-files.json",
            ".remat-mine-1.tmp",
            "x.remat-1-2",
        ];
        let folders = [".out.remat-1", ".remat-1-3.tmp", "..remat-1-2", ".remat-new", "y.remat-1-2"];
        files.iter().for_each(|name| fs::write(path(name), "mine").expect("written"));
        folders.iter().for_each(|name| fs::create_dir(path(name)).expect("created"));
        fs::write(path("kept"), "mine").expect("written");
        std::os::unix::fs::symlink("kept", path(".remat-1-9.tmp")).expect("linked");
        let before = names(folder.path());
        sweep_unfinished(folder.path());
        assert_eq!(names(folder.path()), before);
        assert!(is_unfinished(".remat-1-2.tmp") && !is_unfinished(".remat-01-2.tmp"));
    }

    #[test]
    fn makers_and_sweepers_at_once_lose_nothing() {
        let folder = tempfile::tempdir().expect("folder");
        std::thread::scope(|scope| {
            for maker in 0..2 {
                let folder = folder.path();
                scope.spawn(move || {
                    for number in 0..100 {
                        let target = folder.join(format!("{maker}-{number}"));
                        let made = match number % 2 {
                            0 => unfinished_file(folder).expect("made"),
                            _ => unfinished_folder(&target).expect("made"),
                        };
                        fs::rename(&made.path, &target).expect("still there");
                    }
                });
            }
            // As many as that come in a row only if nothing is as it should be.
            scope.spawn(|| {
                (0..200).for_each(|_| {
                    sweep_unfinished(folder.path());
                    std::thread::yield_now();
                });
            });
        });
        assert_eq!(names(folder.path()).len(), 200);
    }
}
