//! Generation and evaluation on the fixtures: greedy tokens and losses are those of transformers and peft.

use remat_formats::Tokenizer;
use remat_model::{Model, Precision};
use remat_step::DeviceOptions;
use remat_train::{
    BatchEvent, BatchGenerator, Continuation, Ending, EvaluationRequest, Generator, Request, Sampling, TextStream,
    TrainedTurns, evaluate,
};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The models of `fixtures/parity`.
fn cases() -> impl Iterator<Item = &'static str> {
    let dense = include_str!("../../../fixtures/parity/cases.txt").lines();
    dense.chain(include_str!("../../../fixtures/parity/experts.txt").lines())
}

fn folder(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/parity").join(case)
}

fn model(case: &str) -> Model {
    Model::open(&folder(case)).expect("a model folder")
}

fn reference(case: &str) -> Value {
    let text = std::fs::read_to_string(folder(case).join("reference.json")).expect("the fixtures are committed");
    serde_json::from_str(&text).expect("JSON")
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().expect("a list").iter().map(|id| id.as_u64().expect("an id") as u32).collect()
}

fn greedy(prompt: &[u32], max_tokens: usize) -> Request<'_> {
    Request { prompt, max_tokens, sampling: Sampling::GREEDY, stop: &[] }
}

/// Prompts and greedy continuations of the reference; `kind` is base or adapter.
fn continuations(case: &str, kind: &str) -> Vec<(Vec<u32>, Vec<u32>)> {
    let list = &reference(case)["generate"][kind];
    list.as_array().expect("a list").iter().map(|entry| (ids(&entry["prompt"]), ids(&entry["tokens"]))).collect()
}

#[test]
fn greedy_tokens_of_base_and_adapter_equal_the_reference() {
    for case in cases() {
        let model = model(case);
        for kind in ["base", "adapter"] {
            let adapter = folder(case).join("adapter");
            let adapter = (kind == "adapter").then_some(adapter.as_path());
            // One generator for all prompts: what one left in the caches must not reach the next.
            let mut generator = Generator::open(&model, adapter, 40, DeviceOptions::cpu(2)).expect("loads");
            let prompts = continuations(case, kind);
            assert!(prompts.len() > 1, "{case}: more than one prompt");
            for (prompt, expected) in prompts.iter().chain(&prompts[..1]) {
                let mut streamed = Vec::new();
                let mut on_token = |id| {
                    streamed.push(id);
                    true
                };
                let text = generator.generate(&greedy(prompt, expected.len()), &mut on_token).expect("generates");
                assert_eq!((&text.tokens, text.ending), (expected, Ending::Length), "{case} {kind}");
                assert_eq!(streamed, text.tokens, "{case} {kind}");
            }
        }
    }
}

#[test]
fn in_bf16_nearly_every_next_token_is_that_of_f32() {
    let (mut equal, mut all) = (0, 0);
    for case in cases() {
        let model = model(case).in_precision(Precision::Bf16);
        let mut generator = Generator::open(&model, None, 40, DeviceOptions::cpu(2)).expect("loads");
        for (prompt, expected) in continuations(case, "base") {
            for (index, &token) in expected.iter().enumerate() {
                let fed: Vec<u32> = prompt.iter().chain(&expected[..index]).copied().collect();
                let next = generator.generate(&greedy(&fed, 1), &mut |_| true).expect("generates").tokens;
                equal += usize::from(next == [token]);
                all += 1;
            }
        }
    }
    // Random small models have close seconds; a wrong dtype anywhere agrees by chance only.
    assert!(all > 200 && equal * 100 >= all * 95, "{equal} of {all}");
}

#[test]
fn a_prompt_in_chunks_is_a_prompt_token_by_token() {
    // Longer than a chunk of 64, and than mistral's window of 8; the continuation is fed back as a prompt.
    for case in ["llama-gqa-tied", "mistral", "qwen3", "smollm3"] {
        let model = model(case);
        let prompt: Vec<u32> = (0..7).map(|i| 20 + i * 9).collect();
        let mut generator = Generator::open(&model, None, 110, DeviceOptions::cpu(1)).expect("loads");
        let all = generator.generate(&greedy(&prompt, 100), &mut |_| true).expect("generates").tokens;
        for fed in [1, 58, 59, 80] {
            let longer: Vec<u32> = prompt.iter().chain(&all[..fed]).copied().collect();
            let rest = generator.generate(&greedy(&longer, 100 - fed), &mut |_| true).expect("generates").tokens;
            assert_eq!(rest, all[fed..], "{case}: {fed} tokens fed back");
        }
    }
}

#[test]
fn threads_change_no_token_and_a_seed_repeats() {
    let (model, prompt) = (model("qwen2"), [5, 40, 77]);
    let sampling = Sampling { temperature: 1.5, top_k: Some(50), top_p: 0.95, seed: 3 };
    let run = |threads: usize, seed: u64| {
        let mut generator = Generator::open(&model, None, 40, DeviceOptions::cpu(threads)).expect("loads");
        let request = Request { sampling: Sampling { seed, ..sampling }, ..greedy(&prompt, 30) };
        generator.generate(&request, &mut |_| true).expect("generates").tokens
    };
    let one = run(1, 3);
    assert_eq!(run(1, 3), one);
    assert_eq!(run(4, 3), one);
    assert_ne!(run(1, 4), one);
}

