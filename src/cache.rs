//! What a sequence remembers, as arithmetic on positions: which rows are held, in which slot each lies, and how
//! far one can go back. The bytes belong to the back-ends.
#![forbid(unsafe_code)]

pub mod saved;
mod sides;

pub use self::sides::Sides;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::{CacheSpec, Plan, Span};

/// Rows of keys and values by position. A full cache has a slot for every position; a windowed one is a ring
/// that is large enough for the window of the first row of a batch while its last row is already stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowSlots {
    span: Span,
    first: u32,
    end: u32,
    n_slot: u32,
}

impl RowSlots {
    /// Empty slots for a cache of up to `n_ctx` positions that is filled by at most `n_batch` rows at once.
    pub fn new(spec: &CacheSpec, n_ctx: u32, n_batch: u32) -> Self {
        let n_slot = spec.rows(n_ctx.into(), n_batch.into()).clamp(1, u32::MAX.into());
        Self { span: spec.span, first: 0, end: 0, n_slot: n_slot as u32 }
    }

    /// Slot of a position.
    pub const fn slot(&self, pos: u32) -> usize {
        (pos % self.n_slot) as usize
    }

    /// Slots in all.
    pub const fn n_slot(&self) -> usize {
        self.n_slot as usize
    }

    /// Slots that are needed to hold the positions up to now; storage may grow with it.
    pub fn slots_used(&self) -> usize {
        self.end.min(self.n_slot) as usize
    }

    /// One past the newest position that is held.
    pub const fn end(&self) -> u32 {
        self.end
    }

    /// The oldest position that is held.
    pub const fn first(&self) -> u32 {
        self.first
    }

    /// Takes over what another cache of the same kind held, whose oldest position was `first` of `end` in `n_slot`
    /// slots. `false`, and nothing changes, where they would lie in other slots here or cannot be gone on from.
    fn restore(&mut self, first: u32, end: u32, n_slot: u32) -> bool {
        let same_places = match self.span {
            // A slot is a position.
            Span::Full | Span::All | Span::Near(_) => first == 0 && end <= n_slot && end <= self.n_slot,
            Span::Slide(_) | Span::Chunk(_) => n_slot == self.n_slot,
        };
        let possible =
            same_places && first <= end && end - first <= self.n_slot && first <= self.span.first_visible(end).min(end);
        if possible {
            (self.first, self.end) = (first, end);
        }
        possible
    }

    /// Positions that are held.
    #[cfg(test)]
    const fn held(&self) -> std::ops::Range<u32> {
        self.first..self.end
    }

    /// Makes room for `n` further positions; the oldest rows give way.
    pub fn append(&mut self, n: u32) {
        self.end += n;
        self.first = self.first.max(self.end.saturating_sub(self.n_slot));
    }

    /// Forgets everything from `end` on, if the rows that a query at `end` sees are still there.
    pub fn rewind(&mut self, end: u32) -> bool {
        // What looks ahead has seen what would be forgotten.
        let possible = match self.span.looks_ahead() {
            true => end == 0 || end == self.end,
            false => end <= self.end && self.first <= self.span.first_visible(end).min(end),
        };
        if possible {
            self.end = end;
        }
        possible
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        (self.first, self.end) = (0, 0);
    }
}

/// Which positions one sequence holds in every cache of a plan.
#[derive(Clone, Debug)]
pub struct Positions {
    slots: Vec<RowSlots>,
    len: u32,
    n_ctx: u32,
    n_batch: u32,
}

impl Positions {
    /// An empty sequence of up to `n_ctx` positions, fed by at most `n_batch` rows at once.
    pub fn new(plan: &Plan, n_ctx: u32, n_batch: u32) -> Self {
        let slots = plan.caches().iter().map(|spec| RowSlots::new(spec, n_ctx, n_batch)).collect();
        Self { slots, len: 0, n_ctx, n_batch }
    }

    /// Positions held.
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// Slots of a cache of the plan.
    pub fn slots(&self, cache: usize) -> &RowSlots {
        &self.slots[cache]
    }

