//! An adapter of PEFT (LoRA) becomes a GGUF adapter: for a tensor T of the base two factors, `T.lora_a` [rank, in] and
//! `T.lora_b` [out, rank], and one `adapter.lora.alpha`. What a family does to the rows of T is done to those of B.
//! Source: llama.cpp's `convert_lora_to_gguf.py` for the names, PEFT `tuners/lora/layer.py` for the arithmetic.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use super::facts::Facts;
use super::hf::{Folder, Section};
use super::metadata::Keys;
use super::names::{COMMON, How};
use super::producer::{Lazy, Leaf, Node, is_number};
use super::safetensors::Checkpoint;
use super::source::{LazyTensor, Source};
use super::tensors::{apply, without_places};
use super::{ConvertOptions, families, name_of};
use crate::error::{Error, ErrorKind, Result, printable};

/// The adapter of a PEFT folder (`adapter_config.json`, `adapter_model.safetensors`), for the model whose Hugging
/// Face folder is `base`; of that one only `config.json` is read.
///
/// # Errors
/// [`ErrorKind::Io`] when a file cannot be read; [`ErrorKind::Model`] for an adapter that GGUF cannot say (DoRA, several
/// alphas, embeddings), or that is not of this base. The message names file, key or tensor.
pub fn open_adapter(path: &Path, base: &Path, options: &ConvertOptions) -> Result<Source> {
    let mut folder = Folder::open(base)?;
    let family = families::of(&folder)?;
    folder.belongs_to(family);
    let facts = Facts::read(family, &folder)?;
    let config = Section::read(&path.join("adapter_config.json"))?;
    let checkpoint = Checkpoint::open(path, Some(&path.join("adapter_model.safetensors")))?;
    let mut factors = Factors::new(&checkpoint)?;
    let mut lazy: Vec<(String, Lazy)> = Vec::new();
    let mut ranks = BTreeSet::new();
    for group in family.rules.iter().copied().chain([COMMON]) {
        let mut used = BTreeSet::new();
        for rule in group.iter().filter(|r| !r.to.ends_with(".bias") && !r.to.starts_with('=')) {
            let layers = if rule.to.contains("{}") { 0..facts.n_layer } else { 0..1 };
            for layer in layers {
                let at = |name: &str| name.trim_end_matches(".weight").replace("{}", &layer.to_string());
                let Some((a, b)) = factors.read(&at(rule.from))? else { continue };
                used.insert(at(rule.from));
                let (name, rank) = (format!("{}.weight", at(rule.to)), a.shape[0]);
                if b.shape[1] != rank {
                    let message = format!("adapter of `{}`: ranks {rank} and {}", at(rule.from), b.shape[1]);
                    return Err(Error::new(ErrorKind::Model, message).in_file(path));
                }
                ranks.insert(rank);
                // Only rows of the whole are changed, and those are B's.
                let rows_only =
                    rule.how.iter().all(|h| !matches!(h, How::Transpose | How::AddOne | How::NegExp | How::InTurn(_)));
                let b = rule.how.iter().try_fold(b, |b, how| apply(*how, b, &facts)).filter(|_| rows_only);
                let b = b.ok_or_else(|| {
                    let message = format!("adapter of `{}`: its form cannot follow the base's", at(rule.from));
                    Error::new(ErrorKind::Model, message).in_file(path)
                })?;
                lazy.push((format!("{name}.lora_a"), a));
                lazy.push((format!("{name}.lora_b"), b));
            }
        }
        factors.forget(&used);
    }
    factors.finish(path)?;
    let mut keys = Keys::default();
    keys.set("general.architecture", family.arch);
    keys.set("general.type", "adapter");
    keys.set("adapter.type", "lora");
    keys.set("general.name", options.name.clone().unwrap_or_else(|| name_of(path)));
    keys.set("adapter.lora.alpha", alpha(&config, &ranks)?);
    keys.set("general.quantization_version", 2u32);
    for (key, value) in &options.overrides {
        keys.set(key.clone(), value.clone());
    }
    let tensors = lazy.into_iter().map(|(name, t)| LazyTensor::new(name, t, options.out)).collect();
    Ok(Source::of_checkpoint(keys.into_inner(), tensors, Vec::new(), checkpoint.files()))
}

