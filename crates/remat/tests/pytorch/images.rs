//! Convolution and pooling.

use crate::case::check;
use remat::{ConvOptions, Error, Graph, PoolOptions, Tensor};

fn conv(g: &mut Graph, case: &str, x: &[Tensor]) -> Result<Tensor, Error> {
    let plain = ConvOptions::default();
    let padded = ConvOptions { padding: [1, 1], ..plain };
    let options = match case {
        "conv2d_plain" => plain,
        "conv2d_padded" | "conv2d_many" => padded,
        "conv2d_strided" => ConvOptions { stride: [2, 3], ..padded },
        "conv2d_dilated" => ConvOptions { dilation: [2, 3], padding: [2, 1], ..plain },
        "conv2d_groups" => ConvOptions { groups: 2, stride: [2, 2], ..padded },
        "conv2d_depthwise" => ConvOptions { groups: 5, ..padded },
        "conv1d" => ConvOptions { stride: [1, 2], padding: [0, 3], dilation: [1, 2], ..plain },
        other => panic!("no such case: {other}"),
    };
    let bias = x.get(2).copied();
    if case == "conv1d" { g.conv1d(x[0], x[1], bias, options) } else { g.conv2d(x[0], x[1], bias, options) }
}

fn pool(g: &mut Graph, case: &str, x: Tensor) -> Result<Tensor, Error> {
    let threes = PoolOptions { stride: [2, 2], padding: [1, 1], ..PoolOptions::new([3, 3]) };
    match case {
        "max_pool2d" => g.max_pool2d(x, PoolOptions::new([2, 2])),
        "max_pool2d_overlapping" => {
            g.max_pool2d(x, PoolOptions { stride: [2, 1], padding: [1, 1], ..PoolOptions::new([3, 2]) })
        }
        "max_pool2d_dilated" => {
            let options = PoolOptions { stride: [1, 1], padding: [1, 1], ..PoolOptions::new([2, 2]) };
            g.max_pool2d(x, PoolOptions { dilation: [2, 3], ..options })
        }
        "max_pool1d" => g.max_pool2d(x, PoolOptions { stride: [1, 2], padding: [0, 1], ..PoolOptions::new([1, 3]) }),
        "avg_pool2d" => g.avg_pool2d(x, PoolOptions::new([2, 3])),
        "avg_pool2d_padded" => g.avg_pool2d(x, threes),
        "avg_pool2d_inside" => g.avg_pool2d(x, PoolOptions { count_include_pad: false, ..threes }),
        "global_avg_pool2d" => g.global_avg_pool2d(x),
        other => panic!("no such case: {other}"),
    }
}

#[test]
fn convolution_and_pooling_match_pytorch() {
    check("images", |g, case, x| Ok(vec![if x.len() > 1 { conv(g, case, x)? } else { pool(g, case, x[0])? }]));
}
