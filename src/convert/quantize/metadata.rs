//! Keys of the file to be.

use super::QuantizeOptions;
use crate::convert::recipe::ModelFacts;
use crate::gguf::KeyValue;

const VERSION: &str = "general.quantization_version";
const FILE_TYPE: &str = "general.file_type";
/// Of ggml's block formats.
const QUANTIZATION_VERSION: u32 = 2;

/// The value of a key.
fn value<'m>(metadata: &'m [(String, KeyValue)], key: &str) -> Option<&'m KeyValue> {
    metadata.iter().find(|(name, _)| name == key).map(|(_, value)| value)
}

/// An integer of any width; of an array the first.
fn integer(value: &KeyValue) -> Option<u64> {
    match value {
        KeyValue::U8(n) => Some((*n).into()),
        KeyValue::U16(n) => Some((*n).into()),
        KeyValue::U32(n) => Some((*n).into()),
        KeyValue::U64(n) => Some(*n),
        KeyValue::I8(n) => u64::try_from(*n).ok(),
        KeyValue::I16(n) => u64::try_from(*n).ok(),
        KeyValue::I32(n) => u64::try_from(*n).ok(),
        KeyValue::I64(n) => u64::try_from(*n).ok(),
        KeyValue::Array { items, .. } => items.first().and_then(integer),
        _ => None,
    }
}

/// `general.architecture`.
pub(super) fn arch(metadata: &[(String, KeyValue)]) -> String {
    match value(metadata, "general.architecture") {
        Some(KeyValue::Str(name)) => String::from_utf8_lossy(name).into_owned(),
        _ => String::new(),
    }
}

/// Layers.
pub(super) fn n_layer(metadata: &[(String, KeyValue)]) -> usize {
    count(metadata, "block_count")
}

fn count(metadata: &[(String, KeyValue)], what: &str) -> usize {
    let key = format!("{}.{what}", arch(metadata));
    value(metadata, &key).and_then(integer).and_then(|n| usize::try_from(n).ok()).unwrap_or(0)
}

/// What the rules of recipes ask.
pub(super) fn facts(metadata: &[(String, KeyValue)], has_importance: bool) -> ModelFacts {
    let n_head = count(metadata, "attention.head_count");
    let key = format!("{}.attention.head_count_kv", arch(metadata));
    let n_head_kv = match value(metadata, &key) {
        Some(_) => count(metadata, "attention.head_count_kv"),
        None => n_head,
    };
    ModelFacts {
        arch: arch(metadata),
        n_layer: n_layer(metadata),
        n_head,
        n_head_kv,
        n_expert: count(metadata, "expert_count"),
        has_importance,
    }
}

/// Sets a key where it stands, or at the end.
fn set(metadata: &mut Vec<(String, KeyValue)>, key: &str, value: KeyValue) {
    match metadata.iter_mut().find(|(name, _)| name == key) {
        Some(slot) => slot.1 = value,
        None => metadata.push((key.to_owned(), value)),
    }
}

/// What quantizing says of itself, and what the user sets.
pub(super) fn finish(metadata: &mut Vec<(String, KeyValue)>, options: &QuantizeOptions) {
    if let Some(recipe) = options.recipe {
        metadata.retain(|(name, _)| name != VERSION && name != FILE_TYPE);
        metadata.push((VERSION.into(), QUANTIZATION_VERSION.into()));
        metadata.push((FILE_TYPE.into(), recipe.file_type().into()));
    }
    if let Some(importance) = &options.importance {
        let imatrix = &importance.imatrix;
        set(metadata, "quantize.imatrix.file", importance.file.as_str().into());
        if let Some(dataset) = imatrix.datasets.first() {
            set(metadata, "quantize.imatrix.dataset", dataset.as_str().into());
        }
        let n_entry = u32::try_from(imatrix.entries().len()).unwrap_or(u32::MAX);
        set(metadata, "quantize.imatrix.entries_count", n_entry.into());
        if imatrix.n_chunk > 0 {
            set(metadata, "quantize.imatrix.chunks_count", imatrix.n_chunk.into());
        }
    }
    for (key, value) in &options.overrides {
        set(metadata, key, value.clone());
    }
}
