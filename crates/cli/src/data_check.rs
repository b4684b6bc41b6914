//! The verb `data check`: what a run would make of the data, before it starts. The table goes to stdout, as does `--json`.
//!
//! Invariant: what the data holds cannot steer the terminal; control characters are shown as escapes.

use crate::exit::exit_code;
use crate::file_notes::notes;
use crate::names::{self, NameArgs};
use crate::settings::RowArgs;
use crate::template_args::TemplateArgs;
use crate::terminal::{self, visible};
use crate::units::{count, counted};
use clap::{Args, Subcommand, ValueEnum};
use remat_data::{DataError, Encoder, FileCheck, ModelTokens, ShownRow, check_file};
use remat_formats::{ModelConfig, Places};
use remat_hub::Wanted;
use remat_train::{TrainError, TrainedTurns};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::path::PathBuf;

/// As in `train`, where nothing is said.
const DEFAULT_SEQ_LEN: usize = 1024;
const BAR_WIDTH: usize = 40;
const MOST_BARS: usize = 10;

/// What `remat data` is asked.
#[derive(Debug, Args)]
pub(crate) struct DataArgs {
    #[command(subcommand)]
    verb: DataVerb,
}

#[derive(Debug, Subcommand)]
enum DataVerb {
    /// Show what a run would train on: formats, rows with their trained tokens marked, lengths, cuts
    Check(CheckArgs),
}

#[derive(Debug, Args)]
struct CheckArgs {
    /// Files of training rows, or data sets' names on the Hub
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,

    /// Model folder, or its name on the Hub: its tokenizer and chat template encode the rows
    #[arg(long, value_name = "DIR")]
    model: PathBuf,

    #[command(flatten)]
    names: NameArgs,

    /// Longest sequence in tokens; longer rows are cut [default: 1024, or the model's positions if fewer]
    #[arg(long, value_name = "T")]
    seq_len: Option<usize>,

    /// Rows of each file to show
    #[arg(long, value_name = "N", default_value = "2")]
    samples: usize,

    /// What is trained on: everything, the assistant's turns and completions, or the assistant's last turn
    #[arg(long, value_enum, value_name = "TURNS", default_value = "assistant")]
    train_on: TrainedTurns,

    #[command(flatten)]
    rows: RowArgs,

    #[command(flatten)]
    template: TemplateArgs,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// How trained tokens are marked.
#[derive(Clone, Copy)]
enum Marks {
    Colour,
    Brackets,
}

/// Runs the verb and returns the exit code.
pub(crate) fn run(arguments: DataArgs) -> u8 {
    let DataVerb::Check(arguments) = arguments.verb;
    let arguments = match found(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            terminal::error(&error.to_string());
            return exit_code(error.kind());
        }
    };
    let result = check(&arguments);
    let (files, seq_len) = match &result {
        Ok((files, seq_len)) => (files, *seq_len),
        Err(error) => return refuse(&error.to_string()),
    };
    let text = match arguments.json {
        true => format!("{:#}\n", json(files, seq_len, arguments.train_on)),
        false => files.iter().map(|file| page(file, seq_len, marks())).collect::<Vec<_>>().join("\n"),
    };
    // A closed pipe, as of `head`, is no error.
    drop(std::io::stdout().write_all(text.as_bytes()));
    let total = |part: fn(&FileCheck) -> usize| files.iter().map(part).sum::<usize>();
    if total(|file| file.stats.trained_tokens) > 0 {
        return 0;
    }
    let (rows, truncated) = (total(|file| file.stats.rows), total(|file| file.stats.truncated));
    refuse(&DataError::NothingToTrain { rows, truncated, seq_len }.to_string())
}

/// With folders and files in place of names of the Hub.
fn found(arguments: CheckArgs) -> Result<CheckArgs, TrainError> {
    let model = arguments.names.model(&arguments.model, Wanted::Shape)?;
    Ok(CheckArgs { model, files: names::rows(arguments.files)?, ..arguments })
}

fn refuse(message: &str) -> u8 {
    terminal::error(message);
    2
}

