//! From a [`Source`] to a finished file: what every tensor becomes, what the metadata say, and the writing.
//!
//! [`Job::new`] decides everything without reading a weight, so that sizes are known before; [`Job::write`] streams
//! (`pipeline.rs`). Source of the conventions: llama.cpp's `tools/quantize`.

mod metadata;
mod pipeline;
mod prune;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use super::Source;
use super::imatrix::Imatrix;
use super::recipe::{Decision, ModelFacts, Recipe, RecipeOptions, TensorFacts};
use super::recipe::{choose_types, require_importance, sort_for_output};
use crate::error::{Error, ErrorKind, Result, printable};
use crate::gguf::KeyValue;
use crate::quant::BlockType;

pub use pipeline::Progress;

/// Into how many files a model is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Split {
    /// One.
    #[default]
    One,
    /// As many as the source has.
    Keep,
    /// As many as it takes for none to hold more bytes of tensors than this, unless a single tensor does.
    MaxBytes(u64),
}

/// An importance matrix, and the name of its file for the metadata.
#[derive(Clone, Debug)]
pub struct Importance {
    /// What matters.
    pub imatrix: Imatrix,
    /// The file as it was given.
    pub file: String,
}

/// What is made of a model.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct QuantizeOptions {
    /// The recipe; `None` copies every tensor as it is.
    pub recipe: Option<Recipe>,
    /// Exceptions from it.
    pub rules: RecipeOptions,
    /// How much columns matter.
    pub importance: Option<Importance>,
    /// Quantize what has been quantized before.
    pub allow_requantize: bool,
    /// Layers to leave out.
    pub prune_layers: Vec<u32>,
    /// Keys to set.
    pub overrides: Vec<(String, KeyValue)>,
    /// Number of files.
    pub split: Split,
    /// Threads; `None`: all cores that the process may use.
    pub n_threads: Option<usize>,
}

/// A tensor of the file to be.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Planned {
    /// Its name.
    pub name: String,
    /// Its name in the source, which differs behind layers that were left out.
    pub source_name: String,
    /// Outermost first.
    pub shape: Vec<u64>,
    /// The type in the source.
    pub from: BlockType,
    /// The type in the file.
    pub to: BlockType,
    /// The type that the recipe wanted, where the rows do not suit it.
    pub instead_of: Option<BlockType>,
    /// Bytes in the file.
    pub bytes: u64,
    /// Index of the source's tensor.
    index: usize,
    /// Index of the file that holds it.
    shard: usize,
}

impl Planned {
    /// Numbers.
    pub fn n_weight(&self) -> u64 {
        self.shape.iter().product()
    }
}

/// A file that is going to be written.
pub struct Job<'s> {
    source: &'s Source,
    options: QuantizeOptions,
    metadata: Vec<(String, KeyValue)>,
    tensors: Vec<Planned>,
    n_shard: usize,
}

impl<'s> Job<'s> {
    /// Decides what becomes of each tensor and key.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for a source that is quantized already, a recipe that needs an importance matrix, and
    /// layers that are not there; [`ErrorKind::Model`] for an importance matrix of another model.
    pub fn new(source: &'s Source, options: QuantizeOptions) -> Result<Self> {
        let pruned = prune::Layers::new(source, &options.prune_layers)?;
        let mut order: Vec<(usize, String)> =
            source.tensors.iter().enumerate().filter_map(|(i, t)| Some((i, pruned.tensor(&t.name)?))).collect();
        sort_for_output(&mut order, |(_, name)| name);
        let mut metadata = pruned.metadata(source)?;
        let facts = metadata::facts(&metadata, options.importance.is_some());
        let decisions = decide(source, &order, &facts, &options)?;
        let mut tensors = Vec::with_capacity(order.len());
        for ((index, name), decision) in order.into_iter().zip(decisions) {
            let t = &source.tensors[index];
            let bytes = decision.ty.row_bytes(t.row_len()).and_then(|n| n.checked_mul(t.n_row()));
            let bytes = bytes.ok_or_else(|| {
                let text = format!("tensor `{}`: {:?} cannot be {}", printable(&name), t.shape, decision.ty);
                Error::new(ErrorKind::Model, text)
            })?;
            let (from, to, instead_of) = (t.stored().unwrap_or(t.ty), decision.ty, decision.instead_of);
            let (shape, source_name) = (t.shape.clone(), t.name.clone());
            tensors.push(Planned { name, source_name, shape, from, to, instead_of, bytes, index, shard: 0 });
        }
        check_requantize(&tensors, options.allow_requantize)?;
        check_importance(&tensors, options.importance.as_ref())?;
        let n_shard = assign_shards(&mut tensors, source, options.split);
        metadata::finish(&mut metadata, &options);
        Ok(Self { source, options, metadata, tensors, n_shard })
    }

    /// The tensors in the order of the file.
    pub fn tensors(&self) -> &[Planned] {
        &self.tensors
    }

    /// The keys, but for those that number the files of a model.
    pub fn metadata(&self) -> &[(String, KeyValue)] {
        &self.metadata
    }

