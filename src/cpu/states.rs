//! The states of one sequence: what it remembers whatever its length.
//!
//! A batch reads the state before it from one side and writes the state behind it to another, which counts only when
//! the batch has succeeded. So a batch that fails or is cancelled leaves what was there, and the last batch can be
//! taken back; going back farther means computing again.

use super::pool::Shared;
use crate::error::Result;
use crate::plan::{Plan, StateId, StateSpec};

/// All states at one position.
struct Side {
    /// By state of the plan.
    numbers: Vec<Shared<f32>>,
    /// The position that they belong to; `None` where they belong to none.
    at: Option<u32>,
}

/// The states of a sequence, twice.
pub(super) struct States {
    sides: [Side; 2],
    now: usize,
    lengths: Vec<usize>,
}

impl States {
    /// Those of an empty sequence; memory is taken with the first rows.
    pub fn new(plan: &Plan) -> Self {
        let lengths: Vec<usize> = plan.states().iter().map(|s: &StateSpec| s.numbers() as usize).collect();
        let side = |at| Side { numbers: lengths.iter().map(|_| Shared::new()).collect(), at };
        Self { sides: [side(Some(0)), side(None)], now: 0, lengths }
    }

    /// Makes room for what the next batch leaves.
    pub fn prepare(&mut self) -> Result<()> {
        for side in &mut self.sides {
            side.numbers.iter_mut().zip(&self.lengths).try_for_each(|(x, n)| x.grow(*n))?;
        }
        let now = &self.sides[self.now];
        if now.at == Some(0) {
            now.numbers.iter().for_each(|x| x.write(0..x.len()).fill(0.0));
        }
        self.sides[1 - self.now].at = None;
        Ok(())
    }

    /// The batch has been computed; the sequence has `len` positions now.
    pub fn commit(&mut self, len: u32) {
        self.now = 1 - self.now;
        self.sides[self.now].at = Some(len);
    }

    /// A state before the batch at hand.
    pub fn before(&self, id: StateId) -> &Shared<f32> {
        &self.sides[self.now].numbers[id.index()]
    }

    /// The same state behind the batch.
    pub fn behind(&self, id: StateId) -> &Shared<f32> {
        &self.sides[1 - self.now].numbers[id.index()]
    }

    /// Can one go on from `len` positions?
    pub fn holds(&self, len: u32) -> bool {
        self.lengths.is_empty() || len == 0 || self.sides.iter().any(|s| s.at == Some(len))
    }

    /// Back to `len` positions, which [`States::holds`].
    pub fn rewind(&mut self, len: u32) {
        match self.sides.iter().position(|s| s.at == Some(len)) {
            Some(side) => self.now = side,
            None => self.sides[self.now].at = Some(0),
        }
        self.sides[1 - self.now].at = None;
    }

    /// The numbers of every state; nothing before the first rows.
    pub fn saved(&self) -> impl Iterator<Item = &[u8]> {
        self.sides[self.now].numbers.iter().map(|x| bytemuck::cast_slice(x.read(0..x.len())))
    }

    /// Takes over what [`States::saved`] gave of a sequence of `len` positions. `false` where it does not fit; the
    /// states are those of an empty sequence then.
    pub fn restore<'s>(&mut self, len: u32, saved: impl ExactSizeIterator<Item = &'s [u8]>) -> bool {
        self.rewind(0);
        if saved.len() != self.lengths.len() || self.prepare().is_err() {
            return false;
        }
        for ((to, n), from) in self.sides[self.now].numbers.iter().zip(&self.lengths).zip(saved) {
            let fresh = len == 0 && from.is_empty();
            if !fresh && from.len() != 4 * n {
                return false;
            }
            let numbers = from.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
            to.write(0..*n).iter_mut().zip(numbers).for_each(|(to, x)| *to = x);
        }
        self.sides[self.now].at = Some(len);
        true
    }

    pub fn bytes(&self) -> u64 {
        self.sides.iter().flat_map(|s| &s.numbers).map(|x| 4 * x.len() as u64).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn states() -> States {
        let lengths = vec![2];
        let side = |at| Side { numbers: vec![Shared::new()], at };
        States { sides: [side(Some(0)), side(None)], now: 0, lengths }
    }

    /// A batch that adds `x`.
    fn batch(s: &mut States, x: f32, len: Option<u32>) {
        s.prepare().unwrap();
        let (from, to) = (&s.sides[s.now].numbers[0], &s.sides[1 - s.now].numbers[0]);
        to.write(0..2).iter_mut().zip(from.read(0..2)).for_each(|(to, from)| *to = from + x);
        if let Some(len) = len {
            s.commit(len);
        }
    }

    fn now(s: &States) -> f32 {
        s.sides[s.now].numbers[0].read(0..2)[1]
    }

    #[test]
    fn a_batch_that_fails_leaves_what_was_there() {
        let mut s = states();
        batch(&mut s, 1.0, Some(3));
        batch(&mut s, 10.0, None);
        assert!(s.holds(3) && now(&s) == 1.0);
        s.rewind(3);
        batch(&mut s, 2.0, Some(5));
        assert_eq!(now(&s), 3.0);
    }

    #[test]
    fn one_goes_back_by_one_batch_or_to_the_beginning() {
        let mut s = states();
        batch(&mut s, 1.0, Some(3));
        batch(&mut s, 2.0, Some(4));
        assert!(s.holds(4) && s.holds(3) && s.holds(0) && !s.holds(2));
        s.rewind(3);
        assert!(now(&s) == 1.0 && !s.holds(4));
        s.rewind(0);
        batch(&mut s, 5.0, Some(1));
        assert_eq!(now(&s), 5.0, "an empty sequence begins with zeros");
    }

    #[test]
    fn what_was_saved_is_taken_over_or_refused() {
        let mut s = states();
        batch(&mut s, 1.5, Some(7));
        let saved: Vec<Vec<u8>> = s.saved().map(<[u8]>::to_vec).collect();
        let mut other = states();
        assert!(other.restore(7, saved.iter().map(Vec::as_slice)));
        assert!(now(&other) == 1.5 && other.holds(7) && !other.holds(6));
        assert!(!other.restore(7, [&saved[0][..4]].into_iter()));
        assert!(!other.restore(7, std::iter::empty()), "too few");
        assert!(other.holds(0) && !other.holds(7));
        assert!(other.restore(0, [&[][..]].into_iter()), "a sequence that had not begun");
    }
}