#[test]
fn stop_tokens_and_the_callback_end_a_text() {
    let (prompt, expected) = continuations("llama-f16", "base").remove(0);
    let mut generator = Generator::open(&model("llama-f16"), None, 40, DeviceOptions::cpu(1)).expect("loads");
    let first = expected.iter().position(|id| *id == expected[4]).expect("it is there");
    let stop = [expected[4]];
    let request = Request { stop: &stop, ..greedy(&prompt, 20) };
    let text = generator.generate(&request, &mut |_| true).expect("generates");
    assert_eq!((&text.tokens[..], text.ending), (&expected[..first], Ending::Stopped));
    let mut left = 3;
    let mut on_token = |_| {
        left -= 1;
        left > 0
    };
    let text = generator.generate(&greedy(&prompt, 20), &mut on_token).expect("generates");
    assert_eq!((&text.tokens[..], text.ending), (&expected[..3], Ending::Cancelled));
}

#[test]
fn requests_that_cannot_be_met_are_refused_with_the_remedy() {
    let model = model("gpt2");
    let error = |capacity, request: &Request<'_>| match Generator::open(&model, None, capacity, DeviceOptions::cpu(1)) {
        Err(error) => error.to_string(),
        Ok(mut generator) => generator.generate(request, &mut |_| true).expect_err("an error").to_string(),
    };
    let too_long = "`prompt`: of 3 tokens and 6 more do not fit the 8 that are planned for; ask for fewer";
    for (capacity, request, expected) in [
        (65, greedy(&[1], 64), "a prompt and its continuation of 65 tokens: this model has 64 positions"),
        (8, greedy(&[], 4), "`prompt`: has no token; give at least one character of text"),
        (8, greedy(&[1, 2, 3], 6), too_long),
    ] {
        assert_eq!(error(capacity, &request), expected);
    }
    let unknown = error(8, &greedy(&[1, 999], 4));
    assert!(unknown.contains("id 999 lies outside the table's 150 rows"), "{unknown}");
}

#[test]
fn a_batch_answers_each_prompt_as_it_is_answered_alone() {
    // More prompts than lanes, shorter and longer than a chunk of 64; lanes are taken over at other times by each setting.
    let lengths = [(2, 20), (70, 7), (3, 0), (66, 1), (20, 30), (1, 12), (9, 25), (40, 3)];
    let prompt = |(index, &(length, _)): (usize, &(u32, usize))| -> Vec<u32> {
        (0..length).map(|at| (5 + 31 * index as u32 + 9 * at + at * at) % 140).collect()
    };
    let prompts: Vec<Vec<u32>> = lengths.iter().enumerate().map(prompt).collect();
    let random = Sampling { temperature: 1.5, top_k: Some(50), top_p: 0.95, seed: 3 };
    for (case, with_adapter) in [("llama-gqa-tied", true), ("mistral", false), ("qwen3", true), ("smollm3", false)] {
        for (precision, sampling) in
            [(Precision::F32, random), (Precision::Bf16, random), (Precision::F32, Sampling::GREEDY)]
        {
            let (model, adapter) = (model(case).in_precision(precision), folder(case).join("adapter"));
            let adapter = with_adapter.then_some(adapter.as_path());
            let mut generator = Generator::open(&model, adapter, 110, DeviceOptions::cpu(2)).expect("loads");
            let request = |index: usize, stop: &'static [u32]| Request {
                prompt: &prompts[index],
                max_tokens: lengths[index].1,
                sampling,
                stop,
            };
            let first = generator.generate(&request(0, &[]), &mut |_| true).expect("generates").tokens;
            let stop: &'static [u32] = vec![first[4]].leak();
            let requests: Vec<Request<'_>> = (0..prompts.len()).map(|index| request(index, stop)).collect();
            let alone = |request: &Request<'_>| generator.generate(request, &mut |_| true).expect("generates");
            let expected: Vec<Continuation> = requests.iter().map(alone).collect();
            assert_eq!(expected[0].ending, Ending::Stopped, "{case}");
            for batch in [2, 3, 8] {
                let mut lanes =
                    BatchGenerator::open(&model, adapter, batch, 110, DeviceOptions::cpu(2)).expect("loads");
                let (mut started, mut answers) = (Vec::new(), vec![None; requests.len()]);
                let mut on_event = |event| {
                    match event {
                        BatchEvent::Started(index) => started.push(index),
                        BatchEvent::Ended(index, answer) => {
                            assert!(started.contains(&index) && answers[index].is_none(), "{index} ends once");
                            answers[index] = Some(answer);
                        }
                    }
                    true
                };
                lanes.generate(&requests, &mut on_event).expect("generates");
                assert_eq!(started, (0..requests.len()).collect::<Vec<_>>(), "in the order of the list");
                let answers: Vec<Continuation> = answers.into_iter().map(|answer| answer.expect("an answer")).collect();
                assert_eq!(answers, expected, "{case} {precision:?} {sampling:?}, {batch} at a time");
            }
        }
    }
}