    /// Bytes of all tensors.
    pub fn tensor_bytes(&self) -> u64 {
        self.tensors.iter().map(|t| t.bytes).sum()
    }

    /// The files that [`Job::write`] makes of a destination.
    pub fn files(&self, destination: &Path) -> Vec<PathBuf> {
        if self.n_shard == 1 && self.options.split == Split::One {
            return vec![destination.to_owned()];
        }
        let name = destination.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let stem = name.strip_suffix(".gguf").unwrap_or(&name);
        let file = |i: usize| destination.with_file_name(format!("{stem}-{:05}-of-{:05}.gguf", i + 1, self.n_shard));
        (0..self.n_shard).map(file).collect()
    }

    /// Writes the file or files; each appears when all of them are complete. `progress` hears how far it is.
    ///
    /// # Errors
    /// What reading and writing report; a number that is not finite, with its tensor and row;
    /// [`ErrorKind::Interrupted`] when `cancel` is set.
    pub fn write(
        &self,
        destination: &Path,
        inputs: &[&Path],
        cancel: &AtomicBool,
        progress: &mut dyn FnMut(&Progress<'_>),
    ) -> Result<()> {
        pipeline::write(self, destination, inputs, cancel, progress)
    }
}

fn decide(
    source: &Source,
    order: &[(usize, String)],
    facts: &ModelFacts,
    options: &QuantizeOptions,
) -> Result<Vec<Decision>> {
    let kept = |ty| Decision { ty, instead_of: None, needs_importance: false };
    let Some(recipe) = options.recipe else {
        return Ok(order.iter().map(|(i, _)| kept(source.tensors[*i].ty)).collect());
    };
    let tensors: Vec<TensorFacts<'_>> = order
        .iter()
        .map(|(i, name)| TensorFacts { name, shape: &source.tensors[*i].shape, ty: source.tensors[*i].ty })
        .collect();
    let decisions = choose_types(recipe, facts, &tensors, &options.rules)?;
    let known = options.importance.as_ref();
    let has = |name: &str| {
        let original = order.iter().find(|(_, n)| n == name).map(|(i, _)| source.tensors[*i].name.as_str());
        known.zip(original).is_some_and(|(known, original)| known.imatrix.entry(original).is_some())
    };
    require_importance(recipe, &tensors, &decisions, has)?;
    Ok(decisions)
}

fn check_requantize(tensors: &[Planned], allowed: bool) -> Result<()> {
    let again = |t: &&Planned| t.from != t.to && !t.from.is_float() && t.from != BlockType::F64;
    match tensors.iter().find(again) {
        Some(t) if !allowed => {
            let text = format!("tensor `{}` is {} already, which loses quality", printable(&t.name), t.from);
            let hint = "quantize the original model, or say --allow-requantize";
            Err(Error::new(ErrorKind::Usage, text).with_hint(hint))
        }
        _ => Ok(()),
    }
}

/// An importance matrix must be this model's. Embeddings may have another number of columns than an output that is
/// tied to them.
fn check_importance(tensors: &[Planned], importance: Option<&Importance>) -> Result<()> {
    let Some(importance) = importance else { return Ok(()) };
    let other = |what: String| {
        let error = Error::new(ErrorKind::Model, what).in_file(Path::new(&importance.file));
        Err(error.with_hint("the importance matrix is another model's: make one of this model"))
    };
    let mut is_known = importance.imatrix.entries().len() == 0;
    for t in tensors {
        let Some(entry) = importance.imatrix.entry(&t.source_name) else { continue };
        is_known = true;
        let expected = (n_matrix(&t.shape), t.shape.last().copied().unwrap_or(0));
        let found = (entry.n_matrix() as u64, entry.row_len() as u64);
        if found != expected && t.name != "token_embd.weight" {
            return other(format!("`{}`: importance of {found:?} columns, expected {expected:?}", printable(&t.name)));
        }
    }
    if is_known { Ok(()) } else { other("found none of the model's tensors, expected some".into()) }
}

/// Matrices of a tensor: experts.
fn n_matrix(shape: &[u64]) -> u64 {
    shape.iter().rev().skip(2).product()
}

/// Gives each tensor its file; returns how many there are.
fn assign_shards(tensors: &mut [Planned], source: &Source, split: Split) -> usize {
    match split {
        Split::One => 1,
        Split::Keep => {
            let mut used: Vec<usize> = tensors.iter().map(|t| source.shard(&source.tensors[t.index].name)).collect();
            used.sort_unstable();
            used.dedup();
            for t in tensors.iter_mut() {
                t.shard = used.binary_search(&source.shard(&t.source_name)).expect("every shard is listed");
            }
            // A file holds its tensors in their order.
            tensors.sort_by_key(|t| t.shard);
            used.len().max(1)
        }
        Split::MaxBytes(limit) => {
            let (mut shard, mut bytes) = (0, 0);
            for t in tensors.iter_mut() {
                if bytes > 0 && bytes + t.bytes > limit {
                    (shard, bytes) = (shard + 1, 0);
                }
                t.shard = shard;
                bytes += t.bytes;
            }
            shard + 1
        }
    }
}