    /// Makes room for `n` further rows in every cache.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when they do not fit.
    pub fn append(&mut self, n: u32) -> Result<()> {
        if n > self.n_batch || n > self.n_ctx - self.len {
            let text = format!("{n} rows do not fit behind {} of {} positions", self.len, self.n_ctx);
            return Err(Error::new(ErrorKind::Usage, text));
        }
        self.slots.iter_mut().for_each(|s| s.append(n));
        self.len += n;
        Ok(())
    }

    /// Takes over what another sequence of `len` positions held: the oldest position and the slots of every cache.
    /// `false`, and nothing changes, where this one cannot hold it so.
    pub fn restore(&mut self, len: u32, caches: &[(u32, u32)]) -> bool {
        let mut slots = self.slots.clone();
        let fits = len <= self.n_ctx && caches.len() == slots.len();
        let mut each = slots.iter_mut().zip(caches);
        let possible = fits && each.all(|(s, (first, n_slot))| s.restore(*first, len, *n_slot));
        if possible {
            (self.slots, self.len) = (slots, len);
        }
        possible
    }

    /// Forgets everything from `len` on, if every cache can; else nothing changes.
    pub fn rewind(&mut self, len: u32) -> bool {
        let mut slots = self.slots.clone();
        let possible = len <= self.len && slots.iter_mut().all(|s| s.rewind(len));
        if possible {
            (self.slots, self.len) = (slots, len);
        }
        possible
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.slots.iter_mut().for_each(RowSlots::clear);
        self.len = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(span: Span) -> RowSlots {
        RowSlots::new(&CacheSpec { name: "kv0".into(), k: 8, v: 8, heads: 1, span }, 100, 5)
    }

    #[test]
    fn a_full_cache_keeps_everything_and_rewinds_anywhere() {
        let mut s = slots(Span::Full);
        s.append(60);
        assert_eq!((s.held(), s.slot(59), s.slots_used()), (0..60, 59, 60));
        assert!(s.rewind(1) && s.held() == (0..1));
        assert!(!s.rewind(2), "one cannot go back to the future");
    }

    #[test]
    fn a_window_keeps_what_the_first_row_of_a_batch_sees() {
        let mut s = slots(Span::Slide(10));
        for _ in 0..30 {
            let before = s.end;
            s.append(5);
            assert!(s.held().start <= Span::Slide(10).first_visible(before));
            let mut seen: Vec<_> = s.held().map(|p| s.slot(p)).collect();
            seen.sort_unstable();
            seen.dedup();
            assert_eq!(seen.len(), s.held().len(), "two positions share a slot");
        }
        assert_eq!(s.slots_used(), 64, "14 rows in whole groups");
        assert!(s.rewind(145), "the batch just stored can be taken back");
        assert!(!s.rewind(90), "the window has moved on");
        s.clear();
        assert_eq!(s.held(), 0..0);
    }

    #[test]
    fn what_looks_ahead_keeps_all_or_nothing() {
        for span in [Span::All, Span::Near(4)] {
            let mut s = slots(span);
            s.append(50);
            assert_eq!((s.held(), s.slot(49)), (0..50, 49));
            assert!(s.rewind(50) && !s.rewind(49), "what is left has seen the rest");
            assert!(s.rewind(0) && s.held() == (0..0));
        }
    }

    #[test]
    fn slots_take_over_what_they_can_go_on_from_and_nothing_else() {
        let mut full = slots(Span::Full);
        assert!(full.restore(0, 60, 64), "another context length is no matter");
        assert_eq!(full.held(), 0..60);
        for (first, end, n_slot) in [(1, 60, 100), (0, 101, 200), (0, 65, 64), (70, 60, 100)] {
            assert!(!full.restore(first, end, n_slot), "{first} {end} {n_slot}");
        }
        let mut ring = slots(Span::Slide(10));
        assert!(ring.restore(36, 100, 64));
        assert_eq!(ring.held(), 36..100);
        for (first, end, n_slot) in [(36, 100, 128), (35, 100, 64), (99, 100, 64), (0, u32::MAX, 64)] {
            assert!(!ring.restore(first, end, n_slot), "{first} {end} {n_slot}");
        }
        assert_eq!(ring.held(), 36..100);
    }
}
