//! Shapes, orders and places.

use crate::case::check;

#[test]
fn shapes_orders_and_places_match_pytorch() {
    check("movement", |g, case, operands| {
        let x = operands[0];
        let y = match case {
            "reshape" | "reshape_of_ids" => g.reshape(x, &[4, -1]),
            "transpose" | "transpose_of_ids" => g.transpose(x, 1, -1),
            "permute" | "permute_of_ids" => g.permute(x, &[2, 0, 1]),
            "slice" | "slice_of_ids" => g.slice(x, 2, 1, 4, 2),
            "pad" | "pad_of_ids" => g.pad(x, &[(1, 3), (0, 0), (2, 0)], 0.0),
            "expand" | "expand_of_ids" => {
                let x = g.unsqueeze(x, 1)?;
                g.expand(x, &[5, 2, 6, 3, 4])
            }
            "flatten" => g.flatten(x, 1, 2),
            "squeeze" => g.squeeze(x, 1),
            "narrow" => g.narrow(x, 1, 1, 2),
            "pad_value" => g.pad(x, &[(0, 0), (1, 0), (0, 1)], -2.5),
            "cat" => g.cat(&[x, operands[1], x], 1),
            "cat_last" => g.cat(operands, -1),
            "stack" => g.stack(operands, 1),
            "split_dim" => return g.split_dim(x, &[1, 3, 1], 1),
            "split_dim_first" => return g.split_dim(x, &[1, 1], 0),
            "chunk" => return g.chunk(x, 2, -1),
            other => panic!("no such case: {other}"),
        };
        Ok(vec![y?])
    });
}
