//! `--offload DIR`: kept values go to a file and come back, in memory that neither keeping nor recomputing fits; the result
//! has the same bits, and the folder is left as it was. What the disk costs is given; what it really costs decides nothing.

use crate::command::{Train, remat, text};
use crate::prices::{self, QUICK, SLOW};
use remat_plan::SpillPrices;
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

const FLAGS: &str = "--method lora --rank 4 --steps 2 --batch-size 64 --grad-accum 1 --threads 2";
/// So large that what a process holds anyway, which differs from one to the next, is little beside what offload saves.
const LARGE: &str = "--method lora --rank 4 --steps 2 --batch-size 256 --grad-accum 1 --threads 2";
const ADAPTER: &str = "adapter_model.safetensors";

fn event(output: &str, name: &str) -> Value {
    let events = output.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    events.into_iter().find(|event| event["event"] == name).unwrap_or_else(|| panic!("no event {name} in {output}"))
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is not a number"))
}

/// A folder to offload to, whose disk is as quick as a test says.
struct Disk {
    folder: tempfile::TempDir,
    /// Beside it, as the folder has to be as it was.
    prices: tempfile::TempDir,
}

impl Disk {
    fn new() -> Disk {
        let new = || tempfile::tempdir().expect("temporary folder");
        Disk { folder: new(), prices: new() }
    }

    fn flags(&self, speed: SpillPrices) -> String {
        let prices = prices::file(self.prices.path(), speed);
        format!("--offload {} --prices {}", self.folder.path().display(), prices.display())
    }

    fn is_empty(&self) -> bool {
        is_empty(self.folder.path())
    }
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).expect("readable").next().is_none()
}

/// The least memory that `plan` says such a run can have.
fn least_memory(more: &str) -> u64 {
    let model = crate::command::case("llama-gqa-tied");
    let rows = model.join("rows.jsonl");
    let flags = format!("plan --json --model {} --data {} {LARGE} {more}", model.display(), rows.display());
    let output = remat(flags.split_whitespace()).output().expect("the binary runs");
    let plan: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output.stderr)));
    number(&plan["smallest_budget_bytes"])
}

#[test]
fn offload_really_offloads_memory_falls_and_every_bit_of_the_result_stays() {
    let disk = Disk::new();
    let run = |flags: &str, more: &str| Train::on("llama-gqa-tied", &format!("{flags} --json {more}")).finish();
    // A quarter of what block boundaries take.
    let budget = |full: &Value, speed| {
        let kept = number(&full["parts"]["kept_activations"]) / 4;
        (kept, format!("--checkpointing budget:{kept} {}", disk.flags(speed)))
    };
    let full = run(FLAGS, "--checkpointing full");
    for (speed, checks) in [(QUICK, ""), (SLOW, "--poison --validate")] {
        let (kept, budgeted) = budget(&event(&full.stdout, "planned"), speed);
        let more = format!("{budgeted} {checks}");
        let offloading = run(FLAGS, &more);
        let planned = event(&offloading.stdout, "planned");
        assert!(number(&planned["offloaded_bytes"]) > 0, "{planned}");
        assert!(number(&planned["parts"]["kept_activations"]) <= kept, "{planned}");
        assert!(offloading.train.bytes(ADAPTER) == full.train.bytes(ADAPTER), "{more}");
        assert_eq!(offloading.train.metrics("loss"), full.train.metrics("loss"));
        let record: Value = serde_json::from_slice(&offloading.train.bytes("record.json")).expect("JSON");
        assert_eq!(record["plan"]["offloaded_bytes"], planned["offloaded_bytes"]);
    }
    // A budget leaves the arena free, which a plan with a quick disk makes use of; a limit does not.
    let full = run(LARGE, "--checkpointing full");
    let (arena, planned) = (|planned: &Value| number(&planned["arena_bytes"]), event(&full.stdout, "planned"));
    let limit = number(&planned["planned_peak_bytes"]) - arena(&planned) / 8;
    for speed in [QUICK, SLOW] {
        let offloading = run(LARGE, &format!("{} --memory {limit}", budget(&planned, speed).1));
        let fallen = arena(&planned).saturating_sub(arena(&event(&offloading.stdout, "planned")));
        let measured = |output: &str| number(&event(output, "finished")["peak_bytes"]);
        let (most, least) = (measured(&full.stdout), measured(&offloading.stdout));
        // The copy queue's own pages are few.
        assert!(fallen > 0 && least + fallen / 2 < most, "{least} of {most} with {fallen} less in the arena");
    }
    assert!(disk.is_empty(), "the file has no name");
}

