//! A model that is asked, with its adapter, tokenizer and the settings of generation: what `generate` and `chat` share.
//!
//! Invariant: what is taken from files in place of flags is said: the base that an adapter names, the sampling that
//! `generation_config.json` asks for, and what of it is not supported. An adapter's own tokenizer, template and
//! generation settings go before its base's.

use crate::names::{self, NameArgs};
use crate::template_args::TemplateArgs;
use remat_data::{ChatTemplate, Conversation, ModelTokens};
use remat_formats::{AdapterConfig, GenerationConfig, Places, Tokenizer, hub_name};
use remat_hub::Wanted;
use remat_model::Model;
use remat_step::DeviceOptions;
use remat_train::{BatchGenerator, Generator, Isa, PrecisionChoice, Sampling, TrainError, device_options};
use std::path::{Path, PathBuf};

/// Flags of the verbs that ask a model.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct InferenceArgs {
    /// Model folder as Hugging Face writes it, or its name on the Hub [default: the base that --adapter names]
    #[arg(long, value_name = "DIR", required_unless_present = "adapter")]
    model: Option<PathBuf>,

    #[command(flatten)]
    names: NameArgs,

    /// PEFT adapter to apply, such as the --out of a run
    #[arg(long, value_name = "DIR")]
    adapter: Option<PathBuf>,

    /// Randomness: 0 always takes the most probable token [default: of generation_config.json, else 0]
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    temperature: Option<f32>,

    /// Choose among the N most probable tokens only [default: of generation_config.json, else all]
    #[arg(long, value_name = "N")]
    top_k: Option<usize>,

    /// Choose among the fewest tokens whose probabilities sum to P [default: of generation_config.json, else 1]
    #[arg(long, value_name = "P")]
    top_p: Option<f32>,

    /// Seed of the random choices
    #[arg(long, value_name = "N", default_value = "0")]
    seed: u64,

    /// End before this token too, beside the model's own ends: the text of one token, as <|im_end|>; may be repeated
    #[arg(long, value_name = "TOKEN")]
    stop: Vec<String>,

    #[command(flatten)]
    template: TemplateArgs,

    /// Number format of weights and activations
    #[arg(long, value_enum, default_value = "auto")]
    precision: PrecisionChoice,

    /// Threads [default: all]
    #[arg(long, value_name = "N", value_parser = crate::settings::threads)]
    threads: Option<usize>,

    /// Instruction set to compute with [default: the strongest this machine has]; results differ by roundings
    #[arg(long, value_enum)]
    isa: Option<Isa>,
}

/// A model that can be asked, its weights not loaded yet.
pub(crate) struct Asked {
    pub(crate) model: Model,
    pub(crate) tokens: ModelTokens,
    pub(crate) sampling: Sampling,
    /// Ids that end a text.
    pub(crate) stop: Vec<u32>,
    /// Tokens to generate at most, if `generation_config.json` says so.
    pub(crate) max_new_tokens: Option<usize>,
    /// What was taken from files and has to be said.
    pub(crate) notes: Vec<String>,
    adapter: Option<PathBuf>,
    options: DeviceOptions,
}

impl InferenceArgs {
    /// Opens model, tokenizer and settings. `inputs` are what else the verb reads.
    pub(crate) fn open(&self, inputs: Places) -> Result<Asked, TrainError> {
        let mut notes = Vec::new();
        let adapter = self.adapter.as_deref().map(names::adapter).transpose()?;
        let folder = match (&self.model, &adapter) {
            (Some(model), _) => self.names.model(model, Wanted::Weights)?,
            (None, Some(adapter)) => base_of(adapter, &mut notes)?,
            (None, None) => return Err(TrainError::MissingKey { key: "model", example: "--model DIR" }),
        };
        let mut places = inputs.reads("--model", &folder);
        places = adapter.iter().fold(places, |places, path| places.reads("--adapter", path));
        self.template.inputs(places).check()?;
        let options = device_options(self.threads, self.isa)?;
        let model = Model::open(&folder)?;
        let model = match &adapter {
            Some(adapter) => model.with_tokens_of(adapter)?,
            None => model,
        };
        model.notes().iter().for_each(|note| crate::terminal::note(note));
        crate::console::adapter_notes(&model, adapter.as_deref())?;
        let precision = self.precision.of_model(&model, options.level);
        let model = model.in_precision(precision.into());
        // What an adapter has of its own is what it was trained with.
        let own = |name: &str| adapter.as_deref().filter(|folder| folder.join(name).is_file());
        let tokens_from = own("tokenizer.json").unwrap_or(&folder);
        let settings_from = own("generation_config.json").unwrap_or(&folder);
        let tokens = self.tokens(tokens_from, &model)?;
        if tokens_from != folder && differs(tokens_from, &folder) {
            notes.push(format!("the tokenizer of {} is used; its base's differs", tokens_from.display()));
        }
        let settings = GenerationConfig::from_dir(settings_from)?;
        let sampling = self.sampling(&settings, &mut notes);
        sampling.check()?;
        let ends = [&model.config().eos_token_ids[..], &settings.eos_token_ids].concat().into_iter();
        let mut stop: Vec<u32> = ends.chain(tokens.tokenizer().eos()).collect();
        for text in &self.stop {
            let id = one_token(tokens.tokenizer(), text);
            stop.push(id.map_err(|problem| TrainError::BadFlag { key: "stop", problem })?);
        }
        let max_new_tokens = settings.max_new_tokens.filter(|tokens| *tokens > 0);
        Ok(Asked { model, tokens, sampling, stop, max_new_tokens, notes, adapter, options })
    }

