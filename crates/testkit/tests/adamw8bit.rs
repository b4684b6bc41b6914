//! AdamW with moments of 8 bits in training: its losses stay by those of 32 bits, and small parameters keep 32 bits.

mod case;

use case::{Case, Run};
use remat_plan::Policy;
use remat_step::{LEAST_8BIT_ELEMENTS, MomentFormat};

const UPDATES: usize = 200;
const RATE: f64 = 2e-4;

#[test]
fn losses_over_200_updates_stay_within_a_hundredth_of_32_bits() {
    let case = Case::open("llama-gqa-tied");
    let run = |moments| Run::with_moments(&case, &case.full(), &Policy::None, 2, moments);
    let (mut exact, mut coded) = (run(MomentFormat::F32), run(MomentFormat::Blocks8));
    let parameters: Vec<String> = coded.parameters().map(str::to_string).collect();
    let recorded = case.numbers(&["series", "full", "losses"]).len();
    let (mut first, mut last, mut differs) = (None, 0.0, false);
    for update in 0..UPDATES {
        // The recorded batches, over and over.
        let (a, b) = (exact.accumulate(update % recorded), coded.accumulate(update % recorded));
        assert!((a - b).abs() < 1e-2, "update {update}: loss {b} with moments of 8 bits, {a} with 32");
        differs |= a != b;
        first.get_or_insert(a);
        last = b;
        exact.update(update, RATE);
        coded.update(update, RATE);
    }
    assert!(differs, "moments of 8 bits are in use");
    assert!(last < first.expect("updates") - 0.1, "the loss falls: {first:?} to {last}");
    for name in parameters {
        let (elements, codes) = (coded.state(&name).len(), coded.state(&format!("{name}.m")));
        assert_eq!(codes.len(), elements);
        let are_codes = codes.iter().all(|code| code.fract() == 0.0);
        assert_eq!(are_codes, elements >= LEAST_8BIT_ELEMENTS, "{name} of {elements} elements");
    }
}
