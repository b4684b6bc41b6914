//! Good servers: what is fetched, where it lies, what is not asked again.

use crate::server::{Answer, COMMIT, Request, Server, hub, listed, listing, model, quiet, rows};
use remat_hub::Wanted;
use std::fs;
use std::path::Path;

const CONFIG: &[u8] = b"{\"model_type\": \"llama\"}";

fn weights() -> Vec<u8> {
    (0..300_000_u32).map(|index| (index * 7 % 251) as u8).collect()
}

/// A model of a small and a large file; the large one is answered by `large`.
fn serving(large: impl Fn(&Request, usize) -> Answer + Send + Sync + 'static) -> Server {
    Server::start(move |request, before| match request.path.as_str() {
        path if path.starts_with("/api/models/org/name/revision/") => listing(&[
            listed("config.json", CONFIG, false),
            listed("model.safetensors", &weights(), true),
            listed("pytorch_model.bin", b"pickle", true),
        ]),
        path if path == format!("/org/name/resolve/{COMMIT}/config.json") => Answer::file(CONFIG, request),
        path if path == format!("/org/name/resolve/{COMMIT}/model.safetensors") => large(request, before),
        _ => Answer::status(404),
    })
}

fn read(folder: &Path, name: &str) -> Vec<u8> {
    fs::read(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn a_model_comes_into_the_cache_once() {
    let server = serving(|request, _| Answer::file(&weights(), request));
    let home = tempfile::tempdir().expect("a folder");
    let hub = hub(&server, home.path(), &[]);
    let mut seen = Vec::new();
    let mut on_progress = |progress: remat_hub::Progress<'_>| {
        assert!(progress.done_bytes <= progress.total_bytes);
        seen.push((progress.file.to_string(), progress.done_bytes));
    };
    let folder = hub.model(&model(), Wanted::Weights, &mut on_progress).expect("fetched");
    assert_eq!(seen.last().map(|(_, bytes)| *bytes), Some((CONFIG.len() + weights().len()) as u64));
    assert!(read(&folder, "config.json") == CONFIG && read(&folder, "model.safetensors") == weights());
    assert!(!folder.join("pytorch_model.bin").exists(), "what can run code stays where it is");
    let repository = home.path().join("hub/models--org--name");
    assert_eq!(folder, repository.join("snapshots").join(COMMIT));
    assert_eq!(read(&repository, "refs/main"), COMMIT.as_bytes());
    #[cfg(unix)]
    assert!(fs::read_link(folder.join("config.json")).expect("a link").starts_with("../../blobs"));
    assert_eq!(fs::read_dir(repository.join("blobs")).expect("blobs").count(), 2);
    let asked = server.requests().len();
    assert_eq!(hub.model(&model(), Wanted::Weights, &mut quiet).expect("there"), folder);
    let by_commit = model().at(COMMIT).expect("a commit");
    assert_eq!(hub.model(&by_commit, Wanted::Weights, &mut quiet).expect("there"), folder);
    assert_eq!(server.requests().len(), asked, "what is there is not asked for");
}

#[test]
fn a_shape_is_no_weights_and_weights_come_later() {
    let server = serving(|request, _| Answer::file(&weights(), request));
    let home = tempfile::tempdir().expect("a folder");
    let hub_ = hub(&server, home.path(), &[]);
    let folder = hub_.model(&model(), Wanted::Shape, &mut quiet).expect("fetched");
    assert!(folder.join("config.json").is_file() && !folder.join("model.safetensors").exists());
    let offline = hub(&server, home.path(), &[("HF_HUB_OFFLINE", "1")]);
    let asked = server.requests().len();
    assert_eq!(offline.model(&model(), Wanted::Shape, &mut quiet).expect("there"), folder);
    let error = offline.model(&model(), Wanted::Weights, &mut quiet).expect_err("not there").to_string();
    assert!(error.contains("not whole") && error.contains("HF_HUB_OFFLINE"), "{error}");
    let other = remat_hub::Repository::named(remat_hub::Kind::Model, "org/other").expect("a name");
    let error = offline.model(&other, Wanted::Shape, &mut quiet).expect_err("not there").to_string();
    assert!(error.contains("org/other: no such folder") && error.contains("HF_HUB_OFFLINE"), "{error}");
    assert_eq!(server.requests().len(), asked, "offline is offline");
    assert_eq!(hub_.model(&model(), Wanted::Weights, &mut quiet).expect("fetched"), folder);
    assert!(read(&folder, "model.safetensors") == weights());
}

#[test]
fn a_token_goes_to_the_endpoint_and_no_further() {
    let elsewhere = Server::start(|request, _| Answer::file(&weights(), request));
    let target = format!("{}/cdn/object", elsewhere.url);
    let server = serving(move |_, _| Answer::redirect(target.clone()));
    let home = tempfile::tempdir().expect("a folder");
    let hub = hub(&server, home.path(), &[("HF_TOKEN", "hf_secret")]);
    hub.model(&model(), Wanted::Weights, &mut quiet).expect("fetched");
    assert!(server.requests().iter().all(|request| request.authorization.as_deref() == Some("Bearer hf_secret")));
    let there = elsewhere.requests();
    assert!(!there.is_empty() && there.iter().all(|request| request.authorization.is_none()), "{there:?}");
}

#[test]
fn a_break_is_gone_on_from_in_one_process_and_in_the_next() {
    // Each answer ends a hundred thousand bytes further on; nothing is sent twice.
    let server = serving(|request, _| Answer { cut: Some(100_000), ..Answer::file(&weights(), request) });
    let home = tempfile::tempdir().expect("a folder");
    let folder = hub(&server, home.path(), &[]).model(&model(), Wanted::Weights, &mut quiet).expect("fetched");
    assert!(read(&folder, "model.safetensors") == weights());
    let ranges: Vec<_> = server.requests().into_iter().filter(|r| r.path.ends_with("model.safetensors")).collect();
    let ranges: Vec<_> = ranges.iter().map(|request| request.range.as_deref()).collect();
    assert_eq!(ranges, [None, Some("bytes=100000-"), Some("bytes=200000-")]);

    let dying = serving(|request, _| match request.range {
        None => Answer { cut: Some(120_000), ..Answer::file(&weights(), request) },
        Some(_) => Answer::status(503),
    });
    let home = tempfile::tempdir().expect("a folder");
    let error =
        hub(&dying, home.path(), &[]).model(&model(), Wanted::Weights, &mut quiet).expect_err("dies").to_string();
    assert!(error.contains("status 503") && error.contains("give the command again"), "{error}");
    assert!(!home.path().join("hub/models--org--name/refs/main").exists());
    let well = serving(|request, _| Answer::file(&weights(), request));
    let folder = hub(&well, home.path(), &[]).model(&model(), Wanted::Weights, &mut quiet).expect("fetched");
    assert!(read(&folder, "model.safetensors") == weights());
    assert!(well.requests().iter().any(|request| request.range.as_deref() == Some("bytes=120000-")));
}

#[test]
fn a_server_that_knows_no_parts_sends_the_whole_again() {
    let server = serving(|request, _| match request.range {
        None => Answer { cut: Some(50_000), ..Answer::ok(weights()) },
        Some(_) => Answer::ok(weights()),
    });
    let home = tempfile::tempdir().expect("a folder");
    let folder = hub(&server, home.path(), &[]).model(&model(), Wanted::Weights, &mut quiet).expect("fetched");
    assert!(read(&folder, "model.safetensors") == weights());
}

#[test]
fn shards_are_those_of_the_index_and_rows_those_of_the_split() {
    let index = br#"{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}"#;
    let shard = |name: &str| format!("shard {name}").into_bytes();
    let server = Server::start(move |request, _| {
        let files = ["model-1.safetensors", "model-2.safetensors", "consolidated.safetensors"];
        let parts = ["data/train-0-of-2.jsonl", "data/train-1-of-2.jsonl", "data/test-0-of-1.jsonl"];
        match request.path.as_str() {
            "/api/models/org/name/revision/main?blobs=true" => listing(&Vec::from_iter(
                [listed("config.json", CONFIG, false), listed("model.safetensors.index.json", index, false)]
                    .into_iter()
                    .chain(files.map(|name| listed(name, &shard(name), true))),
            )),
            "/api/datasets/org/rows/revision/main?blobs=true" => {
                listing(&parts.map(|name| listed(name, &shard(name), true)))
            }
            path if path.ends_with("index.json") => Answer::file(index, request),
            path if path.ends_with("config.json") => Answer::file(CONFIG, request),
            path => {
                let at = path.find(COMMIT).expect("a file") + COMMIT.len() + 1;
                assert!(path.starts_with("/org/name/resolve/") || path.starts_with("/datasets/org/rows/resolve/"));
                Answer::file(&shard(&path[at..]), request)
            }
        }
    });
    let home = tempfile::tempdir().expect("a folder");
    let online = hub(&server, home.path(), &[]);
    let folder = online.model(&model(), Wanted::Weights, &mut quiet).expect("fetched");
    assert_eq!(read(&folder, "model-2.safetensors"), b"shard model-2.safetensors");
    assert!(!folder.join("consolidated.safetensors").exists());
    fs::remove_file(folder.join("model-1.safetensors")).expect("removed");
    online.model(&model(), Wanted::Weights, &mut quiet).expect("what is missing comes again");
    assert!(folder.join("model-1.safetensors").is_file());

    let names = |files: Vec<std::path::PathBuf>| {
        files.iter().map(|file| file.file_name().expect("a name").to_string_lossy().into_owned()).collect::<Vec<_>>()
    };
    let train = online.rows(&rows(), "", &mut quiet).expect("fetched");
    assert!(train.iter().all(|file| file.is_file()));
    assert_eq!(names(train), ["train-0-of-2.jsonl", "train-1-of-2.jsonl"]);
    let asked = server.requests().len();
    let offline = hub(&server, home.path(), &[("HF_HUB_OFFLINE", "1")]);
    assert_eq!(offline.rows(&rows(), "train", &mut quiet).expect("there").len(), 2);
    assert!(offline.rows(&rows(), "test", &mut quiet).is_err());
    assert_eq!(names(offline.rows(&rows(), "data/train-1-of-2.jsonl", &mut quiet).expect("one file")).len(), 1);
    assert_eq!(server.requests().len(), asked);
    assert_eq!(names(online.rows(&rows(), "test", &mut quiet).expect("fetched")), ["test-0-of-1.jsonl"]);
}

/// As `huggingface_hub` leaves it, its own files among them.
#[test]
fn a_cache_that_others_filled_is_used_as_it_is() {
    let server = Server::start(|_, _| Answer::status(500));
    let home = tempfile::tempdir().expect("a folder");
    let folder = home.path().join("elsewhere/models--org--name").join("snapshots").join(COMMIT);
    for (path, text) in [("config.json", "{}"), ("model.safetensors", "w"), ("tokenizer.json", "{}")] {
        fs::create_dir_all(&folder).expect("made");
        fs::write(folder.join(path), text).expect("written");
    }
    let refs = home.path().join("elsewhere/models--org--name/refs/refs/pr");
    fs::create_dir_all(&refs).expect("made");
    fs::write(refs.join("7"), COMMIT).expect("written");
    let cache = home.path().join("elsewhere").display().to_string();
    let hub = hub(&server, home.path(), &[("HF_HUB_CACHE", &cache)]);
    let at = model().at("refs/pr/7").expect("a revision");
    assert_eq!(hub.model(&at, Wanted::Weights, &mut quiet).expect("there"), folder);
    assert!(server.requests().is_empty());
}
