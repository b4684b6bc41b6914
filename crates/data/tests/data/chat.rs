//! Chat templates: renderings held to transformers' byte for byte (`fixtures/chat`), the trained part of a
//! conversation, and templates that mean no good.

use crate::{VOCABULARY, files};
use proptest::prelude::*;
use remat_data::{ChatTemplate, Conversation, Encoder, IGNORED_LABEL, Row, RowPlace, SpecialTokens};
use remat_data::{RowOptions, TokenSource, TokenSpan, TrainOn, read_rows_from};
use serde_json::Value;
use std::path::{Path, PathBuf};

fn fixture(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/chat").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub fn row(json: &str) -> Row {
    let mut row = None;
    let mut sink = |_, read| {
        row = Some(read);
        Ok(())
    };
    read_rows_from(&mut json.as_bytes(), Path::new("f"), &RowOptions::default(), &mut sink).unwrap();
    row.unwrap()
}

pub(crate) fn conversation(json: &str) -> Conversation {
    match row(json) {
        Row::Conversation(conversation) => conversation,
        other => panic!("{other:?}"),
    }
}

pub fn template(name: &str) -> ChatTemplate {
    let cases: Vec<Value> = serde_json::from_str(&fixture("expected.json")).unwrap();
    let case = cases.iter().find(|case| case["template"] == name).unwrap();
    let token = |key: &str| case[key].as_str().map(str::to_string);
    let special = SpecialTokens { bos: token("bos_token"), eos: token("eos_token"), pad: None };
    ChatTemplate::new(&fixture(&format!("templates/{name}.jinja")), special).unwrap()
}

#[test]
fn renderings_are_those_of_transformers() {
    // As raw text, so that the order of keys reaches our own parser.
    let all = fixture("conversations.json");
    let listed: Vec<&serde_json::value::RawValue> = serde_json::from_str(&all).unwrap();
    let cases: Vec<Value> = serde_json::from_str(&fixture("expected.json")).unwrap();
    let (mut rendered, mut refused) = (0, 0);
    for case in &cases {
        let name = case["template"].as_str().unwrap();
        let what = format!("{name}, {}, generation prompt {}", case["conversation"], case["add_generation_prompt"]);
        let json = listed
            .iter()
            .find(|json| serde_json::from_str::<Value>(json.get()).unwrap()["name"] == case["conversation"]);
        let conversation = conversation(&json.unwrap().get().replace('\n', " "));
        let ours = template(name).render(&conversation, case["add_generation_prompt"] == true);
        match case["text"].as_str() {
            Some(text) => {
                assert_eq!(ours.as_deref(), Ok(text), "{what}");
                rendered += 1;
            }
            None => {
                let ours = ours.expect_err(&what);
                let theirs = case["error"].as_str().unwrap();
                // What a template raises itself is passed on; Python's own words are Python's.
                let raised = theirs.ends_with('.') || theirs.ends_with('!');
                assert!(!raised || ours.starts_with(theirs), "{what}: {ours}");
                refused += 1;
            }
        }
    }
    assert!(rendered >= 350 && refused >= 40, "{rendered} renderings, {refused} refusals");
}

#[test]
fn a_template_sees_the_day_that_it_is_given() {
    let hello = Conversation::new(&[("user", "hello")]);
    let on = |day: &str| template("dated").on_day(day.parse().unwrap()).render(&hello, false).unwrap();
    assert!(on("2027-01-05").starts_with("Today: 05 Jan 2027\n"), "{}", on("2027-01-05"));
    assert_eq!(on("2024-07-26"), template("dated").render(&hello, false).unwrap());
}

/// One token per character, and one for each special token of the published templates.
pub struct Characters;

const SPECIAL: [&str; 21] = [
    "<|im_start|>",
    "<|im_end|>",
    "<|begin_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "[INST]",
    "[/INST]",
    "<s>",
    "</s>",
    "<|end|>",
    "<|endoftext|>",
    "<｜Assistant｜>",
    "<｜User｜>",
    "<｜end▁of▁sentence｜>",
    "<bos>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<|start_of_role|>",
    "<|end_of_role|>",
    "<|end_of_text|>",
];