/// The factor that is divided by the rank. With `use_rslora` PEFT divides by the rank's root instead.
#[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "small numbers, rounded to single")]
fn alpha(config: &Section, ranks: &BTreeSet<u64>) -> Result<f32> {
    for key in ["use_dora", "fan_in_fan_out"] {
        if config.flag(key)? == Some(true) {
            return Err(config.error(key, true, "false: GGUF has no such adapters"));
        }
    }
    if config.section("alpha_pattern")?.is_some_and(|p| p.keys().next().is_some()) {
        return Err(config.error("alpha_pattern", "several factors", "none: an adapter of GGUF has one"));
    }
    let Some(alpha) = config.float("lora_alpha")? else {
        return Err(config.error("lora_alpha", "nothing", "a number"));
    };
    let mut ranks = ranks.iter();
    let root = match (config.flag("use_rslora")?, ranks.next(), ranks.next()) {
        (Some(true), Some(rank), None) => (*rank as f64).sqrt(),
        (Some(true), ..) => return Err(config.error("use_rslora", "several ranks", "one: its factor depends on it")),
        _ => 1.0,
    };
    Ok((alpha * root) as f32)
}

/// The pairs of factors of a checkpoint by the name of the tensor that they change.
struct Factors<'a> {
    checkpoint: &'a Checkpoint,
    /// Name without prefixes and ending to the names of A and B.
    pairs: BTreeMap<String, [Option<&'a str>; 2]>,
}

impl<'a> Factors<'a> {
    fn new(checkpoint: &'a Checkpoint) -> Result<Self> {
        let mut pairs: BTreeMap<String, [Option<&str>; 2]> = BTreeMap::new();
        for name in checkpoint.names() {
            let short = without_places(name.strip_prefix("base_model.model.").unwrap_or(name));
            // Newer versions name the adapter: `lora_A.default.weight`.
            let part = [".lora_A.", ".lora_B."].iter().position(|p| short.contains(p));
            let split = part.and_then(|i| Some((i, short.split_once([".lora_A.", ".lora_B."][i])?)));
            let Some((i, (base, _))) = split.filter(|(_, (_, end))| matches!(*end, "weight" | "default.weight")) else {
                let message = format!("tensor `{}`: an adapter of GGUF has no such part", printable(name));
                let hint = "merge the adapter into its model with PEFT, and convert that";
                return Err(Error::new(ErrorKind::Model, message).with_hint(hint));
            };
            let slot = &mut pairs.entry(base.to_owned()).or_default()[i];
            if let Some(other) = slot.replace(name) {
                let (a, b) = (printable(other), printable(name));
                return Err(Error::new(ErrorKind::Model, format!("tensors `{a}` and `{b}` change the same one")));
            }
        }
        Ok(Self { checkpoint, pairs })
    }

    /// A and B of a tensor.
    fn read(&self, base: &str) -> Result<Option<(Lazy, Lazy)>> {
        let Some([Some(a), Some(b)]) = self.pairs.get(base).copied() else { return Ok(None) };
        let read = |name: &str| -> Result<Lazy> {
            let found = self.checkpoint.tensor(name);
            let found = found.and_then(|(file, index)| Some((file, index, file.tensors.get(index)?)));
            match found {
                Some((file, index, t)) if t.shape.len() == 2 && is_number(t.dtype) && !t.shape.contains(&0) => {
                    let node = Node::Leaf(Leaf::Stored { file: Arc::clone(file), index });
                    Ok(Lazy { shape: t.shape.clone(), node })
                }
                _ => Err(Error::new(ErrorKind::Model, format!("tensor `{}` is no factor", printable(name)))),
            }
        };
        Ok(Some((read(a)?, read(b)?)))
    }

    /// What a group of rules has used is not for later ones.
    fn forget(&mut self, bases: &BTreeSet<String>) {
        self.pairs.retain(|base, _| !bases.contains(base));
    }

    /// Refuses what is left.
    fn finish(self, path: &Path) -> Result<()> {
        match self.pairs.values().find_map(|pair| pair.iter().flatten().next().copied()) {
            None => Ok(()),
            Some(name) => {
                let message = format!("tensor `{}` changes nothing that the base has", printable(name));
                let hint = "name the folder of the model that the adapter was trained on";
                Err(Error::new(ErrorKind::Model, message).in_file(path).with_hint(hint))
            }
        }
    }
}
