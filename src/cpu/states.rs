//! The states of one sequence: what it remembers whatever its length.
//!
//! A batch reads the state before it from one side and writes the state behind it to another, which counts only when
//! the batch has succeeded. So a batch that fails or is cancelled leaves what was there, and the last batch can be
//! taken back. A third side keeps the state in front of a text's last token, from which its answer begins again. Going
//! back elsewhere means computing again.

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

/// The states of a sequence at some positions.
pub(super) struct States {
    sides: [Side; StateSpec::COPIES],
    /// The side that the next batch reads.
    now: usize,
    /// The side that it writes.
    next: usize,
    /// The side in front of the last token of a text.
    kept: Option<usize>,
    /// Was the last batch of several rows?
    was_text: bool,
    lengths: Vec<usize>,
}

impl States {
    /// Those of an empty sequence; memory is taken with the first rows.
    pub fn new(plan: &Plan) -> Self {
        Self::of(plan.states().iter().map(|s: &StateSpec| s.numbers() as usize).collect())
    }

    fn of(lengths: Vec<usize>) -> Self {
        let side = || Side { numbers: lengths.iter().map(|_| Shared::new()).collect(), at: None };
        let mut sides = std::array::from_fn(|_| side());
        sides[0].at = Some(0);
        Self { sides, now: 0, next: 1, kept: None, was_text: false, lengths }
    }

    /// Makes room for what the next batch, of `n_row` rows, leaves.
    pub fn prepare(&mut self, n_row: u32) -> Result<()> {
        let now = &self.sides[self.now];
        if n_row == 1 && self.was_text && now.at != Some(0) {
            self.kept = Some(self.now);
        }
        let free = |i: &usize| *i != self.now && Some(*i) != self.kept;
        // What belongs to no position first, then the older.
        let oldest = (0..self.sides.len()).filter(free).min_by_key(|i| self.sides[*i].at);
        self.next = oldest.unwrap_or((self.now + 1) % self.sides.len());
        for i in [self.now, self.next] {
            self.sides[i].numbers.iter_mut().zip(&self.lengths).try_for_each(|(x, n)| x.grow(*n))?;
        }
        let now = &self.sides[self.now];
        if now.at == Some(0) {
            now.numbers.iter().for_each(|x| x.write(0..x.len()).fill(0.0));
        }
        self.sides[self.next].at = None;
        Ok(())
    }

    /// The batch has been computed; the sequence has `len` positions now.
    pub fn commit(&mut self, len: u32) {
        let before = self.sides[self.now].at.unwrap_or(0);
        self.was_text = len > before + 1;
        self.now = self.next;
        self.sides[self.now].at = Some(len);
    }

    /// A state before the batch at hand.
    pub fn before(&self, id: StateId) -> &Shared<f32> {
        &self.sides[self.now].numbers[id.index()]
    }

    /// The same state behind the batch.
    pub fn behind(&self, id: StateId) -> &Shared<f32> {
        &self.sides[self.next].numbers[id.index()]
    }

    /// The greatest position up to `len` that one can go on from.
    pub fn nearest(&self, len: u32) -> u32 {
        match self.lengths.is_empty() {
            true => len,
            false => self.sides.iter().filter_map(|s| s.at).filter(|at| *at <= len).max().unwrap_or(0),
        }
    }

    /// Back to `len` positions, which is what [`States::nearest`] gave.
    pub fn rewind(&mut self, len: u32) {
        match self.sides.iter().position(|s| s.at == Some(len)) {
            Some(side) => self.now = side,
            None => self.sides[self.now].at = Some(0),
        }
        for side in &mut self.sides {
            side.at = side.at.filter(|at| *at <= len);
        }
        // What one has gone back to is worth keeping: an answer may begin there once more.
        self.kept = self.kept.filter(|i| self.sides[*i].at.is_some());
        self.was_text = true;
    }

    /// The numbers of every state now, and those of an earlier position; nothing where there are none.
    pub fn saved(&self) -> impl Iterator<Item = (u32, &[u8], &[u8])> {
        let earlier = (0..self.sides.len()).filter(|i| *i != self.now && self.sides[*i].at.is_some_and(|at| at > 0));
        // What an answer begins from, where there is one.
        let earlier = earlier.max_by_key(|i| (Some(*i) == self.kept, self.sides[*i].at));
        let bytes = |side: usize, i: usize| {
            let x = &self.sides[side].numbers[i];
            bytemuck::cast_slice(x.read(0..x.len()))
        };
        (0..self.lengths.len()).map(move |i| match earlier {
            Some(side) => (self.sides[side].at.unwrap_or(0), bytes(self.now, i), bytes(side, i)),
            None => (0, bytes(self.now, i), &[][..]),
        })
    }

