//! A row becomes a sample: token ids and one label per token. Invariants: labels are unshifted, as Hugging Face has
//! them; every id and every label but -100 is within the model's vocabulary, so nothing later has to check.
//!
//! | row | ids | labels |
//! |---|---|---|
//! | text | the tokenizer's, special tokens included, then EOS | all ids |
//! | prompt, completion | those of both as one text, special tokens included, then EOS | -100 on the prompt |
//! | conversation | the chat template's rendering, which holds its special tokens | -100 but on the assistant's turns |
//! | instruction | as a conversation; without a chat template as prompt and completion | -100 on the task |
//! | tokens | as given | as given, or all ids |
//!
//! A completion begins where the ids of the whole leave those of the prompt alone, as in TRL: a token that both share
//! is trained on. A text that begins with the token that the tokenizer would put before it gets no second one.
//!
//! A conversation is tokenised in one piece, as the model will read it; a turn's span of text then says which tokens
//! are trained on. A token that begins before the turn is not.

use crate::chat::{ChatTemplate, Conversation, TrainOn, Turn, TurnEnd, renders_all, trained_turns, untrained_turns};
use crate::error::RowPlace;
use crate::{DataError, IGNORED_LABEL, ModelTokens, Row, RowKind, TokenSource, TokenSpan};
use std::cell::Cell;

/// One sample, at its full length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Token ids, each below the model's vocabulary size.
    pub ids: Vec<u32>,
    /// One label per token, unshifted; -100 where the token is not trained on.
    pub labels: Vec<i32>,
    /// False if the row's text should end in EOS, but the tokenizer knows none; or if a trained turn of a conversation
    /// ends without a special token, so that the model would not learn to stop.
    pub terminated: bool,
    /// False if the chat template leaves out a message that somebody else than the assistant says.
    pub complete: bool,
    /// Tokens behind these that were counted only, because the encoder's limit is reached.
    pub beyond: usize,
}

/// Turns rows into samples.
#[derive(Clone)]
pub struct Encoder<'a> {
    tokens: Option<&'a dyn TokenSource>,
    chat: Result<&'a ChatTemplate, &'a str>,
    train_on: TrainOn,
    last_id: u32,
    limit: usize,
}

impl<'a> Encoder<'a> {
    /// An encoder for a model with `vocab_size` embeddings. Without a tokenizer only tokens rows can be encoded.
    ///
    /// Panics if `vocab_size` is 0: no model has an empty vocabulary.
    pub fn new(tokens: Option<&'a dyn TokenSource>, vocab_size: usize) -> Self {
        assert!(vocab_size > 0, "Encoder: the vocabulary is empty");
        // Batches hold ids as i32.
        let last_id = (vocab_size - 1).min(i32::MAX as usize) as u32;
        Encoder { tokens, chat: Err("none was given"), train_on: TrainOn::Assistant, last_id, limit: usize::MAX }
    }

    /// An encoder with a model's own tokenizer, if it has one, and chat template.
    ///
    /// Panics if `vocab_size` is 0.
    pub fn for_model(tokens: Option<&'a ModelTokens>, vocab_size: usize) -> Self {
        let encoder = Encoder::new(tokens.map(|tokens| tokens as &dyn TokenSource), vocab_size);
        Encoder { chat: tokens.map_or(encoder.chat, ModelTokens::chat), ..encoder }
    }

    /// With a chat template, for conversations.
    pub fn with_chat(self, chat: &'a ChatTemplate) -> Self {
        Encoder { chat: Ok(chat), ..self }
    }

    /// With what is trained on; the assistant's turns and completions if nothing is said. Rows of text are trained on
    /// whole, rows of tokens as their labels say.
    pub fn with_train_on(self, train_on: TrainOn) -> Self {
        Encoder { train_on, ..self }
    }

    /// With a number of tokens that a sample of plain text is cut to, which saves holding the rest.
    #[must_use]
    pub fn with_limit(self, limit: usize) -> Self {
        Encoder { limit, ..self }
    }

