//! Contents that are lists of parts. Some templates loop over them, others would write the list as Python spells it, which
//! nobody means. So a template is asked once, with a probe. Invariant: a list reaches only a template that reads it.

use crate::chat::{ChatTemplate, Conversation};
use crate::row::probe_of_parts;

/// A word that no template has.
const PROBE: &str = "qzprobezq";

/// Whether a rendering of lists of one text part has the texts, and nothing of the lists around them; in a conversation with
/// a tool, which another template may render, or in one without. The tool is always the same, so that the answer does not
/// depend on which row is the first.
pub(crate) fn reads_parts(template: &ChatTemplate, with_tool: bool) -> bool {
    let render = |conversation: &Conversation| match with_tool {
        true => template.render(&conversation.clone().with_tool_of_probe(), false).ok(),
        false => template.render(conversation, false).ok(),
    };
    let as_plain = |roles: &[&str]| {
        let plain: Vec<(&str, &str)> = roles.iter().map(|&role| (role, PROBE)).collect();
        let plain = render(&Conversation::new(&plain))?;
        // White space aside: a loop over parts may trim otherwise than a plain text's branch.
        let words = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
        Some(render(&probe_of_parts(roles, PROBE)).map(words) == Some(words(plain)))
    };
    // A template may refuse a system prompt, which then says nothing of parts.
    as_plain(&["user", "assistant"]) == Some(true) && as_plain(&["system", "user", "assistant"]) != Some(false)
}
