//! The binary from outside: `remat data check` on a fixture's tokenizer with a chat template beside it.

#![allow(missing_docs)]

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const TEMPLATE: &str = "{% for m in messages %}{{ bos_token + m.role + ': ' + m.content + eos_token + '\n' }}\
                        {% endfor %}{% if add_generation_prompt %}{{ bos_token + 'assistant: ' }}{% endif %}";

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

/// A model folder with a template, and a file of rows in it.
fn model(rows: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("temporary folder");
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        let from = fixtures().join("parity/llama-gqa-tied").join(name);
        std::fs::copy(from, folder.path().join(name)).expect("copied");
    }
    std::fs::write(folder.path().join("chat_template.jinja"), TEMPLATE).expect("written");
    std::fs::write(folder.path().join("rows.jsonl"), rows).expect("written");
    folder
}

fn check(folder: &Path, flags: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_remat"));
    command.args(["data", "check", "rows.jsonl", "--model", "."]).args(flags.split_whitespace());
    command.current_dir(folder).output().expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

const CHAT: &str = r#"{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "The sea"}]}
{"messages": [{"role": "user", "content": "What does the tide take?"}, {"role": "assistant", "content": "Time"}]}
{"messages": [{"role": "user", "content": "Nobody answers"}]}
"#;

#[test]
fn rows_are_shown_with_their_trained_tokens() {
    let folder = model(CHAT);
    let output = check(folder.path(), "--samples 3");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let page = text(&output.stdout);
    for part in [
        "rows.jsonl · {\"messages\"} · 3 rows\n",
        "trained tokens are ⟦between brackets⟧\n",
        "line 1 · ",
        "  │ <s>user: Hi</s>\n  │ <s>assistant: ⟦The sea</s>⟧\n",
        "  │ <s>assistant: ⟦Time</s>⟧\n",
        "line 3 · ",
        "none trained: left out\n",
        "kept      2 of 3 rows: ",
        "left out  1 row without a trained token\n",
    ] {
        assert!(page.contains(part), "'{part}' is not in:\n{page}");
    }
    assert!(!page.contains('\x1b'), "no colour off a terminal");
}

#[test]
fn cuts_and_turns_are_told() {
    let folder = model(CHAT);
    let page = text(&check(folder.path(), "--seq-len 24 --train-on all").stdout);
    assert!(page.contains(" … ") && page.contains("to 24 tokens, ") && page.contains("  some cut\n"), "{page}");
    let output = check(folder.path(), "--seq-len 4");
    assert_eq!(output.status.code(), Some(2));
    let error = text(&output.stderr);
    assert!(error.contains("none of the 3 rows has a token to train on within the first 4 tokens"), "{error}");
}

#[test]
fn a_run_trains_on_what_the_check_shows() {
    let folder = model(CHAT);
    let weights = fixtures().join("parity/llama-gqa-tied/model.safetensors");
    std::fs::copy(weights, folder.path().join("model.safetensors")).expect("copied");
    // Nothing is written into the folder of a model that is read.
    let runs = tempfile::tempdir().expect("temporary folder");
    for train_on in ["all", "assistant", "last"] {
        let flags = format!("--json --train-on {train_on}");
        let shown: Value = serde_json::from_slice(&check(folder.path(), &flags).stdout).expect("JSON");
        let mut command = Command::new(env!("CARGO_BIN_EXE_remat"));
        command.args(["train", "--model", ".", "--data", "rows.jsonl", "--steps", "1", "--out"]);
        command.arg(runs.path().join(train_on));
        let output = command.args(flags.split(' ')).current_dir(folder.path()).output();
        let output = output.expect("the binary runs");
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let events: Vec<Value> =
            text(&output.stdout).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let planned = events.iter().find_map(|event| event.get("data")?.get(0)).expect("what is planned");
        for key in ["rows", "tokens", "trained_tokens"] {
            assert_eq!(planned[key], shown["files"][0][key], "{train_on}: {key}");
        }
    }
}

#[test]
fn what_the_tokenizer_has_no_token_for_is_refused() {
    // The fixture's tokenizer has no `<`; real ones of bytes have everything.
    let folder = model(&CHAT.replace("Hi", "a < b"));
    let output = check(folder.path(), "");
    assert_eq!(output.status.code(), Some(2));
    let error = text(&output.stderr);
    assert!(error.contains("rows.jsonl:1: the tokenizer refused `messages`: it has no token for some of"), "{error}");
}

#[test]
fn the_json_has_the_same_counts() {
    let folder = model(CHAT);
    let json: Value = serde_json::from_slice(&check(folder.path(), "--json --samples 1").stdout).expect("JSON");
    assert_eq!((&json["schema"], &json["train_on"], &json["seq_len"]), (&1.into(), &"assistant".into(), &128.into()));
    let file = &json["files"][0];
    assert_eq!((&file["rows"], &file["kept"], &file["left_out"]), (&3.into(), &2.into(), &1.into()));
    let pieces = file["samples"][0]["pieces"].as_array().expect("pieces");
    let trained: Vec<&str> =
        pieces.iter().filter(|piece| piece["trained"] == true).map(|piece| piece["text"].as_str().unwrap()).collect();
    assert_eq!(trained, ["The sea</s>"]);
    let bars = file["lengths"].as_array().expect("bars");
    assert_eq!(bars.iter().map(|bar| bar["rows"].as_u64().unwrap()).sum::<u64>(), 3);
}

#[test]
fn what_cannot_be_read_is_refused() {
    let folder = model(CHAT);
    let refused = |flags: &str, parts: &[&str]| {
        let output = check(folder.path(), flags);
        assert_eq!(output.status.code(), Some(2));
        let error = text(&output.stderr);
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    };
    std::fs::write(folder.path().join("chat_template.jinja"), "{% for %}").expect("written");
    refused("", &["rows.jsonl:1", "its chat template is broken: expected a name", "line 1 of the template"]);
    std::fs::remove_file(folder.path().join("chat_template.jinja")).expect("removed");
    refused("", &["rows.jsonl:1", "it has no chat template; put the chat_template.jinja"]);
    std::fs::remove_file(folder.path().join("tokenizer.json")).expect("removed");
    refused("", &["rows.jsonl:1", "needs the model's tokenizer, and there is none"]);
    std::fs::write(folder.path().join("rows.jsonl"), "{\"txt\": 1}").expect("written");
    refused("", &["rows.jsonl:1: no known format has the keys `txt`"]);
}

#[test]
fn a_tokenizer_that_makes_its_library_panic_is_bad_input() {
    let folder = model(CHAT);
    let path = folder.path().join("tokenizer.json");
    let whole = std::fs::read_to_string(&path).expect("read");
    // Inside a decoder, where the library unwraps what it expects to be there.
    let decoder = whole.find("\"decoder\"").expect("a decoder");
    let mut panics = 0;
    for behind in (9..60).step_by(3) {
        std::fs::write(&path, &whole[..decoder + behind]).expect("written");
        let output = check(folder.path(), "");
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "cut {behind} bytes behind \"decoder\": {error}");
        assert!(error.contains("tokenizer.json: is not a tokenizer file: "), "{error}");
        assert!(!error.contains("panicked") && !error.contains("report it"), "{error}");
        panics += usize::from(error.contains("the tokenizers library failed: "));
    }
    assert!(panics > 0, "none of these made the library panic");
}

