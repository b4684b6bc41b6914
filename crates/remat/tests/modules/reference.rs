//! Tensors of a fixture, and how near to them is near enough.

use remat::Step;
use remat_formats::SafetensorsFile;
use std::collections::BTreeSet;
use std::path::Path;

/// A file of `fixtures/modules`, or the part of it that begins with a prefix.
pub struct Reference {
    file: SafetensorsFile,
    prefix: String,
}

impl Reference {
    pub fn open(name: &str) -> Reference {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/modules");
        let file = SafetensorsFile::open(&folder.join(format!("{name}.safetensors"))).expect("the fixture");
        Reference { file, prefix: String::new() }
    }

    pub fn case(file: &str, case: &str) -> Reference {
        Reference { prefix: format!("{case}/"), ..Reference::open(file) }
    }

    /// What stands before the slash of names.
    pub fn cases(&self) -> BTreeSet<String> {
        self.file.names().filter_map(|name| Some(name.split_once('/')?.0.to_string())).collect()
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.file.names().filter_map(|name| name.strip_prefix(&self.prefix))
    }

    pub fn has(&self, name: &str) -> bool {
        self.names().any(|other| other == name)
    }

    pub fn shape(&self, name: &str) -> Vec<usize> {
        self.file.tensor_info(&format!("{}{name}", self.prefix)).expect("a tensor").shape.to_vec()
    }

    pub fn is_i32(&self, name: &str) -> bool {
        self.file.tensor_info(&format!("{}{name}", self.prefix)).expect("a tensor").dtype == Some(remat::DType::I32)
    }

    pub fn read(&self, name: &str) -> Vec<f32> {
        let name = format!("{}{name}", self.prefix);
        let tensor = self.file.read(&name).expect("a tensor");
        tensor.to_f64().into_iter().map(|x| x as f32).collect()
    }

    pub fn read_i32(&self, name: &str) -> Vec<i32> {
        self.read(name).into_iter().map(|x| x as i32).collect()
    }

    /// Holds the step's parameters and buffers to those of the file, which has them under the same names, and writes them.
    pub fn load_into(&self, step: &mut Step) {
        let parameters: Vec<String> = step.parameter_names().into_iter().map(str::to_string).collect();
        let buffers: Vec<String> = step.buffer_names().map(str::to_string).collect();
        let ours: BTreeSet<&str> = parameters.iter().chain(&buffers).map(String::as_str).collect();
        assert!(buffers.iter().chain(&parameters).all(|name| self.has(name)), "not all of {ours:?} are PyTorch's");
        let trained: BTreeSet<&str> = self
            .names()
            .filter_map(|name| name.strip_prefix("grad."))
            .filter(|name| !["query", "key", "value"].contains(name))
            .collect();
        assert_eq!(parameters.iter().map(String::as_str).collect::<BTreeSet<&str>>(), trained);
        for name in &parameters {
            step.set_parameter(name, &self.read(name)).expect("fits");
        }
        for name in &buffers {
            step.set_buffer(name, &self.read(name)).expect("fits");
        }
    }

    /// Within 1e-5 of the largest element, or of 1.
    pub fn assert_near(&self, found: &[f32], name: &str) {
        let expected = self.read(name);
        assert_eq!(found.len(), expected.len(), "{}{name}", self.prefix);
        let scale = expected.iter().fold(1.0_f32, |most, x| most.max(x.abs()));
        for (found, expected) in found.iter().zip(&expected) {
            let off = (found - expected).abs();
            assert!(off <= 1e-5 * scale, "{}{name}: {found} instead of {expected}", self.prefix);
        }
    }

    pub fn assert_gradients_near(&self, step: &Step) {
        let wanted: Vec<&str> = self.names().filter_map(|name| name.strip_prefix("grad.")).collect();
        assert!(!wanted.is_empty(), "{} has no gradients", self.prefix);
        for name in wanted {
            self.assert_near(&step.gradient(name).expect("a gradient"), &format!("grad.{name}"));
        }
    }
}
