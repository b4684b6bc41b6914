//! What a command reads and what it writes, by the flags that name them; and that the two do not meet.
//!
//! A place is a path at the end of all links and, where something is there, device and inode: so a link, `..`, a hard link
//! and another mount of the same folder are seen through. An output must not be an input, lie inside one or hold one; two
//! outputs must not be one file. A folder that is read stands for what is directly in it, too: its files may be links to
//! elsewhere. Standard output is an output where it is a regular file.
//!
//! Invariant: checking changes nothing. Every verb that reads and writes asks here, before it reads much. Look next at
//! `own_files` for what may be replaced in a folder that is written to.

use crate::FormatsError;
use crate::unfinished::unfinished_file;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// As many links as Linux follows in one path.
const MOST_LINKS: usize = 40;

/// Inputs and outputs of a command.
#[derive(Debug, Default)]
pub struct Places {
    inputs: Vec<Input>,
    outputs: Vec<Output>,
}

/// A path without links, and what the system knows it by.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ResolvedPath {
    path: PathBuf,
    id: Option<Id>,
}

/// Device and inode.
type Id = (u64, u64);

#[derive(Debug)]
struct Input {
    /// The flag and its path.
    name: String,
    place: ResolvedPath,
    /// What is directly inside, of a folder.
    inside: Vec<ResolvedPath>,
}

#[derive(Debug)]
struct Output {
    name: String,
    place: ResolvedPath,
    given: PathBuf,
    /// Of a folder: the names that no other output may take.
    taken: Option<Vec<&'static str>>,
}

impl Places {
    /// Nothing yet.
    pub fn new() -> Self {
        Places::default()
    }

    /// A file or folder that is read. One that is not there is left to whoever reads it.
    #[must_use]
    pub fn reads(mut self, flag: &str, path: &Path) -> Self {
        if !path.as_os_str().is_empty()
            && let Ok(place) = ResolvedPath::of(path)
        {
            let name = format!("{flag} {}", path.display());
            self.inputs.push(Input { name, inside: entries(path).map(|(_, place)| place).collect(), place });
        }
        self
    }

    /// A folder that is written to, under these names among others that no other output has.
    ///
    /// # Errors
    /// A path that leads nowhere.
    pub fn writes_folder(
        self,
        flag: &str,
        path: &Path,
        names: impl IntoIterator<Item = &'static str>,
    ) -> Result<Self, FormatsError> {
        self.writes(flag, path, Some(names.into_iter().collect()))
    }

    /// A file that is written.
    ///
    /// # Errors
    /// A path that leads nowhere.
    pub fn writes_file(self, flag: &str, path: &Path) -> Result<Self, FormatsError> {
        self.writes(flag, path, None)
    }

    fn writes(mut self, flag: &str, path: &Path, taken: Option<Vec<&'static str>>) -> Result<Self, FormatsError> {
        let name = format!("{flag} {}", path.display());
        let nowhere = |error| FormatsError::Output {
            output: name.clone(),
            problem: format!("cannot be written: {error}; choose another path"),
        };
        let place = ResolvedPath::of(path).map_err(nowhere)?;
        self.outputs.push(Output { name, place, given: path.to_path_buf(), taken });
        Ok(self)
    }

    /// Refuses outputs that meet an input or each other.
    ///
    /// # Errors
    /// The first such output, with what it would overwrite and the remedy.
    pub fn check(&self) -> Result<(), FormatsError> {
        for output in &self.outputs {
            for input in &self.inputs {
                if let Some(problem) = output.meets(input) {
                    return Err(FormatsError::Output { output: output.name.clone(), problem });
                }
            }
        }
        self.outputs_are_apart()?;
        self.streams_are_apart()
    }

    fn outputs_are_apart(&self) -> Result<(), FormatsError> {
        let files = || self.outputs.iter().filter(|output| output.taken.is_none());
        for (index, output) in files().enumerate() {
            let refuse = |problem| Err(FormatsError::Output { output: output.name.clone(), problem });
            // Where a device or a pipe is written through, two may.
            let is_file = output.place.id.is_none() || output.place.path.is_file();
            if let Some(other) = files().take(index).find(|other| is_file && other.place.is(&output.place)) {
                return refuse(format!("is {}, too; give each a file of its own", other.name));
            }
            for folder in self.outputs.iter().filter(|other| other.taken.is_some()) {
                let below = output.place.path.strip_prefix(&folder.place.path);
                let Ok(below) = below else { continue };
                let name = below.to_string_lossy();
                let is_taken = |taken: &[&str]| taken.contains(&&*name) || name.starts_with('.');
                if below.components().count() > 1 || folder.taken.as_deref().is_some_and(is_taken) {
                    return refuse(format!("is a name that {} is written under; choose another", folder.name));
                }
            }
        }
        Ok(())
    }

