//! A pretrained model folder, or a preset: its configuration, its weights, and the graphs made of them.

use crate::adapter::{self, AdapterSettings, LoraConfig};
use crate::build::{self, Evaluation, Inference};
use crate::companions::Companions;
use crate::generation::{self, CacheShape, Generation};
use crate::model_builder::{Base, BatchShape};
use crate::names::TensorNames;
use crate::preset::{preset, preset_json};
use crate::quant::Quant;
use crate::source::{Source, Vectors};
use crate::stored::StoredQuantised;
use crate::{Method, ModelError, Precision};
use remat_formats::{FormatsError, HeldFile, ModelConfig, ModelFiles, refuse_weight_file};
use remat_ir::{Graph, Parameter, Training};
use remat_plan::Device;
use remat_tensor::DType;
use std::path::{Path, PathBuf};

/// A model folder as Hugging Face writes it (`config.json` and safetensors), or a preset with random weights.
#[derive(Debug)]
pub struct Model {
    pub(crate) folder: PathBuf,
    pub(crate) config: ModelConfig,
    pub(crate) source: Source,
    pub(crate) precision: Precision,
    noise: f32,
    /// The number format that the files hold what is not quantised in, or are published in.
    stored_dtype: DType,
    pub(crate) stored: StoredQuantised,
    /// What goes beside the weights of a model that is saved; nothing of a preset.
    pub(crate) companions: Companions,
    notes: Vec<String>,
}

impl Model {
    /// Opens a folder: reads `config.json` and the headers of the weight files, no weights.
    ///
    /// # Errors
    /// A missing or malformed file, an unsupported architecture, weights in another format.
    pub fn open(folder: &Path) -> Result<Self, ModelError> {
        refuse_weight_file(folder)?;
        let config = ModelConfig::from_dir(folder)?;
        let files = ModelFiles::open(folder)?;
        let mut names = TensorNames::of(&config, &files)?;
        let (config, untied) = names.tie(config, &files)?;
        let stored = StoredQuantised::of(&config, &files, |parameter| names.tensor_of(parameter))?;
        let linears = config.linear_names().len();
        let notes = untied.into_iter().chain(names.notes(linears, stored.count(), &files)).collect();
        let stored_dtype = match files.stored_dtype() {
            Some(dtype) => dtype,
            None => ModelConfig::declared_dtype_of(folder)?.unwrap_or(DType::F32),
        };
        let (folder, source, companions) =
            (folder.to_path_buf(), Source::Files(files, names), Companions::open(folder)?);
        Ok(Model {
            folder,
            config,
            source,
            precision: Precision::F32,
            noise: 0.0,
            stored_dtype,
            stored,
            companions,
            notes,
        })
    }

    /// A folder to plan for: as [`Model::open`] where it has weight files; from `config.json` alone where it has none.
    ///
    /// # Errors
    /// As [`Model::open`], but for weight files that are absent.
    pub fn open_to_plan(folder: &Path) -> Result<Self, ModelError> {
        refuse_weight_file(folder)?;
        match ModelFiles::are_in(folder) {
            true => Model::open(folder),
            false => {
                let stored_dtype = ModelConfig::declared_dtype_of(folder)?.unwrap_or(DType::F32);
                let model = Model::random(&folder.display().to_string(), ModelConfig::from_dir(folder)?);
                Ok(Model { stored_dtype, ..model })
            }
        }
    }

    /// A preset with random weights, which are made when they are loaded. Its folder is its name: there is none.
    ///
    /// # Errors
    /// A name that is not in [`preset_names`](crate::preset_names).
    pub fn from_preset(name: &str) -> Result<Self, ModelError> {
        let published = ModelConfig::declared_dtype(Path::new(name), preset_json(name)?)?;
        Ok(Model { stored_dtype: published.unwrap_or(DType::F32), ..Model::random(name, preset(name)?) })
    }

