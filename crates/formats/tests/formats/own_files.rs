//! The listing of a folder, and new results that take the place of old ones: what is in place after every failure.

use crate::bytes::{folder, message};
use remat_formats::{AdapterConfig, FormatsError, LISTING_FILE, OwnFiles};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

const RESULTS: [&str; 4] = ["adapter_config.json", "adapter_model.safetensors", "config.json", "model.safetensors"];
const OLD: [(&str, &str); 2] = [("adapter_config.json", "old head"), ("adapter_model.safetensors", "old weights")];

/// Files of a folder, but the listing.
fn files(folder: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(folder).expect("a folder").flatten().filter(|entry| entry.path().is_file());
    let named = entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()));
    let named = named.filter(|(name, _)| name != LISTING_FILE);
    named.map(|(name, path)| (name, fs::read_to_string(path).expect("readable"))).collect()
}

fn map(files: &[(&str, &str)]) -> BTreeMap<String, String> {
    files.iter().map(|(name, text)| ((*name).to_string(), (*text).to_string())).collect()
}

fn install(own: &mut OwnFiles, files: &[(&str, &str)]) -> Result<(), FormatsError> {
    own.install(&RESULTS, &mut |new| {
        files.iter().for_each(|(name, text)| fs::write(new.join(name), text).expect("written"));
        Ok(())
    })
}

/// A folder with an old result and somebody's notes.
fn with_old() -> (tempfile::TempDir, OwnFiles) {
    let dir = folder(&[("notes.txt", b"mine")]);
    let mut own = OwnFiles::of(dir.path(), [] as [&str; 0]);
    install(&mut own, &OLD).expect("installed");
    assert_eq!(files(dir.path()), map(&[&OLD[..], &[("notes.txt", "mine")]].concat()));
    (dir, own)
}

#[test]
fn a_listing_is_read_back_and_knows_what_is_there() {
    let (dir, _) = with_old();
    let own = OwnFiles::read(dir.path()).expect("readable").expect("a listing");
    assert!(own.holds("adapter_config.json") && !own.holds("notes.txt") && !own.holds("config.json"));
    assert_eq!(own.first_foreign(["adapter_config.json", "absent"]), None);
    assert_eq!(own.first_foreign(["adapter_config.json", "notes.txt"]), Some("notes.txt"));
    assert!(OwnFiles::read(&dir.path().join("absent")).expect("no listing").is_none());
    // What a linked folder leads to is somebody's, and so is a folder with something in it that is.
    fs::create_dir(dir.path().join("real")).expect("made");
    fs::write(dir.path().join("real/x"), "theirs").expect("written");
    symlink("real", dir.path().join("link")).expect("linked");
    let own = OwnFiles::of(dir.path(), ["real", "real/x", "link/x"]);
    assert_eq!((own.holds("real"), own.holds("real/x"), own.holds("link/x")), (true, true, false));
    fs::write(dir.path().join("real/y"), "theirs").expect("written");
    fs::create_dir(dir.path().join("empty")).expect("made");
    assert_eq!((own.holds("real"), own.holds("real/x"), own.holds("empty")), (false, true, false));
}

