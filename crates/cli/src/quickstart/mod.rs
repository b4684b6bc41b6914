//! The verb `quickstart`: the whole of remat in a minute or two, on a model that is in the binary.
//!
//! Unpack, ask, measure policies side by side, fine-tune with LoRA, ask again. Invariant: everything printed was computed
//! in this run; the questions shown and the held-out loss are never trained on. Look next at `policies` for the table and
//! at `asking` for the answers; `cargo xtask quickstart-model` makes the embedded files.

mod asking;
mod job;
mod policies;

use self::job::{BATCH, RANK, SEQ_LEN};
use crate::console::Console;
use crate::exit::INTERRUPTED;
use crate::exit::exit_code;
use crate::settings::threads;
use crate::signals;
use crate::terminal;
use crate::{report, units};
use remat_formats::{OwnFiles, Places, write_atomic};
use remat_model::{Model, Precision};
use remat_plan::Policy;
use remat_train::{
    AnswersRecord, Checks, Existing, MethodKind, Outcome, PolicyRows, ProfileRecord, RECORD_FILE, RECORD_TEXT_FILE,
    Record, RecordKind, RunControl, RunFolder, TrainConfig, TrainError, record_kind, train,
};
use std::path::{Path, PathBuf};

/// The embedded files, by their place in the run folder.
const FILES: [(&str, &[u8]); 7] = [
    ("model/config.json", include_bytes!("../../assets/quickstart/model/config.json")),
    ("model/model.safetensors", include_bytes!("../../assets/quickstart/model/model.safetensors")),
    ("model/tokenizer.json", include_bytes!("../../assets/quickstart/model/tokenizer.json")),
    ("model/tokenizer_config.json", include_bytes!("../../assets/quickstart/model/tokenizer_config.json")),
    ("questions.jsonl", include_bytes!("../../assets/quickstart/questions.jsonl")),
    ("held-out.jsonl", include_bytes!("../../assets/quickstart/held-out.jsonl")),
    ("LICENSE-WORDNET", include_bytes!("../../assets/quickstart/LICENSE-WORDNET")),
];
/// The files of the record.
const RECORD: [&str; 2] = [RECORD_FILE, RECORD_TEXT_FILE];
const LEARNING_RATE: f64 = 2e-3;

/// What `--help` says after the flags.
pub(crate) const AFTER_HELP: &str = "Everything is in this program: nothing is downloaded, no file is needed. \
The model learned from WordNet; its licence is written beside it.";

/// Flags of `remat quickstart`.
#[derive(Debug, clap::Args)]
pub(crate) struct QuickstartArgs {
    /// Folder to write: the small model, its data, the adapter, metrics and the lab record
    #[arg(long, value_name = "DIR", default_value = "remat-quickstart")]
    out: PathBuf,

    /// How often to go through the questions
    #[arg(long, value_name = "N", default_value = "3", value_parser = clap::value_parser!(u64).range(1..=100))]
    epochs: u64,

    /// Threads to compute with [default: all]
    #[arg(long, value_name = "N", value_parser = threads)]
    threads: Option<usize>,

    /// Replace an earlier quickstart in --out; files that none wrote stay
    #[arg(long)]
    force: bool,
}

/// Runs it and returns the exit code.
pub(crate) fn run(arguments: &QuickstartArgs) -> u8 {
    match tour(arguments) {
        Ok(code) => code,
        Err(error) => {
            terminal::error(&error.to_string());
            exit_code(error.kind())
        }
    }
}

fn tour(arguments: &QuickstartArgs) -> Result<u8, TrainError> {
    let threads = arguments.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let out = &arguments.out;
    unpack(out, arguments.force)?;
    let model = Model::open(&out.join("model"))?.in_precision(Precision::Bf16);
    let rows = asking::held_out(out)?;

    terminal::say("");
    terminal::say(
        "A small language model, of 3 million parameters, is in this program. It has read a dictionary, but it",
    );
    terminal::say(
        "was never asked a question. In the next minute it learns to answer, by LoRA: the model itself stays as",
    );
    terminal::say("it is, and small matrices beside its own (the adapter) are trained.");

    heading("1", "Before: what it says to questions it is never trained on");
    let before = asking::answers(&model, None, &rows, threads)?;
    asking::show(&rows, &[("", &before)]);

    heading("2", "The plan: what to keep in memory between forward and backward");
    policies::explain();
    let compared = policies::compare(&model, threads)?;

    heading("3", "Fine-tuning, with checkpointing full. Loss is the surprise per token; it should fall");
    let adapter = out.join("adapter");
    let summary = {
        let config = training(arguments, &model, &adapter);
        let interrupt = signals::save_on_interrupt();
        train(
            config,
            RunControl {
                device: None,
                existing: Existing::Replace,
                interrupt,
                trace: None,
                config_file: None,
                checks: Checks::default(),
                phases_apart: false,
                ranks: None,
            },
            &mut Console::new(false),
        )?
    };
    let console = Console::new(false);
    console.summary(&summary);
    report::train::write(&summary)?;
    if let Outcome::Interrupted { save } = &summary.outcome {
        terminal::line(&format!("interrupted after update {}, saved {}", summary.updates, save.display()));
        return Ok(INTERRUPTED);
    }

    heading("4", "After: the same questions, with the adapter");
    let after = asking::answers(&model, Some(&adapter), &rows, threads)?;
    asking::show(&rows, &[("before", &before), ("after", &after)]);
    let (loss_before, loss_after) =
        (asking::loss(&model, None, out, threads)?, asking::loss(&model, Some(&adapter), out, threads)?);
    let (right_before, right_after) = (asking::right(&rows, &before), asking::right(&rows, &after));
    let fall = 100.0 * (1.0 - loss_after / loss_before);
    let number = rows.len();
    terminal::say(&format!("   on {number} held-out questions    before     after"));
    terminal::say(&format!("   loss of the answers       {loss_before:>8.3}  {loss_after:>8.3}   ({fall:.0} % less)"));
    terminal::say(&format!(
        "   answered word for word    {:>8}  {:>8}",
        format!("{right_before}/{number}"),
        format!("{right_after}/{number}")
    ));

    let answers = AnswersRecord { questions: number, loss_before, loss_after, right_before, right_after };
    write_record(out, &model, summary.record.as_deref(), compared, answers)?;
    heading("5", "What is left, and what next");
    leave(out, &summary.peak_bytes.map_or_else(|| "unknown".to_string(), units::bytes));
    Ok(0)
}

