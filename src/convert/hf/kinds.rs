//! Kinds of layers, in the many ways that folders name them.

use super::{Field, Folder, LINEAR, Section};
use crate::error::Result;

/// The branch of a layer that has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::convert) enum Branch {
    /// Attention.
    Attention,
    /// A feed-forward part.
    Dense,
    /// Experts.
    Experts,
    /// It keeps a state.
    State,
}

impl Folder {
    /// Whether each layer is windowed, where the folder says so layer by layer.
    pub(in crate::convert) fn windowed_layers(&self, n_layer: u32) -> Result<Option<Vec<bool>>> {
        if let Some(kinds) = self.config.texts(self.key(Field::LayerTypes))? {
            if kinds.len() != n_layer as usize {
                return Err(self.error(Field::LayerTypes, format!("{} kinds", kinds.len()), "one for each layer"));
            }
            return Ok(Some(kinds.iter().map(|k| matches!(*k, "sliding_attention" | "chunked_attention")).collect()));
        }
        if let Some(period) = self.uint(Field::WindowPeriod)?.filter(|n| *n > 0) {
            return Ok(Some((1..=n_layer).map(|i| i % period != 0).collect()));
        }
        let first = self.uint(Field::FirstWindowed)?;
        Ok(first.map(|first| (0..n_layer).map(|i| i >= first).collect()))
    }

    /// Layers, where the folder names the kind of each and no count.
    pub(in crate::convert) fn listed_layers(&self) -> Result<Option<u32>> {
        let n = match self.config.texts(self.key(Field::LayerTypes))? {
            Some(kinds) => Some(kinds.len()),
            None => self.config.text(self.key(Field::LayerLetters))?.map(str::len),
        };
        Ok(n.and_then(|n| u32::try_from(n).ok()))
    }

    /// The one branch of each layer. Letters are those of transformers `configuration_nemotron_h.py`.
    pub(in crate::convert) fn branches(&self, n_layer: u32) -> Result<Vec<Branch>> {
        let (field, branches) = self.named_branches()?;
        let expected = "mamba, attention, mlp or moe for each layer";
        match branches {
            Some(branches) if branches.len() == n_layer as usize => Ok(branches),
            Some(branches) => Err(self.error(field, format!("{} kinds", branches.len()), expected)),
            None => Err(self.error(field, self.json(field).unwrap_or_else(|| "nothing".into()), expected)),
        }
    }

    /// The field that has them, and they; `None` where it has something else.
    fn named_branches(&self) -> Result<(Field, Option<Vec<Branch>>)> {
        let branch = |kind: &str| match kind {
            "full_attention" | "attention" | "*" => Some(Branch::Attention),
            "mlp" | "-" => Some(Branch::Dense),
            "moe" | "E" => Some(Branch::Experts),
            "linear_attention" | "mamba" | "M" => Some(Branch::State),
            _ => None,
        };
        if let Some(kinds) = self.config.texts(self.key(Field::LayerTypes))? {
            return Ok((Field::LayerTypes, kinds.into_iter().map(branch).collect()));
        }
        let letters = self.config.text(self.key(Field::LayerLetters))?;
        let branches = letters.and_then(|l| l.split_terminator("").skip(1).map(branch).collect());
        Ok((Field::LayerLetters, branches))
    }

    /// Whether some layers have experts, by the kinds of layers where these say it.
    pub(in crate::convert) fn has_experts(&self) -> Result<bool> {
        let (_, branches) = self.named_branches()?;
        let branches = branches.unwrap_or_default();
        if branches.iter().any(|b| matches!(b, Branch::Dense | Branch::Experts)) {
            return Ok(branches.contains(&Branch::Experts));
        }
        Ok(self.uint(Field::Experts)?.is_some_and(|n| n > 0))
    }

    /// Whether some layers keep a state.
    pub(in crate::convert) fn has_states(&self) -> Result<bool> {
        let n_layer = match self.uint(Field::Layers)? {
            Some(n) => n,
            None => self.listed_layers()?.unwrap_or(0),
        };
        Ok(self.state_layers(n_layer)?.is_none_or(|layers| layers.contains(&true)))
    }

    /// How many layers come before the first with experts, where the kinds of feed-forward parts say it.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Model`] for a layer without experts behind one that has them.
    pub(in crate::convert) fn leading_dense(&self) -> Result<Option<u32>> {
        if let Some(n) = self.uint(Field::LeadingDense)? {
            return Ok(Some(n));
        }
        let Some(kinds) = self.config.texts(self.key(Field::FfTypes))? else { return Ok(None) };
        let n = kinds.iter().take_while(|k| **k == "dense").count();
        if kinds[n..].iter().any(|k| *k != "sparse") {
            return Err(self.error(Field::FfTypes, format!("{kinds:?}"), "dense layers, then sparse ones"));
        }
        Ok(u32::try_from(n).ok())
    }

    /// Whether each layer keeps a state, where the folder says so.
    pub(in crate::convert) fn state_layers(&self, n_layer: u32) -> Result<Option<Vec<bool>>> {
        if let Some(kinds) = self.config.texts(self.key(Field::LayerTypes))? {
            if kinds.len() != n_layer as usize {
                return Err(self.error(Field::LayerTypes, format!("{} kinds", kinds.len()), "one for each layer"));
            }
            return Ok(Some(kinds.iter().map(|k| !matches!(*k, "full_attention" | "attention")).collect()));
        }
        if let Some(linear) = self.config.section(LINEAR)? {
            return self.delta_layers(&linear, n_layer).map(Some);
        }
        let period = self.uint(Field::FullPeriod)?.filter(|n| *n > 0);
        let offset = self.uint(Field::FullOffset)?;
        Ok(period.map(|n| (0..n_layer).map(|i| i % n != offset.unwrap_or(n - 1)).collect()))
    }

    /// Kimi Linear's layers, which are counted from 1.
    fn delta_layers(&self, linear: &Section, n_layer: u32) -> Result<Vec<bool>> {
        let (full, delta) = (linear.uints("full_attn_layers")?, linear.uints("kda_layers")?);
        let layers = (1..=n_layer).map(|i| match (full.contains(&i), delta.contains(&i)) {
            (true, false) => Some(false),
            (false, true) => Some(true),
            _ => None,
        });
        let expected = || format!("each of the layers 1 to {n_layer} here or in `full_attn_layers`");
        layers.collect::<Option<_>>().ok_or_else(|| linear.error("kda_layers", format!("{delta:?}"), &expected()))
    }
}
