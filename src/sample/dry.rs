//! DRY, "don't repeat yourself": penalises the tokens that would continue a sequence which the text
//! has already, the more the longer the sequence is. As llama.cpp's; the idea is by p-e-w (2024).

use super::Tokens;
use super::candidates::Candidates;
use std::collections::HashMap;

/// DRY with its breakers.
#[derive(Clone, Debug)]
pub(super) struct Dry {
    multiplier: f32,
    base: f32,
    allowed: usize,
    last_n: usize,
    /// For tokens that can end in the beginning of a breaker: the tokens of the rest.
    breakers: HashMap<u32, Vec<Vec<u32>>>,
    /// Lengths of the runs that repeat the end of the text.
    runs: Vec<usize>,
    longest: HashMap<u32, usize>,
}

/// Bytes of a breaker, and tokens of its rest, that count.
const BREAKER_BYTES: usize = 40;
const BREAKER_TOKENS: usize = 20;

impl Dry {
    /// `None` if these values switch DRY off; only otherwise is the vocabulary searched.
    pub(super) fn new(
        multiplier: f32,
        base: f32,
        allowed: u32,
        last_n: u32,
        breakers: &[String],
        tokens: &dyn Tokens,
    ) -> Option<Self> {
        if multiplier == 0.0 || base < 1.0 || last_n == 0 {
            return None;
        }
        Some(Self {
            multiplier,
            base,
            allowed: allowed as usize,
            last_n: last_n as usize,
            breakers: heads(breakers, tokens),
            runs: Vec::new(),
            longest: HashMap::new(),
        })
    }

    /// Tokens of the history that are looked at.
    pub(super) fn last_n(&self) -> usize {
        self.last_n
    }

    /// `history`: every token so far, or at least the last [`Dry::last_n`].
    pub(super) fn apply(&mut self, c: &mut Candidates<'_>, history: &[u32]) {
        let window = &history[history.len().saturating_sub(self.last_n)..];
        let n = window.len();
        if n <= self.allowed {
            return;
        }
        let back = |i: usize| window[n - 1 - i];
        let limit = self.repeat_limit(n, back);
        if limit < self.allowed {
            return;
        }
        repeated_runs(n, back, &mut self.runs);
        self.longest.clear();
        for k in 1..n {
            let run = self.runs[k].min(limit);
            if run >= self.allowed {
                let longest = self.longest.entry(back(k - 1)).or_default();
                *longest = run.max(*longest);
            }
        }
        let greatest = self.greatest_exponent();
        for (&id, &run) in &self.longest {
            let breaks_alone = self.breakers.get(&id).is_some_and(|tails| tails.iter().any(Vec::is_empty));
            if !breaks_alone {
                let exponent = (run - self.allowed).min(greatest);
                let penalty = f64::from(self.multiplier) * f64::from(self.base).powf(exponent as f64);
                c.change(id, |l| l - penalty as f32);
            }
        }
    }

    /// The greatest exponent whose power is a finite f32.
    fn greatest_exponent(&self) -> usize {
        if self.base <= 1.000_001 {
            return usize::MAX;
        }
        (f32::MAX.ln() / self.base.ln()) as usize
    }

    /// How many tokens from the end on lie behind the last breaker.
    fn repeat_limit(&self, n: usize, back: impl Fn(usize) -> u32) -> usize {
        for i in 0..n {
            let tails = self.breakers.get(&back(i)).into_iter().flatten();
            let here = tails.filter(|tail| tail.len() <= i && tail.iter().zip(1..).all(|(&t, j)| back(i - j) == t));
            if let Some(longest) = here.map(Vec::len).max() {
                return i - longest;
            }
        }
        n
    }
}

/// `runs[k]`: for how many j from 0 on token j equals token j + k, counted from the end. By the
/// Z-algorithm, in linear time; `runs[0]` is not used.
fn repeated_runs(n: usize, back: impl Fn(usize) -> u32, runs: &mut Vec<usize>) {
    runs.clear();
    runs.resize(n, 0);
    let (mut start, mut end) = (0, 0);
    for k in 1..n {
        let mut run = if k < end { runs[k - start].min(end - k) } else { 0 };
        while k + run < n && back(run) == back(k + run) {
            run += 1;
        }
        if k + run > end {
            (start, end) = (k, k + run);
        }
        runs[k] = run;
    }
}

/// Every token in which a breaker lies whole (an empty tail), or at whose end one begins (the rest of
/// it as tokens).
fn heads(breakers: &[String], tokens: &dyn Tokens) -> HashMap<u32, Vec<Vec<u32>>> {
    let mut heads: HashMap<u32, Vec<Vec<u32>>> = HashMap::new();
    let cut = |b: &'_ String| b.as_bytes()[..b.len().min(BREAKER_BYTES)].to_vec();
    let breakers: Vec<Vec<u8>> = breakers.iter().filter(|b| !b.is_empty()).map(cut).collect();
    // tails[i][m]: the tokens of what follows m bytes of breaker i
    let mut tails: Vec<Vec<Option<Vec<u32>>>> = breakers.iter().map(|b| vec![None; b.len()]).collect();
    for id in 0..tokens.n_tokens() {
        let piece = tokens.piece(id);
        for (breaker, tails) in breakers.iter().zip(&mut tails) {
            if piece.windows(breaker.len()).any(|w| w == breaker) {
                add(&mut heads, id, &[]);
                continue;
            }
            for begun in 1..breaker.len().min(piece.len() + 1) {
                if piece.ends_with(&breaker[..begun]) {
                    let tail = tails[begun].get_or_insert_with(|| {
                        let mut tail = tokens.encode(&breaker[begun..]);
                        tail.truncate(BREAKER_TOKENS);
                        tail
                    });
                    add(&mut heads, id, tail);
                }
            }
        }
    }
    heads
}

fn add(heads: &mut HashMap<u32, Vec<Vec<u32>>>, id: u32, tail: &[u32]) {
    let tails = heads.entry(id).or_default();
    if !tails.iter().any(|t| t == tail) {
        tails.push(tail.to_vec());
    }
}