fn training(arguments: &QuickstartArgs, model: &Model, adapter: &Path) -> TrainConfig {
    TrainConfig {
        model: model.folder().to_path_buf(),
        data: vec![arguments.out.join("questions.jsonl")],
        out: adapter.to_path_buf(),
        method: MethodKind::Lora,
        rank: RANK,
        seq_len: Some(SEQ_LEN),
        batch_size: BATCH,
        grad_accum: 1,
        epochs: Some(arguments.epochs as f64),
        lr: Some(LEARNING_RATE),
        precision: remat_train::PrecisionChoice::Bf16,
        checkpointing: Policy::Full,
        threads: arguments.threads,
        ..TrainConfig::default()
    }
}

/// The lab record of the whole tour: the training's, with the policies and the answers.
fn write_record(
    out: &Path,
    model: &Model,
    training: Option<&Record>,
    policies: PolicyRows,
    answers: AnswersRecord,
) -> Result<(), TrainError> {
    let Some(training) = training else { return Ok(()) };
    let footprint = remat::Model::from_pretrained(model.folder())
        .and_then(|whole| whole.in_precision(model.precision()).memory_footprint())
        .map_err(|error| TrainError::BadFlag { key: "model", problem: error.to_string() })?;
    let profile = ProfileRecord {
        footprint_bytes: footprint,
        footprint_bytes_with_checkpointing: footprint,
        // The tour computes in bf16.
        footprint_16_bit_bytes: footprint,
        repeats: policies::REPEATS,
        rows: policies.rows,
        refused: policies.refused,
        verdict: "On a model this small nothing has to be recomputed; the tour trains with full to show that nothing \
                  else changes."
            .to_string(),
    };
    let record =
        Record { kind: RecordKind::Quickstart, profile: Some(profile), answers: Some(answers), ..training.clone() };
    own_files_of_tour(out)?.add(RECORD)?;
    record.write(out)
}

/// Writes the embedded files, over none that a quickstart did not write.
fn unpack(out: &Path, force: bool) -> Result<(), TrainError> {
    Places::new().writes_folder("--out", out, [])?.check()?;
    let used = std::fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some());
    if used && !force {
        return Err(TrainError::OutExists { path: out.to_path_buf() });
    }
    let mut own = own_files_of_tour(out)?;
    own.refuse_foreign("--out", FILES.iter().map(|(name, _)| *name).chain(RECORD))?;
    // What the training would refuse much later.
    RunFolder::inspect(&TrainConfig { out: out.join("adapter"), ..TrainConfig::default() }, Existing::Replace)?;
    std::fs::create_dir_all(out.join("model"))
        .map_err(|source| TrainError::OutUnwritable { path: out.to_path_buf(), source })?;
    own.add(FILES.iter().map(|(name, _)| *name))?;
    for (name, bytes) in FILES {
        write_atomic(&out.join(name), bytes)?;
    }
    Ok(())
}

/// What a quickstart wrote: by the folder's listing, or, of an older version's, by its record or the files' bytes.
fn own_files_of_tour(out: &Path) -> Result<OwnFiles, TrainError> {
    if let Some(listed) = OwnFiles::read(out)? {
        return Ok(listed);
    }
    let names = FILES.iter().map(|(name, _)| *name);
    if record_kind(out).as_deref() == Some("quickstart") {
        return Ok(OwnFiles::of(out, names.chain(RECORD)));
    }
    let same = FILES.iter().filter(|(name, bytes)| std::fs::read(out.join(name)).is_ok_and(|there| there == *bytes));
    Ok(OwnFiles::of(out, same.map(|(name, _)| *name)))
}

fn leave(out: &Path, peak: &str) {
    let folder = out.display();
    terminal::say(&format!("   {folder}/adapter          the adapter, as PEFT reads it; metrics.jsonl"));
    terminal::say(&format!("   {folder}/adapter/{}  the same as charts, for a browser", report::REPORT_FILE));
    terminal::say(&format!(
        "   {folder}/record.md        the lab record: program, machine, files, settings, and what came out"
    ));
    terminal::say(&format!("   {folder}/model            the model it belongs to"));
    terminal::say(&format!("   {folder}/questions.jsonl  what it was trained on: one JSON object a line"));
    terminal::say(&format!("   The process needed {peak} at most.\n"));
    terminal::say("   Ask it yourself:");
    terminal::say(&format!(
        "     remat generate --model {folder}/model --adapter {folder}/adapter --prompt \"$(printf 'Dictionary: \
         canoe (noun): a small and light boat.\\nQuestion: What is a canoe?\\nAnswer:')\"\n"
    ));
    terminal::say("   Your own model (a folder as Hugging Face has it) and rows:");
    terminal::say("     remat data check rows.jsonl --model MODEL");
    terminal::say("     remat train --model MODEL --data rows.jsonl --method lora --memory 6GiB --out run");
}

fn heading(number: &str, text: &str) {
    terminal::say(&format!("\n{} {}\n", terminal::bold(number), terminal::bold(text)));
}
