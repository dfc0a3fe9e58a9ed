//! Reading the keys of an architecture, each within its range.

use std::ops::RangeInclusive;

use crate::error::{Error, ErrorKind, Result};
use crate::gguf::{Metadata, Value};

/// Reads keys of one architecture and checks their ranges.
pub(super) struct Keys<'a> {
    pub(super) meta: Metadata<'a>,
    pub(super) arch: &'a str,
}

impl Keys<'_> {
    pub(super) fn name(&self, key: &str) -> String {
        format!("{}.{key}", self.arch)
    }

    pub(super) fn missing(&self, name: &str) -> Error {
        let text = format!("key `{name}` is missing");
        Error::new(ErrorKind::Model, text)
            .in_file(self.meta.path())
            .with_hint("convert the model again with a current converter")
    }

    pub(super) fn size(&self, key: &str, range: RangeInclusive<u32>) -> Result<Option<u32>> {
        let name = self.name(key);
        match self.meta.u32(&name)? {
            Some(n) if !range.contains(&n) => {
                Err(self.meta.key_error(&name, n, format!("{} to {}", range.start(), range.end())))
            }
            n => Ok(n),
        }
    }

    pub(super) fn required(&self, key: &str, range: RangeInclusive<u32>) -> Result<u32> {
        self.size(key, range)?.ok_or_else(|| self.missing(&self.name(key)))
    }

    /// A finite number above zero; files write 0 for "not used".
    pub(super) fn positive(&self, key: &str) -> Result<Option<f32>> {
        let name = self.name(key);
        match self.meta.f32(&name)? {
            Some(0.0) => Ok(None),
            Some(x) if !(x.is_finite() && x > 0.0) => Err(self.meta.key_error(&name, x, "a finite number above 0")),
            x => Ok(x),
        }
    }

    /// A finite number.
    pub(super) fn finite(&self, key: &str) -> Result<Option<f32>> {
        let name = self.name(key);
        match self.meta.f32(&name)? {
            Some(x) if !x.is_finite() => Err(self.meta.key_error(&name, x, "a finite number")),
            x => Ok(x),
        }
    }

    /// As `positive`, but 0 is an error.
    pub(super) fn above_zero(&self, key: &str) -> Result<Option<f32>> {
        let name = self.name(key);
        match (self.meta.f32(&name)?, self.positive(key)?) {
            (Some(x), None) => Err(self.meta.key_error(&name, x, "a finite number above 0")),
            (_, x) => Ok(x),
        }
    }

    /// A number for all layers, or an array with one per layer.
    pub(super) fn per_layer(&self, key: &str, n_layer: u32, range: RangeInclusive<u32>) -> Result<Option<Vec<u32>>> {
        let name = self.name(key);
        let Some(Value::Array(array)) = self.meta.value(&name) else {
            return Ok(self.size(key, range)?.map(|n| vec![n; n_layer as usize]));
        };
        let expected = format!("{n_layer} integers from {} to {}", range.start(), range.end());
        let list: Option<Vec<u32>> = array
            .integers()
            .and_then(|list| list.map(|n| u32::try_from(n).ok().filter(|n| range.contains(n))).collect());
        match list {
            Some(list) if list.len() == n_layer as usize => Ok(Some(list)),
            Some(list) => Err(self.meta.key_error(&name, format!("{} values", list.len()), expected)),
            None => Err(self.meta.key_error(&name, "other values", expected)),
        }
    }

    /// A number for each layer, or one for all, of those that `fits` accepts.
    pub(super) fn floats_of_layers(&self, name: &str, n_layer: u32, fits: fn(f32) -> bool) -> Result<Option<Vec<f32>>> {
        let expected = || format!("{n_layer} finite numbers");
        let list: Vec<f32> = match self.meta.value(name) {
            Some(Value::Array(array)) => match array.floats() {
                Some(list) => list.collect(),
                None => return Err(self.meta.key_error(name, "other values", expected())),
            },
            _ => match self.meta.f32(name)? {
                Some(x) => vec![x; n_layer as usize],
                None => return Ok(None),
            },
        };
        if list.len() != n_layer as usize || !list.iter().all(|x| fits(*x)) {
            return Err(self.meta.key_error(name, format!("{} values", list.len()), expected()));
        }
        Ok(Some(list))
    }
}
