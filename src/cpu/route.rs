//! The choice of experts, in f64: a near tie must not be decided by rounding.

use crate::plan::{Groups, Route, Score};

/// Buffers of one thread.
#[derive(Default)]
pub(super) struct RouteScratch {
    /// What experts are weighed by.
    scores: Vec<f64>,
    /// What they are chosen by.
    by: Vec<f64>,
    /// Chosen already.
    taken: Vec<bool>,
    weights: Vec<f64>,
}

/// The first of the greatest numbers that are not taken; of numbers that are none, the first.
fn greatest(x: &[f64], taken: &[bool]) -> usize {
    let mut best: Option<usize> = None;
    for (i, x_i) in x.iter().enumerate().filter(|(i, _)| !taken[*i]) {
        if best.is_none_or(|b| *x_i > x[b]) {
            best = Some(i);
        }
    }
    best.expect("fewer are chosen than there are: the plan is verified")
}

/// exp(x - max) over their sum.
fn softmax(x: &mut [f64]) {
    let max = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    x.iter_mut().for_each(|x| *x = (*x - max).exp());
    let sum: f64 = x.iter().sum();
    x.iter_mut().for_each(|x| *x /= sum);
}

impl RouteScratch {
    /// Fills `idx` with the experts of a row whose router says `x`, best first, and `w` with what each counts. `bias`
    /// and `per_expert` are the step's.
    pub fn route(
        &mut self,
        step: &Route,
        x: &[f32],
        [bias, per_expert]: [Option<&[f32]>; 2],
        idx: &mut [f32],
        w: &mut [f32],
    ) {
        self.scores.clear();
        self.scores.extend(x.iter().copied().map(f64::from));
        self.taken.clear();
        self.taken.resize(x.len(), false);
        match step.score {
            Score::Softmax => softmax(&mut self.scores),
            Score::Sigmoid => self.scores.iter_mut().for_each(|x| *x = 1.0 / (1.0 + (-*x).exp())),
            Score::Chosen => {}
            Score::Mixer { jitter } => return self.mix(jitter, idx, w),
        }
        self.by.clear();
        match bias.is_none() && step.groups.is_none() {
            // The order is the same, and far numbers stay apart that round to one score.
            true => self.by.extend(x.iter().copied().map(f64::from)),
            false => self.by.extend_from_slice(&self.scores),
        }
        for (by, bias) in self.by.iter_mut().zip(bias.unwrap_or_default()) {
            *by += f64::from(*bias);
        }
        if let Some(groups) = step.groups {
            self.keep_best(groups, step.score == Score::Sigmoid);
        }
        self.weights.clear();
        for idx in idx.iter_mut() {
            let best = greatest(&self.by, &self.taken);
            self.taken[best] = true;
            self.weights.push(self.scores[best]);
            *idx = best as f32;
        }
        if step.score == Score::Chosen {
            softmax(&mut self.weights);
        }
        if let Some(eps) = step.renorm {
            let sum = self.weights.iter().sum::<f64>() + f64::from(eps);
            self.weights.iter_mut().for_each(|w| *w /= sum);
        }
        for ((to, weight), idx) in w.iter_mut().zip(&self.weights).zip(idx) {
            let own = per_expert.map_or(1.0, |p| f64::from(p[*idx as usize]));
            *to = (weight * own * f64::from(step.scale)) as f32;
        }
    }

    /// Experts of other groups than the best cannot be chosen any more, or have a score of nothing.
    fn keep_best(&mut self, groups: Groups, by_two: bool) {
        let n = self.by.len() / groups.count as usize;
        let best_two = |group: &[f64]| {
            let (mut first, mut second) = (f64::NEG_INFINITY, f64::NEG_INFINITY);
            for &x in group {
                if x > first {
                    (first, second) = (x, first);
                } else if x > second {
                    second = x;
                }
            }
            if by_two && n > 1 { first + second } else { first }
        };
        let scores: Vec<f64> = self.by.chunks_exact(n).map(best_two).collect();
        let mut kept = vec![false; scores.len()];
        for _ in 0..groups.used {
            let best = greatest(&scores, &kept);
            kept[best] = true;
        }
        for (group, _) in self.by.chunks_exact_mut(n).zip(kept).filter(|(_, kept)| !kept) {
            group.fill(if by_two { f64::NEG_INFINITY } else { 0.0 });
        }
    }

