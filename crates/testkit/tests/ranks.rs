//! Training on several ranks: the same bytes on one process, on two, three and four ranks, and after a restart with others;
//! what ends a rank is known on all.

use remat_comm::{CommError, ThreadEngine};
use remat_plan::Policy;
use remat_train::{
    AccumulationKind, Checks, Event, Existing, MethodKind, OptimizerKind, PrecisionChoice, Reporter, RunControl,
    ScheduleKind, TrainConfig, TrainError, train,
};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

/// No rank of a test waits for longer.
const DEADLINE: Duration = Duration::from_secs(300);

struct Silent;

impl Reporter for Silent {
    fn report(&mut self, _: Event<'_>) {}
}

fn case(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/parity").join(name)
}

/// Thirteen rows of a model, so that the last update of an epoch has one micro-batch of four.
fn config(model: &str, folder: &Path) -> TrainConfig {
    let rows = fs::read_to_string(case(model).join("rows.jsonl")).expect("rows");
    let rows: String = rows.lines().take(13).flat_map(|line| [line, "\n"]).collect();
    let data = folder.join("rows.jsonl");
    fs::write(&data, rows).expect("written");
    TrainConfig {
        model: case(model),
        data: vec![data],
        out: folder.join("out"),
        rank: 4,
        batch_size: 1,
        grad_accum: 4,
        lr: Some(1e-2),
        steps: Some(5),
        save_every: Some(5),
        threads: Some(1),
        ..TrainConfig::default()
    }
}

/// What each of `size` ranks comes to, started with the settings that `of` gives it.
fn on_ranks(size: usize, existing: Existing, of: impl Fn(usize) -> TrainConfig + Sync) -> Vec<Result<u64, TrainError>> {
    let start = |config: TrainConfig, engine: Option<ThreadEngine>| {
        let interrupt = AtomicBool::new(false);
        let control = RunControl {
            existing,
            interrupt: &interrupt,
            trace: None,
            config_file: None,
            checks: Checks::default(),
            device: None,
            phases_apart: false,
            ranks: engine.as_ref().map(|engine| engine as _),
        };
        train(config, control, &mut Silent).map(|summary| summary.updates)
    };
    if size == 1 {
        return vec![start(of(0), None)];
    }
    thread::scope(|scope| {
        let engines = ThreadEngine::ranks(size, DEADLINE).into_iter().enumerate();
        let (start, of) = (&start, &of);
        let ranks: Vec<_> = engines.map(|(rank, engine)| scope.spawn(move || start(of(rank), Some(engine)))).collect();
        ranks.into_iter().map(|rank| rank.join().expect("no rank panics")).collect()
    })
}

/// Every file of the result and of the last save that holds numbers, and the numbers of every update.
fn bytes_of(out: &Path) -> BTreeMap<String, Vec<u8>> {
    let read = |path: &Path| fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut files = BTreeMap::new();
    let names = ["adapter_model.safetensors", "model.safetensors", "checkpoint-5/optimizer.safetensors"];
    for name in names.into_iter().filter(|name| out.join(name).is_file()) {
        files.insert(name.to_string(), read(&out.join(name)));
    }
    let metrics = String::from_utf8(read(&out.join("metrics.jsonl"))).expect("text");
    for (index, line) in metrics.lines().enumerate() {
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let keys = ["step", "epoch", "loss", "val_loss", "lr", "grad_norm", "tokens"];
        files.insert(format!("update {index}"), keys.map(|key| line[key].to_string()).join(" ").into_bytes());
    }
    assert_eq!(files.len(), 2 + 5, "{:?}", files.keys());
    files
}

fn assert_same(what: &str, one: &BTreeMap<String, Vec<u8>>, other: &BTreeMap<String, Vec<u8>>) {
    let differs = one.iter().find(|(name, bytes)| other.get(*name) != Some(bytes)).map(|(name, _)| name);
    assert_eq!((differs, one.len()), (None, other.len()), "{what}");
}

fn trains(size: usize, existing: Existing, config: &TrainConfig) -> BTreeMap<String, Vec<u8>> {
    for trained in on_ranks(size, existing, |_| config.clone()) {
        assert_eq!(trained.unwrap_or_else(|error| panic!("{size} ranks: {error}")), config.steps.expect("given"));
    }
    bytes_of(&config.out)
}

#[test]
fn any_number_of_ranks_gives_the_same_bytes() {
    type Change = fn(TrainConfig) -> TrainConfig;
    let runs: [(&str, &str, Change); 3] = [
        ("lora with dropout and held-out rows", "llama-gqa-tied", |c| TrainConfig {
            dropout: 0.1,
            eval_data: c.data.clone(),
            eval_every: Some(2),
            ..c
        }),
        ("qlora in bf16, packed, recomputed", "gpt2", |c| TrainConfig {
            method: MethodKind::Qlora,
            precision: PrecisionChoice::Bf16,
            packing: true,
            checkpointing: Policy::Full,
            ..c
        }),
        ("full with moments of 8 bits", "llama-f16", |c| TrainConfig {
            method: MethodKind::Full,
            optimizer: OptimizerKind::Adamw8bit,
            ..c
        }),
    ];
    for (what, model, change) in runs {
        let of = |size: usize| {
            let folder = tempfile::tempdir().expect("temporary folder");
            trains(size, Existing::Refuse, &change(config(model, folder.path())))
        };
        let alone = of(1);
        (2..=4).for_each(|size| assert_same(&format!("{what}, {size} ranks"), &alone, &of(size)));
    }
}

#[test]
fn a_run_goes_on_with_other_ranks() {
    let folder = tempfile::tempdir().expect("temporary folder");
    // At a constant rate a run is the beginning of a longer one.
    let schedule = ScheduleKind::Constant;
    let whole = TrainConfig { dropout: 0.1, schedule, save_every: Some(1), ..config("llama-gqa-tied", folder.path()) };
    let never_stopped = trains(1, Existing::Refuse, &whole);
    let out = folder.path().join("parts");
    for (size, steps) in [(1, 1), (4, 2), (2, 3), (3, 5)] {
        let part = TrainConfig { out: out.clone(), steps: Some(steps), ..whole.clone() };
        let existing = if steps == 1 { Existing::Refuse } else { Existing::Resume };
        for updates in on_ranks(size, existing, |_| part.clone()) {
            assert_eq!(updates.unwrap_or_else(|error| panic!("{size} ranks: {error}")), steps);
        }
    }
    assert_same("in parts", &never_stopped, &bytes_of(&out));
}

#[test]
fn ranks_that_were_started_differently_refuse_and_say_what_differs() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let config = config("llama-gqa-tied", folder.path());
    let seed = |rank: usize| if rank == 2 { 7 } else { config.seed };
    let refused = on_ranks(3, Existing::Refuse, |rank| TrainConfig { seed: seed(rank), ..config.clone() });
    for error in refused {
        let error = error.expect_err("they differ").to_string();
        let expected = "ranks 0 and 2 were not started alike: `seed` is 42 on rank 0 and 7 on rank 2; start all of them by \
                        one command, on the same files";
        assert_eq!(error, expected);
    }
    assert!(!config.out.exists(), "a run that is refused leaves nothing behind");
    let running = TrainConfig { accumulation: Some(AccumulationKind::Running), ..config.clone() };
    for error in on_ranks(2, Existing::Refuse, |_| running.clone()) {
        assert!(error.expect_err("of one process").to_string().contains("accumulation"));
    }
}

