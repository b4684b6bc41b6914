//! Which files of a repository are rows, as its paths say: their format by the ending, their split by a word in the path.
//!
//! As in `datasets`, a split's name stands in a path between separators (`data/train-00000-of-00002.parquet`,
//! `test/part.jsonl`, `rows_validation.csv`); where no path names one, all rows are of `train`. Invariant: files of
//! different formats or subsets are never mixed by guess; what is not clear is refused, with what could be meant.

use std::collections::BTreeSet;

/// Endings of rows, packed or not.
const FORMATS: [&str; 6] = ["parquet", "jsonl", "ndjson", "json", "csv", "tsv"];
const PACKED: [&str; 2] = ["gz", "zst"];

/// Splits by the words that stand for them.
const SPLITS: [(&str, &[&str]); 3] = [
    ("train", &["train", "training"]),
    ("validation", &["validation", "valid", "val", "dev"]),
    ("test", &["test", "testing", "eval", "evaluation"]),
];

/// Files that describe a data set.
const DESCRIPTIONS: [&str; 5] =
    ["dataset_infos.json", "dataset_info.json", "state.json", "dataset_dict.json", "config.json"];

/// The files of `part`, which is empty, a file, a folder, a split, or a folder and a split; `train` where no split is named.
///
/// # Errors
/// What is not clear, or is not there, in words.
pub(crate) fn rows_of(paths: &[&str], part: &str) -> Result<Vec<String>, String> {
    if paths.contains(&part) {
        return Ok(vec![part.to_string()]);
    }
    let rows: Vec<&str> =
        paths.iter().copied().filter(|path| format_of(path).is_some() && !is_description(path)).collect();
    let (folder, split) = match part.rsplit_once('/').unwrap_or(("", part)) {
        (folder, last) if is_split(last) && !has_folder(&rows, part) => (folder, last),
        _ => (part, "train"),
    };
    let inside: Vec<&str> = rows.into_iter().filter(|path| within(path, folder).is_some()).collect();
    if inside.is_empty() {
        let what = if folder.is_empty() { "the repository".to_string() } else { format!("its folder {folder}") };
        return Err(format!("{what} holds no rows that are read here (parquet, JSON lines, JSON, CSV, TSV)"));
    }
    let split_of = |path: &str| split_in(within(path, folder).unwrap_or(path));
    let chosen: Vec<&str> = match inside.iter().all(|path| split_of(path).is_none()) {
        true if split == "train" => inside,
        _ => inside.into_iter().filter(|path| split_of(path) == Some(split)).collect(),
    };
    if chosen.is_empty() {
        return Err(format!("there is no split {split}; name a file or folder of it: {}", some_of(paths)));
    }
    clear(chosen, folder)
}

/// Refuses files of several subsets or formats.
fn clear(chosen: Vec<&str>, folder: &str) -> Result<Vec<String>, String> {
    let subset = |path: &str| {
        let inner = within(path, folder).unwrap_or(path);
        let folders = inner.rsplit_once('/').map_or("", |(folders, _)| folders);
        let named: Vec<&str> = folders.split('/').filter(|part| !part.is_empty() && !is_neutral(part)).collect();
        named.first().map(|first| first.to_string())
    };
    let subsets: BTreeSet<Option<String>> = chosen.iter().map(|path| subset(path)).collect();
    if subsets.len() > 1 {
        let names: Vec<String> = subsets.into_iter().flatten().collect();
        return Err(format!("it has several subsets ({}); name one behind a slash", names.join(", ")));
    }
    let formats: BTreeSet<&str> = chosen.iter().filter_map(|path| format_of(path)).collect();
    if formats.len() > 1 {
        let names: Vec<&str> = formats.into_iter().collect();
        return Err(format!("it has rows as {}; name a file or a folder behind a slash", names.join(" and ")));
    }
    Ok(chosen.into_iter().map(str::to_string).collect())
}

/// Files that a set of shards lacks by its own names, `NAME-00000-of-00003`; the first of them.
pub(crate) fn missing_shard(files: &[String]) -> Option<String> {
    files.iter().find_map(|file| {
        let (stem, ending) = file.split_once('.').unwrap_or((file, ""));
        let (before, total) = stem.rsplit_once("-of-")?;
        let (name, _) = before.rsplit_once('-')?;
        let count: usize = total.parse().ok().filter(|count| *count <= 100_000)?;
        let shard = |index: usize| format!("{name}-{index:0width$}-of-{total}.{ending}", width = total.len());
        (0..count).map(shard).find(|shard| !files.contains(shard))
    })
}

