//! What the endpoint says a repository holds: commit, and of every file path, size and hash.
//!
//! Invariant: what comes out of here is harmless to write under: the commit is a hash, paths are relative and have no part
//! that leads elsewhere, hashes are hexadecimal. A listing with one path that is not is refused as a whole.

use crate::HubError;
use crate::repository::is_commit;
use serde::Deserialize;

/// Longest answer that is read: some hundred thousand files.
pub(crate) const LIMIT_BYTES: u64 = 64 << 20;

/// A repository's files at a commit.
#[derive(Debug)]
pub(crate) struct Listing {
    pub(crate) commit: String,
    pub(crate) files: Vec<Entry>,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its path in the repository.
    pub(crate) path: String,
    pub(crate) bytes: u64,
    pub(crate) hash: Hash,
}

/// What its bytes have to come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Hash {
    /// SHA-256 of a large file.
    Sha256(String),
    /// Git's name of a small one: SHA-1 of `blob SIZE\0` and the bytes.
    GitBlob(String),
}

impl Hash {
    /// In hexadecimal: also the blob's name in the cache.
    pub(crate) fn hex(&self) -> &str {
        match self {
            Hash::Sha256(hex) | Hash::GitBlob(hex) => hex,
        }
    }
}

#[derive(Deserialize)]
struct Answer {
    sha: Option<String>,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: Option<String>,
    size: Option<u64>,
}

impl Listing {
    /// Reads the answer of an endpoint.
    pub(crate) fn parse(name: &str, text: &[u8]) -> Result<Self, HubError> {
        let hostile = |problem: String| HubError::Hostile { name: name.to_string(), problem };
        let answer: Answer = serde_json::from_slice(text)
            .map_err(|error| hostile(format!("the endpoint's list of files makes no sense: {error}")))?;
        let commit = answer.sha.filter(|sha| is_commit(sha));
        let commit = commit.ok_or_else(|| hostile("the endpoint names no commit".to_string()))?;
        let files = answer.siblings.into_iter().map(|sibling| entry(sibling).map_err(&hostile));
        Ok(Listing { commit, files: files.collect::<Result<_, _>>()? })
    }

    pub(crate) fn get(&self, path: &str) -> Option<&Entry> {
        self.files.iter().find(|entry| entry.path == path)
    }

    pub(crate) fn paths(&self) -> Vec<&str> {
        self.files.iter().map(|entry| entry.path.as_str()).collect()
    }
}

fn entry(sibling: Sibling) -> Result<Entry, String> {
    let path = sibling.rfilename;
    if !is_harmless(&path) {
        return Err(format!("it lists a file {:?}, which is no path inside of it; nothing is fetched", short(&path)));
    }
    let unknown = |what| format!("the endpoint does not say the {what} of {:?}, so it cannot be checked", short(&path));
    let (bytes, hash) = match sibling.lfs {
        Some(lfs) => (lfs.size.or(sibling.size), lfs.sha256.filter(|hash| is_hex(hash, 64)).map(Hash::Sha256)),
        None => (sibling.size, sibling.blob_id.filter(|hash| is_hex(hash, 40)).map(Hash::GitBlob)),
    };
    let (bytes, hash) = (bytes.ok_or_else(|| unknown("size"))?, hash.ok_or_else(|| unknown("hash"))?);
    Ok(Entry { path, bytes, hash })
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether a path leads to a place inside the folder that it is taken from, on any system.
fn is_harmless(path: &str) -> bool {
    let is_part = |part: &str| !part.is_empty() && part.len() <= 255 && part != "." && part != "..";
    let is_plain = |c: char| !c.is_control() && c != '\\';
    path.len() <= 1024 && path.chars().all(is_plain) && path.split('/').all(is_part)
}

/// A text from elsewhere, as a message may show it.
fn short(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA: &str = "0123456789abcdef0123456789abcdef01234567";

    fn listing(siblings: &str) -> Result<Listing, HubError> {
        Listing::parse("org/name", format!("{{\"sha\": \"{SHA}\", \"siblings\": [{siblings}]}}").as_bytes())
    }

    #[test]
    fn small_and_large_files_have_their_hashes() {
        let sha256 = "a".repeat(64);
        let found = listing(&format!(
            "{{\"rfilename\": \"config.json\", \"size\": 5, \"blobId\": \"{SHA}\"}}, {{\"rfilename\": \"a/w.safetensors\", \
             \"size\": 9, \"blobId\": \"{SHA}\", \"lfs\": {{\"sha256\": \"{sha256}\", \"size\": 9, \"pointerSize\": 1}}}}"
        ))
        .expect("a listing");
        assert_eq!(found.commit, SHA);
        assert_eq!(found.get("config.json").expect("there").hash, Hash::GitBlob(SHA.to_string()));
        assert_eq!(found.get("a/w.safetensors").expect("there").hash, Hash::Sha256(sha256));
    }

    #[test]
    fn paths_that_lead_elsewhere_are_refused_with_the_whole_listing() {
        for path in ["../x", "/etc/passwd", "a/../../b", "a//b", "", ".", "a/.", "a\\\\..\\\\b", "a\\u0000b", "a\\nb"] {
            let error = listing(&format!("{{\"rfilename\": \"{path}\", \"size\": 1, \"blobId\": \"{SHA}\"}}"));
            let error = error.expect_err(path).to_string();
            assert!(error.contains("no path inside of it"), "{path}: {error}");
        }
    }

    #[test]
    fn what_cannot_be_checked_is_refused() {
        for (sibling, part) in [
            (format!("{{\"rfilename\": \"a\", \"blobId\": \"{SHA}\"}}"), "size"),
            ("{\"rfilename\": \"a\", \"size\": 1}".to_string(), "hash"),
            ("{\"rfilename\": \"a\", \"size\": 1, \"blobId\": \"../../x\"}".to_string(), "hash"),
            ("{\"rfilename\": \"a\", \"size\": 1, \"lfs\": {\"sha256\": \"zz\"}}".to_string(), "hash"),
            ("{\"rfilename\": \"a\", \"size\": -1}".to_string(), "makes no sense"),
        ] {
            assert!(listing(&sibling).expect_err(&sibling).to_string().contains(part), "{sibling}");
        }
        assert!(Listing::parse("n", b"{\"sha\": \"../..\", \"siblings\": []}").is_err());
        assert!(Listing::parse("n", b"<html>").is_err());
    }
}
