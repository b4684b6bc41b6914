//! Every error in its exact words, as a user meets it: from the bytes of a file to the message.

use crate::{BYTES, VOCABULARY, dataset, files};
use remat_data::{DataLoader, Dataset, Encoder, LoaderOptions, MAX_ROW_BYTES, Order, RowOptions};
use std::path::PathBuf;

/// Loads the files (`a.jsonl`, `b.jsonl`, …) and holds the error to `message`.
fn check_files(contents: &[&[u8]], message: &str) {
    let (folder, paths) = files(contents);
    let error = Dataset::load(&paths, &RowOptions::default(), &Encoder::new(Some(&BYTES), VOCABULARY), 64).unwrap_err();
    assert_eq!(error.to_string().replace(&format!("{}/", folder.path().display()), ""), message);
}

fn check(contents: &str, message: &str) {
    check_files(&[contents.as_bytes()], message);
}

const ACCEPTED: &str = concat!(
    r#"accepted: {"messages"}, {"conversations"}, {"instruction", "input" (optional), "output"}, "#,
    r#"{"prompt", "completion"}, {"text"} or {"input_ids", "labels" (optional)}"#
);

#[test]
fn files_that_cannot_be_read() {
    let encoder = Encoder::new(Some(&BYTES), VOCABULARY);
    let error = Dataset::load(&[PathBuf::from("no/such.jsonl")], &RowOptions::default(), &encoder, 64).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no/such.jsonl: cannot be read: No such file or directory (os error 2); check the path and its permissions"
    );
    let error = Dataset::load(&[], &RowOptions::default(), &encoder, 64).unwrap_err();
    assert_eq!(error.to_string(), "no data file was given; name at least one with `data` FILE.jsonl");
}

#[test]
fn files_without_rows() {
    let formats = ACCEPTED.strip_prefix("accepted: ").unwrap();
    let message = format!("a.jsonl: holds no rows; it needs one JSON object per line: {formats}");
    for empty in ["", "\n", "\u{feff}", "\u{feff}\r\n \n\t", "[]", " [ ]\n"] {
        check(empty, &message);
    }
}

#[test]
fn lines_that_are_not_json() {
    let rest = "every row must be one complete JSON object";
    check("{\"text\": \"a\"}\n\nhello\n", &format!("a.jsonl:3:1: not JSON: expected value, near `hello`; {rest}"));
    check(
        r#"{"text": "ä"   "more": 1}"#,
        &format!("a.jsonl:1:16: not JSON: expected `,` or `}}`, near `{{\"text\": \"ä\"   \"more\": 1}}`; {rest}"),
    );
    check(
        r#"{"text": "cut in the middle of a strin"#,
        &format!("a.jsonl:1:38: not JSON: EOF while parsing a string, near `…middle of a strin`; {rest}"),
    );
    check(
        "{\"text\": \"a\tb\"}",
        &format!(
            "a.jsonl:1:11: not JSON: control character (\\u0000-\\u001F) found while parsing a string, near \
             `{{\"text\": \"a\\tb\"}}`; {rest}"
        ),
    );
    check(
        r#"{"id": 1, "text": "a\ud800b"}"#,
        &format!("a.jsonl:1:27: not JSON: unexpected end of hex escape, near `…\"text\": \"a\\ud800b\"}}`; {rest}"),
    );
    check(
        r#"{"text": "a", "\udc00": 1}"#,
        &format!(
            "a.jsonl:1:21: not JSON: lone leading surrogate in hex escape, near `…xt\": \"a\", \"\\udc00\": 1}}`; {rest}"
        ),
    );
    check("{\n  \"text\": 1\n}", &format!("a.jsonl:1:1: not JSON: EOF while parsing an object, near `{{`; {rest}"));
}

