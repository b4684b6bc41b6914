//! `eval` is the definition of every op; here it is held to the outside world (torch 2.15 and transformers 5.23 in f64)
//! and to the relations between ops: accumulating forms, fused forms, sample coverage.
//!
//! The recorded numbers are Σ result[i]·cos(i) of what torch computes on `wave` operands.

use remat_ir::ops::*;
use remat_ir::{Array, Op, OpDef, Sample, Type};
use remat_tensor::{DType, Philox};
use std::collections::HashSet;

/// sin(a·i + b) over the elements, times `factor`.
fn wave(shape: &[usize], a: f64, b: f64, factor: f64) -> Array {
    let n = shape.iter().product::<usize>();
    Array::new(shape, (0..n).map(|i| factor * (a * i as f64 + b).sin()).collect())
}

/// Σ x[i]·cos(i).
fn digest(array: &Array) -> f64 {
    array.data.iter().enumerate().map(|(i, x)| x * (i as f64).cos()).sum()
}

/// Evaluates on operands of these dtypes.
fn eval(op: impl Into<Op>, operands: &[(DType, &Array)]) -> Vec<Array> {
    let op = op.into();
    let types: Vec<Type> = operands.iter().map(|(dtype, array)| Type::new(*dtype, array.shape.clone())).collect();
    let results = op.infer(&types.iter().collect::<Vec<_>>()).expect("valid operands");
    let inputs: Vec<&Array> = operands.iter().map(|(_, array)| *array).collect();
    op.eval(&inputs, &results.iter().collect::<Vec<_>>())
}

fn eval_f32(op: impl Into<Op>, operands: &[&Array]) -> Vec<Array> {
    eval(op, &operands.iter().map(|&array| (DType::F32, array)).collect::<Vec<_>>())
}

#[track_caller]
fn close(found: f64, expected: f64) {
    assert!((found - expected).abs() <= 1e-12 * expected.abs().max(1.0), "{found} against {expected}");
}

fn shifted(array: Array, by: f64) -> Array {
    array.map(|x| x + by)
}

#[test]
fn pointwise_and_norms_match_torch() {
    let x = wave(&[3, 6], 0.7, 0.1, 1.0);
    let loud = wave(&[3, 6], 0.7, 0.1, 3.0);
    let up = wave(&[3, 6], 0.3, 1.0, 1.0);
    let w = shifted(wave(&[6], 0.9, 0.2, 0.5), 1.0);
    let b = wave(&[6], 0.4, 0.3, 1.0);
    let eps = 1.0 / 1024.0;
    close(digest(&eval_f32(Gelu::TANH, &[&loud])[0]), -2.2106640009485723);
    close(digest(&eval_f32(Gelu { form: GeluForm::Exact }, &[&loud])[0]), -2.2103024169508076);
    close(digest(&eval_f32(Swiglu, &[&loud, &up])[0]), -3.5300464664417497);
    close(digest(&eval_f32(LayerNorm { eps }, &[&x, &w, &b])[0]), -3.8839379781596444);
    close(digest(&eval_f32(RmsNorm { eps, unit_offset: false }, &[&x, &w])[0]), -1.2427041190638202);
}

#[test]
fn loss_matches_torch() {
    let (h, w) = (wave(&[5, 4], 0.7, 0.1, 3.0), wave(&[7, 4], 0.3, 0.5, 2.0));
    let targets = Array::new([5], vec![3.0, f64::from(IGNORED), 0.0, 6.0, 2.0]);
    let loss = eval(LinearCrossEntropy::PLAIN, &[(DType::F32, &h), (DType::F32, &w), (DType::I32, &targets)]);
    close(digest(&loss[0]), 16.753137121551994);
    assert_eq!(loss[0].data[1], 0.0, "a masked token costs nothing");
}

#[test]
fn attention_matches_torch_with_groups_window_and_segments() {
    let q = wave(&[2, 5, 12], 0.7, 0.1, 2.0);
    let (k, v) = (wave(&[2, 5, 6], 0.45, 0.2, 2.0), wave(&[2, 5, 6], 0.3, 0.4, 1.0));
    let segments = Array::new([2, 5], [0, 0, 0, 0, 0, 0, 0, 2, 2, 2].map(f64::from).to_vec());
    let op = Attention { heads: 4, kv_heads: 2, scale: 0.5, window: Some(3), softcap: None, dropout: 0.0, stream: 0 };
    let operands = [(DType::F32, &q), (DType::F32, &k), (DType::F32, &v), (DType::I32, &segments)];
    let results = eval(op, &operands);
    close(digest(&results[0]), -4.522567057341961);
    // The first token of a segment sees itself alone: its output is its value, its lse its own score.
    assert_eq!(results[0].data[..3], v.data[..3]);
    let score = 0.5 * (0..3).map(|e| q.data[e] * k.data[e]).sum::<f64>();
    close(results[1].data[0], score);
}

