//! Saves: torn ones, strangers under their names, what pruning and sweeping leave alone.

use super::*;
use crate::folder::file_names::MANIFEST;

const FILES: [(&str, &[u8]); 2] = [("optimizer.safetensors", &[7; 300]), ("trainer_state.json", b"{\"step\": 1}")];

fn save(saves: &mut Saves, step: u64) -> PathBuf {
    let written = saves.write(step, &mut |folder| {
        for (name, bytes) in FILES {
            fs::write(folder.join(name), bytes).expect("written");
        }
        Ok(())
    });
    written.expect("saved").0
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("exists").flatten();
    let mut names: Vec<String> = entries.map(|e| e.file_name().into_string().expect("utf-8")).collect();
    names.sort_unstable();
    names
}

#[test]
fn a_save_is_found_with_its_files_and_nothing_else_is_left() {
    let out = tempfile::tempdir().expect("folder");
    let mut saves = Saves::new(out.path());
    let path = save(&mut saves, 12);
    assert_eq!(names(out.path()), ["checkpoint-12"]);
    assert_eq!(names(&path), ["manifest.json", "optimizer.safetensors", "trainer_state.json"]);
    assert_eq!(saves.latest_complete().expect("complete"), (Save { step: 12, path }, vec![]));
}

#[test]
fn steps_are_ordered_as_numbers() {
    let out = tempfile::tempdir().expect("folder");
    let mut saves = Saves::new(out.path());
    for step in [9, 10, 2] {
        save(&mut saves, step);
    }
    fs::create_dir(out.path().join("checkpoint-011")).expect("created");
    assert_eq!(saves.latest_complete().expect("complete").0.step, 10);
}

#[test]
fn every_torn_save_is_skipped_with_a_note() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 7] = [
        ("manifest missing", |f| fs::remove_file(f.join(MANIFEST)).expect("removed")),
        ("manifest cut", |f| cut(&f.join(MANIFEST))),
        ("file missing", |f| fs::remove_file(f.join(FILES[0].0)).expect("removed")),
        ("file cut", |f| cut(&f.join(FILES[0].0))),
        ("file flipped", |f| flip(&f.join(FILES[0].0))),
        ("small file flipped", |f| flip(&f.join(FILES[1].0))),
        ("manifest empty", |f| fs::write(f.join(MANIFEST), "").expect("written")),
    ];
    for (name, damage) in damages {
        let out = tempfile::tempdir().expect("folder");
        let mut saves = Saves::new(out.path());
        save(&mut saves, 1);
        damage(&save(&mut saves, 2));
        let (found, notes) = saves.latest_complete().expect("the older one is complete");
        assert_eq!(found.step, 1, "{name}");
        assert_eq!(notes.len(), 1, "{name}: {notes:?}");
        // The torn one is replaced when the run gets there again.
        save(&mut saves, 2);
        assert_eq!(saves.latest_complete().expect("complete").0.step, 2, "{name}");
    }
}

#[test]
fn a_manifest_cannot_lead_outside_its_folder() {
    let out = tempfile::tempdir().expect("folder");
    let mut saves = Saves::new(out.path());
    let path = save(&mut saves, 1).join(MANIFEST);
    let text = fs::read_to_string(&path).expect("readable").replace(FILES[0].0, "../secret");
    fs::write(&path, text).expect("written");
    assert!(saves.latest_complete().expect_err("refused").to_string().contains("is not a file name"));
}

fn cut(path: &Path) {
    let bytes = fs::read(path).expect("readable");
    fs::write(path, &bytes[..bytes.len() / 2]).expect("written");
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).expect("readable");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).expect("written");
}

#[test]
fn a_failed_save_leaves_nothing_and_keeps_the_older_one() {
    let out = tempfile::tempdir().expect("folder");
    let mut saves = Saves::new(out.path());
    save(&mut saves, 1);
    let failed = saves.write(2, &mut |folder| {
        fs::write(folder.join("optimizer.safetensors"), "half").expect("written");
        Err(TrainError::BadSave { path: folder.to_path_buf(), problem: "injected".to_string() })
    });
    assert!(failed.expect_err("injected").to_string().contains("injected"));
    assert_eq!(names(out.path()), ["checkpoint-1"]);
    assert_eq!(saves.latest_complete().expect("complete").0.step, 1);
}

