//! G: which values are kept, decided by name, op or function, counted exactly.

use crate::models::{ROWS, WIDTH, bits, chain, classifier, runs_again, started};
use remat::{CheckpointPolicy, Decision, Error, Graph, Options, Rules, Tensor};

/// Two products in one region and one behind it: `a` is wide, `b` is narrow, each read by a GELU's derivative.
fn two_products() -> (Graph, Tensor) {
    classifier(|g, x| {
        let h = g.checkpoint("region", |g| {
            let a = g.dense("a", x, 4 * WIDTH)?;
            g.checkpoint_name(a, "wide")?;
            let h = g.gelu(a)?;
            let b = g.dense("b", h, WIDTH)?;
            g.gelu(b)
        })?;
        g.checkpoint("last", |g| g.dense("c", h, WIDTH))
    })
}

/// Kept bytes of the region, and products and GELUs that run again.
fn counted(policy: CheckpointPolicy) -> (usize, usize, usize) {
    let step = started(two_products(), policy);
    let kept = step.saved_residuals();
    let of_region = kept.iter().filter(|residual| residual.region.as_deref() == Some("region"));
    let runs = step.op_runs();
    (of_region.map(|residual| residual.bytes).sum(), runs["linear"].recomputed, runs["gelu"].recomputed)
}

const NARROW: usize = ROWS * WIDTH * 4;
const WIDE: usize = 4 * NARROW;

#[test]
fn g_two_products_are_counted_exactly_under_save_all_recompute_all_and_save_the_products() {
    // a, gelu(a), b and the region's result, which the last region's product reads.
    assert_eq!(counted(CheckpointPolicy::everything_saveable()), (WIDE + WIDE + NARROW + NARROW, 0, 0));
    // The result that leaves; a, gelu(a) and b are computed again.
    assert_eq!(counted(CheckpointPolicy::nothing_saveable()), (NARROW, 2, 1));
    // a, b and the result; gelu(a) is computed again from a.
    assert_eq!(counted(CheckpointPolicy::dots_saveable()), (WIDE + NARROW + NARROW, 0, 1));
}

#[test]
fn g_a_list_of_names_keeps_those_and_a_list_of_ops_keeps_those() {
    assert_eq!(counted(CheckpointPolicy::save_only_these_names(["region.b.linear"])), (NARROW + NARROW, 1, 1));
    assert_eq!(counted(CheckpointPolicy::save_only_these_names(["wide"])), (WIDE + NARROW, 1, 1));
    assert_eq!(counted(CheckpointPolicy::save_any_except_these_names(["wide"])), (WIDE + NARROW + NARROW, 1, 0));
    assert_eq!(counted(CheckpointPolicy::save_only_these_ops(["linear"])), counted(CheckpointPolicy::dots_saveable()));
}

#[test]
fn g_a_predicate_sees_op_name_layer_bytes_and_flops() {
    let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = seen.clone();
    let small = CheckpointPolicy::predicate(move |value| {
        let row =
            (value.op.to_string(), value.name.to_string(), value.layer.map(str::to_string), value.bytes, value.flops);
        log.lock().expect("one thread").push(row);
        if value.bytes < WIDE { Decision::PreferSave } else { Decision::PreferRecompute }
    });
    assert_eq!(counted(small), (NARROW + NARROW, 1, 1));
    let seen = seen.lock().expect("one thread");
    let flops = 2.0 * (ROWS * WIDTH * 4 * WIDTH) as f64;
    let a = seen.iter().find(|row| row.1 == "region.a.linear").expect("asked about");
    assert_eq!((a.0.as_str(), a.2.as_deref(), a.3), ("linear", Some("region"), WIDE));
    assert!(a.4 >= flops && a.4 < 1.1 * flops, "{} FLOPs", a.4);
}

#[test]
fn g_every_decision_gives_the_same_bits() {
    let expected = bits(&mut started(two_products(), CheckpointPolicy::none()));
    for decision in [Decision::MustSave, Decision::PreferSave, Decision::PreferRecompute] {
        let policy = CheckpointPolicy::rules(Rules::new().with(decision, ["gelu", "linear"]));
        assert!(bits(&mut started(two_products(), policy)) == expected, "{decision:?}");
    }
    let must = CheckpointPolicy::rules(Rules::new().must_recompute(["gelu", "linear"]));
    let mut step = started(two_products(), must);
    assert!(runs_again(&step) > started(two_products(), CheckpointPolicy::full()).op_runs()["gelu"].recomputed);
    assert!(bits(&mut step) == expected, "must_recompute reaches the last region, too");
}

