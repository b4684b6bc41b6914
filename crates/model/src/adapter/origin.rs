//! Adapters whose start is taken out of the base's weights: PiSSA and OLoRA.
//!
//! Both train A and B beside W − scale·B₀A₀, with A and B beginning as A₀ and B₀. The base is left as it is here, in however
//! many bits: the graph subtracts scale·(x·A₀ᵀ)·B₀ᵀ from the linear's result, with A₀ and B₀ frozen weights of the precision that
//! is computed in. Invariants: a run that was not trained computes what the base does; A₀ and B₀ follow from the base's numbers
//! on the device and the seed, so that a run that goes on finds them again; what is saved is an adapter of the
//! original base, plain LoRA of twice the rank, [A; A₀] and [B, −B₀], as peft's `save_pretrained` writes with
//! `path_initial_model_for_weight_conversion`. Look next at `decomposition` for A₀ and B₀.

use super::adapter_start::AdapterStart;
use super::decomposition::{Block, Factors, Weight, orthogonal, singular};
use super::file_names::{FileNames, PREFIX};
use super::selection::AdaptedModule;
use super::targets::Targetable;
use super::variant::{AdaptedLinear, LoraConfig};
use super::weight_reader::WeightReader;
use crate::graph_builder::GraphBuilder;
use crate::precision::write_parameter;
use crate::{ModelError, Precision};
use half::bf16;
use remat_formats::{AdapterConfig, FormatsError, ModelConfig, SettingName, TensorSpec, write_safetensors_from};
use remat_ir::ops::{Add, Layout, Linear};
use remat_ir::{IrError, Parameter, ParameterKind, SourceRole, StateRole, Storage, Type, ValueId};
use remat_plan::Device;
use remat_tensor::{DType, Shape, stream_of_name};
use std::num::NonZero;
use std::path::Path;

/// What the name of a frozen start has behind that of the tensor that begins with it.
const START: &str = ".start";
const A: &str = ".lora_A.weight";
const B: &str = ".lora_B.weight";

/// Emits the result of a linear without what the adapter started with.
pub(super) fn emit_without(g: &mut GraphBuilder, linear: &AdaptedLinear<'_>, y: ValueId) -> Result<ValueId, IrError> {
    let &AdaptedLinear { path, ref prefix, x, rank, scale, fan_in, fan_out, .. } = linear;
    let dtype = g.ty(x).dtype;
    let mut start = |tensor: &str, kind, shape: [usize; 2]| {
        let role = SourceRole::Parameter(kind, StateRole::Value);
        g.source(&format!("{prefix}{tensor}{START}"), Type::new(dtype, shape), Storage::Weight, role)
    };
    let a = start(A, ParameterKind::AdapterA, [rank, fan_in]);
    let b = start(B, ParameterKind::AdapterB, [fan_out, rank]);
    let u = g.op1(&format!("{path}.start_A"), Linear::plain(Layout::OutIn), &[x, a])?;
    let up = Linear { alpha: -scale, ..Linear::plain(Layout::OutIn) };
    let taken = g.op1(&format!("{path}.start_B"), up, &[u, b])?;
    g.op1(&format!("{path}.without_start"), Add, &[y, taken])
}

/// A weight on a device as products.
struct OnDevice<'a> {
    reader: WeightReader,
    device: &'a dyn Device,
}

impl OnDevice<'_> {
    /// The product of the weight as it is stored, or of its transpose, with columns.
    fn product(&self, x: &Block, transposed: bool) -> Result<Block, ModelError> {
        let (rows, columns) = self.reader.stored();
        let mut product = Block::zeros(if transposed { columns } else { rows }, x.columns);
        self.reader.strips(self.device, &mut |first, numbers| {
            let strip = Strip { first, columns, numbers };
            match transposed {
                true => strip.add(x, &mut product.data, true),
                false => {
                    let rows = first * x.columns..(first + numbers.len() / columns) * x.columns;
                    strip.add(x, &mut product.data[rows], false);
                }
            }
        })?;
        Ok(product)
    }
}

/// Whole rows of a stored weight, from `first` on.
struct Strip<'a> {
    first: usize,
    columns: usize,
    numbers: &'a [f32],
}

