//! Where the assistant's turns are found: templates that render the past otherwise than the present, calls of tools,
//! thoughts, marks, and very many turns.

use crate::chat::{TWO_TURNS, conversation, marked, row, template, two_turns};
use remat_data::{ChatTemplate, Conversation, Row, SpecialTokens, TrainOn};

fn made(source: &str) -> ChatTemplate {
    let token = |text: &str| Some(text.to_string());
    ChatTemplate::new(source, SpecialTokens { bos: token("<s>"), eos: token("</s>"), pad: None }).unwrap()
}

fn trained(template: &ChatTemplate, json: &str) -> Vec<String> {
    let (text, terminated) = marked(template, &row(&json.replace('\n', " ")), TrainOn::Assistant).unwrap();
    assert!(terminated, "{text}");
    text.split('⟦').skip(1).map(|part| part.split_once('⟧').unwrap().0.to_string()).collect()
}

const CALL: &str = r#"{"messages": [{"role": "user", "content": "Weather?"},
    {"role": "assistant", "content": "", "reasoning_content": "Look it up.",
     "tool_calls": [{"type": "function", "function": {"name": "w", "arguments": {"city": "Z"}}}]},
    {"role": "tool", "content": "sunny"},
    {"role": "assistant", "content": "Sunny."}, {"role": "user", "content": "Thanks"},
    {"role": "assistant", "content": "Bye", "reasoning_content": "Polite."}]}"#;

/// Renders thoughts and calls of a turn only where no question follows, so no prefix of this renders to a prefix.
#[test]
fn turns_are_found_where_the_past_is_rendered_otherwise() {
    assert_eq!(
        trained(&template("qwen3"), CALL),
        [
            "<tool_call>\n{\"name\": \"w\", \"arguments\": {\"city\": \"Z\"}}\n</tool_call><|im_end|>",
            "Sunny.<|im_end|>",
            "<think>\nPolite.\n</think>\n\nBye<|im_end|>",
        ]
    );
    // The prompt begins a thought, which only the last turn goes on with.
    let begun = made(
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.reasoning_content and loop.last %}<think>\n\
         {{ m.reasoning_content }}</think>{% endif %}{{ m.content }}{% for c in m.tool_calls %}[{{ c.function.name }}]\
         {% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}",
    );
    assert_eq!(trained(&begun, CALL), ["[w]<|im_end|>", "Sunny.<|im_end|>", "Polite.</think>Bye<|im_end|>"]);
    // Loops over numbers, and over what is left of the messages.
    let counted = made(
        "{% for i in range(messages|length) %}{% set m = messages[i] %}{% set before = messages[i - 1] %}\
         <|im_start|>{{ m.role }}\n{{ m.content or m.tool_calls[0].function.name }}<|im_end|>\n{% endfor %}\
         {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    );
    assert_eq!(trained(&counted, CALL), ["w<|im_end|>", "Sunny.<|im_end|>", "Bye<|im_end|>"]);
    let rest = made(
        "{% set rest = messages[1:] %}[INST]{{ messages[0].content }}[/INST]{% for m in rest %}\
         {% if m.role == 'assistant' %}{{ m.content or m.tool_calls[0].function.name }}</s>{% else %}[INST]{{ m.content }}[/INST]{% endif %}{% endfor %}",
    );
    assert_eq!(trained(&rest, CALL), ["w</s>", "Sunny.</s>", "Bye</s>"]);
    let backwards = made("{% for m in messages[1:][::-1] %}{{ m.role }}: {{ m.content }}</s>\n{% endfor %}");
    let error = marked(&backwards, &two_turns(), TrainOn::Assistant).unwrap_err();
    assert!(error.contains("messages are not rendered in order"), "{error}");
}

/// Some templates write the answers of tools within the turn that calls them.
#[test]
fn a_turn_that_others_words_are_within_is_trained_in_parts() {
    let within = made(
        "{% for m in messages %}{% if m.role != 'tool' %}<|im_start|>{{ m.role }}\n{% for c in m.tool_calls %}\
         [{{ c.function.name }}]<|end|>{% for t in messages %}{% if t.role == 'tool' %}({{ t.content }}){% endif %}{% endfor %}\
         {% endfor %}{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    );
    assert_eq!(trained(&within, CALL), ["[w]<|end|>", "<|im_end|>", "Sunny.<|im_end|>", "Bye<|im_end|>"]);
}

#[test]
fn what_a_template_marks_as_generated_is_trained() {
    let source = "{% for m in messages %}{{ m.role }}: {% if m.role == 'assistant' %}{% generation %}{{ m.content }}!\
                  {% endgeneration %}{% else %}{{ m.content }}{% endif %}</s>{% endfor %}\
                  {% if add_generation_prompt %}assistant: {% endif %}";
    assert_eq!(trained(&made(source), TWO_TURNS), ["one!", "one!"]);
    let (text, _) = marked(&made(source), &two_turns(), TrainOn::Last).unwrap();
    assert!(text.matches('⟦').count() == 1 && text.ends_with("⟦one!⟧</s>"), "{text}");
    // Marks in a text that is captured have no place in the whole; the turns are found without them.
    let captured = format!("{{% set all %}}{source}{{% endset %}}{{{{ all }}}}");
    let text = marked(&made(&captured), &two_turns(), TrainOn::Last).unwrap().0;
    assert!(text.ends_with("⟦one!</s>⟧"), "{text}");
}

#[test]
fn the_template_for_tools_is_used_for_rows_with_tools() {
    let both =
        made("{{ messages[0].content }}").with_tool_use("{{ tools[0].name }}: {{ messages[0].content }}").unwrap();
    let with = |tools: &str| conversation(&format!(r#"{{"messages": [{{"role": "user", "content": "q"}}]{tools}}}"#));
    assert_eq!(both.render(&with(r#", "tools": [{"name": "w"}]"#), false).unwrap(), "w: q");
    assert_eq!(both.render(&with(r#", "tools": []"#), false).unwrap(), "q");
    assert_eq!(both.render(&with(""), false).unwrap(), "q");
}

#[test]
fn many_turns_take_time_in_proportion() {
    let messages: Vec<(&str, &str)> =
        (0..20_000).flat_map(|_| [("user", "question"), ("assistant", "answer")]).collect();
    let row = Row::Conversation(Conversation::new(&messages));
    // Two renderings of what comes before the first turn, and one of all: turn by turn this would take hours.
    let (text, terminated) = marked(&template("chatml"), &row, TrainOn::Assistant).unwrap();
    assert!(terminated);
    assert_eq!(text.matches("⟦answer<|im_end|>⟧").count(), 20_000);
}
