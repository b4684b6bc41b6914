//! Properties on random data: each epoch holds every sequence once, a run resumes exactly, look-ahead counts are the
//! sums of what the batches hold, and packing keeps samples whole, in order and apart.

use crate::dataset;
use proptest::prelude::*;
use remat_data::{
    Batch, DataLoader, Dataset, Encoder, LoaderOptions, Order, RowOptions, Sampler, SamplerState, SequenceId,
    read_rows_from,
};
use std::path::Path;

const SEQ_LEN: usize = 12;

/// Samples of random lengths and masks; ids start at 1, so that 0 is only ever padding.
fn samples() -> impl Strategy<Value = Vec<(Vec<u32>, Vec<i32>)>> {
    let sample = prop::collection::vec((1..50_u32, any::<bool>()), 1..16).prop_map(|tokens| {
        let labels = tokens.iter().map(|&(id, trained)| if trained { id as i32 } else { -100 });
        (tokens.iter().map(|&(id, _)| id).collect(), labels.collect())
    });
    // The first sample always counts, so there is something to train on.
    prop::collection::vec(sample, 0..40).prop_map(|mut samples| {
        samples.insert(0, (vec![1, 2], vec![1, 2]));
        samples
    })
}

fn options() -> impl Strategy<Value = LoaderOptions> {
    (1..5_usize, 1..4_usize, any::<bool>(), prop::option::of(any::<u64>())).prop_map(
        |(batch_size, grad_accum, packing, seed)| {
            let order = seed.map_or(Order::InOrder, |seed| Order::Shuffled { seed });
            LoaderOptions { batch_size, grad_accum, packing, order }
        },
    )
}

/// Everything that `updates` updates feed to the step.
fn feed(loader: &mut DataLoader, batch_size: usize, updates: usize) -> Vec<(usize, Vec<Batch>)> {
    let mut update = loader.update_buffer();
    let mut fed = Vec::new();
    for _ in 0..updates {
        loader.next_update(&mut update).unwrap();
        let batches = (0..update.micro_batches()).map(|micro_batch| {
            let mut batch = Batch::new(batch_size, SEQ_LEN);
            loader.fill(&update, micro_batch, &mut batch).unwrap();
            batch
        });
        let batches: Vec<Batch> = batches.collect();
        assert_eq!(batches.iter().map(|batch| batch.trained).sum::<usize>(), update.trained);
        assert_eq!(batches.iter().map(|batch| batch.tokens).sum::<usize>(), update.tokens);
        fed.push((update.trained, batches));
    }
    fed
}

/// The segments of a batch as (ids, targets), padding left out, with the layout checked on the way.
fn segments(batch: &Batch) -> Vec<(Vec<i32>, Vec<i32>)> {
    let mut found: Vec<(Vec<i32>, Vec<i32>)> = Vec::new();
    for line in 0..batch.batch_size() {
        for t in 0..batch.seq_len() {
            let cell = line * batch.seq_len() + t;
            let start = batch.segment_start[cell] as usize;
            assert!(start <= t, "a segment starts no later than its tokens");
            assert_eq!(batch.positions[cell] as usize, t - start);
            assert_eq!(batch.segment_start[line * batch.seq_len() + start] as usize, start);
            if batch.ids[cell] == 0 {
                assert_eq!(batch.targets[cell], -100, "padding is never trained on");
                continue;
            }
            if start == t {
                found.push((Vec::new(), Vec::new()));
            }
            let (ids, targets) = found.last_mut().unwrap();
            ids.push(batch.ids[cell]);
            targets.push(batch.targets[cell]);
        }
    }
    found
}

