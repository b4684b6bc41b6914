//! Attention that sees every key, some, or those of another sequence.

use crate::case::check;
use remat::AttentionOptions;

#[test]
fn attention_matches_pytorch() {
    check("attention", |g, case, x| {
        let grouped = AttentionOptions { kv_heads: Some(2), ..AttentionOptions::new(4) };
        let options = match case {
            "bidirectional" | "crossed" => grouped,
            "causal" | "causal_crossed" => AttentionOptions { is_causal: true, ..grouped },
            "scaled" => AttentionOptions { scale: Some(0.3), ..grouped },
            "key_padding" | "full_mask" | "bias" => AttentionOptions { mask: Some(x[3]), ..grouped },
            "long" => AttentionOptions::new(1),
            other => panic!("no such case: {other}"),
        };
        Ok(vec![g.scaled_dot_product_attention([x[0], x[1], x[2]], options)?])
    });
}