#[test]
fn a_token_whose_segment_starts_behind_it_sees_nothing() {
    let x = wave(&[1, 2, 2], 0.7, 0.1, 1.0);
    let segments = Array::new([1, 2], vec![1.0, -5.0]);
    let op = Attention { heads: 1, kv_heads: 1, scale: 1.0, window: None, softcap: None, dropout: 0.0, stream: 0 };
    let results = eval(op.clone(), &[(DType::F32, &x), (DType::F32, &x), (DType::F32, &x), (DType::I32, &segments)]);
    assert_eq!(results[0].data[..2], [0.0, 0.0]);
    assert_eq!(results[1].data[0], f64::NEG_INFINITY);
    let f32s = [&x, &x, &x, &x, &results[0], &results[1]].map(|array| (DType::F32, array));
    let grads = eval(AttentionGrad::of(&op), &[&f32s[..], &[(DType::I32, &segments)]].concat());
    assert_eq!(grads[0].data[..2], [0.0, 0.0]);
    assert!(grads.iter().flat_map(|grad| &grad.data).all(|g| g.is_finite()));
}

#[test]
fn rope_matches_transformers_and_its_inverse_undoes_it() {
    let x = wave(&[2, 4, 12], 0.7, 0.1, 1.0);
    let positions = Array::new([2, 4], [0, 1, 2, 3, 5, 6, 0, 1].map(f64::from).to_vec());
    let inv_freq = Array::new([3], vec![1.0, 0.25, 0.03125]);
    let turn = |x: &Array, inverse| {
        let op = Rope { head_size: 6, inverse, scale: 1.0 };
        eval(op, &[(DType::F32, x), (DType::I32, &positions), (DType::F32, &inv_freq)]).remove(0)
    };
    let y = turn(&x, false);
    close(digest(&y), -4.182445032367438);
    for (back, x) in turn(&y, true).data.iter().zip(&x.data) {
        close(*back, *x);
    }
}

#[test]
fn adamw_matches_torch_over_three_steps() {
    let op = AdamW { beta1: 0.875, beta2: 0.96875, eps: 1.0 / 1024.0, weight_decay: 0.25, first: 0 };
    let (mut p, mut m, mut v) = (wave(&[5], 0.7, 0.1, 1.0), Array::zeros([5]), Array::zeros([5]));
    let scalar = |x: f64| Array::new([1], vec![x]);
    for step in 0..3 {
        // Half the gradient comes from the clip factor.
        let g = wave(&[5], 0.3, f64::from(step), 1.0);
        let (lr, number, factor) = (scalar(0.125), scalar(f64::from(step + 1)), scalar(0.5));
        let state = [&p, &g, &m, &v].map(|array| (DType::F32, array));
        let rest = [(DType::F32, &lr), (DType::I32, &number), (DType::F32, &factor)];
        let results = eval(op.clone(), &[&state[..], &rest[..]].concat());
        assert_eq!(results[1], Array::zeros([5]), "the gradient is zeroed");
        (p, m, v) = (results[0].clone(), results[2].clone(), results[3].clone());
    }
    close(digest(&p), -0.48251431882593315);
    close(digest(&m), -0.04207052812336975);
    close(digest(&v), -0.00569556962064767);
}

#[test]
fn clipping_matches_torch_and_keeps_a_norm_that_is_not_a_number() {
    let (a, b) = (wave(&[5], 0.7, 0.1, 1.0), wave(&[3], 0.3, 0.5, 4.0));
    let norm = eval_f32(GradNorm, &[&a, &b]).remove(0);
    close(norm.data[0], 5.181665375779949);
    let scale = eval_f32(ClipScale { max_norm: 0.5 }, &[&norm]).remove(0).data[0];
    close(digest(&a.map(|g| g * scale)), -0.08534619208013376);
    let scale = |norm: f64| eval_f32(ClipScale { max_norm: 1.0 }, &[&Array::new([1], vec![norm])])[0].data[0];
    assert_eq!([scale(0.5), scale(f64::INFINITY)], [1.0, 0.0]);
    assert!(scale(f64::NAN).is_nan());
}

