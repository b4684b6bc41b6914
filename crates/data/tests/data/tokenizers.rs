//! Samples under tokenizers of each kind, held to what transformers and TRL made of the same rows (`fixtures/tokenizers`):
//! Metaspace as Llama 2 and as Mistral have it, unigram with an end, bytes, NFC, NFKC with lower case.
//!
//! Two things differ from TRL on purpose: a text that begins with BOS gets no second one, and a text that ends gets one
//! end where the tokenizer itself closes texts.

use remat_data::{ChatTemplate, Conversation, Encoder, ModelTokens, Row, RowPlace, Sample, SpecialTokens, TokenSource};
use serde_json::Value;
use std::path::{Path, PathBuf};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/tokenizers")
}

/// Each tokenizer with what was recorded of it.
fn recorded() -> Vec<(String, ModelTokens, Value)> {
    let expected = std::fs::read_to_string(fixtures().join("expected.json")).unwrap();
    let expected: serde_json::Map<String, Value> = serde_json::from_str(&expected).unwrap();
    let open = |(name, expected): (String, Value)| {
        let folder = tempfile::tempdir().unwrap();
        let from = fixtures().join(format!("{name}.tokenizer.json"));
        std::fs::copy(from, folder.path().join("tokenizer.json")).unwrap();
        let settings = r#"{"bos_token": "<s>", "eos_token": "</s>"}"#;
        std::fs::write(folder.path().join("tokenizer_config.json"), settings).unwrap();
        let tokens = ModelTokens::open(folder.path(), None).unwrap().unwrap();
        (name, tokens, expected)
    };
    let all: Vec<_> = expected.into_iter().map(open).collect();
    assert_eq!(all.len(), 6);
    all
}

fn encode(tokens: &ModelTokens, expected: &Value, row: &Row) -> Sample {
    let vocabulary = expected["vocab_size"].as_u64().unwrap() as usize;
    let encoder = Encoder::for_model(Some(tokens), vocabulary);
    encoder.encode(row, &RowPlace::new(Path::new("f"), 1)).unwrap()
}

fn numbers(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|number| number.as_u64().unwrap() as u32).collect()
}

/// What was recorded, without a second BOS where the text has its own and without a second end.
fn with_single_ends(
    mut ids: Vec<u32>,
    mut trained: Vec<u32>,
    text: &str,
    tokens: &ModelTokens,
) -> (Vec<u32>, Vec<u32>) {
    let around = |text: &str, special| tokens.encode(text, special).unwrap();
    let (plain, within) = (around("a", false), around("a", true));
    if text.starts_with("<s>") && within.first() != plain.first() {
        ids.remove(0);
        trained.remove(0);
    }
    if within.last() != plain.last() {
        ids.remove(ids.len() - 2);
        trained.remove(trained.len() - 2);
    }
    (ids, trained)
}

#[test]
fn prompt_and_completion_are_one_text_masked_as_trl_masks_it() {
    let mut pairs = 0;
    for (name, tokens, expected) in recorded() {
        for pair in expected["pairs"].as_array().unwrap() {
            let text = |key: &str| pair[key].as_str().unwrap().to_string();
            let (prompt, completion) = (text("prompt"), text("completion"));
            let what = format!("{name}: {prompt:?} {completion:?}");
            let (ids, trained) = (numbers(&pair["input_ids"]), numbers(&pair["completion_mask"]));
            let (ids, trained) = with_single_ends(ids, trained, &prompt, &tokens);
            let sample = encode(&tokens, &expected, &Row::PromptCompletion { prompt, completion });
            assert_eq!(sample.ids, ids, "{what}");
            let labels: Vec<i32> =
                ids.iter().zip(&trained).map(|(&id, &trained)| if trained == 1 { id as i32 } else { -100 }).collect();
            assert_eq!(sample.labels, labels, "{what}");
            assert!(sample.terminated);
            pairs += 1;
        }
    }
    assert!(pairs >= 100, "{pairs}");
}

#[test]
fn texts_have_the_ids_of_transformers() {
    for (name, tokens, expected) in recorded() {
        for recorded in expected["texts"].as_array().unwrap() {
            let text = recorded["text"].as_str().unwrap().to_string();
            let ids = numbers(&recorded["input_ids"]);
            let (ids, _) = with_single_ends(ids.clone(), ids, &text, &tokens);
            let spans = tokens.encode_spans(&text).unwrap();
            let span_ids: Vec<u32> = spans.iter().map(|span| span.id).collect();
            assert_eq!(span_ids, numbers(&recorded["plain_ids"]), "{name}: {text:?}");
            assert_eq!(encode(&tokens, &expected, &Row::Text { text: text.clone() }).ids, ids, "{name}: {text:?}");
        }
    }
}

#[test]
fn decomposed_answers_are_trained_whole() {
    let source = "{% for m in messages %}{{ bos_token ~ m.role }}:{{ m.content }}{{ eos_token }}{% endfor %}\
                  {% if add_generation_prompt %}{{ bos_token }}assistant:{% endif %}";
    let token = |text: &str| Some(text.to_string());
    let template = SpecialTokens { bos: token("<s>"), eos: token("</s>"), pad: None };
    let template = ChatTemplate::new(source, template).unwrap();
    let answers =
        ["la nai\u{308}ve ide\u{301}e", "\u{1112}\u{1161}\u{11ab}\u{1100}\u{116e}\u{11a8}", "\u{301}", "ﬁn e\u{301}"];
    for (name, tokens, expected) in recorded() {
        for answer in answers {
            let row = Row::Conversation(Conversation::new(&[("user", "Mu\u{300}a he\u{300}"), ("assistant", answer)]));
            let vocabulary = expected["vocab_size"].as_u64().unwrap() as usize;
            let encoder = Encoder::for_model(Some(&tokens), vocabulary).with_chat(&template);
            let sample = encoder.encode(&row, &RowPlace::new(Path::new("f"), 1)).unwrap();
            let trained: Vec<u32> =
                sample.labels.iter().filter(|label| **label >= 0).map(|&label| label as u32).collect();
            let text = tokens.tokenizer().decode(&trained, false).unwrap();
            let of_answer = tokens.encode(&format!("{answer}</s>"), false).unwrap();
            let expected = tokens.tokenizer().decode(&of_answer, false).unwrap();
            assert_eq!(text.trim_start(), expected.trim_start(), "{name}: {answer:?}");
        }
    }
}