/// Results with files in a folder: `a` and `b` of it, by their texts.
#[test]
fn files_in_folders_come_and_go_as_others_do() {
    let results = ["config.json", "more"];
    let install = |own: &mut OwnFiles, files: &[(&str, &str)]| {
        own.install(&results, &mut |new| {
            fs::create_dir_all(new.join("more")).expect("made");
            files.iter().for_each(|(name, text)| fs::write(new.join(name), text).expect("written"));
            Ok::<(), FormatsError>(())
        })
    };
    let dir = folder(&[("notes.txt", b"mine")]);
    let below = || {
        let names = remat_formats::files_below(dir.path()).expect("readable");
        let texts = names.into_iter().filter(|name| name != LISTING_FILE && name != "notes.txt").map(|name| {
            let text = fs::read_to_string(dir.path().join(&name)).expect("readable");
            (name, text)
        });
        texts.collect::<BTreeMap<String, String>>()
    };
    let mut own = OwnFiles::of(dir.path(), [] as [&str; 0]);
    let first = [("config.json", "1"), ("more/a", "1"), ("more/b", "1")];
    install(&mut own, &first).expect("installed");
    assert_eq!(below(), map(&first));
    let second = [("config.json", "2"), ("more/b", "2")];
    install(&mut own, &second).expect("installed");
    assert_eq!(below(), map(&second));
    install(&mut own, &[("config.json", "3")]).expect("installed");
    assert!(!dir.path().join("more").exists(), "its last file is gone");
    install(&mut own, &first).expect("installed");
    assert_eq!(own.first_foreign(results), None);

    // A kill with the head and one file away: all of the old result comes back.
    for name in ["config.json", "more/a"] {
        fs::create_dir_all(dir.path().join(".remat-old/more")).expect("made");
        fs::rename(dir.path().join(name), dir.path().join(".remat-old").join(name)).expect("renamed");
    }
    fs::create_dir_all(dir.path().join(".remat-new/more")).expect("made");
    fs::write(dir.path().join(".remat-new/more/a"), "2").expect("written");
    own.recover().expect("recovered");
    assert_eq!(below(), map(&first));

    // What is somebody's there is refused, and a link is not followed.
    fs::write(dir.path().join("more/c"), "mine").expect("written");
    assert_eq!(own.first_foreign(results), Some("more"));
    fs::remove_dir_all(dir.path().join("more")).expect("removed");
    let theirs = folder(&[("x", b"theirs")]);
    symlink(theirs.path(), dir.path().join("more")).expect("linked");
    assert_eq!(own.first_foreign(results), Some("more"));
    assert!(install(&mut own, &[("config.json", "4"), ("more/a", "4")]).is_err(), "the link leads out");
    assert_eq!(fs::read_dir(theirs.path()).expect("a folder").count(), 1);
}

