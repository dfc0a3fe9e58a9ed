//! Leaving out layers: those behind move up, and what the metadata say layer by layer follows.

use super::metadata::{arch, n_layer};
use crate::convert::Source;
use crate::error::{Error, ErrorKind, Result};
use crate::gguf::KeyValue;

/// Which layers stay, and under which number.
pub(super) struct Layers {
    /// By layer of the source; `None` is left out. Empty where all stay.
    kept: Vec<Option<usize>>,
}

impl Layers {
    pub(super) fn new(source: &Source, pruned: &[u32]) -> Result<Self> {
        if pruned.is_empty() {
            return Ok(Self { kept: Vec::new() });
        }
        let n_layer = n_layer(&source.metadata);
        let is_pruned = |i: usize| pruned.iter().any(|&p| p as usize == i);
        if let Some(bad) = pruned.iter().find(|p| **p as usize >= n_layer) {
            let text = format!("layer {bad} cannot be left out: the model has {n_layer}, from 0 on");
            return Err(Error::new(ErrorKind::Usage, text));
        }
        let mut n = 0;
        let kept: Vec<_> = (0..n_layer)
            .map(|i| {
                let number = (!is_pruned(i)).then_some(n);
                n += usize::from(number.is_some());
                number
            })
            .collect();
        if n == 0 {
            return Err(Error::new(ErrorKind::Usage, "no layer would be left"));
        }
        Ok(Self { kept })
    }

    /// A tensor's name in the file to be; `None` where it is left out.
    pub(super) fn tensor(&self, name: &str) -> Option<String> {
        let layer = || {
            let rest = name.strip_prefix("blk.")?;
            let (number, rest) = rest.split_once('.')?;
            Some((self.kept.get(number.parse::<usize>().ok()?)?, rest))
        };
        match layer() {
            None => Some(name.to_owned()),
            Some((kept, rest)) => kept.map(|i| format!("blk.{i}.{rest}")),
        }
    }

    /// The keys of the file to be.
    pub(super) fn metadata(&self, source: &Source) -> Result<Vec<(String, KeyValue)>> {
        let mut metadata = source.metadata.clone();
        if self.kept.is_empty() {
            return Ok(metadata);
        }
        let n_kept = self.kept.iter().flatten().count();
        let n_kept = u32::try_from(n_kept).map_err(|_| Error::new(ErrorKind::Model, "too many layers"))?;
        let prefix = format!("{}.", arch(&metadata));
        for (key, value) in metadata.iter_mut().filter(|(key, _)| key.starts_with(&prefix)) {
            if key[prefix.len()..] == *"block_count" {
                *value = n_kept.into();
            }
            // An array as long as the model has layers speaks of layers.
            if let KeyValue::Array { items, .. } = value
                && items.len() == self.kept.len()
            {
                let mut kept = self.kept.iter();
                items.retain(|_| kept.next().is_some_and(Option::is_some));
            }
        }
        Ok(metadata)
    }
}