/// The path below a folder.
fn within<'a>(path: &'a str, folder: &str) -> Option<&'a str> {
    if folder.is_empty() { Some(path) } else { path.strip_prefix(folder)?.strip_prefix('/') }
}

fn has_folder(paths: &[&str], folder: &str) -> bool {
    paths.iter().any(|path| within(path, folder).is_some())
}

/// The format by the ending.
fn format_of(path: &str) -> Option<&str> {
    let mut endings = path.rsplit('/').next()?.rsplit('.');
    let last = endings.next()?;
    let format = if PACKED.contains(&last) { endings.next()? } else { last };
    // What begins with a dot has no ending.
    (FORMATS.contains(&format) && endings.next().is_some_and(|stem| !stem.is_empty())).then_some(format)
}

fn is_description(path: &str) -> bool {
    path.split('/').any(|part| part.starts_with('.')) || DESCRIPTIONS.contains(&path.rsplit('/').next().unwrap_or(path))
}

fn is_split(word: &str) -> bool {
    SPLITS.iter().any(|(split, _)| *split == word)
}

/// The split that a path names: by the word nearest to its end.
fn split_in(path: &str) -> Option<&'static str> {
    let words = path.split(|c: char| !c.is_ascii_alphabetic()).rev();
    words
        .filter_map(|word| SPLITS.iter().find(|(_, names)| names.contains(&word.to_ascii_lowercase().as_str())))
        .map(|(split, _)| *split)
        .next()
}

/// Whether a folder's name says nothing of a subset.
fn is_neutral(folder: &str) -> bool {
    ["data", "default"].contains(&folder) || split_in(folder).is_some()
}

fn some_of(paths: &[&str]) -> String {
    let rows: Vec<&str> = paths.iter().copied().filter(|path| format_of(path).is_some()).take(5).collect();
    rows.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(paths: &[&str], part: &str, expected: &[&str]) {
        assert_eq!(rows_of(paths, part).expect(part), expected, "{part:?} of {paths:?}");
    }

    fn refused(paths: &[&str], part: &str, message: &str) {
        let problem = rows_of(paths, part).expect_err(part);
        assert!(problem.contains(message), "{problem}");
    }

    #[test]
    fn the_train_split_is_meant_unless_another_is_named() {
        let shards = [
            "README.md",
            "data/train-00000-of-00002.parquet",
            "data/train-00001-of-00002.parquet",
            "data/test-00000-of-00001.parquet",
        ];
        check(&shards, "", &shards[1..3]);
        check(&shards, "test", &shards[3..]);
        check(&shards, "data/test", &shards[3..]);
        check(&shards, "data/test-00000-of-00001.parquet", &shards[3..]);
        refused(&shards, "validation", "there is no split validation");
        check(&[".gitattributes", "alpaca_data.json", "README.md"], "", &["alpaca_data.json"]);
        check(&["train.jsonl.gz", "dev.jsonl.gz"], "", &["train.jsonl.gz"]);
        check(&["train.jsonl", "dev.jsonl"], "validation", &["dev.jsonl"]);
        check(&["train/a.csv", "train/b.csv", "test/a.csv"], "", &["train/a.csv", "train/b.csv"]);
        // A word inside of another is no split.
        check(&["trainer_notes_x.jsonl", "latest.jsonl"], "", &["trainer_notes_x.jsonl", "latest.jsonl"]);
    }

    #[test]
    fn what_is_not_clear_is_refused_with_what_could_be_meant() {
        let subsets = [
            "main/train-00000-of-00001.parquet",
            "main/test-00000-of-00001.parquet",
            "socratic/train-00000-of-00001.parquet",
        ];
        refused(&subsets, "", "several subsets (main, socratic)");
        check(&subsets, "main", &subsets[..1]);
        check(&subsets, "main/test", &subsets[1..2]);
        refused(&["a.jsonl", "a.parquet"], "", "rows as jsonl and parquet");
        refused(&["README.md", "dataset_infos.json", "x.py"], "", "holds no rows");
        refused(&subsets, "other", "its folder other holds no rows");
    }

    #[test]
    fn a_missing_shard_is_noticed_by_the_names_of_the_others() {
        let files = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
        assert_eq!(missing_shard(&files(&["d/t-00000-of-00002.parquet", "d/t-00001-of-00002.parquet"])), None);
        let lacking = missing_shard(&files(&["d/t-00001-of-00002.parquet"]));
        assert_eq!(lacking.as_deref(), Some("d/t-00000-of-00002.parquet"));
        assert_eq!(missing_shard(&files(&["rows.jsonl", "a-of-b.csv"])), None);
    }
}
