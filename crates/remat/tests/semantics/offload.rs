//! G: offload really offloads: kept values leave the arena for a file and come back with every bit. What the disk costs is
//! given, quick and slow, and what it really costs decides nothing.

use crate::models::{ROWS, WIDTH, bits, block, chain, classifier, feed, runs_again, started};
use remat::{CheckpointPolicy, Decision, Error, Graph, Options, Prices, Rules, SpillPrices, Step, Tensor};
use std::path::Path;

const WIDE: usize = 4 * ROWS * WIDTH * 4;

/// A disk that copies are worth it to, and one that they are not.
const QUICK: f64 = 4e9;
const SLOW: f64 = 1e6;

/// Operations by arithmetic, and copies at so many bytes per second.
fn prices(bytes_per_second: f64) -> Prices {
    let spill = SpillPrices { write_bytes_per_second: bytes_per_second, read_bytes_per_second: bytes_per_second };
    Prices { spill: Some(spill), ..Prices::nominal(2) }
}

/// Compiled and fed, with a folder for what is offloaded, on a disk as the options say.
fn offloading((graph, loss): (Graph, Tensor), folder: &Path, options: Options) -> Result<Step, Error> {
    let mut step = graph.compile(loss, options.threads(2).seed(7).offload(folder))?;
    feed(&mut step);
    Ok(step)
}

fn names(step: &Step, offloaded: bool) -> Vec<String> {
    step.saved_residuals().into_iter().filter(|kept| kept.offloaded == offloaded).map(|kept| kept.name).collect()
}

#[test]
fn g_offload_really_offloads_memory_falls_and_gradients_are_identical() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let kept = started(chain(6), CheckpointPolicy::none());
    let expected = bits(&mut started(chain(6), CheckpointPolicy::none()));
    let early = (0..5).flat_map(|i| ["up.linear", "gelu", "down.linear"].map(|name| format!("layers.{i}.{name}")));
    let policies = [
        CheckpointPolicy::rules(Rules::new().must_offload(early)),
        CheckpointPolicy::rules(Rules::new().prefer_offload(["gelu", "linear"])),
        CheckpointPolicy::predicate(|value| match value.bytes {
            WIDE => Decision::PreferOffload,
            _ => Decision::PreferSave,
        }),
        CheckpointPolicy::offload_dots(),
    ];
    for policy in policies {
        for (speed, poison) in [(QUICK, false), (QUICK, true), (SLOW, false)] {
            let options = Options::new().policy(policy.clone()).poison(poison).prices(prices(speed));
            let mut step = offloading(chain(6), folder.path(), options).expect("compiles");
            assert!(!names(&step, true).is_empty(), "{policy}");
            let (now, before) = (step.memory(), kept.memory());
            assert!(now.activation_bytes < before.activation_bytes / 2, "{policy}: {now:?}");
            // From a slow disk, values have to come back as soon as backward begins.
            let falls = now.arena_bytes < before.arena_bytes || speed == SLOW;
            assert!(falls && now.arena_bytes <= before.arena_bytes, "{policy}: {now:?}, {before:?}");
            assert!(bits(&mut step) == expected, "{policy}");
            assert!(step.validate().expect("valid").reference_values > 0);
        }
    }
    assert_eq!(std::fs::read_dir(folder.path()).expect("readable").count(), 0, "nothing is left behind");
}

#[test]
fn g_offload_by_name_moves_exactly_those_and_recomputes_as_the_policy_says() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let named = CheckpointPolicy::save_and_offload_only_these_names(
        ["layers.0.down.linear"],
        ["layers.0.up.linear", "layers.1.up.linear"],
    );
    let mut step = offloading(chain(3), folder.path(), Options::new().policy(named.clone()).prices(prices(SLOW)))
        .expect("compiles");
    assert_eq!(names(&step, true), ["layers.0.up.linear", "layers.1.up.linear"]);
    assert!(names(&step, false).contains(&"layers.0.down.linear".to_string()));
    assert!(runs_again(&step) > 0, "what is not named is computed again");
    let expected = bits(&mut started(chain(3), CheckpointPolicy::none()));
    assert!(bits(&mut step) == expected);
    // Without a folder, a preference is for keeping.
    let mut kept = started(chain(3), named);
    assert!(names(&kept, true).is_empty() && names(&kept, false).contains(&"layers.1.up.linear".to_string()));
    assert!(bits(&mut kept) == expected);
    let parsed: CheckpointPolicy = "offload_dots".parse().expect("a name");
    let step =
        offloading(chain(3), folder.path(), Options::new().policy(parsed).prices(prices(QUICK))).expect("compiles");
    let moved = names(&step, true);
    assert!(!moved.is_empty() && moved.iter().all(|name| name.ends_with(".linear")), "{moved:?}");
}

