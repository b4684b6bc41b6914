//! A model as a GGUF file: its sizes, its tokenizer, its weights with an adapter folded in.

use super::file::{GgufOptions, GgufReport, Sink, architecture, as_formats, general, open_out, write};
use super::rows::Rows;
use crate::merge::Merged;
use crate::parameters::Parameter;
use crate::rope::frequency_divisors;
use crate::{Model, ModelError};
use remat_formats::{
    GenerationConfig, GgufArchitecture, GgufElement, GgufEntry, GgufFile, GgufName, GgufSpec, GgufVocabulary,
    VocabularyOf, tokenizer_reading_bytes,
};
use remat_tensor::Shape;
use std::path::Path;

/// What llama.cpp divides rotary frequencies by.
const FREQUENCIES: &str = "rope_freqs.weight";

/// Where a tensor of the file comes from.
enum From {
    /// A parameter, by its number.
    Parameter { index: usize, head_rows: Option<usize> },
    /// The same linear of all experts, by the numbers of the parameters.
    Experts(Vec<usize>),
    /// Numbers that are known.
    Numbers(Vec<f32>),
}

impl Model {
    /// Writes the model as one GGUF file, with an adapter folded in if one is given: W + scale · B·A in f32, rounded once.
    ///
    /// # Errors
    /// What llama.cpp cannot compute or encode of the model, by name; as [`Model::write_merged`].
    pub fn export_gguf(
        &self,
        adapter: Option<&Path>,
        options: &GgufOptions,
        out: &Path,
    ) -> Result<GgufReport, ModelError> {
        let target = open_out(self, adapter, out, options.replace)?;
        let architecture = architecture(self)?;
        let merged = Merged::open(self, adapter)?;
        let (specs, sources) = tensors(&merged, &architecture, options.element)?;
        // The library's tables, then the vocabulary's texts as they are written: no more than as much again.
        let vocabulary_bytes = 2 * tokenizer_reading_bytes(own_or(adapter, "tokenizer.json", &self.folder))?;
        let vocabulary = self.vocabulary(adapter)?;
        let mut entries = general(&architecture, "model", &self.folder);
        entries.push(("general.file_type".to_string(), GgufEntry::U32(options.element.file_type())));
        entries.extend(architecture.entries(&merged.config));
        entries.extend(vocabulary.entries);
        let file = GgufFile { entries, tensors: specs };
        let to_formats = as_formats(&self.folder);
        let file_bytes = write(&file, target, &mut |number, sink| {
            write_tensor(&merged, &file.tensors[number], &sources[number], sink).map_err(&to_formats)
        })?;
        let matrices = file.tensors.iter().filter(|spec| spec.shape.len() >= 2);
        Ok(GgufReport {
            architecture: architecture.name(),
            tensors: file.tensors.len(),
            fallen_back: matrices
                .filter(|spec| options.element == GgufElement::Q8_0 && spec.element == GgufElement::F16)
                .count(),
            adapted: merged.parameters.iter().filter(|parameter| merged.adapter_of(parameter).is_some()).count(),
            dequantised: merged.parameters.iter().filter(|parameter| merged.is_quantised(parameter)).count(),
            file_bytes,
            held_bytes: merged.held_bytes(false) + rows_bytes(&file.tensors, &sources) + vocabulary_bytes,
            notes: architecture.notes.into_iter().chain(vocabulary.notes).collect(),
        })
    }

    /// The tokenizer that the model was trained with: the adapter's own where it has one.
    fn vocabulary(&self, adapter: Option<&Path>) -> Result<GgufVocabulary, ModelError> {
        let settings = GenerationConfig::from_dir(own_or(adapter, "generation_config.json", &self.folder))?;
        let eos = [&self.config.eos_token_ids[..], &settings.eos_token_ids].concat();
        Ok(GgufVocabulary::read(&VocabularyOf {
            folder: own_or(adapter, "tokenizer.json", &self.folder),
            vocab_size: self.config.vocab_size,
            bos: &self.config.bos_token_ids,
            eos: &eos,
        })?)
    }
}

/// The adapter's folder where it has a file of this name, else its base's.
fn own_or<'a>(adapter: Option<&'a Path>, name: &str, base: &'a Path) -> &'a Path {
    adapter.filter(|folder| folder.join(name).is_file()).unwrap_or(base)
}

