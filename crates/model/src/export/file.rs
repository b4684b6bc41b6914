//! What every GGUF file that is written here has in common: what is asked for and told, what is looked at before the work, the
//! first entries, and that it is whole under its name or not there.

use crate::source::Source;
use crate::{Model, ModelError};
use remat_formats::{
    FormatsError, GgufArchitecture, GgufElement, GgufEntry, GgufFile, OutputFile, Places, SettingName, hub_name,
    require_space,
};
use std::path::Path;

/// ggml's version of its quantised types.
const QUANTISATION_VERSION: u32 = 2;

/// How a GGUF file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GgufOptions {
    /// What matrices are written in; norms, biases and learned positions are f32.
    pub element: GgufElement,
    /// Whether a file that is there is replaced.
    pub replace: bool,
}

/// What was written.
#[derive(Debug, Clone, PartialEq)]
pub struct GgufReport {
    /// `general.architecture`.
    pub architecture: &'static str,
    /// Tensors.
    pub tensors: usize,
    /// Matrices whose rows fill no blocks of Q8_0 and are f16 instead.
    pub fallen_back: usize,
    /// Linears with an adapter.
    pub adapted: usize,
    /// Linears that the base's files hold quantised, of a model.
    pub dequantised: usize,
    /// Size of the file.
    pub file_bytes: u64,
    /// Bytes that were held at most, beside what the process held before.
    pub held_bytes: usize,
    /// What is not as in the model's folder, for people.
    pub notes: Vec<String>,
}

/// The file that is asked for, when nothing is in the way.
pub(super) fn open_out(
    model: &Model,
    adapter: Option<&Path>,
    out: &Path,
    replace: bool,
) -> Result<OutputFile, ModelError> {
    let places = match model.source {
        Source::Files(..) => Places::new().reads(&SettingName("model").to_string(), &model.folder),
        // One that is planned from its configuration alone has a folder, too.
        Source::Random(_) if model.folder.is_dir() => {
            Places::new().reads(&SettingName("model").to_string(), &model.folder)
        }
        Source::Random(_) => Places::new(),
    };
    let places =
        adapter.iter().fold(places, |places, folder| places.reads(&SettingName("adapter").to_string(), folder));
    places.writes_file(&SettingName("out").to_string(), out)?.check()?;
    if out.is_file() && !replace {
        let problem = format!("exists; choose another file, or replace it with {}", SettingName("force"));
        return Err(
            FormatsError::Output { output: format!("{} {}", SettingName("out"), out.display()), problem }.into()
        );
    }
    Ok(OutputFile::open(&SettingName("out").to_string(), out)?)
}

/// The model as llama.cpp knows it.
pub(super) fn architecture(model: &Model) -> Result<GgufArchitecture, ModelError> {
    GgufArchitecture::of(&model.config).map_err(|problem| {
        let folder = model.folder.display();
        ModelError::Setting(format!(
            "{folder}: cannot be exported to GGUF: {problem}; remat merge writes a folder that transformers loads"
        ))
    })
}

/// The name that people know a folder by.
fn name_of(folder: &Path) -> String {
    let own = || folder.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    hub_name(folder).map_or_else(own, |(name, _)| name)
}

/// What every file begins with.
pub(super) fn general(architecture: &GgufArchitecture, kind: &str, name: &Path) -> Vec<(String, GgufEntry)> {
    let entry = |key: &str, entry| (format!("general.{key}"), entry);
    let resolved = name.canonicalize().unwrap_or_else(|_| name.to_path_buf());
    vec![
        entry("architecture", GgufEntry::Text(architecture.name().to_string())),
        entry("type", GgufEntry::Text(kind.to_string())),
        entry("name", GgufEntry::Text(name_of(&resolved))),
        entry("quantization_version", GgufEntry::U32(QUANTISATION_VERSION)),
    ]
}

/// Takes the next bytes of a tensor.
pub(super) type Sink<'a> = dyn FnMut(&[u8]) -> Result<(), FormatsError> + 'a;

/// Writes a file whose tensors `source` hands over; returns its size.
pub(super) fn write(
    file: &GgufFile,
    out: OutputFile,
    source: &mut dyn FnMut(usize, &mut Sink<'_>) -> Result<(), FormatsError>,
) -> Result<u64, ModelError> {
    let path = out.path().to_path_buf();
    let bytes = file.bytes(&path)?;
    require_space(&SettingName("out").to_string(), &path, bytes)?;
    out.write_with(|target| file.write(&path, target, source))?;
    Ok(bytes)
}

/// An error within a tensor, as the container's.
pub(super) fn as_formats(folder: &Path) -> impl Fn(ModelError) -> FormatsError {
    let folder = folder.to_path_buf();
    move |error| match error {
        ModelError::Formats(error) => error,
        other => FormatsError::Malformed { path: folder.clone(), problem: other.to_string() },
    }
}
