//! How far one model's probabilities are from another's, over the tokens of a text: the statistics of
//! llama-perplexity.

use super::log_sum_exp;

/// A sum of values and of their squares.
#[derive(Clone, Copy, Default)]
struct Sum {
    x: f64,
    x2: f64,
}

impl Sum {
    fn add(&mut self, x: f64) {
        self.x += x;
        self.x2 += x * x;
    }

    /// Mean, and its standard error.
    fn mean(self, n: f64) -> (f64, f64) {
        let mean = self.x / n;
        let variance = (self.x2 / n - mean * mean).max(0.0);
        (mean, if n > 1.0 { (variance / (n - 1.0)).sqrt() } else { 0.0 })
    }
}

/// What is known of the scored tokens so far; P is the base model, Q the other one.
pub(crate) struct Divergence {
    n_vocab: usize,
    /// -ln Q and -ln P of the tokens of the text, and the sum of their products.
    nll: Sum,
    nll_base: Sum,
    nll_product: f64,
    kl: Sum,
    /// Q - P of the tokens of the text, and its square.
    diff: Sum,
    diff2: Sum,
    n_same_top: u64,
    /// By scored token.
    kl_values: Vec<f32>,
    diff_values: Vec<f32>,
}

/// The place of the greatest number, the first of equals.
fn greatest(x: &[f32]) -> usize {
    (1..x.len()).fold(0, |best, i| if x[i] > x[best] { i } else { best })
}

impl Divergence {
    pub(crate) fn new(n_vocab: usize) -> Self {
        Self {
            n_vocab,
            nll: Sum::default(),
            nll_base: Sum::default(),
            nll_product: 0.0,
            kl: Sum::default(),
            diff: Sum::default(),
            diff2: Sum::default(),
            n_same_top: 0,
            kl_values: Vec::new(),
            diff_values: Vec::new(),
        }
    }

    /// Adds a scored token: Q's logits, P's log-probabilities, and which token the text has.
    pub(crate) fn add(&mut self, logits: &[f32], base: &[f32], next: usize) {
        assert!(logits.len() == self.n_vocab && base.len() == self.n_vocab, "rows of another vocabulary");
        let norm = log_sum_exp(logits);
        let mut kl = 0.0;
        for (&q, &p) in logits.iter().zip(base) {
            if p > f32::NEG_INFINITY {
                let p = f64::from(p);
                kl += p.exp() * (p - f64::from(q) + norm);
            }
        }
        // What a file of log-probabilities has lost counts as its least.
        let (nll, nll_base) = (norm - f64::from(logits[next]), -f64::from(base[next].max(-LOST)));
        let diff = (-nll).exp() - (-nll_base).exp();
        self.nll.add(nll);
        self.nll_base.add(nll_base);
        self.nll_product += nll * nll_base;
        self.kl.add(kl);
        self.diff.add(diff);
        self.diff2.add(diff * diff);
        self.n_same_top += u64::from(greatest(logits) == greatest(base));
        self.kl_values.push(kl as f32);
        self.diff_values.push(diff as f32);
    }

    fn n(&self) -> f64 {
        self.kl_values.len() as f64
    }

    /// Mean of ln(PPL(Q) / PPL(P)), its standard error, and the correlation of both.
    fn ratio(&self) -> (f64, f64, f64) {
        let n = self.n();
        let ((q, q_error), (p, p_error)) = (self.nll.mean(n), self.nll_base.mean(n));
        let covariance = if n > 1.0 { (self.nll_product / n - q * p) / (n - 1.0) } else { 0.0 };
        let error = (q_error * q_error + p_error * p_error - 2.0 * covariance).max(0.0).sqrt();
        (q - p, error, covariance / (q_error * p_error))
    }

    /// Mean KL divergence, and its standard error.
    pub(crate) fn kl(&self) -> (f64, f64) {
        self.kl.mean(self.n())
    }

    /// Share of tokens whose most probable successor is the same, and its standard error.
    pub(crate) fn same_top(&self) -> (f64, f64) {
        let (n, share) = (self.n(), self.n_same_top as f64 / self.n());
        (share, if n > 1.0 { (share * (1.0 - share) / (n - 1.0)).sqrt() } else { 0.0 })
    }

    /// Perplexities of Q and P, with standard errors.
    pub(crate) fn perplexities(&self) -> [(f64, f64); 2] {
        [self.nll, self.nll_base].map(|sum| {
            let (mean, error) = sum.mean(self.n());
            (mean.exp(), mean.exp() * error)
        })
    }

    fn rms_diff(&self) -> (f64, f64) {
        let (mean, error) = self.diff2.mean(self.n());
        let rms = mean.sqrt();
        (rms, if rms > 0.0 { 0.5 / rms * error } else { 0.0 })
    }

    /// One line for the curious, after `n_chunk` chunks.
    pub(crate) fn line(&self, n_chunk: usize) -> String {
        let [(ppl, _), _] = self.perplexities();
        let ((ratio, ..), (kl, _), (same, _)) = (self.ratio(), self.kl(), self.same_top());
        format!(
            "[{n_chunk}] PPL {ppl:.4}, ln(PPL(Q)/PPL(base)) {ratio:.5}, KLD {kl:.5}, same top {:.2} %",
            100.0 * same
        )
    }

