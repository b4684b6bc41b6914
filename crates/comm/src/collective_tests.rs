//! What ranks do together, on threads.

use crate::{
    CommError, Engine, Incoming, LinkProbe, Outgoing, ThreadEngine, all_to_all, barrier, broadcast, gather, gather_all,
    measure_links,
};
use std::thread;
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(60);

/// What each of `size` ranks comes to.
fn on_ranks<T: Send>(size: usize, deadline: Duration, work: impl Fn(&dyn Engine) -> T + Sync) -> Vec<T> {
    let work = &work;
    thread::scope(|scope| {
        let engines = ThreadEngine::ranks(size, deadline).into_iter();
        let ranks: Vec<_> = engines.map(|engine| scope.spawn(move || work(&engine))).collect();
        ranks.into_iter().map(|rank| rank.join().expect("no rank panics")).collect()
    })
}

/// Bytes that say where they are from and where they go, of a length that is their own.
fn message(from: usize, to: usize) -> Vec<u8> {
    vec![(16 * from + to) as u8; (3 * from + to) % 5]
}

fn bounds(messages: &[Vec<u8>]) -> Vec<usize> {
    let mut bounds = vec![0];
    messages.iter().for_each(|message| bounds.push(bounds[bounds.len() - 1] + message.len()));
    bounds
}

#[test]
fn every_part_arrives_where_it_belongs() {
    for size in 1..=4 {
        let received = on_ranks(size, LONG, |engine| {
            let mine = engine.rank();
            let sent: Vec<Vec<u8>> = (0..size).map(|to| message(mine, to)).collect();
            let expected: Vec<Vec<u8>> = (0..size).map(|from| message(from, mine)).collect();
            let mut received = vec![0; expected.concat().len()];
            let bounds_of = (bounds(&sent), bounds(&expected));
            all_to_all(engine, (&sent.concat(), &bounds_of.0), (&mut received, &bounds_of.1)).expect("all are there");
            (received, expected.concat())
        });
        received.iter().for_each(|(received, expected)| assert_eq!(received, expected));
    }
}

#[test]
fn what_is_gathered_and_broadcast_is_the_same_everywhere() {
    for size in 1..=4 {
        let all: Vec<Vec<u8>> = (0..size).map(|rank| message(rank, 1)).collect();
        let (bounds, expected) = (bounds(&all), all.concat());
        on_ranks(size, LONG, |engine| {
            let (mine, mut gathered) = (engine.rank(), vec![0; expected.len()]);
            gathered[bounds[mine]..bounds[mine + 1]].copy_from_slice(&all[mine]);
            gather(engine, &mut gathered, &bounds).expect("all are there");
            assert_eq!(gathered, expected);
            assert_eq!(gather_all(engine, &all[mine]).expect("all are there"), all);
            for root in 0..size {
                let mut bytes = [mine as u8; 3];
                broadcast(engine, root, &mut bytes).expect("all are there");
                assert_eq!(bytes, [root as u8; 3]);
            }
        });
    }
}

#[test]
fn nobody_passes_a_barrier_before_all_have_come() {
    let pause = Duration::from_millis(30);
    let passed = on_ranks(3, LONG, |engine| {
        if engine.rank() == 1 {
            thread::sleep(pause);
        }
        let came = Instant::now();
        barrier(engine).expect("all come");
        (came, Instant::now())
    });
    let last = passed.iter().map(|(came, _)| *came).max().expect("three");
    passed.iter().for_each(|(_, left)| assert!(*left >= last));
}

#[test]
fn a_rank_that_ends_is_named_at_once() {
    let found = on_ranks(3, LONG, |engine| if engine.rank() == 2 { Ok(()) } else { barrier(engine) });
    assert_eq!(found, [Err(CommError::Gone { rank: 2 }), Err(CommError::Gone { rank: 2 }), Ok(())]);
}

#[test]
fn a_rank_that_does_not_answer_is_named_at_the_deadline() {
    let deadline = Duration::from_millis(20);
    let engines = ThreadEngine::ranks(2, deadline);
    let Err(CommError::TimedOut { rank: 1, waited }) = barrier(&engines[0]) else { panic!("rank 1 never comes") };
    assert!(waited >= deadline);
}

#[test]
fn messages_keep_their_order_and_another_length_is_refused() {
    let engines = ThreadEngine::ranks(2, LONG);
    let of = |bytes| Outgoing { to: 1, bytes };
    engines[0].exchange(&[of(b"one"), of(b"two"), of(b"three")], &mut []).expect("it is only sent");
    let (mut first, mut second, mut third) = ([0; 3], [0; 3], [0; 4]);
    let mut incoming = [Incoming { from: 0, bytes: &mut first }, Incoming { from: 0, bytes: &mut second }];
    engines[1].exchange(&[], &mut incoming).expect("both are there");
    assert_eq!((&first, &second), (b"one", b"two"));
    let refused = engines[1].exchange(&[], &mut [Incoming { from: 0, bytes: &mut third }]);
    assert_eq!(refused, Err(CommError::Length { from: 0, sent: 5, expected: 4 }));
}

#[test]
fn every_pair_of_ranks_has_a_link_and_all_know_it() {
    let measured = on_ranks(4, LONG, |engine| measure_links(engine, LinkProbe::QUICK).expect("all are there"));
    let pairs: Vec<(usize, usize)> = measured[0].iter().map(|link| (link.from, link.to)).collect();
    assert_eq!(pairs, [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]);
    assert!(measured.iter().all(|links| *links == measured[0]));
    assert!(measured[0].iter().all(|link| link.bytes_per_second.is_finite() && link.bytes_per_second > 0.0));
    assert!(on_ranks(1, LONG, |engine| measure_links(engine, LinkProbe::QUICK).expect("alone")).concat().is_empty());
}
