//! Every verb that writes, with its output inside, equal to, above and linked to every kind of input: exit code 2, a message
//! that names both, and not a byte changed.

use crate::tree::Tree;
use std::fs;
use std::os::unix::fs::symlink;

/// An input: the flag that reads it, its path, and whether it is a folder.
const INPUTS: [(&str, &str, bool); 5] = [
    ("--model", "m/model", true),
    ("--init-adapter", "a/adapter", true),
    ("--data", "d/rows.jsonl", false),
    ("--eval-data", "e/held-out.jsonl", false),
    ("--config", "c/settings.toml", false),
];

/// Links to all inputs: `l/N` to input N, `h/N/x` a hard link and `s/N/metrics.jsonl` a link to a file of it.
fn with_links() -> Tree {
    let tree = Tree::new();
    fs::create_dir(tree.at("l")).expect("made");
    for (index, (_, path, is_folder)) in INPUTS.iter().enumerate() {
        symlink(tree.at(path), tree.at(&format!("l/{index}"))).expect("linked");
        symlink(tree.at(&format!("{path}/new.html")), tree.at(&format!("l/{index}-inside"))).expect("linked");
        for (kind, name) in [("h", "x"), ("s", "metrics.jsonl")] {
            fs::create_dir_all(tree.at(&format!("{kind}/{index}"))).expect("made");
            let name = tree.at(&format!("{kind}/{index}/{name}"));
            let file = match *path {
                "a/adapter" => tree.at("a/adapter/adapter_config.json"),
                path if *is_folder => tree.at(path).join("config.json"),
                path => tree.at(path),
            };
            if kind == "h" { fs::hard_link(file, name) } else { symlink(file, name) }.expect("linked");
        }
    }
    tree
}

/// Paths that meet input number `index`, for an output that is a folder or a file.
fn meeting(index: usize, output_is_folder: bool) -> Vec<String> {
    let (_, path, is_folder) = INPUTS[index];
    let above = path.rsplit_once('/').expect("in a folder of its own").0;
    let mut paths = vec![path.to_string(), format!("l/{index}"), format!("l/../{above}/./../{path}")];
    if is_folder {
        paths.extend([format!("{path}/new"), format!("l/{index}/new")]);
    }
    match (output_is_folder, is_folder) {
        (true, _) => paths.extend([above.to_string(), format!("h/{index}"), format!("s/{index}"), ".".to_string()]),
        (false, true) => {
            paths.extend([format!("l/{index}-inside"), format!("h/{index}/x"), format!("{path}/config.json")])
        }
        (false, false) => paths.extend([format!("h/{index}/x"), format!("s/{index}/metrics.jsonl")]),
    }
    paths
}

/// Refuses each output of a verb that meets one of these inputs.
fn refuses(verb: &str, flags: &[&str], inputs: &[&str], is_folder: bool) {
    let tree = with_links();
    let before = tree.contents();
    let read: String =
        INPUTS.iter().filter(|(flag, ..)| inputs.contains(flag)).map(|(f, p, _)| format!(" {f} {p}")).collect();
    for (index, (input, ..)) in INPUTS.iter().enumerate().filter(|(_, (flag, ..))| inputs.contains(flag)) {
        for path in meeting(index, is_folder) {
            for flag in flags {
                // A folder that holds several inputs is refused for the first.
                let input = if path == "." { "reads" } else { input };
                let output = flag.split(' ').next_back().expect("a flag");
                let said =
                    tree.expect(&format!("{verb}{read} {flag} {path}"), 2, &[input, &format!("{output} {path}: ")]);
                assert!(
                    ["is what", "lies inside", "holds", "is a link"].iter().any(|why| said.contains(why)),
                    "{said}"
                );
            }
        }
    }
    assert!(tree.contents() == before, "{verb}: a byte was changed");
}

const ALL: [&str; 5] = ["--model", "--init-adapter", "--data", "--eval-data", "--config"];