    fn tokens(&self, folder: &Path, model: &Model) -> Result<ModelTokens, TrainError> {
        let tokens = ModelTokens::open(folder, model.config().eos_token_ids.first().copied())?;
        let Some(tokens) = tokens else {
            // The message of the missing file.
            return Err(Tokenizer::from_dir(folder).err().map_or_else(
                || TrainError::MissingKey { key: "model", example: "a folder with tokenizer.json" },
                TrainError::from,
            ));
        };
        let (limit, vocabulary) = (tokens.tokenizer().id_limit() as usize, model.config().vocab_size);
        if limit > vocabulary {
            let problem = format!(
                "the tokenizer of {} has ids up to {}, and the model only {vocabulary} of them: they do not belong together",
                folder.display(),
                limit - 1
            );
            return Err(TrainError::BadFlag { key: "adapter", problem });
        }
        Ok(self.template.of(tokens)?)
    }

    /// The flags over what the model's makers ask for.
    fn sampling(&self, settings: &GenerationConfig, notes: &mut Vec<String>) -> Sampling {
        let of_file = Sampling::asked_for(settings, self.seed);
        let temperature = self.temperature.unwrap_or(of_file.temperature);
        let sampling = Sampling {
            temperature,
            top_k: self.top_k.or(of_file.top_k),
            top_p: self.top_p.unwrap_or(of_file.top_p),
            seed: self.seed,
        };
        let is_of_file = self.temperature.is_none() || self.top_k.is_none() || self.top_p.is_none();
        if settings.do_sample && is_of_file && temperature > 0.0 {
            let top_k = sampling.top_k.map_or(String::new(), |k| format!(", top-k {k}"));
            notes.push(format!(
                "tokens are chosen at temperature {temperature}{top_k}, top-p {}, as generation_config.json and the flags \
                 say; --temperature 0 takes the most probable",
                sampling.top_p
            ));
        }
        if !settings.unsupported.is_empty() {
            let keys = settings.unsupported.join(", ");
            notes.push(format!("generation_config.json asks for {keys}, which is not supported here and passed over"));
        }
        sampling
    }
}

impl Asked {
    /// The model loaded, for texts of `capacity` tokens.
    pub(crate) fn generator(&self, capacity: usize) -> Result<Generator, TrainError> {
        Generator::open(&self.model, self.adapter.as_deref(), capacity, self.options)
    }

    /// The model loaded, for `batch` texts of `capacity` tokens at a time.
    pub(crate) fn batch_generator(&self, batch: usize, capacity: usize) -> Result<BatchGenerator, TrainError> {
        BatchGenerator::open(&self.model, self.adapter.as_deref(), batch, capacity, self.options)
    }

    /// The chat template, or why there is none.
    pub(crate) fn template(&self) -> Result<&ChatTemplate, TrainError> {
        self.tokens.chat().map_err(|problem| TrainError::BadFlag { key: "model", problem: problem.to_string() })
    }

    /// What the model reads of a conversation before it answers, as token ids.
    pub(crate) fn conversation(&self, messages: &[(&str, &str)]) -> Result<Vec<u32>, String> {
        let template = self.tokens.chat()?;
        let text = template.render(&Conversation::new(messages), true)?;
        self.tokens.tokenizer().encode(&text, false)
    }