impl Strip<'_> {
    /// Adds the strip's part of a product onto those of its elements that it has a part in. Each thread makes elements of its
    /// own, of terms in their order, so that no thread changes a bit.
    fn add(&self, x: &Block, product: &mut [f64], transposed: bool) {
        let elements = product.len() / x.columns;
        let threads = std::thread::available_parallelism().map_or(1, NonZero::get).min(elements);
        let each = elements.div_ceil(threads);
        std::thread::scope(|scope| {
            for (number, part) in product.chunks_mut(each * x.columns).enumerate() {
                scope.spawn(move || self.add_some(x, number * each, part, transposed));
            }
        });
    }

    /// The same of the elements from `begin` on.
    fn add_some(&self, x: &Block, begin: usize, part: &mut [f64], transposed: bool) {
        let rows = self.numbers.chunks(self.columns);
        let multiply = |sums: &mut [f64], number: f32, x: &[f64]| {
            let number = f64::from(number);
            sums.iter_mut().zip(x).for_each(|(sum, &x)| *sum += number * x);
        };
        if transposed {
            for (row, numbers) in (self.first..).zip(rows) {
                let own = &numbers[begin..begin + part.len() / x.columns];
                part.chunks_mut(x.columns).zip(own).for_each(|(sums, &number)| multiply(sums, number, x.row(row)));
            }
        } else {
            for (sums, numbers) in part.chunks_mut(x.columns).zip(rows.skip(begin)) {
                numbers.iter().enumerate().for_each(|(column, &number)| multiply(sums, number, x.row(column)));
            }
        }
    }
}

impl Weight for OnDevice<'_> {
    type Error = ModelError;

    fn fans(&self) -> (usize, usize) {
        self.reader.fans()
    }

    fn times(&self, x: &Block) -> Result<Block, ModelError> {
        self.product(x, self.reader.in_out)
    }

    fn transposed_times(&self, y: &Block) -> Result<Block, ModelError> {
        self.product(y, !self.reader.in_out)
    }
}

/// Writes what adapters start with where the device holds it: A₀ and B₀ of every module, and A and B where they begin.
///
/// # Errors
/// A rank above what a weight has; a scale that is not above 0; a device that fails.
pub(super) fn fill(
    base: (&ModelConfig, Precision),
    lora: &LoraConfig,
    seed: u64,
    begins: bool,
    device: &mut dyn Device,
) -> Result<(), ModelError> {
    for module in lora.modules(&Targetable::of(base.0))? {
        let Factors { a, b } = factors(base, lora.start, &module, seed, device)?;
        for (tensor, numbers) in [(A, a), (B, b)] {
            let name = format!("{PREFIX}{}{tensor}", module.name);
            let frozen = device.known(Storage::Weight, &format!("{name}{START}"))?;
            match base.1 {
                Precision::F32 => device.write_all(frozen, &numbers)?,
                Precision::Bf16 => {
                    let rounded: Vec<bf16> = numbers.iter().map(|&x| bf16::from_f32(x)).collect();
                    device.write_all(frozen, &rounded)?;
                }
            }
            if begins {
                // As rounded, so that both cancel.
                let numbers = frozen_numbers(device, &name)?;
                write_parameter(&name, device, &mut |sink| {
                    sink(&numbers);
                    Ok(())
                })?;
            }
        }
    }
    Ok(())
}

fn factors(
    base: (&ModelConfig, Precision),
    start: AdapterStart,
    AdaptedModule { name, rank, scale, .. }: &AdaptedModule,
    seed: u64,
    device: &dyn Device,
) -> Result<Factors, ModelError> {
    let weight = OnDevice { reader: WeightReader::of(base, &format!("{name}.weight"), device)?, device };
    let (key, (fan_in, fan_out)) = (SettingName("init-lora-weights"), weight.fans());
    let refuse = |problem: String| Err(ModelError::Setting(format!("{key} {start}: {problem}")));
    let most = fan_in.min(fan_out);
    if *rank > most {
        return refuse(format!(
            "{name} is [{fan_out}, {fan_in}] and has no start of rank {rank}; give it at most {most}"
        ));
    }
    if !(*scale > 0.0 && scale.is_finite()) {
        return refuse(format!("the scale of {name} is {scale}, and must be above 0; raise {}", SettingName("alpha")));
    }
    match start {
        AdapterStart::Pissa(iterations) => singular(&weight, *rank, *scale, iterations, (seed, stream_of_name(name))),
        AdapterStart::Olora => orthogonal(&weight, *rank),
        AdapterStart::Default | AdapterStart::Gaussian => unreachable!("these take nothing from the base"),
    }
}

