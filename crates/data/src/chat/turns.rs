//! Which part of a rendering the assistant says. A template says nothing of it, so it is found by rendering again.
//!
//! For an assistant's message i of a conversation, with R(…) a rendering and `text` the rendering of all of it:
//!
//! - *start*: R(messages before i, with generation prompt) is what the model sees before it speaks. If `text` begins
//!   with it, the turn starts there. Some templates render the past otherwise than the present (Mistral's puts the
//!   system prompt before the newest question); then the turn starts where its content does.
//! - *content*: in a rendering with another word in place of the message's text, all before and all behind the content
//!   stays. So the common start and end of the two renderings are what is around it.
//! - *end*: the end-of-turn token is the first special token behind the content. R(messages up to i), if `text` begins
//!   with it, says how far it may be; else only white space may be between.
//!
//! Invariant: the spans are in order and apart; a turn that none of this finds is an error, never a guess.
//!
//! Two renderings per turn, three where the past changes: O(turns × length).

use crate::chat::{ChatTemplate, Conversation};

/// What a run trains on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TrainOn {
    /// Every token, prompts and other people's turns included.
    All,
    /// The assistant's turns, or the completion.
    #[default]
    Assistant,
    /// The assistant's last turn, or the completion.
    Last,
}

/// A trained turn within the rendered text, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Turn {
    /// Where the assistant begins to speak.
    pub(crate) start: usize,
    pub(crate) end: TurnEnd,
}

/// Where a turn ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TurnEnd {
    /// With the first special token that starts in `content_end..limit`; without one, at `otherwise`.
    FirstSpecial { content_end: usize, limit: usize, otherwise: usize },
    /// With the last special token before `limit`: the content itself may hold some, as tool calls do.
    LastSpecial { limit: usize },
    /// Here, whatever the tokens are.
    Here(usize),
}

/// The text of a conversation and its trained turns.
pub(crate) fn trained_turns(
    template: &ChatTemplate,
    conversation: &Conversation,
    train_on: TrainOn,
) -> Result<(String, Vec<Turn>), String> {
    let text = template.render(conversation, false)?;
    if train_on == TrainOn::All {
        let whole = Turn { start: 0, end: TurnEnd::Here(text.len()) };
        return Ok((text, vec![whole]));
    }
    let spoken = |&index: &usize| conversation.roles()[index] == "assistant";
    let mut indices: Vec<usize> = (0..conversation.roles().len()).filter(spoken).collect();
    if train_on == TrainOn::Last {
        indices.drain(..indices.len().saturating_sub(1));
    }
    let mut turns: Vec<Turn> = Vec::with_capacity(indices.len());
    for index in indices {
        let rendering = Rendering { template, conversation, text: &text };
        let turn = rendering.turn(index).map_err(|problem| {
            format!("message {} (assistant) {problem}; train on --train-on all, or change the template", index + 1)
        })?;
        if turns.last().is_some_and(|last| last.limit() > turn.start) {
            return Err(format!("messages are not rendered in order: message {} is before an earlier one", index + 1));
        }
        turns.push(turn);
    }
    Ok((text, turns))
}

/// Whether the text has every message that is not the assistant's, but for the white space around it. Some templates leave
/// out a system prompt in places, which the rows' author should know.
pub(crate) fn renders_all(text: &str, conversation: &Conversation) -> bool {
    let others = (0..conversation.roles().len()).filter(|&index| conversation.roles()[index] != "assistant");
    others.filter_map(|index| conversation.plain_text(index)).all(|content| text.contains(content.trim()))
}

impl Turn {
    /// The turn ends here or before.
    fn limit(&self) -> usize {
        match self.end {
            TurnEnd::FirstSpecial { content_end, .. } => content_end,
            TurnEnd::LastSpecial { limit } | TurnEnd::Here(limit) => limit,
        }
    }
}

/// One rendering that is being understood.
struct Rendering<'a> {
    template: &'a ChatTemplate,
    conversation: &'a Conversation,
    text: &'a str,
}

impl Rendering<'_> {
    fn turn(&self, index: usize) -> Result<Turn, String> {
        let start = self.rendered_before(index, true);
        let limit = match index + 1 == self.conversation.values().len() {
            true => Some(self.text.len()),
            false => self.rendered_before(index + 1, false),
        };
        let limit = limit.filter(|&limit| start.is_none_or(|start| start <= limit));
        let Some(content) = self.conversation.plain_text(index) else {
            // A message of tool calls or parts: only the template's own bounds say where it is.
            return match (start, limit) {
                (Some(start), Some(limit)) => Ok(Turn { start, end: TurnEnd::LastSpecial { limit } }),
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
                TurnEnd::FirstSpecial { content_end, limit, otherwise }
            }
            None => {
                let behind = &self.text[content_end..];
                let white = behind.len() - behind.trim_start().len();
                TurnEnd::FirstSpecial { content_end, limit: content_end + white + 1, otherwise: content_end }
            }
        };
        Ok(Turn { start, end })
    }

    /// The length of the rendering of the first `count` messages, if the whole text begins with it.
    fn rendered_before(&self, count: usize, add_generation_prompt: bool) -> Option<usize> {
        let messages = &self.conversation.values()[..count];
        // A template may refuse a part of a conversation (none before the first message, say). It is then not known.
        let part = self.template.render_messages(self.conversation, messages, add_generation_prompt).ok()?;
        self.text.starts_with(&part).then_some(part.len())
    }

    /// Where the content of a message stands in the text.
    fn content(&self, index: usize, content: &str) -> Result<(usize, usize), String> {
        let other = other_word(content);
        let messages = self.conversation.with_text(index, other);
        let changed = self.template.render_messages(self.conversation, &messages, false)?;
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
