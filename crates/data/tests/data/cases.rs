//! Rows that people have: one file per kind of row in `tests/cases`, and what their neighbours become. Every key counts:
//! it is used, named as harmless, or refused by name.

use crate::chat::{Characters, marked, row, template};
use crate::{BYTES, VOCABULARY};
use remat_data::{
    BadRows, ChatTemplate, Column, Conversation, DataError, Dataset, Encoder, FileRows, Row, RowKind, RowOptions,
    RowPlace, SpecialTokens, TrainOn, read_rows, read_rows_from,
};
use std::path::{Path, PathBuf};

fn case(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases").join(name)
}

fn read_with(name: &str, options: &RowOptions) -> Result<(FileRows, Vec<Row>), DataError> {
    let mut rows = Vec::new();
    let mut keep = |_, row| {
        rows.push(row);
        Ok(())
    };
    let found = read_rows(&case(name), options, &mut keep)?;
    Ok((found, rows))
}

fn rows(name: &str) -> Vec<Row> {
    read_with(name, &RowOptions::default()).unwrap().1
}

/// The rendering of each row of a case under ChatML, trained parts in brackets.
fn trained(name: &str) -> Vec<String> {
    rows(name).iter().map(|row| marked(&template("chatml"), row, TrainOn::Assistant).unwrap().0).collect()
}

fn error_of(name: &str) -> String {
    let error = read_with(name, &RowOptions::default()).unwrap_err().to_string();
    error.replace(&case("").display().to_string(), "")
}

/// The same for rows in a text; `f` is its name.
fn parse(json: &str, options: &RowOptions) -> Result<(FileRows, Vec<Row>), String> {
    let mut rows = Vec::new();
    let mut keep = |_, row| {
        rows.push(row);
        Ok(())
    };
    let found = read_rows_from(&mut json.as_bytes(), Path::new("f"), options, &mut keep);
    found.map(|found| (found, rows)).map_err(|error| error.to_string())
}

fn refused(json: &str) -> String {
    parse(json, &RowOptions::default()).expect_err(json)
}

fn ignored(json: &str) -> Vec<String> {
    let (found, _) = parse(json, &RowOptions::default()).unwrap_or_else(|error| panic!("{json}: {error}"));
    found.ignored.into_iter().collect()
}

const QA: &str = "<|im_start|>user\nWhich river?<|im_end|>\n<|im_start|>assistant\n⟦The Aare<|im_end|>⟧\n";

