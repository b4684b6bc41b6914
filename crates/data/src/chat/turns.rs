//! Which part of a rendering the assistant says: where each of its turns starts and ends.
//!
//! - A template that marks it with `{% generation %}`, as those made for training do, is believed.
//! - Else a turn is found by what the template wrote while its loop was at the message (`segments`).
//! - Where a template has no such loop, by rendering again with less or other text (`changes`).
//!
//! Invariant: the spans are in order and apart; a turn that none of this finds is an error, never a guess.

use crate::chat::changes::Changes;
use crate::chat::segments::Segments;
use crate::chat::turn::{Turn, TurnEnd};
use crate::chat::{ChatTemplate, Conversation};
use remat_formats::SettingName;
use remat_jinja::Rendering;

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

/// The text of a conversation and its trained turns.
pub(crate) fn trained_turns(
    template: &ChatTemplate,
    conversation: &Conversation,
    train_on: TrainOn,
) -> Result<(String, Vec<Turn>), String> {
    let rendering = template.rendering(conversation, conversation.values(), false)?;
    if train_on == TrainOn::All {
        let whole = Turn { start: 0, end: TurnEnd::Here(rendering.text.len()) };
        return Ok((rendering.text, vec![whole]));
    }
    let mut indices = assistants_turns(conversation);
    if train_on == TrainOn::Last {
        indices.drain(..indices.len().saturating_sub(1));
    }
    indices.retain(|&index| conversation.is_trained(index));
    let turns = turns_of(template, conversation, &rendering, &indices)?;
    Ok((rendering.text, turns))
}

/// The turns of the assistant that the row says are not to be trained on.
pub(crate) fn untrained_turns(template: &ChatTemplate, conversation: &Conversation) -> Result<Vec<Turn>, String> {
    let mut indices = assistants_turns(conversation);
    indices.retain(|&index| !conversation.is_trained(index));
    if indices.is_empty() {
        return Ok(Vec::new());
    }
    let rendering = template.rendering(conversation, conversation.values(), false)?;
    turns_of(template, conversation, &rendering, &indices)
}

/// The messages that the assistant says.
fn assistants_turns(conversation: &Conversation) -> Vec<usize> {
    (0..conversation.roles().len()).filter(|&index| conversation.roles()[index] == "assistant").collect()
}

/// Where these messages' turns are in a rendering.
fn turns_of(
    template: &ChatTemplate,
    conversation: &Conversation,
    rendering: &Rendering,
    indices: &[usize],
) -> Result<Vec<Turn>, String> {
    let mut segments = Segments::new(template, conversation, rendering);
    if let Some(marked) = marked_turns(rendering, &segments, conversation, indices) {
        return Ok(marked);
    }
    let changes = Changes { template, conversation, text: &rendering.text };
    let mut turns: Vec<Turn> = Vec::with_capacity(indices.len());
    for &index in indices {
        let found = segments.turns(index).map_or_else(|| changes.turn(index).map(|turn| vec![turn]), Ok);
        let found = found.map_err(|problem| {
            let train_on = SettingName("train-on");
            format!("message {} (assistant) {problem}; train with {train_on} all, or change the template", index + 1)
        })?;
        if turns.last().zip(found.first()).is_some_and(|(last, first)| last.limit() > first.start) {
            return Err(format!("messages are not rendered in order: message {} is before an earlier one", index + 1));
        }
        turns.extend(found);
    }
    Ok(turns)
}

/// The turns that the template marks; `None` if it marks none, or somewhere unknown. A mark belongs to the message that
/// it was written for; where that is not known, the marks are those of all the assistant's messages in order.
fn marked_turns(
    rendering: &Rendering,
    segments: &Segments<'_>,
    conversation: &Conversation,
    indices: &[usize],
) -> Option<Vec<Turn>> {
    let marks = &rendering.generations;
    if marks.is_empty() || rendering.generation_captured {
        return None;
    }
    let all = assistants_turns(conversation);
    let owners: Option<Vec<usize>> = marks.iter().map(|mark| segments.message_at(mark.start)).collect();
    let owners = owners.or_else(|| (all.len() == marks.len()).then(|| all.clone()))?;
    let wanted = marks.iter().zip(&owners).filter(|(mark, owner)| indices.contains(owner) && !mark.is_empty());
    Some(wanted.map(|(mark, _)| Turn { start: mark.start, end: TurnEnd::Here(mark.end) }).collect())
}

/// Whether the text has every message that is not the assistant's, but for the white space around it. Some templates leave
/// out a system prompt in places, which the rows' author should know.
pub(crate) fn renders_all(text: &str, conversation: &Conversation) -> bool {
    let others = (0..conversation.roles().len()).filter(|&index| conversation.roles()[index] != "assistant");
    // Messages mostly come in order, so the text is searched once and not once per message.
    let mut behind = 0;
    others.filter_map(|index| conversation.plain_text(index)).all(|content| {
        let content = content.trim();
        match text[behind..].find(content) {
            Some(at) => behind += at + content.len(),
            None => return text.contains(content),
        }
        true
    })
}
