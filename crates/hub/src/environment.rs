//! Where the cache lies and what is asked, by the environment variables of `huggingface_hub`.
//!
//! | variable | says |
//! |---|---|
//! | `HF_HUB_CACHE`, `HUGGINGFACE_HUB_CACHE` | the cache; else `hub` in `HF_HOME`, else in `huggingface` in `XDG_CACHE_HOME` or `~/.cache` |
//! | `HF_ENDPOINT` | who is asked in place of <https://huggingface.co> |
//! | `HF_TOKEN`, `HUGGING_FACE_HUB_TOKEN` | the token; else the file `HF_TOKEN_PATH`, else `token` in `HF_HOME` |
//! | `HF_HUB_OFFLINE`, `TRANSFORMERS_OFFLINE` | that nobody is asked |
//!
//! Invariant: an empty variable is as one that is not set.

use crate::HubError;
use std::fmt;
use std::path::{Path, PathBuf};

const ENDPOINT: &str = "https://huggingface.co";

/// The Hub as the environment has it.
#[derive(Clone)]
pub struct Hub {
    pub(crate) endpoint: String,
    pub(crate) cache: PathBuf,
    pub(crate) token: Option<String>,
    pub(crate) offline: bool,
}

impl fmt::Debug for Hub {
    /// Without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Hub { endpoint, cache, token, offline } = self;
        let token = token.is_some();
        f.debug_struct("Hub")
            .field("endpoint", endpoint)
            .field("cache", cache)
            .field("has_token", &token)
            .field("offline", offline)
            .finish()
    }
}

impl Hub {
    /// As the environment has it.
    ///
    /// # Errors
    /// A variable that makes no sense.
    pub fn from_env() -> Result<Self, HubError> {
        Hub::from_variables(&|key| std::env::var(key).ok().filter(|value| !value.is_empty()))
    }

    /// As these variables say.
    ///
    /// # Errors
    /// A variable that makes no sense.
    pub fn from_variables(variable: &dyn Fn(&str) -> Option<String>) -> Result<Self, HubError> {
        let path = |key: &str| variable(key).map(|value| in_home(&value, variable));
        let user_cache = || path("XDG_CACHE_HOME").unwrap_or_else(|| in_home("~/.cache", variable));
        let home = path("HF_HOME").unwrap_or_else(|| user_cache().join("huggingface"));
        let cache = path("HF_HUB_CACHE").or_else(|| path("HUGGINGFACE_HUB_CACHE"));
        let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_string());
        let is_url = endpoint.starts_with("https://") || endpoint.starts_with("http://");
        if !is_url || endpoint.chars().any(|c| c.is_whitespace() || c.is_control() || c == '@') {
            let problem = "must be a URL such as https://huggingface.co, without a name and password in it";
            return Err(HubError::Environment { key: "HF_ENDPOINT", value: endpoint, problem });
        }
        let token_file = path("HF_TOKEN_PATH").unwrap_or_else(|| home.join("token"));
        let token = variable("HF_TOKEN").or_else(|| variable("HUGGING_FACE_HUB_TOKEN"));
        let token = token.or_else(|| std::fs::read_to_string(token_file).ok());
        let token = token.map(|token| token.trim().to_string()).filter(|token| !token.is_empty());
        if token.as_ref().is_some_and(|token| !token.chars().all(|c| c.is_ascii_graphic())) {
            let problem = "holds characters that no token has";
            return Err(HubError::Environment { key: "HF_TOKEN", value: "…".to_string(), problem });
        }
        let is_set = |key| variable(key).is_some_and(|value| is_true(&value));
        Ok(Hub {
            endpoint: endpoint.trim_end_matches('/').to_string(),
            cache: cache.unwrap_or_else(|| home.join("hub")),
            token,
            offline: is_set("HF_HUB_OFFLINE") || is_set("TRANSFORMERS_OFFLINE"),
        })
    }

    /// Where the cache lies.
    pub fn cache(&self) -> &Path {
        &self.cache
    }
}

/// A path whose `~/` is the home folder.
fn in_home(path: &str, variable: &dyn Fn(&str) -> Option<String>) -> PathBuf {
    match (path.strip_prefix("~/"), variable("HOME")) {
        (Some(rest), Some(home)) => Path::new(&home).join(rest),
        _ => PathBuf::from(path),
    }
}

fn is_true(value: &str) -> bool {
    ["1", "ON", "YES", "TRUE"].contains(&value.to_ascii_uppercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub(variables: &[(&str, &str)]) -> Result<Hub, HubError> {
        let of = |key: &str| variables.iter().find(|(known, _)| *known == key).map(|(_, value)| value.to_string());
        Hub::from_variables(&of)
    }

    #[test]
    fn the_cache_is_where_huggingface_hub_has_it() {
        let at = |variables: &[(&str, &str)]| hub(variables).expect("sense").cache.display().to_string();
        assert_eq!(at(&[("HOME", "/h")]), "/h/.cache/huggingface/hub");
        assert_eq!(at(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]), "/x/huggingface/hub");
        assert_eq!(at(&[("XDG_CACHE_HOME", "/x"), ("HF_HOME", "/hf")]), "/hf/hub");
        assert_eq!(at(&[("HOME", "/h"), ("HF_HOME", "~/hf")]), "/h/hf/hub");
        assert_eq!(at(&[("HF_HOME", "/hf"), ("HUGGINGFACE_HUB_CACHE", "/old")]), "/old");
        assert_eq!(at(&[("HUGGINGFACE_HUB_CACHE", "/old"), ("HF_HUB_CACHE", "/new")]), "/new");
    }

    #[test]
    fn tokens_are_neither_shown_nor_malformed() {
        let with = |token| hub(&[("HF_HOME", "/hf"), ("HF_TOKEN", token)]);
        let hub = with("hf_secret\n").expect("trimmed");
        assert_eq!(hub.token.as_deref(), Some("hf_secret"));
        assert!(!format!("{hub:?}").contains("secret"));
        let error = with("hf_secret\r\nX-Evil: 1").expect_err("two lines").to_string();
        assert!(error.contains("HF_TOKEN") && !error.contains("secret"), "{error}");
    }

    #[test]
    fn endpoints_and_switches_are_checked() {
        for bad in ["huggingface.co", "ftp://x", "https://user:secret@x"] {
            assert!(hub(&[("HF_ENDPOINT", bad)]).is_err(), "{bad}");
        }
        assert_eq!(hub(&[("HF_ENDPOINT", "https://mirror/")]).expect("a URL").endpoint, "https://mirror");
        for (value, offline) in [("1", true), ("true", true), ("ON", true), ("0", false), ("no", false)] {
            assert_eq!(hub(&[("HF_HUB_OFFLINE", value)]).expect("sense").offline, offline, "{value}");
        }
    }
}