    /// Encodes one row; `place` is for messages.
    pub fn encode(&self, row: &Row, place: &RowPlace) -> Result<Sample, DataError> {
        match row {
            Row::Text { text } | Row::Document { text } => self.text_sample(text, place),
            Row::PromptCompletion { prompt, completion } => {
                self.completion_sample(RowKind::PromptCompletion, prompt, completion, place)
            }
            Row::Conversation(conversation) => self.conversation_sample(conversation, place),
            Row::Instruction { instruction, input, output, conversation, needs_conversation } => {
                if self.chat.is_ok() {
                    return self.conversation_sample(conversation, place);
                }
                if let Some(key) = needs_conversation {
                    return Err(DataError::NeedsChatTemplate { place: place.clone(), key });
                }
                let prompt = without_template(instruction, input);
                self.completion_sample(RowKind::Instruction, &prompt, output, place)
            }
            Row::Tokens { input_ids, labels } => self.token_sample(input_ids, labels.as_deref(), place),
        }
    }

    fn text_sample(&self, text: &str, place: &RowPlace) -> Result<Sample, DataError> {
        let tokens = self.tokenizer(RowKind::Text, place)?;
        let (mut ids, mut count) = (Vec::new(), 0_usize);
        let (mut before_last, mut last, mut foreign) = (None, None, None);
        let mut keep = |id: u32| {
            if ids.len() < self.limit {
                ids.push(id);
            }
            count += 1;
            (before_last, last) = (last, Some(id));
            foreign = foreign.or((id > self.last_id).then_some(id));
        };
        let refused = |reason| DataError::Tokenizer { place: place.clone(), key: "text", reason };
        tokens.each_id(text, true, &mut keep).map_err(refused)?;
        // What a text has twice at its ends may be the tokenizer's own and the text's.
        if matches!(ids[..], [first, second, ..] if first == second) || (count > 1 && before_last == last) {
            ids = self.ids(tokens, "text", text, true, place)?;
            (count, last) = (ids.len(), ids.last().copied());
            ids.truncate(self.limit);
        }
        let eos = tokens.eos();
        if let Some(eos) = eos.filter(|_| last != eos) {
            if ids.len() < self.limit {
                ids.push(eos);
            }
            count += 1;
            foreign = foreign.or((eos > self.last_id).then_some(eos));
        }
        self.check_ids(foreign.as_slice(), place)?;
        let labels = ids.iter().map(|&id| id as i32).collect();
        let beyond = count - ids.len();
        Ok(Sample { ids, labels, terminated: eos.is_some(), complete: true, beyond })
    }

    /// Encodes a text that is divided rather than cut: gives its ids `size` at a time, and returns whether it ends in EOS.
    pub(crate) fn divided(
        &self,
        text: &str,
        size: usize,
        place: &RowPlace,
        give: &mut dyn FnMut(&[u32]) -> Result<(), DataError>,
    ) -> Result<bool, DataError> {
        let tokens = self.tokenizer(RowKind::Text, place)?;
        let refused = |reason| DataError::Tokenizer { place: place.clone(), key: "text", reason };
        let start = tokens.encode(&text[..text.floor_char_boundary(64)], false).map_err(refused)?;
        let last = Cell::new(None);
        let (mut part, mut count, mut result) = (Vec::with_capacity(size), 0_usize, Ok(()));
        let mut keep = |id: u32| {
            let second_opening =
                count == 1 && last.get() == Some(id) && start.first() == Some(&id) && start.get(1) != Some(&id);
            count += 1;
            if result.is_err() || second_opening {
                return;
            }
            last.set(Some(id));
            part.push(id);
            if part.len() == size {
                result = self.check_ids(&part, place).and_then(|()| give(&part));
                part.clear();
            }
        };
        tokens.each_id(text, true, &mut keep).map_err(refused)?;
        let eos = tokens.eos();
        if let Some(eos) = eos.filter(|_| last.get() != eos) {
            keep(eos);
        }
        result?;
        self.check_ids(&part, place)?;
        give(&part)?;
        Ok(eos.is_some())
    }

