//! Tables by name: of a graph with a hundred thousand values, most of the time of checks would go into hashing.
//!
//! Method: eight bytes at a time are mixed in by a multiplication, as in Firefox's hash; the end is folded once more, since
//! tables look at the highest and the lowest bits. Names come from the program that builds a graph, never from strangers,
//! so that nobody can choose names which collide. Invariant: no order depends on it.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, BuildHasherDefault, Hasher};

/// A table whose keys are names.
pub type NameMap<K, V> = HashMap<K, V, BuildHasherDefault<NameHasher>>;

/// A set of names.
pub type NameSet<K> = HashSet<K, BuildHasherDefault<NameHasher>>;

/// Mixes a name into a number.
#[derive(Debug, Clone, Copy, Default)]
pub struct NameHasher(u64);

impl NameHasher {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

    fn mix(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(NameHasher::FACTOR);
    }
}

impl Hasher for NameHasher {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| self.mix(u64::from_le_bytes(*word)));
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        if !rest.is_empty() {
            self.mix(u64::from_le_bytes(last));
        }
    }

    fn write_u8(&mut self, byte: u8) {
        self.mix(u64::from(byte));
    }

    fn write_u64(&mut self, word: u64) {
        self.mix(word);
    }

    fn finish(&self) -> u64 {
        let folded = u128::from(self.0) * u128::from(NameHasher::FACTOR);
        (folded >> 64) as u64 ^ folded as u64
    }
}

/// Names that are taken, without their letters: each by its hash of 64 bits, with the highest number that was put behind it.
/// A name whose hash another has counts as taken, too: it gets a number, and is still unique.
#[derive(Debug, Clone, Default)]
pub(crate) struct TakenNames(NameMap<u64, u32>);

impl TakenNames {
    pub(crate) fn of<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> TakenNames {
        TakenNames(names.map(|name| (TakenNames::key(name), 1)).collect())
    }

    fn key(name: &str) -> u64 {
        BuildHasherDefault::<NameHasher>::default().hash_one(name)
    }

    /// Takes a name, whether it is taken or not.
    pub(crate) fn take(&mut self, name: &str) {
        self.0.insert(TakenNames::key(name), 1);
    }

    /// Takes a name, or where it is taken the first of `name#2`, `name#3` and so on that is not.
    pub(crate) fn unique(&mut self, name: &str) -> String {
        let key = TakenNames::key(name);
        let Some(&count) = self.0.get(&key) else {
            self.0.insert(key, 1);
            return name.to_string();
        };
        let mut number = count + 1;
        loop {
            let candidate = format!("{name}#{number}");
            let candidate_key = TakenNames::key(&candidate);
            if !self.0.contains_key(&candidate_key) {
                self.0.insert(key, number);
                self.0.insert(candidate_key, 1);
                return candidate;
            }
            number += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_deep_model_spread_over_both_ends_of_the_hash() {
        let hash = |name: String| BuildHasherDefault::<NameHasher>::default().hash_one(name);
        let parts = ["mlp.up_proj", "mlp.down_proj", "self_attn.q_proj", "self_attn.k_proj"];
        let names = (0..4096).flat_map(|layer| parts.map(|part| format!("d.model.layers.{layer}.{part}.lora_A.dw")));
        let hashes: Vec<u64> = names.map(hash).collect();
        let all = hashes.len();
        let distinct = |part: &dyn Fn(u64) -> u64| hashes.iter().map(|&hash| part(hash)).collect::<HashSet<_>>().len();
        assert_eq!(distinct(&|hash| hash), all, "two names collide");
        // Of n balls in n boxes, 1 - 1/e of the boxes are taken.
        for part in [&|hash: u64| hash % (1 << 14), &|hash: u64| hash >> 50] as [&dyn Fn(u64) -> u64; 2] {
            assert!(distinct(part) * 100 > all * 60, "{} of {all}", distinct(part));
        }
    }
}