#[test]
fn leftovers_of_a_killed_process_are_swept_and_never_resumed_from() {
    let out = tempfile::tempdir().expect("folder");
    let mut saves = Saves::new(out.path());
    fs::create_dir(out.path().join("checkpoint-3.tmp-4294967295")).expect("created");
    assert!(matches!(saves.latest_complete(), Err(TrainError::NothingToResume { .. })));
    save(&mut saves, 4);
    assert_eq!(names(out.path()), ["checkpoint-4"]);
}

#[test]
fn pruning_keeps_the_newest() {
    let out = tempfile::tempdir().expect("folder");
    let mut saves = Saves::new(out.path());
    for step in [2, 4, 6, 8] {
        save(&mut saves, step);
    }
    assert_eq!(saves.prune(2, 8).expect("pruned"), Vec::<String>::new());
    assert_eq!(names(out.path()), ["checkpoint-6", "checkpoint-8"]);
    saves.prune(0, 8).expect("pruned");
    assert_eq!(names(out.path()), ["checkpoint-8"], "the newest always stays");
}

#[test]
fn what_is_no_complete_save_is_not_counted_not_removed_and_named_once() {
    let out = tempfile::tempdir().expect("folder");
    for step in [80, 90, 100] {
        save(&mut Saves::new(out.path()), step);
    }
    flip(&out.path().join("checkpoint-100").join(FILES[0].0));
    // Of another program, of another step, under a name that none of ours has, and elsewhere.
    for name in ["checkpoint-5", "checkpoint-best"] {
        fs::create_dir(out.path().join(name)).expect("created");
        fs::write(out.path().join(name).join("weights.bin"), "mine").expect("written");
    }
    fs::rename(save(&mut Saves::new(out.path()), 7), out.path().join("checkpoint-70")).expect("renamed");
    let elsewhere = tempfile::tempdir().expect("folder");
    let linked = save(&mut Saves::new(elsewhere.path()), 60);
    std::os::unix::fs::symlink(&linked, out.path().join("checkpoint-60")).expect("linked");

    // A run that goes on from 90 and keeps one save.
    let mut saves = Saves::new(out.path());
    assert_eq!(saves.latest_complete().expect("one is").0.step, 90);
    save(&mut saves, 91);
    let notes = saves.prune(1, 91).expect("pruned");
    let others = ["checkpoint-100", "checkpoint-5", "checkpoint-60", "checkpoint-70", "checkpoint-best"];
    assert_eq!(notes.len(), others.len(), "{notes:?}");
    for name in others {
        let path = out.path().join(name).display().to_string() + " ";
        assert!(notes.iter().any(|note| note.starts_with(&path)), "{name}: {notes:?}");
    }
    let mut left: Vec<&str> = others.to_vec();
    left.push("checkpoint-91");
    left.sort_unstable();
    assert_eq!(names(out.path()), left);
    assert_eq!(names(&linked).len(), 3, "nothing is removed through a link");
    save(&mut saves, 92);
    assert_eq!(saves.prune(1, 92).expect("pruned"), Vec::<String>::new(), "named once");
    // The run comes to the step of the damaged one: that is put aside, and the newest is the new one.
    save(&mut saves, 100);
    saves.prune(1, 100).expect("pruned");
    assert!(names(out.path()).contains(&"checkpoint-100.replaced-1".to_string()));
    assert_eq!(Saves::new(out.path()).latest_complete().expect("complete").0.step, 100);
}

