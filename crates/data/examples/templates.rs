//! Holds the rendering of chat templates to Jinja2's, and the turns that are found to those that templates mark.
//!
//! ```text
//! python bench/templates/render.py FOLDER > cases.jsonl
//! cargo run --release -p remat-data --example templates -- cases.jsonl
//! ```
//!
//! Prints what differs, counted, and fails if a text does. A conversation whose turns cannot be told is counted with its
//! reason. Where a template has `{% generation %}`, the turns found without the marks are held to the marks.

use remat_data::{ChatTemplate, Conversation, Encoder, IGNORED_LABEL, Row, RowPlace, SpecialTokens};
use remat_data::{RowOptions, TokenSource, TokenSpan, TrainOn, read_rows_from};
use remat_jinja::Value;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

#[derive(Deserialize)]
struct Case<'a> {
    template: String,
    source: String,
    broken: Option<String>,
    #[serde(borrow)]
    conversation: Option<&'a RawValue>,
    #[serde(default)]
    prompt: bool,
    text: Option<String>,
    error: Option<String>,
}

#[derive(Deserialize)]
struct Named<'a> {
    name: String,
    #[serde(borrow)]
    messages: &'a RawValue,
    #[serde(borrow)]
    tools: Option<&'a RawValue>,
    kwargs: Option<Value>,
}

/// One token per character; what looks like a special token is one.
struct Characters;

impl TokenSource for Characters {
    fn encode(&self, text: &str, _: bool) -> Result<Vec<u32>, String> {
        Ok(self.encode_spans(text)?.into_iter().map(|span| span.id).collect())
    }

    fn encode_spans(&self, text: &str) -> Result<Vec<TokenSpan>, String> {
        let mut spans = Vec::new();
        let mut start = 0;
        while start < text.len() {
            let rest = &text[start..];
            let special = special_length(rest);
            let length = special.unwrap_or_else(|| rest.chars().next().map_or(1, char::len_utf8));
            spans.push(TokenSpan { id: 0, start, end: start + length, special: special.is_some() });
            start += length;
        }
        Ok(spans)
    }

    fn eos(&self) -> Option<u32> {
        None
    }
}

/// `<|word|>`, `<｜word｜>`, `<s>`, `</s>`, `[INST]` and the like.
fn special_length(text: &str) -> Option<usize> {
    let fixed = ["<s>", "</s>", "<start_of_turn>", "<end_of_turn>", "[INST]", "[/INST]", "[TOOL_CALLS]", "<eos>"];
    if let Some(token) = fixed.iter().find(|token| text.starts_with(**token)) {
        return Some(token.len());
    }
    for (open, close) in [("<|", "|>"), ("<｜", "｜>")] {
        if let Some(inner) = text.strip_prefix(open) {
            let end = inner.find(close).filter(|&end| end < 60 && !inner[..end].contains(char::is_whitespace))?;
            return Some(open.len() + end + close.len());
        }
    }
    None
}

#[derive(Default)]
struct Report {
    counts: BTreeMap<&'static str, usize>,
    reasons: BTreeMap<String, (usize, String)>,
}

impl Report {
    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn note(&mut self, what: &'static str, reason: String, example: &str) {
        self.count(what);
        let entry = self.reasons.entry(format!("{what}: {reason}")).or_insert_with(|| (0, example.to_string()));
        entry.0 += 1;
    }
}

