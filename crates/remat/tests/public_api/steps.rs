//! Random calls of a step: whatever is evaluated, validated, saved, switched or gone back to, the step is where its runs and
//! updates have brought it.

use crate::made::{Call, Made, calls, fill, is_of_an_id, optimizer};
use proptest::collection::vec;
use proptest::prelude::*;
use remat::{CheckpointPolicy, Error, Graph, Options, Step};
use std::path::Path;

/// What is called.
#[derive(Debug, Clone, Copy)]
enum Doing {
    Run,
    Update,
    Evaluate,
    Validate,
    Save,
    Load,
    Policy(usize),
}

fn doings() -> impl Strategy<Value = Vec<Doing>> {
    let doing = prop_oneof![
        5 => Just(Doing::Run),
        2 => Just(Doing::Update),
        2 => Just(Doing::Evaluate),
        1 => Just(Doing::Validate),
        2 => Just(Doing::Save),
        2 => Just(Doing::Load),
        2 => (0..4_usize).prop_map(Doing::Policy),
    ];
    vec(doing, 2..14)
}

fn policy(number: usize) -> CheckpointPolicy {
    match number {
        0 => CheckpointPolicy::none(),
        1 => CheckpointPolicy::full(),
        2 => CheckpointPolicy::every(2),
        _ => CheckpointPolicy::dots_saveable(),
    }
}

/// A step with an evaluation of the same calls beside it, where there is one: the two graphs may come to other names.
fn compiled(calls: &[Call]) -> Option<(Step, bool)> {
    let step = |evaluation: Option<Graph>| {
        let mut made = Made::of(Graph::new(), calls);
        let loss = made.loss(false)?;
        let options = Options::new().threads(1).seed(3).optimizer(optimizer(calls.len()));
        let options = evaluation.into_iter().fold(options, Options::evaluation);
        let mut step = made.graph.compile(loss, options)?;
        fill(&mut step, &made.inputs);
        Ok::<_, Error>(step)
    };
    match step(Some(Made::of(Graph::evaluation(), calls).evaluation())) {
        Ok(with) => Some((with, true)),
        Err(error) => {
            assert!(!error.to_string().contains("defect"), "{error}");
            step(None).ok().map(|without| (without, false))
        }
    }
}

/// The bits of all that a step goes on with.
fn standing(step: &Step) -> (Vec<u32>, [u32; 4], u32) {
    let of_parameter = |name: &str| {
        let gradient = step.gradient(name).expect("its own");
        step.parameter(name).expect("its own").into_iter().chain(gradient).collect::<Vec<f32>>()
    };
    let parameters = step.parameter_names().into_iter().flat_map(of_parameter);
    let buffers = step.buffer_names().flat_map(|name| step.buffer(name).expect("its own"));
    (parameters.chain(buffers).map(f32::to_bits).collect(), step.random_key(), step.updates())
}

/// Does all of it, and returns the runs and updates that count; none if an input is refused.
fn do_all(step: &mut Step, has_evaluation: bool, doings: &[Doing], file: &Path) -> Option<Vec<Doing>> {
    let (mut history, mut saved) = (Vec::new(), None);
    for &doing in doings {
        let before = standing(step);
        let done = match doing {
            Doing::Run => step.run().map(|_| history.push(doing)),
            Doing::Update => step.update(1e-2).map(|_| history.push(doing)),
            Doing::Evaluate if has_evaluation => step.evaluate(),
            Doing::Evaluate => Ok(()),
            Doing::Validate => match step.validate() {
                // Where a number is not one, the interpreter's and the device's may differ.
                Ok(_) | Err(Error::Validation(_)) => Ok(()),
                Err(error) => Err(error),
            },
            Doing::Save => step.save(file).map(|()| saved = Some(history.clone())),
            Doing::Load => match &saved {
                Some(then) => step.load_state(file).map(|()| history = then.clone()),
                None => Ok(()),
            },
            Doing::Policy(number) => step.set_policy(policy(number)),
        };
        if let Err(error) = done {
            assert!(is_of_an_id(&error), "{doing:?}: {error}");
            return None;
        }
        if !matches!(doing, Doing::Run | Doing::Update | Doing::Load) {
            assert_eq!(standing(step), before, "{doing:?} changes nothing");
        }
    }
    Some(history)
}

/// A row of numbers with batch norm, dropout and a layer, for calls to go on from.
fn begun(calls: Vec<Call>) -> Vec<Call> {
    let first = [Call::Input(0, 0, vec![4, 4]), Call::Module(3, 2, 0), Call::Module(10, 1, 1), Call::Module(0, 1, 2)];
    first.into_iter().chain(calls).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn a_step_is_where_its_runs_and_updates_have_brought_it(calls in calls(), doings in doings()) {
        let calls = begun(calls);
        let Some((mut step, has_evaluation)) = compiled(&calls) else { return Ok(()) };
        let folder = tempfile::tempdir().expect("a folder");
        let Some(history) = do_all(&mut step, has_evaluation, &doings, &folder.path().join("step.safetensors")) else {
            return Ok(());
        };
        let (mut straight, _) = compiled(&calls).expect("it was a moment ago");
        for doing in &history {
            let done = if matches!(doing, Doing::Run) { straight.run() } else { straight.update(1e-2) };
            done.expect("it did the first time");
        }
        prop_assert_eq!(standing(&step), standing(&straight), "{:?} of {:?}", history, doings);
    }
}

/// The prefix alone compiles, with its evaluation: else the property would be of nothing.
#[test]
fn what_calls_go_on_from_is_a_model() {
    let (step, has_evaluation) = compiled(&begun(Vec::new())).expect("compiles");
    assert!(has_evaluation);
    assert_eq!(step.buffer_names().collect::<Vec<_>>(), ["w.running_mean", "w.running_var"]);
}
