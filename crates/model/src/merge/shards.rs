//! Which tensors go into which file, as huggingface_hub splits them: in order, a new file where the next one would not fit.
//!
//! Invariant: only a tensor that is larger than the limit by itself makes a file larger than it. The limit is of the tensors'
//! bytes; a file's header comes on top.

use crate::ModelError;
use crate::companions::{INDEX, shard_name};
use remat_formats::write_atomic;
use serde_json::{Map, Value, json};
use std::ops::Range;
use std::path::Path;

/// The tensors of each file, by their numbers.
pub(super) fn split(sizes: &[u64], limit_bytes: u64) -> Vec<Range<usize>> {
    let (mut shards, mut first, mut held) = (Vec::new(), 0, 0_u64);
    for (index, &size) in sizes.iter().enumerate() {
        if index > first && held.saturating_add(size) > limit_bytes {
            shards.push(first..index);
            (first, held) = (index, 0);
        }
        held += size;
    }
    shards.push(first..sizes.len());
    shards
}

/// The name of a file among so many.
pub(super) fn name(number: usize, of: usize) -> String {
    match of {
        1 => "model.safetensors".to_string(),
        _ => shard_name(number + 1, of),
    }
}

/// Writes the index of several files.
pub(super) fn write_index(
    folder: &Path,
    names: &[&str],
    shards: &[Range<usize>],
    (parameters, bytes): (usize, u64),
) -> Result<(), ModelError> {
    let files = shards.iter().enumerate();
    let map = files.flat_map(|(number, shard)| {
        let file = name(number, shards.len());
        names[shard.clone()].iter().map(move |name| (name.to_string(), Value::from(file.clone())))
    });
    let map: Map<String, Value> = map.collect();
    let index = json!({ "metadata": { "total_parameters": parameters, "total_size": bytes }, "weight_map": map });
    Ok(write_atomic(&folder.join(INDEX), format!("{index:#}\n").as_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_closed_where_the_next_tensor_would_not_fit() {
        let ends = |sizes: &[u64]| split(sizes, 8).iter().map(|shard| shard.end).collect::<Vec<_>>();
        assert_eq!(ends(&[4, 4, 4]), [2, 3]);
        assert_eq!(ends(&[4, 4]), [2], "exactly full");
        assert_eq!(ends(&[1, 20, 1, 1]), [1, 2, 4], "one that is larger has a file of its own");
        assert_eq!(ends(&[20]), [1]);
        assert_eq!(split(&[4, 4, 4], 8)[1], 2..3);
        assert_eq!((name(0, 1), name(1, 12)), ("model.safetensors".into(), "model-00002-of-00012.safetensors".into()));
    }
}