#[test]
fn a_batch_is_refused_before_it_begins_and_ends_when_told_to() {
    let model = model("llama-gqa-tied");
    let mut lanes = BatchGenerator::open(&model, None, 2, 20, DeviceOptions::cpu(1)).expect("loads");
    let good = greedy(&[1, 2, 3], 6);
    let error =
        lanes.generate(&[good, greedy(&[], 4)], &mut |_| panic!("nothing begins")).expect_err("an empty prompt");
    assert_eq!(error.to_string(), "`prompt`: has no token; give at least one character of text");
    let mut ended = 0;
    let mut on_event = |event: BatchEvent| {
        ended += usize::from(matches!(event, BatchEvent::Ended(..)));
        ended < 2
    };
    lanes.generate(&[good; 5], &mut on_event).expect("generates");
    assert_eq!(ended, 2);
    let none = BatchGenerator::open(&model, None, 0, 20, DeviceOptions::cpu(1)).err().expect("no lane");
    assert_eq!(none.to_string(), "a batch of 0 texts: must be at least 1");
}

/// A tokenizer with one token per byte, as byte-level BPE spells them: every character of more bytes is cut.
fn byte_tokenizer(dir: &Path) -> Tokenizer {
    let printable = |byte: u32| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let (mut vocab, mut next) = (serde_json::Map::new(), 256);
    for byte in 0..256u32 {
        let code = if printable(byte) {
            byte
        } else {
            next += 1;
            next - 1
        };
        vocab.insert(char::from_u32(code).expect("a character").to_string(), byte.into());
    }
    let bytes = serde_json::json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true });
    let model = serde_json::json!({ "type": "BPE", "vocab": vocab, "merges": [] });
    let json = serde_json::json!({
        "version": "1.0", "added_tokens": [], "pre_tokenizer": bytes, "decoder": bytes, "model": model,
    });
    std::fs::write(dir.join("tokenizer.json"), json.to_string()).expect("writes");
    Tokenizer::from_dir(dir).expect("a tokenizer")
}

#[test]
fn text_streams_in_whole_characters() {
    let dir = tempfile::tempdir().expect("a folder");
    let tokenizer = byte_tokenizer(dir.path());
    let encode = |text| tokenizer.encode(text, false).expect("encodes");
    for text in ["plain words, more words", "naïve café — 東京 🚀 done", "  two  blanks\n\nlines"] {
        let mut stream = TextStream::after(&tokenizer, &encode("so: "));
        let pieces: Vec<String> = encode(text).iter().map(|&id| stream.push(id).expect("decodes")).collect();
        assert_eq!(stream.finish().expect("decodes"), "");
        assert_eq!(pieces.concat(), text);
        let whole: Vec<&String> = pieces.iter().filter(|piece| !piece.is_empty()).collect();
        assert!(whole.iter().all(|piece| piece.chars().count() == 1), "{pieces:?}");
    }
    let mut stream = TextStream::after(&tokenizer, &[]);
    assert_eq!(stream.push(encode("🚀")[0]).expect("decodes"), "", "a part of a character waits");
    assert_eq!(stream.finish().expect("decodes"), "\u{FFFD}");
}

/// The first rows of a case as a data file: those of the first update.
fn first_rows(case: &str, dir: &Path) -> PathBuf {
    let text = std::fs::read_to_string(folder(case).join("rows.jsonl")).expect("rows");
    let path = dir.join("rows.jsonl");
    std::fs::write(&path, text.lines().take(4).collect::<Vec<_>>().join("\n")).expect("writes");
    path
}

#[test]
fn losses_of_base_and_adapter_equal_the_reference_at_any_batch_size() {
    let dir = tempfile::tempdir().expect("a folder");
    for case in cases() {
        let (model, reference, adapter) = (model(case), reference(case), folder(case).join("adapter"));
        let data = vec![first_rows(case, dir.path())];
        let trained = ids(&reference["first_update"]["trained_tokens"]).iter().sum::<u32>();
        for (adapter, key) in [(None, "full"), (Some(adapter.as_path()), "lora")] {
            let expected = reference["first_update"]["losses"][key].as_f64().expect("a loss");
            for batch_size in [1, 3, 4] {
                let train_on = TrainedTurns::Assistant;
                let request = EvaluationRequest {
                    data: data.clone(),
                    rows: Default::default(),
                    seq_len: None,
                    train_on,
                    chat_date: None,
                    chat_template: None,
                    chat_template_kwargs: None,
                    batch_size,
                    options: DeviceOptions::cpu(2),
                };
                let report = evaluate(&model, adapter, &request).expect("evaluates");
                assert!((report.loss - expected).abs() < 1e-4, "{case} {key}: {} is not {expected}", report.loss);
                assert_eq!((report.tokens, report.samples), (trained as usize, 4), "{case}");
                assert!((report.perplexity - expected.exp()).abs() < 1e-3 * expected.exp(), "{case} {key}");
            }
        }
    }
}