    /// Where standard output or the errors' stream is a regular file, that is no input and no other output.
    fn streams_are_apart(&self) -> Result<(), FormatsError> {
        let streams = [("standard output", id_of_stream(io::stdout())), ("standard error", id_of_stream(io::stderr()))];
        for (stream, id) in streams.into_iter().filter(|(_, id)| id.is_some()) {
            let refuse = |what: &str| {
                let problem = format!("goes to the file of {what}; redirect it to another file");
                Err(FormatsError::Output { output: stream.to_string(), problem })
            };
            if let Some(input) = self.inputs.iter().find(|input| input.places().any(|place| place.id == id)) {
                return refuse(&input.name);
            }
            if let Some(output) = self.outputs.iter().find(|output| output.place.id == id) {
                return refuse(&output.name);
            }
        }
        Ok(())
    }
}

impl Input {
    fn places(&self) -> impl Iterator<Item = &ResolvedPath> {
        std::iter::once(&self.place).chain(&self.inside)
    }
}

impl Output {
    /// What it would do to the input, with the remedy.
    fn meets(&self, input: &Input) -> Option<String> {
        let (what, name) = (if self.taken.is_some() { "folder" } else { "file" }, &input.name);
        if !input.place.is(&self.place) && self.place.is_below(&input.place) {
            return Some(format!("lies inside {name}, which is read; choose a {what} outside of it"));
        }
        if input.places().any(|place| place.is(&self.place)) {
            return Some(format!("is what {name} reads; choose another {what}"));
        }
        self.taken.as_ref()?;
        if let Some(held) = input.places().find(|place| place.is_below(&self.place)) {
            let held = held.path.display();
            return Some(format!("holds {held}, which {name} reads; choose another folder"));
        }
        let linked = entries(&self.given).find(|(_, entry)| input.places().any(|place| place.is(entry)));
        linked.map(|(entry, _)| {
            let entry = entry.to_string_lossy();
            format!("its {entry} is a link to what {name} reads; choose another folder, or move {entry} away")
        })
    }
}

impl ResolvedPath {
    fn of(path: &Path) -> io::Result<ResolvedPath> {
        Ok(ResolvedPath { path: resolve(path)?, id: fs::metadata(path).ok().map(|found| id(&found)) })
    }

    /// Whether both are one file or folder.
    fn is(&self, other: &ResolvedPath) -> bool {
        self.path == other.path || (self.id.is_some() && self.id == other.id)
    }

    /// Whether it lies in the folder, however deep.
    fn is_below(&self, folder: &ResolvedPath) -> bool {
        let above = self.path.ancestors().skip(1);
        above.into_iter().any(|path| {
            path == folder.path || (folder.id.is_some() && fs::metadata(path).ok().map(|f| id(&f)) == folder.id)
        })
    }
}

/// What is directly in a folder, links followed; nothing where there is no folder.
fn entries(folder: &Path) -> impl Iterator<Item = (OsString, ResolvedPath)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((entry.file_name(), ResolvedPath::of(&entry.path()).ok()?)))
}

fn id(found: &Metadata) -> Id {
    (found.dev(), found.ino())
}

fn id_of_stream(stream: impl AsFd) -> Option<Id> {
    let found = File::from(stream.as_fd().try_clone_to_owned().ok()?).metadata().ok()?;
    found.is_file().then(|| id(&found))
}

/// The absolute path without links and `..`. What does not exist is taken as it is written, as a folder would be made.
///
/// # Errors
/// Links that go in a circle; a current folder that is gone.
pub fn resolve(path: &Path) -> io::Result<PathBuf> {
    let mut left: VecDeque<OsString> = VecDeque::new();
    let mut links = 0;
    let mut resolved = if path.is_absolute() { PathBuf::from("/") } else { std::env::current_dir()? };
    let put_first = |left: &mut VecDeque<OsString>, path: &Path| {
        let parts = path.components().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
        for part in parts.rev() {
            left.push_front(part.as_os_str().to_os_string());
        }
    };
    put_first(&mut left, path);
    while let Some(part) = left.pop_front() {
        if part == ".." {
            resolved.pop();
            continue;
        }
        let next = resolved.join(&part);
        match fs::read_link(&next) {
            Ok(target) => {
                links += 1;
                if links > MOST_LINKS {
                    return Err(io::Error::from_raw_os_error(libc::ELOOP));
                }
                if target.is_absolute() {
                    resolved = PathBuf::from("/");
                }
                put_first(&mut left, &target);
            }
            Err(_) => resolved = next,
        }
    }
    Ok(resolved)
}

/// Makes sure that files can be made in a folder, or in the nearest one above it that exists.
///
/// # Errors
/// What the system refuses.
pub fn probe_folder(path: &Path) -> io::Result<()> {
    let folder = path.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("."));
    fs::remove_file(unfinished_file(folder)?.path)
}
