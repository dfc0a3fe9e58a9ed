//! The chain: which samplers run, in which order, on what history.

use super::candidates::{Candidates, Storage};
use super::dry::Dry;
use super::mirostat::{AdaptiveP, MirostatState, draw};
use super::options::{Mirostat, RANDOM_SEED, SampleOptions, SamplerName};
use super::penalties::Penalties;
use super::rng::{Mt19937, random_seed};
use super::{Tokens, filters};

/// Chooses tokens of one sequence.
#[derive(Clone, Debug)]
pub struct Sampler {
    seed: u32,
    bias: Vec<(u32, f32)>,
    links: Vec<Link>,
    last: Last,
    /// The end of the sequence, at least [`Sampler::n_history`] tokens once there are so many.
    history: Vec<u32>,
    /// Tokens that some link looks back at.
    n_history: usize,
    storage: Storage,
}

/// What changes or drops candidates.
#[derive(Clone, Debug)]
enum Link {
    Penalties { window: usize, penalties: Penalties },
    Dry(Box<Dry>),
    TopNSigma(f32),
    TopK(i32),
    TypP(f32, usize),
    TopP(f32, usize),
    MinP(f32, usize),
    Xtc { probability: f32, threshold: f32, min_keep: usize, rng: Box<Mt19937> },
    Temperature { t: f32, range: f32, exponent: f32 },
}

/// What chooses one.
#[derive(Clone, Debug)]
enum Last {
    Draw(Box<Mt19937>),
    AdaptiveP(Box<AdaptiveP>),
    MirostatV1(Box<MirostatState>),
    MirostatV2(Box<MirostatState>),
}

impl Sampler {
    /// The chain of `options` for a vocabulary.
    pub fn new(options: &SampleOptions, tokens: &dyn Tokens) -> Self {
        let seed = if options.seed == RANDOM_SEED { random_seed() } else { options.seed };
        let mut bias = options.logit_bias.clone();
        if options.ignore_eos {
            bias.extend(tokens.eog().iter().map(|&id| (id, f32::NEG_INFINITY)));
        }
        let (tau, eta) = (options.mirostat_tau, options.mirostat_eta);
        let plain = |t| vec![Link::Temperature { t, range: 0.0, exponent: 1.0 }];
        let (links, last) = match options.mirostat {
            Mirostat::V1 => (plain(options.temp), Last::MirostatV1(Box::new(MirostatState::new(tau, eta, seed)))),
            Mirostat::V2 => (plain(options.temp), Last::MirostatV2(Box::new(MirostatState::new(tau, eta, seed)))),
            Mirostat::Off => (
                options.samplers.iter().filter_map(|&name| link(name, options, seed, tokens)).collect(),
                last(options, seed),
            ),
        };
        let n_history = links.iter().map(Link::n_history).max().unwrap_or(0);
        Self { seed, bias, links, last, history: Vec::new(), n_history, storage: Storage::default() }
    }

    /// The seed of the random numbers; where a random one was asked for, the one that was taken.
    pub fn seed(&self) -> u32 {
        self.seed
    }

    #[cfg(test)]
    pub(super) fn history_len(&self) -> usize {
        self.history.len()
    }

    /// Tells a token of the sequence: of the prompt, or chosen.
    pub fn accept(&mut self, id: u32) {
        for link in &mut self.links {
            if let Link::Penalties { window, penalties } = link {
                let leaves = self.history.len().checked_sub(*window).map(|i| self.history[i]);
                penalties.accept(id, leaves);
            }
        }
        if let Last::AdaptiveP(adaptive) = &mut self.last {
            adaptive.accept(id);
        }
        if self.n_history > 0 {
            self.history.push(id);
            // what is too old goes in large pieces: one move for as many tokens
            if self.history.len() / 2 >= self.n_history.max(512) {
                self.history.drain(..self.history.len() - self.n_history);
            }
        }
    }

    /// Chooses a token; its id is to be told to [`Sampler::accept`] if it becomes part of the sequence.
    /// `logits` is `[n_vocab]` and is scratch afterwards. A logit that is no number counts as minus
    /// infinity.
    ///
    /// # Panics
    /// There are no logits.
    pub fn sample(&mut self, logits: &mut [f32]) -> u32 {
        assert!(!logits.is_empty(), "a vocabulary has tokens");
        self.add_biases(logits);
        let n_vocab = logits.len();
        choose(&mut self.links, &mut self.last, Candidates::new(logits, &mut self.storage), &self.history, n_vocab)
    }

