//! Factors that a family has beside its matrices, and its files have in them.

use super::hf::{Field, Folder};
use super::names::Factor;
use crate::error::Result;

/// Factors of a folder; 1 where it names none.
#[derive(Debug)]
pub(super) struct Factors {
    /// In the order of [`Factor`].
    each: [f64; 8],
    /// Rows of the parts of a state's projection, and their factors; none where the folder does not tell the rows.
    pub(super) parts: Vec<(u64, f64)>,
}

impl Factors {
    /// Reads them; a state has `groups` groups.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Model`] naming the key that holds no number, or another count of them.
    pub(super) fn read(folder: &Folder, groups: u32) -> Result<Self> {
        let one = |field: Field| folder.float(field).map(|x| x.unwrap_or(1.0));
        let several = |field: Field, n: usize| match folder.numbers(field)? {
            None => Ok(vec![1.0; n]),
            Some(list) if list.len() == n => Ok(list),
            Some(list) => Err(folder.error(field, format!("{} numbers", list.len()), &format!("{n}"))),
        };
        let (ff, input) = (several(Field::FfScales, 2)?, one(Field::AttnInScale)?);
        let each = [
            one(Field::EmbedScale)?,
            one(Field::HeadScale)?,
            input,
            input * one(Field::KeyScale)?,
            one(Field::AttnOutScale)?,
            ff[0],
            ff[1],
            one(Field::StateOutScale)?,
        ];
        let sizes = [Field::StateExpand, Field::Width, Field::StateSize, Field::StateHeads];
        let sizes = sizes.map(|field| folder.uint(field).ok().flatten().map(u64::from));
        let [Some(expand), Some(width), Some(state), Some(heads)] = sizes else {
            return Ok(Self { each, parts: Vec::new() });
        };
        let inner = folder.uint(Field::StateInner)?.map_or(expand * width, u64::from);
        let shared = u64::from(groups) * state;
        let (scales, input) = (several(Field::StatePartScales, 5)?, one(Field::StateInScale)?);
        // Gate, input, and what goes into a state, comes out, and how far it steps.
        let parts = [inner, inner, shared, shared, heads].into_iter().zip(scales.iter().map(|x| x * input)).collect();
        Ok(Self { each, parts })
    }

    /// One of them.
    pub(super) fn of(&self, factor: Factor) -> f64 {
        self.each[factor as usize]
    }
}
