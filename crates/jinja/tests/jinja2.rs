//! Templates held to Jinja2: `fixtures/jinja` has what Python makes of them, one line for each kind of thing that templates
//! do. What Python refuses is refused here, in words of our own.

#![allow(missing_docs)]

use remat_jinja::{Budget, Host, Template, Value};
use serde_json::Value as Json;
use std::path::Path;

fn fixture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/jinja").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn today(format: &str) -> Result<String, String> {
    Ok(format.replace("%d", "26").replace("%b", "Jul").replace("%Y", "2024").replace("%m", "07"))
}

#[test]
fn templates_mean_what_they_mean_in_python() {
    let variables: Value = serde_json::from_str(&fixture("variables.json")).unwrap();
    let variables: Vec<(&str, Value)> = variables
        .as_dict()
        .unwrap()
        .entries()
        .iter()
        .map(|(name, value)| (name.as_str().unwrap(), value.clone()))
        .collect();
    let host = Host { strftime_now: &today, budget: Budget::for_data(0) };
    let (mut rendered, mut refused, mut wrong) = (0, 0, Vec::new());
    for line in fixture("cases.jsonl").lines() {
        let case: Json = serde_json::from_str(line).unwrap();
        let source = case["template"].as_str().unwrap();
        let ours = Template::new(source).and_then(|template| template.render(&variables, &host));
        match (ours, case["text"].as_str()) {
            (Ok(ours), Some(theirs)) if ours.text == theirs => rendered += 1,
            (Err(_), None) => refused += 1,
            (Ok(ours), Some(theirs)) => {
                let at = ours.text.chars().zip(theirs.chars()).take_while(|(left, right)| left == right).count();
                let near = |text: &str| text.chars().skip(at.saturating_sub(10)).take(60).collect::<String>();
                wrong.push(format!("{source}\n  ours   {:?}\n  theirs {:?}", near(&ours.text), near(theirs)));
            }
            (Ok(ours), None) => wrong.push(format!("{source}\n  ours   {:?}\n  theirs {}", ours.text, case["error"])),
            (Err(error), Some(theirs)) => wrong.push(format!("{source}\n  ours   {error}\n  theirs {theirs:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(rendered >= 75 && refused >= 40, "{rendered} rendered, {refused} refused");
}
