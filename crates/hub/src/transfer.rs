//! What is sent and received: listings and files, over HTTP, with redirects followed by hand.
//!
//! A file comes into `HASH.incomplete` and goes on where that ends, after a break as in a later process. Invariants: the
//! token is a header of requests to the endpoint's own origin and of no other; never more bytes are written than the
//! listing says the file has; a blob gets its name after its hash was found right. A stalled connection ends after
//! [`STALL`], and is tried again as long as attempts bring bytes.

use crate::cache::{Cached, failed};
use crate::listing::{self, Entry, Hash, Listing};
use crate::repository::Repository;
use crate::{Hub, HubError};
use sha1::{Digest, Sha1};
use sha2::Sha256;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::path::Path;
use std::time::Duration;
use ureq::http::{Response, Uri};
use ureq::{Agent, Body};

/// How long nothing may come.
const STALL: Duration = Duration::from_secs(30);
/// Attempts in a row that bring nothing.
const ATTEMPTS: u32 = 4;
/// The wait after the first of these; it doubles.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const MOST_REDIRECTS: usize = 8;
const PIECE_BYTES: usize = 1 << 17;

/// Fetches from one repository.
pub(crate) struct Transfer<'a> {
    hub: &'a Hub,
    repository: &'a Repository,
    agent: Agent,
}

/// Why an attempt brought no more.
enum Failure {
    /// Another may.
    Again(String),
    /// No other will.
    Final(HubError),
}

impl From<HubError> for Failure {
    fn from(error: HubError) -> Self {
        Failure::Final(error)
    }
}

impl<'a> Transfer<'a> {
    pub(crate) fn new(hub: &'a Hub, repository: &'a Repository) -> Self {
        let config = Agent::config_builder()
            .max_redirects(0)
            .http_status_as_error(false)
            .timeout_resolve(Some(STALL))
            .timeout_connect(Some(STALL))
            .timeout_recv_response(Some(STALL))
            .timeout_per_read(Some(STALL))
            .user_agent(concat!("remat/", env!("CARGO_PKG_VERSION")))
            .build();
        Transfer { hub, repository, agent: config.into() }
    }

    /// The files of the revision.
    pub(crate) fn list(&self) -> Result<Listing, HubError> {
        let path = self.repository.listing_path();
        let text = self.attempts("the list of its files", &mut |_| {
            let body = self.get(&path, 0)?.into_body();
            let text = body.into_with_config().limit(listing::LIMIT_BYTES).read_to_vec();
            text.map_err(|error| match error {
                ureq::Error::BodyExceedsLimit(bytes) => {
                    self.hostile(format!("the list of its files has over {bytes} bytes"))
                }
                error => Failure::Again(error.to_string()),
            })
        })?;
        Listing::parse(self.repository.id(), &text)
    }

    /// Brings a file of a commit into the cache, if it is not there. `on_bytes` is told how many it has, again and again.
    pub(crate) fn blob(
        &self,
        cached: &Cached,
        commit: &str,
        entry: &Entry,
        on_bytes: &mut dyn FnMut(u64),
    ) -> Result<(), HubError> {
        let (blob, hash) = (cached.blob(entry.hash.hex()), entry.hash.hex());
        let _lock = cached.lock(hash)?;
        // Blobs have their names when they are whole. Of another length it was written by somebody else, and damaged.
        if fs::metadata(&blob).is_ok_and(|found| found.len() == entry.bytes) {
            on_bytes(entry.bytes);
            return Ok(());
        }
        let partial = cached.blob(&format!("{hash}.incomplete"));
        self.attempts(&entry.path, &mut |progress| self.go_on(commit, entry, &partial, progress, on_bytes))?;
        if let Some(found) = other_hash(&partial, entry).map_err(failed(&partial, "read"))? {
            fs::remove_file(&partial).map_err(failed(&partial, "remove"))?;
            let problem = format!("its hash is {found}, not {hash}");
            return Err(HubError::Damaged { name: self.name(), file: entry.path.clone(), problem });
        }
        fs::rename(&partial, &blob).map_err(failed(&blob, "write"))
    }

    fn name(&self) -> String {
        self.repository.id().to_string()
    }