/// The tensors of the file and where they come from.
fn tensors(
    merged: &Merged<'_>,
    architecture: &GgufArchitecture,
    element: GgufElement,
) -> Result<(Vec<GgufSpec>, Vec<From>), ModelError> {
    let config = &merged.config;
    let (mut specs, mut sources) = (Vec::new(), Vec::new());
    for (index, parameter) in merged.parameters.iter().enumerate() {
        let Some(name) = architecture.tensor(config, &parameter.name) else {
            let problem = "has no name in llama.cpp; remat merge writes a folder that transformers loads";
            return Err(merged.model.tensor_error(&parameter.name, problem.to_string()));
        };
        let (is_router, is_vector) = (name.is_router(), name.is_vector());
        let GgufName { name, head_rows, expert } = name;
        if expert.is_some() {
            // Experts are parameters in order: this one goes behind those that were there.
            add_expert((&mut specs, &mut sources), name, (index, parameter), element);
            continue;
        }
        // llama.cpp reads learned positions and whatever has one axis as f32.
        let element = match parameter.shape.len() {
            2 if !name.starts_with("position_embd") && !is_router => element.of_rows(parameter.shape.last()),
            _ => GgufElement::F32,
        };
        let shape = if is_vector { Shape::from([parameter.shape.last()]) } else { parameter.shape.clone() };
        if name == "token_embd.weight" && config.tie_word_embeddings && architecture.repeats_tied_head() {
            specs.push(GgufSpec { name: "output.weight".to_string(), element, shape: parameter.shape.clone() });
            sources.push(From::Parameter { index, head_rows: None });
        }
        specs.push(GgufSpec { name, element, shape });
        sources.push(From::Parameter { index, head_rows });
    }
    if let Some(divisors) = frequency_divisors(config) {
        let (name, shape) = (FREQUENCIES.to_string(), Shape::from([divisors.len()]));
        specs.push(GgufSpec { name, element: GgufElement::F32, shape });
        sources.push(From::Numbers(divisors));
    }
    Ok((specs, sources))
}

/// Puts the matrix of an expert behind those of the experts before it.
fn add_expert(
    (specs, sources): (&mut Vec<GgufSpec>, &mut Vec<From>),
    name: String,
    (index, parameter): (usize, &Parameter),
    element: GgufElement,
) {
    let [rows, columns] = [parameter.shape[0], parameter.shape[1]];
    // The other linears of the layer's experts may stand between.
    let found = specs.iter().rposition(|spec| spec.name == name);
    if let Some((spec, From::Experts(experts))) = found.map(|at| (&mut specs[at], &mut sources[at])) {
        experts.push(index);
        spec.shape = Shape::from([experts.len(), rows, columns]);
        return;
    }
    specs.push(GgufSpec { name, element: element.of_rows(columns), shape: Shape::from([1, rows, columns]) });
    sources.push(From::Experts(vec![index]));
}

fn write_tensor(merged: &Merged<'_>, spec: &GgufSpec, source: &From, sink: &mut Sink<'_>) -> Result<(), ModelError> {
    let out_of_range = |value: f32| merged.out_of_range(&spec.name, value, spec.element.name());
    let columns = if spec.shape.len() >= 2 { spec.shape.last() } else { 1 };
    match source {
        From::Experts(experts) => {
            let mut rows = Rows::new(spec.element, columns, None, &out_of_range);
            for &index in experts {
                merged.stream(&merged.parameters[index], false, &mut |piece| rows.push(piece, sink))?;
            }
            Ok(rows.finish(sink)?)
        }
        From::Numbers(numbers) => {
            let mut rows = Rows::new(spec.element, columns, None, &out_of_range);
            rows.push(numbers, sink)?;
            Ok(rows.finish(sink)?)
        }
        From::Parameter { index, head_rows } => {
            let mut rows = Rows::new(spec.element, columns, *head_rows, &out_of_range);
            merged.stream(&merged.parameters[*index], false, &mut |piece| rows.push(piece, sink))?;
            Ok(rows.finish(sink)?)
        }
    }
}

fn rows_bytes(specs: &[GgufSpec], sources: &[From]) -> usize {
    let of = |(spec, source): (&GgufSpec, &From)| match source {
        From::Parameter { head_rows, .. } => Rows::held_bytes(spec.shape.last(), *head_rows),
        From::Experts(_) => Rows::held_bytes(spec.shape.last(), None),
        From::Numbers(_) => 0,
    };
    specs.iter().zip(sources).map(of).max().unwrap_or(0)
}
