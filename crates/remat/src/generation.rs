//! Text from a pretrained model in training: a plan with caches beside the training step, in the same device.
//!
//! Invariant: it reads the parameters that training updates, and changes nothing that training reads. Look next at
//! [`crate::Options::generation`].

use crate::Error;
use crate::step::Step;

/// There is one plan without backward.
const DECODE: usize = 0;

impl Step {
    /// Continues a prompt by `tokens` token ids, each the likeliest with the parameters as they are (the first of several).
    /// Returns them without the prompt. Gradients, counters and the random key stay as they are.
    ///
    /// # Errors
    /// A step compiled without [`crate::Options::generation`], an empty prompt, more tokens than the capacity holds, an id
    /// outside the vocabulary.
    pub fn generate(&mut self, prompt: &[i32], tokens: usize) -> Result<Vec<i32>, Error> {
        let Some(capacity) = self.recipe().options.generation else {
            let message = "no generation here: compile a pretrained model's step with Options::generation";
            return Err(Error::NotCompiledFor(message.to_string()));
        };
        let most = capacity.saturating_sub(prompt.len());
        if prompt.is_empty() || tokens > most {
            let message = format!(
                "{tokens} tokens behind a prompt of {}: the prompt needs at least one, and both together fit {capacity}, the \
                 capacity of Options::generation",
                prompt.len()
            );
            return Err(Error::NotCompiledFor(message));
        }
        let (mut text, mut logits) = (prompt.to_vec(), vec![0.0; self.vocabulary()]);
        for position in 0..(prompt.len() + tokens).saturating_sub(1) {
            let mut forwards = self.loaded_mut().forwards();
            let [ids, positions] = [forwards.input("token.ids")?, forwards.input("token.positions")?];
            forwards.write(ids, &[text[position]])?;
            forwards.write(positions, &[position as i32])?;
            forwards.run(DECODE)?;
            if position + 1 == text.len() {
                forwards.read_output(DECODE, "logits", &mut logits)?;
                text.push(likeliest(&logits));
            }
        }
        Ok(text.split_off(prompt.len()))
    }

    fn vocabulary(&self) -> usize {
        let graph = &self.loaded().forward_plan(DECODE).graph;
        graph.outputs.first().map_or(0, |&logits| graph.ty(logits).shape.last())
    }
}

/// The index of the first of the largest.
fn likeliest(logits: &[f32]) -> i32 {
    let first_of_largest = |best: usize, at: usize| if logits[at] > logits[best] { at } else { best };
    (0..logits.len()).fold(0, first_of_largest) as i32
}