impl TokenSource for Characters {
    fn encode(&self, text: &str, _: bool) -> Result<Vec<u32>, String> {
        Ok(self.encode_spans(text)?.into_iter().map(|span| span.id).collect())
    }

    fn encode_spans(&self, text: &str) -> Result<Vec<TokenSpan>, String> {
        let mut spans = Vec::new();
        let mut start = 0;
        while start < text.len() {
            let rest = &text[start..];
            let special = SPECIAL.iter().position(|token| rest.starts_with(token));
            let (id, len) = match special {
                Some(index) => (index as u32, SPECIAL[index].len()),
                None => (100, rest.chars().next().unwrap().len_utf8()),
            };
            spans.push(TokenSpan { id, start, end: start + len, special: special.is_some() });
            start += len;
        }
        Ok(spans)
    }

    fn eos(&self) -> Option<u32> {
        None
    }
}

fn place() -> RowPlace {
    RowPlace::new(Path::new("f"), 1)
}

/// The rendering with the trained parts in brackets, and whether each ends in a special token.
pub fn marked(template: &ChatTemplate, row: &Row, train_on: TrainOn) -> Result<(String, bool), String> {
    let encoder = Encoder::new(Some(&Characters), VOCABULARY).with_chat(template).with_train_on(train_on);
    let sample = encoder.encode(row, &place()).map_err(|error| error.to_string())?;
    let (Row::Conversation(conversation) | Row::Instruction { conversation, .. }) = row else { panic!("{row:?}") };
    let text = template.render(conversation, false).unwrap();
    let spans = Characters.encode_spans(&text).unwrap();
    let mut out = String::new();
    let mut open = false;
    for (span, label) in spans.iter().zip(&sample.labels) {
        let trained = *label != IGNORED_LABEL;
        if trained != open {
            out.push(if trained { '⟦' } else { '⟧' });
            open = trained;
        }
        out.push_str(&text[span.start..span.end]);
    }
    out.push_str(if open { "⟧" } else { "" });
    Ok((out, sample.terminated))
}

pub(crate) const TWO_TURNS: &str = r#"{"messages": [
    {"role": "system", "content": "S"}, {"role": "user", "content": "q"}, {"role": "assistant", "content": "one"},
    {"role": "user", "content": "one?"}, {"role": "assistant", "content": "one"}]}"#;

pub(crate) fn two_turns() -> Row {
    row(&TWO_TURNS.replace('\n', " "))
}

#[test]
fn the_assistants_turns_and_their_ends_are_trained() {
    let check = |name: &str, expected: &str| {
        let (text, terminated) = marked(&template(name), &two_turns(), TrainOn::Assistant).unwrap();
        assert_eq!(text, expected, "{name}");
        assert!(terminated, "{name}");
    };
    check(
        "chatml",
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n⟦one<|im_end|>⟧\n\
         <|im_start|>user\none?<|im_end|>\n<|im_start|>assistant\n⟦one<|im_end|>⟧\n",
    );
    check(
        "llama3",
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|>\
         <|start_header_id|>user<|end_header_id|>\n\nq<|eot_id|>\
         <|start_header_id|>assistant<|end_header_id|>\n\n⟦one<|eot_id|>⟧\
         <|start_header_id|>user<|end_header_id|>\n\none?<|eot_id|>\
         <|start_header_id|>assistant<|end_header_id|>\n\n⟦one<|eot_id|>⟧",
    );
    // The past is rendered without thoughts, the present with empty ones, which the model writes itself.
    check(
        "qwen3",
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n⟦one<|im_end|>⟧\n\
         <|im_start|>user\none?<|im_end|>\n<|im_start|>assistant\n⟦<think>\n\n</think>\n\none<|im_end|>⟧\n",
    );
    // Only the end of the turn, not the end of the text behind it.
    check(
        "phi3",
        "<|system|>\nS<|end|>\n<|user|>\nq<|end|>\n<|assistant|>\n⟦one<|end|>⟧\n<|user|>\none?<|end|>\n\
         <|assistant|>\n⟦one<|end|>⟧\n<|endoftext|>",
    );
    check(
        "zephyr",
        "<|system|>\nS</s>\n<|user|>\nq</s>\n<|assistant|>\n⟦one</s>⟧\n<|user|>\none?</s>\n<|assistant|>\n\
         ⟦one</s>⟧\n",
    );
    // The space is part of the answer's first token; the system prompt moves from question to question.
    check("mistral_v0_3", "<s>[INST] q[/INST]⟦ one</s>⟧[INST] one?[/INST]⟦ one</s>⟧");
    // The generation prompt has a thought begun, which the rendering of an answer has not.
    let (text, _) = marked(&template("deepseek_r1_distill"), &two_turns(), TrainOn::Assistant).unwrap();
    assert!(
        text.ends_with(
            "q<｜Assistant｜>⟦one<｜end▁of▁sentence｜>⟧<｜User｜>one?<｜Assistant｜>⟦one<｜end▁of▁sentence｜>⟧"
        ),
        "{text}"
    );
}