fn check(arguments: &CheckArgs) -> Result<(Vec<FileCheck>, usize), DataError> {
    let places = arguments.template.inputs(Places::new().reads("--model", &arguments.model));
    arguments
        .files
        .iter()
        .fold(places, |places, path| places.reads("the rows of", &remat_data::file_of(path)))
        .check()?;
    let config = ModelConfig::from_dir(&arguments.model)?;
    let seq_len = arguments.seq_len.unwrap_or(config.max_position_embeddings.min(DEFAULT_SEQ_LEN));
    let tokens = ModelTokens::open(&arguments.model, config.eos_token_ids.first().copied())?;
    let tokens = tokens.map(|tokens| arguments.template.of(tokens)).transpose()?;
    let encoder = Encoder::for_model(tokens.as_ref(), config.vocab_size).with_train_on(arguments.train_on.into());
    let tokenizer = tokens.as_ref().map(ModelTokens::tokenizer);
    let options = arguments.rows.options();
    let check = |path: &PathBuf| check_file(path, &options, &encoder, tokenizer, seq_len, arguments.samples);
    let files: Vec<FileCheck> = arguments.files.iter().map(check).collect::<Result<_, _>>()?;
    options.check_columns(files.iter().map(|file| &file.stats.file))?;
    Ok((files, seq_len))
}

fn marks() -> Marks {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if plain || !std::io::stdout().is_terminal() { Marks::Brackets } else { Marks::Colour }
}

/// All about one file.
fn page(file: &FileCheck, seq_len: usize, marks: Marks) -> String {
    let stats = &file.stats;
    let kind = stats.kind().map_or(String::new(), |kind| format!(" · {kind}"));
    let mut page = format!("{}{kind} · {}\n", visible(&stats.path.display().to_string()), counted(stats.rows, "row"));
    if !file.shown.is_empty() {
        let how = match marks {
            Marks::Colour => "\x1b[32mgreen\x1b[0m",
            Marks::Brackets => "⟦between brackets⟧",
        };
        writeln!(page, "\ntrained tokens are {how}").expect("writing to a string");
    }
    for row in &file.shown {
        page.push_str(&shown(row, marks));
    }
    page.push_str(&histogram(&file.lengths, seq_len));
    page.push_str(&counts(file, seq_len));
    page
}

fn shown(row: &ShownRow, marks: Marks) -> String {
    let mut text = String::new();
    for piece in &row.pieces {
        let visible = visible(&piece.text);
        match (piece.trained, marks) {
            (false, _) => text.push_str(&visible),
            (true, Marks::Brackets) => text.extend(["⟦", &visible, "⟧"]),
            // Colour ends with the line, so that what stands before the next line has none.
            (true, Marks::Colour) => {
                let lines: Vec<String> = visible.split('\n').map(|line| format!("\x1b[32m{line}\x1b[0m")).collect();
                text.push_str(&lines.join("\n"));
            }
        }
    }
    if row.cut_tokens > 0 {
        text.push_str(&format!(" … {} cut off", counted(row.cut_tokens, "token")));
    }
    // A template's last line end would show as an empty line.
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let body = text.split('\n').map(|line| format!("  │ {line}\n")).collect::<String>();
    let trained =
        if row.trained == 0 { "none trained: left out".to_string() } else { format!("{} trained", count(row.trained)) };
    format!("\nline {} · {}, {trained}\n{body}", row.line, counted(row.tokens, "token"))
}

/// How many rows have how many tokens: at most ten bars of equal width.
fn histogram(lengths: &BTreeMap<usize, usize>, seq_len: usize) -> String {
    let bars = bars(lengths);
    let most = bars.iter().map(|bar| bar.2).max().unwrap_or(0).max(1);
    let mut text = "\ntokens per row\n".to_string();
    for (first, last, rows) in bars {
        let width = (rows * BAR_WIDTH).div_ceil(most);
        let cut = match (first > seq_len, last > seq_len) {
            (true, _) => "  cut",
            (false, true) => "  some cut",
            _ => "",
        };
        let range = format!("{}-{}", count(first), count(last));
        writeln!(text, "  {range:>15}  {:<BAR_WIDTH$}  {}{cut}", "█".repeat(width), count(rows))
            .expect("writing to a string");
    }
    text
}

/// (first length, last length, rows) of each bar.
fn bars(lengths: &BTreeMap<usize, usize>) -> Vec<(usize, usize, usize)> {
    let longest = lengths.last_key_value().map_or(1, |(&length, _)| length.max(1));
    let step = [1, 2, 5].into_iter().cycle().zip((0..).map(|index| index / 3)).find_map(|(digit, power)| {
        let step = digit * 10_usize.checked_pow(power)?;
        (step * MOST_BARS >= longest).then_some(step)
    });
    let step = step.unwrap_or(longest);
    let mut bars: Vec<_> = (0..longest.div_ceil(step)).map(|bar| (bar * step + 1, (bar + 1) * step, 0)).collect();
    for (length, rows) in lengths {
        bars[length.saturating_sub(1) / step].2 += rows;
    }
    bars
}

