//! Chat templates as they come with models from anywhere. Whatever a template says, it is refused or rendered within its
//! budget, and what a rendering says of its parts is true of its text.

use crate::fixtures;
use remat_jinja::{Budget, Host, Rendering, Template, Value};
use std::sync::LazyLock;

/// Little, so that a run is short.
const BUDGET: Budget = Budget { steps: 200_000, bytes: 8 << 20 };

static VARIABLES: LazyLock<Vec<(&str, Value)>> = LazyLock::new(|| {
    let text = |key: &str, text: &str| (key.to_string(), Value::from(text));
    let message = |number: u32, role: &str, content: &str| {
        let entries = Value::dict([text("role", role), text("content", content)]).expect("no deep nesting");
        let Value::Dict(entries) = entries.said_by(number).expect("no deep nesting") else {
            unreachable!("a dictionary")
        };
        std::sync::Arc::into_inner(entries).expect("just made").as_message(number)
    };
    let messages = [("system", "be brief"), ("user", "Größe? <b>"), ("assistant", " yes\n"), ("user", "")];
    let messages =
        messages.into_iter().zip(0..).map(|((role, content), number)| message(number, role, content)).collect();
    let numbers = Value::list(vec![Value::Int(3), Value::Float(-0.5), Value::Bool(true), Value::None]);
    vec![
        ("messages", Value::list(messages).expect("no deep nesting")),
        ("xs", numbers.expect("no deep nesting")),
        ("eos_token", Value::from("</s>")),
        ("add_generation_prompt", Value::from(true)),
    ]
});

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    fixtures::all("chat/templates", ".jinja")
}

pub(crate) fn examine(input: &[u8]) {
    let Ok(source) = std::str::from_utf8(input) else { return };
    let template = match Template::new(source) {
        Ok(template) => template,
        Err(error) => return crate::refusal::refused(&error),
    };
    let host = Host { strftime_now: &|format| Ok(format.to_string()), budget: BUDGET };
    match template.render(&VARIABLES, &host) {
        Ok(rendering) => check(&rendering),
        Err(error) => crate::refusal::refused(&error),
    }
}

fn check(rendering: &Rendering) {
    let text = rendering.text.as_str();
    assert!(text.len() as u64 <= BUDGET.bytes);
    let ranges = rendering.said.iter().chain(&rendering.written_for).map(|said| said.start..said.end);
    for range in ranges.chain(rendering.generations.iter().cloned()) {
        assert!(text.get(range.clone()).is_some(), "{range:?} is no part of {text:?}");
    }
    for said in [&rendering.said, &rendering.written_for] {
        assert!(said.windows(2).all(|pair| pair[0].end <= pair[1].start), "in order and apart: {said:?}");
    }
    assert!(rendering.pieces.is_sorted() && rendering.pieces.iter().all(|&piece| text.is_char_boundary(piece)));
}