#[test]
fn train() {
    refuses("train --steps 1", &["--out", "--force --out"], &ALL, true);
    refuses("train --steps 1 --out new", &["--trace"], &ALL, false);
}

#[test]
fn plan() {
    refuses("plan --memory 1GiB", &["--report", "--timeline"], &ALL, false);
}

#[test]
fn profile() {
    refuses("profile --repeats 1", &["--out", "--force --out"], &ALL, true);
}

#[test]
fn quantize() {
    refuses("quantize", &["--out", "--force --out"], &["--model"], true);
}

#[test]
fn merge_and_export() {
    for flags in
        ["merge --adapter a/adapter", "export gguf --adapter a/adapter", "export gguf --merge --adapter a/adapter"]
    {
        let is_folder = flags.starts_with("merge");
        refuses(flags, &["--out", "--force --out"], &["--model"], is_folder);
    }
    let tree = with_links();
    let before = tree.contents();
    for path in ["a/adapter", "a/adapter/new", "l/1", "h/1", "s/1", "a"] {
        let said = tree.expect(&format!("merge --model m/model --adapter a/adapter --out {path}"), 2, &["--adapter"]);
        assert!(said.contains(&format!("--out {path}: ")), "{said}");
    }
    for path in ["a/adapter/adapter_config.json", "a/adapter/x", "h/1/x", "l/1-inside"] {
        tree.expect(&format!("export gguf --model m/model --adapter a/adapter --out {path}"), 2, &["--adapter", path]);
    }
    assert!(tree.contents() == before, "a byte was changed");
}

/// A resumed run reads its model and rows, too, and the settings it is given.
#[test]
fn resume() {
    let tree = Tree::new();
    tree.expect("train --steps 1 --save-every 1 --model m/model --data d/rows.jsonl --out run --quiet", 0, &[]);
    fs::copy(tree.at("d/rows.jsonl"), tree.at("run/rows.jsonl")).expect("copied");
    let before = tree.contents();
    tree.expect("train --resume --out run --data run/rows.jsonl", 2, &["--out run: holds ", "--data run/rows.jsonl"]);
    tree.expect(
        "train --resume --out run --config run/config.toml",
        2,
        &["--out run: holds ", "--config run/config.toml"],
    );
    assert!(tree.contents() == before);
}

/// Nothing of a person's is read from there, and nothing stays there: a run may lie in it.
#[test]
fn the_folder_of_offload_holds_what_it_held() {
    let tree = Tree::new();
    let train = "train --steps 1 --model m/model --data d/rows.jsonl --quiet --offload o/offload --force";
    tree.expect(&format!("{train} --out o/offload"), 0, &[]);
    assert_eq!(tree.read("o/offload/theirs"), b"theirs");
    tree.expect(&format!("{train} --out run --trace o/offload"), 2, &["--trace", "is a folder"]);
}

#[test]
fn standard_output_is_no_input_and_no_other_output() {
    let tree = Tree::new();
    let before = tree.contents();
    let redirected = |flags: &str, to: &str| {
        let file = fs::File::options().append(true).open(tree.at(to)).expect("opened");
        let output = tree.command(flags).stdout(file).output().expect("the binary runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{flags}: {said}");
        assert!(said.contains("standard output: goes to the file of "), "{flags}: {said}");
    };
    redirected("eval --model m/model --data d/rows.jsonl", "d/rows.jsonl");
    redirected("data check d/rows.jsonl --model m/model", "m/model/config.json");
    redirected("generate --model m/model --adapter a/adapter --prompt x", "a/adapter/adapter_config.json");
    redirected("plan --model m/model --memory 1GiB --report e/held-out.jsonl", "e/held-out.jsonl");
    redirected("record diff d/rows.jsonl e/held-out.jsonl", "e/held-out.jsonl");
    assert!(tree.contents() == before);
}
