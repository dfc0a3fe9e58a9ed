//! Time to choose one token from a large vocabulary. `cargo bench --bench sampler`.
#![allow(clippy::print_stdout)]

use std::borrow::Cow;
use std::time::Instant;
use tealight::sample::{Mirostat, SampleOptions, Sampler, Tokens};

struct NoText;

impl Tokens for NoText {
    fn n_tokens(&self) -> u32 {
        0
    }

    fn piece(&self, _: u32) -> Cow<'_, [u8]> {
        Cow::Borrowed(b"")
    }

    fn encode(&self, _: &[u8]) -> Vec<u32> {
        Vec::new()
    }

    fn eog(&self) -> &[u32] {
        &[]
    }
}

fn main() {
    println!("{:>8} {:>32} {:>9}", "n_vocab", "chain", "us");
    for n_vocab in [32_000, 128_256, 262_144] {
        // about normal, as logits are
        let noise = |i: u64| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f32 / (1 << 24) as f32;
        let logits: Vec<f32> = (0..n_vocab).map(|i| (0..8).map(|j| noise(8 * i + j)).sum::<f32>() * 4.0).collect();
        let mut defaults = SampleOptions::default();
        defaults.seed = 1;
        let mut penalties = defaults.clone();
        (penalties.repeat_penalty, penalties.dry_multiplier) = (1.1, 0.8);
        let mut top_p = defaults.clone();
        (top_p.top_k, top_p.min_p) = (0, 0.0);
        let mut plain = top_p.clone();
        plain.top_p = 1.0;
        let mut mirostat = defaults.clone();
        mirostat.mirostat = Mirostat::V2;
        let chains = [
            ("defaults", defaults),
            ("and penalties, dry", penalties),
            ("top_p alone", top_p),
            ("draw from all", plain),
            ("mirostat 2", mirostat),
        ];
        for (name, options) in chains {
            let mut sampler = Sampler::new(&options, &NoText);
            let mut scratch = logits.clone();
            let mut best = f64::MAX;
            for _ in 0..30 {
                scratch.copy_from_slice(&logits);
                let start = Instant::now();
                let id = sampler.sample(&mut scratch);
                best = best.min(start.elapsed().as_secs_f64());
                sampler.accept(id);
            }
            println!("{n_vocab:>8} {name:>32} {:>9.0}", best * 1e6);
        }
    }
}
