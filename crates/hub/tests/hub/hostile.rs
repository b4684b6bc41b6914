//! Servers and repositories that lie: what is written is bounded, in its place, and never passed off as whole.

use crate::server::{Answer, Request, Server, hub, listed, listing, model, quiet};
use remat_hub::{HubError, Wanted};
use std::fs;
use std::path::Path;

const CONFIG: &[u8] = b"{}";
const WEIGHTS: &[u8] = &[7; 5000];

fn serving(large: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Server {
    Server::start(move |request, _| match request.path.as_str() {
        path if path.starts_with("/api/") => {
            listing(&[listed("config.json", CONFIG, false), listed("model.safetensors", WEIGHTS, true)])
        }
        path if path.ends_with("config.json") => Answer::file(CONFIG, request),
        _ => large(request),
    })
}

/// What comes of asking this server, and what is left in the cache: names of blobs and their bytes together.
fn ask(server: &Server) -> (HubError, Vec<String>, u64) {
    let home = tempfile::tempdir().expect("a folder");
    let error = hub(server, home.path(), &[]).model(&model(), Wanted::Weights, &mut quiet).expect_err("a lie");
    let repository = home.path().join("hub/models--org--name");
    assert!(!repository.join("refs/main").exists(), "nothing leads to what is not whole");
    let blobs: Vec<_> = fs::read_dir(repository.join("blobs")).into_iter().flatten().flatten().collect();
    let bytes = blobs.iter().filter_map(|entry| entry.metadata().ok()).map(|found| found.len()).sum();
    (error, blobs.iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect(), bytes)
}

#[test]
fn other_bytes_than_the_hash_says_are_thrown_away() {
    let (error, blobs, _) = ask(&serving(|_| Answer::ok(vec![8; WEIGHTS.len()])));
    assert!(matches!(error, HubError::Damaged { .. }) && !error.is_input(), "{error}");
    assert!(error.to_string().contains("model.safetensors is not what the Hub says"), "{error}");
    assert_eq!(blobs.len(), 1, "only config.json: {blobs:?}");
}

#[test]
fn endless_and_overlong_files_end_at_their_size() {
    let (error, blobs, bytes) = ask(&serving(|_| Answer { endless: true, ..Answer::ok(vec![7; 1 << 16]) }));
    assert!(matches!(error, HubError::Hostile { .. }), "{error}");
    assert!(error.to_string().contains("more comes than the 5000 bytes"), "{error}");
    assert!(bytes <= (CONFIG.len() + WEIGHTS.len()) as u64, "{blobs:?}: {bytes}");
    let (error, ..) = ask(&serving(|_| Answer::ok(vec![7; WEIGHTS.len() + 1])));
    assert!(error.to_string().contains("more comes"), "{error}");
}

#[test]
fn parts_that_were_not_asked_for_are_refused() {
    let lying = |range: &'static str| {
        serving(move |request| match request.range {
            None => Answer { cut: Some(1000), ..Answer::ok(WEIGHTS) },
            Some(_) => {
                Answer { headers: vec![("Content-Range", range.to_string())], status: 206, ..Answer::ok(WEIGHTS) }
            }
        })
    };
    for range in ["bytes 0-4999/5000", "bytes 1000-4999/99999999999999", "lines 1-2/3", ""] {
        let (error, ..) = ask(&lying(range));
        assert!(matches!(error, HubError::Hostile { .. }), "{range}: {error}");
    }
}

#[test]
fn names_that_escape_fetch_nothing() {
    let names = ["../../../evil", "/evil", "a/../../evil"];
    for name in names {
        let server = Server::start(move |request, _| match request.path.as_str() {
            path if path.starts_with("/api/") => {
                listing(&[listed("config.json", CONFIG, false), listed(name, b"x", false)])
            }
            _ => Answer::ok(CONFIG),
        });
        let (error, blobs, _) = ask(&server);
        assert!(error.to_string().contains("no path inside of it"), "{error}");
        assert!(blobs.is_empty() && server.requests().len() == 1);
    }
    // An index that names a file outside.
    let index: &[u8] = br#"{"weight_map": {"a": "../../../../evil.safetensors"}}"#;
    let server = Server::start(move |request, _| match request.path.as_str() {
        path if path.starts_with("/api/") => {
            listing(&[listed("config.json", CONFIG, false), listed("model.safetensors.index.json", index, false)])
        }
        path if path.ends_with("index.json") => Answer::ok(index),
        _ => Answer::ok(CONFIG),
    });
    let (error, ..) = ask(&server);
    assert!(error.to_string().contains("no file beside it"), "{error}");
}

#[test]
fn answers_that_lead_nowhere_end() {
    let round = serving(|request| Answer::redirect(request.path.clone()));
    assert!(ask(&round).0.to_string().contains("more than 8 redirects"));
    assert!(round.requests().len() < 20);
    let nowhere = serving(|_| Answer::redirect("file:///etc/passwd".to_string()));
    assert!(ask(&nowhere).0.to_string().contains("it redirects to \"file:///etc/passwd\""));
    for (status, part) in [(404, "no such repository"), (401, "HF_TOKEN"), (403, "gated")] {
        let (error, ..) = ask(&Server::start(move |_, _| Answer::status(status)));
        assert!(error.is_input() && error.to_string().contains(part), "{error}");
    }
    let (error, ..) = ask(&Server::start(|_, _| Answer { endless: true, ..Answer::ok(vec![b' '; 1 << 20]) }));
    assert!(error.to_string().contains("the list of its files has over"), "{error}");
}

/// A port that nobody listens on.
#[test]
fn nobody_there_is_said() {
    let url = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        format!("http://{}", listener.local_addr().expect("an address"))
    };
    let home = tempfile::tempdir().expect("a folder");
    let variable = |key: &str| match key {
        "HF_ENDPOINT" => Some(url.clone()),
        "HF_HOME" => Some(home.path().display().to_string()),
        _ => None,
    };
    let hub = remat_hub::Hub::from_variables(&variable).expect("sense");
    let error = hub.model(&model(), Wanted::Shape, &mut quiet).expect_err("nobody").to_string();
    assert!(error.contains("the list of its files could not be fetched"), "{error}");
    assert!(!Path::new(home.path()).join("hub/models--org--name/refs").exists());
}
