//! Rows to samples: what each format becomes, what is accepted around it, and what is counted.

use crate::{BOS, BYTES, Bytes, EOS, VOCABULARY, files, load};
use remat_data::{Dataset, Encoder, Row, RowKind, RowOptions, RowPlace, SampleId, read_rows_from};
use std::path::Path;

fn encode_with(tokens: &Bytes, row: &Row) -> (Vec<u32>, Vec<i32>, bool) {
    let sample = Encoder::new(Some(tokens), VOCABULARY).encode(row, &RowPlace::new(Path::new("f"), 1)).unwrap();
    (sample.ids, sample.labels, sample.terminated)
}

fn encode(row: &Row) -> (Vec<u32>, Vec<i32>) {
    let (ids, labels, terminated) = encode_with(&BYTES, row);
    assert!(terminated);
    (ids, labels)
}

fn text(text: &str) -> Row {
    Row::Text { text: text.to_string() }
}

fn completion(prompt: &str, completion: &str) -> Row {
    Row::PromptCompletion { prompt: prompt.to_string(), completion: completion.to_string() }
}

const A: u32 = b'a' as u32;
const B: u32 = b'b' as u32;

#[test]
fn text_gains_special_tokens_and_one_end() {
    assert_eq!(encode(&text("a")), (vec![BOS, A, EOS], vec![256, 97, 257]));
    assert_eq!(encode(&text("a</s>")), (vec![BOS, A, EOS], vec![256, 97, 257]), "its own end is enough");
    assert_eq!(encode(&text("")), (vec![BOS, EOS], vec![256, 257]));
    let closing = Bytes { closes_texts: true, ..BYTES };
    assert_eq!(encode_with(&closing, &text("a")).0, [BOS, A, EOS], "the tokenizer's end is enough");
}

#[test]
fn without_an_end_token_the_sample_says_so() {
    let endless = Bytes { eos: None, ..BYTES };
    assert_eq!(encode_with(&endless, &text("a")), (vec![BOS, A], vec![256, 97], false));
    assert_eq!(encode_with(&endless, &completion("a", "b")), (vec![BOS, A, B], vec![-100, -100, 98], false));
}

#[test]
fn completions_are_trained_and_prompts_are_not() {
    let expected = (vec![BOS, A, B, EOS], vec![-100, -100, 98, 257]);
    assert_eq!(encode(&completion("a", "b")), expected);
    assert_eq!(encode(&completion("a", "b</s>")), expected);
    assert_eq!(encode(&completion("a", "")), (vec![BOS, A, EOS], vec![-100, -100, 257]));
    assert_eq!(encode(&completion("", "b")), (vec![BOS, B, EOS], vec![-100, 98, 257]));
    // The prompt's end is no end of the sample.
    assert_eq!(encode(&completion("a</s>", "")), (vec![BOS, A, EOS, EOS], vec![-100, -100, -100, 257]));
}

#[test]
fn an_end_that_the_tokenizer_adds_does_not_come_between_prompt_and_completion() {
    let closing = Bytes { closes_texts: true, ..BYTES };
    let (ids, labels, _) = encode_with(&closing, &completion("a", "b"));
    assert_eq!((ids, labels), (vec![BOS, A, B, EOS], vec![-100, -100, 98, 257]));
    // An end that the prompt itself has stays; the tokenizer's own is not told apart from it here.
    let (ids, _, _) = encode_with(&BYTES, &completion("a</s>", "b"));
    assert_eq!(ids, [BOS, A, EOS, B, EOS]);
}

#[test]
fn tokens_are_taken_as_given() {
    let row = Row::Tokens { input_ids: vec![5, 0, 257], labels: None };
    assert_eq!(encode(&row), (vec![5, 0, 257], vec![5, 0, 257]));
    let row = Row::Tokens { input_ids: vec![5, 6], labels: Some(vec![-100, 7]) };
    assert_eq!(encode(&row), (vec![5, 6], vec![-100, 7]));
}

fn rows(contents: &[u8]) -> (RowKind, Vec<(u64, Row)>) {
    let mut rows = Vec::new();
    let sink = &mut |line, row| {
        rows.push((line, row));
        Ok(())
    };
    let found = read_rows_from(&mut &contents[..], Path::new("f"), &RowOptions::default(), sink).unwrap();
    (found.kind.unwrap(), rows)
}

#[test]
fn lines_are_counted_through_marks_blanks_and_line_ends() {
    let (kind, found) =
        rows(b"\xef\xbb\xbf\r\n{\"text\": \"a\"}\r\n\n  \n {\"text\": \"\\u00e4\\n\", \"id\": {\"text\": 1}}");
    assert_eq!(kind, RowKind::Text);
    assert_eq!(found, [(2, text("a")), (5, text("ä\n"))]);
}