/// The frozen start of a tensor as the device holds it.
fn frozen_numbers(device: &dyn Device, name: &str) -> Result<Vec<f32>, ModelError> {
    let source = device.known(Storage::Weight, &format!("{name}{START}"))?;
    Ok(match device.source_type(source).dtype {
        DType::BF16 => device.read_all::<u16>(source)?.into_iter().map(|x| bf16::from_bits(x).to_f32()).collect(),
        _ => device.read_all(source)?,
    })
}

/// The settings of what is saved.
pub(super) fn of_file(config: AdapterConfig) -> AdapterConfig {
    // The rule that divides by the rank must come to the same scale.
    let factor = if config.use_rslora { 2f64.sqrt() } else { 2.0 };
    AdapterConfig {
        r: 2 * config.r,
        lora_alpha: factor * config.lora_alpha,
        rank_pattern: config.rank_pattern.into_iter().map(|(name, rank)| (name, 2 * rank)).collect(),
        alpha_pattern: config.alpha_pattern.into_iter().map(|(name, alpha)| (name, factor * alpha)).collect(),
        ..config
    }
}

/// Writes the weights of what is saved, f32: [A; A₀] and [B, −B₀], and whatever else is trained.
///
/// # Errors
/// A file that cannot be written; a device that fails.
pub(super) fn write(
    path: &Path,
    names: &FileNames,
    parameters: &[Parameter],
    device: &dyn Device,
) -> Result<(), ModelError> {
    let of_file = parameters.iter().flat_map(|parameter| {
        names.of_state(&parameter.name).into_iter().map(move |name| (name, parameter)).collect::<Vec<_>>()
    });
    let of_file: Vec<(String, &Parameter)> = of_file.collect();
    let shapes: Vec<Shape> = of_file
        .iter()
        .map(|(_, Parameter { kind, ty, .. })| match kind {
            ParameterKind::AdapterA => Shape::from([2 * ty.shape[0], ty.shape[1]]),
            ParameterKind::AdapterB => Shape::from([ty.shape[0], 2 * ty.shape[1]]),
            // An embedding or a head with an adapter is refused beside such a start.
            _ => ty.shape.clone(),
        })
        .collect();
    let specs: Vec<TensorSpec<'_>> = of_file
        .iter()
        .zip(&shapes)
        .map(|((name, parameter), shape)| TensorSpec { name, dtype: parameter.ty.dtype, shape })
        .collect();
    let mut buffer = Vec::new();
    write_safetensors_from(path, &specs, &[("format", "pt")], &mut |index, sink| {
        let parameter = of_file[index].1;
        let state = device.known(Storage::State, &parameter.name)?;
        let mut push = |numbers: &[f32]| -> Result<(), FormatsError> { sink(bytemuck::cast_slice(numbers)) };
        match parameter.kind {
            ParameterKind::AdapterA => {
                push(&device.read_all::<f32>(state)?)?;
                push(&frozen_numbers(device, &parameter.name)?)?;
            }
            ParameterKind::AdapterB => {
                let rank = parameter.ty.shape[1];
                let (b, start) = (device.read_all::<f32>(state)?, frozen_numbers(device, &parameter.name)?);
                for (row, start) in b.chunks(rank).zip(start.chunks(rank)) {
                    let negative = start.iter().map(|x| -x);
                    push(&row.iter().copied().chain(negative).collect::<Vec<f32>>())?;
                }
            }
            _ => {
                device.read_pieces(state, &mut buffer, &mut |piece| Ok::<(), ModelError>(sink(piece)?))?;
            }
        }
        Ok(())
    })
}
