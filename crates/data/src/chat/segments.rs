//! A turn found by what the template wrote for whom: while a template's loop is at a message, all it writes is written for
//! that message, and texts remember which message's words they hold (`remat_jinja::Rendering`). Nothing here assumes that
//! a part of a conversation renders to a part of its text.
//!
//! For an assistant's message, with `segment` what was written for it:
//!
//! - *start*: what the model sees before it speaks is the generation prompt, which is what a template adds for
//!   `add_generation_prompt` to the messages before. Where the segment begins with it, the turn starts behind it. Where
//!   it begins with a part of it (the prompt begins a thought, a past turn has none), behind that part; never within the
//!   message's own words, nor within a tag.
//! - *end*: with the first special token of the segment behind the message's words, or the last one of a message that
//!   calls tools. An end of text right behind the segment counts: some templates write it after their loop.
//!
//! Two renderings per role that speaks before the assistant, however many turns there are.

use crate::chat::turn::{Turn, TurnEnd};
use crate::chat::{ChatTemplate, Conversation};
use remat_jinja::Rendering;
use std::collections::BTreeMap;
use std::ops::Range;

/// A rendering and where its messages are.
pub(crate) struct Segments<'a> {
    template: &'a ChatTemplate,
    conversation: &'a Conversation,
    rendering: &'a Rendering,
    /// What was written for each message: the stretches of the text between which others' are.
    segments: Vec<Vec<Range<usize>>>,
    /// The generation prompt behind each role.
    prompts: BTreeMap<String, Option<String>>,
}

impl<'a> Segments<'a> {
    pub(crate) fn new(template: &'a ChatTemplate, conversation: &'a Conversation, rendering: &'a Rendering) -> Self {
        let mut segments: Vec<Vec<Range<usize>>> = vec![Vec::new(); conversation.roles().len()];
        let mut last = None;
        for run in &rendering.written_for {
            let Some(known) = segments.get_mut(run.message as usize) else { continue };
            match known.last_mut().filter(|_| last == Some(run.message)) {
                Some(segment) => segment.end = run.end,
                None => known.push(run.start..run.end),
            }
            last = Some(run.message);
        }
        Segments { template, conversation, rendering, segments, prompts: BTreeMap::new() }
    }

    /// From the first to the last word of a message within a segment.
    fn words(&self, index: usize, segment: &Range<usize>) -> Option<Range<usize>> {
        let said = &self.rendering.said;
        let from = said.partition_point(|said| said.start < segment.start);
        let within = said[from..].iter().take_while(|said| said.end <= segment.end);
        let mut own = within.filter(|said| said.message as usize == index);
        let first = own.next()?;
        Some(first.start..own.last().map_or(first.end, |last| last.end))
    }

    /// The message that the text at a byte was written for.
    pub(crate) fn message_at(&self, at: usize) -> Option<usize> {
        let runs = &self.rendering.written_for;
        let run = runs.partition_point(|run| run.end <= at);
        runs.get(run).filter(|run| run.start <= at).map(|run| run.message as usize)
    }

    /// The turn of a message, in parts where others' words are within it, as the answers of the tools that it calls are in
    /// some templates; `None` if what was written for it is not known.
    pub(crate) fn turns(&mut self, index: usize) -> Option<Vec<Turn>> {
        let text = &self.rendering.text;
        let mut segments = self.segments[index].clone();
        segments.retain(|segment| !text[segment.clone()].trim().is_empty());
        let calls_tools = self.conversation.calls_tools(index);
        if segments.is_empty() || (segments.len() > 1 && !calls_tools) {
            return None;
        }
        let prompt = self.prompt_before(index)?;
        let turn = |segment: Range<usize>| {
            let words = self.words(index, &segment);
            let start = self.start(&segment, words.as_ref(), &prompt);
            let content_end = words.map_or(start, |words| words.end.max(start));
            let limit = self.limit(index, &segment);
            let otherwise = text[..segment.end].trim_end().len().max(content_end);
            let end = match calls_tools {
                true => TurnEnd::LastSpecial { from: content_end, limit, otherwise },
                false => TurnEnd::FirstSpecial { content_end, limit, through: segment.end, otherwise },
            };
            Turn { start, end }
        };
        Some(segments.into_iter().map(turn).collect())
    }

    fn start(&self, segment: &Range<usize>, words: Option<&Range<usize>>, prompt: &str) -> usize {
        let text = &self.rendering.text;
        let written = &text[segment.clone()];
        if written.starts_with(prompt) {
            return segment.start + prompt.len();
        }
        // Some templates write the prompt behind the message before.
        if text[..segment.start].ends_with(prompt) {
            return segment.start;
        }
        let shared = written.bytes().zip(prompt.bytes()).take_while(|(left, right)| left == right).count();
        let most = words.map_or(segment.end, |words| words.start.max(segment.start)) - segment.start;
        let mut shared = shared.min(most);
        while !written.is_char_boundary(shared) {
            shared -= 1;
        }
        // A word or tag that only begins alike is another one.
        let whole = written[..shared].rfind(['\n', ' ', '>', ']', '}', ':']);
        let behind = |at: usize| at + written[at..].chars().next().map_or(0, char::len_utf8);
        let shared = if shared == most { shared } else { whole.map_or(0, behind) };
        segment.start + shared
    }

    /// How far the token that ends a turn may be.
    fn limit(&self, index: usize, segment: &Range<usize>) -> usize {
        let text = &self.rendering.text;
        if index + 1 == self.conversation.roles().len() {
            return text.len();
        }
        let behind = &text[segment.end..];
        let white = behind.len() - behind.trim_start().len();
        match self.template.eos() {
            Some(eos) if !eos.is_empty() && behind[white..].starts_with(eos) => segment.end + white + 1,
            _ => segment.end,
        }
    }

    /// What the model sees last before it says a message: known by the role that speaks before.
    fn prompt_before(&mut self, index: usize) -> Option<String> {
        let role = index.checked_sub(1).map_or("", |before| self.conversation.roles()[before].as_str());
        if let Some(known) = self.prompts.get(role) {
            return known.clone();
        }
        let role = role.to_string();
        let prompt = self.generation_prompt(index);
        self.prompts.insert(role, prompt.clone());
        prompt
    }

    fn generation_prompt(&self, count: usize) -> Option<String> {
        let messages = &self.conversation.values()[..count];
        let render = |prompt| self.template.rendering(self.conversation, messages, prompt).ok();
        let (with, without) = (render(true)?, render(false)?);
        if let Some(prompt) = with.text.strip_prefix(&without.text) {
            return Some(prompt.to_string());
        }
        // The template writes something else where there is no prompt: the pieces that are not shared are the prompt.
        let shared = with.text.bytes().zip(without.text.bytes()).take_while(|(left, right)| left == right).count();
        let piece = with.pieces.iter().rev().find(|&&piece| piece <= shared).copied().unwrap_or(0);
        Some(with.text[piece..].to_string())
    }
}
