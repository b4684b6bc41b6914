//! Real kills at random moments: a run is killed again and again until it ends, and has then given what an undisturbed one
//! gives.

use crate::job::{JOBS, Job};
use crate::layer::{self, Fault, Layer};
use crate::outcome::{self, tree};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Kills of one run before it is left alone.
const MOST_KILLS: usize = 3;

/// Numbers that differ (SplitMix64, Steele, Lea and Flood 2014).
struct Draw(u64);

impl Draw {
    /// A number below 1.
    fn share(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Kills so many runs in all, of every job in turn, each at a moment of its own. Asked for by `cargo xtask faults`.
#[test]
#[ignore = "minutes; cargo xtask faults --kills N"]
fn killed_at_random_moments() {
    let asked = std::env::var("REMAT_KILLS").ok().and_then(|asked| asked.parse().ok()).unwrap_or(20);
    let seed = std::env::var("REMAT_KILLS_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let mut draw = Draw(seed);
    let (mut kills, mut runs) = (0, 0);
    let references: Vec<_> = JOBS.iter().map(undisturbed).collect();
    while kills < asked {
        let (job, (whole, time)) = (&JOBS[runs % JOBS.len()], &references[runs % JOBS.len()]);
        kills += killed(job, whole, *time, &mut draw);
        runs += 1;
    }
    println!("{kills} kills of {runs} runs: every result as of an undisturbed run, nothing left behind");
}

/// What the job gives, and how long it takes.
fn undisturbed(job: &Job) -> (outcome::Tree, Duration) {
    let layer = Layer::new();
    job.prepare(layer.path());
    let start = Instant::now();
    let output = layer.command(&job.arguments(layer.path()), Fault::None, None).output().expect("the binary runs");
    assert_eq!(output.status.code(), Some(0), "{}: {}", job.name, String::from_utf8_lossy(&output.stderr));
    (job.result(layer.path()), start.elapsed())
}

/// Runs a job with kills until it ends, and looks at what it left. How often it was killed.
fn killed(job: &Job, whole: &outcome::Tree, time: Duration, draw: &mut Draw) -> usize {
    let layer = Layer::new();
    job.prepare(layer.path());
    let before = tree(layer.path());
    let mut kills = 0;
    for _ in 0..MOST_KILLS {
        let mut command = layer::plain(&job.arguments_again(layer.path()));
        command.env("TMPDIR", layer.path().join("tmp"));
        let mut run = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary runs");
        std::thread::sleep(time.mul_f64(1.1 * draw.share()));
        let has_ended = run.try_wait().expect("a child").is_some();
        run.kill().expect("a child");
        run.wait().expect("a child");
        if has_ended {
            break;
        }
        kills += 1;
    }
    let place = format!("{}, killed {kills} times", job.name);
    outcome::assert_inputs_unchanged(layer.path(), &before, &place);
    crate::again(job, layer.path(), &place, whole);
    outcome::assert_no_litter(layer.path(), &before, &job.left(), &place);
    kills
}
