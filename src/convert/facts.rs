//! The sizes of a model that transformations and metadata need, checked.

use super::MAX_VOCAB;
use super::factors::Factors;
use super::hf::{Field, Folder, Rope};
use super::names::{HfFamily, LayerSizes};
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
    /// Residual streams, at least 1.
    pub(super) n_stream: u32,
    /// Tokens, where the folder says it.
    pub(super) n_vocab: Option<u32>,
    pub(super) factors: Factors,
    /// Where heads are another thing in windowed layers; `head_dim` is that of the others.
    pub(super) layer_heads: Option<LayerHeads>,
}

/// Heads by layer.
#[derive(Debug)]
pub(super) struct LayerHeads {
    /// Width of a head in windowed layers.
    pub(super) windowed_dim: u32,
    /// Numbers of it that rotate.
    pub(super) windowed_rot: u32,
    /// Key and value heads of each layer.
    pub(super) kv: Vec<u32>,
}

impl Facts {
    /// Reads and checks them.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Model`] naming the key that is missing or out of range.
    pub(super) fn read(family: &HfFamily, folder: &Folder) -> Result<Self> {
        let n_embd = folder.size(Field::Width, 1..=MAX_SIZE)?;
        // Families without attention take 0 for granted.
        let least = u32::from(!folder.expects_none(Field::Heads));
        let n_head = folder.size(Field::Heads, least..=MAX_HEADS)?;
        // Falcon's; the number of heads says nothing then.
        let shared = folder.flag(Field::MultiQuery)? == Some(true) && folder.flag(Field::NewDecoder)? == Some(false);
        let n_head_kv = match folder.uint(Field::KvHeads)? {
            _ if shared => 1,
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
        let n_layer = match (folder.uint(Field::Layers)?, folder.listed_layers()?) {
            (None, Some(n)) if (1..=MAX_LAYERS).contains(&n) => n,
            _ => folder.size(Field::Layers, 1..=MAX_LAYERS)?,
        };
        let mut rope = folder.rope()?;
        if let (Some(theta), Some(ratio)) = (&mut rope.theta, folder.float(Field::RopeRatio)?) {
            *theta *= ratio;
        }
        if !(0.0..=1.0).contains(&rope.partial) {
            return Err(folder.error(Field::PartialRotary, rope.partial, "0 to 1"));
        }
        let without = family.form.experts == Some(false) || folder.flag(Field::HasExperts)? == Some(false);
        let n_expert = match folder.uint(Field::Experts)? {
            _ if without => 0,
            Some(_) => folder.size(Field::Experts, 0..=MAX_EXPERTS)?,
            None => 0,
        };
        let (head_dim, layer_heads) = match family.layer_sizes {
            LayerSizes::Heads => {
                let (dim, heads) = LayerHeads::read(folder, &rope, n_layer, n_head)?;
                (dim, Some(heads))
            }
            _ => (head_dim, None),
        };
        let part = if rope.kind == "proportional" { head_dim } else { part_of(head_dim, rope.partial) };
        let sized = |field: Field, most: u32| match folder.uint(field)? {
            Some(_) => folder.size(field, 0..=most).map(Some),
            None => Ok(None),
        };
        let n_state_group = sized(Field::StateGroups, MAX_HEADS)?.unwrap_or(1);
        Ok(Self {
            n_layer,
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
            n_state_group,
            n_delta_head: [
                sized(Field::DeltaKeyHeads, MAX_HEADS)?.unwrap_or(1),
                sized(Field::DeltaValueHeads, MAX_HEADS)?.unwrap_or(1),
            ],
            n_stream: sized(Field::Streams, MAX_HEADS)?.unwrap_or(1).max(1),
            n_vocab: folder.uint(Field::Vocab)?.filter(|n| u64::from(*n) <= MAX_VOCAB),
            factors: Factors::read(folder, n_state_group)?,
            layer_heads,
        })
    }
}

/// A part of a head; one such as 0.7 is a little less in binary.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of head_dim")]
fn part_of(head_dim: u32, part: f64) -> u32 {
    (f64::from(head_dim) * part + 1e-6) as u32
}

impl LayerHeads {
    /// The width of heads in layers without a window, and the rest.
    fn read(folder: &Folder, rope: &Rope, n_layer: u32, n_head: u32) -> Result<(u32, Self)> {
        let windowed = folder.windowed_layers(n_layer)?;
        let windowed = windowed.ok_or_else(|| folder.error(Field::LayerTypes, "nothing", "the kind of each layer"))?;
        if windowed.last() == Some(&true) {
            let found = "a window for the last layer";
            return Err(folder.error(Field::LayerTypes, found, "none there, as transformers has it"));
        }
        let layers = folder.layer_heads(&windowed)?;
        let mut dims = [None, None];
        for (layer, windowed) in layers.iter().zip(&windowed) {
            let dim = dims[usize::from(*windowed)].get_or_insert(layer.dim);
            if *dim != layer.dim {
                let found = format!("heads of width {} and {dim}", layer.dim);
                return Err(folder.error(Field::OfLayers, found, "one width for layers of a kind"));
            }
            if layer.kv == 0 || layer.kv > n_head || !n_head.is_multiple_of(layer.kv) {
                return Err(folder.error(Field::KvHeads, layer.kv, &format!("a divisor of the {n_head} query heads")));
            }
            if !(1..=MAX_SIZE).contains(&layer.dim) {
                return Err(folder.error(Field::HeadDim, layer.dim, &format!("1 to {MAX_SIZE}")));
            }
        }
        let [full, windowed_dim] = dims;
        // A model without windowed layers has no need of their width, and readers want one.
        let full = full.or(windowed_dim).unwrap_or(1);
        let windowed_dim = windowed_dim.unwrap_or(full);
        let mut part = 1.0;
        if let Some(local) = &rope.local {
            part = local.float("partial_rotary_factor")?.unwrap_or(1.0);
            let kind = local.text("rope_type")?.unwrap_or("default");
            if kind != "default" || !(0.0..=1.0).contains(&part) {
                return Err(local.error("rope_type", format!("{kind}, {part} of a head"), "default, for 0 to 1"));
            }
        }
        let heads = Self {
            windowed_dim,
            windowed_rot: part_of(windowed_dim, part),
            kv: layers.iter().map(|layer| layer.kv).collect(),
        };
        Ok((full, heads))
    }
}
