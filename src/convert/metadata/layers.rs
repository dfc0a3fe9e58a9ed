//! Keys of what layers have that differ from one another.

use super::Writer;
use crate::convert::hf::Field;
use crate::convert::names::LayerSizes;
use crate::convert::normal::quantile;
use crate::error::Result;
use crate::gguf::KeyValue;

/// The divisor of a pair that does not rotate. Source: llama.cpp's converter; no position turns it by a visible angle.
const STILL: f32 = 1e30;

impl Writer<'_> {
    pub(super) fn layer_sizes(&mut self) -> Result<()> {
        if self.family.layer_sizes == LayerSizes::Equal {
            return Ok(());
        }
        match self.folder.layer_widths(self.facts.n_layer)? {
            Some(widths) => self.put("feed_forward_length", integers(&widths)),
            None => match self.folder.uint(Field::Ff)? {
                Some(width) => self.put("feed_forward_length", width),
                None => return Err(self.folder.error(Field::Ff, "nothing", "a width")),
            },
        }
        match self.family.layer_sizes {
            LayerSizes::Gates => self.gates(),
            _ => self.heads(),
        }
    }

    /// Standard deviations above the mean below which gates are 0. The original takes shares in single precision.
    #[expect(clippy::cast_possible_truncation, reason = "f64 to f32 rounds")]
    fn gates(&mut self) -> Result<()> {
        let shares = self.folder.sparsity(self.facts.n_layer)?;
        let scales: Vec<f32> = shares.iter().map(|share| quantile(f64::from(*share as f32)) as f32).collect();
        self.put("activation_sparsity_scale", scales);
        Ok(())
    }

    fn heads(&mut self) -> Result<()> {
        let Some(heads) = &self.facts.layer_heads else { return Ok(()) };
        let (dim, windowed) = (self.facts.head_dim, heads.windowed_dim);
        for name in ["attention.key_length", "attention.value_length"] {
            self.put(name, dim);
            self.put(&format!("{name}_swa"), windowed);
        }
        self.put("rope.dimension_count_swa", heads.windowed_rot);
        match &heads.kv[..] {
            [first, rest @ ..] if rest.iter().all(|n| n == first) => self.put("attention.head_count_kv", *first),
            kv => self.put("attention.head_count_kv", integers(kv)),
        }
        self.frequencies()
    }

    /// Divisors of frequencies: those of `proportional` turn over the whole head, but the first pairs alone. Source:
    /// transformers `modeling_rope_utils.py`, `_compute_proportional_rope_parameters`.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of half a head; f64 to f32")]
    fn frequencies(&mut self) -> Result<()> {
        let (facts, rope) = (self.facts, &self.facts.rope);
        let (pairs, mut turning, mut divisor) = (facts.n_rot / 2, facts.n_rot / 2, 1.0);
        if rope.kind == "proportional" {
            turning = (f64::from(facts.head_dim) * rope.partial / 2.0 + 1e-6) as u32;
            if let Some(params) = rope.params.as_ref().filter(|p| p.value("factor").is_some()) {
                divisor = super::factor(params)? as f32;
            }
        }
        self.computed("rope_freqs.weight", (0..pairs).map(|i| if i < turning { divisor } else { STILL }).collect());
        Ok(())
    }
}

fn integers(list: &[u32]) -> KeyValue {
    list.iter().map(|n| i32::try_from(*n).unwrap_or(i32::MAX)).collect::<Vec<i32>>().into()
}
