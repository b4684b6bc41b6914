//! What a plan says a run would hold is what the run says, to the byte, over the settings that change memory. Rows of what
//! the process itself had when it was asked are left out: two askings of one process differ in them.

use remat_plan::{ByteSize, Policy};
use remat_train::{
    Checks, Event, Existing, MethodKind, OptimizerKind, PhaseMemory, PhasePart, Precision, QuantKind, Reporter,
    RunControl, RunPhase, TrainConfig, plan, train,
};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

/// Takes note of what a run plans.
#[derive(Default)]
struct Planned(Vec<PhaseMemory>);

impl Reporter for Planned {
    fn report(&mut self, event: Event<'_>) {
        if let Event::Planned(planned) = event {
            self.0 = planned.memory.phases();
        }
    }
}

/// Phases by name, each with its parts but for the process's own.
fn parts(phases: &[PhaseMemory]) -> Vec<(RunPhase, Vec<(PhasePart, usize)>)> {
    let of_process = [PhasePart::Reserve, PhasePart::Tokenizer];
    let of_phase = |phase: &PhaseMemory| {
        let parts = PhasePart::ALL.iter().filter(|part| !of_process.contains(part));
        (phase.phase, parts.map(|&part| (part, phase.rows.of(part))).collect())
    };
    phases.iter().map(of_phase).collect()
}

#[test]
fn a_plan_says_what_its_run_says() {
    let case = |name: &str| fixtures().join("parity").join(name);
    let rows = |name: &str| vec![case(name).join("rows.jsonl")];
    let (tiny, held_out) = (vec![fixtures().join("tiny/data.jsonl")], vec![fixtures().join("tiny/text.jsonl")]);
    let of = |name: &str| TrainConfig { model: case(name), data: rows(name), rank: 4, ..TrainConfig::default() };
    let settings = [
        of("llama-gqa-tied"),
        TrainConfig { eval_data: held_out.clone(), ..of("llama-gqa-tied") },
        TrainConfig { data: tiny.clone(), eval_data: rows("qwen2"), eval_every: Some(1), ..of("qwen2") },
        TrainConfig { packing: true, seq_len: Some(48), eval_data: held_out.clone(), ..of("gpt2") },
        TrainConfig { checkpointing: Policy::Full, grad_accum: 3, batch_size: 2, ..of("mistral") },
        TrainConfig { precision: Precision::Bf16.into(), eval_data: held_out.clone(), batch_size: 3, ..of("qwen3") },
        TrainConfig { method: MethodKind::Qlora, quant: Some(QuantKind::Int8), ..of("llama-f16") },
        TrainConfig { method: MethodKind::Qlora, dropout: 0.1, eval_data: held_out, ..of("gpt2") },
        TrainConfig { method: MethodKind::Full, optimizer: OptimizerKind::Adamw8bit, ..of("llama-rope3-bias") },
        TrainConfig { memory: Some(ByteSize(1 << 40)), threads: Some(3), data: tiny, ..of("llama-gqa-tied") },
        TrainConfig { init_adapter: Some(case("qwen3").join("adapter")), ..of("qwen3") },
    ];
    for (index, config) in settings.into_iter().enumerate() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let planned = plan(config.clone()).unwrap_or_else(|error| panic!("{index}: {error}")).phases();
        let config = TrainConfig { out: folder.path().join("out"), steps: Some(1), ..config };
        let (interrupt, checks, mut run) = (AtomicBool::new(false), Checks::default(), Planned::default());
        let control = RunControl {
            existing: Existing::Refuse,
            interrupt: &interrupt,
            trace: None,
            config_file: None,
            checks,
            device: None,
            phases_apart: false,
            ranks: None,
        };
        train(config, control, &mut run).unwrap_or_else(|error| panic!("{index}: {error}"));
        assert_eq!(parts(&planned), parts(&run.0), "settings {index}");
    }
}
