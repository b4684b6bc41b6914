//! Case files: what is planned and the plan, as text. They lie in `compiler/tests/cases`, where a test holds each plan to what
//! the compiler makes; others read them for valid plans to start from.
//!
//! A file has lines that say what it shows, `#` before them; settings, a word and what is set on a line; then blocks, each
//! closed by a brace alone: the graph that is compiled, the graph as it is simplified where that is another, the plan.
#![allow(dead_code, reason = "each test binary uses its own part")]

use remat_ir::{Graph, parse};
use remat_plan::Plan;
use std::path::{Path, PathBuf};

/// One file, read but not understood.
pub struct CaseFile {
    pub path: PathBuf,
    /// Comments and settings.
    pub head: Vec<String>,
    /// What is compiled.
    pub graph: String,
    /// What it is simplified to, if that is not the same.
    pub simplified: Option<String>,
    /// The plan, once it is there.
    pub plan: Option<String>,
}

impl CaseFile {
    /// All files, in the order of their names.
    pub fn all() -> Vec<CaseFile> {
        // From a crate, or from the folder of fuzz targets.
        let folders = ["../compiler/tests/cases", "../crates/compiler/tests/cases"];
        let folders = folders.map(|folder| Path::new(env!("CARGO_MANIFEST_DIR")).join(folder));
        let folder = folders.into_iter().find(|folder| folder.exists()).expect("the cases are there");
        let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut paths: Vec<PathBuf> = files.map(|file| file.expect("a file").path()).collect();
        paths.sort();
        paths.iter().map(|path| CaseFile::read(path)).collect()
    }

    /// The file of this name.
    pub fn named(name: &str) -> CaseFile {
        let named = |case: &CaseFile| case.name() == name;
        CaseFile::all().into_iter().find(named).unwrap_or_else(|| panic!("there is no case {name}"))
    }

    fn read(path: &Path) -> CaseFile {
        let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut case =
            CaseFile { path: path.to_path_buf(), head: Vec::new(), graph: String::new(), simplified: None, plan: None };
        let mut block: Option<String> = None;
        for line in text.lines() {
            if let Some(text) = &mut block {
                text.push('\n');
                text.push_str(line);
                if line == "}" {
                    case.take(block.take().expect("it is there"));
                }
            } else if line.ends_with(" {") {
                block = Some(line.to_string());
            } else if !line.is_empty() {
                case.head.push(line.to_string());
            }
        }
        assert!(
            block.is_none() && !case.graph.is_empty(),
            "{}: a block that does not end, or no graph",
            path.display()
        );
        case
    }

    fn take(&mut self, block: String) {
        match block.starts_with("plan") {
            true => self.plan = Some(block),
            false if self.graph.is_empty() => self.graph = block,
            false => self.simplified = Some(block),
        }
    }

    /// The file's stem.
    pub fn name(&self) -> &str {
        self.path.file_stem().and_then(|stem| stem.to_str()).expect("cases have plain names")
    }

    /// What is set under `word`, if anything is.
    pub fn setting(&self, word: &str) -> Option<&str> {
        self.head.iter().find_map(|line| line.strip_prefix(word)?.strip_prefix(' '))
    }

    /// The graph that is compiled.
    pub fn graph(&self) -> Graph {
        parse(&self.graph).unwrap_or_else(|error| panic!("{}: graph: {error}", self.path.display()))
    }

    /// The graph that the plan is checked against.
    pub fn source(&self) -> Graph {
        let simplified = self.simplified.as_deref().map(parse);
        let simplified = simplified.transpose().unwrap_or_else(|error| panic!("{}: {error}", self.path.display()));
        simplified.unwrap_or_else(|| self.graph())
    }

    /// The plan.
    pub fn plan(&self) -> Plan {
        let text = self.plan.as_deref().unwrap_or_else(|| panic!("{} has no plan yet", self.path.display()));
        text.parse().unwrap_or_else(|error| panic!("{}: plan: {error}", self.path.display()))
    }

    /// The file's text.
    pub fn text(&self) -> String {
        let mut text = self.head.join("\n") + "\n";
        for block in [Some(&self.graph), self.simplified.as_ref(), self.plan.as_ref()].into_iter().flatten() {
            text += &format!("\n{block}\n");
        }
        text
    }
}