    /// Chooses as [`Sampler::sample`] does, among the tokens `allowed` alone, which ascend: they are all the candidates
    /// that the chain sees, so that their distribution is that of the model, given that one of them comes. `None` where
    /// every one of them has a logit of minus infinity, or none is a token.
    pub fn sample_allowed(&mut self, logits: &mut [f32], allowed: &[u32]) -> Option<u32> {
        self.add_biases(logits);
        let logit = |id: &u32| logits.get(*id as usize).map(|logit| (*id, *logit));
        let list = allowed.iter().filter_map(logit).filter(|(_, logit)| *logit > f32::NEG_INFINITY);
        let mut candidates = Candidates::of(list, &mut self.storage);
        if candidates.list().is_empty() {
            return None;
        }
        Some(choose(&mut self.links, &mut self.last, candidates, &self.history, logits.len()))
    }

    fn add_biases(&self, logits: &mut [f32]) {
        for &(id, bias) in &self.bias {
            if let Some(logit) = logits.get_mut(id as usize) {
                *logit += bias;
            }
        }
        for l in logits.iter_mut() {
            *l = if l.is_nan() { f32::NEG_INFINITY } else { l.min(f32::MAX) };
        }
    }

    /// How many of the greatest logits are all that [`Sampler::sample`] goes by, so that [`Sampler::sample_best`] will
    /// do; `None` where it may go by any of them.
    pub fn n_best(&self) -> Option<usize> {
        // A token that is forbidden gives way to the next one; any other bias may lift a logit from anywhere.
        if self.bias.iter().any(|(_, bias)| *bias != f32::NEG_INFINITY) {
            return None;
        }
        let keeps = if self.is_greedy() { Some(1) } else { self.links.iter().find(|l| l.is_active())?.n_kept() };
        keeps.map(|k| k + self.bias.len())
    }

    /// Is the first of the greatest logits chosen, whatever the others are?
    fn is_greedy(&self) -> bool {
        let is_temperature = |l: &Link| matches!(l, Link::Temperature { .. });
        let is_zero = |l: &Link| matches!(l, Link::Temperature { t, range, .. } if *t <= 0.0 && *range <= 0.0);
        let keeps_first = |l: &Link| {
            is_temperature(l)
                || !l.is_active()
                || matches!(l, Link::TopK(_) | Link::TopP(..) | Link::MinP(..) | Link::TopNSigma(_))
        };
        // Another temperature before it might round two logits to one.
        let first = self.links.iter().find(|l| is_temperature(l));
        matches!(self.last, Last::Draw(_)) && first.is_some_and(is_zero) && self.links.iter().all(keeps_first)
    }

    /// Chooses as [`Sampler::sample`] does from all logits of a vocabulary of `n_vocab`, given the
    /// [`Sampler::n_best`] greatest, each behind its id: greatest first, the lower id first among equals. They are
    /// finite.
    ///
    /// # Panics
    /// There are fewer, or [`Sampler::n_best`] is `None`.
    pub fn sample_best(&mut self, best: &[(u32, f32)], n_vocab: usize) -> u32 {
        let n_best = self.n_best().expect("the chain goes by the greatest");
        assert!(best.len() >= n_best, "as many as the chain goes by");
        let allowed = best.iter().filter(|(id, _)| !self.bias.iter().any(|(forbidden, _)| forbidden == id));
        let list = allowed.copied().take(n_best - self.bias.len());
        choose(&mut self.links, &mut self.last, Candidates::of_best(list, &mut self.storage), &self.history, n_vocab)
    }
}

/// Runs the chain.
fn choose(links: &mut [Link], last: &mut Last, mut c: Candidates<'_>, history: &[u32], n_vocab: usize) -> u32 {
    for link in links {
        link.apply(&mut c, history);
    }
    let chosen = match last {
        Last::Draw(rng) => draw(&mut c, rng),
        Last::AdaptiveP(adaptive) => adaptive.choose(&mut c),
        Last::MirostatV1(mirostat) => mirostat.v1(&mut c, n_vocab),
        Last::MirostatV2(mirostat) => mirostat.v2(&mut c),
    };
    c.list()[chosen].id
}