/// A chat of every family that has a format for it: how it is rendered is held to transformers above.
#[test]
fn the_turns_of_every_familys_format_are_trained() {
    let check = |name: &str, expected: &str| {
        let (text, terminated) = marked(&template(name), &two_turns(), TrainOn::Assistant).unwrap();
        assert_eq!(text, expected, "{name}");
        assert!(terminated, "{name}");
    };
    check(
        "gemma3",
        "<bos><start_of_turn>user\nS\n\nq<end_of_turn>\n<start_of_turn>model\n⟦one<end_of_turn>⟧\n\
         <start_of_turn>user\none?<end_of_turn>\n<start_of_turn>model\n⟦one<end_of_turn>⟧\n",
    );
    check(
        "phi4_mini",
        "<|system|>S<|end|><|user|>q<|end|><|assistant|>⟦one<|end|>⟧<|user|>one?<|end|><|assistant|>\
         ⟦one<|end|>⟧<|endoftext|>",
    );
    check(
        "olmo2",
        "<|endoftext|><|system|>\nS\n<|user|>\nq\n<|assistant|>\n⟦one<|endoftext|>⟧\n<|user|>\none?\n\
         <|assistant|>\n⟦one<|endoftext|>⟧",
    );
    check(
        "granite3",
        "<|start_of_role|>system<|end_of_role|>S<|end_of_text|>\n<|start_of_role|>user<|end_of_role|>q<|end_of_text|>\n\
         <|start_of_role|>assistant<|end_of_role|>⟦one<|end_of_text|>⟧\n\
         <|start_of_role|>user<|end_of_role|>one?<|end_of_text|>\n\
         <|start_of_role|>assistant<|end_of_role|>⟦one<|end_of_text|>⟧\n",
    );
    check(
        "smollm3",
        "<|im_start|>system\n## Metadata\n\nReasoning Mode: /think\n\n## Custom Instructions\n\nS\n\n<|im_end|>\n\
         <|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n⟦one<|im_end|>⟧\n\
         <|im_start|>user\none?<|im_end|>\n<|im_start|>assistant\n⟦one<|im_end|>⟧\n",
    );
    check(
        "stablelm_zephyr",
        "<|system|>\nS<|endoftext|>\n<|user|>\nq<|endoftext|>\n<|assistant|>\n⟦one<|endoftext|>⟧\n\
         <|user|>\none?<|endoftext|>\n<|assistant|>\n⟦one<|endoftext|>⟧\n",
    );
    // The prompt ends in a colon, so the space is part of the answer's first token; neither has a place for a system prompt.
    check("gpt_neoxt", "<human>: q\n<bot>:⟦ one<|endoftext|>⟧\n<human>: one?\n<bot>:⟦ one<|endoftext|>⟧\n");
    check("phi2", "Instruct: q\nOutput:⟦ one<|endoftext|>⟧\nInstruct: one?\nOutput:⟦ one<|endoftext|>⟧\n");
    // The first Gemma refuses a system prompt, in its own words.
    let gemma = template("gemma");
    let refused = marked(&gemma, &two_turns(), TrainOn::Assistant).unwrap_err();
    assert!(refused.contains("System role not supported"), "{refused}");
    let one = row(r#"{"messages": [{"role": "user", "content": " q "}, {"role": "assistant", "content": "one "}]}"#);
    let (text, _) = marked(&gemma, &one, TrainOn::Assistant).unwrap();
    let expected = "<bos><start_of_turn>user\nq<end_of_turn>\n<start_of_turn>model\n⟦one<end_of_turn>⟧\n";
    assert_eq!(text, expected);
}

#[test]
fn a_message_that_the_template_leaves_out_is_counted() {
    for (name, complete) in [("chatml", true), ("mistral_v0_3", false)] {
        let (folder, paths) = files(&[TWO_TURNS.replace('\n', " ").replace("\"S\"", "\"System prompt\"").as_bytes()]);
        let template = template(name);
        let encoder = Encoder::new(Some(&Characters), VOCABULARY).with_chat(&template);
        let data = remat_data::Dataset::load(&paths, &RowOptions::default(), &encoder, 512).unwrap();
        assert_eq!(data.stats()[0].incomplete, usize::from(!complete), "{name}");
        drop(folder);
    }
}

#[test]
fn the_last_turn_or_everything_can_be_trained() {
    let chatml = template("chatml");
    let (text, _) = marked(&chatml, &two_turns(), TrainOn::Last).unwrap();
    assert_eq!(text.matches('⟦').count(), 1);
    assert!(text.ends_with("⟦one<|im_end|>⟧\n"), "{text}");
    let (text, _) = marked(&chatml, &two_turns(), TrainOn::All).unwrap();
    assert!(text.starts_with('⟦') && text.ends_with('⟧') && text.matches('⟦').count() == 1, "{text}");
    let encoder = Encoder::new(Some(&Characters), VOCABULARY).with_train_on(TrainOn::All);
    let completion = Row::PromptCompletion { prompt: "ab".into(), completion: "c".into() };
    assert_eq!(encoder.encode(&completion, &place()).unwrap().labels, [100, 100, 100]);
}

#[test]
fn odd_contents_keep_their_bounds() {
    let turn = |template: &ChatTemplate, content: &str| {
        let content = serde_json::to_string(content).unwrap();
        let json = format!(
            r#"{{"messages": [{{"role": "user", "content": "x"}}, {{"role": "assistant", "content": {content}}},
               {{"role": "user", "content": "x"}}]}}"#
        );
        let (text, _) = marked(template, &row(&json.replace('\n', " ")), TrainOn::Assistant).unwrap();
        text.split_once('⟦').unwrap().1.split_once('⟧').unwrap().0.to_string()
    };
    for content in ["x", "", " ", "xyz", "zyx", "\nx\n", "äx😀", "<|im_start|>", "assistant", "a<|im_end|>b"] {
        assert_eq!(turn(&template("chatml"), content), format!("{content}<|im_end|>"));
        assert_eq!(turn(&template("llama3"), content), format!("{}<|eot_id|>", content.trim()));
        assert_eq!(turn(&template("mistral_v0_3"), content), format!(" {}</s>", content.trim()));
    }
    assert_eq!(turn(&template("qwen3"), "<think>\nno\n</think>\n\nx"), "x<|im_end|>", "past thoughts are left out");
}