#[test]
fn dropout_keeps_by_the_word_and_scales_what_it_keeps() {
    let rng = Array::new([4], vec![7.0, 1.0, 3.0, 2.0]);
    let ones = Array::zeros([20_000]).map(|_| 1.0);
    let y = eval(Dropout::new(0.25, 9), &[(DType::F32, &ones), (DType::U32, &rng)]).remove(0);
    let philox = Philox::for_op([7, 1, 3, 2], 9);
    for (element, &y) in y.data.iter().enumerate() {
        let kept = philox.word(element as u64) >= 1 << 30;
        assert_eq!(y, if kept { f64::from(1.0f32 / 0.75) } else { 0.0 });
    }
    let kept = y.data.iter().filter(|&&y| y > 0.0).count();
    assert!((14_700..15_300).contains(&kept), "{kept} of 20000 kept at p = 0.25");
    assert_eq!([Dropout::threshold(0.0), Dropout::threshold(0.5)], [0, 1 << 31]);
    // A word equal to the threshold is kept. Such a p exists for words with at most 24 leading bits.
    let word = |element: &u64| philox.word(*element);
    let element = (0..100_000).find(|element| word(element) % 256 == 0).expect("one in 256");
    let p = (f64::from(word(&element)) / 4_294_967_296.0) as f32;
    assert_eq!(Dropout::threshold(p), word(&element));
    assert!(Dropout::keeps(p, &philox, element) && !Dropout::keeps(p.next_up(), &philox, element));
}

#[test]
fn attention_dropout_follows_the_same_rule() {
    // With one head, all keys visible and q = 0, every probability of token i is 1/(i+1), and v = 1 sums what is kept.
    let (tokens, p) = (6, 0.3f32);
    let (q, v) = (Array::zeros([1, tokens, 1]), Array::zeros([1, tokens, 1]).map(|_| 1.0));
    let segments = Array::zeros([1, tokens]);
    let rng = Array::new([4], vec![7.0, 1.0, 3.0, 2.0]);
    let op = Attention { heads: 1, kv_heads: 1, scale: 1.0, window: None, softcap: None, dropout: p, stream: 5 };
    let floats = [&q, &q, &v].map(|array| (DType::F32, array));
    let o = eval(op, &[&floats[..], &[(DType::I32, &segments), (DType::U32, &rng)]].concat()).remove(0);
    let philox = Philox::for_op([7, 1, 3, 2], 5);
    for i in 0..tokens {
        let kept = (0..=i).filter(|j| Dropout::keeps(p, &philox, (i * tokens + j) as u64)).count();
        close(o.data[i], kept as f64 / (i + 1) as f64 * f64::from(Dropout::factor(p)));
    }
}

#[test]
fn ids_and_targets_outside_the_table_give_nan_and_do_not_panic() {
    let (table, ids) = (wave(&[3, 2], 0.7, 0.1, 1.0), Array::new([3], vec![1.0, 3.0, -1.0]));
    let y = eval(Embedding, &[(DType::F32, &table), (DType::I32, &ids)]).remove(0);
    assert_eq!(y.row(0), table.row(1));
    assert!(y.data[2..].iter().all(|v| v.is_nan()));
    let (h, targets) = (wave(&[1, 2], 0.3, 0.2, 1.0), Array::new([1], vec![3.0]));
    let loss = eval(LinearCrossEntropy::PLAIN, &[(DType::F32, &h), (DType::F32, &table), (DType::I32, &targets)]);
    assert!(loss[0].data[0].is_nan());
}

#[test]
fn every_op_has_samples_whose_results_have_the_inferred_shapes() {
    let samples = Op::samples();
    for name in Op::NAMES {
        assert!(samples.iter().any(|sample| sample.op.name() == *name), "{name} has no sample");
    }
    for sample in samples {
        let types = sample.op.infer(&sample.types.iter().collect::<Vec<_>>()).expect("samples are valid");
        let results = sample.eval();
        assert_eq!(results.len(), types.len(), "{}", sample.op.name());
        for (array, ty) in results.iter().zip(&types) {
            assert_eq!(array.shape, ty.shape, "{}", sample.op.name());
            assert!(array.data.iter().all(|x| x.is_finite()), "{}", sample.op.name());
        }
        for (array, ty) in sample.inputs.iter().zip(&sample.types) {
            let rounded = Array::from_host(&array.to_host(ty));
            assert_eq!(rounded, *array, "{}: operands must be exact in their dtype", sample.op.name());
        }
    }
}

