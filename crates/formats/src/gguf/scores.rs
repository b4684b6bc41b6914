//! The scores of a SentencePiece vocabulary, from the merges that transformers made of it.
//!
//! SentencePiece merges whichever two neighbours make the token with the highest score, so the order of the merges is the
//! order of the tokens they make, and every pair that makes a token is a merge. llama.cpp does it in that way, too
//! (`llm_tokenizer_spm`). Invariant: scores come out only where both hold of the merges, so that scores and merges encode
//! alike: each token's merges stand together, and none is missing. Time is that of a lookup per character of the vocabulary.

use super::tokenizer_json::Merge;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// A score for each token of the vocabulary that merges make, the first 0, each later one lower by 1; and for the others,
/// which nothing is merged to, still lower ones in the order of their ids. `aside` are tokens that no text is merged to:
/// special ones and those of single bytes.
pub(super) fn scores(
    vocab: &BTreeMap<String, u32>,
    merges: &[Merge],
    aside: &BTreeSet<&str>,
) -> Result<HashMap<u32, f32>, String> {
    let (mut scores, mut pairs) = (HashMap::new(), HashSet::new());
    let mut last = None;
    for merge in merges {
        let (a, b) = merge.pair().ok_or("has a merge that is not two tokens")?;
        let made = format!("{a}{b}");
        let id = *vocab.get(&made).ok_or_else(|| format!("has a merge to {made:?}, which is no token"))?;
        if last != Some(id) && scores.insert(id, -(scores.len() as f32)).is_some() {
            return Err(format!("has merges to {made:?} apart from each other, which scores of tokens cannot say"));
        }
        last = Some(id);
        pairs.insert((a, b));
    }
    for token in vocab.keys().filter(|token| !aside.contains(token.as_str())) {
        let is_piece = |piece: &str| vocab.contains_key(piece) && !aside.contains(piece);
        let inner = token.char_indices().skip(1).map(|(at, _)| token.split_at(at));
        if let Some((a, b)) = inner.filter(|(a, b)| is_piece(a) && is_piece(b)).find(|pair| !pairs.contains(pair)) {
            return Err(format!("lacks the merge of {a:?} and {b:?}, which scores of tokens cannot leave out"));
        }
    }
    let mut others: Vec<u32> = vocab.values().copied().filter(|id| !scores.contains_key(id)).collect();
    others.sort_unstable();
    let made = scores.len();
    scores.extend(others.into_iter().enumerate().map(|(index, id)| (id, -((made + index) as f32))));
    Ok(scores)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vocab(tokens: &[&str]) -> BTreeMap<String, u32> {
        tokens.iter().enumerate().map(|(id, token)| (token.to_string(), id as u32)).collect()
    }

    fn merges(texts: &[&str]) -> Vec<Merge> {
        texts.iter().map(|text| Merge::Text(text.to_string())).collect()
    }

    #[test]
    fn tokens_score_in_the_order_of_their_merges() {
        let vocab = vocab(&["<s>", "a", "b", "c", "bc", "ab", "abc"]);
        let aside = BTreeSet::from(["<s>"]);
        let found = scores(&vocab, &merges(&["a b", "b c", "a bc", "ab c"]), &aside).expect("scores");
        // ab, bc and abc by their merges, then <s>, a, b and c by their ids.
        let of = |token: &str| found[&vocab[token]];
        assert_eq!(["ab", "bc", "abc", "<s>", "a", "b", "c"].map(of), [-0.0, -1.0, -2.0, -3.0, -4.0, -5.0, -6.0]);
    }

    #[test]
    fn merges_that_scores_cannot_say_are_refused() {
        let vocab = vocab(&["a", "b", "c", "ab", "bc", "abc"]);
        let refused = |texts: &[&str]| scores(&vocab, &merges(texts), &BTreeSet::new()).expect_err("refused");
        assert!(refused(&["a b", "b c", "ab c"]).contains("lacks the merge of \"a\" and \"bc\""));
        assert!(refused(&["a b", "a bc", "b c", "ab c"]).contains("merges to \"abc\" apart"));
        assert!(refused(&["a b", "b b"]).contains("\"bb\", which is no token"));
    }
}
