//! The sizes of a model that transformations and metadata need, checked.

use super::hf::{Field, Folder, Rope};
use crate::error::Result;

/// Limits as the reader of GGUF files has them: far above any model.
const MAX_LAYERS: u32 = 4096;
const MAX_HEADS: u32 = 65536;
const MAX_SIZE: u32 = 1 << 24;
const MAX_EXPERTS: u32 = 65536;

/// Sizes of a model.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) n_layer: u32,
    pub(super) n_embd: u32,
    pub(super) n_head: u32,
    pub(super) n_head_kv: u32,
    pub(super) head_dim: u32,
    /// 0 without experts.
    pub(super) n_expert: u32,
    /// Numbers of a head that rotate.
    pub(super) n_rot: u32,
    /// Numbers of a head of a latent model that do not; else 0.
    pub(super) n_nope: u32,
    /// Layers behind the last one that guess further tokens.
    pub(super) n_next: u32,
    /// Positions it was trained for.
    pub(super) n_ctx: u32,
    /// Id of the padding token, 1 where the folder is silent; `None` where it says something else than an id.
    pub(super) pad: Option<u32>,
    pub(super) rope: Rope,
    /// Groups of a state's heads; 1 where the folder names none.
    pub(super) n_state_group: u32,
    /// Key heads and value heads of a delta net; else 1.
    pub(super) n_delta_head: [u32; 2],
}

impl Facts {
    /// Reads and checks them.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Model`] naming the key that is missing or out of range.
    pub(super) fn read(folder: &Folder) -> Result<Self> {
        let n_embd = folder.size(Field::Width, 1..=MAX_SIZE)?;
        // Families without attention take 0 for granted.
        let least = u32::from(!folder.defaults.contains(&(Field::Heads, 0.0)));
        let n_head = folder.size(Field::Heads, least..=MAX_HEADS)?;
        let n_head_kv = match folder.uint(Field::KvHeads)? {
            Some(_) => folder.size(Field::KvHeads, 1..=n_head)?,
            None => n_head,
        };
        if !n_head.is_multiple_of(n_head_kv) {
            return Err(folder.error(Field::KvHeads, n_head_kv, &format!("a divisor of the {n_head} query heads")));
        }
        let head_dim = match folder.uint(Field::HeadDim)? {
            Some(_) => folder.size(Field::HeadDim, 1..=MAX_SIZE)?,
            None => n_embd.checked_div(n_head).unwrap_or(0),
        };
        let rope = folder.rope()?;
        if !(0.0..=1.0).contains(&rope.partial) {
            return Err(folder.error(Field::PartialRotary, rope.partial, "0 to 1"));
        }
        let n_expert = match folder.uint(Field::Experts)? {
            Some(_) => folder.size(Field::Experts, 0..=MAX_EXPERTS)?,
            None => 0,
        };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of head_dim")]
        // A part such as 0.7 is a little less in binary.
        let part = (f64::from(head_dim) * rope.partial + 1e-6) as u32;
        let sized = |field: Field, most: u32| match folder.uint(field)? {
            Some(_) => folder.size(field, 0..=most).map(Some),
            None => Ok(None),
        };
        Ok(Self {
            n_layer: match (folder.uint(Field::Layers)?, folder.listed_layers()?) {
                (None, Some(n)) if (1..=MAX_LAYERS).contains(&n) => n,
                _ => folder.size(Field::Layers, 1..=MAX_LAYERS)?,
            },
            n_embd,
            n_head,
            n_head_kv,
            head_dim,
            n_expert,
            n_rot: sized(Field::RotaryDim, MAX_SIZE)?.unwrap_or(part),
            n_nope: sized(Field::NopeDim, MAX_SIZE)?.unwrap_or(0),
            n_next: sized(Field::Nextn, MAX_LAYERS)?.unwrap_or(0),
            n_ctx: folder.size(Field::Context, 1..=u32::MAX)?,
            pad: folder.uint(Field::Pad).ok().map(|id| id.unwrap_or(1)),
            rope,
            n_state_group: sized(Field::StateGroups, MAX_HEADS)?.unwrap_or(1),
            n_delta_head: [
                sized(Field::DeltaKeyHeads, MAX_HEADS)?.unwrap_or(1),
                sized(Field::DeltaValueHeads, MAX_HEADS)?.unwrap_or(1),
            ],
        })
    }
}
