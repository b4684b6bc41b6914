//! What is said when the driver compiles kernels for a card, and where it keeps them.
//!
//! The driver has a cache of its own, keyed by the PTX, the card's architecture and the driver; it is used, and there is no second one
//! beside it. It is documented with CUDA's environment variables: CUDA_CACHE_DISABLE, CUDA_CACHE_PATH, CUDA_CACHE_MAXSIZE.

/// Compiled kernels take some MiB for each architecture; a cache that holds less than this may drop them.
const LEAST_BYTES: u64 = 64 << 20;

/// The sentence, by what the environment says of the cache.
pub fn compiling(card: &str, variable: impl Fn(&str) -> Option<String>) -> String {
    let begun = format!("compiling kernels for {card}");
    if variable("CUDA_CACHE_DISABLE").is_some_and(|value| value.trim() == "1") {
        return format!("{begun}, as at every start: CUDA_CACHE_DISABLE=1 keeps the driver from keeping them");
    }
    let folder = variable("CUDA_CACHE_PATH").filter(|path| !path.is_empty()).unwrap_or_else(|| usual(&variable));
    let most = variable("CUDA_CACHE_MAXSIZE").and_then(|bytes| bytes.trim().parse::<u64>().ok());
    match most.filter(|&bytes| bytes < LEAST_BYTES) {
        Some(bytes) => {
            let least = LEAST_BYTES >> 20;
            format!("{begun}; CUDA_CACHE_MAXSIZE={bytes} may be too little to keep them: give {least} MiB or more")
        }
        None => format!("{begun}, once: the driver keeps them in {folder}"),
    }
}

/// Where the driver's cache is if nothing else is said.
fn usual(variable: &impl Fn(&str) -> Option<String>) -> String {
    let (base, rest) = match cfg!(windows) {
        true => ("APPDATA", "\\NVIDIA\\ComputeCache"),
        false => ("HOME", "/.nv/ComputeCache"),
    };
    format!("{}{rest}", variable(base).unwrap_or_else(|| format!("${base}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_where_kernels_are_kept_or_why_not() {
        let said = |variables: &[(&str, &str)]| {
            let find =
                |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_string());
            compiling("L4", find)
        };
        let at_home = said(&[("HOME", "/home/a"), ("APPDATA", "/home/a")]);
        assert!(at_home.contains("compiling kernels for L4, once") && at_home.contains("/home/a"), "{at_home}");
        assert!(said(&[("CUDA_CACHE_PATH", "/big/cache")]).ends_with("keeps them in /big/cache"));
        assert!(said(&[("CUDA_CACHE_DISABLE", "1")]).contains("at every start: CUDA_CACHE_DISABLE=1"));
        assert!(said(&[("CUDA_CACHE_DISABLE", "0")]).contains("once"));
        assert!(said(&[("CUDA_CACHE_MAXSIZE", "1000000")]).contains("64 MiB or more"));
        assert!(said(&[("CUDA_CACHE_MAXSIZE", "1073741824")]).contains("once"));
    }
}