    /// Takes over what [`States::saved`] gave of a sequence of `len` positions. `false` where it does not fit; the
    /// states are those of an empty sequence then.
    pub fn restore<'s>(&mut self, len: u32, saved: impl ExactSizeIterator<Item = (u32, &'s [u8], &'s [u8])>) -> bool {
        self.rewind(0);
        if saved.len() != self.lengths.len() || self.prepare(0).is_err() {
            return false;
        }
        let mut earlier = Some(0);
        let fill = |to: &Shared<f32>, from: &[u8]| {
            let numbers = from.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
            to.write(0..to.len()).iter_mut().zip(numbers).for_each(|(to, x)| *to = x);
        };
        for (i, (at, now, before)) in saved.enumerate() {
            let n = 4 * self.lengths[i];
            let fresh = len == 0 && now.is_empty();
            if !(fresh || now.len() == n) || !(before.is_empty() || before.len() == n && (1..=len).contains(&at)) {
                return false;
            }
            let same = i == 0 || earlier == Some(at);
            earlier = Some(at).filter(|_| same && !before.is_empty());
            fill(&self.sides[self.now].numbers[i], now);
            fill(&self.sides[self.next].numbers[i], before);
        }
        self.sides[self.now].at = Some(len);
        self.sides[self.next].at = earlier.filter(|at| *at > 0 && *at < len);
        self.kept = self.sides[self.next].at.map(|_| self.next);
        self.was_text = false;
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
        States::of(vec![2])
    }

    /// A batch of `n` rows that adds `x`; `false`: it fails.
    fn batch(s: &mut States, x: f32, n: u32, succeeds: bool) {
        let len = s.sides[s.now].at.unwrap();
        s.prepare(n).unwrap();
        let (from, to) = (&s.sides[s.now].numbers[0], &s.sides[s.next].numbers[0]);
        to.write(0..2).iter_mut().zip(from.read(0..2)).for_each(|(to, from)| *to = from + x);
        if succeeds {
            s.commit(len + n);
        }
    }

    fn now(s: &States) -> f32 {
        s.sides[s.now].numbers[0].read(0..2)[1]
    }

    #[test]
    fn a_batch_that_fails_leaves_what_was_there() {
        let mut s = states();
        batch(&mut s, 1.0, 3, true);
        batch(&mut s, 10.0, 2, false);
        assert!(s.nearest(9) == 3 && now(&s) == 1.0);
        s.rewind(3);
        batch(&mut s, 2.0, 2, true);
        assert_eq!((now(&s), s.nearest(9)), (3.0, 5));
    }

    #[test]
    fn one_goes_back_by_one_batch_or_to_the_beginning() {
        let mut s = states();
        batch(&mut s, 1.0, 3, true);
        batch(&mut s, 2.0, 2, true);
        assert_eq!([6, 5, 4, 3, 2].map(|len| s.nearest(len)), [5, 5, 3, 3, 0]);
        s.rewind(3);
        assert!(now(&s) == 1.0 && s.nearest(9) == 3);
        s.rewind(0);
        batch(&mut s, 5.0, 1, true);
        assert_eq!(now(&s), 5.0, "an empty sequence begins with zeros");
    }

    #[test]
    fn an_answer_begins_again_where_its_question_ended() {
        let mut s = states();
        batch(&mut s, 1.0, 4, true);
        batch(&mut s, 2.0, 5, true);
        for _ in 0..2 {
            // The last token of the question, and an answer.
            for i in 0..7 {
                batch(&mut s, 3.0, 1, true);
                assert_eq!(s.nearest(9 + i), 9 + i, "the last token can be taken back");
            }
            assert_eq!((now(&s), s.nearest(14)), (24.0, 9));
            s.rewind(9);
            assert_eq!(now(&s), 3.0);
        }
        // The next question.
        batch(&mut s, 3.0, 1, true);
        batch(&mut s, 4.0, 6, true);
        assert_eq!((s.nearest(12), s.nearest(15)), (10, 10));
        batch(&mut s, 1.0, 1, true);
        batch(&mut s, 1.0, 1, true);
        assert_eq!((s.nearest(17), s.nearest(16), s.nearest(15)), (17, 16, 0));
    }

    #[test]
    fn what_was_saved_is_taken_over_or_refused() {
        let mut s = states();
        batch(&mut s, 1.5, 7, true);
        batch(&mut s, 2.0, 1, true);
        let saved: Vec<_> = s.saved().map(|(at, k, v)| (at, k.to_vec(), v.to_vec())).collect();
        let lent = |at: u32, n: usize| saved.iter().map(move |(_, k, v)| (at, &k[..n], &v[..n]));
        let mut other = states();
        assert!(other.restore(8, lent(saved[0].0, 8)));
        assert_eq!((now(&other), other.nearest(8), other.nearest(7)), (3.5, 8, 7));
        other.rewind(7);
        assert_eq!(now(&other), 1.5);
        assert!(!other.restore(8, lent(7, 4)), "of another size");
        assert!(!other.restore(8, lent(9, 8)), "an earlier position that is later");
        assert!(!other.restore(8, std::iter::empty()), "too few");
        assert_eq!(other.nearest(9), 0);
        assert!(other.restore(0, [(0, &[][..], &[][..])].into_iter()), "a sequence that had not begun");
    }
}