    /// A model of any shape, with random weights; the name is for people.
    pub fn random(name: &str, config: ModelConfig) -> Self {
        let stored = StoredQuantised::default();
        let base = Base { config: &config, precision: Precision::F32, stored: &stored, noise: 0.0 };
        // A shape that has no graph has no weights to be read either.
        let graph = build::evaluation(base, None, BatchShape { batch: 1, seq_len: 1 });
        let source = Source::Random(graph.map(|evaluation| Vectors::of(&evaluation.graph)).unwrap_or_default());
        let companions = Companions::default();
        let (folder, notes, precision, stored_dtype) = (PathBuf::from(name), Vec::new(), Precision::F32, DType::F32);
        Model { folder, config, source, precision, noise: 0.0, stored_dtype, stored, companions, notes }
    }

    /// The model computed in another precision than f32; its graphs and what is loaded follow.
    pub fn in_precision(self, precision: Precision) -> Self {
        Model { precision, ..self }
    }

    /// The model without the dropout that its configuration asks for in training. Files it is saved to keep their own.
    pub fn without_dropout(self) -> Self {
        Model { config: self.config.without_dropout(), ..self }
    }

    /// The model with noise on its embeddings in training: each element of a token gets a uniform number within
    /// ±alpha/√(L·D), L being the tokens of its sequence (Jain et al., *NEFTune*, 2023). 0 is none.
    pub fn with_embedding_noise(self, alpha: f32) -> Self {
        Model { noise: alpha, ..self }
    }

    /// The precision it is computed in.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The number format that its weights are stored in, those aside that are quantised; of a preset, the one it is
    /// published in.
    pub fn stored_dtype(&self) -> DType {
        self.stored_dtype
    }

    /// The configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// What the files hold linears in, if these are quantised.
    pub fn stored_quant(&self) -> Option<Quant> {
        self.stored.first()
    }

