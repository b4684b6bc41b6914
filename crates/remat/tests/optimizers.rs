//! Updates against torch.optim: parameters after each of four, in `fixtures/optimizers`, which `fixtures/optimizers.py` made;
//! and what groups of parameters refuse.

use remat::{
    AdamWSettings, Clip, DType, Error, Graph, GroupRate, Init, LionSettings, Moment, Optimizer, Options,
    ParameterGroup, SgdSettings, Step,
};
use remat_formats::SafetensorsFile;
use std::path::Path;

const UPDATES: usize = 4;

struct Fixture(SafetensorsFile);

impl Fixture {
    fn open() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/optimizers/updates.safetensors");
        Fixture(SafetensorsFile::open(&path).expect("the fixture"))
    }

    fn numbers(&self, name: &str) -> Vec<f32> {
        let mut numbers = vec![0.0; self.0.tensor_info(name).expect("a tensor").shape.numel()];
        self.0.read_as_f32_into(name, &mut numbers).expect("f32");
        numbers
    }
}

fn layer(fixture: &Fixture, options: Options) -> Result<Step, Error> {
    let mut g = Graph::new();
    let x = g.input("x", DType::F32, &[8, 4])?;
    let w = g.parameter("w", &[3, 4], Init::Values(fixture.numbers("w")))?;
    let b = g.parameter("b", &[3], Init::Values(fixture.numbers("b")))?;
    let y = g.linear(x, w, Some(b))?;
    let y = g.gelu(y)?;
    let loss = g.sum(y)?;
    g.compile(loss, options)
}

fn compare(case: &str, options: Options, rate: f32) {
    let fixture = Fixture::open();
    let mut step = layer(&fixture, options).expect("compiles");
    let x = fixture.numbers("x");
    for update in 0..UPDATES {
        step.set_input("x", &x[update * 32..][..32]).expect("an input");
        step.run().expect("runs");
        step.update(rate).expect("updates");
        for name in ["w", "b"] {
            let found = step.parameter(name).expect("a parameter");
            let all = fixture.numbers(&format!("{case}.{name}"));
            let expected = &all[update * found.len()..][..found.len()];
            for (found, expected) in found.iter().zip(expected) {
                assert!(
                    (found - expected).abs() <= 2e-6 * expected.abs().max(1.0),
                    "{case}, update {update}, {name}: {found} instead of {expected}"
                );
            }
        }
    }
}

fn sgd(momentum: f32, nesterov: bool) -> Optimizer {
    Optimizer::Sgd(SgdSettings { momentum, nesterov, weight_decay: 0.0 })
}

/// Decay of everything, as torch has it.
fn all_decay(optimizer: Optimizer) -> Options {
    Options::new().optimizer(optimizer).clip(Clip::None).group(ParameterGroup::named("all", "*").weight_decay(0.1))
}

#[test]
fn sgd_is_torchs_with_and_without_momentum() {
    compare("sgd", all_decay(sgd(0.0, false)), 0.05);
    compare("momentum", all_decay(sgd(0.9, false)), 0.05);
    compare("nesterov", all_decay(sgd(0.9, true)), 0.05);
}

#[test]
fn clipping_is_torchs_by_norm_and_by_value() {
    let options = |clip| Options::new().optimizer(sgd(0.0, false)).clip(clip);
    compare("clip_norm", options(Clip::Norm(0.5)), 0.05);
    compare("clip_value", options(Clip::Value(0.75)), 0.05);
}

#[test]
fn lion_is_its_formula() {
    compare("lion", all_decay(Optimizer::Lion(LionSettings::default())), 0.01);
}

#[test]
fn groups_have_rates_and_decay_of_their_own() {
    let adamw = AdamWSettings { beta2: 0.99, weight_decay: 7.0, ..AdamWSettings::default() };
    let options = || Options::new().adamw(adamw).clip(Clip::None);
    let by_factor = options()
        .group(ParameterGroup::named("matrices", "w").weight_decay(0.1))
        .group(ParameterGroup::matching("vectors", |_, shape| shape.len() == 1).rate_factor(0.1));
    compare("adamw_in_groups", by_factor, 0.01);
    let own = options()
        .group(ParameterGroup::named("matrices", "w").weight_decay(0.1).learning_rate(0.01))
        .group(ParameterGroup::named("vectors", "b").learning_rate(0.001));
    compare("adamw_in_groups", own, 123.0);
}