    /// The token that the template ends an assistant's turn with, if that is a special one: models that were trained on
    /// the template say it, whatever their configuration calls the end of a text.
    pub(crate) fn end_of_turn(&self) -> Option<u32> {
        end_of_turn(&self.tokens)
    }
}

/// As [`Asked::end_of_turn`].
fn end_of_turn(tokens: &ModelTokens) -> Option<u32> {
    const SAID: &str = "remat-answer";
    let asked = Conversation::new(&[("user", "a"), ("assistant", SAID)]);
    let text = tokens.chat().ok()?.render(&asked, false).ok()?;
    let behind = text.rsplit_once(SAID)?.1;
    let first = *tokens.tokenizer().encode(behind, false).ok()?.first()?;
    tokens.tokenizer().is_special(first).then_some(first)
}

/// The folder of the base that an adapter names: as a path, beside the adapter, or on the Hub.
pub(crate) fn base_of(adapter: &Path, notes: &mut Vec<String>) -> Result<PathBuf, TrainError> {
    let config = AdapterConfig::from_dir(adapter)?;
    let Some(name) = config.base_model_name_or_path.filter(|name| !name.is_empty()) else {
        return Err(TrainError::MissingKey { key: "model", example: "--model DIR, as adapter_config.json names none" });
    };
    let candidates = [PathBuf::from(&name), adapter.join(&name)];
    let found = match candidates.into_iter().find(|path| path.is_dir()) {
        Some(folder) => folder,
        None if names::is_hub_model(&name) => names::model_at(&name, config.revision.as_deref())?,
        None => {
            let problem = format!("adapter_config.json names the base {name}, which is not here; give --model DIR");
            return Err(TrainError::BadFlag { key: "adapter", problem });
        }
    };
    let shown = hub_name(&found).map_or(found.display().to_string(), |(name, _)| name);
    notes.push(format!("the base model is {shown}, as adapter_config.json says"));
    Ok(found)
}

/// Whether two folders have other tokenizers.
fn differs(a: &Path, b: &Path) -> bool {
    let read = |folder: &Path| {
        remat_formats::read_file(&folder.join("tokenizer.json"), remat_formats::TOKENIZER_FILE_LIMIT_BYTES).ok()
    };
    read(a) != read(b)
}

/// The token that is exactly this text.
fn one_token(tokenizer: &Tokenizer, text: &str) -> Result<u32, String> {
    match tokenizer.encode(text, false)?[..] {
        [id] => Ok(id),
        ref ids => {
            let tokens = crate::units::counted(ids.len(), "token");
            Err(format!("{text:?} is {tokens} for this model; give the text of one token"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use remat_formats::{NewToken, grow_tokenizer};

    /// A tokenizer with this token beside its own, and a published template.
    fn tokens(template: &str, special: &str) -> ModelTokens {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
        let folder = fixtures.join("parity/llama-gqa-tied");
        let token = NewToken { content: special.to_string(), special: true };
        let grown = grow_tokenizer(&folder.join("tokenizer.json"), &[token]).expect("a new token");
        let source =
            std::fs::read_to_string(fixtures.join(format!("chat/templates/{template}.jinja"))).expect("a template");
        let tokens = ModelTokens::open_with(&folder, Some(&grown.json), None).expect("a tokenizer").expect("there");
        tokens.on_day(remat_train::today()).with_template(source)
    }

    #[test]
    fn answers_end_with_the_token_that_each_family_ends_a_turn_with() {
        for (template, end) in [
            ("gemma", "<end_of_turn>"),
            ("gemma3", "<end_of_turn>"),
            ("phi3", "<|end|>"),
            ("phi4_mini", "<|end|>"),
            ("granite3", "<|end_of_text|>"),
            ("smollm3", "<|im_end|>"),
            ("qwen3", "<|im_end|>"),
            ("chatml", "<|im_end|>"),
            ("llama3", "<|eot_id|>"),
        ] {
            let tokens = tokens(template, end);
            let id = tokens.tokenizer().token_to_id(end);
            assert!(id.is_some() && end_of_turn(&tokens) == id, "{template}: {:?}, not {end}", end_of_turn(&tokens));
        }
        // Of these it is the tokenizer's own end of text.
        for template in ["olmo2", "stablelm_zephyr", "zephyr", "phi2", "gpt_neoxt"] {
            let tokens = tokens(template, "<|unused|>");
            assert_eq!(end_of_turn(&tokens), tokens.tokenizer().eos(), "{template}");
        }
    }
}