    /// What a user should know of the folder: a head that is not tied after all, tensors and files that are not read.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    pub(crate) fn base(&self) -> Base<'_> {
        Base { config: &self.config, precision: self.precision, stored: &self.stored, noise: self.noise }
    }

    /// Where it lies.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// SHA-256 of the weight files that were opened, in the order of their names, joined by `+`; empty of a preset.
    ///
    /// # Errors
    /// A file that cannot be read any more, or was written to since it was opened.
    pub fn weights_sha256(&self) -> Result<String, ModelError> {
        let mut files: Vec<&HeldFile> = self.held_weights().collect();
        files.sort_by_key(|file| file.path());
        let hashes: Result<Vec<String>, _> = files.into_iter().map(HeldFile::sha256).collect();
        Ok(hashes?.join("+"))
    }

    /// Files of the folder that were written to since the model was opened.
    pub fn changed_files(&self) -> Vec<&Path> {
        let held = self.held_weights().chain(self.companions.held());
        held.filter(|file| !file.is_unchanged()).map(HeldFile::path).collect()
    }

    fn held_weights(&self) -> impl Iterator<Item = &HeldFile> {
        let files = match &self.source {
            Source::Files(files, _) => Some(files.held()),
            Source::Random(_) => None,
        };
        files.into_iter().flatten()
    }

    /// The forward graph with its loss.
    ///
    /// # Errors
    /// Targets that match nothing, a sequence longer than the model's positions, a setting out of range.
    pub fn training(&self, method: &Method, shape: BatchShape) -> Result<Training, ModelError> {
        build::training_of(self.base(), method, shape)
    }

    /// The same, in a precision that need not be the model's own: to compare plans.
    ///
    /// # Errors
    /// As [`Model::training`].
    pub fn training_in(
        &self,
        precision: Precision,
        method: &Method,
        shape: BatchShape,
    ) -> Result<Training, ModelError> {
        build::training_of(Base { precision, ..self.base() }, method, shape)
    }

    /// The forward graph to logits, without dropout.
    ///
    /// # Errors
    /// As [`Model::training`].
    pub fn inference(&self, method: &Method, shape: BatchShape) -> Result<Inference, ModelError> {
        build::inference(self.base(), method, shape)
    }

    /// The forward graph with its loss, without dropout or gradients; of the base alone, all frozen, without a method.
    ///
    /// # Errors
    /// As [`Model::training`].
    pub fn evaluation(&self, method: Option<&Method>, shape: BatchShape) -> Result<Evaluation, ModelError> {
        build::evaluation(self.base(), method, shape)
    }

    /// The graphs of generation with caches; of the base alone, all frozen, without a method. With a method, sources have
    /// the names and storage of its training graph.
    ///
    /// # Errors
    /// As [`Model::training`]; sizes that do not fit each other.
    pub fn generation(&self, method: Option<&Method>, shape: CacheShape) -> Result<Generation, ModelError> {
        generation::generation(self.base(), method, shape)
    }

    /// Full names of the linear modules that can be targets.
    pub fn linear_names(&self) -> Vec<String> {
        self.config.linear_names()
    }

    /// Initialises adapters as PEFT does, on a device that holds the base already. Each tensor draws from a stream of its own
    /// name, so that adding a target changes no other.
    ///
    /// # Errors
    /// A source that the device does not have; a weight of the base that has no such start.
    pub fn init_adapter(
        &self,
        lora: &LoraConfig,
        parameters: &[Parameter],
        seed: u64,
        device: &mut dyn Device,
    ) -> Result<(), ModelError> {
        adapter::init((&self.config, self.precision, self), lora, parameters, seed, device)
    }

    /// Fills in what adapters took out of the base when they were initialised from this seed (PiSSA, OLoRA), for a run that
    /// goes on from states of its own. Does nothing for adapters that took nothing.
    ///
    /// # Errors
    /// As [`Model::init_adapter`].
    pub fn refill_adapter_start(
        &self,
        lora: &LoraConfig,
        seed: u64,
        device: &mut dyn Device,
    ) -> Result<(), ModelError> {
        adapter::refill((&self.config, self.precision), lora, seed, device)
    }

    /// The adapter settings of a PEFT folder, as they match this model, and what is to be told of them.
    ///
    /// # Errors
    /// A missing or malformed `adapter_config.json`, settings that no adapter here covers or that match nothing.
    pub fn adapter_settings(&self, folder: &Path) -> Result<AdapterSettings, ModelError> {
        adapter::read_settings(&self.config, folder)
    }

    /// Refuses settings that name what this model does not have, although others of them match.
    ///
    /// # Errors
    /// The first name or pattern that matches nothing.
    pub fn check_adapter_settings(&self, lora: &LoraConfig) -> Result<(), ModelError> {
        adapter::check_settings(&self.config, lora)
    }

    /// Reads the adapter's weights into the device's states. Every parameter must be in the file, and nothing else.
    ///
    /// # Errors
    /// A tensor that is missing, unexpected or of another shape.
    pub fn load_adapter(
        &self,
        folder: &Path,
        parameters: &[Parameter],
        device: &mut dyn Device,
    ) -> Result<(), ModelError> {
        let adapters: Vec<_> = parameters.iter().map(|p| (p.name.as_str(), &p.ty)).collect();
        adapter::load((&self.config, self), folder, &adapters, device)
    }

    /// As [`Model::load_adapter`], for the adapters that `graph` names; without gradients there are no parameters.
    ///
    /// # Errors
    /// As [`Model::load_adapter`].
    pub fn load_adapter_of(&self, folder: &Path, graph: &Graph, device: &mut dyn Device) -> Result<(), ModelError> {
        adapter::load((&self.config, self), folder, &adapter::of_graph(graph), device)
    }

    /// Writes a PEFT adapter folder: `adapter_config.json` and `adapter_model.safetensors` (f32), and beside them the
    /// tokenizer, template and generation settings that the adapter was trained with. An adapter that took its start out of the
    /// base's weights (PiSSA, OLoRA) is written as plain LoRA of twice its rank, for the base as it is stored.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn save_adapter(
        &self,
        folder: &Path,
        lora: &LoraConfig,
        parameters: &[Parameter],
        device: &dyn Device,
    ) -> Result<(), ModelError> {
        std::fs::create_dir_all(folder).map_err(FormatsError::not_written(folder, "create the folder"))?;
        let settings = adapter::to_peft((&self.config, &self.folder), lora)?;
        let names = adapter::FileNames::of(&self.config, lora)?;
        adapter::save(folder, (settings, lora.start), &names, parameters, device)?;
        self.companions.copy_to(folder)
    }
}
