//! What a run reads and writes, by the settings that name it. Invariant: every path of the settings that a run reads is here,
//! so that no output is written over one; the folder of `offload` is not, since nothing there is read that the run did not
//! put there.

use crate::folder::file_names::EVENTS_FILE;
use crate::folder::ownership::run_files;
use crate::settings::device_map::DeviceMap;
use crate::{TrainConfig, TrainError};
use remat_data::file_of;
use remat_formats::SettingName;
use remat_formats::{OutputFile, Places, resolve};
use std::path::Path;

/// The setting of this key, as messages name it.
fn name(key: &str) -> String {
    SettingName(key).to_string()
}

impl TrainConfig {
    /// The inputs of a run with these settings, and of the file that they came from.
    pub fn inputs(&self, config_file: Option<&Path>) -> Places {
        let mut places = Places::new().reads(&name("model"), &self.model);
        for path in &self.data {
            places = places.reads(&name("data"), &file_of(path));
        }
        for path in &self.eval_data {
            places = places.reads(&name("eval-data"), &file_of(path));
        }
        if let Some(path) = &self.init_adapter {
            places = places.reads(&name("init-adapter"), path);
        }
        if let Some(path) = &self.add_tokens {
            places = places.reads(&name("add-tokens"), path);
        }
        if let Some(path) = &self.chat_template {
            places = places.reads(&name("chat-template"), path);
        }
        if let Some(DeviceMap::File(path)) = &self.device_map {
            places = places.reads(&name("device-map"), path);
        }
        match config_file {
            Some(path) => places.reads(&name("config"), path),
            None => places,
        }
    }

    /// Checks that nothing is written which is read, and that the trace can be written: now, or, where it goes into a run
    /// folder that is still to be made, by whoever makes that.
    pub(crate) fn trace_file(
        &self,
        config_file: Option<&Path>,
        trace: Option<&Path>,
    ) -> Result<Option<OutputFile>, TrainError> {
        let places = self.inputs(config_file).writes_folder(&name("out"), &self.out, run_files())?;
        let places = match &self.tensorboard {
            Some(folder) => places.writes_folder(&name("tensorboard"), folder, [EVENTS_FILE])?,
            None => places,
        };
        let Some(path) = trace else { return Ok(places.check().map(|()| None)?) };
        places.writes_file(&name("trace"), path)?.check()?;
        let place = |path: &Path| resolve(path).ok();
        let is_in_out = place(path).as_deref().and_then(Path::parent) == place(&self.out).as_deref();
        if is_in_out && !self.out.exists() { Ok(None) } else { Ok(Some(OutputFile::open(&name("trace"), path)?)) }
    }
}