#[test]
fn a_rank_that_ends_ends_all_and_each_leaves_its_error() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let config = config("llama-gqa-tied", folder.path());
    // Rank 0 finds the folder of another run; by then the others wait for it.
    fs::create_dir(&config.out).expect("a folder");
    fs::write(config.out.join("metrics.jsonl"), "{}\n").expect("a file of a run");
    fs::write(config.out.join("adapter_model.safetensors"), "").expect("a file of a run");
    let began = Instant::now();
    let ended = on_ranks(3, Existing::Refuse, |_| config.clone());
    assert!(began.elapsed() < DEADLINE, "nobody waited for the deadline");
    assert!(matches!(ended[0], Err(TrainError::OutExists { .. })), "{ended:?}");
    for (rank, error) in ended.iter().enumerate() {
        if rank > 0 {
            assert!(matches!(error, Err(TrainError::Ranks(CommError::Gone { .. }))), "{error:?}");
        }
        let written = fs::read_to_string(config.out.join(format!("errors/rank-{rank}.json"))).expect("an error each");
        let written: serde_json::Value = serde_json::from_str(&written).expect("JSON");
        let message = error.as_ref().expect_err("all ended").to_string();
        assert_eq!(written["message"]["message"], serde_json::Value::String(message));
        assert_eq!(written["message"]["extraInfo"]["rank"], rank);
        assert!(written["message"]["extraInfo"]["timestamp"].is_string());
    }
}