#[test]
fn samples_reach_what_kernels_get_wrong() {
    let samples = Op::samples();
    let attention = |seen: &dyn Fn(&Attention, &Sample) -> bool| {
        samples.iter().any(|sample| matches!(&sample.op, Op::Attention(op) if seen(op, sample)))
    };
    assert!(attention(&|op, _| op.kv_heads > 1 && op.kv_heads < op.heads), "grouped heads");
    assert!(attention(&|op, _| op.window.is_some()) && attention(&|op, _| op.dropout > 0.0), "window, dropout");
    assert!(attention(&|_, sample| sample.types[0].shape[1] > 64), "more than one tile of tokens");
    assert!(attention(&|_, sample| sample.inputs[3].data.iter().any(|&start| start > 0.0)), "segments");
    let heads: Vec<&Sample> = samples.iter().filter(|s| matches!(s.op, Op::LinearCrossEntropy(_))).collect();
    let targets = |sample: &Sample| sample.inputs.last().map_or(vec![], |targets| targets.data.clone());
    let masked = |sample: &Sample| targets(sample).into_iter().filter(|&t| t == f64::from(IGNORED)).count();
    for bias in [false, true] {
        let mut heads = heads.iter().filter(|s| matches!(&s.op, Op::LinearCrossEntropy(op) if op.bias == bias));
        assert!(heads.any(|sample| masked(sample) == targets(sample).len()), "all masked");
    }
    assert!(heads.iter().any(|sample| targets(sample).len() > 2 * MOST_CHUNK), "several chunks");
    assert!(heads.iter().any(|sample| sample.inputs[1].shape[0] % 16 != 0), "a ragged vocabulary");
}

#[test]
fn attention_over_caches_is_attention_of_the_whole_sequence() {
    let (tokens, op) = (6, CachedAttention { heads: 4, kv_heads: 2, scale: 0.4, window: Some(3), softcap: Some(1.2) });
    let CachedAttention { heads, kv_heads, scale, window, softcap } = op;
    let whole = Attention { heads, kv_heads, scale, window, softcap, dropout: 0.0, stream: 0 };
    let q = wave(&[1, tokens, 12], 0.7, 0.1, 1.0);
    let [k, v] = [0.3, 0.9].map(|step| wave(&[1, tokens, 6], step, 0.2, 1.0));
    let starts = Array::zeros([1, tokens]);
    let f32 = |array| (DType::F32, array);
    let expected = &eval(whole, &[f32(&q), f32(&k), f32(&v), (DType::I32, &starts)])[0];
    // The caches are longer, and hold what is not to be seen.
    let garbage = wave(&[1, tokens + 3, 6], 0.2, 0.5, 100.0);
    let places = Array::new([1, tokens], (0..tokens).map(|t| t as f64).collect());
    let filled = |x| eval(CacheWrite, &[f32(&garbage), f32(x), (DType::I32, &places)]).remove(0);
    let (keys, values) = (filled(&k), filled(&v));
    let cached = &eval(op, &[f32(&q), f32(&keys), f32(&values), (DType::I32, &places)])[0];
    let difference = expected.zip(cached, |a, b| (a - b).abs());
    assert!(difference.data.iter().all(|&d| d < 1e-12), "{difference:?}");
}

/// The sample with states to add onto, and which of its results those become, where its op has an accumulating form.
fn accumulating(sample: &Sample) -> Option<(Sample, usize)> {
    let (op, first) = sample.op.accumulating()?;
    let results = sample.op.infer(&sample.types.iter().collect::<Vec<_>>()).expect("samples are valid");
    let mut summed = Sample { op, ..sample.clone() };
    for (index, ty) in results[first..].iter().enumerate() {
        summed.inputs.push(wave(&ty.shape, 0.3, index as f64, 1.0));
        summed.types.push(ty.clone());
    }
    Some((summed, first))
}

