//! The samplers that drop or reshape candidates without a memory. Definitions: llama.cpp
//! `src/llama-sampler.cpp` (October 2026).

use super::candidates::Candidates;
use super::rng::Mt19937;

/// Keeps logits above `max - n * std`; the others become minus infinity and stay.
pub(super) fn top_n_sigma(c: &mut Candidates<'_>, n: f32) {
    if n <= 0.0 || c.len() <= 1 {
        return;
    }
    let max = c.max();
    let finite = || |l: &f32| *l != f32::NEG_INFINITY;
    let logits = c.list().iter().map(|c| c.logit).filter(finite());
    let (count, sum) = logits.fold((0u32, 0.0f32), |(count, sum), l| (count + 1, sum + l));
    if count == 0 {
        return;
    }
    let mean = sum / count as f32;
    let logits = c.list().iter().map(|c| c.logit).filter(finite());
    let squares: f32 = logits.map(|l| (l - mean) * (l - mean)).sum();
    let least = max - n * (squares / count as f32).sqrt();
    c.change_all_in_order(|l| if l < least { f32::NEG_INFINITY } else { l });
}

/// Keeps the `k` likeliest, sorted.
pub(super) fn top_k(c: &mut Candidates<'_>, k: i32) {
    if let Ok(k @ 1..) = usize::try_from(k) {
        c.top_k(k.min(c.len()));
    }
}

/// Locally typical sampling (Meister et al., 2022): keeps the tokens whose surprise is nearest to the
/// entropy, until their probabilities pass `p`. Tokens of probability 0 add nothing to the entropy,
/// where llama.cpp gets NaN.
pub(super) fn typ_p(c: &mut Candidates<'_>, p: f32, min_keep: usize) {
    if p >= 1.0 {
        return;
    }
    c.sorted_softmax();
    let possible = c.list().iter().filter(|c| c.p > 0.0);
    let entropy = -possible.map(|c| c.p * c.p.ln()).sum::<f32>();
    c.keep_by_score(
        |c| (-c.p.ln() - entropy).abs(),
        |scored| {
            let mut sum = 0.0;
            let enough = scored.iter().enumerate().position(|(i, (_, c))| {
                sum += c.p;
                sum > p && i + 1 >= min_keep
            });
            enough.map_or(scored.len(), |i| i + 1)
        },
    );
}

/// Nucleus sampling (Holtzman et al., 2019): keeps the likeliest tokens whose probabilities reach `p`.
pub(super) fn top_p(c: &mut Candidates<'_>, p: f32, min_keep: usize) {
    if p >= 1.0 {
        return;
    }
    c.softmax();
    // most nuclei are small: sort no more than needed
    let (len, was_sorted) = (c.len(), c.is_sorted());
    let mut n_sorted = if was_sorted { len } else { len.min(256) };
    loop {
        if !was_sorted {
            c.sort_front(n_sorted);
        }
        let mut sum = 0.0f32;
        let front = c.list()[..n_sorted].iter().enumerate();
        let enough = front.map(|(i, c)| (i, c.p)).find(|&(i, p_i)| {
            sum += p_i;
            sum >= p && i + 1 >= min_keep
        });
        if let Some((last, _)) = enough {
            c.top_k_sorted(last + 1);
            return;
        }
        if n_sorted == len {
            return;
        }
        n_sorted = len.min(8 * n_sorted);
    }
}

/// Keeps tokens of at least `p` times the greatest probability.
pub(super) fn min_p(c: &mut Candidates<'_>, p: f32, min_keep: usize) {
    if p <= 0.0 || c.len() == 0 {
        return;
    }
    let least = c.max() + p.ln();
    let n_keep = c.list().iter().filter(|c| c.logit >= least).count();
    if n_keep >= min_keep.max(1) {
        c.retain(|c| c.logit >= least);
    } else {
        c.sort();
        c.truncate(min_keep.max(1));
    }
}

/// Exclusion of top choices: with `probability`, drops all tokens of at least `threshold` but the
/// least likely of them.
pub(super) fn xtc(c: &mut Candidates<'_>, probability: f32, threshold: f32, min_keep: usize, rng: &mut Mt19937) {
    if probability <= 0.0 || threshold > 0.5 || c.len() < 2 {
        return;
    }
    if rng.f32() > probability {
        return;
    }
    c.sorted_softmax();
    let n_above = c.list().iter().take_while(|c| c.p >= threshold).count();
    let n_drop = n_above.saturating_sub(1);
    if n_drop > 0 && c.len() - n_drop >= min_keep {
        c.drop_first(n_drop);
    }
}

/// Divides logits by `t`; at 0 and below all but the first of the greatest become minus infinity.
pub(super) fn temperature(c: &mut Candidates<'_>, t: f32) {
    if t > 0.0 {
        let max = c.max();
        // What would overflow is scaled by its distance from the greatest, which changes no probability.
        let zero = if max.is_finite() && (max / t).is_infinite() { max } else { 0.0 };
        return c.change_all_in_order(|l| (l - zero) / t);
    }
    let best = c.first_max();
    for (i, c) in c.list().iter_mut().enumerate() {
        if i != best {
            c.logit = f32::NEG_INFINITY;
        }
    }
}

/// Temperature between `t - range` and `t + range`, by the share of the greatest possible entropy to
/// the power of `exponent`.
pub(super) fn dynamic_temperature(c: &mut Candidates<'_>, t: f32, range: f32, exponent: f32) {
    if range <= 0.0 {
        return temperature(c, t);
    }
    if c.len() <= 1 {
        return;
    }
    let (low, high) = ((t - range).max(0.0), t + range);
    let max_entropy = -(1.0 / c.len() as f32).ln();
    c.sorted_softmax();
    let possible = c.list().iter().filter(|c| c.p > 0.0);
    let entropy = -possible.map(|c| c.p * c.p.ln()).sum::<f32>();
    temperature(c, low + (high - low) * (entropy / max_entropy).powf(exponent));
}
