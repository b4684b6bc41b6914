//! Files of settings: what is taken is written so that it is read again as the same.

use crate::fixtures;
use remat_train::TrainConfig;

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let written = TrainConfig::default().to_toml().into_bytes();
    let given: &[&str] = &[
        "model = \"m\"\ndata = [\"rows.jsonl:0.5\"]\nmethod = \"qlora\"\nrank = 8\nalpha = 16.0\nsteps = 10\nlr = 1e-4\n",
        "checkpointing = \"budget:2MiB\"\nmemory = \"6GiB\"\nprecision = \"f32\"\nschedule = \"cosine\"\nwarmup = 0.1\nclip = 1.0\n",
        "targets = \"q_proj,v_proj\"\ntrain-on = \"assistant\"\npacking = true\nbad-rows = \"drop:0.1\"\nseed = 7\n",
    ];
    let mut seeds: Vec<Vec<u8>> = given.iter().map(|text| text.as_bytes().to_vec()).collect();
    seeds.push(written);
    seeds
}

pub(crate) fn examine(input: &[u8]) {
    let folder = fixtures::folder(&[("config.toml", input)]);
    let path = folder.path().join("config.toml");
    let config = match TrainConfig::from_file(&path) {
        Ok(config) => config,
        Err(error) => return crate::refusal::refused(&error),
    };
    let text = config.to_toml();
    std::fs::write(&path, &text).expect("written");
    let again = TrainConfig::from_file(&path).unwrap_or_else(|error| panic!("{error}, of {text}"));
    assert_eq!(again.to_toml(), text);
}
