//! Elements by their numbers and by masks.

use crate::case::check;

#[test]
fn elements_by_numbers_and_masks_match_pytorch() {
    check("gather", |g, case, x| {
        let y = match case {
            "index_select" | "take_many" => g.index_select(x[0], 1, x[1]),
            "index_select_first" | "index_select_of_ids" => g.index_select(x[0], 0, x[1]),
            "index_select_last" => g.index_select(x[0], -1, x[1]),
            "gather" => g.gather(x[0], 1, x[1]),
            "gather_last" => g.gather(x[0], -1, x[1]),
            "where" | "where_spread" => g.where_mask(x[0], x[1], x[2]),
            "masked_fill" | "masked_fill_row" => {
                g.masked_fill(x[0], x[1], if case == "masked_fill" { -2.5 } else { 0.0 })
            }
            other => panic!("no such case: {other}"),
        };
        Ok(vec![y?])
    });
}
