//! A run that is interrupted while it evaluates: the run that goes on from its save has the log of one that was not.

use remat_train::{Checks, Event, Existing, Outcome, Reporter, RunControl, TrainConfig, read_metrics, train};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

fn case() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/parity/llama-gqa-tied")
}

fn config(out: &Path) -> TrainConfig {
    TrainConfig {
        model: case(),
        data: vec![case().join("rows.jsonl")],
        eval_data: vec![case().join("rows.jsonl")],
        eval_every: Some(2),
        out: out.to_path_buf(),
        rank: 4,
        batch_size: 2,
        grad_accum: 1,
        seq_len: Some(24),
        steps: Some(4),
        threads: Some(1),
        lr: Some(1e-2),
        ..TrainConfig::default()
    }
}

/// Interrupts when the trace of the second update is written: after that update, before its evaluation.
struct AtTheTrace<'a>(&'a AtomicBool);

impl Reporter for AtTheTrace<'_> {
    fn report(&mut self, event: Event<'_>) {
        if let Event::Note(note) = event
            && note.contains("trace")
        {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

fn run(out: &Path, existing: Existing, trace: Option<&Path>) -> Outcome {
    let interrupt = AtomicBool::new(false);
    let checks = Checks::default();
    let control = RunControl {
        existing,
        interrupt: &interrupt,
        trace,
        config_file: None,
        checks,
        device: None,
        phases_apart: false,
        ranks: None,
    };
    train(config(out), control, &mut AtTheTrace(&interrupt)).expect("a good run").outcome
}

#[test]
fn its_evaluation_is_made_by_the_run_that_goes_on() {
    let folder = tempfile::tempdir().expect("folder");
    let (whole, stopped) = (folder.path().join("whole"), folder.path().join("stopped"));
    assert_eq!(run(&whole, Existing::Refuse, None), Outcome::Finished);
    let trace = folder.path().join("trace.json");
    let outcome = run(&stopped, Existing::Refuse, Some(&trace));
    assert_eq!(outcome, Outcome::Interrupted { save: stopped.join("checkpoint-2") });
    let log = |out: &Path| -> Vec<_> {
        let log = read_metrics(out, 4).expect("readable");
        log.iter().map(|m| (m.step, m.epoch, m.loss, m.val_loss, m.lr, m.grad_norm, m.tokens)).collect()
    };
    assert!(log(&stopped).len() == 2 && log(&stopped)[1].3.is_none(), "{:?}", log(&stopped));
    assert_eq!(run(&stopped, Existing::Resume, None), Outcome::Finished);
    assert!(log(&whole)[1].3.is_some() && log(&whole)[3].3.is_some());
    assert_eq!(log(&stopped), log(&whole));
    let adapter = |out: &Path| std::fs::read(out.join("adapter_model.safetensors")).expect("a result");
    assert!(adapter(&stopped) == adapter(&whole));
}
