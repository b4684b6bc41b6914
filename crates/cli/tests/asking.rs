//! The verbs `generate` and `chat` on a model with a chat template: conversations, many prompts, what files say of
//! generation, and an adapter's folder used as it is.

use serde_json::Value;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Each turn with its end of text, and a system's message only where there is one.
const TEMPLATE: &str = "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}\
                        {% if add_generation_prompt %}assistant: {% endif %}";

fn case(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/parity").join(name)
}

/// A copy of a model with the template, and more files.
fn model(more: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for entry in fs::read_dir(case("llama-gqa-tied")).expect("a case").flatten().filter(|entry| entry.path().is_file())
    {
        fs::copy(entry.path(), folder.path().join(entry.file_name())).expect("copied");
    }
    fs::write(folder.path().join("chat_template.jinja"), TEMPLATE).expect("written");
    more.iter().for_each(|(name, text)| fs::write(folder.path().join(name), text).expect("written"));
    folder
}

/// Runs `remat VERB --model MODEL FLAGS` with this on stdin.
fn ask(verb: &str, model: &Path, flags: &str, stdin: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_remat"));
    command.arg(verb).arg("--model").arg(model).args(flags.split_whitespace());
    with_stdin(command, stdin)
}

fn with_stdin(mut command: Command, stdin: &str) -> Output {
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pipes.env("NO_COLOR", "1").spawn().expect("the binary runs");
    // A run that is refused does not read.
    drop(child.stdin.take().expect("a pipe").write_all(stdin.as_bytes()));
    child.wait_with_output().expect("ends")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What stands on stdout of a command that has to end well.
fn said(output: Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    text(&output.stdout)
}

fn objects(page: &str) -> Vec<Value> {
    page.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))).collect()
}

fn assert_refused(output: &Output, parts: &[&str]) {
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(parts.iter().all(|part| stderr.contains(part)), "{stderr}");
}

/// Answers through the caches that the turns before left are those of the whole conversation read at once.
#[test]
fn a_conversation_is_what_the_template_makes_of_all_turns() {
    let model = model(&[]);
    let chat =
        |flags: &str, stdin: &str| said(ask("chat", model.path(), &format!("--max-tokens 5 --quiet {flags}"), stdin));
    let both = chat("--system brief", "the red box\nand the blue box?\n");
    let first = chat("--system brief", "the red box\n");
    let second = both.strip_prefix(&first).unwrap_or_else(|| panic!("{both:?} does not begin with {first:?}"));
    let message = |role: &str, content: &str| serde_json::json!({"role": role, "content": content});
    let messages = |later: &[Value]| {
        let begin = [message("system", "brief"), message("user", "the red box")];
        let all = [&begin[..], later].concat();
        serde_json::json!({ "messages": all }).to_string()
    };
    let answer = first.strip_suffix('\n').expect("a line");
    let later = [message("assistant", answer), message("user", "and the blue box?")];
    let file = model.path().join("turns.jsonl");
    fs::write(&file, format!("{}\n{}\n", messages(&[]), messages(&later))).expect("written");
    let flags = format!("--prompts {} --json --max-tokens 5 --quiet", file.display());
    let answers = objects(&said(ask("generate", model.path(), &flags, "")));
    let of = |object: &Value| object["text"].as_str().expect("a text").to_string() + "\n";
    assert_eq!(answers.iter().map(of).collect::<Vec<_>>(), [first.clone(), second.to_string()]);
    // One prompt as what a user says is a conversation of one turn.
    let one = said(ask("generate", model.path(), "--chat --system brief --max-tokens 5 --quiet", "the red box"));
    assert_eq!(one, first);

    assert_eq!(chat("", "the red box\n/reset\nthe red box\n"), chat("", "the red box\n").repeat(2));
    assert_eq!(chat("", "/system brief\nthe red box\n/exit\nnever said\n"), first);
    assert_ne!(chat("", "the red box\n"), first, "the system's message counts");
    let adapter = format!("--system brief --adapter {}", case("llama-gqa-tied").join("adapter").display());
    assert_ne!(chat(&adapter, "the red box\n"), first, "the adapter counts");
}