#[test]
fn g_a_must_offload_that_cannot_be_is_an_error_that_names_the_value() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let must = |names: [&str; 1]| {
        Options::new().policy(CheckpointPolicy::rules(Rules::new().must_offload(names))).prices(prices(QUICK))
    };
    let (graph, loss) = chain(2);
    let refused = graph.compile(loss, must(["layers.0.up.linear"])).expect_err("no folder");
    assert!(refused.to_string().contains("\"layers.0.up.linear\", and there is no folder"), "{refused}");
    let unread = || {
        classifier(|g, x| {
            let h = g.checkpoint("layers.0", |g| block(g, x))?;
            let twice = g.scale(h, 2.0)?;
            g.scale(twice, 0.5)
        })
    };
    let refused = offloading(unread(), folder.path(), must(["scale"])).expect_err("no derivative reads it");
    assert!(refused.to_string().contains("which cannot leave"), "{refused}");
    let both = Rules::new().must_offload(["layers.0.up.linear"]).must_recompute(["linear"]);
    let options = Options::new().policy(CheckpointPolicy::rules(both)).prices(prices(QUICK));
    let refused = offloading(chain(2), folder.path(), options).expect_err("contradiction");
    assert!(refused.to_string().contains("by must_recompute and by must_offload"), "{refused}");
}

#[test]
fn i_below_the_smallest_budget_offload_gives_a_plan_that_meets_it() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let wide = || {
        classifier(|g, x| {
            (0..6).try_fold(x, |h, i| {
                g.checkpoint(&format!("layers.{i}"), |g| {
                    // 24 rows of 64 elements: enough for a copy to be worth it.
                    let inner = g.dense("up", h, 4 * WIDTH)?;
                    let inner = g.gelu(inner)?;
                    let inner = g.dense("across", inner, 4 * WIDTH)?;
                    let inner = g.gelu(inner)?;
                    if i < 5 { Ok(inner) } else { g.dense("down", inner, WIDTH) }
                })
            })
        })
    };
    let least = {
        let (graph, loss) = wide();
        let refused = graph.compile(loss, Options::new().policy(CheckpointPolicy::budget(0))).expect_err("too small");
        let Error::Compile(error) = refused else { panic!("{refused}") };
        error.smallest_bytes().expect("says how much would do")
    };
    let options = Options::new().policy(CheckpointPolicy::budget(least / 2)).prices(prices(SLOW));
    let mut step = offloading(wide(), folder.path(), options).expect("compiles");
    assert!(step.memory().activation_bytes <= least / 2);
    assert!(bits(&mut step) == bits(&mut started(wide(), CheckpointPolicy::none())));
}

#[test]
fn g_a_folder_is_measured_where_no_price_is_given_and_impossible_prices_are_refused() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let must = CheckpointPolicy::rules(Rules::new().must_offload(["layers.0.up.linear"]));
    let options = || Options::new().policy(must.clone());
    // However quick the disk is, a must is a must, and the bits are the same.
    let mut step = offloading(chain(2), folder.path(), options()).expect("compiles");
    assert_eq!(names(&step, true), ["layers.0.up.linear"]);
    assert!(bits(&mut step) == bits(&mut started(chain(2), CheckpointPolicy::none())));
    let mut short = prices(QUICK);
    short.rates.pop();
    for wrong in [prices(f64::NAN), prices(0.0), short] {
        let refused = offloading(chain(2), folder.path(), options().prices(wrong)).expect_err("no machine");
        assert!(refused.to_string().contains("Prices::nominal"), "{refused}");
    }
}
