//! Random numbers: the 32-bit Mersenne Twister (Matsumoto and Nishimura, 1998), and real numbers from
//! it in the way of libstdc++, so that a seed gives the same tokens as llama.cpp on Linux.

/// MT19937.
#[derive(Clone)]
pub(super) struct Mt19937 {
    state: [u32; N],
    next: usize,
}

const N: usize = 624;
const M: usize = 397;

impl Mt19937 {
    pub(super) fn new(seed: u32) -> Self {
        let mut state = [seed; N];
        for i in 1..N {
            let last = state[i - 1];
            state[i] = 1_812_433_253u32.wrapping_mul(last ^ (last >> 30)).wrapping_add(i as u32);
        }
        Self { state, next: N }
    }

    fn refill(&mut self) {
        for i in 0..N {
            let y = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % N] & 0x7fff_ffff);
            let twist = if y & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[i] = self.state[(i + M) % N] ^ (y >> 1) ^ twist;
        }
        self.next = 0;
    }

    pub(super) fn bits(&mut self) -> u32 {
        if self.next == N {
            self.refill();
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// Uniform in 0..1, from two outputs.
    pub(super) fn f64(&mut self) -> f64 {
        let low = f64::from(self.bits());
        let sum = low + f64::from(self.bits()) * 4_294_967_296.0;
        (sum / 18_446_744_073_709_551_616.0).min(1.0f64.next_down())
    }

    /// Uniform in 0..1, from one output.
    pub(super) fn f32(&mut self) -> f32 {
        (self.bits() as f32 / 4_294_967_296.0).min(1.0f32.next_down())
    }

    /// An index with probability in proportion to its weight. Without a choice no number is drawn.
    pub(super) fn discrete(&mut self, weights: impl Iterator<Item = f32> + Clone) -> usize {
        let n = weights.clone().count();
        if n < 2 {
            return 0;
        }
        let sum: f64 = weights.clone().map(f64::from).sum();
        let u = self.f64();
        let mut cumulative = 0.0;
        for (i, w) in weights.enumerate() {
            cumulative += f64::from(w) / sum;
            if cumulative >= u {
                return i;
            }
        }
        n - 1
    }
}

impl std::fmt::Debug for Mt19937 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mt19937").field("next", &self.next).finish_non_exhaustive()
    }
}

/// A seed from the operating system, through the keys of std's hash tables.
pub(super) fn random_seed() -> u32 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    let bits = RandomState::new().build_hasher().finish();
    let seed = (bits ^ bits >> 32) as u32;
    // the seed that means "random" would not be reproducible
    if seed == super::RANDOM_SEED { 0 } else { seed }
}
