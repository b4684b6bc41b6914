//! Training on several ranks: the same bytes on one process, on two, three and four ranks, and after a restart with others;
//! what ends a rank is known on all.

use remat_comm::{CommError, Engine, Incoming, OnFailure, Outgoing, ThreadEngine};
use remat_plan::Policy;
use remat_step::device::Opener;
use remat_testkit::FaultyDevice;
use remat_train::{
    AccumulationKind, Checks, Cluster, DeviceMap, ErrorKind, Event, Existing, MemoryPart, MethodKind, OptimizerKind,
    PrecisionChoice, Reporter, RunControl, ScheduleKind, TrainConfig, TrainError, plan_on_ranks, train,
};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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

/// Nothing interrupts a test.
static NEVER: AtomicBool = AtomicBool::new(false);

fn control(existing: Existing, ranks: Option<&Arc<dyn Engine>>) -> RunControl<'_> {
    RunControl {
        existing,
        interrupt: &NEVER,
        trace: None,
        config_file: None,
        checks: Checks::default(),
        device: None,
        phases_apart: false,
        disk_wait: Duration::ZERO,
        ranks,
    }
}

/// What each of `size` ranks comes to, started with the settings that `of` gives it.
fn on_ranks(size: usize, existing: Existing, of: impl Fn(usize) -> TrainConfig + Sync) -> Vec<Result<u64, TrainError>> {
    on_devices(size, existing, Checks::default(), |_| None, of)
}

