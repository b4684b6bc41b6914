//! Later runs of a plan on the CUDA device are one launch of a graph: with the bits of the steps, copies to the host included.

use remat_compiler::{compile, compile_or_smallest};
use remat_cuda::driver::{Driver, DriverError};
use remat_cuda::{CudaDevice, profile};
use remat_ir::{Array, Storage};
use remat_plan::{Device, Plan, Policy, SpillPrices};
use remat_testkit::{EmulatedCard, fill_sources, random_model, source_values};
use std::collections::HashMap;
use std::rc::Rc;

/// Outputs and states after each of three runs, on a card of this seed; the sources are filled anew before each.
fn runs(card: &Rc<EmulatedCard>, plan: &Plan, steps_alone: bool) -> Vec<Vec<u8>> {
    let mut device = CudaDevice::new(card.clone());
    let device: &mut dyn Device = &mut device;
    device.set_poison(steps_alone);
    let graph = plan.graph.clone();
    let program = device.load(vec![plan.clone()]).expect("loads")[0];
    let mut all = Vec::new();
    for seed in 3..6 {
        let sources: HashMap<String, Array> = source_values(&graph, seed);
        fill_sources(device, &graph, &sources).expect("fills");
        device.run(program).expect("runs");
        for &output in &graph.outputs {
            let value = graph.value(output);
            let mut bytes = vec![0; value.ty.bytes()];
            device.read_output(program, &value.name, 0, &mut bytes).expect("reads");
            all.push(bytes);
        }
        for value in graph.values.iter().filter(|v| v.producer.is_none() && v.storage == Storage::State) {
            let source = device.known(Storage::State, &value.name).expect("known");
            all.push(device.read_all(source).expect("reads"));
        }
    }
    all
}

#[test]
fn a_graph_has_the_bits_of_its_steps() {
    let graph = random_model(5).with_backward();
    let mut offloading = profile(EmulatedCard::new(0).card());
    let kept = compile(graph.clone(), &Policy::None, &offloading).expect("compiles");
    // At this price everything is offloaded that can be.
    offloading.prices.spill = Some(SpillPrices { write_bytes_per_second: 1e15, read_bytes_per_second: 1e15 });
    let moved = compile_or_smallest(graph, &Policy::None, &offloading, 0).expect("a plan");
    assert!(moved.copy_steps().count() > 2, "{} copies", moved.copy_steps().count());
    let reference = runs(&Rc::new(EmulatedCard::new(0)), &kept, true);
    for plan in [&kept, &moved] {
        for seed in 0..3 {
            let card = Rc::new(EmulatedCard::new(seed));
            assert!(runs(&card, plan, false) == reference, "seed {seed}: other bits");
            assert_eq!(card.launched_graphs(), 2, "the first run is plain, the others are one launch each");
        }
    }
    let card = Rc::new(EmulatedCard::new(0));
    card.refuse_captures();
    assert!(runs(&card, &moved, false) == reference, "a driver that does not capture runs steps");
    assert_eq!(card.launched_graphs(), 0);
}

#[test]
fn a_capture_must_wait_for_all_that_it_began() {
    let card = EmulatedCard::new(0);
    let [main, side] = [0; 2].map(|_| card.stream().expect("a stream"));
    let [fork, join] = [0; 2].map(|_| card.event().expect("an event"));
    let address = card.allocate(256).expect("memory");
    let pinned = card.pin(256).expect("pinned");
    card.write(address, &[7; 256]).expect("writes");
    for joins in [false, true] {
        card.begin_capture(main).expect("begins");
        card.record(main, fork).expect("records");
        card.wait(side, fork).expect("waits");
        card.copy_out(side, address, pinned, 0, 256).expect("copies");
        if joins {
            card.record(side, join).expect("records");
            card.wait(main, join).expect("waits");
        }
        match card.end_capture(main) {
            Ok(graph) if joins => card.launch_graph(main, graph).expect("launches"),
            Err(DriverError::Failed { problem, .. }) if !joins => assert!(problem.contains("not joined"), "{problem}"),
            other => panic!("joins: {joins}: {other:?}"),
        }
    }
    card.synchronize().expect("runs");
    assert_eq!(card.launched_graphs(), 1);
}