fn expected_segments(data: &Dataset) -> Vec<(Vec<i32>, Vec<i32>)> {
    let segment = |id| {
        let sample = data.sample(id).unwrap();
        let targets = sample.labels[1..].iter().copied().chain([-100]).collect();
        (sample.ids.iter().map(|&id| id as i32).collect(), targets)
    };
    data.sample_ids().map(segment).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn an_epoch_feeds_every_sample_once(samples in samples(), options in options()) {
        let mut loader = DataLoader::new(dataset(&samples, SEQ_LEN), options).unwrap();
        let updates = loader.updates_per_epoch();
        let sequences = loader.sequences().len();
        prop_assert_eq!(updates, sequences.div_ceil(options.batch_size * options.grad_accum));
        let mut expected = expected_segments(loader.dataset());
        for _epoch in 0..2 {
            let fed = feed(&mut loader, options.batch_size, updates);
            prop_assert!(fed.iter().all(|(trained, _)| *trained > 0));
            let mut found: Vec<_> = fed.iter().flat_map(|(_, batches)| batches).flat_map(segments).collect();
            if options.order != Order::InOrder {
                found.sort();
                expected.sort();
            }
            prop_assert_eq!(&found, &expected);
            prop_assert_eq!(loader.state().index, 0, "updates never reach into the next epoch");
        }
    }

    #[test]
    fn a_run_resumes_exactly(samples in samples(), options in options(), before in 0..20_usize, after in 1..20_usize) {
        let fresh = || DataLoader::new(dataset(&samples, SEQ_LEN), options).unwrap();
        let mut whole = fresh();
        let fed = feed(&mut whole, options.batch_size, before + after);

        let mut first = fresh();
        prop_assert_eq!(&feed(&mut first, options.batch_size, before)[..], &fed[..before]);
        let saved = serde_json::to_string(&first.state()).unwrap();

        // The state alone decides: the resumed loader was made with another order.
        let other = LoaderOptions { order: Order::Shuffled { seed: 99 }, ..options };
        let mut resumed = DataLoader::new(dataset(&samples, SEQ_LEN), other).unwrap();
        resumed.restore(&serde_json::from_str::<SamplerState>(&saved).unwrap()).unwrap();
        prop_assert_eq!(&feed(&mut resumed, options.batch_size, after)[..], &fed[before..]);
        prop_assert_eq!(resumed.state(), whole.state());

        whole.rewind();
        prop_assert_eq!(&feed(&mut whole, options.batch_size, before)[..], &fed[..before]);
    }

    #[test]
    fn packing_is_greedy_and_in_order(samples in samples()) {
        let data = dataset(&samples, SEQ_LEN);
        let sequences = remat_data::Sequences::packed(&data, SEQ_LEN).unwrap();
        let mut all = Vec::new();
        let mut room = 0;
        for sequence in (0..sequences.len() as u32).map(SequenceId) {
            let own: Vec<_> = sequences.samples(sequence).unwrap().collect();
            let len = |id| data.sample(id).unwrap().ids.len();
            prop_assert!(len(own[0]) > room, "its first sample would have fitted the sequence before");
            let used: usize = own.iter().map(|&id| len(id)).sum();
            prop_assert!(used <= SEQ_LEN);
            room = SEQ_LEN - used;
            all.extend(own);
        }
        prop_assert_eq!(all, data.sample_ids().collect::<Vec<_>>());
    }

    #[test]
    fn any_bytes_give_rows_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read_rows_from(&mut &bytes[..], Path::new("f"), &RowOptions::default(), &mut |_, _| Ok(()));
    }

    #[test]
    fn almost_json_gives_rows_or_an_error(
        start in prop::sample::select(vec!["", "[", "{\"text\": \"ä", "[{\"input_ids\": [1, ", "{\"text\":\"a\"}\n{\"text\":\""]),
        text in "[\\[\\]{}\":,a-c0-9\\\\\n \u{e4}\u{1f600}ud8-]{0,40}",
    ) {
        let contents = format!("{start}{text}");
        let mut rows = 0;
        let read = read_rows_from(&mut contents.as_bytes(), Path::new("f"), &RowOptions::default(), &mut |line, row| {
            rows += 1;
            let place = remat_data::RowPlace::new(Path::new("f"), line);
            Encoder::new(None, 300).encode(&row, &place).map(|_| ()).or(Ok(()))
        });
        prop_assert!(read.is_err() || rows > 0);
    }
}

#[test]
fn the_order_is_pinned() {
    // A change here would change every saved run's continuation.
    let order = |seed, epochs: usize| {
        let mut sampler = Sampler::new(8, Order::Shuffled { seed }, 0);
        let mut taken = Vec::new();
        (0..epochs).for_each(|_| sampler.take(8, &mut taken));
        taken.iter().map(|sequence| sequence.0).collect::<Vec<_>>()
    };
    assert_eq!(order(0, 2), [7, 2, 1, 5, 4, 6, 3, 0, 5, 0, 2, 7, 4, 1, 3, 6]);
    assert_eq!(order(1, 1), [1, 6, 4, 5, 0, 7, 2, 3]);
}

#[test]
fn every_order_is_about_as_likely() {
    // 24 orders of 4 sequences over 24 000 epochs: 1000 each with a standard deviation of 31.
    let mut counts = std::collections::BTreeMap::new();
    let mut sampler = Sampler::new(4, Order::Shuffled { seed: 3 }, 0);
    for _ in 0..24_000 {
        let mut order = Vec::new();
        sampler.take(4, &mut order);
        *counts.entry(order).or_insert(0_u32) += 1;
    }
    assert_eq!(counts.len(), 24);
    assert!(counts.values().all(|&count| (850..1150).contains(&count)), "{counts:?}");
}
