//! The choice of experts, and the order of rows by expert: a counting sort. Work N·E·k comparisons, little beside an expert's products.
//!
//! Numbers: comparisons of f32 alone, so that no thread or level changes a choice.

/// Results of `route`; `ends` has one element for each expert.
pub struct Routed<'a> {
    /// `[N, k]`.
    pub experts: &'a mut [i32],
    /// `[N * k]`.
    pub order: &'a mut [i32],
    /// `[N * k]`.
    pub tokens: &'a mut [i32],
    /// `[E]`.
    pub ends: &'a mut [i32],
}

/// Whether a score is above another: NaN is above all numbers.
fn is_above(a: f32, b: f32) -> bool {
    a > b || (a.is_nan() && !b.is_nan())
}

/// The `chosen.len()` highest scores, highest first; of equal ones the lowest expert first.
fn choose(scores: &[f32], chosen: &mut [i32]) {
    for at in 0..chosen.len() {
        let (before, rest) = chosen.split_at_mut(at);
        let mut best: Option<usize> = None;
        for expert in (0..scores.len()).filter(|&expert| !before.contains(&(expert as i32))) {
            if best.is_none_or(|best| is_above(scores[expert], scores[best])) {
                best = Some(expert);
            }
        }
        rest[0] = best.expect("there are as many experts as choices") as i32;
    }
}

/// Choices for scores `[N, E]`, and their order by expert.
pub fn route(each: usize, scores: &[f32], routed: Routed<'_>) {
    let Routed { experts, order, tokens, ends } = routed;
    let rows = scores.len() / ends.len() * each;
    assert!(each <= ends.len(), "route: {each} choices of {} experts", ends.len());
    assert_eq!([experts.len(), order.len(), tokens.len()], [rows; 3], "route: a result has another size");
    for (scores, chosen) in scores.chunks(ends.len()).zip(experts.chunks_mut(each)) {
        choose(scores, chosen);
    }
    ends.fill(0);
    experts.iter().for_each(|&expert| ends[expert as usize] += 1);
    // From counts to where each expert's rows start; placing them moves that to where they end.
    let mut start = 0;
    for end in ends.iter_mut() {
        start += std::mem::replace(end, start);
    }
    for (choice, &expert) in experts.iter().enumerate() {
        let place = &mut ends[expert as usize];
        order[*place as usize] = choice as i32;
        tokens[*place as usize] = (choice / each) as i32;
        *place += 1;
    }
}
