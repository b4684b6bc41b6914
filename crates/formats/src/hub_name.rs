//! The name of a model whose folder is in the cache of the Hugging Face Hub: `…/models--org--name/snapshots/COMMIT`.
//!
//! Invariant: it is told by the path alone; nothing is read.

use std::path::Path;

/// The name `org/name` and the commit of such a folder.
pub fn hub_name(folder: &Path) -> Option<(String, String)> {
    let is_commit = |name: &&str| name.len() == 40 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    let commit = folder.file_name()?.to_str().filter(is_commit)?;
    let snapshots = folder.parent().filter(|parent| parent.file_name().is_some_and(|name| name == "snapshots"))?;
    let repository = snapshots.parent()?.file_name()?.to_str()?.strip_prefix("models--")?;
    let (organisation, name) = repository.split_once("--")?;
    let is_plain = |part: &str| !part.is_empty() && !part.contains("--");
    (is_plain(organisation) && is_plain(name)).then(|| (format!("{organisation}/{name}"), commit.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_knows_its_name() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let of = |folder: String| hub_name(Path::new(&folder));
        let found = of(format!("/cache/models--org--a-name/snapshots/{commit}"));
        assert_eq!(found, Some(("org/a-name".to_string(), commit.to_string())));
        assert_eq!(of(format!("/cache/datasets--org--name/snapshots/{commit}")), None);
        assert_eq!(of("/models/snapshots/mine".to_string()), None);
        assert_eq!(of(format!("models--x/snapshots/{commit}")), None);
    }
}
