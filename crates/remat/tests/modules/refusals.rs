//! What a module cannot be, in words.

use remat::modules::{
    BatchNorm1d, BatchNorm2d, Conv1d, Conv2d, Dropout, GroupNorm, Linear, MultiHeadAttention, MultiHeadAttentionOptions,
};
use remat::{AttentionOptions, BatchNormOptions, ConvOptions, DType, Graph, PoolOptions};

#[test]
fn what_a_module_cannot_be_is_refused() {
    let mut g = Graph::new();
    let x = g.input("x", DType::F32, &[2, 8]).expect("an input");
    let plain = MultiHeadAttentionOptions::default();
    let error = MultiHeadAttention::new(&mut g, "attn", 8, 3, plain).expect_err("3 heads of 8");
    assert_eq!(error.to_string(), "attention \"attn\": a width of 8 is not 3 heads of one size");
    let error = MultiHeadAttention::new(&mut g, "attn", 8, 2, MultiHeadAttentionOptions { dropout: 1.0, ..plain });
    assert_eq!(error.expect_err("all").to_string(), "attention \"attn\": dropout = 1 must be in [0, 1)");
    Linear::new(&mut g, "fc", 8, 2, false).expect("a layer");
    assert!(Linear::new(&mut g, "fc", 8, 2, false).expect_err("twice").to_string().contains("exists already"));
    for mut g in [g, Graph::evaluation()] {
        let x = if g.is_training() { x } else { g.input("x", DType::F32, &[2, 8]).expect("an input") };
        assert!(Dropout { p: 1.0 }.forward(&mut g, x).is_err());
        let y = Dropout { p: 0.5 }.forward(&mut g, x).expect("dropout");
        assert_eq!(y == x, !g.is_training());
    }
}

#[test]
fn channels_that_do_not_fit_are_refused() {
    let mut g = Graph::new();
    let groups = ConvOptions { groups: 3, ..ConvOptions::default() };
    let error = Conv2d::new(&mut g, "conv", [4, 6], [3, 3], groups, true).expect_err("4 by 3");
    assert_eq!(error.to_string(), "convolution \"conv\": 3 groups do not divide 4 and 6 channels");
    assert!(Conv2d::new(&mut g, "conv", [4, 6], [0, 3], ConvOptions::default(), true).is_err());
    let error = GroupNorm::new(&mut g, "gn", 4, 6, 1e-5).expect_err("6 by 4");
    assert_eq!(error.to_string(), "group norm \"gn\": 4 groups do not divide 6 channels");
    assert!(GroupNorm::new(&mut g, "gn", 0, 6, 1e-5).is_err());
    assert!(BatchNorm1d::new(&mut g, "bn", 0, BatchNormOptions::default()).is_err());
    let images = g.input("images", DType::F32, &[2, 6, 4, 4]).expect("an input");
    let rows = g.input("rows", DType::F32, &[2, 6]).expect("an input");
    let bn1 = BatchNorm1d::new(&mut g, "bn1", 6, BatchNormOptions::default()).expect("a norm");
    let bn2 = BatchNorm2d::new(&mut g, "bn2", 6, BatchNormOptions::default()).expect("a norm");
    let error = bn1.forward(&mut g, images).expect_err("images");
    assert_eq!(error.to_string(), "BatchNorm1d: \"images\" is f32[2, 6, 4, 4], not [B, C] or [B, C, W]");
    let error = bn2.forward(&mut g, rows).expect_err("rows");
    assert_eq!(error.to_string(), "BatchNorm2d: \"rows\" is f32[2, 6], not [B, C, H, W]");
    // Of the numbers for two axes those for rows mean nothing along one.
    let series = g.input("series", DType::F32, &[2, 6, 9]).expect("an input");
    for options in [
        ConvOptions { stride: [2, 1], ..ConvOptions::default() },
        ConvOptions { padding: [1, 0], ..ConvOptions::default() },
        ConvOptions { dilation: [2, 1], ..ConvOptions::default() },
    ] {
        let name = format!("{options:?}");
        let conv = Conv1d::new(&mut g, &name, [6, 2], 3, options, false).expect("a layer");
        let error = conv.forward(&mut g, series).expect_err("rows").to_string();
        assert!(
            error.starts_with("conv1d: x f32[2, 6, 9] has one axis of places, and the first numbers of"),
            "{error}"
        );
    }
    for stride in [[2, 2], [1, 2]] {
        let pooled = g.max_pool2d(series, PoolOptions { stride, ..PoolOptions::new([1, 2]) });
        assert_eq!(pooled.is_ok(), stride[0] == 1, "{pooled:?}");
    }
}

#[test]
fn attention_of_packed_documents_drops_nothing_and_says_so() {
    let mut g = Graph::new();
    let x = g.input("x", DType::F32, &[1, 4, 8]).expect("an input");
    let segment_start = g.input("segment_start", DType::I32, &[1, 4]).expect("an input");
    let options = MultiHeadAttentionOptions { dropout: 0.1, ..MultiHeadAttentionOptions::default() };
    let module = MultiHeadAttention::new(&mut g, "attn", 8, 2, options).expect("a module");
    let error = module.forward_packed(&mut g, x, segment_start).expect_err("dropout");
    let message = "attention of packed documents drops nothing: make the module without dropout, or call MultiHeadAttention::forward";
    assert_eq!(error.to_string(), message);
    for mut g in [g, Graph::evaluation()] {
        let x = if g.is_training() { x } else { g.input("x", DType::F32, &[1, 4, 8]).expect("an input") };
        let options = AttentionOptions { dropout: 1.5, ..AttentionOptions::new(2) };
        let error = g.scaled_dot_product_attention([x; 3], options).expect_err("more than all");
        assert_eq!(error.to_string(), "attention: dropout = 1.5 must be in [0, 1)");
    }
}