#[test]
fn what_is_passed_over_is_told() {
    let rows = r#"{"question": "Hi", "answer": "The sea", "id": 1, "votes": 3}
{"question": 5, "answer": "The sea", "id": 2}
{"question": "Hi", "answer": "Time", "id": 3}
"#;
    let folder = model(rows);
    let output = check(folder.path(), "");
    assert_eq!(output.status.code(), Some(2));
    let error = text(&output.stderr);
    assert!(error.contains("rows.jsonl:1: `votes` beside") && error.contains("--ignore-columns votes"), "{error}");
    let flags = "--ignore-columns votes --bad-rows drop";
    let page = text(&check(folder.path(), flags).stdout);
    for part in [
        "ignored   id, votes: they say nothing that is learnt\n",
        "bad       1 row dropped: line 2: `question` is a number (`5`), but must be a string\n",
        "kept      2 of 2 rows",
    ] {
        assert!(page.contains(part), "'{part}' is not in:\n{page}");
    }
    let json: Value = serde_json::from_slice(&check(folder.path(), &format!("{flags} --json")).stdout).expect("JSON");
    let file = &json["files"][0];
    assert_eq!(
        (&file["bad_rows"], &file["bad"][0]["line"], &file["ignored"][1]),
        (&1.into(), &2.into(), &"votes".into())
    );
    let output = check(folder.path(), "--ignore-columns votes --bad-rows drop:0.1");
    assert!(text(&output.stderr).contains("1 of 3 rows are bad, more than the 10 %"), "{}", text(&output.stderr));
    let page = text(
        &check(folder.path(), "--columns prompt=question,completion=answer --ignore-columns votes --bad-rows drop")
            .stdout,
    );
    assert!(page.contains("columns   completion=answer, prompt=question\n"), "{page}");
    assert!(page.contains("rows.jsonl · {\"prompt\", \"completion\"}"), "{page}");
}