    /// Makes attempts until one is good or several in a row set no progress.
    fn attempts<T>(&self, what: &str, attempt: &mut dyn FnMut(&mut bool) -> Result<T, Failure>) -> Result<T, HubError> {
        let (mut idle, mut wait) = (0, FIRST_WAIT);
        loop {
            let mut progress = false;
            match attempt(&mut progress) {
                Ok(done) => return Ok(done),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Again(_)) if progress => (idle, wait) = (0, FIRST_WAIT),
                Err(Failure::Again(problem)) => {
                    idle += 1;
                    if idle == ATTEMPTS {
                        return Err(HubError::Network { name: self.name(), what: what.to_string(), problem });
                    }
                    std::thread::sleep(wait);
                    wait *= 2;
                }
            }
        }
    }

    /// One request for what a file lacks.
    fn go_on(
        &self,
        commit: &str,
        entry: &Entry,
        partial: &Path,
        progress: &mut bool,
        on_bytes: &mut dyn FnMut(u64),
    ) -> Result<(), Failure> {
        let mut file = File::options().append(true).create(true).open(partial).map_err(failed(partial, "open"))?;
        let mut have = file.metadata().map_err(failed(partial, "read"))?.len();
        if have > entry.bytes {
            file.set_len(0).map_err(failed(partial, "cut"))?;
            have = 0;
        }
        on_bytes(have);
        if have < entry.bytes {
            let response = self.get(&self.repository.file_path(commit, &entry.path), have)?;
            if response.status() == 206 {
                self.check_range(&response, have, entry)?;
            } else if have > 0 {
                // The whole of it is coming.
                file.set_len(0).map_err(failed(partial, "cut"))?;
                have = 0;
            }
            self.receive(response.into_body(), entry, &mut file, have, progress, on_bytes).inspect_err(|failure| {
                if matches!(failure, Failure::Final(HubError::Hostile { .. })) {
                    // Nothing that came from there is of use.
                    drop(fs::remove_file(partial));
                }
            })?;
        }
        file.sync_all().map_err(failed(partial, "write"))?;
        Ok(())
    }

    fn hostile(&self, problem: String) -> Failure {
        Failure::Final(HubError::Hostile { name: self.name(), problem })
    }

    /// Holds a part to what was asked for.
    fn check_range(&self, response: &Response<Body>, have: u64, entry: &Entry) -> Result<(), Failure> {
        let range = header(response, "content-range").unwrap_or_default();
        let parts = range.strip_prefix("bytes ").and_then(|range| range.split_once('/'));
        let start = parts.and_then(|(range, _)| range.split_once('-')?.0.trim().parse::<u64>().ok());
        if start != Some(have) {
            return Err(
                self.hostile(format!("{}: bytes from {have} on were asked for, and {range:?} came", entry.path))
            );
        }
        match parts.and_then(|(_, total)| total.trim().parse::<u64>().ok()) {
            Some(total) if total != entry.bytes => Err(self
                .hostile(format!("{}: the listing says {} bytes, and who sends it {total}", entry.path, entry.bytes))),
            _ => Ok(()),
        }
    }

    /// Writes what comes behind the `have` bytes there are, up to the size of the file.
    fn receive(
        &self,
        body: Body,
        entry: &Entry,
        file: &mut File,
        mut have: u64,
        progress: &mut bool,
        on_bytes: &mut dyn FnMut(u64),
    ) -> Result<(), Failure> {
        let mut body = body.into_with_config().limit(u64::MAX).reader();
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let read = match body.read(&mut piece) {
                Ok(0) if have == entry.bytes => return Ok(()),
                Ok(0) => return Err(Failure::Again(format!("it ended after {have} of {} bytes", entry.bytes))),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(Failure::Again(error.to_string())),
            };
            if have + read as u64 > entry.bytes {
                let problem =
                    format!("{}: more comes than the {} bytes that the listing says", entry.path, entry.bytes);
                return Err(self.hostile(problem));
            }
            let failed = |source| HubError::Io { path: entry.path.clone().into(), what: "write", source };
            file.write_all(&piece[..read]).map_err(failed)?;
            have += read as u64;
            *progress = true;
            on_bytes(have);
        }
    }

    /// The answer to a request, behind redirects; of success, in part if `from` is above 0.
    fn get(&self, path: &str, from: u64) -> Result<Response<Body>, Failure> {
        let mut url = format!("{}{path}", self.hub.endpoint);
        for _ in 0..=MOST_REDIRECTS {
            let mut request = self.agent.get(&url).header("Accept-Encoding", "identity");
            if from > 0 {
                request = request.header("Range", format!("bytes={from}-"));
            }
            if let Some(token) = self.hub.token.as_ref().filter(|_| is_of(&url, &self.hub.endpoint)) {
                request = request.header("Authorization", format!("Bearer {token}"));
            }
            let response = request.call().map_err(|error| Failure::Again(error.to_string()))?;
            let endpoint = || self.hub.endpoint.clone();
            match response.status().as_u16() {
                200 => return Ok(response),
                206 if from > 0 => return Ok(response),
                301 | 302 | 303 | 307 | 308 => {
                    let location = header(&response, "location").unwrap_or_default();
                    url =
                        joined(&url, location).ok_or_else(|| self.hostile(format!("it redirects to {location:?}")))?;
                }
                status @ (401 | 403 | 404 | 410 | 451) => {
                    return Err(HubError::NotFound { name: self.name(), endpoint: endpoint(), status }.into());
                }
                status => return Err(Failure::Again(format!("{} answers with status {status}", endpoint()))),
            }
        }
        Err(self.hostile(format!("more than {MOST_REDIRECTS} redirects")))
    }
}