fn last(options: &SampleOptions, seed: u32) -> Last {
    if options.samplers.contains(&SamplerName::AdaptiveP) {
        return Last::AdaptiveP(Box::new(AdaptiveP::new(options.adaptive_target, options.adaptive_decay, seed)));
    }
    Last::Draw(Box::new(Mt19937::new(seed)))
}

/// The link of a name, if the options switch it on.
fn link(name: SamplerName, o: &SampleOptions, seed: u32, tokens: &dyn Tokens) -> Option<Link> {
    Some(match name {
        SamplerName::Penalties => {
            let penalties = Penalties::new(o.repeat_penalty, o.frequency_penalty, o.presence_penalty);
            let window = usize::try_from(o.repeat_last_n).unwrap_or(usize::MAX);
            if window == 0 || !penalties.is_active() {
                return None;
            }
            Link::Penalties { window, penalties }
        }
        SamplerName::Dry => {
            let breakers = &o.dry_breakers;
            let dry = Dry::new(o.dry_multiplier, o.dry_base, o.dry_allowed_length, o.dry_last_n, breakers, tokens);
            Link::Dry(Box::new(dry?))
        }
        SamplerName::TopNSigma => Link::TopNSigma(o.top_n_sigma),
        SamplerName::TopK => Link::TopK(o.top_k),
        SamplerName::TypP => Link::TypP(o.typical, o.min_keep),
        SamplerName::TopP => Link::TopP(o.top_p, o.min_keep),
        SamplerName::MinP => Link::MinP(o.min_p, o.min_keep),
        SamplerName::Xtc => Link::Xtc {
            probability: o.xtc_probability,
            threshold: o.xtc_threshold,
            min_keep: o.min_keep,
            rng: Box::new(Mt19937::new(seed)),
        },
        SamplerName::Temperature => {
            Link::Temperature { t: o.temp, range: o.dynatemp_range, exponent: o.dynatemp_exponent }
        }
        SamplerName::AdaptiveP => return None,
    })
}

impl Link {
    /// Tokens of the history that the link looks back at. An unbounded window of penalties needs none:
    /// nothing leaves it.
    fn n_history(&self) -> usize {
        match self {
            Self::Penalties { window: usize::MAX, .. } => 0,
            Self::Penalties { window, .. } => *window,
            Self::Dry(dry) => dry.last_n(),
            _ => 0,
        }
    }

    /// May it change anything?
    fn is_active(&self) -> bool {
        match self {
            Self::Penalties { .. } | Self::Dry(_) | Self::Temperature { .. } => true,
            Self::TopNSigma(n) => *n > 0.0,
            Self::TopK(k) => *k > 0,
            Self::TypP(p, _) | Self::TopP(p, _) => *p < 1.0,
            Self::MinP(p, _) => *p > 0.0,
            Self::Xtc { probability, threshold, .. } => *probability > 0.0 && *threshold <= 0.5,
        }
    }

    /// How many of the greatest logits it goes by, and leaves in the running.
    fn n_kept(&self) -> Option<usize> {
        match self {
            Self::TopK(k) => usize::try_from(*k).ok(),
            _ => None,
        }
    }

    fn apply(&mut self, c: &mut Candidates<'_>, history: &[u32]) {
        match self {
            Self::Penalties { penalties, .. } => penalties.apply(c),
            Self::Dry(dry) => dry.apply(c, history),
            Self::TopNSigma(n) => filters::top_n_sigma(c, *n),
            Self::TopK(k) => filters::top_k(c, *k),
            Self::TypP(p, min_keep) => filters::typ_p(c, *p, *min_keep),
            Self::TopP(p, min_keep) => filters::top_p(c, *p, *min_keep),
            Self::MinP(p, min_keep) => filters::min_p(c, *p, *min_keep),
            Self::Xtc { probability, threshold, min_keep, rng } => {
                filters::xtc(c, *probability, *threshold, *min_keep, rng);
            }
            Self::Temperature { t, range, exponent } => filters::dynamic_temperature(c, *t, *range, *exponent),
        }
    }
}
