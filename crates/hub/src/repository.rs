//! A repository's name: `org/name` and a revision, and the folder names of the cache that follow from them.
//!
//! Invariant: what parses as a name or revision is harmless in a path and in a URL: letters, digits, `-`, `_`, `.`, no part
//! that is empty or begins with a dot.

use crate::HubError;

/// What a repository holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A model or an adapter.
    Model,
    /// Rows.
    Dataset,
}

/// One repository at one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    pub(crate) kind: Kind,
    pub(crate) id: String,
    pub(crate) revision: String,
}

/// The branch that is meant where none is named.
const MAIN: &str = "main";

impl Repository {
    /// The repository that a text names, if it is such a name and no path.
    pub fn named(kind: Kind, text: &str) -> Option<Self> {
        let (organisation, name) = text.split_once('/')?;
        let is_part = |part: &str| {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            let ends = part.starts_with(['.', '-']) || part.ends_with(['.', '-']) || part.ends_with(".git");
            !part.is_empty() && part.chars().all(is_plain) && !ends && !part.contains("..") && !part.contains("--")
        };
        // 96 is the Hub's own bound.
        let fits = text.len() <= 96 && is_part(organisation) && is_part(name);
        fits.then(|| Repository { kind, id: text.to_string(), revision: MAIN.to_string() })
    }

    /// The same at a branch, tag or commit.
    ///
    /// # Errors
    /// A revision that cannot be one.
    pub fn at(self, revision: &str) -> Result<Self, HubError> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let is_part = |part: &str| !part.is_empty() && !part.starts_with(['.', '-']) && part.chars().all(is_plain);
        if revision.len() > 200 || !revision.split('/').all(is_part) {
            let problem = format!("revision {revision:?} is no branch, tag or commit");
            return Err(HubError::Name { name: self.id, problem });
        }
        Ok(Repository { revision: revision.to_string(), ..self })
    }

    /// Its name.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its folder in the cache.
    pub(crate) fn folder_name(&self) -> String {
        format!("{}--{}", self.kind.plural(), self.id.replace('/', "--"))
    }

    /// Where the endpoint lists its files, and their sizes and hashes.
    pub(crate) fn listing_path(&self) -> String {
        format!("/api/{}/{}/revision/{}?blobs=true", self.kind.plural(), self.id, self.revision.replace('/', "%2F"))
    }

    /// Where the endpoint has a file at a commit.
    pub(crate) fn file_path(&self, commit: &str, file: &str) -> String {
        let prefix = match self.kind {
            Kind::Model => "",
            Kind::Dataset => "datasets/",
        };
        format!("/{prefix}{}/resolve/{commit}/{}", self.id, escaped(file))
    }
}

impl Kind {
    fn plural(self) -> &'static str {
        match self {
            Kind::Model => "models",
            Kind::Dataset => "datasets",
        }
    }
}

/// Whether it is a commit's hash in full.
pub(crate) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// A path for a URL: all bytes but the unreserved ones and the slash as `%XX`.
fn escaped(path: &str) -> String {
    let one = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    path.bytes().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_from_paths() {
        for name in ["org/name", "Qwen/Qwen2.5-0.5B", "meta-llama/Llama-3.1-8B", "a/b_c"] {
            assert!(Repository::named(Kind::Model, name).is_some(), "{name}");
        }
        for path in [
            "name", "", "/", "a/", "/b", "./model", "../model", "a/b/c", "a/.b", "a b/c", "~/model", "a/b..c",
            "a/b--c", "ü/b", "a/-b", "a\\b/c", "a/b?x", "a/b#c", "a/%2e%2e",
        ] {
            assert_eq!(Repository::named(Kind::Model, path), None, "{path}");
        }
    }

    #[test]
    fn revisions_cannot_leave_their_place() {
        let repository = || Repository::named(Kind::Dataset, "org/name").expect("a name");
        for good in ["main", "refs/pr/12", "v1.0", "0123456789abcdef0123456789abcdef01234567"] {
            repository().at(good).expect(good);
        }
        for bad in ["", "..", "a/../b", "/x", "a//b", "a?b", "a b", ".hidden", "a/"] {
            assert!(repository().at(bad).is_err(), "{bad}");
        }
        let path = repository().at("refs/pr/1").expect("a revision").listing_path();
        assert_eq!(path, "/api/datasets/org/name/revision/refs%2Fpr%2F1?blobs=true");
        assert_eq!(repository().file_path("c", "a b/ü?.txt"), "/datasets/org/name/resolve/c/a%20b/%C3%BC%3F.txt");
    }
}