#[test]
fn an_array_gives_the_same_rows_as_lines() {
    let lines = rows(b"{\"prompt\": \"a\", \"completion\": \"b\"}\n{\"prompt\": \"[\", \"completion\": \"]\"}\n");
    let array = rows(b"[{\"prompt\": \"a\", \"completion\": \"b\"},\n{\"prompt\": \"[\", \"completion\": \"]\"}]\n");
    assert_eq!(lines, array);
    let spread = rows(b"[\n  {\n    \"text\": \"a\"\n  },\n  {\n    \"text\": \"b\"\n  }\n]");
    assert_eq!(spread, (RowKind::Text, vec![(2, text("a")), (5, text("b"))]), "a row stands where it starts");
    let comma_first = rows(b"[{\"text\": \"a\"}\n,{\"text\": \"b\"}\n]");
    assert_eq!(comma_first, (RowKind::Text, vec![(1, text("a")), (2, text("b"))]));
}

#[test]
fn the_more_specific_format_wins() {
    let (kind, found) = rows(br#"{"text": "ab", "input_ids": [1, 2], "labels": null, "attention_mask": [1, 1]}"#);
    assert_eq!(kind, RowKind::Tokens);
    assert_eq!(found, [(1, Row::Tokens { input_ids: vec![1, 2], labels: None })]);
    assert_eq!(rows(br#"{"text": "ab", "prompt": "a", "completion": "b"}"#).0, RowKind::PromptCompletion);
    assert_eq!(rows(br#"{"text": "ab", "messages": null}"#).0, RowKind::Text, "a null is not there");
}

#[test]
fn deep_nesting_in_a_key_that_is_not_read_is_no_matter() {
    let deep = format!("{{\"text\": \"a\", \"metadata\": {}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(rows(deep.as_bytes()).1, [(1, text("a"))]);
}

#[test]
fn files_follow_each_other_and_each_has_its_format() {
    let (_folder, paths) = files(&[b"{\"text\": \"a\"}\n", b"{\"input_ids\": [1, 2]}\n{\"input_ids\": [3, 4]}"]);
    let data = Dataset::load(&paths, &RowOptions::default(), &Encoder::new(Some(&BYTES), VOCABULARY), 8).unwrap();
    let ids: Vec<Vec<u32>> = data.sample_ids().map(|id| data.sample(id).unwrap().ids).collect();
    assert_eq!(ids, [vec![BOS, A, EOS], vec![1, 2], vec![3, 4]]);
    let kinds: Vec<_> = data.stats().iter().map(|file| (file.path.clone(), file.kind(), file.rows)).collect();
    assert_eq!(kinds, [(paths[0].clone(), Some(RowKind::Text), 1), (paths[1].clone(), Some(RowKind::Tokens), 2)]);
}

#[test]
fn cuts_and_drops_are_counted() {
    let data = load(
        "{\"prompt\": \"a\", \"completion\": \"b\"}\n\
         {\"prompt\": \"a\", \"completion\": \"bbb\"}\n\
         {\"prompt\": \"aaaaa\", \"completion\": \"b\"}\n\
         {\"prompt\": \"\", \"completion\": \"\"}",
        4,
    );
    // Full lengths 4, 6, 8 and 2; the third has only its prompt within 4 tokens.
    let file = &data.stats()[0];
    assert_eq!((file.rows, file.truncated, file.cut_tokens, file.dropped), (4, 2, 2 + 4, 1));
    assert_eq!((file.longest, file.tokens, file.trained_tokens, file.unterminated), (8, 4 + 4 + 2, 2 + 2 + 1, 0));
    assert_eq!(data.len(), 3);
    let cut = data.sample(SampleId(1)).unwrap();
    assert_eq!((&cut.ids[..], &cut.labels[..]), (&[BOS, A, B, B][..], &[-100, -100, 98, 98][..]));
    assert_eq!(data.bytes(), 10 * 4 + 3 * 16, "a word per token, four per sample");
}

#[test]
fn the_first_label_does_not_count() {
    let data =
        load("{\"input_ids\": [1, 2, 3], \"labels\": [1, -100, -100]}\n{\"input_ids\": [1, 2], \"labels\": [1, 2]}", 8);
    let file = &data.stats()[0];
    assert_eq!((file.rows, file.dropped, file.tokens, file.trained_tokens), (2, 1, 2, 1));
}

#[test]
fn missing_ends_are_counted() {
    let (_folder, paths) = files(&[b"{\"text\": \"a\"}\n{\"text\": \"b\"}"]);
    let endless = Bytes { eos: None, ..BYTES };
    let data = Dataset::load(&paths, &RowOptions::default(), &Encoder::new(Some(&endless), VOCABULARY), 8).unwrap();
    assert_eq!(data.stats()[0].unterminated, 2);
}
