//! A base model and an adapter, as the verbs that write models take them: either names the other.
//!
//! Invariant: what is taken from a file in place of a flag is told, as is what is not as it looks in a folder.

use crate::console;
use crate::inference::base_of;
use crate::names::{self, NameArgs};
use crate::terminal;
use remat_formats::AdapterConfig;
use remat_hub::Wanted;
use remat_model::Model;
use remat_train::{TrainError, peak_resident_bytes};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Flags that name a base and an adapter.
#[derive(Debug, clap::Args)]
pub(crate) struct FoldedArgs {
    /// PEFT adapter, such as the --out of a run
    #[arg(long, value_name = "DIR", required_unless_present = "model")]
    adapter: Option<PathBuf>,

    /// Model folder as Hugging Face writes it, or its name on the Hub [default: the base that --adapter names]
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,

    #[command(flatten)]
    names: NameArgs,
}

/// What they name.
pub(crate) struct Folded {
    pub(crate) model: Model,
    pub(crate) adapter: Option<PathBuf>,
    /// The process's peak before anything is written.
    before_bytes: Option<u64>,
}

impl FoldedArgs {
    /// Whether an adapter is named.
    pub(crate) fn has_adapter(&self) -> bool {
        self.adapter.is_some()
    }

    /// Opens both; `wanted` is what of the base is read.
    pub(crate) fn open(&self, wanted: Wanted) -> Result<Folded, TrainError> {
        let adapter = self.adapter.as_deref().map(names::adapter).transpose()?;
        if let Some(folder) = &adapter {
            refuse_whole_model(folder)?;
        }
        let folder = match (&self.model, &adapter) {
            (Some(model), _) => self.names.model(model, wanted)?,
            (None, Some(adapter)) => {
                let mut notes = Vec::new();
                let base = base_of(adapter, &mut notes)?;
                notes.iter().for_each(|note| terminal::note(note));
                base
            }
            (None, None) => return Err(TrainError::MissingKey { key: "adapter", example: "--adapter DIR" }),
        };
        let model = match wanted {
            Wanted::Shape => Model::open_to_plan(&folder)?,
            Wanted::Weights | Wanted::Adapter => Model::open(&folder)?,
        };
        let model = match &adapter {
            Some(adapter) => model.with_tokens_of(adapter)?,
            None => model,
        };
        model.notes().iter().for_each(|note| terminal::note(note));
        console::adapter_notes(&model, adapter.as_deref())?;
        Ok(Folded { model, adapter, before_bytes: peak_resident_bytes() })
    }
}

impl Folded {
    /// The keys of `--json` that say what was promised and held of memory; `held_bytes` is what the work holds by plan.
    pub(crate) fn memory(&self, held_bytes: usize) -> [(&'static str, Value); 2] {
        let planned = self.before_bytes.map(|before| before + held_bytes as u64);
        [("planned_peak_bytes", json!(planned)), ("peak_bytes", json!(peak_resident_bytes()))]
    }
}

/// A run of `--method full` leaves a model, which is a base and no adapter.
fn refuse_whole_model(folder: &Path) -> Result<(), TrainError> {
    let has = |name: &str| folder.join(name).symlink_metadata().is_ok();
    if !has("adapter_config.json") && has("config.json") {
        let problem = format!(
            "{} holds a whole model, as --method full leaves one, and no adapter; give it as --model",
            folder.display()
        );
        return Err(TrainError::BadFlag { key: "adapter", problem });
    }
    // Its own message where neither is there.
    AdapterConfig::from_dir(folder)?;
    Ok(())
}