/// The trained text of an answer.
type Trained = fn(&str) -> String;

/// Texts of the characters that templates and turns could stumble over.
fn content() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec!["x", "y", "z", "one", "assistant", " ", "\n", "<", "|", "ä", "😀", "</"]);
    prop::collection::vec(pieces, 0..5).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_content_is_trained_whole_and_alone(turns in prop::collection::vec((content(), content()), 1..4)) {
        let messages: Vec<(&str, &str)> =
            turns.iter().flat_map(|(question, answer)| [("user", question.as_str()), ("assistant", answer.as_str())]).collect();
        let row = Row::Conversation(Conversation::new(&messages));
        let templates: [(&str, Trained); 5] = [
            ("chatml", |answer| format!("{answer}<|im_end|>")),
            ("llama3", |answer| format!("{}<|eot_id|>", answer.trim())),
            ("phi3", |answer| format!("{answer}<|end|>")),
            ("zephyr", |answer| format!("{answer}</s>")),
            ("mistral_v0_3", |answer| format!(" {}</s>", answer.trim())),
        ];
        for (name, expected) in templates {
            let (text, terminated) = marked(&template(name), &row, TrainOn::Assistant).unwrap();
            let trained: Vec<&str> =
                text.split('⟦').skip(1).map(|part| part.split_once('⟧').unwrap().0).collect();
            let expected: Vec<String> = turns.iter().map(|(_, answer)| expected(answer)).collect();
            prop_assert_eq!(trained, expected, "{}: {}", name, text);
            prop_assert!(terminated);
        }
    }
}

