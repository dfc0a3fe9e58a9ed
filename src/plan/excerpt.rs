//! Parts of a plan as plans of their own: for running them on different back-ends, and for looking at a few layers
//! instead of all.

use std::fmt::Write as _;
use std::ops::Range;

use super::{BufId, Operand, Plan, PlanBuilder, Step};

impl Plan {
    /// The steps of some ranges, in their order, as a plan. What a first range that does not begin the plan needs
    /// becomes the input; what a last range that does not end it leaves becomes the output, of all rows. `None` where
    /// more than one buffer would have to be handed over, or where two ranges do not meet in the same buffer.
    pub fn excerpt(&self, ranges: &[Range<usize>]) -> Option<Plan> {
        let live = self.needed_after();
        let before = |step: usize| step.checked_sub(1).map_or(&[][..], |last| &live[last]);
        let after = |end: usize| before(end);
        let (first, last) = (ranges.first()?, ranges.last()?);
        let meets = ranges.windows(2).all(|w| w[0].end <= w[1].start && after(w[0].end) == before(w[1].start));
        if !meets || ranges.iter().any(Range::is_empty) || last.end > self.steps.len() {
            return None;
        }
        let mut b = PlanBuilder::default();
        for buffer in &self.buffers {
            b.buffer(&buffer.name, buffer.width);
        }
        let whole =
            |buf: &BufId| Operand { buf: *buf, start: 0, width: self.buffers[buf.index()].width, heads: 1, stride: 0 };
        match before(first.start) {
            [] => {}
            [buf] => b.input(whole(buf)),
            _ => return None,
        }
        for range in ranges {
            for (i, step) in self.steps[range.clone()].iter().enumerate() {
                let at = range.start + i;
                if let Ok(section) = self.sections.binary_search_by_key(&at, |s| s.0) {
                    b.section(self.sections[section].1.clone());
                }
                let mut step = step.clone();
                let ids = step.ids_mut();
                ids.weights.into_iter().for_each(|id| *id = b.weight(self.weights[id.index()].clone()));
                ids.cache.into_iter().for_each(|id| *id = b.cache(self.caches[id.index()].clone()));
                ids.state.into_iter().for_each(|id| *id = b.state(self.states[id.index()].clone()));
                ids.table.into_iter().for_each(|id| *id = b.table(self.tables[id.index()].clone()));
                b.push(step);
            }
        }
        match after(last.end) {
            _ if last.end == self.steps.len() => self.outputs.iter().for_each(|o| b.output(*o)),
            [buf] => b.output(whole(buf)),
            _ => return None,
        }
        self.notes.iter().for_each(|n| b.note(n.clone()));
        b.finish().ok()
    }

    /// Steps at which the plan can be cut in two: beginnings of sections with one buffer to hand over; ascending.
    pub fn seams(&self) -> Vec<usize> {
        let live = self.needed_after();
        let take = self.steps.iter().position(|s| matches!(s, Step::Take { .. })).unwrap_or(usize::MAX);
        let one = |step: &usize| *step > 0 && *step <= take && live[step - 1].len() == 1 && !self.shares_caches(*step);
        self.sections.iter().map(|s| s.0).filter(one).collect()
    }

    /// Does attention from this step on read what a step before it has stored?
    fn shares_caches(&self, step: usize) -> bool {
        let (before, behind) = self.steps.split_at(step);
        let stored: Vec<_> =
            before.iter().filter_map(|s| if let Step::Store { cache, .. } = s { Some(*cache) } else { None }).collect();
        behind.iter().any(|s| matches!(s, Step::Attend(a) if stored.contains(&a.cache)))
    }

    /// What is left of a plan without its names: equal for plans that ask the same of a back-end, such as those of
    /// equal layers.
    pub fn signature(&self) -> String {
        let mut text = String::new();
        let mut push = |part: std::fmt::Arguments<'_>| {
            // Writing to a string cannot fail.
            let _ = text.write_fmt(part);
        };
        self.steps.iter().for_each(|s| push(format_args!("{s:?};")));
        self.buffers.iter().for_each(|b| push(format_args!("{};", b.width)));
        self.weights.iter().for_each(|w| push(format_args!("{:?}{:?};", w.ty, w.shape)));
        self.caches
            .iter()
            .for_each(|c| push(format_args!("{:?};", super::CacheSpec { name: String::new(), ..c.clone() })));
        self.states.iter().for_each(|s| push(format_args!("{:?};", s.kind)));
        self.tables.iter().for_each(|t| push(format_args!("{}*{};", t.freqs.len(), t.amp)));
        push(format_args!("{:?}>{:?}", self.inputs, self.outputs));
        text
    }
}
