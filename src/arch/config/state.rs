//! The numbers of layers that keep a state.

use super::keys::Keys;
use super::{MAX_HEADS, MAX_SIZE};
use crate::arch::family::{Family, Mixer};
use crate::error::Result;

/// Numbers of a layer's matrices at most, beyond any model: a small file could claim more than a machine holds.
const MAX_NUMBERS: u64 = 1 << 26;

/// Longest kernel of a convolution along a sequence.
const MAX_KERNEL: u32 = 64;

/// Sizes of layers that keep a state; 0 where the family has no such layers.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct StateConfig {
    /// Inputs that a convolution sees.
    pub kernel: u32,
    /// Width of the inner stream: all (value) heads.
    pub inner: u32,
    /// Numbers of a state per channel; the width of a head of a delta rule.
    pub state: u32,
    /// Heads; in Mamba 1 the rank of the step sizes.
    pub heads: u32,
    /// Groups that share keys and queries.
    pub groups: u32,
    /// Are Mamba 1's step sizes, inputs and outputs normalised without weights?
    pub bare_norms: bool,
    /// Which layers keep a state, where the file says it layer by layer.
    pub layers: Option<Vec<bool>>,
    /// Otherwise all but the last of each so many.
    pub interval: u32,
}

impl StateConfig {
    pub(super) fn read(keys: &Keys<'_>, family: &Family, n_layer: u32, n_head: u32) -> Result<Self> {
        let mut config = Self { groups: 1, interval: 4, ..Self::default() };
        let mixers = [Some(family.mixer), family.other].into_iter().flatten();
        for mixer in mixers {
            match mixer {
                Mixer::Attention => {}
                Mixer::ShortConv => config.kernel = keys.required("shortconv.l_cache", 2..=MAX_KERNEL)?,
                Mixer::KeyDelta => {
                    config.kernel = keys.required("ssm.conv_kernel", 2..=MAX_KERNEL)?;
                    config.state = keys.required("kda.head_dim", 1..=MAX_SIZE / n_head.max(1))?;
                    (config.heads, config.groups) = (n_head, n_head);
                    config.inner = n_head * config.state;
                }
                Mixer::Mamba1 | Mixer::Mamba2 | Mixer::Delta => config.read_ssm(keys, mixer)?,
            }
        }
        if u64::from(config.inner) * u64::from(config.state) > MAX_NUMBERS {
            let name = keys.name(if family.other == Some(Mixer::KeyDelta) { "kda.head_dim" } else { "ssm.state_size" });
            let most = MAX_NUMBERS / u64::from(config.inner.max(1));
            return Err(keys.meta.key_error(&name, config.state, format!("at most {most}")));
        }
        let name = keys.name("attention.recurrent_layers");
        config.layers = match keys.meta.value(&name) {
            None => None,
            Some(crate::gguf::Value::Array(array)) => match array.bools().map(Iterator::collect::<Vec<bool>>) {
                Some(list) if list.len() == n_layer as usize => Some(list),
                _ => {
                    let found = format!("{} values", array.len());
                    return Err(keys.meta.key_error(&name, found, format!("{n_layer} booleans")));
                }
            },
            Some(_) => return Err(keys.meta.key_error(&name, "another value", format!("{n_layer} booleans"))),
        };
        config.interval = keys.size("full_attention_interval", 1..=u32::MAX)?.unwrap_or(config.interval);
        Ok(config)
    }

    fn read_ssm(&mut self, keys: &Keys<'_>, mixer: Mixer) -> Result<()> {
        self.kernel = keys.required("ssm.conv_kernel", 2..=MAX_KERNEL)?;
        self.inner = keys.required("ssm.inner_size", 1..=MAX_SIZE)?;
        self.state = keys.required("ssm.state_size", 1..=MAX_SIZE)?;
        self.heads = keys.required("ssm.time_step_rank", 1..=MAX_SIZE)?;
        if mixer == Mixer::Mamba1 {
            self.bare_norms = keys.meta.bool(&keys.name("ssm.dt_b_c_rms"))?.unwrap_or(false);
            return Ok(());
        }
        self.groups = keys.required("ssm.group_count", 1..=MAX_HEADS)?;
        let refuse =
            |key: &str, found: u32, expected: String| Err(keys.meta.key_error(&keys.name(key), found, expected));
        if !self.heads.is_multiple_of(self.groups) {
            return refuse("ssm.group_count", self.groups, format!("a divisor of the {} heads", self.heads));
        }
        if u64::from(self.groups) * u64::from(self.state) > u64::from(MAX_SIZE) {
            return refuse("ssm.state_size", self.state, format!("at most {}", MAX_SIZE / self.groups));
        }
        let fits = match mixer {
            Mixer::Delta => u64::from(self.inner) == u64::from(self.heads) * u64::from(self.state),
            _ => self.inner.is_multiple_of(self.heads),
        };
        if !fits {
            return refuse("ssm.inner_size", self.inner, format!("{} heads of equal width", self.heads));
        }
        Ok(())
    }
}