#[test]
fn accumulating_forms_add_onto_the_donated_state() {
    let (mut found, mut covered) = (HashSet::new(), HashSet::new());
    for plain in Op::samples() {
        if plain.op.donations().iter().any(|&(operand, _)| operand > 0) && plain.op.accumulating().is_none() {
            covered.insert(plain.op.name());
        }
        let Some((sample, first)) = accumulating(&plain) else { continue };
        found.insert(sample.op.name());
        assert_eq!(sample.op.accumulating(), None, "{}: it adds already", sample.op.name());
        let (sums, terms) = (sample.eval(), plain.eval());
        let states = plain.types.len()..sample.types.len();
        let donated: Vec<(usize, usize)> = states.zip(first..).collect();
        assert_eq!(sample.op.donations(), donated, "{}", sample.op.name());
        assert_eq!(sums[..first], terms[..first]);
        for (operand, result) in donated {
            let expected = sample.inputs[operand].zip(&terms[result], |state, term| state + term);
            let difference = expected.zip(&sums[result], |a, b| (a - b).abs());
            assert!(difference.data.iter().all(|&d| d < 1e-9), "{}", sample.op.name());
        }
    }
    assert_eq!(found.len(), 12, "every op that makes gradients of parameters: {found:?}");
    assert!(found.is_subset(&covered), "executors are tested on samples: {covered:?}");
}

#[test]
fn activations_are_of_one_dtype_and_what_accumulates_is_none() {
    for sample in Op::samples() {
        let (name, range) = (sample.op.name(), sample.op.activations(sample.types.len()));
        let plain = |ty: &&Type| ty.dtype.quant_format().is_none();
        let dtypes: HashSet<DType> = sample.types[range.clone()].iter().filter(plain).map(|ty| ty.dtype).collect();
        assert!(dtypes.len() <= 1, "{name}: {dtypes:?}");
        if sample.op.accumulating().is_some() {
            assert_eq!(range, sample.op.accumulating().expect("it is").0.activations(sample.types.len() + 1), "{name}");
        }
        let Some(rounded) = sample.with_activations(DType::BF16) else { continue };
        for (index, ty) in rounded.types.iter().enumerate().filter(|(_, ty)| ty.dtype.is_float()) {
            // Another operand of a cast gives its memory alone, in whatever dtype the result has.
            let memory = name == "cast" && index == 1;
            assert!(memory || (ty.dtype == DType::BF16) == range.contains(&index), "{name}: operand {index}");
        }
    }
}

#[test]
fn the_fused_head_is_the_loss_and_its_gradient() {
    for sample in Op::samples() {
        let Op::LinearCrossEntropyWithGrad(op) = &sample.op else { continue };
        let of = |op: Op, operands: usize| {
            Sample { op, types: sample.types[..operands].to_vec(), inputs: sample.inputs[..operands].to_vec() }.eval()
        };
        let mut apart = of(op.0.forward().into(), op.0.dloss_operand());
        apart.extend(of(op.0.clone().into(), sample.types.len()));
        assert_eq!(sample.eval(), apart);
    }
}

/// Bytes that move, of an op on operands of these types.
fn bytes(op: Op, types: &[Type]) -> f64 {
    let inputs: Vec<&Type> = types.iter().collect();
    let results = op.infer(&inputs).expect("valid");
    op.cost(&inputs, &results.iter().collect::<Vec<_>>()).bytes
}

#[test]
fn a_weight_counts_as_often_as_it_is_read_and_a_table_only_by_its_rows() {
    let f32s = |shape: &[usize]| Type::new(DType::F32, shape.to_vec());
    let ids = |tokens| Type::new(DType::I32, vec![1, tokens]);
    let linear = |rows| bytes(Linear::plain(Layout::OutIn).into(), &[f32s(&[1, rows, 8]), f32s(&[16, 8])]);
    let (row, weight) = (4.0 * (8.0 + 16.0), 4.0 * 16.0 * 8.0);
    assert_eq!(linear(512), 512.0 * row + weight);
    assert_eq!(linear(513), 513.0 * row + 2.0 * weight, "packed again for what does not fit a block of rows");

    // The head: logits and dh for each chunk of tokens, and a state of the weight's size that is read and written.
    let head = |tokens, dw| {
        let op = LinearCrossEntropyGrad {
            softcap: None,
            bias: false,
            low_rank: false,
            dh: true,
            du: false,
            dw,
            db: false,
            dup: false,
            accumulate: dw,
        };
        let mut types = vec![f32s(&[1, tokens, 8]), f32s(&[16, 8]), ids(tokens), f32s(&[1, tokens])];
        types.extend(dw.then(|| f32s(&[16, 8])));
        bytes(op.into(), &types)
    };
    let row = 4.0 * (8.0 + 1.0 + 1.0 + 8.0);
    assert_eq!(head(256, false), 256.0 * row + 2.0 * weight);
    assert_eq!(head(257, false), 257.0 * row + 4.0 * weight);
    assert_eq!(head(257, true), 257.0 * row + (4.0 + 4.0) * weight);

    // The gradient of an embedding touches the rows of its tokens, however long the table is.
    let table = |rows| {
        let op = EmbeddingGrad { rows, accumulate: true };
        bytes(op.into(), &[f32s(&[1, 3, 8]), ids(3), f32s(&[rows, 8])])
    };
    assert_eq!(table(10), table(1000));
}

