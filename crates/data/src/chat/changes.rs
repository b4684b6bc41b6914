//! A turn found by rendering again, for templates that do not loop over messages in a way that can be followed.
//!
//! For an assistant's message i of a conversation, with R(…) a rendering and `text` the rendering of all of it:
//!
//! - *start*: R(messages before i, with generation prompt) is what the model sees before it speaks. If `text` begins
//!   with it, the turn starts there. Some templates render the past otherwise than the present; then the turn starts
//!   where its content does.
//! - *content*: in a rendering with another word in place of the message's text, all before and all behind the content
//!   stays. So the common start and end of the two renderings are what is around it.
//! - *end*: the end-of-turn token is the first special token behind the content. R(messages up to i), if `text` begins
//!   with it, says how far it may be; else only white space may be between.
//!
//! Two renderings per turn, three where the past changes: O(turns × length). Look next at `segments`, which is linear.

use crate::chat::turn::{Turn, TurnEnd};
use crate::chat::{ChatTemplate, Conversation};

/// One rendering that is being understood.
pub(crate) struct Changes<'a> {
    pub(crate) template: &'a ChatTemplate,
    pub(crate) conversation: &'a Conversation,
    pub(crate) text: &'a str,
}

impl Changes<'_> {
    /// The turn of a message, or why there is none.
    pub(crate) fn turn(&self, index: usize) -> Result<Turn, String> {
        let start = self.rendered_before(index, true);
        let limit = match index + 1 == self.conversation.values().len() {
            true => Some(self.text.len()),
            false => self.rendered_before(index + 1, false),
        };
        let limit = limit.filter(|&limit| start.is_none_or(|start| start <= limit));
        let Some(content) = self.conversation.plain_text(index) else {
            // A message of tool calls or parts: only the template's own bounds say where it is.
            return match (start, limit) {
                (Some(start), Some(limit)) => {
                    let otherwise = self.text[..limit].trim_end().len().max(start);
                    Ok(Turn { start, end: TurnEnd::LastSpecial { from: start, limit, otherwise } })
                }
                _ => Err("has no plain text, and the template renders it otherwise once others follow".to_string()),
            };
        };
        let (content_start, content_end) = self.content(index, &content)?;
        // A space before the content is part of its first token.
        let content_start = self.text[..content_start].trim_end_matches(' ').len();
        let start = start.filter(|&start| start <= content_end).unwrap_or(content_start);
        let end = match limit.filter(|&limit| limit >= content_end) {
            Some(limit) => {
                let otherwise = self.text[..limit].trim_end().len().max(content_end);
                TurnEnd::FirstSpecial { content_end, limit, through: content_end, otherwise }
            }
            None => {
                let behind = &self.text[content_end..];
                let white = behind.len() - behind.trim_start().len();
                {
                    let limit = content_end + white + 1;
                    TurnEnd::FirstSpecial { content_end, limit, through: content_end, otherwise: content_end }
                }
            }
        };
        Ok(Turn { start, end })
    }

    /// The length of the rendering of the first `count` messages, if the whole text begins with it.
    fn rendered_before(&self, count: usize, add_generation_prompt: bool) -> Option<usize> {
        let messages = &self.conversation.values()[..count];
        // A template may refuse a part of a conversation (none before the first message, say). It is then not known.
        let part = self.template.rendering(self.conversation, messages, add_generation_prompt).ok()?.text;
        self.text.starts_with(&part).then_some(part.len())
    }

    /// Where the content of a message stands in the text.
    fn content(&self, index: usize, content: &str) -> Result<(usize, usize), String> {
        let other = other_word(content);
        let messages = self.conversation.with_text(index, other);
        let changed = self.template.rendering(self.conversation, &messages, false)?.text;
        if changed == self.text {
            return Err("is left out by the chat template".to_string());
        }
        let (text, changed) = (self.text.as_bytes(), changed.as_bytes());
        let mut start = text.iter().zip(changed).take_while(|(left, right)| left == right).count();
        let most = text.len().min(changed.len()) - start;
        let backwards = text.iter().rev().zip(changed.iter().rev()).take(most);
        let mut end = text.len() - backwards.take_while(|(left, right)| left == right).count();
        while !self.text.is_char_boundary(start) {
            start -= 1;
        }
        while !self.text.is_char_boundary(end) {
            end += 1;
        }
        Ok((start, end))
    }
}

/// A word that neither begins nor ends as the content does, whatever white space the template cuts off.
fn other_word(content: &str) -> &'static str {
    let trimmed = content.trim();
    let first_and_last = [trimmed.chars().next(), trimmed.chars().next_back()];
    let differs = |word: &&str| !first_and_last.iter().flatten().any(|c| c.to_lowercase().any(|c| word.starts_with(c)));
    ["x", "y", "z"].into_iter().find(differs).unwrap_or("x")
}
