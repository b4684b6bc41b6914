//! Batches and updates, computed by hand and held to what PyTorch was fed.

use crate::dataset;
use remat_data::{Batch, DataLoader, Dataset, Encoder, LoaderOptions, Order, RowOptions, SequenceId, Sequences};
use std::path::Path;

const NONE: i32 = -100;

fn arrays(batch: &Batch) -> [&Vec<i32>; 5] {
    [&batch.ids, &batch.targets, &batch.positions, &batch.segment_start, &batch.attention_mask]
}

#[test]
fn one_sample_per_line() {
    let data = dataset(&[(vec![7, 8, 9], vec![NONE, 8, 9]), (vec![5, 6], vec![5, 6])], 4);
    let mut batch = Batch::new(3, 4);
    batch.fill(&data, &Sequences::unpacked(&data).unwrap(), &[SequenceId(1), SequenceId(0)]).unwrap();
    #[rustfmt::skip]
    let expected: [[i32; 12]; 5] = [
        [5, 6, 0, 0,             7, 8, 9, 0,        0, 0, 0, 0],
        [6, NONE, NONE, NONE,    8, 9, NONE, NONE,  NONE, NONE, NONE, NONE],
        [0, 1, 0, 1,             0, 1, 2, 0,        0, 1, 2, 3],
        [0, 0, 2, 2,             0, 0, 0, 3,        0, 0, 0, 0],
        [1, 1, 0, 0,             1, 1, 1, 0,        0, 0, 0, 0],
    ];
    assert_eq!(arrays(&batch), expected.each_ref());
    assert_eq!((batch.tokens, batch.trained), (5, 3));
}

#[test]
fn packed_samples_are_segments() {
    let samples =
        [(vec![1, 2, 3], vec![1, 2, 3]), (vec![4, 5], vec![4, 5]), (vec![6, 7, 8, 9], vec![NONE, NONE, 8, 9])];
    let data = dataset(&samples, 7);
    let sequences = Sequences::packed(&data, 7).unwrap();
    assert_eq!(sequences.len(), 2);
    let mut batch = Batch::new(1, 7);
    batch.fill(&data, &sequences, &[SequenceId(0)]).unwrap();
    let expected: [[i32; 7]; 5] = [
        [1, 2, 3, 4, 5, 0, 0],
        [2, 3, NONE, 5, NONE, NONE, NONE],
        [0, 1, 2, 0, 1, 0, 1],
        [0, 0, 0, 3, 3, 5, 5],
        [1, 1, 1, 1, 1, 0, 0],
    ];
    assert_eq!(arrays(&batch), expected.each_ref());
    assert_eq!((batch.tokens, batch.trained), (5, 3));

    // The same buffer, filled again, keeps nothing of what it held.
    batch.fill(&data, &sequences, &[SequenceId(1)]).unwrap();
    let mut fresh = Batch::new(1, 7);
    fresh.fill(&data, &sequences, &[SequenceId(1)]).unwrap();
    assert_eq!(batch, fresh);
    assert_eq!((batch.tokens, batch.trained), (4, 2));
    batch.fill(&data, &sequences, &[]).unwrap();
    assert_eq!(batch, Batch::new(1, 7));
}

#[test]
fn updates_of_an_epoch_and_its_smaller_last_one() {
    // Seven samples with 1..=7 trained tokens; two lines, two micro-batches: updates of 4 and 3 sequences.
    let sample = |trained: u32| {
        let ids: Vec<u32> = (0..=trained).collect();
        let labels = ids.iter().map(|&id| id as i32).collect();
        (ids, labels)
    };
    let data = dataset(&(1..=7).map(sample).collect::<Vec<_>>(), 8);
    let options = LoaderOptions { batch_size: 2, grad_accum: 2, packing: false, order: Order::InOrder };
    let mut loader = DataLoader::new(data, options).unwrap();
    assert_eq!((loader.updates_per_epoch(), loader.longest_sequence()), (2, 8));
    let mut update = loader.update_buffer();
    let mut batch = Batch::new(2, 8);

    loader.next_update(&mut update).unwrap();
    assert_eq!((update.micro_batches(), update.trained, update.tokens), (2, 1 + 2 + 3 + 4, 2 + 3 + 4 + 5));
    assert_eq!(update.epoch, 4.0 / 7.0);
    loader.fill(&update, 1, &mut batch).unwrap();
    assert_eq!(batch.trained, 3 + 4);

    loader.next_update(&mut update).unwrap();
    assert_eq!((update.micro_batches(), update.trained, update.epoch), (2, 5 + 6 + 7, 1.0));
    loader.fill(&update, 1, &mut batch).unwrap();
    assert_eq!((batch.trained, batch.tokens), (7, 8), "the second line is padding");
    assert!(batch.targets[8..].iter().all(|&target| target == NONE));

    loader.next_update(&mut update).unwrap();
    assert_eq!(update.sequences(0), [SequenceId(0), SequenceId(1)], "the next epoch starts over");
    assert_eq!(update.epoch, 1.0 + 4.0 / 7.0);
}

#[test]
fn micro_batches_of_padding_alone_do_not_exist() {
    let data = dataset(&[(vec![1, 2], vec![1, 2])], 4);
    let options = LoaderOptions { batch_size: usize::MAX, grad_accum: 3, packing: false, order: Order::InOrder };
    let mut loader = DataLoader::new(data, options).unwrap();
    assert_eq!(loader.updates_per_epoch(), 1);
    let mut update = loader.update_buffer();
    loader.next_update(&mut update).unwrap();
    assert_eq!((update.micro_batches(), update.trained), (1, 1));
}

/// The rows of the parity fixtures are written in the order in which PyTorch consumed them.
#[test]
fn the_parity_fixtures_are_fed_as_to_pytorch() {
    let parity = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/parity");
    let read = |path: &Path| -> serde_json::Value { serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap() };
    let number = |value: &serde_json::Value| value.as_u64().unwrap() as usize;
    let cases: Vec<&str> = include_str!("../../../../fixtures/parity/cases.txt").lines().collect();
    assert!(!cases.is_empty(), "the fixtures are part of the repository");
    for case in cases.into_iter().map(|case| parity.join(case)) {
        let reference = read(&case.join("reference.json"));
        let vocab_size = number(&read(&case.join("config.json"))["vocab_size"]);
        let (batch_size, grad_accum) = (number(&reference["batch_size"]), number(&reference["accumulation"]));
        let seq_len = number(&reference["seq_len"]);
        let data =
            Dataset::load(&[case.join("rows.jsonl")], &RowOptions::default(), &Encoder::new(None, vocab_size), seq_len)
                .unwrap();
        let file = &data.stats()[0];
        assert_eq!((file.rows, file.truncated, file.dropped), (20 * batch_size * grad_accum, 0, 0));

        let options = LoaderOptions { batch_size, grad_accum, packing: false, order: Order::InOrder };
        let mut loader = DataLoader::new(data, options).unwrap();
        assert_eq!((loader.updates_per_epoch(), loader.longest_sequence()), (20, seq_len));
        let mut update = loader.update_buffer();
        loader.next_update(&mut update).unwrap();
        let mut batch = Batch::new(batch_size, seq_len);
        let trained = (0..update.micro_batches()).map(|micro_batch| {
            loader.fill(&update, micro_batch, &mut batch).unwrap();
            batch.trained
        });
        let expected = reference["first_update"]["trained_tokens"].as_array().unwrap();
        assert_eq!(trained.collect::<Vec<_>>(), expected.iter().map(number).collect::<Vec<_>>());
    }
}
