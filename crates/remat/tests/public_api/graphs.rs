//! Graphs of random calls.

use crate::made::{Call, Made, calls, fill, is_of_an_id, optimizer};
use proptest::prelude::*;
use remat::{CheckpointPolicy, Graph, Moment, Options, ParameterGroup, Rules};

/// Loss and all gradients of a compiled model, with what has to be true of any.
fn checked(calls: &[Call], bf16_loss: bool, policy: CheckpointPolicy) -> Option<Vec<u32>> {
    let mut made = Made::of(Graph::new(), calls);
    let loss = made.loss(bf16_loss).ok()?;
    let frozen: Vec<String> = made.frozen.iter().map(|&w| made.graph.name(w).expect("its own").to_string()).collect();
    let Made { graph, parameters, inputs, of_modules, .. } = made;
    let options = Options::new().threads(1).seed(3).policy(policy).optimizer(optimizer(calls.len()));
    let options = options.group(ParameterGroup::named("all", "*").rate_factor(0.5));
    // A graph without parameters, or with what has no derivative on the way, is refused in words.
    let mut step = match graph.compile(loss, options) {
        Ok(step) => step,
        Err(error) => {
            assert!(!error.to_string().contains("defect"), "{error}");
            return None;
        }
    };
    let trained = parameters.len() + of_modules.len();
    assert_eq!(step.parameter_names().len(), trained, "each parameter is trained: {parameters:?} and of modules");
    for (name, elements) in &parameters {
        assert_eq!(step.parameter(name).expect("a parameter"), vec![0.5; *elements], "{name} begins as was asked");
    }
    assert!(frozen.iter().all(|name| step.parameter(name).is_err()), "frozen stays frozen");
    fill(&mut step, &inputs);
    let first = match step.run() {
        Ok(loss) => loss,
        // All ids are 1.
        Err(error) => {
            assert!(is_of_an_id(&error), "{error}");
            return None;
        }
    };
    let mut bits = vec![first.to_bits()];
    for (name, _) in &parameters {
        let gradient = step.gradient(name).expect("a trained parameter");
        assert!(gradient.iter().any(|&g| g != 0.0), "{name}: its mean is in the loss, so its gradient is not zero");
        bits.extend(gradient.iter().map(|g| g.to_bits()));
    }
    bits.extend(
        step.parameter_names().into_iter().flat_map(|name| step.gradient(name).expect("its own")).map(f32::to_bits),
    );
    bits.extend(step.buffer_names().flat_map(|name| step.buffer(name).expect("its own")).map(f32::to_bits));
    step.update(1e-2).expect("updates");
    for (name, elements) in &parameters {
        assert_ne!(step.parameter(name).expect("a parameter"), vec![0.5; *elements], "{name} is updated");
        assert_eq!(step.moment(name, Moment::First).expect("every optimizer here has it").len(), *elements);
    }
    assert_eq!((step.updates(), step.random_key()), (1, [3, 0, 1, 0]));
    Some(bits)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn any_calls_give_an_error_or_a_step_that_means_what_was_written(calls in calls(), bf16_loss in any::<bool>()) {
        let plain = checked(&calls, bf16_loss, CheckpointPolicy::none());
        for policy in [CheckpointPolicy::full(), CheckpointPolicy::dots_saveable(), CheckpointPolicy::budget(1 << 20)] {
            let text = policy.to_string();
            prop_assert!(checked(&calls, bf16_loss, policy) == plain, "{}", text);
        }
        let rules = CheckpointPolicy::rules(Rules::new().otherwise(remat::Decision::PreferRecompute));
        prop_assert!(checked(&calls, bf16_loss, rules) == plain);
    }
}