#[test]
fn a_limit_below_the_smallest_without_it_is_refused_by_naming_offload_and_met_with_it() {
    let disk = Disk::new();
    let offload = disk.flags(QUICK);
    let (alone, least) = (least_memory(""), least_memory(&offload));
    assert!(least + (1 << 20) < alone, "{least} of {alone}");
    let limit = alone - (alone - least) / 3;
    let train = Train::on("llama-gqa-tied", LARGE);
    let refused = train.command(&format!("--memory {limit}")).output().expect("the binary runs");
    let stderr = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(3), "{stderr}");
    assert!(stderr.contains("--offload DIR  ") && stderr.contains("saves"), "{stderr}");
    let met = train.command(&format!("--memory {limit} {offload} --json")).output().expect("the binary runs");
    assert_eq!(met.status.code(), Some(0), "{}", text(&met.stderr));
    let (planned, end) = (event(&text(&met.stdout), "planned"), event(&text(&met.stdout), "finished"));
    assert!(number(&planned["offloaded_bytes"]) > 0);
    assert!(number(&end["peak_bytes"]) <= number(&planned["planned_peak_bytes"]));
    assert!(number(&planned["planned_peak_bytes"]) <= limit);
    for less in ["--memory 8MiB", "--checkpointing budget:1KiB"] {
        let refused = train.command(&format!("{less} {offload} --force")).output().expect("the binary runs");
        let stderr = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(3), "{stderr}");
        assert!(stderr.contains("--rank 2 ") && !stderr.contains("--offload DIR"), "{stderr}");
    }
}

/// Runs where no file may be larger than about two MiB, as on a disk that has no more room.
fn on_a_small_disk(command: &Command) -> Output {
    let arguments = command.get_args().map(|argument| argument.to_str().expect("UTF-8"));
    let line = std::iter::once(env!("CARGO_BIN_EXE_remat")).chain(arguments).collect::<Vec<_>>().join(" ");
    let script = format!("trap '' XFSZ; ulimit -f 4096; exec {line}");
    Command::new("sh").arg("-c").arg(script).output().expect("a shell")
}

#[test]
fn a_disk_that_is_too_small_is_an_error_before_the_first_step() {
    let disk = Disk::new();
    let train = Train::on("llama-gqa-tied", FLAGS);
    let offload = format!("--checkpointing budget:1MiB {}", disk.flags(SLOW));
    let output = on_a_small_disk(&train.command(&offload));
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    assert!(stderr.contains("cannot hold") && stderr.contains("a disk with more room"), "{stderr}");
    assert!(!train.out().exists() && disk.is_empty());
}

#[test]
fn a_folder_that_is_not_there_is_bad_input() {
    let train = Train::on("gpt2", "--steps 1");
    let output = train.command("--offload /no/such/folder").output().expect("the binary runs");
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("/no/such/folder: no place for offloaded values"), "{stderr}");
    assert!(!train.out().exists());
}

#[test]
fn a_killed_run_leaves_no_file_and_is_resumed_without_the_folder() {
    let disk = Disk::new();
    let flags = "--method lora --rank 4 --batch-size 16 --grad-accum 1 --threads 2 --schedule constant";
    let train = Train::on("llama-gqa-tied", flags);
    let offload = format!("--checkpointing budget:512KiB {}", disk.flags(QUICK));
    let mut command = train.command(&format!("--steps 1000000 --save-every 1 --save-total-limit 2 {offload}"));
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary runs");
    while !train.out().join("checkpoint-2/manifest.json").exists() {
        assert!(child.try_wait().expect("a child").is_none(), "ended without a save");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(disk.is_empty(), "nor while it runs");
    child.kill().expect("killed");
    child.wait().expect("ended");
    assert!(disk.is_empty());
    let made = train.metrics("step").len();
    let resumed = train.resume(&format!("--steps {} --checkpointing none", made + 2));
    assert_eq!(resumed.status.code(), Some(0), "{}", text(&resumed.stderr));
    let whole = Train::on("llama-gqa-tied", &format!("{flags} --steps {}", made + 2)).finish().train;
    assert!(whole.bytes(ADAPTER) == train.bytes(ADAPTER));
}

/// One measurement of operations, which takes seconds. What they cost here is nobody's to assert.
#[test]
fn prices_that_decide_are_measured_where_none_are_given_and_kept() {
    let cache = tempfile::tempdir().expect("temporary folder");
    let folder = tempfile::tempdir().expect("temporary folder");
    let flags = format!("{FLAGS} --json --checkpointing budget:1MiB --offload {}", folder.path().display());
    let train = Train::on("llama-gqa-tied", &flags);
    let output = train.command("").env("XDG_CACHE_HOME", cache.path()).output().expect("the binary runs");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(number(&event(&text(&output.stdout), "planned")["offloaded_bytes"]) > 0);
    let kept = std::fs::read_dir(cache.path().join("remat")).expect("written").flatten().count();
    assert_eq!((kept, is_empty(folder.path())), (1, true));
    let given = Disk::new();
    let with_given = Train::on("llama-gqa-tied", &format!("{FLAGS} --checkpointing budget:1MiB {}", given.flags(SLOW)));
    assert!(with_given.finish().train.bytes(ADAPTER) == train.bytes(ADAPTER), "prices decide no bit");
}