#[test]
fn g_a_must_beats_a_prefer_and_what_no_rule_names_follows_otherwise() {
    let rules =
        Rules::new().prefer_recompute(["linear"]).must_save(["region.a.linear"]).otherwise(Decision::PreferRecompute);
    assert_eq!(counted(CheckpointPolicy::rules(rules)), (WIDE + NARROW, 1, 1));
}

#[test]
fn g_contradictory_musts_are_an_error_that_names_the_value() {
    let rules = Rules::new().must_save(["region.a.linear"]).must_recompute(["linear"]);
    let (g, loss) = two_products();
    let refused = g.compile(loss, Options::new().policy(CheckpointPolicy::rules(rules))).expect_err("contradiction");
    assert!(matches!(refused, Error::Policy(_)));
    assert!(
        refused.to_string().contains("\"region.a.linear\" is named by must_save and by must_recompute"),
        "{refused}"
    );
}

#[test]
fn g_what_cannot_be_recomputed_is_an_error_that_names_it() {
    let rules = Rules::new().must_recompute(["sum"]);
    let (g, loss) = two_products();
    let refused = g.compile(loss, Options::new().policy(CheckpointPolicy::rules(rules))).expect_err("an output");
    assert!(refused.to_string().contains("must_recompute names sum, which cannot be"), "{refused}");
}

#[test]
fn g_a_rule_that_matches_nothing_is_an_error() {
    let rules = Rules::new().must_save(["region.linaer"]);
    let (g, loss) = two_products();
    let refused = g.compile(loss, Options::new().policy(CheckpointPolicy::rules(rules))).expect_err("a typo");
    assert!(refused.to_string().contains("\"region.linaer\""), "{refused}");
}

#[test]
fn g_results_of_one_op_are_decided_one_by_one() {
    let model = || {
        classifier(|g, x| {
            let h = g.checkpoint("region", |g| {
                let wide = g.dense("a", x, 3 * WIDTH)?;
                let parts = g.split(wide, &[WIDTH, WIDTH, WIDTH])?;
                let gated = g.swiglu(parts[0], parts[1])?;
                g.swiglu(gated, parts[2])
            })?;
            g.checkpoint("last", |g| g.dense("c", h, WIDTH))
        })
    };
    let first = CheckpointPolicy::save_only_these_names(["region.split"]);
    let step = started(model(), first.clone());
    let kept: Vec<String> = step.saved_residuals().into_iter().map(|residual| residual.name).collect();
    assert!(kept.contains(&"region.split".to_string()), "{kept:?}");
    assert!(!kept.iter().any(|name| name.starts_with("region.split.")), "{kept:?}");
    assert_eq!(step.op_runs()["split"].recomputed, 1);
    assert!(bits(&mut started(model(), first)) == bits(&mut started(model(), CheckpointPolicy::none())));
}

#[test]
fn g_names_known_from_jax_say_what_they_say_there() {
    let parsed = |text: &str| text.parse::<CheckpointPolicy>().expect("a name");
    for (name, same) in [("everything_saveable", "none"), ("nothing_saveable", "full")] {
        assert_eq!(started(chain(3), parsed(name)).plan(), started(chain(3), parsed(same)).plan());
    }
    assert_eq!(counted(parsed("dots_saveable")), counted(CheckpointPolicy::dots_saveable()));
    let refused = "dots".parse::<CheckpointPolicy>().expect_err("not a name").to_string();
    assert!(refused.contains("unknown checkpointing policy 'dots'"), "{refused}");
}

#[test]
fn names_that_no_value_has_are_refused_by_every_policy_that_asks_for_them() {
    let name = ["wide", "no such value"];
    let policies = [
        CheckpointPolicy::save_only_these_names(name),
        CheckpointPolicy::save_any_except_these_names(name),
        CheckpointPolicy::save_anything_except_these_names(name),
        CheckpointPolicy::save_any_names_but_these(name),
        CheckpointPolicy::save_and_offload_only_these_names(["wide"], ["no such value"]),
        CheckpointPolicy::save_from_both_policies(
            &CheckpointPolicy::dots_saveable(),
            &CheckpointPolicy::save_only_these_names(name),
        )
        .expect("both decide by value"),
    ];
    for policy in policies {
        let text = policy.to_string();
        let (graph, loss) = two_products();
        let refused = graph.compile(loss, Options::new().policy(policy)).expect_err(&text).to_string();
        assert!(refused.contains(&format!("{text} asks for \"no such value\", which no value")), "{refused}");
    }
    let (graph, loss) = two_products();
    let ops = CheckpointPolicy::save_only_these_ops(["linear", "conv"]);
    let refused = graph.compile(loss, Options::new().policy(ops)).expect_err("no such op").to_string();
    assert!(refused.contains("asks for the op \"conv\"") && refused.contains("gelu, linear"), "{refused}");
}

