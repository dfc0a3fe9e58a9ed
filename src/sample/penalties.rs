//! Penalties of tokens that the end of the sequence has already.

use super::candidates::Candidates;
use std::collections::HashMap;

/// Repetition (Keskar et al., 2019), presence and frequency penalties over a window.
#[derive(Clone, Debug)]
pub(super) struct Penalties {
    repeat: f32,
    frequency: f32,
    presence: f32,
    /// How often each token stands in the window.
    counts: HashMap<u32, u32>,
}

impl Penalties {
    pub(super) fn new(repeat: f32, frequency: f32, presence: f32) -> Self {
        Self { repeat, frequency, presence, counts: HashMap::new() }
    }

    /// Whether these values change anything.
    pub(super) fn is_active(&self) -> bool {
        self.repeat != 1.0 || self.frequency != 0.0 || self.presence != 0.0
    }

    /// A token enters the window; another may leave it.
    pub(super) fn accept(&mut self, id: u32, leaves: Option<u32>) {
        *self.counts.entry(id).or_default() += 1;
        if let Some(old) = leaves
            && let Some(n) = self.counts.get_mut(&old)
        {
            *n -= 1;
            if *n == 0 {
                self.counts.remove(&old);
            }
        }
    }

    pub(super) fn apply(&self, c: &mut Candidates<'_>) {
        for (&id, &n) in &self.counts {
            c.change(id, |l| {
                let l = if l <= 0.0 { l * self.repeat } else { l / self.repeat };
                l - (n as f32 * self.frequency + self.presence)
            });
        }
    }
}