#[test]
fn a_complete_save_of_a_later_update_is_left_alone() {
    let out = tempfile::tempdir().expect("folder");
    let mut saves = Saves::new(out.path());
    save(&mut saves, 3);
    save(&mut Saves::new(out.path()), 50);
    let notes = saves.prune(1, 3).expect("pruned");
    assert!(notes.len() == 1 && notes[0].contains("later update"), "{notes:?}");
    assert_eq!(names(out.path()), ["checkpoint-3", "checkpoint-50"]);
}

#[test]
fn files_of_somebody_else_survive_the_removal_of_a_save() {
    let out = tempfile::tempdir().expect("folder");
    let mut saves = Saves::new(out.path());
    fs::write(save(&mut saves, 1).join("notes.txt"), "mine").expect("written");
    save(&mut saves, 2);
    let notes = saves.prune(1, 2).expect("pruned");
    assert!(notes.len() == 1 && notes[0].contains("not of the save"), "{notes:?}");
    assert_eq!(names(&out.path().join("checkpoint-1")), ["notes.txt"]);
}

#[test]
fn what_another_run_or_step_left_under_the_name_is_never_taken_for_saved() {
    let state = |out: &Path, step, text: &'static str| {
        Saves::new(out)
            .write(step, &mut |folder| {
                fs::write(folder.join("state"), text).expect("written");
                Ok(())
            })
            .expect("saved")
    };
    let read = |path: PathBuf| fs::read_to_string(path.join("state")).expect("readable");
    for stranger in [5, 7] {
        let out = tempfile::tempdir().expect("folder");
        let (path, note) = state(out.path(), stranger, "another run's");
        assert_eq!(note, None);
        let place = out.path().join("checkpoint-5");
        fs::rename(path, &place).expect("renamed");
        let (path, note) = state(out.path(), 5, "this run's");
        assert_eq!(
            (read(path), read(out.path().join("checkpoint-5.replaced-1"))),
            ("this run's".into(), "another run's".into())
        );
        assert!(note.expect("a note").contains("checkpoint-5.replaced-1"));
    }
}

#[test]
fn a_save_that_this_process_made_is_not_made_again_unless_it_was_damaged() {
    let out = tempfile::tempdir().expect("folder");
    let mut saves = Saves::new(out.path());
    let path = save(&mut saves, 1);
    let mut writes = 0;
    let mut again = |saves: &mut Saves| {
        let written = saves.write(1, &mut |folder| {
            writes += 1;
            fs::write(folder.join("state"), "x").map_err(TrainError::not_saved)
        });
        written.expect("saved");
        writes
    };
    assert_eq!(again(&mut saves), 0);
    flip(&path.join(FILES[0].0));
    assert_eq!(again(&mut saves), 1);
    // Nor one that it goes on from.
    let mut resumed = Saves::new(out.path());
    resumed.latest_complete().expect("complete");
    assert_eq!(again(&mut resumed), 1);
}

#[test]
fn only_leftovers_of_processes_that_are_gone_are_swept() {
    let out = tempfile::tempdir().expect("folder");
    let own = std::process::id();
    // The parent of this process goes, and no process can have the other number.
    let alive = std::os::unix::process::parent_id();
    let gone = u32::MAX;
    for process in [own, alive, gone] {
        let folder = out.path().join(format!("checkpoint-3.tmp-{process}"));
        fs::create_dir(&folder).expect("created");
        fs::write(folder.join("x"), "half").expect("written");
        fs::write(out.path().join(format!(".remat-{process}-0.tmp")), "half").expect("written");
        fs::write(out.path().join(format!(".remat-probe-{process}")), "").expect("written");
    }
    let others = [".remat-mine.tmp", ".remat-1.tmp", "checkpoint-3.tmp-mine", "checkpoint-x.tmp-4294967295"];
    others.iter().for_each(|name| fs::write(out.path().join(name), "mine").expect("written"));
    Saves::new(out.path()).sweep();
    let mut left =
        vec![format!("checkpoint-3.tmp-{alive}"), format!(".remat-{alive}-0.tmp"), format!(".remat-probe-{alive}")];
    left.extend(others.map(str::to_string));
    left.sort_unstable();
    assert_eq!(names(out.path()), left);
}