    fn conversation_sample(&self, conversation: &Conversation, place: &RowPlace) -> Result<Sample, DataError> {
        let tokens = self.tokenizer(RowKind::Messages, place)?;
        let chat = self.chat.map_err(|reason| {
            let (place, kind, reason) = (place.clone(), RowKind::Messages, reason.to_string());
            DataError::NoChatTemplate { place, kind, reason }
        })?;
        self.check_template_reads(chat, conversation, place)?;
        let joined = if chat.takes_parts(conversation) { None } else { conversation.with_parts_joined() };
        let conversation = joined.as_ref().unwrap_or(conversation);
        let cannot = |reason| DataError::Rendering { place: place.clone(), reason };
        let (text, turns) = trained_turns(chat, conversation, self.train_on).map_err(cannot)?;
        let excluded = match self.train_on {
            TrainOn::All => untrained_turns(chat, conversation).map_err(cannot)?,
            TrainOn::Assistant | TrainOn::Last => Vec::new(),
        };
        let refused = |reason| DataError::Tokenizer { place: place.clone(), key: "messages", reason };
        let spans = tokens.encode_spans(&text).map_err(refused)?;
        let ids: Vec<u32> = spans.iter().map(|span| span.id).collect();
        self.check_ids(&ids, place)?;
        let mut labels = vec![IGNORED_LABEL; ids.len()];
        let mut terminated = true;
        for turn in &turns {
            terminated &= label_turn(turn, &spans, &mut labels);
        }
        if !excluded.is_empty() {
            let mut of_turns = vec![IGNORED_LABEL; labels.len()];
            for turn in &excluded {
                label_turn(turn, &spans, &mut of_turns);
            }
            let within = labels.iter_mut().zip(&of_turns).filter(|(_, of_turn)| **of_turn != IGNORED_LABEL);
            within.for_each(|(label, _)| *label = IGNORED_LABEL);
        }
        let tools_lost = conversation.has_tools() && !chat.mentions(conversation, "tools");
        let complete = renders_all(&text, conversation) && !tools_lost;
        Ok(Sample { ids, labels, terminated, complete, beyond: 0 })
    }

    /// Refuses what a template would pass over although it is to be learnt.
    fn check_template_reads(
        &self,
        chat: &ChatTemplate,
        conversation: &Conversation,
        place: &RowPlace,
    ) -> Result<(), DataError> {
        if let Some(unusual) = conversation.unusual().iter().find(|unusual| !chat.mentions(conversation, &unusual.word))
        {
            let (place, key, word) = (place.clone(), unusual.place.clone(), unusual.word.clone());
            return Err(DataError::NotInTemplate { place, key, word });
        }
        if conversation.has("tool_calls") && !chat.mentions(conversation, "tool_calls") {
            return Err(DataError::CallsNotInTemplate { place: place.clone() });
        }
        Ok(())
    }

    fn completion_sample(
        &self,
        kind: RowKind,
        prompt: &str,
        completion: &str,
        place: &RowPlace,
    ) -> Result<Sample, DataError> {
        let tokens = self.tokenizer(kind, place)?;
        let prompt_ids = self.prompt_ids(tokens, prompt, place)?;
        let mut ids = self.ids(tokens, "completion", &[prompt, completion].concat(), true, place)?;
        let shared = ids.iter().zip(&prompt_ids).take_while(|(id, prompt_id)| id == prompt_id).count();
        let terminated = terminate(&mut ids, shared, tokens.eos());
        self.check_ids(&ids, place)?;
        let trained_from = if self.train_on == TrainOn::All { 0 } else { shared };
        let mut labels = vec![IGNORED_LABEL; trained_from];
        labels.extend(ids[trained_from..].iter().map(|&id| id as i32));
        Ok(Sample { ids, labels, terminated, complete: true, beyond: 0 })
    }

    /// The prompt with the tokens that the tokenizer puts around a text, but not with an end of text that some
    /// tokenizers put behind it: the completion goes on from here.
    fn prompt_ids(&self, tokens: &dyn TokenSource, prompt: &str, place: &RowPlace) -> Result<Vec<u32>, DataError> {
        let mut ids = self.ids(tokens, "prompt", prompt, true, place)?;
        if ids.last().is_some() && ids.last().copied() == tokens.eos() {
            let plain = self.ids(tokens, "prompt", prompt, false, place)?;
            let closed_by_tokenizer = ids.len() > plain.len() && plain.last() != ids.last();
            // An empty prompt's only special token may be one id that is both BOS and EOS, as GPT-2's is.
            if closed_by_tokenizer && ids.len() > 1 {
                ids.pop();
            }
        }
        Ok(ids)
    }

    fn token_sample(&self, input_ids: &[i64], labels: Option<&[i64]>, place: &RowPlace) -> Result<Sample, DataError> {
        if let Some(labels) = labels
            && labels.len() != input_ids.len()
        {
            return Err(DataError::LabelCount { place: place.clone(), ids: input_ids.len(), labels: labels.len() });
        }
        let last = self.last_id as usize;
        let in_vocabulary = |number: i64| (0..=i64::from(self.last_id)).contains(&number);
        if let Some(index) = input_ids.iter().position(|&id| !in_vocabulary(id)) {
            return Err(DataError::TokenOutOfVocabulary { place: place.clone(), index, id: input_ids[index], last });
        }
        let labels = labels.unwrap_or(input_ids);
        let is_label = |label: i64| label == i64::from(IGNORED_LABEL) || in_vocabulary(label);
        if let Some(index) = labels.iter().position(|&label| !is_label(label)) {
            let label = labels[index];
            return Err(DataError::LabelOutOfVocabulary { place: place.clone(), index, label, last });
        }
        let ids = input_ids.iter().map(|&id| id as u32).collect();
        let labels = labels.iter().map(|&label| label as i32).collect();
        Ok(Sample { ids, labels, terminated: true, complete: true, beyond: 0 })
    }

