//! Contents that are lists of parts. Some templates loop over them, others would write the list as Python spells it, which
//! nobody means. So a template is asked once, with a probe. Invariant: a list reaches only a template that reads it.

use crate::chat::{ChatTemplate, Conversation};
use crate::row::json_text::raw;
use crate::row::messages::Message;
use std::collections::BTreeMap;

/// A word that no template has.
const PROBE: &str = "qzprobezq";

impl ChatTemplate {
    /// Whether a conversation's template reads the texts out of a content that is a list of parts.
    pub(crate) fn takes_parts(&self, conversation: &Conversation) -> bool {
        let of_its_own = self.has_tool_use() && conversation.has_tools();
        *self.of(conversation).takes_parts.get_or_init(|| reads_parts(self, of_its_own))
    }
}

/// Whether a rendering of lists of one text part has the texts, and nothing of the lists around them; in a conversation with
/// a tool, which another template may render, or in one without. The tool is always the same, so that the answer does not
/// depend on which row is the first.
fn reads_parts(template: &ChatTemplate, with_tool: bool) -> bool {
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

/// A conversation of these roles, each with a content that is a list of one text part.
fn probe_of_parts(roles: &[&str], text: &str) -> Conversation {
    let message = |role: &&str| {
        let mut message = Message::plain(role, "");
        message.entries[1].1 = raw(&[BTreeMap::from([("text", text), ("type", "text")])]);
        message
    };
    let messages: Vec<Message> = roles.iter().map(message).collect();
    Conversation::of(&messages, Vec::new(), None).expect("made of plain values")
}
