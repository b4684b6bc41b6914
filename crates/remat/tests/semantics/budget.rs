//! I: budgets in bytes.

use crate::models::{bits, chain, classifier, runs_again, started};
use remat::{CheckpointPolicy, Options};

#[test]
fn i_every_budget_from_the_smallest_up_is_kept_and_gives_the_same_bits() {
    let expected = bits(&mut started(chain(5), CheckpointPolicy::none()));
    let all = started(chain(5), CheckpointPolicy::none()).memory().activation_bytes;
    let smallest = smallest();
    assert!(smallest < all);
    for share in 0..8 {
        let budget = smallest + (all - smallest) * share / 7;
        let mut step = started(chain(5), CheckpointPolicy::budget(budget));
        assert!(step.memory().activation_bytes <= budget, "{budget}");
        assert!(bits(&mut step) == expected, "{budget}");
    }
    assert_eq!(runs_again(&started(chain(5), CheckpointPolicy::budget(all))), 0);
}

fn smallest() -> usize {
    let (g, loss) = chain(5);
    let refused = g.compile(loss, Options::new().policy(CheckpointPolicy::budget(1))).expect_err("too small");
    let remat::Error::Compile(error) = refused else { panic!("another error: {refused}") };
    error.smallest_bytes().expect("says what would do")
}

#[test]
fn i_below_the_smallest_budget_the_error_states_it_and_what_would_lower_it() {
    let (g, loss) = chain(5);
    let refused =
        g.compile(loss, Options::new().policy(CheckpointPolicy::budget(1))).expect_err("too small").to_string();
    assert!(refused.contains(&format!("keeps at least {} bytes", smallest())), "{refused}");
    assert!(refused.contains("a shorter sequence or smaller batch"), "{refused}");
}

#[test]
fn i_planned_time_never_rises_when_the_budget_rises() {
    let prices = remat::Prices::nominal(1);
    let smallest = smallest();
    let all = started(chain(5), CheckpointPolicy::none()).memory().activation_bytes;
    let mut before = f64::INFINITY;
    for share in 0..10 {
        let step = started(chain(5), CheckpointPolicy::budget(smallest + (all - smallest) * share / 9));
        let seconds = step.plan().step_seconds(&prices);
        assert!(seconds <= before, "{seconds} s after {before} s");
        before = seconds;
    }
}

#[test]
fn i_auto_fits_an_arena_or_says_the_smallest() {
    let none = started(chain(5), CheckpointPolicy::none());
    let cap = none.memory().arena_bytes - 1;
    let (g, loss) = chain(5);
    let step = g.compile(loss, Options::new().policy(CheckpointPolicy::auto()).arena_cap_bytes(cap)).expect("fits");
    assert!(step.memory().arena_bytes <= cap && runs_again(&step) > 0);
    let (g, loss) = chain(5);
    let options = Options::new().policy(CheckpointPolicy::auto()).arena_cap_bytes(64);
    let refused = g.compile(loss, options).expect_err("too small").to_string();
    assert!(refused.contains("needs at least"), "{refused}");
}

#[test]
fn i_without_regions_everything_is_kept_and_a_smaller_budget_is_refused() {
    let model = || {
        classifier(|g, x| (0..4).try_fold(x, |h, i| g.scope(&format!("layers.{i}"), |g| crate::models::block(g, h))))
    };
    let all = started(model(), CheckpointPolicy::full()).memory().activation_bytes;
    assert_eq!(all, started(model(), CheckpointPolicy::none()).memory().activation_bytes);
    assert_eq!(started(model(), CheckpointPolicy::budget(all)).memory().activation_bytes, all);
    let (g, loss) = model();
    let refused = g.compile(loss, Options::new().policy(CheckpointPolicy::budget(all - 1))).expect_err("too small");
    assert!(refused.to_string().contains(&format!("at least {all} bytes")), "{refused}");
}