fn header<'a>(response: &'a Response<Body>, name: &str) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}

/// Whether a URL has the scheme, host and port of another.
fn is_of(url: &str, endpoint: &str) -> bool {
    let origin = |url: &str| {
        let url: Uri = url.parse().ok()?;
        let scheme = url.scheme_str()?.to_string();
        let default = if scheme == "https" { 443 } else { 80 };
        Some((scheme, url.host()?.to_ascii_lowercase(), url.port_u16().unwrap_or(default)))
    };
    origin(url).is_some_and(|found| Some(found) == origin(endpoint))
}

/// Where a redirect from a URL leads: to a URL, or a path on the same host. Never from https to http.
fn joined(url: &str, location: &str) -> Option<String> {
    let target = match location.strip_prefix("//") {
        Some(rest) => format!("{}://{rest}", url.split_once("://")?.0),
        None if location.starts_with('/') => {
            let (scheme, rest) = url.split_once("://")?;
            format!("{scheme}://{}{location}", rest.split('/').next()?)
        }
        None => location.to_string(),
    };
    let parsed: Uri = target.parse().ok()?;
    let scheme = parsed.scheme_str()?;
    let keeps = scheme == "https" || (scheme == "http" && !url.starts_with("https://"));
    (keeps && parsed.host().is_some() && !parsed.authority()?.as_str().contains('@')).then_some(target)
}

/// What a file's bytes come to, if that is not what they have to.
fn other_hash(path: &Path, entry: &Entry) -> std::io::Result<Option<String>> {
    let found = match &entry.hash {
        Hash::Sha256(_) => digest(path, Sha256::new())?,
        Hash::GitBlob(_) => digest(path, Sha1::new_with_prefix(format!("blob {}\0", entry.bytes)))?,
    };
    Ok(Some(found).filter(|found| found != entry.hash.hex()))
}

fn digest(path: &Path, mut digest: impl Digest) -> std::io::Result<String> {
    let (mut file, mut piece) = (File::open(path)?, vec![0; PIECE_BYTES]);
    loop {
        match file.read(&mut piece)? {
            0 => break,
            read => digest.update(&piece[..read]),
        }
    }
    Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_belongs_to_one_origin() {
        for (url, of) in [
            ("https://hub.example/x", true),
            ("https://HUB.example:443/y", true),
            ("http://hub.example/x", false),
            ("https://hub.example:8443/x", false),
            ("https://hub.example.evil.example/x", false),
            ("https://evil.example/hub.example", false),
        ] {
            assert_eq!(is_of(url, "https://hub.example"), of, "{url}");
        }
    }

    #[test]
    fn redirects_lead_to_urls() {
        let from = "https://hub.example/a/b";
        assert_eq!(joined(from, "/c?d").as_deref(), Some("https://hub.example/c?d"));
        assert_eq!(joined(from, "//cdn.example/c").as_deref(), Some("https://cdn.example/c"));
        assert_eq!(joined(from, "https://cdn.example/c").as_deref(), Some("https://cdn.example/c"));
        for bad in ["http://cdn.example/c", "file:///etc/passwd", "", "c", "https://u:p@cdn.example/", "https://"] {
            assert_eq!(joined(from, bad), None, "{bad}");
        }
        assert_eq!(joined("http://127.0.0.1:1/a", "http://127.0.0.1:2/b").as_deref(), Some("http://127.0.0.1:2/b"));
    }
}