#[test]
fn what_cannot_be_said_is_refused_with_the_remedy() {
    let model = model(&[]);
    assert_refused(&ask("chat", model.path(), "", "/nothing\n"), &["there is no command /nothing", "/reset"]);
    let small = ask("chat", model.path(), "--seq-len 4", "a long question about boxes\n");
    assert_refused(&small, &["no room for an answer in 4", "/reset", "--seq-len"]);
    assert_refused(&ask("chat", &case("gpt2"), "", "hello\n"), &["has no chat template", "--chat-template"]);
    assert_refused(&ask("generate", model.path(), "--system x", "hello"), &["--chat"]);
    let file = model.path().join("prompts.jsonl");
    for (lines, parts) in [
        ("\"a box\"\nnot json\n", ["prompts.jsonl:2: is not JSON", "--prompts"]),
        ("{\"text\": \"a\"}\n", ["prompts.jsonl:1: needs either \"prompt\"", "messages"]),
        (
            "{\"messages\": [{\"role\": \"user\", \"content\": \"a\", \"name\": \"x\"}]}\n",
            ["a message has \"name\"", ":1"],
        ),
        ("\n", ["holds no line", "--prompts"]),
    ] {
        fs::write(&file, lines).expect("written");
        assert_refused(&ask("generate", model.path(), &format!("--prompts {}", file.display()), ""), &parts);
    }
}

#[test]
fn many_prompts_are_answered_one_by_one_with_what_their_lines_say() {
    let model = model(&[]);
    let file = model.path().join("prompts.jsonl");
    let lines = "{\"prompt\": \"the red box\", \"id\": 7}\n\n\"a cat\"\n{\"prompt\": \"the red box\", \"text\": \"kept out\"}\n";
    fs::write(&file, lines).expect("written");
    let flags = format!("--prompts {} --max-tokens 6 --quiet", file.display());
    let answers = objects(&said(ask("generate", model.path(), &format!("{flags} --json"), "")));
    assert_eq!(answers.len(), 3);
    assert_eq!(answers[0]["id"], 7);
    assert_eq!(answers[0]["prompt"], "the red box");
    assert_eq!(answers[0]["schema"], 1);
    assert_eq!(answers[0]["text"], answers[2]["text"], "whatever was asked before");
    for (answer, prompt) in answers.iter().zip(["the red box", "a cat", "the red box"]) {
        let alone = said(ask("generate", model.path(), "--max-tokens 6 --quiet", &format!("{prompt}\n")));
        assert_eq!(answer["text"].as_str().map(|text| text.to_string() + "\n"), Some(alone));
        assert_eq!(answer["finish_reason"], "length");
        assert_eq!(answer["tokens"], 6);
    }
    let plain = said(ask("generate", model.path(), &flags, ""));
    let texts: Vec<String> =
        answers.iter().map(|answer| answer["text"].as_str().expect("text").to_string() + "\n").collect();
    assert_eq!(plain, texts.concat());
}

#[test]
fn a_batch_prints_what_prompts_alone_print_in_their_order() {
    let model = model(&[]);
    let file = model.path().join("prompts.jsonl");
    let prompts =
        ["the red box", "a cat", "the red box and the blue box and the red box", "box", "the", "a cat and a box"];
    let lines: Vec<String> = prompts.iter().map(|prompt| serde_json::json!({"prompt": prompt}).to_string()).collect();
    fs::write(&file, lines.join("\n")).expect("written");
    let with = |flags: &str| {
        let flags = format!("--prompts {} --max-tokens 9 --stop . {flags}", file.display());
        ask("generate", model.path(), &flags, "")
    };
    for sampling in ["--temperature 0", "--temperature 1.5 --top-k 40 --top-p 0.95 --seed 5"] {
        let told = |batch: &str| {
            let mut answers = objects(&said(with(&format!("{sampling} --json --quiet {batch}"))));
            answers.iter_mut().for_each(|answer| drop(answer.as_object_mut().expect("an object").remove("seconds")));
            answers
        };
        let alone = told("");
        assert_eq!(alone.iter().map(|answer| answer["prompt"].as_str()).collect::<Vec<_>>(), prompts.map(Some));
        for batch in ["1", "2", "4", "99"] {
            assert_eq!(told(&format!("--batch-size {batch}")), alone, "{batch} at a time, {sampling}");
        }
        let plain = |batch: &str| said(with(&format!("{sampling} --quiet {batch}")));
        assert_eq!(plain("--batch-size 3"), plain(""));
    }
    let output = with("--batch-size 3");
    assert_eq!(text(&output.stderr).matches(" after a prompt of ").count(), prompts.len(), "a line for each answer");
    assert_refused(&with("--batch-size 0"), &["--batch-size", "must be a whole number from 1"]);
    assert_refused(&ask("generate", model.path(), "--batch-size 2 --prompt box", ""), &["--prompts"]);
}