#[test]
fn costs_count_what_the_mathematics_needs() {
    let cost = |op: Op, types: &[Type]| {
        let inputs: Vec<&Type> = types.iter().collect();
        let results = op.infer(&inputs).expect("valid");
        let outputs: Vec<&Type> = results.iter().collect();
        op.cost(&inputs, &outputs).flops
    };
    let f32 = |shape: &[usize]| Type::new(DType::F32, shape);
    let i32 = |shape: &[usize]| Type::new(DType::I32, shape);
    let op = Attention { heads: 4, kv_heads: 2, scale: 1.0, window: None, softcap: None, dropout: 0.0, stream: 0 };
    let types = [f32(&[3, 10, 32]), f32(&[3, 10, 16]), f32(&[3, 10, 16]), i32(&[3, 10])];
    // 55 visible pairs in each of 3·4 heads of size 8.
    assert_eq!(cost(op.clone().into(), &types), 4.0 * 8.0 * 12.0 * 55.0);
    let windowed = Attention { window: Some(4), ..op.clone() };
    assert_eq!(cost(windowed.into(), &types), 4.0 * 8.0 * 12.0 * 34.0);
    let wide = Attention { window: Some(99), ..op };
    assert_eq!(cost(wide.into(), &types), 4.0 * 8.0 * 12.0 * 55.0);
    let head = [f32(&[2, 500, 8]), f32(&[30, 8]), i32(&[2, 500]), f32(&[2, 500])];
    let product = 2.0 * 1000.0 * 8.0 * 30.0;
    assert_eq!(cost(LinearCrossEntropy::PLAIN.into(), &head[..3]), product);
    let grad = LinearCrossEntropyGrad { dh: true, dw: true, ..LinearCrossEntropyGrad::NONE };
    assert_eq!(cost(grad.into(), &head), 3.0 * product);
    let crossed =
        MaskedAttention { heads: 4, kv_heads: 2, scale: 1.0, causal: false, mask: None, dropout: 0.0, stream: 0 };
    let types = [f32(&[3, 10, 32]), f32(&[3, 7, 16]), f32(&[3, 7, 16])];
    assert_eq!(cost(crossed.clone().into(), &types), 4.0 * 8.0 * 12.0 * 70.0);
    // 28 pairs up to the diagonal, and three queries behind it that see all seven keys.
    assert_eq!(cost(MaskedAttention { causal: true, ..crossed }.into(), &types), 4.0 * 8.0 * 12.0 * 49.0);
    let window = Window { stride: [2, 1], padding: [1, 0], ..Window::default() };
    let conv = Conv2d { window, groups: 2, bias: false };
    // 3 images, 6 channels, 4 by 5 places; 2 channels of a group and 3 by 2 elements of a window.
    let product = 2.0 * (3.0 * 6.0 * 4.0 * 5.0) * (2.0 * 3.0 * 2.0);
    assert_eq!(cost(conv.into(), &[f32(&[3, 4, 7, 6]), f32(&[6, 2, 3, 2])]), product);
    let dx = Conv2dDx { window, groups: 2, size: [7, 6] };
    assert_eq!(cost(dx.into(), &[f32(&[3, 6, 4, 5]), f32(&[6, 2, 3, 2])]), product);
    let dw = Conv2dDw { window, groups: 2, kernel: [3, 2], bias: true, accumulate: false };
    assert_eq!(cost(dw.into(), &[f32(&[3, 6, 4, 5]), f32(&[3, 4, 7, 6])]), product);
}