#[test]
fn frozen_parameters_stay_and_rates_can_be_changed() {
    let fixture = Fixture::open();
    let options = || Options::new().optimizer(sgd(0.0, false));
    let mut step = layer(&fixture, options().group(ParameterGroup::named("still", "b").frozen())).expect("compiles");
    assert_eq!(step.parameter_names(), ["w"]);
    step.set_input("x", &[0.5_f32; 32]).expect("an input");
    step.run().expect("runs");
    step.update(0.1).expect("updates");
    assert!(step.gradient("b").is_err());
    let mut step =
        layer(&fixture, options().group(ParameterGroup::named("slow", "b").rate_factor(0.0))).expect("compiles");
    let before = step.parameter("b").expect("a parameter");
    step.set_input("x", &[0.5_f32; 32]).expect("an input");
    let moved = |step: &mut Step| {
        step.run().expect("runs");
        step.update(0.1).expect("updates");
        step.parameter("b").expect("a parameter") != before
    };
    assert!(!moved(&mut step));
    step.set_group_rate("slow", GroupRate::Own(0.5)).expect("a group");
    assert!(moved(&mut step));
    let error = step.set_group_rate("fast", GroupRate::Own(0.5)).expect_err("no group");
    assert!(error.to_string().starts_with("parameter group \"fast\": there is none of this name"), "{error}");
}

#[test]
fn what_a_group_cannot_mean_is_refused_by_its_name() {
    let fixture = Fixture::open();
    let sgd = || Options::new().optimizer(sgd(0.0, false));
    let all = || ParameterGroup::named("all", "*");
    for (options, expected) in [
        (
            sgd().group(ParameterGroup::named("head", "head.*").frozen()),
            "parameter group \"head\": \"head.*\" matches no parameter; there are w, b",
        ),
        (
            sgd().group(all().rate_factor(2.0)).group(ParameterGroup::named("vectors", "b").frozen()),
            "parameter group \"vectors\": \"b\" is in the group \"all\", too: a parameter is in one at most",
        ),
        (
            sgd().group(all().frozen().rate_factor(2.0)),
            "parameter group \"all\": is frozen, so a rate or weight decay says nothing: leave one of them out",
        ),
        (
            Options::new().group(all().weight_decay(0.0)),
            "parameter group \"all\": there is no optimizer to use its settings: give Options::optimizer",
        ),
        (
            sgd().group(all().learning_rate(f32::NAN)),
            "parameter group \"all\": its rate must be a finite number of at least 0",
        ),
        (
            sgd().group(ParameterGroup::named("all", "w")).group(all()),
            "parameter group \"all\": there are two of this name: give each its own",
        ),
    ] {
        assert_eq!(layer(&fixture, options).expect_err("refused").to_string(), expected);
    }
}

#[test]
fn moments_are_read_and_written_by_parameter() {
    let fixture = Fixture::open();
    let options = || Options::new().optimizer(sgd(0.5, false)).clip(Clip::None);
    let mut step = layer(&fixture, options()).expect("compiles");
    step.set_input("x", &[0.5_f32; 32]).expect("an input");
    step.run().expect("runs");
    let gradient = step.gradient("b").expect("a gradient");
    step.update(0.0).expect("updates");
    assert_eq!((step.moment("b", Moment::First).expect("momentum"), step.updates()), (gradient.clone(), 1));
    // A buffer that cancels the gradient: nothing moves.
    let cancelling: Vec<f32> = gradient.iter().map(|g| -2.0 * g).collect();
    step.set_moment("b", Moment::First, &cancelling).expect("fits");
    let before = step.parameter("b").expect("a parameter");
    step.run().expect("runs");
    step.update(1.0).expect("updates");
    assert_eq!(step.parameter("b").expect("a parameter"), before);
    let error = step.moment("b", Moment::Second).expect_err("SGD has none");
    assert_eq!(error.to_string(), "there is no Second moment of \"b\" here: the optimizer is sgd");
    let error = step.set_moment("b", Moment::First, &[0.0]).expect_err("too few");
    assert_eq!(error.to_string(), "moment \"b.m\" is f32[3]; 1 of f32 was given");
}