/// The same, each on the device that `device` gives it.
fn on_devices(
    size: usize,
    existing: Existing,
    checks: Checks,
    device: impl Fn(usize) -> Option<Opener> + Sync,
    of: impl Fn(usize) -> TrainConfig + Sync,
) -> Vec<Result<u64, TrainError>> {
    let start = |config: TrainConfig, engine: Option<ThreadEngine>| {
        let engine = engine.map(|engine| Arc::new(engine) as Arc<dyn Engine>);
        let device = device(engine.as_ref().map_or(0, |engine| engine.rank()));
        let control = RunControl { checks, device, ..control(existing, engine.as_ref()) };
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
fn ranks_may_leave_weights_on_the_disk() {
    let trained = |size: usize, on_disk: bool| {
        let folder = tempfile::tempdir().expect("temporary folder");
        let map = folder.path().join("map.json");
        fs::write(&map, "{\"\": \"disk\"}").expect("written");
        let mut config = TrainConfig { method: MethodKind::Qlora, ..config("gpt2", folder.path()) };
        if on_disk {
            config.offload = Some(folder.path().to_path_buf());
            config.device_map = Some(DeviceMap::File(map));
        }
        trains(size, Existing::Refuse, &config)
    };
    assert_same("weights on the disk", &trained(1, false), &trained(2, true));
}

#[test]
fn a_run_goes_on_with_other_ranks() {
    let adapter = |folder: &Path| TrainConfig { dropout: 0.1, ..config("llama-gqa-tied", folder) };
    let full = |folder: &Path| TrainConfig {
        method: MethodKind::Full,
        optimizer: OptimizerKind::Adamw8bit,
        precision: PrecisionChoice::Bf16,
        clip: 0.01,
        ..config("llama-f16", folder)
    };
    goes_on(&adapter);
    goes_on(&full);
}

/// A run in four parts is the run in one.
fn goes_on(of: &dyn Fn(&Path) -> TrainConfig) {
    let folder = tempfile::tempdir().expect("temporary folder");
    // At a constant rate a run is the beginning of a longer one.
    let schedule = ScheduleKind::Constant;
    let whole = TrainConfig { schedule, save_every: Some(1), ..of(folder.path()) };
    let never_stopped = trains(1, Existing::Refuse, &whole);
    let out = folder.path().join("parts");
    for (size, steps) in [(1, 1), (4, 2), (2, 3), (3, 5)] {
        let part = TrainConfig { out: out.clone(), steps: Some(steps), ..whole.clone() };
        let existing = if steps == 1 { Existing::Refuse } else { Existing::Resume };
        for updates in on_ranks(size, existing, |_| part.clone()) {
            assert_eq!(updates.unwrap_or_else(|error| panic!("{size} ranks: {error}")), steps);
        }
    }
    let record = fs::read(out.join("record.json")).expect("a record");
    let record: serde_json::Value = serde_json::from_slice(&record).expect("JSON");
    let hosts: Vec<_> = record["ranks"].as_array().expect("ranks").iter().map(|rank| &rank["host"]).collect();
    assert_eq!(hosts, ["localhost"; 3]);
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
    let map = Some(DeviceMap::File(folder.path().join("map.json")));
    let mapped = TrainConfig { method: MethodKind::Full, device_map: map, ..config.clone() };
    for error in on_ranks(2, Existing::Refuse, |_| mapped.clone()) {
        assert!(error.expect_err("states are shared out").to_string().contains("device-map"));
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

/// A bit that is flipped on one rank is found by name: of parameters before the update that would hand it on, and of weights
/// before anything is saved. In the fourth update rank 0 alone has a micro-batch.
#[test]
fn a_rank_whose_memory_fails_is_named_and_nothing_of_it_is_saved() {
    let parameter = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
    let weight = "model.embed_tokens.weight";
    let each = Checks { compare_ranks_every: 1, ..Checks::default() };
    let usual = Checks::default();
    let cases = [
        (3, 1, FaultyDevice::IN_A_PARAMETER, each, parameter, "the other ranks", 4),
        (3, 0, FaultyDevice::IN_A_PARAMETER, usual, parameter, "the other ranks", 3),
        (2, 1, FaultyDevice::IN_A_WEIGHT, usual, weight, "rank 0", 5),
    ];
    for (size, faulty, opener, checks, tensor, others, update) in cases {
        let folder = tempfile::tempdir().expect("temporary folder");
        let config = config("llama-gqa-tied", folder.path());
        let device = |rank: usize| (rank == faulty).then_some(opener);
        let ended = on_devices(size, Existing::Refuse, checks, device, |_| config.clone());
        for error in ended {
            let error = error.expect_err("it is noticed on all ranks");
            let expected = format!("after update {update}, \"{tensor}\" of rank {faulty} is not what {others} has");
            assert!(error.to_string().starts_with(&expected), "{error}");
            assert_eq!(error.kind(), ErrorKind::Numeric);
        }
        assert!(!config.out.join("checkpoint-5").exists(), "nothing is saved");
    }
}

/// A gradient that is no number is named where it is added up, before the update, whether micro-batches are added onto each
/// other or apart; on two ranks the one that owns it, or its norm, ends both.
#[test]
fn a_gradient_that_is_no_number_is_named_and_nothing_of_it_is_saved() {
    let parameter = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
    for (rule, sum) in [(AccumulationKind::Running, ".grad"), (AccumulationKind::Apart, ".grad_sum")] {
        let folder = tempfile::tempdir().expect("temporary folder");
        let config = TrainConfig { accumulation: Some(rule), ..config("llama-gqa-tied", folder.path()) };
        let device = |_| Some(FaultyDevice::IN_A_GRADIENT);
        let mut ended = on_devices(1, Existing::Refuse, Checks::default(), device, |_| config.clone());
        let error = ended.remove(0).expect_err("it is noticed");
        let expected = format!("update 4: \"{parameter}{sum}\" holds NaN at element 0, before the update was made");
        assert!(error.to_string().starts_with(&expected), "{error}");
        assert_eq!(error.kind(), ErrorKind::Numeric);
        assert!(!config.out.join("checkpoint-5").exists(), "nothing is saved");
    }
    let folder = tempfile::tempdir().expect("temporary folder");
    let config = config("llama-gqa-tied", folder.path());
    let device = |rank: usize| (rank == 1).then_some(FaultyDevice::IN_A_GRADIENT);
    for error in on_devices(2, Existing::Refuse, Checks::default(), device, |_| config.clone()) {
        error.expect_err("it ends both");
    }
    assert!(!config.out.join("checkpoint-5").exists(), "nothing is saved");
}

/// Counts the bytes that a rank sends in messages that are not small.
#[derive(Debug)]
struct Counting {
    engine: ThreadEngine,
    sent: Arc<AtomicU64>,
}

/// What ranks tell each other of an update beside what its plans move.
const SMALL_BYTES: usize = 400;

impl Engine for Counting {
    fn rank(&self) -> usize {
        self.engine.rank()
    }

    fn size(&self) -> usize {
        self.engine.size()
    }

    fn host(&self) -> &str {
        self.engine.host()
    }

    fn exchange(&self, outgoing: &[Outgoing<'_>], incoming: &mut [Incoming<'_>]) -> Result<(), CommError> {
        let bytes = outgoing.iter().map(|message| message.bytes.len()).filter(|&bytes| bytes >= SMALL_BYTES);
        self.sent.fetch_add(bytes.sum::<usize>() as u64, Ordering::Relaxed);
        self.engine.exchange(outgoing, incoming)
    }

    fn on_failure(&self, tell: OnFailure) {
        self.engine.on_failure(tell);
    }

    fn abandon(&self, exit_code: u8) {
        self.engine.abandon(exit_code);
    }
}

/// What each rank sends in so many updates.
fn sent(ranks: usize, config: &TrainConfig) -> Vec<u64> {
    let sent: Vec<Arc<AtomicU64>> = (0..ranks).map(|_| Arc::default()).collect();
    thread::scope(|scope| {
        for (engine, sent) in ThreadEngine::ranks(ranks, DEADLINE).into_iter().zip(&sent) {
            let engine: Arc<dyn Engine> = Arc::new(Counting { engine, sent: Arc::clone(sent) });
            let config = config.clone();
            scope.spawn(move || {
                train(config, control(Existing::Refuse, Some(&engine)), &mut Silent).expect("it trains")
            });
        }
    });
    sent.iter().map(|sent| sent.load(Ordering::Relaxed)).collect()
}

/// Thirteen micro-batches in four updates: the last has one, of rank 0. What is sent at the beginning and at the end of a run is
/// the same however many updates it has.
#[test]
fn what_is_sent_is_what_is_planned() {
    const RANKS: usize = 3;
    let folder = tempfile::tempdir().expect("temporary folder");
    let config = TrainConfig { save_every: None, ..config("llama-gqa-tied", folder.path()) };
    let cluster = Cluster::new(RANKS, 1, None).expect("ranks");
    let planned = |grad_accum| {
        let config = TrainConfig { grad_accum, ..config.clone() };
        plan_on_ranks(config, &cluster).expect("a plan").ranks.expect("of ranks").traffic
    };
    let of = |steps: u64, out: &str| {
        sent(RANKS, &TrainConfig { steps: Some(steps), out: folder.path().join(out), ..config.clone() })
    };
    let (one, four) = (of(1, "1"), of(4, "4"));
    let (whole, rest) = (planned(4), planned(1));
    for rank in 0..RANKS {
        let expected = 2 * whole.sent_bytes[rank] + rest.sent_bytes[rank];
        // Those few are among the small messages.
        assert_eq!(four[rank] - one[rank], expected - 3 * whole.norm_bytes[rank], "rank {rank}");
    }
}

/// What each rank keeps of the optimizer, as the account has it, gets less by as many as there are.
#[test]
fn moments_are_shared_out() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let config = TrainConfig { method: MethodKind::Full, ..config("llama-f16", folder.path()) };
    let moments = |ranks: usize| {
        let cluster = Cluster::new(ranks, 1, None).expect("ranks");
        let plan = plan_on_ranks(config.clone(), &cluster).expect("a plan");
        (plan.account.bytes_of(MemoryPart::Optimizer), plan.account.bytes_of(MemoryPart::Gradients))
    };
    let (alone, four) = (moments(1), moments(4));
    assert!(4 * four.0 < alone.0 + alone.0 / 4, "{four:?} of {alone:?}");
    // Of gradients a whole set stays, which forward and backward add onto.
    assert!(four.1 < alone.1 * 5 / 8 + alone.1 / 16, "{four:?} of {alone:?}");
}
