//! Changed plans: none makes the reader or the checker panic, and what the checker accepts computes what the source computes.

mod case_file;
mod mutation;

use case_file::CaseFile;
use mutation::{Draw, Seed, Verdict};
use std::collections::BTreeSet;

/// Bytes that look random, by SplitMix64.
fn bytes(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (z ^ (z >> 27)).to_le_bytes()
    };
    (0..count.div_ceil(8)).flat_map(|_| next()).collect()
}

#[test]
fn unchanged_cases_are_accepted_in_every_order_of_their_queues() {
    for case in CaseFile::all() {
        let seed = Seed::new(case.plan(), case.source());
        for draw in 0..8 {
            let verdict = seed.examine(&seed.plan.to_string(), &mut Draw::new(&bytes(draw, 256)));
            assert_eq!(verdict, Verdict::Accepted, "{}", case.name());
        }
    }
}

#[test]
fn what_is_accepted_of_changed_plans_computes_the_same() {
    let (mut accepted, mut refused, mut unread) = (0, 0, 0);
    let mut rules = BTreeSet::new();
    for (index, case) in CaseFile::all().into_iter().enumerate() {
        let seed = Seed::new(case.plan(), case.source());
        let same = seed.plan.to_string();
        for mutant in 0..150 {
            let bytes = bytes((index * 1000 + mutant) as u64, 256);
            let mut draw = Draw::new(&bytes);
            let text = seed.mutant(&mut draw);
            match seed.examine(&text, &mut draw) {
                Verdict::Accepted => accepted += usize::from(text != same),
                Verdict::NotAPlan => unread += 1,
                Verdict::Refused(error) => {
                    refused += 1;
                    let rule = format!("{error:?}");
                    rules.insert(rule.split([' ', '(']).next().unwrap_or_default().to_string());
                }
            }
        }
    }
    assert!(accepted > 40 && refused > 400 && unread > 100, "{accepted}, {refused}, {unread}");
    assert!(rules.len() >= 12, "{rules:?}");
}
