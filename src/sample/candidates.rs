//! The tokens that are still in the running.

use std::cmp::Ordering;

/// A token that may be chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Candidate {
    pub(super) id: u32,
    pub(super) logit: f32,
    /// Probability; only as fresh as the last softmax.
    pub(super) p: f32,
}

/// Storage that lives as long as the sampler, so that a token allocates nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct Storage {
    list: Vec<Candidate>,
    scored: Vec<(f32, Candidate)>,
}

/// The candidates of one choice. As long as no sampler has dropped or reordered any, they are the
/// logits themselves, in order of ids: penalties and top-k of a large vocabulary then touch no list.
pub(super) struct Candidates<'a> {
    logits: &'a mut [f32],
    storage: &'a mut Storage,
    is_list: bool,
    /// Whether the list descends by logit.
    sorted: bool,
}

impl<'a> Candidates<'a> {
    /// Every token, in order of ids. `logits` is `[n_vocab]`, without NaN.
    pub(super) fn new(logits: &'a mut [f32], storage: &'a mut Storage) -> Self {
        storage.list.clear();
        Self { logits, storage, is_list: false, sorted: false }
    }

    /// Some of the tokens, each before its logit, in order of ids.
    pub(super) fn of(some: impl Iterator<Item = (u32, f32)>, storage: &'a mut Storage) -> Self {
        Self { sorted: false, ..Self::of_best(some, storage) }
    }

    /// The greatest logits, each behind its id, in descending order.
    pub(super) fn of_best(best: impl Iterator<Item = (u32, f32)>, storage: &'a mut Storage) -> Self {
        storage.list.clear();
        storage.list.extend(best.map(|(id, logit)| Candidate { id, logit, p: 0.0 }));
        Self { logits: &mut [], storage, is_list: true, sorted: true }
    }

    pub(super) fn len(&self) -> usize {
        if self.is_list { self.storage.list.len() } else { self.logits.len() }
    }

    pub(super) fn is_sorted(&self) -> bool {
        self.sorted
    }

    /// The candidates in their order.
    pub(super) fn list(&mut self) -> &mut Vec<Candidate> {
        if !self.is_list {
            let all = self.logits.iter().enumerate();
            self.storage.list.extend(all.map(|(id, &logit)| Candidate { id: id as u32, logit, p: 0.0 }));
            self.is_list = true;
        }
        &mut self.storage.list
    }

    /// Replaces the logit of a token, if it is still in the running.
    pub(super) fn change(&mut self, id: u32, new: impl FnOnce(f32) -> f32) {
        let logit = if self.is_list {
            self.sorted = false;
            self.storage.list.iter_mut().find(|c| c.id == id).map(|c| &mut c.logit)
        } else {
            self.logits.get_mut(id as usize)
        };
        if let Some(logit) = logit {
            *logit = new(*logit);
        }
    }

    /// Replaces every logit by a function that keeps their order.
    pub(super) fn change_all_in_order(&mut self, new: impl Fn(f32) -> f32) {
        if self.is_list {
            self.storage.list.iter_mut().for_each(|c| c.logit = new(c.logit));
        } else {
            self.logits.iter_mut().for_each(|l| *l = new(*l));
        }
    }

    /// Replaces every logit by a function of the candidate.
    pub(super) fn change_all(&mut self, new: impl Fn(&Candidate) -> f32) {
        self.sorted = false;
        self.list().iter_mut().for_each(|c| c.logit = new(c));
    }

    /// The greatest logit; minus infinity if there is none.
    pub(super) fn max(&mut self) -> f32 {
        if !self.is_list {
            return self.logits.iter().fold(f32::NEG_INFINITY, |max, &l| max.max(l));
        }
        match self.storage.list.first() {
            Some(first) if self.sorted => first.logit,
            _ => self.storage.list.iter().fold(f32::NEG_INFINITY, |max, c| max.max(c.logit)),
        }
    }

    /// The place of the first of the greatest logits.
    pub(super) fn first_max(&mut self) -> usize {
        let max = self.max();
        if self.is_list {
            return self.storage.list.iter().position(|c| c.logit == max).unwrap_or(0);
        }
        self.logits.iter().position(|&l| l == max).unwrap_or(0)
    }