#[test]
fn columns_are_known_by_their_usual_names() {
    assert_eq!(trained("columns-qa.jsonl"), [QA]);
    let dolly =
        "<|im_start|>user\nName a river\n\nRivers of Bern<|im_end|>\n<|im_start|>assistant\n⟦The Aare<|im_end|>⟧\n";
    assert_eq!(trained("columns-dolly.jsonl"), [dolly]);
    let (found, _) = read_with("columns-dolly.jsonl", &RowOptions::default()).unwrap();
    assert_eq!(found.kind, Some(RowKind::Instruction));
    assert_eq!(found.ignored.into_iter().collect::<Vec<_>>(), ["category"]);
    for pair in ["prompt response", "query response", "input output", "question response", "Question Answer"] {
        let (task, answer) = pair.split_once(' ').unwrap();
        let json = format!(r#"{{"{task}": "Which river?", "{answer}": "The Aare"}}"#);
        assert_eq!(marked(&template("chatml"), &row(&json), TrainOn::Assistant).unwrap().0, QA, "{pair}");
    }
}

#[test]
fn columns_are_mapped() {
    let options = |columns: &[(&str, &str)], ignored: &[&str]| RowOptions {
        columns: columns.iter().map(|(name, column)| format!("{name}={column}").parse().unwrap()).collect(),
        ignored: ignored.iter().map(|name| name.to_string()).collect(),
        ..RowOptions::default()
    };
    let raw = options(&[("prompt", "question"), ("completion", "answer")], &[]);
    let (found, rows) = read_with("columns-qa.jsonl", &raw).unwrap();
    assert_eq!(rows, [Row::PromptCompletion { prompt: "Which river?".into(), completion: "The Aare".into() }]);
    assert_eq!(found.columns.into_iter().collect::<Vec<_>>(), [raw.columns[1].clone(), raw.columns[0].clone()]);
    let error = parse(r#"{"body": "a", "votes": 3}"#, &options(&[("text", "body")], &[])).unwrap_err();
    assert_eq!(
        error,
        "f:1: `votes` beside {\"text\"}: it is not known what this says (a number (`3`)), and to pass over it may change \
         what is learnt; map it with `columns`, or say that it means nothing here: `ignore-columns` votes"
    );
    let (found, rows) = parse(r#"{"body": "a", "votes": 3}"#, &options(&[("text", "body")], &["Votes"])).unwrap();
    assert_eq!((rows, found.ignored.len()), (vec![Row::Text { text: "a".into() }], 1));
    let error = parse(r#"{"body": "a", "text": "b"}"#, &options(&[("text", "body")], &[])).unwrap_err();
    assert!(error.starts_with("f:1: key `text` is there twice"), "{error}");
    let (_folder, paths) = crate::files(&[b"{\"text\": \"b\"}", b"{\"body\": \"c\"}"]);
    let load = |options: RowOptions| Dataset::load(&paths, &options, &Encoder::new(Some(&BYTES), VOCABULARY), 8);
    assert_eq!(load(options(&[("text", "body")], &[])).unwrap().len(), 2, "a column of one file is enough");
    for (written, problem) in [
        ("prompt", "write NAME=COLUMN, such as prompt=question"),
        ("promt=a", "`promt` is no key of a format; there are answer, assistant, assistant_masks, "),
        ("text=", "`text=` names no column"),
    ] {
        let error = written.parse::<Column>().unwrap_err();
        assert!(error.contains(problem), "{error}");
    }
    let error = load(options(&[("text", "body"), ("tools", "bdoy")], &[])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`columns` names `bdoy`, which no row of the data has; give the columns' names as the files have them"
    );
}

#[test]
fn masks_of_token_rows_are_labels() {
    let [Row::Tokens { input_ids, labels }] = &rows("completion-mask.jsonl")[..] else { panic!() };
    assert_eq!((&input_ids[..], labels.as_deref()), (&[5, 6, 7, 8][..], Some(&[-100, -100, 7, 8][..])));
    let labels = |json: &str| match row(json) {
        Row::Tokens { input_ids, labels } => (input_ids, labels),
        other => panic!("{other:?}"),
    };
    let both = r#"{"input_ids": [1, 2, 3], "completion_mask": [false, true, true], "assistant_masks": [1, 1, 0]}"#;
    assert_eq!(labels(both), (vec![1, 2, 3], Some(vec![-100, 2, -100])));
    let padded = r#"{"input_ids": [0, 1, 2, 0], "labels": [0, 1, 2, 0], "attention_mask": [0, 1, 1, 0]}"#;
    assert_eq!(labels(padded), (vec![1, 2], Some(vec![1, 2])));
    assert_eq!(labels(r#"{"input_ids": [1, 2], "attention_mask": [1, 1]}"#), (vec![1, 2], None));
    let holes = refused(r#"{"input_ids": [1, 2, 3], "attention_mask": [1, 0, 1]}"#);
    assert!(holes.starts_with("f:1: `attention_mask[1]` must be 1: only padding at the ends"), "{holes}");
    let short = refused(r#"{"input_ids": [1, 2], "completion_mask": [1]}"#);
    assert_eq!(short, "f:1: `completion_mask` must be a list of 2 entries, one per token of `input_ids`, but has 1");
    let odd = refused(r#"{"input_ids": [1, 2], "assistant_masks": [1, 2]}"#);
    assert_eq!(odd, "f:1: `assistant_masks[1]` must be 0 or 1");
    assert!(refused(r#"{"input_ids": [1, 2], "position_ids": [0, 0]}"#).contains("`position_ids` packs several"));
    assert!(refused(r#"{"input_ids": [1, 2], "advantages": [0, 0]}"#).contains("`advantages` beside {\"input_ids\"}"));
}

#[test]
fn parts_of_text_are_joined_unless_the_template_reads_them() {
    let encode = |row: &Row| {
        let chatml = template("chatml");
        let encoder = Encoder::new(Some(&Characters), VOCABULARY).with_chat(&chatml);
        encoder.encode(row, &RowPlace::new(Path::new("f"), 1)).unwrap()
    };
    let joined = Row::Conversation(Conversation::new(&[("user", "onetwo"), ("assistant", "three")]));
    assert_eq!(encode(&rows("content-parts.jsonl")[0]), encode(&joined));
    let source = "{% for m in messages %}{{ m.role }}: {% if m.content is string %}{{ m.content }}{% else %}\
                  {% for part in m.content %}{{ part.text }}{{ '+' if not loop.last }}{% endfor %}{% endif %}{{ '\n' }}{% endfor %}";
    let looping = ChatTemplate::new(source, SpecialTokens::default()).unwrap();
    let [Row::Conversation(conversation)] = &rows("content-parts.jsonl")[..] else { panic!() };
    assert_eq!(looping.render(conversation, false).unwrap(), "user: one+two\nassistant: three\n");
    let encoder = Encoder::new(Some(&Characters), VOCABULARY).with_chat(&looping).with_train_on(TrainOn::All);
    let sample = encoder.encode(&rows("content-parts.jsonl")[0], &RowPlace::new(Path::new("f"), 1)).unwrap();
    assert_eq!(sample.ids.len(), "user: one+two\nassistant: three\n".len(), "one token per character");
    let content = |content: &str| format!(r#"{{"messages": [{{"role": "user", "content": {content}}}]}}"#);
    for (parts, message) in [
        ("[]", "`messages[0].content` must be a string, or a list of at least one part"),
        (
            r#"[{"type": "image"}]"#,
            "`messages[0].content[0].type` must be \"text\": a part of type \"image\" is no text",
        ),
        (r#"[{"type": "text", "text": 1}]"#, "`messages[0].content[0].text` must be a string"),
        ("[\"a\"]", "`messages[0].content[0]` must be an object"),
        ("5", "`messages[0].content` must be a string, or a list of parts"),
        ("null", "`messages[0].content` must be there"),
    ] {
        let error = refused(&content(parts));
        assert!(error.contains(message), "{parts}: {error}");
    }
}

#[test]
fn a_task_that_is_all_in_the_input_begins_with_it() {
    let expected = "<|im_start|>user\nWhat is a quay?<|im_end|>\n<|im_start|>assistant\n\
                    ⟦A place where ships land<|im_end|>⟧\n";
    assert_eq!(trained("empty-instruction.jsonl"), [expected]);
    let sample = Encoder::new(Some(&BYTES), VOCABULARY)
        .encode(&rows("empty-instruction.jsonl")[0], &RowPlace::new(Path::new("f"), 1))
        .unwrap();
    let bytes: Vec<u8> = sample.ids.iter().filter_map(|&id| u8::try_from(id).ok()).collect();
    let text = "### Instruction:\nWhat is a quay?\n\n### Response:\nA place where ships land";
    assert_eq!(String::from_utf8(bytes).unwrap(), text);
}

#[test]
fn what_is_no_text_is_refused_by_name() {
    let rest = "is no text, and the models here read text alone; remove such rows";
    assert_eq!(error_of("image.jsonl"), format!("image.jsonl:1: `images` {rest}"));
    for key in ["image", "audio", "audios", "video", "videos"] {
        assert_eq!(refused(&format!(r#"{{"text": "a", "{key}": "x"}}"#)), format!("f:1: `{key}` {rest}"));
    }
    let nothing = r#"{"text": "a", "images": [], "audio": null, "videos": "", "chosen": "", "label": null, "odd": {}}"#;
    assert_eq!(ignored(nothing), [""; 0], "nothing is there");
}

#[test]
fn rows_of_preference_training_are_refused() {
    for (name, key) in [("kto.jsonl", "label"), ("preference.jsonl", "chosen")] {
        let error = error_of(name);
        assert!(error.starts_with(&format!("{name}:1: `{key}` ")) && error.contains("preference"), "{error}");
    }
    for (json, key) in [
        (r#"{"prompt": "a", "chosen": "b", "rejected": "c"}"#, "chosen"),
        (r#"{"chosen": [{"role": "user", "content": "a"}], "rejected": []}"#, "chosen"),
        (r#"{"messages": [{"role": "user", "content": "a"}], "rejected": "c"}"#, "rejected"),
        (r#"{"prompt": "a", "completions": ["b"], "labels": [true]}"#, "completions"),
        (r#"{"prompt": "a", "completion": "b", "reward": 0.5}"#, "reward"),
        (r#"{"prompt": "a", "completion": "b", "score": 0.5}"#, "score"),
        (r#"{"text": "a", "label": 1}"#, "label"),
    ] {
        let error = refused(json);
        assert!(error.starts_with(&format!("f:1: `{key}` ")) && error.contains("no objective here takes"), "{error}");
    }
    let meant = RowOptions { ignored: vec!["label".to_string()], ..RowOptions::default() };
    assert_eq!(parse(r#"{"text": "a", "label": 1}"#, &meant).unwrap().1, [Row::Text { text: "a".into() }]);
}

#[test]
fn system_prompts_and_earlier_turns_are_part_of_the_conversation() {
    let expected = "<|im_start|>system\nYou know villages.<|im_end|>\n<|im_start|>user\nWhich village?<|im_end|>\n\
                    <|im_start|>assistant\n⟦Oberdorf<|im_end|>⟧\n<|im_start|>user\nHow many live there?<|im_end|>\n\
                    <|im_start|>assistant\n⟦Nine hundred<|im_end|>⟧\n";
    assert_eq!(trained("meaningful-keys.jsonl"), [expected]);
    let turns = [("system", "S"), ("user", "a"), ("assistant", "b")];
    let expected = Row::Conversation(Conversation::new(&turns));
    let share = r#""conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]"#;
    assert_eq!(row(&format!(r#"{{"system": "S", {share}}}"#)), expected);
    assert_eq!(row(&format!(r#"{{"system_prompt": "S", {share}}}"#)), expected);
    let own = r#""messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"}]"#;
    let own = own.replace('\n', " ");
    assert_eq!(row(&format!(r#"{{{own}, "system": "S"}}"#)), expected, "the same one is there once");
    let error = refused(&format!(r#"{{{own}, "system": "T"}}"#));
    assert!(error.contains("`system` must be the system message that the conversation begins with"), "{error}");
    let error = refused(r#"{"prompt": "a", "completion": "b", "system": "S"}"#);
    assert!(error.contains("`system` has a place only in a conversation"), "{error}");
    let error = refused(r#"{"instruction": "a", "output": "b", "history": ["c"]}"#);
    assert!(error.contains("but must be an array of [question, answer] pairs of strings"), "{error}");
    let without_template = Encoder::new(Some(&BYTES), VOCABULARY);
    let error =
        without_template.encode(&rows("meaningful-keys.jsonl")[0], &RowPlace::new(Path::new("f"), 1)).unwrap_err();
    assert!(
        error.to_string().starts_with("f:1: `system` has a place only in a conversation, and the model has no chat")
    );
}

#[test]
fn turns_that_are_not_to_be_trained_on_are_not() {
    let expected = "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nwrong<|im_end|>\n\
                    <|im_start|>user\nb<|im_end|>\n<|im_start|>assistant\n⟦right<|im_end|>⟧\n";
    assert_eq!(trained("turn-weights.jsonl"), [expected]);
    let all = marked(&template("chatml"), &rows("turn-weights.jsonl")[0], TrainOn::All).unwrap().0;
    let expected = "⟦<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n⟧wrong<|im_end|>⟦\n\
                    <|im_start|>user\nb<|im_end|>\n<|im_start|>assistant\nright<|im_end|>\n⟧";
    assert_eq!(all, expected);
    let with = |flag: &str| {
        let json = format!(
            r#"{{"messages": [{{"role": "user", "content": "a", "weight": 0}}, {{"role": "assistant", "content": "b", {flag}}}]}}"#
        );
        parse(&json, &RowOptions::default()).map(|(_, rows)| {
            marked(&template("chatml"), &rows[0], TrainOn::Assistant).unwrap().0.contains("⟦b<|im_end|>⟧")
        })
    };
    for flag in [r#""weight": 1"#, r#""weight": 1.0"#, r#""train": true"#, r#""training": true"#, r#""weight": null"#] {
        assert_eq!(with(flag), Ok(true), "{flag}");
    }
    for flag in [r#""weight": 0"#, r#""weight": 0.0"#, r#""train": false"#, r#""training": false"#] {
        assert_eq!(with(flag), Ok(false), "{flag}");
    }
    for flag in [r#""weight": 0.5"#, r#""weight": "0""#, r#""train": "no""#, r#""train": 1"#] {
        let error = with(flag).unwrap_err();
        assert!(error.starts_with("f:1: `messages[1]."), "{error}");
    }
    let user = refused(r#"{"messages": [{"role": "user", "content": "a", "train": true}]}"#);
    assert!(user.contains("only the assistant's turns are trained on, or everything with `train-on` all"), "{user}");
}

#[test]
fn bad_rows_stop_or_are_dropped_and_told() {
    let at = "some-bad.jsonl:2: `messages` is an array (`[]`), but must be an array of at least one message";
    assert_eq!(error_of("some-bad.jsonl"), at);
    let drop = |most| RowOptions { bad_rows: BadRows::Drop { most }, ..RowOptions::default() };
    let (found, rows) = read_with("some-bad.jsonl", &drop(0.5)).unwrap();
    assert_eq!((rows.len(), found.bad_rows), (2, 2));
    let told: Vec<(u64, &str)> = found.bad.iter().map(|bad| (bad.line, bad.reason.as_str())).collect();
    assert_eq!(
        told,
        [
            (2, "`messages` is an array (`[]`), but must be an array of at least one message"),
            (3, "`messages[1].content` must be there: the message's text"),
        ]
    );
    let error = read_with("some-bad.jsonl", &drop(0.49)).unwrap_err().to_string();
    assert!(
        error.contains("some-bad.jsonl:2: 2 of 4 rows are bad, more than the 49 % that `bad-rows` drop"),
        "{error}"
    );
    // What is wrong with a row's tokens counts like what is wrong with its JSON, and other bytes than text, too.
    let (_folder, paths) =
        crate::files(&[b"{\"text\": \"a\"}\n{\"text\": \"\xff\"}\n{\"text\"\n{\"text\": \"b\xef\xbf\xbd\"}\n\
        {\"text\": \"a\"}\n[1]\n{\"text\": \"c\"}\n{\"input_ids\": [1]}"]);
    let data = Dataset::load(&paths, &drop(0.7), &Encoder::new(Some(&BYTES), VOCABULARY), 8).unwrap();
    assert_eq!(data.stats()[0].file.bad.iter().map(|bad| bad.line).collect::<Vec<_>>(), [2, 3, 4, 6, 8]);
    assert_eq!((data.len(), data.stats()[0].rows), (3, 3));
    let all_bad = parse("{\"text\": 1}\n{\"text\": 2}", &drop(1.0)).unwrap_err();
    assert!(all_bad.contains("2 of 2 rows are bad"), "{all_bad}");
}

#[test]
fn a_share_of_a_files_rows_is_spread_over_it() {
    let lines: String = (0..10).map(|index| format!("{{\"input_ids\": [{index}, 1]}}\n")).collect();
    let (_folder, paths) = crate::files(&[lines.as_bytes(), b"{\"input_ids\": [99, 1]}"]);
    let first_ids = |shares: [&str; 2]| {
        let given: Vec<PathBuf> =
            paths.iter().zip(shares).map(|(path, share)| PathBuf::from(format!("{}{share}", path.display()))).collect();
        let data = Dataset::load(&given, &RowOptions::default(), &Encoder::new(None, 100), 8).unwrap();
        let ids: Vec<u32> = data.sample_ids().map(|id| data.sample(id).unwrap().ids[0]).collect();
        let counts: Vec<_> = data.stats().iter().map(|file| (file.path.clone(), file.rows, file.not_taken)).collect();
        assert_eq!(counts.iter().map(|count| &count.0).collect::<Vec<_>>(), paths.iter().collect::<Vec<_>>());
        (ids, counts[0].1, counts[0].2)
    };
    assert_eq!(first_ids([":0.3", ""]), (vec![3, 6, 9, 99], 10, 7));
    assert_eq!(first_ids([":0.1", ":2"]), (vec![9, 99, 99], 10, 9));
    assert_eq!(first_ids(["", ":1"]).0.len(), 11);
    assert_eq!(first_ids([":1.5", ""]).0, [0, 1, 1, 2, 3, 3, 4, 5, 5, 6, 7, 7, 8, 9, 9, 99]);
    for text in ["stop", "drop", "drop:0.25", "drop:0"] {
        assert_eq!(text.parse::<BadRows>().unwrap().to_string(), text);
    }
    for text in ["keep", "drop:", "drop:2", "drop:-1", "drop:nan", ""] {
        text.parse::<BadRows>().unwrap_err();
    }
}

#[test]
fn prompts_and_completions_may_be_messages() {
    let expected = "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n⟦b<|im_end|>⟧\n";
    assert_eq!(trained("trl-conversational.jsonl"), [expected]);
    let json = r#"{"prompt": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"}], "completion": [{"role": "assistant", "content": "d"}]}"#;
    let (text, _) = marked(&template("chatml"), &row(&json.replace('\n', " ")), TrainOn::Assistant).unwrap();
    assert!(
        text.contains("\nb<|im_end|>") && text.contains("⟦d<|im_end|>⟧"),
        "the prompt's turns are read only: {text}"
    );
    let error = refused(r#"{"prompt": [{"role": "user", "content": "a"}], "completion": "b"}"#);
    assert!(error.contains("`completion` is a string (`\"b\"`), but must be an array of messages"), "{error}");
}

#[test]
fn a_rows_settings_reach_the_template() {
    let source = "{% for m in messages %}{{ m.role }}: {% if m.role == 'assistant' and enable_thinking is not false %}\
                  <think></think>{% endif %}{{ m.content }}\n{% endfor %}";
    let template = ChatTemplate::new(source, SpecialTokens::default()).unwrap();
    let [Row::Conversation(conversation)] = &rows("template-kwargs.jsonl")[..] else { panic!() };
    assert_eq!(template.render(conversation, false).unwrap(), "user: one?\nassistant: two\n");
    let plain = Conversation::new(&[("user", "one?"), ("assistant", "two")]);
    assert_eq!(template.render(&plain, false).unwrap(), "user: one?\nassistant: <think></think>two\n");
    let error = refused(r#"{"messages": [{"role": "user", "content": "a"}], "chat_template_kwargs": [1]}"#);
    assert!(error.contains("`chat_template_kwargs` is an array (`[1]`), but must be an object"), "{error}");
}

#[test]
fn calls_come_as_templates_know_them() {
    let qwen = template("qwen2_5");
    let (text, _) = marked(&qwen, &rows("tool-call.jsonl")[0], TrainOn::Assistant).unwrap();
    let call =
        "⟦\n<tool_call>\n{\"name\": \"height_of\", \"arguments\": {\"what\": \"tower\"}}\n</tool_call><|im_end|>⟧";
    assert!(text.contains(call.trim_start_matches("⟦\n")) && text.contains("312 m"), "{text}");
    assert!(text.contains("\"description\": \"Height of a building\""), "{text}");
    let (text, _) = marked(&qwen, &rows("tool-call-strings.jsonl")[0], TrainOn::Assistant).unwrap();
    for part in [
        "{\"name\": \"height_of\", \"description\": \"Height\", \"parameters\": {\"type\": \"object\", \"properties\": {}}}",
        "<tool_call>\n{\"name\": \"height_of\", \"arguments\": {}}\n</tool_call><|im_end|>⟧",
        "<tool_response>\n312\n</tool_response>",
        "⟦312 metres.<|im_end|>⟧",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // OpenAI's older spelling, arguments as a text, and several calls at once.
    let same = |message: &str| {
        let json = |message: &str| format!(r#"{{"conversations": [{{"from": "human", "value": "a"}}, {message}]}}"#);
        let calls = r#"{"role": "assistant", "content": "", "tool_calls": [{"type": "function",
            "function": {"name": "f", "arguments": {"x": 1}}}]}"#;
        let render = |message: &str| match row(&json(&message.replace('\n', " "))) {
            Row::Conversation(conversation) => qwen.render(&conversation, false).unwrap(),
            other => panic!("{other:?}"),
        };
        assert_eq!(render(message), render(calls), "{message}");
    };
    same(r#"{"from": "function_call", "value": "{\"name\": \"f\", \"arguments\": {\"x\": 1}}"}"#);
    same(r#"{"from": "function_call", "value": "[{\"name\": \"f\", \"parameters\": \"{\\\"x\\\": 1}\"}]"}"#);
    same(r#"{"role": "assistant", "content": "", "function_call": {"name": "f", "arguments": "{\"x\": 1}"}}"#);
    let error = refused(r#"{"conversations": [{"from": "function_call", "value": "call f"}]}"#);
    assert!(error.contains("`conversations[0].value` must be JSON of a call"), "{error}");
    let error = refused(r#"{"tools": "no list", "messages": [{"role": "user", "content": "a"}]}"#);
    assert!(error.contains("`tools` must be an array of tools"), "{error}");
    let error = marked(&template("zephyr"), &rows("tool-call.jsonl")[0], TrainOn::Assistant).unwrap_err();
    assert!(error.contains("a message holds tool calls, which the model's chat template never reads"), "{error}");
}

#[test]
fn messages_say_what_is_wrong_with_their_keys() {
    let with = |message: &str| parse(&format!(r#"{{"messages": [{message}]}}"#), &RowOptions::default());
    let (_, rows) = with(r#"{"role": "gpt", "content": "a", "id": 4, "name": "x", "timestamp": "t"}"#).unwrap();
    let Row::Conversation(conversation) = &rows[0] else { panic!() };
    assert_eq!(conversation.roles(), ["assistant"]);
    for (message, expected) in [
        (
            r#"{"role": "user", "from": "human", "content": "a"}"#,
            "`messages[0].from` must be left out: `role` is there, too",
        ),
        (
            r#"{"role": "user", "value": "a", "content": "a"}"#,
            "`messages[0].value` must be left out: `content` is there",
        ),
        (r#"{"role": "user", "content": "a", "content": "b"}"#, "`messages[0].content` must be there once, not twice"),
        (r#"{"role": "user", "content": "a", "tool_calls": "x"}"#, "`messages[0].tool_calls` must be a list of calls"),
    ] {
        let error = with(message).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    // What only some templates read is held to the template that is used.
    let place = RowPlace::new(Path::new("f"), 1);
    for (message, word) in [
        (r#"{"role": "critic", "content": "a"}"#, "`messages[0].role`: the model's chat template never reads `critic`"),
        (r#"{"role": "user", "content": "a", "mood": "glad"}"#, "`messages[0].mood`: the model's chat template never"),
    ] {
        let row = &with(message).unwrap().1[0];
        let chatml = template("chatml");
        let encoder = Encoder::new(Some(&Characters), VOCABULARY).with_chat(&chatml);
        let error = encoder.encode(row, &place).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
        let source = "{% for m in messages %}{{ m.role ~ m.mood }}{% if m.role == 'critic' %}!{% endif %}{% endfor %}";
        let reads = ChatTemplate::new(source, SpecialTokens::default()).unwrap();
        Encoder::new(Some(&Characters), VOCABULARY).with_chat(&reads).encode(row, &place).unwrap();
    }
}

#[test]
fn keys_are_told_apart_and_named() {
    assert_eq!(ignored(r#"{"id": 1, "text": "a", "source": "b", "Meta": {}, "URL": "c"}"#), ["id", "source", "url"]);
    assert_eq!(ignored(r#"{"instruction": "a", "input": "", "output": "b", "text": "ab"}"#), ["text"]);
    assert_eq!(
        ignored(r#"{"prompt": "a", "prompt_id": "x", "messages": [{"role": "user", "content": "a"}]}"#),
        ["prompt_id"]
    );
    assert!(refused(r#"{"prompt": "b", "messages": [{"role": "user", "content": "a"}]}"#).contains("`prompt` beside"));
    assert!(refused(r#"{"text": "ab", "prompt": "a"}"#).contains("`prompt` beside {\"text\"}"));
    assert!(refused(r#"{"text": "a", "Text": "b"}"#).contains("key `text` is there twice"));
    assert!(refused(r#"{"text": "a", "text": "b"}"#).contains("key `text` is there twice"));
    let many = refused(r#"{"text": "a", "b": 1, "c": 2}"#);
    assert!(many.contains("`b`, `c` beside {\"text\"}") && many.ends_with("`ignore-columns` b,c"), "{many}");
    let mixed = refused("{\"question\": \"a\", \"answer\": \"b\"}\n{\"query\": \"a\", \"response\": \"b\"}");
    assert!(mixed.contains("f:2: key `question`"), "one pair of names per file: {mixed}");
}

#[test]
fn lists_may_be_texts_as_tables_have_them() {
    let text = r#"{"messages": "[{\"role\": \"user\", \"content\": \"a\"}]"}"#;
    assert_eq!(row(text), Row::Conversation(Conversation::new(&[("user", "a")])));
}