    fn tokenizer(&self, kind: RowKind, place: &RowPlace) -> Result<&'a dyn TokenSource, DataError> {
        self.tokens.ok_or_else(|| DataError::NoTokenizer { place: place.clone(), kind })
    }

    /// The ids of a text. A text that itself begins with what the tokenizer puts before texts, as one that was rendered
    /// by a chat template does, gets no second of it.
    fn ids(
        &self,
        tokens: &dyn TokenSource,
        key: &'static str,
        text: &str,
        add_special: bool,
        place: &RowPlace,
    ) -> Result<Vec<u32>, DataError> {
        let refused = |reason| DataError::Tokenizer { place: place.clone(), key, reason };
        let mut ids = tokens.encode(text, add_special).map_err(refused)?;
        let opened = matches!(ids[..], [first, second, ..] if first == second);
        let closed = matches!(ids[..], [.., before, last] if before == last);
        if add_special && (opened || closed) {
            let plain = tokens.encode(text, false).map_err(refused)?;
            let added = ids.len().saturating_sub(plain.len());
            let before = (0..=added).find(|&at| ids[at..].starts_with(&plain));
            let Some(before) = before.filter(|_| !plain.is_empty()) else { return Ok(ids) };
            if closed && added - before == 1 {
                ids.pop();
            }
            if opened && before == 1 {
                ids.remove(0);
            }
        }
        Ok(ids)
    }

    fn check_ids(&self, ids: &[u32], place: &RowPlace) -> Result<(), DataError> {
        match ids.iter().find(|&&id| id > self.last_id) {
            Some(&id) => {
                let last = self.last_id as usize;
                Err(DataError::TokenizerOutOfVocabulary { place: place.clone(), id, last })
            }
            None => Ok(()),
        }
    }
}

/// A task where there is no chat template: under the headings that Alpaca's data is commonly rendered with.
fn without_template(instruction: &str, input: &str) -> String {
    // A task that is all in the input has nothing to be put before it.
    let (instruction, input) = if instruction.is_empty() { (input, "") } else { (instruction, input) };
    let input = if input.is_empty() { String::new() } else { format!("### Input:\n{input}\n\n") };
    format!("### Instruction:\n{instruction}\n\n{input}### Response:\n")
}

/// Appends EOS unless the tokens from `from` on already end in it; false if there is none to append.
fn terminate(ids: &mut Vec<u32>, from: usize, eos: Option<u32>) -> bool {
    match eos {
        Some(eos) if ids[from..].last() == Some(&eos) => true,
        Some(eos) => {
            ids.push(eos);
            true
        }
        None => false,
    }
}

/// Labels the tokens of one turn. False if it ends without a special token. Looks at the turn's own tokens only: a
/// conversation may have a hundred thousand turns.
fn label_turn(turn: &Turn, spans: &[TokenSpan], labels: &mut [i32]) -> bool {
    // Tokens are in the order of their places.
    let first_from = |byte: usize| spans.partition_point(|span| span.start < byte);
    let starting_in = |from: usize, to: usize| first_from(from)..first_from(to).max(first_from(from));
    let (end, terminated) = match turn.end {
        TurnEnd::Here(end) => (end, true),
        TurnEnd::FirstSpecial { content_end, limit, through, otherwise } => {
            let closing = starting_in(content_end, limit).find(|&index| spans[index].special);
            let end = closing.map_or(otherwise, |first| {
                let more = spans[first + 1..].iter().take_while(|span| span.special && span.start < through);
                more.fold(spans[first].end, |end, span| if span.start == end { span.end } else { end })
            });
            (end, closing.is_some())
        }
        TurnEnd::LastSpecial { from, limit, otherwise } => {
            let closing = starting_in(from, limit).rev().find(|&index| spans[index].special);
            (closing.map_or(otherwise, |index| spans[index].end), closing.is_some())
        }
    };
    for index in starting_in(turn.start, end) {
        labels[index] = spans[index].id as i32;
    }
    terminated
}
