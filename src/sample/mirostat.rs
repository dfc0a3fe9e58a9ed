//! The last link of the chain: the draw. Plain, Mirostat (Basu et al., 2020) in its two versions, and
//! adaptive-p. Definitions: llama.cpp `src/llama-sampler.cpp` (October 2026).

use super::candidates::{Candidates, weight};
use super::rng::Mt19937;

/// A plain draw: weights in f32, their sums in f64. Returns the place of the chosen candidate; a
/// single candidate uses a number up as well.
pub(super) fn draw(c: &mut Candidates<'_>, rng: &mut Mt19937) -> usize {
    let max = c.max();
    let mut sum = 0.0;
    for c in c.list() {
        c.p = weight(c.logit, max);
        sum += f64::from(c.p);
    }
    let target = rng.f64() * sum;
    let mut running = 0.0;
    let mut last_possible = 0;
    for (i, c) in c.list().iter().enumerate() {
        running += f64::from(c.p);
        if c.p > 0.0 {
            last_possible = i;
            if running >= target {
                return i;
            }
        }
    }
    last_possible
}

fn draw_by_p(c: &mut Candidates<'_>, rng: &mut Mt19937) -> usize {
    rng.discrete(c.list().iter().map(|c| c.p))
}

/// State of either version.
#[derive(Clone, Debug)]
pub(super) struct MirostatState {
    tau: f32,
    eta: f32,
    /// The surprise at which candidates are cut, in bits.
    mu: f32,
    rng: Mt19937,
}

/// Candidates that the first version estimates Zipf's exponent from.
const N_ESTIMATE: usize = 100;

impl MirostatState {
    pub(super) fn new(tau: f32, eta: f32, seed: u32) -> Self {
        Self { tau, eta, mu: 2.0 * tau, rng: Mt19937::new(seed) }
    }

    pub(super) fn v1(&mut self, c: &mut Candidates<'_>, n_vocab: usize) -> usize {
        c.sorted_softmax();
        let list = c.list();
        let n = N_ESTIMATE.min(list.len()).saturating_sub(1);
        let (mut sum_tb, mut sum_tt) = (0.0f32, 0.0f32);
        for (i, pair) in list.windows(2).take(n).enumerate() {
            let t = ((i + 2) as f32 / (i + 1) as f32).ln();
            let b = (pair[0].p / pair[1].p).ln();
            sum_tb += t * b;
            sum_tt += t * t;
        }
        let s = sum_tb / sum_tt;
        let e = s - 1.0;
        let k = ((e * 2f32.powf(self.mu)) / (1.0 - (n_vocab as f32).powf(-e))).powf(1.0 / s);
        // a float that is not a number converts to 0
        c.top_k((k as usize).clamp(1, c.len()));
        self.choose(c)
    }

    pub(super) fn v2(&mut self, c: &mut Candidates<'_>) -> usize {
        c.sorted_softmax();
        let surprising = c.list().iter().position(|c| -c.p.log2() > self.mu);
        if let Some(n) = surprising {
            c.truncate(n.max(1));
        }
        self.choose(c)
    }

    fn choose(&mut self, c: &mut Candidates<'_>) -> usize {
        c.softmax();
        let chosen = draw_by_p(c, &mut self.rng);
        let surprise = -c.list()[chosen].p.log2();
        self.mu -= self.eta * (surprise - self.tau);
        chosen
    }
}

/// Draws near a target probability, which moves so that the mean of the chosen ones meets the target.
#[derive(Clone, Debug)]
pub(super) struct AdaptiveP {
    target: f32,
    decay: f32,
    /// Decaying sum of the probabilities of chosen tokens, and of 1.
    weighted_sum: f32,
    total_weight: f32,
    /// The token chosen last, and its probability before the reshaping.
    pending: Option<(u32, f32)>,
    original: Vec<f32>,
    rng: Mt19937,
}

/// Logit of a candidate at the target, how fast it falls with distance, and the unit of distance.
const PEAK: f32 = 5.0;
const SHARPNESS: f32 = 10.0;
const WIDTH: f32 = 0.3;

impl AdaptiveP {
    pub(super) fn new(target: f32, decay: f32, seed: u32) -> Self {
        let decay = decay.clamp(0.0, 0.99);
        Self {
            target,
            decay,
            weighted_sum: target / (1.0 - decay),
            total_weight: 1.0 / (1.0 - decay),
            pending: None,
            original: Vec::new(),
            rng: Mt19937::new(seed),
        }
    }

    pub(super) fn choose(&mut self, c: &mut Candidates<'_>) -> usize {
        c.softmax();
        if self.target < 0.0 {
            return draw_by_p(c, &mut self.rng);
        }
        self.original.clear();
        self.original.extend(c.list().iter().map(|c| c.p));
        let aim = 2.0 * self.target.clamp(0.0, 1.0) - self.weighted_sum / self.total_weight;
        let aim = aim.clamp(0.0, 1.0);
        c.change_all(|c| {
            if c.logit == f32::NEG_INFINITY {
                return c.logit;
            }
            let x = ((c.p - aim) / WIDTH).abs();
            PEAK - SHARPNESS * x * x / (1.0 + x)
        });
        c.softmax();
        let chosen = draw_by_p(c, &mut self.rng);
        self.pending = Some((c.list()[chosen].id, self.original[chosen]));
        chosen
    }

    pub(super) fn accept(&mut self, id: u32) {
        if let Some((_, p)) = self.pending.take_if(|(chosen, _)| *chosen == id) {
            self.weighted_sum = p + self.decay * self.weighted_sum;
            self.total_weight = 1.0 + self.decay * self.total_weight;
        }
    }
}