#[test]
fn another_template_and_variables_for_it_can_be_given() {
    let folder = model(CHAT);
    let other =
        "{% for m in messages %}{{ m.role }}: {{ m.content }}{% if think %} hm{% endif %}{{ eos_token }}{% endfor %}";
    std::fs::write(folder.path().join("other.jinja"), other).expect("written");
    let output = check(folder.path(), "--chat-template other.jinja");
    assert!(text(&output.stdout).contains("user: Hi</s>"), "{output:?}");
    let output = check(folder.path(), "--chat-template other.jinja --chat-template-kwargs {\"think\":true}");
    assert!(text(&output.stdout).contains("user: Hi hm</s>"), "{output:?}");
    for (flags, problem) in [
        (
            "--chat-template none.jinja",
            "none.jinja: does not exist; give the path of a file that holds a Jinja template",
        ),
        ("--chat-template .", "is not a regular file"),
        ("--chat-template-kwargs [1]", "--chat-template-kwargs must be a JSON object"),
        ("--chat-template-kwargs {\"messages\":1}", "sets `messages`, which comes from the rows"),
    ] {
        let output = check(folder.path(), flags);
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains(problem), "{}", text(&output.stderr));
    }
    std::fs::write(folder.path().join("other.jinja"), "{% for %}").expect("written");
    let error = text(&check(folder.path(), "--chat-template other.jinja").stderr);
    assert!(error.contains("other.jinja: the chat template is broken: expected a name"), "{error}");
}

#[test]
fn what_files_say_cannot_steer_the_terminal() {
    let folder = model(CHAT);
    let template = "{{ raise_exception('\\x1b[31mred\\u202e' ~ messages[0].content * 9999) }}";
    std::fs::write(folder.path().join("chat_template.jinja"), template).expect("written");
    let error = text(&check(folder.path(), "").stderr);
    assert!(error.contains("\\u{1b}[31mred\\u{202e}") && !error.contains(['\u{1b}', '\u{202e}']), "{error}");
    assert!(error.len() < 2000, "{} bytes", error.len());
}

#[test]
fn what_is_no_file_is_refused_at_once_wherever_one_is_read() {
    let rows = r#"{"prompt": "the red", "completion": " box"}"#;
    let pipe = |path: &Path| {
        drop(std::fs::remove_file(path));
        assert!(Command::new("mkfifo").arg(path).status().expect("mkfifo runs").success());
    };
    let out = tempfile::tempdir().expect("temporary folder");
    let train = |folder: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_remat"));
        command.args("train --data rows.jsonl --model . --steps 1 --seq-len 32 --method full --out".split(' '));
        command.arg(out.path().join("out")).current_dir(folder).output().expect("the binary runs")
    };
    let weights = fixtures().join("parity/llama-gqa-tied/model.safetensors");
    let names = [
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "chat_template.jinja",
        "generation_config.json",
        "vocab.json",
        "merges.txt",
        "model.safetensors",
    ];
    for name in names {
        let folder = model(rows);
        std::fs::copy(&weights, folder.path().join("model.safetensors")).expect("copied");
        pipe(&folder.path().join(name));
        let output = train(folder.path());
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{name}: {error}");
        assert!(error.contains("is not a regular file"), "{name}: {error}");
        assert!(!out.path().join("out/config.toml").exists(), "{name}: refused before the run begins");
    }
}
