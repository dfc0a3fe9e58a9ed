//! At which positions the states of a sequence are held, without their numbers.
//!
//! A batch reads the states before it from one side and writes those behind it to another, which counts only when the
//! batch has succeeded. So a batch that fails or is cancelled leaves what was there, and the last batch can be taken
//! back. A third side keeps the states in front of a text's last token, from which its answer begins again. Going back
//! elsewhere means computing again.

use crate::plan::StateSpec;

/// Which side holds the states of which position.
#[derive(Clone, Debug)]
pub struct Sides {
    /// The positions; `None` where a side's numbers belong to none.
    at: [Option<u32>; StateSpec::COPIES],
    /// The side that the next batch reads.
    now: usize,
    /// The side that it writes.
    next: usize,
    /// The side in front of the last token of a text.
    kept: Option<usize>,
    /// Was the last batch of several rows?
    was_text: bool,
}

impl Default for Sides {
    fn default() -> Self {
        let mut at = [None; StateSpec::COPIES];
        at[0] = Some(0);
        Self { at, now: 0, next: 1, kept: None, was_text: false }
    }
}

impl Sides {
    /// Chooses the side that the next batch, of `n_row` rows, writes.
    pub fn prepare(&mut self, n_row: u32) {
        if n_row == 1 && self.was_text && self.at[self.now] != Some(0) {
            self.kept = Some(self.now);
        }
        let free = |i: &usize| *i != self.now && Some(*i) != self.kept;
        // What belongs to no position first, then the older.
        let oldest = (0..self.at.len()).filter(free).min_by_key(|i| self.at[*i]);
        self.next = oldest.unwrap_or((self.now + 1) % self.at.len());
        self.at[self.next] = None;
    }

    /// The batch has been computed; the sequence has `len` positions now.
    pub fn commit(&mut self, len: u32) {
        let before = self.at[self.now].unwrap_or(0);
        self.was_text = len > before + 1;
        self.now = self.next;
        self.at[self.now] = Some(len);
    }

    /// The side that the batch at hand reads.
    pub const fn now(&self) -> usize {
        self.now
    }

    /// The side that it writes.
    pub const fn next(&self) -> usize {
        self.next
    }

    /// The position whose states a side holds.
    pub const fn at(&self, side: usize) -> Option<u32> {
        self.at[side]
    }

    /// The greatest position up to `len` that one can go on from.
    pub fn nearest(&self, len: u32) -> u32 {
        self.at.iter().flatten().copied().filter(|at| *at <= len).max().unwrap_or(0)
    }

    /// Back to `len` positions, which is what [`Sides::nearest`] gave.
    pub fn rewind(&mut self, len: u32) {
        match self.at.iter().position(|at| *at == Some(len)) {
            Some(side) => self.now = side,
            None => self.at[self.now] = Some(0),
        }
        for at in &mut self.at {
            *at = at.filter(|at| *at <= len);
        }
        // What one has gone back to is worth keeping: an answer may begin there once more.
        self.kept = self.kept.filter(|i| self.at[*i].is_some());
        self.was_text = true;
    }

    /// The side of an earlier position that is worth saving: where an answer begins, if there is one.
    pub fn earlier(&self) -> Option<usize> {
        let earlier = (0..self.at.len()).filter(|i| *i != self.now && self.at[*i].is_some_and(|at| at > 0));
        earlier.max_by_key(|i| (Some(*i) == self.kept, self.at[*i]))
    }

    /// The side that is read holds the states of `len` positions, the one that is written those of `earlier`, if any.
    pub fn set(&mut self, len: u32, earlier: Option<u32>) {
        self.at[self.now] = Some(len);
        self.at[self.next] = earlier.filter(|at| *at > 0 && *at < len);
        self.kept = self.at[self.next].map(|_| self.next);
        self.was_text = false;
    }
}
