//! The numbers of the states of one sequence: what it remembers whatever its length, at the positions of [`Sides`].

use super::pool::Shared;
use crate::cache::Sides;
use crate::error::Result;
use crate::plan::{Plan, StateId, StateSpec};

/// The states of a sequence at some positions.
pub(super) struct States {
    sides: Sides,
    /// By side, then by state of the plan.
    numbers: [Vec<Shared<f32>>; StateSpec::COPIES],
    lengths: Vec<usize>,
}

impl States {
    /// Those of an empty sequence; memory is taken with the first rows.
    pub fn new(plan: &Plan) -> Self {
        Self::of(plan.states().iter().map(|s: &StateSpec| s.numbers() as usize).collect())
    }

    fn of(lengths: Vec<usize>) -> Self {
        let numbers = std::array::from_fn(|_| lengths.iter().map(|_| Shared::new()).collect());
        Self { sides: Sides::default(), numbers, lengths }
    }

    /// Makes room for what the next batch, of `n_row` rows, leaves.
    pub fn prepare(&mut self, n_row: u32) -> Result<()> {
        self.sides.prepare(n_row);
        for i in [self.sides.now(), self.sides.next()] {
            self.numbers[i].iter_mut().zip(&self.lengths).try_for_each(|(x, n)| x.grow(*n))?;
        }
        if self.sides.at(self.sides.now()) == Some(0) {
            self.numbers[self.sides.now()].iter().for_each(|x| x.write(0..x.len()).fill(0.0));
        }
        Ok(())
    }

    /// The batch has been computed; the sequence has `len` positions now.
    pub fn commit(&mut self, len: u32) {
        self.sides.commit(len);
    }

    /// A state before the batch at hand.
    pub fn before(&self, id: StateId) -> &Shared<f32> {
        &self.numbers[self.sides.now()][id.index()]
    }

    /// The same state behind the batch.
    pub fn behind(&self, id: StateId) -> &Shared<f32> {
        &self.numbers[self.sides.next()][id.index()]
    }

    /// The greatest position up to `len` that one can go on from.
    pub fn nearest(&self, len: u32) -> u32 {
        if self.lengths.is_empty() { len } else { self.sides.nearest(len) }
    }

    /// Back to `len` positions, which is what [`States::nearest`] gave.
    pub fn rewind(&mut self, len: u32) {
        self.sides.rewind(len);
    }

    /// The numbers of every state now, and those of an earlier position; nothing where there are none.
    pub fn saved(&self) -> impl Iterator<Item = (u32, &[u8], &[u8])> {
        let (now, earlier) = (self.sides.now(), self.sides.earlier());
        let bytes = |side: usize, i: usize| {
            let x = &self.numbers[side][i];
            bytemuck::cast_slice(x.read(0..x.len()))
        };
        (0..self.lengths.len()).map(move |i| match earlier {
            Some(side) => (self.sides.at(side).unwrap_or(0), bytes(now, i), bytes(side, i)),
            None => (0, bytes(now, i), &[][..]),
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
            fill(&self.numbers[self.sides.now()][i], now);
            fill(&self.numbers[self.sides.next()][i], before);
        }
        self.sides.set(len, earlier);
        true
    }

    pub fn bytes(&self) -> u64 {
        self.numbers.iter().flatten().map(|x| 4 * x.len() as u64).sum()
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
        let len = s.sides.at(s.sides.now()).unwrap();
        s.prepare(n).unwrap();
        let (from, to) = (&s.numbers[s.sides.now()][0], &s.numbers[s.sides.next()][0]);
        to.write(0..2).iter_mut().zip(from.read(0..2)).for_each(|(to, from)| *to = from + x);
        if succeeds {
            s.commit(len + n);
        }
    }

    fn now(s: &States) -> f32 {
        s.numbers[s.sides.now()][0].read(0..2)[1]
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