    /// All statistics, as llama-perplexity names them.
    pub(crate) fn report(&self) -> String {
        let [(ppl, ppl_error), (base, base_error)] = self.perplexities();
        let (ratio, ratio_error, correlation) = self.ratio();
        let covariance = correlation * ppl_error * base_error;
        let difference_error = (ppl_error * ppl_error + base_error * base_error - 2.0 * covariance).max(0.0).sqrt();
        let (kl, kl_error) = self.kl();
        let (diff, diff_error) = self.diff.mean(self.n());
        let ((rms, rms_error), (same, same_error)) = (self.rms_diff(), self.same_top());
        let mut text = format!(
            "====== Perplexity statistics ======\n\
             Mean PPL(Q)                   : {ppl:10.6} ± {ppl_error:10.6}\n\
             Mean PPL(base)                : {base:10.6} ± {base_error:10.6}\n\
             Cor(ln(PPL(Q)), ln(PPL(base))): {:6.2}%\n\
             Mean ln(PPL(Q)/PPL(base))     : {ratio:10.6} ± {ratio_error:10.6}\n\
             Mean PPL(Q)/PPL(base)         : {:10.6} ± {:10.6}\n\
             Mean PPL(Q)-PPL(base)         : {:10.6} ± {difference_error:10.6}\n\n\
             ====== KL divergence statistics ======\n\
             Mean    KLD: {kl:10.6} ± {kl_error:10.6}\n",
            100.0 * correlation,
            ratio.exp(),
            ratio.exp() * ratio_error,
            ppl - base,
        );
        let parts = [1.0, 0.999, 0.99, 0.95, 0.9, 0.5, 0.1, 0.05, 0.01, 0.001, 0.0];
        let names = ["Maximum", "99.9%  ", "99.0%  ", "95.0%  ", "90.0%  ", "Median ", "10.0%  ", " 5.0%  ", " 1.0%  "];
        let names = names.into_iter().chain([" 0.1%  ", "Minimum"]);
        let (kl_sorted, diff_sorted) = (sorted(&self.kl_values), sorted(&self.diff_values));
        for (name, part) in names.clone().zip(parts) {
            text += &format!("{name} KLD: {:10.6}\n", percentile(&kl_sorted, part));
        }
        text += "\n====== Token probability statistics ======\n";
        text += &format!("Mean    Δp: {:6.3} ± {:5.3} %\n", 100.0 * diff, 100.0 * diff_error);
        for (name, part) in names.zip(parts) {
            text += &format!("{name} Δp: {:6.3}%\n", 100.0 * percentile(&diff_sorted, part));
        }
        text += &format!("RMS Δp    : {:6.3} ± {:5.3} %\n", 100.0 * rms, 100.0 * rms_error);
        text + &format!("Same top p: {:6.3} ± {:5.3} %\n", 100.0 * same, 100.0 * same_error)
    }
}

/// -ln p of what a file of log-probabilities has lost.
const LOST: f32 = 16.0;

fn sorted(values: &[f32]) -> Vec<f32> {
    let mut values = values.to_vec();
    values.sort_unstable_by(f32::total_cmp);
    values
}

/// The value below which a part of the values lies, between neighbours by their distance.
fn percentile(sorted: &[f32], part: f64) -> f64 {
    let at = part * (sorted.len() - 1) as f64;
    let (i, rest) = (at as usize, at.fract());
    let next = sorted[(i + 1).min(sorted.len() - 1)];
    (1.0 - rest) * f64::from(sorted[i]) + rest * f64::from(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log_probs(logits: &[f32]) -> Vec<f32> {
        let norm = log_sum_exp(logits);
        logits.iter().map(|x| (f64::from(*x) - norm) as f32).collect()
    }

    #[test]
    fn a_model_does_not_differ_from_itself() {
        let mut divergence = Divergence::new(3);
        for logits in [[0.0, 1.0, 2.0], [3.0, -1.0, 0.5]] {
            divergence.add(&logits, &log_probs(&logits), 1);
        }
        let ((kl, _), (same, _), (rms, _)) = (divergence.kl(), divergence.same_top(), divergence.rms_diff());
        assert!(kl.abs() < 1e-6 && same == 1.0 && rms < 1e-6, "{kl} {same} {rms}");
        assert!(divergence.ratio().0.abs() < 1e-6);
    }

    #[test]
    fn the_divergence_of_two_coins_is_known() {
        // P = (1/2, 1/2), Q = (1/4, 3/4): KL = ln 2 - (ln 3) / 2
        let (p, q) = ([0.0, 0.0], [0.25f32.ln(), 0.75f32.ln()]);
        let mut divergence = Divergence::new(2);
        (0..10).for_each(|i| divergence.add(&q, &log_probs(&p), i % 2));
        let expected = 2f64.ln() - 3f64.ln() / 2.0;
        assert!((divergence.kl().0 - expected).abs() < 1e-6);
        let (rms, _) = divergence.rms_diff();
        assert!((rms - 0.25).abs() < 1e-6, "{rms}");
        assert_eq!(divergence.same_top().0, 0.0, "the first of equals is not the greater one");
        let [(ppl, _), (base, _)] = divergence.perplexities();
        assert!((base - 2.0).abs() < 1e-6 && (ppl - (16f64 / 3.0).sqrt()).abs() < 1e-5, "{ppl} {base}");
        assert!(divergence.report().contains("Same top p:  0.000"));
    }

    #[test]
    fn percentiles_lie_between_their_neighbours() {
        let values = [0.0, 1.0, 2.0, 4.0];
        let found: Vec<f64> = [0.0, 0.5, 0.9, 1.0].iter().map(|p| percentile(&values, *p)).collect();
        assert!((found[2] - 3.4).abs() < 1e-6, "{found:?}");
        assert_eq!([found[0], found[1], found[3]], [0.0, 1.5, 4.0]);
    }
}
