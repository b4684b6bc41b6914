//! The held-out questions: their answers by a model, with and without an adapter, and the loss of the right ones.

use super::job::{BATCH, SEQ_LEN};
use crate::terminal;
use remat_formats::Tokenizer;
use remat_model::Model;
use remat_step::DeviceOptions;
use remat_train::{EvaluationRequest, Generator, Request, Sampling, TrainError, TrainedTurns, evaluate};
use std::path::Path;

/// Questions that are shown.
const SHOWN: usize = 5;
const ANSWER_TOKENS: usize = 24;

/// A held-out question with its right answer.
pub(super) struct Row {
    prompt: String,
    completion: String,
}

impl Row {
    /// The line of the prompt that asks.
    fn question(&self) -> &str {
        self.prompt.lines().find_map(|line| line.strip_prefix("Question: ")).unwrap_or_default()
    }

    /// What the prompt quotes from the dictionary.
    fn entry(&self) -> &str {
        self.prompt.lines().find_map(|line| line.strip_prefix("Dictionary: ")).unwrap_or_default()
    }
}

/// All held-out questions.
pub(super) fn held_out(out: &Path) -> Result<Vec<Row>, TrainError> {
    let path = out.join("held-out.jsonl");
    let text = std::fs::read_to_string(&path).map_err(|source| TrainError::OutUnwritable { path, source })?;
    let row = |line: &str| {
        let json: serde_json::Value = serde_json::from_str(line).ok()?;
        let text = |key: &str| json[key].as_str().map(str::to_string);
        Some(Row { prompt: text("prompt")?, completion: text("completion")? })
    };
    Ok(text.lines().filter_map(row).collect())
}

/// Greedy answers, each cut at its first line.
pub(super) fn answers(
    model: &Model,
    adapter: Option<&Path>,
    rows: &[Row],
    threads: usize,
) -> Result<Vec<String>, TrainError> {
    let tokenizer = Tokenizer::from_dir(model.folder())?;
    let mut generator = Generator::open(model, adapter, 2 * SEQ_LEN, DeviceOptions::cpu(threads))?;
    let failed = |problem: String| TrainError::BadFlag { key: "prompt", problem };
    let stop: Vec<u32> = tokenizer.eos().into_iter().collect();
    let mut answers = Vec::with_capacity(rows.len());
    for row in rows {
        let prompt = tokenizer.encode_prompt(&row.prompt).map_err(failed)?;
        let request = Request { prompt: &prompt, max_tokens: ANSWER_TOKENS, sampling: Sampling::GREEDY, stop: &stop };
        let continuation = generator.generate(&request, &mut |_| true)?;
        let text = tokenizer.decode(&continuation.tokens, true).map_err(failed)?;
        answers.push(text.trim().lines().next().unwrap_or_default().to_string());
    }
    Ok(answers)
}

/// Prints the first questions, each with its answers under their names.
pub(super) fn show(rows: &[Row], answers: &[(&str, &Vec<String>)]) {
    for (index, row) in rows.iter().enumerate().take(SHOWN) {
        if let [(_, only)] = answers {
            terminal::say(&format!("   {}", row.entry()));
            terminal::say(&format!("   {} → {}\n", row.question(), terminal::bold(&only[index])));
            continue;
        }
        terminal::say(&format!("   {}", row.question()));
        for (name, answers) in answers {
            terminal::say(&format!("     {name:<7} {}", answers[index]));
        }
        terminal::say("");
    }
}

/// Answers that are right word for word.
pub(super) fn right(rows: &[Row], answers: &[String]) -> usize {
    rows.iter().zip(answers).filter(|(row, answer)| row.completion.trim() == answer.as_str()).count()
}

/// Mean loss of the right answers' tokens.
pub(super) fn loss(model: &Model, adapter: Option<&Path>, out: &Path, threads: usize) -> Result<f64, TrainError> {
    let request = EvaluationRequest {
        data: vec![out.join("held-out.jsonl")],
        rows: Default::default(),
        seq_len: Some(SEQ_LEN),
        train_on: TrainedTurns::Assistant,
        chat_date: None,
        chat_template: None,
        chat_template_kwargs: None,
        batch_size: BATCH,
        options: DeviceOptions::cpu(threads),
    };
    Ok(evaluate(model, adapter, &request)?.loss)
}