#[test]
fn what_generation_config_says_is_used_or_said() {
    let plain = model(&[]);
    let flags = "--json --max-tokens 12";
    let ids = |model: &Path, flags: &str| {
        objects(&said(ask("generate", model, &format!("{flags} --quiet"), "the red box")))[0].clone()
    };
    let whole = ids(plain.path(), flags);
    assert_eq!(whole["tokens"], 12);
    // A list of ends, one of which comes: the token of the full stop, by the flag that names it.
    let stopped = ids(plain.path(), &format!("{flags} --stop ."));
    assert_eq!(stopped["finish_reason"], "stop", "the fixture's greedy text has a full stop: {stopped}");
    let tokenizer = fs::read_to_string(plain.path().join("tokenizer.json")).expect("there");
    let tokenizer: Value = serde_json::from_str(&tokenizer).expect("JSON");
    let stop = tokenizer["model"]["vocab"]["."].as_u64().expect("a token");
    for ends in [format!("[1, {stop}]"), stop.to_string()] {
        let settings = format!("{{\"eos_token_id\": {ends}}}");
        let ends = model(&[("generation_config.json", settings.as_str())]);
        let ended = ids(ends.path(), flags);
        assert_eq!(ended["text"], stopped["text"]);
        assert_eq!(ended["finish_reason"], "stop");
    }
    let sampled = model(&[(
        "generation_config.json",
        r#"{"do_sample": true, "temperature": 1.5, "top_k": 40, "max_new_tokens": 3, "repetition_penalty": 1.2}"#,
    )]);
    let output = ask("generate", sampled.path(), "--json --seed 3", "the red box");
    let stderr = text(&output.stderr);
    assert!(
        stderr.contains("temperature 1.5, top-k 40, top-p 1") && stderr.contains("repetition_penalty = 1.2"),
        "{stderr}"
    );
    let by_file = objects(&said(output))[0]["text"].clone();
    let by_flags = ids(plain.path(), "--json --seed 3 --temperature 1.5 --top-k 40 --max-tokens 3");
    assert_eq!(by_file, by_flags["text"]);
    let greedy = ids(sampled.path(), "--json --temperature 0 --max-tokens 12");
    assert_eq!(greedy["text"], whole["text"]);
}

/// The folder of a run, moved away from where it was made.
#[test]
fn an_adapters_folder_is_enough() {
    let model = model(&[]);
    let own = model.path().join("own.jinja");
    fs::write(&own, TEMPLATE.replace("assistant: ", "answer: ")).expect("written");
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("run");
    let mut train = Command::new(env!("CARGO_BIN_EXE_remat"));
    train.args("train --method lora --rank 2 --steps 1 --batch-size 2 --seq-len 24 --quiet".split_whitespace());
    train.arg("--model").arg(model.path()).arg("--data").arg(case("llama-gqa-tied").join("rows.jsonl"));
    let output = train.arg("--chat-template").arg(&own).arg("--out").arg(&out).output().expect("runs");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    for name in ["tokenizer.json", "tokenizer_config.json", "generation_config.json", "chat_template.jinja"] {
        assert!(out.join(name).is_file(), "{name}");
        assert!(out.join("checkpoint-1").join(name).is_file(), "checkpoint-1/{name}");
    }
    assert!(fs::read_to_string(out.join("chat_template.jinja")).expect("there").contains("answer: "));
    let mut alone = Command::new(env!("CARGO_BIN_EXE_remat"));
    alone.args("chat --max-tokens 4 --adapter".split_whitespace()).arg(&out);
    let output = with_stdin(alone, "the red box\n");
    let stderr = text(&output.stderr);
    assert!(stderr.contains("the base model is") && stderr.contains("as adapter_config.json says"), "{stderr}");
    let alone = said(output);
    let flags = format!("--max-tokens 4 --quiet --adapter {} --chat-template {}", out.display(), own.display());
    assert_eq!(alone, said(ask("chat", model.path(), &flags, "the red box\n")), "its template is its own");
    // Without its base it says which that was.
    fs::rename(model.path().join("config.json"), model.path().join("x.json")).expect("renamed");
    let mut broken = Command::new(env!("CARGO_BIN_EXE_remat"));
    broken.args(["generate", "--prompt", "x", "--adapter"]).arg(&out);
    assert_refused(&with_stdin(broken, ""), &["config.json"]);
}