fn counts(file: &FileCheck, seq_len: usize) -> String {
    let stats = &file.stats;
    let kept = stats.kept;
    let share = 100.0 * stats.trained_tokens as f64 / stats.tokens.max(1) as f64;
    let mut lines = vec![format!(
        "kept      {} of {}: {}, {} of them trained ({share:.1} %)",
        count(kept),
        counted(stats.rows, "row"),
        counted(stats.tokens, "token"),
        count(stats.trained_tokens),
    )];
    lines.extend(notes(stats).into_iter().map(|(label, note)| format!("{label:<10}{note}")));
    if stats.truncated > 0 {
        let cut = counted(stats.cut_tokens, "token");
        let rows = counted(stats.truncated, "row");
        lines.push(format!(
            "cut       {rows} to {seq_len} tokens, {cut} lost; the longest has {}",
            count(stats.longest)
        ));
    }
    if stats.dropped > 0 {
        lines.push(format!("left out  {} without a trained token", counted(stats.dropped, "row")));
    }
    if stats.incomplete > 0 {
        let rows = counted(stats.incomplete, "row");
        lines.push(format!("lost      {rows} with a message that the chat template leaves out"));
    }
    if stats.unterminated > 0 {
        let rows = counted(stats.unterminated, "row");
        lines.push(format!("no end    {rows} without a token that ends the answer: the model will not learn to stop"));
    }
    format!("\n{}\n", lines.join("\n"))
}

fn json(files: &[FileCheck], seq_len: usize, train_on: TrainedTurns) -> serde_json::Value {
    let row = |row: &ShownRow| {
        let piece = |piece: &remat_data::Piece| serde_json::json!({"text": piece.text, "trained": piece.trained});
        serde_json::json!({
            "line": row.line, "tokens": row.tokens, "trained_tokens": row.trained, "cut_tokens": row.cut_tokens,
            "pieces": row.pieces.iter().map(piece).collect::<Vec<_>>(),
        })
    };
    let bar =
        |&(first, last, rows): &(usize, usize, usize)| serde_json::json!({"first": first, "last": last, "rows": rows});
    let bad = |bad: &remat_data::BadRow| serde_json::json!({"line": bad.line, "reason": bad.reason});
    let file = |file: &FileCheck| {
        let stats = &file.stats;
        serde_json::json!({
            "path": stats.path, "format": stats.kind().map(|kind| kind.to_string()), "rows": stats.rows,
            "kept": stats.kept, "not_taken": stats.not_taken,
            "columns": stats.file.columns.iter().map(|column| column.to_string()).collect::<Vec<_>>(),
            "ignored": stats.file.ignored, "bad_rows": stats.file.bad_rows,
            "bad": stats.file.bad.iter().map(bad).collect::<Vec<_>>(), "left_out": stats.dropped, "cut": stats.truncated,
            "cut_tokens": stats.cut_tokens, "incomplete": stats.incomplete, "without_end": stats.unterminated, "longest": stats.longest,
            "tokens": stats.tokens, "trained_tokens": stats.trained_tokens,
            "lengths": bars(&file.lengths).iter().map(bar).collect::<Vec<_>>(),
            "samples": file.shown.iter().map(row).collect::<Vec<_>>(),
        })
    };
    let train_on = train_on.to_possible_value().map(|value| value.get_name().to_string());
    let files: Vec<serde_json::Value> = files.iter().map(file).collect();
    serde_json::json!({"schema": 1, "seq_len": seq_len, "train_on": train_on, "files": files})
}

#[cfg(test)]
mod tests {
    use super::{bars, visible};
    use std::collections::BTreeMap;

    #[test]
    fn bars_hold_every_row_once() {
        for lengths in [vec![], vec![0], vec![1, 1, 2], vec![10, 11, 100], (0..4097).collect()] {
            let mut counts = BTreeMap::new();
            lengths.iter().for_each(|&length| *counts.entry(length).or_default() += 1);
            let bars = bars(&counts);
            assert!(bars.len() <= 10 && bars.iter().map(|bar| bar.2).sum::<usize>() == lengths.len(), "{bars:?}");
            for &(first, last, rows) in &bars[1..] {
                assert_eq!(rows, lengths.iter().filter(|&&length| (first..=last).contains(&length)).count());
            }
        }
    }

    #[test]
    fn control_characters_are_shown_as_escapes() {
        assert_eq!(visible("a\x1b[31m\nb\t\r"), "a\\u{1b}[31m\nb\\t\\r");
    }
}