#[test]
fn bytes_that_are_not_text() {
    let rest = "is not UTF-8; save the file as UTF-8 text";
    check_files(&[b"{\"text\": \"a\"}\n{\"text\": \"\xff\"}\n"], &format!("a.jsonl:2: byte 11 of this line {rest}"));
    check_files(&[b"\xff\xfe{\0"], &format!("a.jsonl:1: byte 1 of this line {rest}"));
}

#[test]
fn rows_without_an_end() {
    let rest =
        format!("this row is longer than {MAX_ROW_BYTES} bytes; split it into shorter rows, one JSON object per line");
    let mut long = b"{\"text\": \"a\"}\n".to_vec();
    long.resize(long.len() + MAX_ROW_BYTES + 1, b'x');
    check_files(&[&long], &format!("a.jsonl:2: {rest}"));
    let mut long = b"[\n{\"text\": \"".to_vec();
    long.resize(long.len() + MAX_ROW_BYTES + 1, b'x');
    check_files(&[&long], &format!("a.jsonl:2: {rest}"));
}

#[test]
fn rows_of_no_format() {
    check("[1, 2]", &format!("a.jsonl:1: this row is a number, not a JSON object; {ACCEPTED}"));
    check("\n\"text\"", &format!("a.jsonl:2: this row is a string, not a JSON object; {ACCEPTED}"));
    check("{\"text\": \"a\"}\n[]", &format!("a.jsonl:2: this row is an array, not a JSON object; {ACCEPTED}"));
    check("{}", &format!("a.jsonl:1: no known format has the keys (none); {ACCEPTED}"));
    check(
        r#"{"turns": [], "id\u001b[2J": 1}"#,
        &format!("a.jsonl:1: no known format has the keys `id\\u{{1b}}[2J`, `turns`; {ACCEPTED}"),
    );
    check(
        r#"{"k1":0,"k2":0,"k3":0,"k4":0,"k5":0,"k6":0,"k7":0,"k8":0,"k9":0}"#,
        &format!(
            "a.jsonl:1: no known format has the keys `k1`, `k2`, `k3`, `k4`, `k5`, `k6`, `k7`, `k8`, …; {ACCEPTED}"
        ),
    );
}

#[test]
fn rows_with_a_key_missing() {
    check(
        r#"{"prompt": "a", "reply": "b"}"#,
        &format!(
            "a.jsonl:1: key `completion` of format {{\"prompt\", \"completion\"}} is missing, this row has the keys \
             `prompt`, `reply`; {ACCEPTED}"
        ),
    );
    check(
        "{\"text\": \"a\"}\n{\"txt\": \"b\"}",
        &format!("a.jsonl:2: key `text` of format {{\"text\"}} is missing, this row has the keys `txt`; {ACCEPTED}"),
    );
}

#[test]
fn rows_of_another_format() {
    let rest = "keep one format per file and give each file its own `data`";
    check(
        "{\"text\": \"a\"}\n{\"input_ids\": [1, 2]}",
        &format!("a.jsonl:2: this row is {{\"input_ids\"}}, but the file's first row is {{\"text\"}}; {rest}"),
    );
    check(
        "[{\"text\": \"a\"},\n{\"prompt\": \"a\", \"completion\": \"b\"}]",
        &format!(
            "a.jsonl:2: this row is {{\"prompt\", \"completion\"}}, but the file's first row is {{\"text\"}}; {rest}"
        ),
    );
}