    /// [`Score::Mixer`].
    fn mix(&mut self, jitter: f32, idx: &mut [f32], w: &mut [f32]) {
        let limit = 2.0 * f64::from(jitter);
        for (idx, w) in idx.iter_mut().zip(w) {
            let best = greatest(&self.scores, &self.taken);
            let top = self.scores[best];
            // The best itself is near, so the sum is at least 1.
            let is_far = |x: f64| (top - x) / x.abs().max(top) > limit;
            let near = self.scores.iter().zip(&self.taken).filter(|(x, taken)| !**taken && !is_far(**x));
            let sum: f64 = near.map(|(x, _)| (x - top).exp()).sum();
            *idx = best as f32;
            *w = (1.0 / sum) as f32;
            self.taken[best] = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Operand, PlanBuilder};

    fn step(score: Score, n: u32, k: u32) -> Route {
        let mut b = PlanBuilder::default();
        let o: [Operand; 3] = [("x", n), ("idx", k), ("w", k)].map(|(name, n)| b.buffer(name, n));
        let (bias, groups, renorm, per_expert) = (None, None, None, None);
        Route { x: o[0], idx: o[1], w: o[2], score, bias, groups, renorm, scale: 1.0, per_expert }
    }

    fn chosen(step: &Route, x: &[f32], bias: Option<&[f32]>) -> (Vec<f32>, Vec<f32>) {
        let k = step.idx.len() as usize;
        let (mut idx, mut w) = (vec![0.0; k], vec![0.0; k]);
        RouteScratch::default().route(step, x, [bias, None], &mut idx, &mut w);
        (idx, w)
    }

    fn close(got: &[f32], want: &[f64]) -> bool {
        got.len() == want.len() && got.iter().zip(want).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-6)
    }

    #[test]
    fn ties_go_to_the_lowest_index_and_what_is_no_number_is_never_chosen_twice() {
        let step = step(Score::Softmax, 4, 3);
        assert_eq!(chosen(&step, &[1.0, 2.0, 2.0, 1.0], None).0, [1.0, 2.0, 0.0]);
        let mut idx = chosen(&step, &[f32::NAN; 4], None).0;
        idx.dedup();
        assert_eq!(idx.len(), 3);
    }

    #[test]
    fn a_bias_chooses_but_does_not_weigh() {
        let mut step = step(Score::Sigmoid, 3, 1);
        assert_eq!(chosen(&step, &[0.0, 1.0, 2.0], Some(&[1.0, 0.0, 0.0])), (vec![0.0], vec![0.5]));
        (step.renorm, step.scale) = (Some(0.0), 2.5);
        assert_eq!(chosen(&step, &[0.0, 1.0, 2.0], Some(&[1.0, 0.0, 0.0])), (vec![0.0], vec![2.5]));
    }

    #[test]
    fn groups_are_scored_by_their_best_or_by_their_two_best() {
        // The third group has the best expert, the first one the two best together.
        let x = [2.0, 2.0, 0.0, 0.0, 3.0, -9.0];
        for (score, want) in [(Score::Sigmoid, [0.0, 1.0]), (Score::Softmax, [4.0, 5.0])] {
            let mut step = step(score, 6, 2);
            step.groups = Some(Groups { count: 3, used: 1 });
            let mut idx = chosen(&step, &x, None).0;
            idx.sort_by(f32::total_cmp);
            assert_eq!(idx, want, "{score:?}");
        }
    }

    #[test]
    fn weights_of_the_chosen_are_a_softmax_over_them() {
        let (idx, w) = chosen(&step(Score::Chosen, 3, 2), &[1.0, 5.0, 2.0], None);
        let e = (-3f64).exp();
        assert_eq!(idx, [1.0, 2.0]);
        assert!(close(&w, &[1.0 / (1.0 + e), e / (1.0 + e)]), "{w:?}");
    }

    #[test]
    fn the_mixer_weighs_by_what_comes_near() {
        let (idx, w) = chosen(&step(Score::Mixer { jitter: 0.01 }, 4, 2), &[10.0, 9.9, 5.0, 4.99], None);
        // 9.9 lies 1% below 10; beside the second, 5 does not count.
        assert_eq!(idx, [0.0, 1.0]);
        assert!(close(&w, &[1.0 / (1.0 + (-0.1f64).exp()), 1.0]), "{w:?}");
    }
}
