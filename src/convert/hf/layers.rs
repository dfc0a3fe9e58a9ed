//! What single layers have of their own.

use super::{Field, Folder};
use crate::error::Result;

/// The heads of a layer: the width of one, and those of keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::convert) struct Heads {
    pub(in crate::convert) dim: u32,
    pub(in crate::convert) kv: u32,
}

impl Folder {
    /// The heads of each layer, where layers without a window have their own. Published folders of Gemma 4 name those
    /// (`global_head_dim`); transformers since 5.15 lists what single layers have (`per_layer_config`).
    ///
    /// # Errors
    /// [`crate::ErrorKind::Model`] naming a key that is missing, or that concerns something else than heads.
    pub(in crate::convert) fn layer_heads(&self, windowed: &[bool]) -> Result<Vec<Heads>> {
        let all = Heads { dim: self.need(Field::HeadDim)?, kv: self.need(Field::KvHeads)? };
        let mut layers = vec![all; windowed.len()];
        let Some(own) = self.config.section(self.key(Field::OfLayers))? else {
            let dim = self.uint(Field::FullHeadDim)?.unwrap_or(all.dim);
            let kv = match self.flag(Field::KeysAreValues)? {
                Some(true) => self.uint(Field::FullKvHeads)?.unwrap_or(all.kv),
                _ => all.kv,
            };
            for (layer, _) in layers.iter_mut().zip(windowed).filter(|(_, windowed)| !**windowed) {
                *layer = Heads { dim, kv };
            }
            return Ok(layers);
        };
        for number in own.keys() {
            let Some(layer) = number.parse().ok().and_then(|i: usize| layers.get_mut(i)) else {
                return Err(own.error(number, "the name of no layer", &format!("one below {}", windowed.len())));
            };
            let Some(section) = own.section(number)? else { continue };
            for key in section.keys() {
                let (slot, value) = match key {
                    "head_dim" => (&mut layer.dim, section.uint(key)?),
                    "num_key_value_heads" => (&mut layer.kv, section.uint(key)?),
                    other => {
                        let found = section.value(other).map_or("null".to_owned(), ToString::to_string);
                        return Err(section.error(other, found, "nothing but head_dim and num_key_value_heads"));
                    }
                };
                *slot = value.unwrap_or(*slot);
            }
        }
        Ok(layers)
    }

    fn need(&self, field: Field) -> Result<u32> {
        self.uint(field)?.ok_or_else(|| self.error(field, "nothing", "a whole number"))
    }

    /// The width of each layer's feed-forward part, where it is not one for all.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Model`] for a list of another length.
    pub(in crate::convert) fn layer_widths(&self, n_layer: u32) -> Result<Option<Vec<u32>>> {
        let key = self.key(Field::Ff);
        if self.config.value(key).is_some_and(serde_json::Value::is_array) {
            let list = self.config.uints(key)?;
            if list.len() != n_layer as usize {
                return Err(self.error(Field::Ff, format!("{} widths", list.len()), "one for each layer"));
            }
            return Ok(Some(list));
        }
        if self.flag(Field::DoubleWide)? != Some(true) {
            return Ok(None);
        }
        let (width, shared) = (self.need(Field::Ff)?, self.uint(Field::SharedKv)?.unwrap_or(0));
        let Some(double) = width.checked_mul(2) else {
            return Err(self.error(Field::Ff, width, "a width that can be doubled"));
        };
        let first = n_layer.saturating_sub(shared);
        // Where all layers are said to share, transformers doubles none.
        Ok(Some((0..n_layer).map(|i| if first > 0 && i >= first { double } else { width }).collect()))
    }

    /// The share of each layer's gates that are 0.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Model`] for shares that are none, or another count of them.
    pub(in crate::convert) fn sparsity(&self, n_layer: u32) -> Result<Vec<f64>> {
        let (field, n) = (Field::Sparsity, n_layer as usize);
        let shares = match self.config.value(self.key(field)) {
            Some(value) if value.is_number() => vec![self.float(field)?.unwrap_or(0.0); n],
            Some(_) => self.numbers(field)?.unwrap_or_default(),
            // Transformers `configuration_gemma3n.py`.
            None => (0..n).map(|i| if n > 10 && i < 10 { 0.95 } else { 0.0 }).collect(),
        };
        let fits = shares.len() == n && shares.iter().all(|x| (0.0..1.0).contains(x));
        let expected = || format!("{n} shares of 0 up to 1");
        fits.then_some(shares).ok_or_else(|| self.error(field, self.json(field).unwrap_or_default(), &expected()))
    }
}