#[test]
fn values_of_the_wrong_type() {
    check(r#"{"text": 5}"#, "a.jsonl:1: `text` is a number (`5`), but must be a string");
    check(r#"{"prompt": null, "completion": "b"}"#, "a.jsonl:1: `prompt` is null, but must be a string");
    check(
        r#"{"prompt": "a", "completion": ["a long list of", "things"]}"#,
        "a.jsonl:1: `completion` is an array (`[\"a long list of\", \"thin…`), but must be a string",
    );
    check(
        r#"{"input_ids": "1 2 3"}"#,
        "a.jsonl:1: `input_ids` is a string (`\"1 2 3\"`), but must be an array of whole numbers",
    );
    check(r#"{"input_ids": [1, 2.5]}"#, "a.jsonl:1: `input_ids[1]` is a number (`2.5`), but must be a whole number");
    check(
        r#"{"input_ids": [99999999999999999999]}"#,
        "a.jsonl:1: `input_ids[0]` is a number (`99999999999999999999`), but must be a whole number",
    );
    check(
        r#"{"input_ids": [1, 2], "labels": [-100, true]}"#,
        "a.jsonl:1: `labels[1]` is a boolean (`true`), but must be a whole number",
    );
    check(
        r#"{"input_ids": [1, 2], "labels": {}}"#,
        "a.jsonl:1: `labels` is an object (`{}`), but must be an array of whole numbers",
    );
}

#[test]
fn tokens_outside_the_vocabulary() {
    let rest = "but this model's token ids are 0 to 257; tokenise the data with the tokenizer of this model";
    check(r#"{"input_ids": [1, 258]}"#, &format!("a.jsonl:1: `input_ids[1]` is 258, {rest}"));
    check("{\"input_ids\": [1, 2]}\n{\"input_ids\": [-1]}", &format!("a.jsonl:2: `input_ids[0]` is -1, {rest}"));
    let rest = "but a label is a token id of this model, 0 to 257, or -100 for a token that is not trained on";
    check(r#"{"input_ids": [1, 2], "labels": [-100, -1]}"#, &format!("a.jsonl:1: `labels[1]` is -1, {rest}"));
    check(r#"{"input_ids": [1, 2], "labels": [258, 1]}"#, &format!("a.jsonl:1: `labels[0]` is 258, {rest}"));
    check(
        r#"{"input_ids": [1, 2], "labels": [1]}"#,
        "a.jsonl:1: `labels` has 1 entries, but `input_ids` has 2; give one label per token, unshifted, with -100 for \
         tokens that are not trained on",
    );
}

#[test]
fn the_second_file_is_named() {
    check_files(
        &[b"{\"text\": \"a\"}", b"\n{\"text\": 1}"],
        "b.jsonl:2: `text` is a number (`1`), but must be a string",
    );
}

#[test]
fn tokenizers_that_do_not_fit() {
    check(
        "{\"text\": \"a\u{fffd}\"}",
        "a.jsonl:1: the tokenizer refused `text`: a replacement character; check tokenizer.json in the model folder",
    );
    let (_folder, paths) = files(&[b"{\"text\": \"a\"}"]);
    let place = format!("{}:1: ", paths[0].display());
    let error =
        Dataset::load(&paths, &RowOptions::default(), &Encoder::new(Some(&BYTES), 257), 64).unwrap_err().to_string();
    assert_eq!(
        error.strip_prefix(&place).unwrap(),
        "the tokenizer gives the id 257, but this model's token ids are 0 to 256; use the tokenizer.json that belongs \
         to this model"
    );
    let error =
        Dataset::load(&paths, &RowOptions::default(), &Encoder::new(None, VOCABULARY), 64).unwrap_err().to_string();
    assert_eq!(
        error.strip_prefix(&place).unwrap(),
        "a row of format {\"text\"} needs the model's tokenizer, and there is none; put tokenizer.json into the model \
         folder, or give {\"input_ids\"} rows"
    );
}

#[test]
fn data_that_teaches_nothing() {
    check(
        "{\"input_ids\": [1, 2], \"labels\": [1, -100]}\n{\"input_ids\": [3]}\n{\"input_ids\": []}",
        "none of the 3 rows has a token to train on within the first 64 tokens (0 rows were cut there); raise `seq-len`, \
         or check that completions are not empty and that labels are not all -100",
    );
    let long = format!("{{\"prompt\": \"{}\", \"completion\": \"b\"}}", "a".repeat(64));
    check(
        &long,
        "none of the 1 rows has a token to train on within the first 64 tokens (1 rows were cut there); raise `seq-len`, \
         or check that completions are not empty and that labels are not all -100",
    );
}

#[test]
fn arrays_that_break_off() {
    let rest = "write [{…}, {…}], or one JSON object per line";
    check(
        "[{\"text\": \"a\"},\n {\"text\": \"b\"}",
        &format!("a.jsonl:2:14: not a JSON array of rows: EOF while parsing a list; {rest}"),
    );
    check(
        "[{\"text\": \"a\"}]\n{\"text\": \"b\"}",
        &format!("a.jsonl:2:1: not a JSON array of rows: trailing characters; {rest}"),
    );
    check("[{\"text\": \"a\"},]", &format!("a.jsonl:1:16: not a JSON array of rows: trailing comma; {rest}"));
    check_files(
        &[b"[{\"text\": \"\xff\"}]"],
        &format!("a.jsonl:1:15: not a JSON array of rows: invalid unicode code point; {rest}"),
    );
}

#[test]
fn options_out_of_range() {
    let (_folder, paths) = files(&[b"{\"text\": \"a\"}"]);
    let error = Dataset::load(&paths, &RowOptions::default(), &Encoder::new(Some(&BYTES), VOCABULARY), 1).unwrap_err();
    assert_eq!(error.to_string(), "`seq-len` 1 leaves no token to predict; it must be at least 2");
    for (batch_size, grad_accum, key) in [(0, 1, "`batch-size`"), (1, 0, "`grad-accum`")] {
        let options = LoaderOptions { batch_size, grad_accum, packing: false, order: Order::InOrder };
        let error = DataLoader::new(dataset(&[(vec![1, 2], vec![1, 2])], 4), options).unwrap_err();
        assert_eq!(error.to_string(), format!("{key} is 0; it must be at least 1"));
    }
}

#[test]
fn positions_of_other_data() {
    let loader = |samples: &[(Vec<u32>, Vec<i32>)], seq_len, packing| {
        let options = LoaderOptions { batch_size: 1, grad_accum: 1, packing, order: Order::Shuffled { seed: 1 } };
        DataLoader::new(dataset(samples, seq_len), options).unwrap()
    };
    let two = [(vec![1, 2], vec![1, 2]), (vec![1, 2], vec![1, 2])];
    let mut target = loader(&two, 4, false);
    let state = target.state();
    let mut check = |state, reason: &str| {
        let error = target.restore(&state).unwrap_err();
        let rest = "resume with the data and data options of the saved run";
        assert_eq!(error.to_string(), format!("the saved data position does not fit: {reason}; {rest}"));
    };
    check(loader(&two, 4, true).state(), "it counts 1 sequences an epoch, the data has 2");
    let relabelled = [(vec![1, 2], vec![1, 2]), (vec![1, 2], vec![-100, 2])];
    check(loader(&relabelled, 4, false).state(), "the data's tokens or labels are not those it was saved with");
    check(remat_data::SamplerState { index: 2, ..state }, "sequence 2 of 2 does not exist");
}

#[test]
fn positions_of_other_packing() {
    // The same samples in as many sequences, but divided elsewhere: [3 1][3] and [3][1 3].
    let sample = |len: u32| ((0..len).collect::<Vec<_>>(), (0..len as i32).collect::<Vec<_>>());
    let options = LoaderOptions { batch_size: 1, grad_accum: 1, packing: true, order: Order::InOrder };
    let wide = DataLoader::new(dataset(&[sample(3), sample(2), sample(4)], 6), options).unwrap();
    let mut narrow = DataLoader::new(dataset(&[sample(3), sample(2), sample(4)], 5), options).unwrap();
    assert_eq!(wide.sequences().len(), narrow.sequences().len());
    assert!(narrow.restore(&wide.state()).is_ok(), "equal divisions are the same data, whatever the line's length");
}