    /// Sorts by descending logit.
    pub(super) fn sort(&mut self) {
        if !self.sorted {
            self.list().sort_unstable_by(descending);
            self.sorted = true;
        }
    }

    /// Sorts the `n` greatest to the front; the order of the rest is open.
    pub(super) fn sort_front(&mut self, n: usize) {
        let list = self.list();
        if n < list.len() {
            list.select_nth_unstable_by(n, descending);
            list[..n].sort_unstable_by(descending);
        } else {
            self.sort();
        }
    }

    /// Keeps the `k` greatest, sorted.
    pub(super) fn top_k(&mut self, k: usize) {
        if self.is_list || k >= self.logits.len() {
            if !self.sorted {
                self.sort_front(k);
            }
            self.list().truncate(k);
        } else {
            self.collect_top(k);
        }
        self.sorted = true;
    }

    /// The `k` greatest logits by one pass: whatever passes the least of the best so far is taken, and
    /// every `k` taken the best are chosen anew.
    fn collect_top(&mut self, k: usize) {
        let list = &mut self.storage.list;
        let mut least = f32::NEG_INFINITY;
        for (id, &logit) in self.logits.iter().enumerate() {
            // equal logits come later in the order of ids, so they lose; but -inf may fill the list
            if logit > least || list.len() < k {
                list.push(Candidate { id: id as u32, logit, p: 0.0 });
                if list.len() >= 2 * k {
                    list.select_nth_unstable_by(k - 1, descending);
                    list.truncate(k);
                    least = list[k - 1].logit;
                }
            }
        }
        list.sort_unstable_by(descending);
        list.truncate(k);
        self.is_list = true;
    }

    /// Keeps the first `n`, which are known to be the greatest in order.
    pub(super) fn top_k_sorted(&mut self, n: usize) {
        self.list().truncate(n);
        self.sorted = true;
    }

    /// Keeps the first `n`.
    pub(super) fn truncate(&mut self, n: usize) {
        self.list().truncate(n);
    }

    /// Drops the first `n`.
    pub(super) fn drop_first(&mut self, n: usize) {
        self.list().drain(..n);
    }

    /// Keeps what `keep` says, in order.
    pub(super) fn retain(&mut self, keep: impl Fn(&Candidate) -> bool) {
        self.list().retain(keep);
    }

    /// Sets the probabilities: f32, summed in the order of the list.
    pub(super) fn softmax(&mut self) {
        let max = self.max();
        let mut sum = 0.0f32;
        for c in self.list() {
            c.p = weight(c.logit, max);
            sum += c.p;
        }
        for c in self.list() {
            c.p /= sum;
        }
    }

    /// Sorts, then sets the probabilities.
    pub(super) fn sorted_softmax(&mut self) {
        self.sort();
        self.softmax();
    }

    /// Puts the candidates in ascending order of a score and keeps the first `n(list)`.
    pub(super) fn keep_by_score(
        &mut self,
        score: impl Fn(&Candidate) -> f32,
        n: impl FnOnce(&[(f32, Candidate)]) -> usize,
    ) {
        self.list();
        let Storage { list, scored } = &mut *self.storage;
        scored.clear();
        scored.extend(list.iter().map(|c| (score(c), *c)));
        scored.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then_with(|| descending(&a.1, &b.1)));
        let n = n(scored);
        list.clear();
        list.extend(scored[..n].iter().map(|&(_, c)| c));
        self.sorted = false;
    }
}

/// `exp(logit - max)`; those that equal an infinite maximum are equally likely.
pub(super) fn weight(logit: f32, max: f32) -> f32 {
    if logit == max { 1.0 } else { (logit - max).exp() }
}

/// Greatest first, lower ids first among equals. -0 equals 0, as it does when the greatest is looked for.
fn descending(a: &Candidate, b: &Candidate) -> Ordering {
    (b.logit + 0.0).total_cmp(&(a.logit + 0.0)).then(a.id.cmp(&b.id))
}