#[test]
fn a_listing_that_is_damaged_or_leads_outside_is_refused() {
    let dir = folder(&[]);
    for (text, problem) in [
        ("{", "is not valid JSON"),
        (r#"{"schema": 2, "files": []}"#, "schema 2 is not known"),
        (r#"{"schema": 1, "files": ["../secret"]}"#, "\"../secret\" is no file of the folder"),
        (r#"{"schema": 1, "files": ["/etc/passwd"]}"#, "\"/etc/passwd\" is no file of the folder"),
    ] {
        fs::write(dir.path().join(LISTING_FILE), text).expect("written");
        let message = message(dir.path(), OwnFiles::read(dir.path()));
        assert!(message.contains(problem) && message.contains("Remove it"), "{message}");
    }
}

#[test]
fn a_new_result_takes_the_place_of_the_old_one_and_of_nothing_else() {
    let new_of_same = [("adapter_config.json", "old head"), ("adapter_model.safetensors", "new weights")];
    let new_of_other = [("config.json", "new head"), ("model.safetensors", "new model")];
    let both_changed = [("adapter_config.json", "new head"), ("adapter_model.safetensors", "new weights")];
    for new in [new_of_same, new_of_other, both_changed] {
        let (dir, mut own) = with_old();
        install(&mut own, &new).expect("installed");
        assert_eq!(files(dir.path()), map(&[&new[..], &[("notes.txt", "mine")]].concat()));
        assert_eq!(fs::read_dir(dir.path()).expect("a folder").count(), 4, "with the listing, and no folder is left");
        let listed = OwnFiles::read(dir.path()).expect("readable").expect("a listing");
        assert_eq!(RESULTS.map(|name| listed.holds(name)), RESULTS.map(|name| new.iter().any(|(new, _)| *new == name)));
    }
}

/// One changed file beside a head that stays takes one rename; a long file that differs in its last byte is changed.
#[test]
fn what_is_the_same_is_told_from_what_differs() {
    let long = |last: char| "x".repeat(100_000) + &last.to_string();
    for (last, is_same) in [('a', true), ('b', false)] {
        let (dir, mut own) = with_old();
        install(&mut own, &[OLD[0], (OLD[1].0, &long('a'))]).expect("installed");
        let inode = |name: &str| fs::metadata(dir.path().join(name)).expect("there").ino();
        let before = inode(OLD[1].0);
        install(&mut own, &[OLD[0], (OLD[1].0, &long(last))]).expect("installed");
        assert_eq!(inode(OLD[1].0) == before, is_same, "{last}");
        assert_eq!(fs::read_to_string(dir.path().join(OLD[1].0)).expect("readable"), long(last));
    }
}

#[test]
fn a_result_that_cannot_be_written_leaves_the_old_one() {
    let (dir, mut own) = with_old();
    let before = files(dir.path());
    let failed: Result<(), FormatsError> = own.install(&RESULTS, &mut |new| {
        fs::write(new.join("adapter_config.json"), "half").expect("written");
        Err(FormatsError::Output { output: "x".to_string(), problem: "injected".to_string() })
    });
    assert_eq!(failed.expect_err("injected").to_string(), "x: injected");
    assert_eq!(files(dir.path()), before);
    assert_eq!(fs::read_dir(dir.path()).expect("a folder").count(), 4);
}

#[test]
fn what_somebody_put_there_meanwhile_is_not_replaced() {
    let (dir, mut own) = with_old();
    let failed: Result<(), FormatsError> = own.install(&RESULTS, &mut |new| {
        fs::write(new.join("config.json"), "new").expect("written");
        fs::write(dir.path().join("config.json"), "theirs").expect("written");
        Ok(())
    });
    let problem = message(dir.path(), failed);
    assert!(problem.contains("is complete in DIR/.remat-new"), "{problem}");
    assert_eq!(files(dir.path()), map(&[&OLD[..], &[("config.json", "theirs"), ("notes.txt", "mine")]].concat()));
    assert_eq!(files(&dir.path().join(".remat-new")), map(&[("config.json", "new")]));
}

/// Every state that a kill can leave between the first rename and the last removal, made by hand.
#[test]
fn after_a_kill_the_old_result_is_put_back_or_the_new_one_is_there() {
    let new = [("adapter_config.json", "new head"), ("adapter_model.safetensors", "new weights")];
    let names = ["adapter_config.json", "adapter_model.safetensors"];
    // As `place` goes: the old head and weights away, the new weights and head in, then the folders' end.
    let moves = [
        (".", ".remat-old", names[0]),
        (".", ".remat-old", names[1]),
        (".remat-new", ".", names[1]),
        (".remat-new", ".", names[0]),
    ];
    for kill_after in 0..=moves.len() {
        let (dir, own) = with_old();
        for folder in [".remat-new", ".remat-old"] {
            fs::create_dir(dir.path().join(folder)).expect("made");
        }
        for (name, text) in new {
            fs::write(dir.path().join(".remat-new").join(name), text).expect("written");
        }
        for (from, to, name) in &moves[..kill_after] {
            fs::rename(dir.path().join(from).join(name), dir.path().join(to).join(name)).expect("renamed");
        }
        let there = files(dir.path());
        let is_torn = there.contains_key("adapter_config.json")
            && there.get(names[0]).map(|text| &text[..3]) != there.get(names[1]).map(|text| &text[..3]);
        assert!(!is_torn, "after {kill_after}: a head beside other weights: {there:?}");
        if !there.contains_key("adapter_config.json") {
            let said = message(dir.path(), AdapterConfig::from_dir(dir.path()));
            assert!(said.contains("was killed in between: give that command again"), "after {kill_after}: {said}");
        }
        own.recover().expect("recovered");
        let expected = if kill_after == moves.len() { new } else { OLD };
        assert_eq!(files(dir.path()), map(&[&expected[..], &[("notes.txt", "mine")]].concat()), "after {kill_after}");
        assert_eq!(fs::read_dir(dir.path()).expect("a folder").count(), 4);
    }
}

#[test]
fn recovering_follows_no_link_out_of_the_folder() {
    let (dir, own) = with_old();
    let theirs = folder(&[("config.json", b"theirs")]);
    for name in [".remat-new", ".remat-old"] {
        symlink(theirs.path(), dir.path().join(name)).expect("linked");
    }
    own.recover().expect("recovered");
    assert_eq!(files(theirs.path()), map(&[("config.json", "theirs")]));
    assert!(!dir.path().join("config.json").exists());
}

#[test]
fn a_way_that_is_blocked_leaves_the_old_result() {
    let (dir, mut own) = with_old();
    let failed: Result<(), FormatsError> = own.install(&RESULTS, &mut |new| {
        fs::write(new.join("adapter_config.json"), "new head").expect("written");
        fs::write(new.join("adapter_model.safetensors"), "new weights").expect("written");
        fs::create_dir(dir.path().join(".remat-old")).expect("made");
        Ok(())
    });
    assert!(failed.is_err(), "the way was blocked");
    assert_eq!(files(dir.path()), map(&[&OLD[..], &[("notes.txt", "mine")]].concat()));
}