fn main() -> ExitCode {
    let Some(path) = std::env::args().nth(1) else {
        eprintln!("give the file that bench/templates/render.py has written");
        return ExitCode::from(2);
    };
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => {
            eprintln!("{path}: {error}");
            return ExitCode::from(2);
        }
    };
    let mut report = Report::default();
    let mut templates: BTreeMap<String, Result<ChatTemplate, String>> = BTreeMap::new();
    for line in text.lines() {
        let case: Case<'_> = serde_json::from_str(line).expect("a case of render.py");
        let make = || ChatTemplate::new(&case.source, special());
        let template = templates.entry(case.template.clone()).or_insert_with(make);
        match (case.conversation, template) {
            (Some(json), Ok(template)) => compare(&mut report, &case, template, json),
            (_, Err(error)) if case.broken.is_none() => {
                report.note("refused", format!("{}: {error}", case.template), "");
            }
            _ => report.count("no template for either"),
        }
    }
    println!("{} templates: {:?}", templates.len(), report.counts);
    for (reason, (count, example)) in &report.reasons {
        println!("{count:5} {reason} [{example}]");
    }
    let fails = ["differs", "refused"].iter().any(|what| report.counts.contains_key(what));
    if fails { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn special() -> SpecialTokens {
    let token = |text: &str| Some(text.to_string());
    SpecialTokens { bos: token("<s>"), eos: token("</s>"), pad: token("<pad>") }
}

fn conversation(json: &RawValue) -> (String, Conversation) {
    let named: Named<'_> = serde_json::from_str(json.get()).expect("a conversation");
    let tools = named.tools.map_or(String::new(), |tools| format!(", \"tools\": {}", tools.get()));
    let row = format!("{{\"messages\": {}{tools}}}", named.messages.get());
    let mut read = None;
    let mut sink = |_, row| {
        read = Some(row);
        Ok(())
    };
    read_rows_from(&mut row.as_bytes(), Path::new("case"), &RowOptions::default(), &mut sink)
        .expect("rows that are conversations");
    let Some(Row::Conversation(conversation)) = read else { panic!("{row}") };
    let kwargs = named.kwargs.unwrap_or(Value::None);
    let entries = kwargs.as_dict().map(|dict| dict.entries().to_vec()).unwrap_or_default();
    let entries = entries.into_iter().map(|(key, value)| (key.as_str().unwrap_or_default().to_string(), value));
    (named.name, conversation.with_kwargs(entries.collect()))
}

fn compare(report: &mut Report, case: &Case<'_>, template: &ChatTemplate, json: &RawValue) {
    let (name, conversation) = conversation(json);
    let example = format!("{name}, generation prompt {}", case.prompt);
    let ours = template.render(&conversation, case.prompt);
    match (ours, &case.text) {
        (Ok(ours), Some(theirs)) if ours == *theirs => {
            report.count("same");
            if !case.prompt {
                turns(report, case, template, &name, &conversation);
            }
        }
        (Ok(ours), Some(theirs)) => {
            let at = ours.chars().zip(theirs.chars()).take_while(|(left, right)| left == right).count();
            let near = |text: &str| text.chars().skip(at.saturating_sub(20)).take(60).collect::<String>();
            let reason = format!("{}: {:?} for {:?}", case.template, near(&ours), near(theirs));
            report.note("differs", reason, &example);
        }
        (Err(error), Some(_)) => report.note("refused", format!("{}: {error}", case.template), &example),
        (Err(_), None) => report.count("refused by both"),
        (Ok(_), None) => {
            let theirs = case.error.clone().unwrap_or_default();
            report.note("accepted", format!("{}: {theirs}", case.template), &example);
        }
    }
}

/// The text with what is trained in brackets.
fn marked(template: &ChatTemplate, conversation: &Conversation) -> Result<String, String> {
    let text = template.render(conversation, false)?;
    let encoder = Encoder::new(Some(&Characters), 1).with_chat(template).with_train_on(TrainOn::Assistant);
    let row = Row::Conversation(conversation.clone());
    let sample = encoder.encode(&row, &RowPlace::new(Path::new("case"), 1)).map_err(|error| error.to_string())?;
    let mut out = String::new();
    let mut open = false;
    for (span, label) in Characters.encode_spans(&text)?.iter().zip(&sample.labels) {
        let trained = *label != IGNORED_LABEL;
        if trained != open {
            out.push(if trained { '⟦' } else { '⟧' });
            open = trained;
        }
        out.push_str(&text[span.start..span.end]);
    }
    out.push_str(if open { "⟧" } else { "" });
    Ok(out)
}

fn turns(report: &mut Report, case: &Case<'_>, template: &ChatTemplate, name: &str, conversation: &Conversation) {
    let found = match marked(template, conversation) {
        Ok(found) => found,
        Err(error) => return report.note("turns not told", format!("{}: {error}", case.template), name),
    };
    report.count("turns told");
    check_words(report, case, name, conversation, &found);
    if std::env::var_os("SHOW").is_some_and(|show| case.template.contains(&*show.to_string_lossy())) {
        println!("--- {} · {name}\n{found}", case.template);
    }
    if !case.source.contains("endgeneration") {
        return;
    }
    let unmarked = replace_tag(&replace_tag(&case.source, "endgeneration", "endif"), "generation", "if true");
    let unmarked = ChatTemplate::new(&unmarked, special()).and_then(|template| marked(&template, conversation));
    match unmarked {
        Ok(text) if text == found => report.count("turns as marked"),
        // Marks often hold the white space behind a turn's end, too.
        Ok(text) if !found.contains("⟦⟧") && text.replace("⟧\n", "\n⟧") == found.replace("⟧\n", "\n⟧") => {
            report.count("turns as marked but for white space");
        }
        Ok(text) => {
            let at = text.chars().zip(found.chars()).take_while(|(left, right)| left == right).count();
            let near = |text: &str| text.chars().skip(at.saturating_sub(20)).take(70).collect::<String>();
            let reason = format!("{}: {:?}, marked {:?}", case.template, near(&text), near(&found));
            report.note("turns not as marked", reason, name);
        }
        Err(error) => report.note("turns not told", format!("{} unmarked: {error}", case.template), name),
    }
}

/// The assistant's words are trained, and nobody else's.
fn check_words(report: &mut Report, case: &Case<'_>, name: &str, conversation: &Conversation, found: &str) {
    let (mut trained, mut other) = (String::new(), String::new());
    for (index, part) in found.split(['⟦', '⟧']).enumerate() {
        let of = if index % 2 == 1 { &mut trained } else { &mut other };
        of.push_str(part);
        of.push('\u{0}');
    }
    for (role, content) in conversation.plain_contents() {
        let content = content.rsplit("</think>").next().unwrap_or_default().trim();
        // One letter is found anywhere.
        if content.chars().count() < 4 {
            continue;
        }
        match role == "assistant" {
            true if !trained.contains(content) && other.contains(content) => {
                report.note("own words not trained", format!("{}: {found:?}", case.template), name);
            }
            false if trained.contains(content) => {
                report.note("others' words trained", format!("{}: {found:?}", case.template), name);
            }
            _ => {}
        }
    }
}

/// Replaces the word of `{% word %}` tags.
fn replace_tag(source: &str, word: &str, by: &str) -> String {
    let mut out = String::new();
    let mut rest = source;
    while let Some(at) = rest.find("{%") {
        let inner = &rest[at + 2..];
        let name = inner.trim_start_matches(['-', '+']).trim_start();
        let before = at + 2 + (inner.len() - name.len());
        out.push_str(&rest[..before]);
        rest = match name.strip_prefix(word) {
            Some(after) if after.starts_with([' ', '-', '%', '+']) => {
                out.push_str(by);
                after
            }
            _ => name,
        };
    }
    out + rest
}
