//! Memory of the host and of a device with memory of its own: the account splits by where bytes lie, what is planned is
//! what the device allocates, and each limit is checked by itself.

use remat_compiler::compile;
use remat_plan::{ByteSize, Device, DeviceProfile, MemoryDomain, Policy};
use remat_step::DeviceOptions;
use remat_step::device::{Level, Opener};
use remat_testkit::{DistantDevice, two_layer_mlp};
use remat_train::{
    Checks, Event, Existing, MemoryAccount, MemoryPart, Reporter, RunControl, TrainConfig, TrainError, train,
};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

/// What of a run is the device's: its arena, its sources, its kernels' scratch.
const OF_DEVICE: [MemoryPart; 10] = [
    MemoryPart::Weights,
    MemoryPart::QuantisedWeights,
    MemoryPart::TrainedParameters,
    MemoryPart::Gradients,
    MemoryPart::Optimizer,
    MemoryPart::KeptActivations,
    MemoryPart::HeadWorkspace,
    MemoryPart::Transient,
    MemoryPart::Inputs,
    MemoryPart::KernelScratch,
];

/// What the process held when it was asked: two askings differ.
const OF_PROCESS: MemoryPart = MemoryPart::ProgramAndTokenizer;

#[derive(Default)]
struct Planned(Option<MemoryAccount>);

impl Reporter for Planned {
    fn report(&mut self, event: Event<'_>) {
        if let Event::Planned(planned) = event {
            self.0 = Some(planned.memory.clone());
        }
    }
}

fn run(device: Option<Opener>, change: fn(TrainConfig) -> TrainConfig) -> Result<MemoryAccount, TrainError> {
    let folder = tempfile::tempdir().expect("temporary folder");
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/parity/llama-gqa-tied");
    let config = TrainConfig {
        data: vec![model.join("rows.jsonl")],
        model,
        out: folder.path().join("out"),
        rank: 4,
        steps: Some(1),
        threads: Some(2),
        ..TrainConfig::default()
    };
    let (interrupt, mut planned) = (AtomicBool::new(false), Planned::default());
    let control = RunControl {
        existing: Existing::Refuse,
        interrupt: &interrupt,
        trace: None,
        config_file: None,
        checks: Checks::default(),
        device,
        phases_apart: false,
        ranks: None,
    };
    train(change(config), control, &mut planned)?;
    Ok(planned.0.expect("a run tells its plan"))
}

#[test]
fn the_account_of_a_device_with_memory_of_its_own_splits() {
    let here = run(None, |config| config).expect("trains");
    let there = run(Some(DistantDevice::OPENER), |config| config).expect("trains");
    let [host, device, disk] = MemoryDomain::ALL;
    for &part in MemoryPart::ALL.iter().filter(|part| **part != OF_PROCESS) {
        assert_eq!(here.bytes_of(part), there.bytes_of(part), "{part:?}");
        assert_eq!(here.rows.bytes(device, part), 0, "the CPU's memory is the host's: {part:?}");
        let home = if OF_DEVICE.contains(&part) { device } else { host };
        assert_eq!(there.rows.bytes(home, part), there.bytes_of(part), "{part:?}");
    }
    assert!(there.bytes_of(MemoryPart::KeptActivations) > 0 && there.bytes_of(MemoryPart::Data) > 0);
    assert_eq!(there.running_bytes(device), OF_DEVICE.iter().map(|&part| here.bytes_of(part)).sum::<usize>());
    assert_eq!([here.running_bytes(disk), there.running_bytes(disk)], [0, 0]);
    // What a device gave at load is taken in every phase.
    for phase in there.phases() {
        assert_eq!(phase.rows.in_domain(device), there.running_bytes(device), "{:?}", phase.phase);
        assert_eq!(phase.rows.in_domain(host), phase.peak_bytes());
    }
    assert_eq!(there.peak_bytes(device), there.running_bytes(device));
}

#[test]
fn a_device_says_where_it_has_allocated() {
    let graph = two_layer_mlp().with_backward();
    let plan = compile(graph, &Policy::None, &DistantDevice::profile_of(1, Level::Portable)).expect("compiles");
    let allocated = |mut device: Box<dyn Device>| {
        device.load(vec![plan.clone()]).expect("loads");
        MemoryDomain::ALL.map(|domain| device.memory().in_domain(domain))
    };
    let here = allocated(DeviceOptions::cpu(1).at_level(Level::Portable).open());
    let there = allocated(DistantDevice::open(1, Level::Portable));
    assert!(here[0] > plan.arena_bytes, "sources count, too");
    assert_eq!((here, there), ([here[0], 0, 0], [0, here[0], 0]));
}

/// A device with so little memory of its own that nothing fits.
fn tiny(threads: usize, level: Level) -> DeviceProfile {
    DeviceProfile { own_memory_bytes: Some(64 << 10), ..DistantDevice::profile_of(threads, level) }
}

#[test]
fn each_limit_is_checked_by_itself() {
    let refused = |profile: fn(usize, Level) -> DeviceProfile, change: fn(TrainConfig) -> TrainConfig| {
        let opener = Opener { profile, ..DistantDevice::OPENER };
        let error = run(Some(opener), change).expect_err("does not fit");
        let TrainError::DoesNotFit { domain, .. } = &error else { panic!("{error}") };
        (*domain, error.to_string())
    };
    let (domain, message) = refused(tiny, |config| config);
    assert_eq!(domain, MemoryDomain::Device);
    assert!(message.contains("of the device's memory at least and the device has 0 MiB"), "{message}");
    assert!(!message.contains("`memory`"), "more of the host's memory would not help: {message}");
    // The device has room; the process has not.
    let little = |config| TrainConfig { memory: Some(ByteSize(1 << 20)), ..config };
    let (domain, message) = refused(DistantDevice::profile_of, little);
    assert_eq!(domain, MemoryDomain::Host);
    assert!(message.contains("`memory` allows 1 MiB; allow `memory` "), "{message}");
    // What is left of the device's memory caps the arena, so that a limit is met by recomputing.
    fn tight(threads: usize, level: Level) -> DeviceProfile {
        DeviceProfile {
            own_memory_bytes: Some(*TIGHT.lock().expect("set")),
            ..DistantDevice::profile_of(threads, level)
        }
    }
    static TIGHT: Mutex<usize> = Mutex::new(0);
    let all = run(Some(DistantDevice::OPENER), |config| config).expect("trains");
    let bytes = all.running_bytes(MemoryDomain::Device) - all.bytes_of(MemoryPart::KeptActivations) / 4;
    *TIGHT.lock().expect("set") = bytes;
    // Without room on the host to measure prices first, as a run would that recomputes.
    let no_measuring = |config| TrainConfig { memory: Some(ByteSize(300 << 20)), ..config };
    let less = run(Some(Opener { profile: tight, ..DistantDevice::OPENER }), no_measuring).expect("fits");
    assert!(less.running_bytes(MemoryDomain::Device) <= bytes);
    assert!(less.bytes_of(MemoryPart::KeptActivations) < all.bytes_of(MemoryPart::KeptActivations));
}