#[test]
fn tool_calls_are_trained_with_their_special_tokens() {
    let all = fixture("conversations.json");
    let listed: Vec<&serde_json::value::RawValue> = serde_json::from_str(&all).unwrap();
    let tools = listed.iter().find(|json| json.get().contains(r#""name": "tools""#)).unwrap();
    let row = row(&tools.get().replace('\n', " "));
    let (text, terminated) = marked(&template("qwen2_5"), &row, TrainOn::Assistant).unwrap();
    let call = "assistant⟦\n<tool_call>\n{\"name\": \"add\", \"arguments\": {\"b\": 1, \"a\": 2.0, \"ü\": null, \
                \"c\": [true, 1e+20, 1e-07]}}\n</tool_call><|im_end|>⟧";
    assert!(text.contains(&call.replace("assistant⟦\n", "")), "{text}");
    assert!(text.ends_with("⟦It is 3.<|im_end|>⟧\n") && terminated, "{text}");
}

#[test]
fn each_of_two_templates_is_asked_what_it_reads() {
    const PLAIN: &str = "{% for m in messages %}{{ m.role }}: {{ m.content }}|{% endfor %}";
    const READS: &str = "{% for m in messages %}{{ m.role }}: {% if m.content is string %}{{ m.content }}{% else %}\
                         {% for part in m.content %}{% if not loop.first %} {% endif %}{{ part.text }}{% endfor %}{% endif %}|{% endfor %}";
    const TOOLS: &str = r#", "tools": [{"type": "function", "function": {"name": "w"}}]"#;
    let make = |plain: &str, for_tools: &str| {
        ChatTemplate::new(plain, SpecialTokens::default()).unwrap().with_tool_use(for_tools).unwrap()
    };
    let tokens = |template: &ChatTemplate, message: &str, tools: &str| {
        let json = format!(r#"{{"messages": [{{"role": "user", "content": "q"}}, {message}]{tools}}}"#);
        let encoder = Encoder::new(Some(&Characters), VOCABULARY).with_chat(template).with_train_on(TrainOn::All);
        encoder.encode(&row(&json), &place()).map(|sample| sample.ids.len()).map_err(|error| error.to_string())
    };
    // Calls, which only the template of rows without tools names: those of rows with tools would be passed over.
    let call = r#"{"role": "assistant", "content": "a", "tool_calls": [{"type": "function", "function": {"name": "w", "arguments": {}}}]}"#;
    let calls = "{% for m in messages %}{{ m.content }}{% for c in m.tool_calls %}{{ c.function.name }}{% endfor %}{% endfor %}";
    let error = tokens(&make(calls, "{{ tools|length }}{{ messages[0].content }}"), call, TOOLS).unwrap_err();
    assert!(error.contains("tool calls, which the model's chat template never reads"), "{error}");
    assert!(tokens(&make(calls, "{{ tools|length }}"), call, "").is_ok());
    assert!(tokens(&make("{{ messages[0].content }}", calls), call, TOOLS).is_ok());
    assert!(tokens(&make("{{ messages[0].content }}", calls), call, "").is_err());
    // Parts: put together for the template that does not read them, and for that one only, whichever is asked first.
    let parts = r#"{"role": "assistant", "content": [{"type": "text", "text": "b"}, {"type": "text", "text": "c"}]}"#;
    let (joined, read) = ("user: q|assistant: bc|".len(), "user: q|assistant: b c|".len());
    for tools_first in [true, false] {
        for reads_for_tools in [true, false] {
            let template = if reads_for_tools { make(PLAIN, READS) } else { make(READS, PLAIN) };
            for with_tools in [tools_first, !tools_first] {
                let expected = if with_tools == reads_for_tools { read } else { joined };
                let found = tokens(&template, parts, if with_tools { TOOLS } else { "" });
                assert_eq!(found, Ok(expected), "{with_tools}");
            }
        }
    }
}

#[test]
fn a_turn_without_an_end_says_so_and_a_lost_turn_is_an_error() {
    let make = |source: &str| ChatTemplate::new(source, SpecialTokens::default()).unwrap();
    let plain = make(
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}",
    );
    let (text, terminated) = marked(&plain, &two_turns(), TrainOn::Assistant).unwrap();
    assert_eq!(text, "system: S\nuser: q\nassistant: ⟦one⟧\nuser: one?\nassistant: ⟦one⟧\n");
    assert!(!terminated);
    let heading = make(
        "{% for m in messages %}### {{ m.role }}\n{{ m.content }}\n### end\n{% endfor %}{% if add_generation_prompt %}### assistant\n{% endif %}",
    );
    let (text, _) = marked(&heading, &two_turns(), TrainOn::Last).unwrap();
    assert!(text.ends_with("### assistant\n⟦one\n### end⟧\n"), "{text}");
    let forgetful = make("{{ messages[-1].content }}");
    let error = marked(&forgetful, &two_turns(), TrainOn::Assistant).unwrap_err();
    assert_eq!(
        error,
        "f:1: the model's chat template cannot render this conversation: message 3 (assistant) is left out by the chat \
         template; train with `train-on` all, or change the template; check the order of its roles, or the template in \
         the model folder"
    );
}

#[test]
fn templates_without_end_are_errors() {
    const BUDGET: &str = "a budget";
    let refuse = |source: &str, part: &str| {
        let hello = Conversation::new(&[("user", "hello hello hello hello")]);
        let error = ChatTemplate::new(source, SpecialTokens::default()).and_then(|made| made.render(&hello, true));
        let error = error.expect_err(source);
        // A budget of steps or of bytes, whichever is used up first.
        let used_up = error.contains("runs without end") || error.contains("bytes out of one conversation");
        assert!(error.contains(part) || (part == BUDGET && used_up), "{source}: {error}");
    };
    let endless = "runs without end";
    refuse("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", endless);
    refuse("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "nests calls");
    refuse("{% macro f(n) %}{% for i in [1,2] %}{{ f(n) }}{% endfor %}{% endmacro %}{{ f(1) }}", "nests calls");
    let grows = BUDGET;
    let doubling = |step: &str| {
        format!(
            "{{% set n = namespace(s=messages[0].content) %}}{{% for i in range(999) %}}{{% set n.s = {step} %}}{{% endfor %}}"
        )
    };
    for step in ["n.s ~ n.s", "n.s+n.s", "(n.s) + ('' ~ n.s)", "[n.s, n.s]|join", "''.join([n.s, n.s])"] {
        refuse(&doubling(step), grows);
    }
    for step in ["n.s|replace('h', n.s)", "n.s.replace('h', n.s)", "n.s|replace('', n.s)"] {
        refuse(&doubling(step), grows);
    }
    refuse(&doubling("n.s * 2"), grows);
    refuse(
        "{% set n = namespace(s='abcdefgh') %}{% for i in range(999) %}{% set x %}{{ n.s }}{{ n.s }}{% endset %}{% set n.s = x %}{% endfor %}",
        grows,
    );
    refuse("{{ '{:>1000000000000}'.format(1) }}", "a format has a number above");
    refuse("{{ [1]|tojson(indent=1000000000000) }}", grows);
    refuse(&"{{ ".repeat(1 << 19), "bytes, more than");
    refuse(&format!("{{{{ {}1{} }}}}", "(".repeat(50_000), ")".repeat(50_000)), "nested more than");
}

#[test]
fn templates_reach_nothing_outside() {
    for source in ["{% include '/etc/passwd' %}", "{% extends 'a' %}", "{{ debug() }}", "{{ env('HOME') }}"] {
        let made = ChatTemplate::new(source, SpecialTokens::default());
        let error = made.and_then(|made| made.render(&Conversation::new(&[("user", "a")]), false));
        assert!(error.is_err(), "{source}: {error:?}");
    }
}

#[test]
fn sharegpt_and_instructions_become_conversations() {
    let share = r#"{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}"#;
    assert_eq!(conversation(share), Conversation::new(&[("user", "a"), ("assistant", "b")]));
    let chatml = template("chatml");
    let instruction = row(r#"{"instruction": "Add", "input": "1 2", "output": "3"}"#);
    let encoder = Encoder::new(Some(&Characters), VOCABULARY);
    let plain = encoder.encode(&instruction, &place()).unwrap();
    let prompt = "### Instruction:\nAdd\n\n### Input:\n1 2\n\n### Response:\n";
    assert_eq!(plain.labels[prompt.len()..], [100]);
    assert_eq!((plain.ids.len(), plain.labels[prompt.len() - 1]), (prompt.len() + 1, IGNORED_LABEL));
    let with_template = encoder.with_chat(&chatml).encode(&instruction, &place()).unwrap();
    let same = Row::Conversation(Conversation::new(&[("user", "Add\n\n1 2"), ("assistant", "3")]));
    let encoder = Encoder::new(Some(&Characters), VOCABULARY).with_chat(&chatml);
    assert_eq!(with_template, encoder.encode(&same, &place()).unwrap());
}

#[test]
fn conversations_that_are_none_are_told_so() {
    let check_with = |template: &ChatTemplate, json: &str, message: &str| {
        let (folder, paths) = files(&[json.as_bytes()]);
        let encoder = Encoder::new(Some(&Characters), VOCABULARY).with_chat(template);
        let error = remat_data::Dataset::load(&paths, &RowOptions::default(), &encoder, 64).unwrap_err();
        assert_eq!(error.to_string().replace(&format!("{}/", folder.path().display()), ""), message);
    };
    let needs_names = ChatTemplate::new("{{ messages[0]['name'] + messages[0].content }}", SpecialTokens::default());
    check_with(
        &needs_names.unwrap(),
        r#"{"messages": [{"role": "user", "content": "a"}]}"#,
        "a.jsonl:1: the model's chat template cannot render this conversation: 'dict object' has no \
         attribute 'name' (line 1 of the template); check the order of its roles, or the template in the model folder",
    );
    let check = |json: &str, message: &str| check_with(&template("chatml"), json, message);
    check(
        r#"{"messages": "hello"}"#,
        "a.jsonl:1: `messages` is a string (`\"hello\"`), but must be an array of messages, {\"role\", \"content\"} each",
    );
    check(
        r#"{"messages": []}"#,
        "a.jsonl:1: `messages` is an array (`[]`), but must be an array of at least one message",
    );
    check(r#"{"messages": [1]}"#, "a.jsonl:1: `messages[0]` must be an object {\"role\", \"content\"}");
    check(
        r#"{"messages": [{"content": "a"}]}"#,
        "a.jsonl:1: `messages[0].role` must be there: \"system\", \"user\", \"assistant\" or \"tool\"",
    );
    check(r#"{"messages": [{"role": 1}]}"#, "a.jsonl:1: `messages[0].role` must be a string");
    check(
        r#"{"conversations": [{"from": "narrator", "value": "a"}]}"#,
        "a.jsonl:1: `conversations[0].from` must be \"human\", \"gpt\", \"system\" or \"tool\"",
    );
    check(r#"{"messages": [{"role": "user"}]}"#, "a.jsonl:1: `messages[0].content` must be there: the message's text");
    let encoder = Encoder::new(Some(&Characters), VOCABULARY);
    let error = encoder.encode(&Row::Conversation(Conversation::new(&[("user", "a")])), &place()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "f:1: a row of format {\"messages\"} needs the model's chat template: none was given"
    );
}