#[test]
fn every_spelling_of_jax_is_understood() {
    for text in ["dots_saveable", "checkpoint_dots"] {
        assert_eq!(counted(text.parse().expect(text)), counted(CheckpointPolicy::dots_saveable()), "{text}");
    }
    for text in ["dots_with_no_batch_dims_saveable", "checkpoint_dots_with_no_batch_dims"] {
        // There is no attention here: all products are of that kind.
        assert_eq!(counted(text.parse().expect(text)), counted(CheckpointPolicy::dots_saveable()), "{text}");
    }
    for text in ["everything_saveable", "nothing_saveable", "offload_dots", "offload_dot_with_no_batch_dims"] {
        text.parse::<CheckpointPolicy>().expect(text);
    }
    // Of the names there are, all but this one: there is one.
    let named = CheckpointPolicy::save_any_names_but_these(["wide"]);
    assert_eq!(counted(named), counted(CheckpointPolicy::nothing_saveable()));
    let both = |one: &CheckpointPolicy, other: &CheckpointPolicy| CheckpointPolicy::save_from_both_policies(one, other);
    let (wide, none) = (CheckpointPolicy::save_only_these_names(["wide"]), CheckpointPolicy::nothing_saveable());
    assert_eq!(counted(both(&wide, &none).expect("by value")), counted(wide.clone()));
    assert!(both(&wide, &CheckpointPolicy::auto()).is_err(), "a solver's policy decides nothing by value");
}

#[test]
fn checkpoint_names_survive_fusion() {
    // The sum would take the product up, and the product's own value would be gone.
    let model = |named: bool| {
        classifier(|g, x| {
            let h = g.checkpoint("region", |g| {
                let product = g.dense("a", x, WIDTH)?;
                if named {
                    g.checkpoint_name(product, "product")?;
                }
                let sum = g.add(x, product)?;
                g.gelu(sum)
            })?;
            g.checkpoint("last", |g| g.dense("c", h, WIDTH))
        })
    };
    let policy = || CheckpointPolicy::save_only_these_names(["product"]);
    let mut step = started(model(true), policy());
    assert_eq!(step.op_runs()["add"].first, 1);
    let (mut full, mut none) =
        (started(model(true), CheckpointPolicy::full()), started(model(true), CheckpointPolicy::none()));
    assert!(step.op_runs()["linear"].recomputed < full.op_runs()["linear"].recomputed, "the product is kept");
    let expected = bits(&mut none);
    assert!(bits(&mut step) == expected && bits(&mut full) == expected);
    let (graph, loss) = model(false);
    let own = CheckpointPolicy::save_only_these_names(["region.a.linear"]);
    let refused = graph.compile(loss, Options::new().policy(own)).expect_err("fused away").to_string();
    assert!(refused.contains("a value that is fused into another stays if it has a checkpoint_name"), "{refused}");
}

#[test]
fn the_policy_at_the_call_wins_over_the_model_s_and_an_adapter_makes_its_folder() {
    let model = || {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/parity/llama-gqa-tied");
        let mut model = remat::Model::from_pretrained(folder).expect("a folder");
        model.gradient_checkpointing_enable(CheckpointPolicy::full());
        model
    };
    let method = remat::Method::Lora(remat::LoraConfig { rank: 2, alpha: 4.0, ..remat::LoraConfig::default() });
    let shape = remat::BatchShape { batch: 1, seq_len: 8 };
    let step = |options: Options| model().training_step(&method, shape, options).expect("compiles");
    assert_eq!(step(Options::new().threads(1)).policy().to_string(), "full");
    let call = Options::new().threads(1).policy(CheckpointPolicy::none());
    assert_eq!(step(call).policy().to_string(), "none");
    // An adapter is saved into a folder that does not exist yet.
    let out = tempfile::tempdir().expect("folder");
    let lora = remat::LoraConfig { rank: 2, alpha: 4.0, ..remat::LoraConfig::default() };
    let folder = out.path().join("new").join("adapter");
    model().save_adapter(&step(Options::new().threads(1)), &lora, &folder).expect("written");
    assert!(folder.join("adapter_model.safetensors").is_file());
}
