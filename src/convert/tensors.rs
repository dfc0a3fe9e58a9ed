//! Checkpoint names to GGUF tensors, by the rules of a family. Every tensor of the checkpoint is used, or dropped for
//! a reason that is said; none vanishes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::facts::Facts;
use super::hf::{Field, Folder};
use super::names::{COMMON, COMPUTED, DeltaPart, Dim, Heads, HfFamily, How, OTHER_SENSES, PLACES, Rule, Third, Turned};
use super::producer::{Each, Lazy, Leaf, Node, is_number};
use super::safetensors::{Checkpoint, Dtype, Stored};
use crate::error::{Error, ErrorKind, Result, printable};

/// A dimension of GGUF; five and more do not exist there.
const MAX_DIMS: usize = 4;

/// Endings that a tensor of 8-bit numbers has beside it: factors of its tiles, and of activations, which are not used.
const SCALES: [&str; 2] = ["_scale_inv", "_scale"];
const ACTIVATION_SCALES: [&str; 2] = [".input_scale", ".activation_scale"];

/// The tensors of the GGUF file, in the order of rules.
///
/// # Errors
/// [`ErrorKind::Model`]: a tensor that no rule takes, or whose shape does not fit what the rule does to it, by name.
pub(super) fn resolve(
    family: &HfFamily,
    facts: &Facts,
    folder: &Folder,
    checkpoint: &Checkpoint,
    notes: &mut Vec<String>,
) -> Result<Vec<(String, Lazy)>> {
    let tile = folder.weight_tile()?;
    let mut names = Names::new(checkpoint, tile)?;
    let tied = folder.flag(Field::Tied)? == Some(true);
    names.drop(family, tied, notes);
    names.drop_next(facts, notes);
    let mut out: Vec<(String, Lazy)> = Vec::new();
    let mut made: BTreeSet<String> = BTreeSet::new();
    let groups = family.rules.iter().copied().chain([COMMON]);
    for rule in groups.flat_map(|group| group.iter().enumerate()) {
        let (nth, rule) = rule;
        if nth == 0 {
            names.close();
        }
        let layers = if rule.to.contains("{}") { 0..facts.n_layer } else { 0..1 };
        for layer in layers {
            for ending in endings(rule) {
                let to = format!("{}{ending}", rule.to.trim_end_matches('!')).replace("{}", &layer.to_string());
                if made.contains(&to) {
                    continue;
                }
                if let Some(lazy) = names.make(rule, layer, ending, facts)? {
                    made.insert(to.clone());
                    out.push((to, lazy));
                }
            }
        }
    }
    names.finish(family)?;
    if !tied && !made.contains("output.weight") {
        notes.push("the checkpoint has no head of its own: readers take the embeddings for it".into());
    }
    for layer in 0..facts.n_layer {
        let prefix = format!("blk.{layer}.");
        if !made.iter().any(|n| n.starts_with(&prefix)) {
            let message = format!("the checkpoint has no tensor of layer {layer} of {}", facts.n_layer);
            return Err(Error::new(ErrorKind::Model, message).in_file(&folder.path).with_hint(INCOMPLETE));
        }
    }
    Ok(out)
}

const INCOMPLETE: &str = "the download is incomplete, or `config.json` is of another model";

fn endings(rule: &Rule) -> &'static [&'static str] {
    let complete = [".weight", ".bias", ".scale", "!"].iter().any(|e| rule.to.ends_with(e));
    if complete { &[""] } else { &[".weight", ".bias"] }
}

/// The tensors of a checkpoint by their names without prefixes, and which of them are used.
struct Names<'a> {
    checkpoint: &'a Checkpoint,
    /// Name without prefixes to the name of the file.
    by_name: BTreeMap<String, &'a str>,
    used: BTreeSet<&'a str>,
    /// Those of the rule at work, which counts only when it finds all of its sources.
    taken: BTreeSet<&'a str>,
    /// Those of earlier groups of rules: what a family does with a tensor replaces what is common.
    closed: BTreeSet<&'a str>,
    tile: [u64; 2],
}

impl<'a> Names<'a> {
    fn new(checkpoint: &'a Checkpoint, tile: [u64; 2]) -> Result<Self> {
        let mut by_name = BTreeMap::new();
        for name in checkpoint.names() {
            let short = without_places(name);
            if let Some(other) = by_name.insert(short.to_owned(), name) {
                let (a, b) = (printable(other), printable(name));
                let message = format!("tensors `{a}` and `{b}` are both the model's `{}`", printable(short));
                return Err(Error::new(ErrorKind::Model, message));
            }
        }
        Ok(Self { checkpoint, by_name, used: BTreeSet::new(), taken: BTreeSet::new(), closed: BTreeSet::new(), tile })
    }

    /// What is used until now is not for later groups.
    fn close(&mut self) {
        self.closed.clone_from(&self.used);
    }

    /// Forgets what a file of text does not need.
    fn drop(&mut self, family: &HfFamily, tied: bool, notes: &mut Vec<String>) {
        let mut senses = 0usize;
        self.by_name.retain(|short, name| {
            let other = OTHER_SENSES.iter().any(|p| short.starts_with(p));
            let head = tied && short == "lm_head.weight";
            senses += usize::from(other);
            if head {
                notes.push(format!("tensor `{}` is left out: the embeddings are the head too", printable(name)));
            }
            !(other || head || COMPUTED.iter().chain(family.drop).any(|e| short.ends_with(e)))
        });
        if senses > 0 {
            notes.push(format!("{senses} tensors for images or sound are left out: the file is of the text model"));
        }
    }

    /// Forgets layers that guess further tokens.
    fn drop_next(&mut self, facts: &Facts, notes: &mut Vec<String>) {
        let layers = (0..facts.n_next).map(|i| format!("layers.{}.", facts.n_layer + i));
        // Some checkpoints have them in a part of their own.
        let layers: Vec<String> = layers.chain(["mtp.".to_owned()]).collect();
        let before = self.by_name.len();
        self.by_name.retain(|short, _| !layers.iter().any(|l| short.starts_with(l)));
        if self.by_name.len() < before {
            let n = before - self.by_name.len();
            notes.push(format!("{n} tensors of layers that guess further tokens are left out"));
        }
    }

    /// What a rule makes in a layer, if its source is there.
    fn make(&mut self, rule: &Rule, layer: u32, ending: &str, facts: &Facts) -> Result<Option<Lazy>> {
        self.taken.clear();
        let mut parts = Vec::new();
        for from in rule.from.split('|') {
            let from = format!("{from}{ending}").replace("{}", &layer.to_string());
            let many =
                [("{e}", facts.n_expert), ("{q}", facts.n_head), ("{k}", facts.n_head_kv), ("{s}", facts.n_stream - 1)];
            let part = match many.into_iter().find(|(place, _)| from.contains(place)) {
                Some((place, n)) => {
                    let all = (0..n).map(|i| self.read(&from.replace(place, &i.to_string())));
                    let all: Option<Vec<Lazy>> = all.collect::<Result<_>>()?;
                    let all = all.filter(|a| !a.is_empty());
                    all.map(|a| Lazy::stack(a).ok_or_else(|| unequal(&from))).transpose()?
                }
                None => self.read(&from)?,
            };
            match part {
                Some(part) => parts.push(part),
                None => return Ok(None),
            }
        }
        if self.taken.iter().any(|name| self.closed.contains(name)) {
            return Ok(None);
        }
        self.used.append(&mut self.taken);
        let from = || rule.from.replace("{}", &layer.to_string());
        let mut lazy = match parts.len() {
            1 => parts.remove(0),
            _ => Lazy::join(parts).ok_or_else(|| unequal(&from()))?,
        };
        for how in rule.how {
            let shape = lazy.shape.clone();
            lazy = apply(*how, lazy, facts).ok_or_else(|| {
                let message = format!(
                    "tensor `{}{ending}`: shape {shape:?} does not fit {} heads, {} of them for keys, as `config.json` says",
                    printable(&from()),
                    facts.n_head,
                    facts.n_head_kv
                );
                Error::new(ErrorKind::Model, message).with_hint(INCOMPLETE)
            })?;
        }
        // GGUF has no scalars.
        if lazy.shape.is_empty() {
            lazy.shape.push(1);
        }
        if lazy.shape.len() > MAX_DIMS || lazy.shape.contains(&0) {
            let message = format!("tensor `{}{ending}`: shape {:?} is none of GGUF", printable(&from()), lazy.shape);
            return Err(Error::new(ErrorKind::Model, message));
        }
        Ok(Some(lazy))
    }

    /// A tensor by its name without prefixes; it counts as taken.
    fn read(&mut self, short: &str) -> Result<Option<Lazy>> {
        if let Some(name) = short.strip_suffix("_blocks") {
            return self.read_mxfp4(name);
        }
        let Some(name) = self.by_name.get(short).copied() else {
            return if short.ends_with(".weight") { self.read_mxfp4(short) } else { Ok(None) };
        };
        let Some((leaf, stored)) = self.leaf(name) else { return Ok(None) };
        if !is_number(stored.dtype) {
            let message = format!("tensor `{}` is of {}, expected floating-point", printable(name), stored.dtype);
            let hint = "convert the folder of the model before it was quantized";
            return Err(Error::new(ErrorKind::Model, message).with_hint(hint));
        }
        let lazy = Lazy { shape: stored.shape.clone(), node: Node::Leaf(leaf) };
        let scales = self.scales(short, stored, &lazy)?;
        self.taken.insert(name);
        Ok(Some(match scales {
            None => lazy,
            Some((shape, tile, scales)) => {
                Lazy { shape: lazy.shape, node: Node::Scaled { of: Arc::new(lazy.node), shape, tile, scales } }
            }
        }))
    }

    fn leaf(&self, name: &str) -> Option<(Leaf, &'a Stored)> {
        let (file, index) = self.checkpoint.tensor(name)?;
        Some((Leaf::Stored { file: Arc::clone(file), index }, file.tensors.get(index)?))
    }

    /// The factors of a tensor of 8-bit numbers: its rows and columns, the tile that shares a factor, the factors.
    #[expect(clippy::type_complexity, reason = "the parts of one kind of node")]
    fn scales(
        &mut self,
        short: &str,
        stored: &Stored,
        lazy: &Lazy,
    ) -> Result<Option<([u64; 2], [u64; 2], Arc<[f32]>)>> {
        if !matches!(stored.dtype, Dtype::F8E4m3 | Dtype::F8E5m2) {
            return Ok(None);
        }
        let base = short.trim_end_matches(".weight");
        for ending in ACTIVATION_SCALES {
            self.taken.extend(self.by_name.get(&format!("{base}{ending}")));
        }
        let beside = SCALES.iter().find_map(|e| self.by_name.get(&format!("{short}{e}")).copied());
        let found = beside.and_then(|name| self.leaf(name));
        let (Some(name), Some((leaf, scale))) = (beside, found) else { return Ok(None) };
        let bad = |what: &str| {
            let message = format!("tensor `{}` of shape {:?}: {what}", printable(name), scale.shape);
            Error::new(ErrorKind::Model, message)
        };
        let [.., rows, cols] = lazy.shape[..] else { return Err(bad("it scales no matrix")) };
        let n: u64 = scale.shape.iter().product();
        let outer: u64 = lazy.shape[..lazy.shape.len() - 2].iter().product();
        let tiles = outer * rows.div_ceil(self.tile[0]) * cols.div_ceil(self.tile[1]);
        let tile = match n {
            1 if outer == 1 => [rows, cols],
            n if n == outer * rows && scale.shape.len() <= lazy.shape.len() && scale.shape.last() != Some(&cols) => {
                [1, cols]
            }
            n if n == tiles => self.tile,
            _ => return Err(bad(&format!("expected one factor, {rows}, or {tiles}"))),
        };
        let mut scales = vec![0.0; usize::try_from(n).map_err(|_| bad("too many factors"))?];
        Node::Leaf(leaf).read(0, &mut scales)?;
        self.taken.insert(name);
        Ok(Some(([rows, cols], tile, scales.into())))
    }

    /// `x_blocks` [.., n, 16] and `x_scales` [.., n] are `x` [.., 32 n] in 4 bits.
    fn read_mxfp4(&mut self, short: &str) -> Result<Option<Lazy>> {
        let find = |ending: &str| self.by_name.get(&format!("{short}{ending}")).copied();
        let (Some(blocks), Some(scales)) = (find("_blocks"), find("_scales")) else { return Ok(None) };
        let (Some((b, sb)), Some((s, ss))) = (self.leaf(blocks), self.leaf(scales)) else { return Ok(None) };
        let fits = sb.shape.split_last().is_some_and(|(last, outer)| *last == 16 && outer == ss.shape);
        let (Some((n, outer)), true) = (ss.shape.split_last(), fits && sb.dtype == Dtype::U8 && ss.dtype == Dtype::U8)
        else {
            let message = format!(
                "tensor `{}`: {} {:?} and {} {:?} are no 4-bit blocks and their scales",
                printable(blocks),
                sb.dtype,
                sb.shape,
                ss.dtype,
                ss.shape
            );
            return Err(Error::new(ErrorKind::Model, message));
        };
        let shape = outer.iter().copied().chain([n * 32]).collect();
        self.taken.extend([blocks, scales]);
        Ok(Some(Lazy { shape, node: Node::Mxfp4 { blocks: b, scales: s } }))
    }

    /// Refuses what is left.
    fn finish(self, family: &HfFamily) -> Result<()> {
        let left: Vec<&str> = self.by_name.values().copied().filter(|n| !self.used.contains(n)).collect();
        let Some(first) = left.first() else { return Ok(()) };
        let more = if left.len() > 1 { format!(" and {} more", left.len() - 1) } else { String::new() };
        let message =
            format!("tensor `{}`{more}: no rule for {} takes it", printable(first), family.names.join(" or "));
        let hint = "the model is a variant that is not supported; without the tensor it would be silently wrong";
        let file = self.checkpoint.tensor(first).map(|(file, _)| file.path.clone());
        let error = Error::new(ErrorKind::Model, message).with_hint(hint);
        Err(match file {
            Some(file) => error.in_file(&file),
            None => error,
        })
    }
}

/// A name without the prefixes that only say where the text model sits.
pub(super) fn without_places(mut name: &str) -> &str {
    while let Some(rest) = PLACES.iter().find_map(|p| name.strip_prefix(p)) {
        name = rest;
    }
    name
}

fn unequal(from: &str) -> Error {
    Error::new(ErrorKind::Model, format!("tensors `{}` differ in shape and belong together", printable(from)))
}

/// One transformation; `None` when the shape does not fit it.
pub(super) fn apply(how: How, lazy: Lazy, facts: &Facts) -> Option<Lazy> {
    let shape = lazy.shape.clone();
    let (first, rest) = (shape.first().copied()?, shape.get(1..)?.iter().product::<u64>());
    let (n_head, n_kv) = (u64::from(facts.n_head), u64::from(facts.n_head_kv));
    // A vector or a matrix again, of the rows that are left.
    let rows = |lazy: Lazy| {
        let rows = lazy.len().checked_div(rest)?;
        let shape: Vec<u64> = std::iter::once(rows).chain(shape[1..].iter().copied()).collect();
        lazy.reshape(&shape)
    };
    match how {
        How::Pairs(heads) => {
            let h = if heads == Heads::Query { n_head } else { n_kv };
            let half = first.checked_div(2 * h)?;
            rows(lazy.reshape(&[h, 2, half, rest])?.permute(&[0, 2, 1, 3])?)
        }
        How::AddOne => Some(lazy.each(Each::AddOne)),
        How::Transpose => {
            let mut order: Vec<usize> = (0..shape.len()).collect();
            let n = order.len();
            order.swap(n.checked_sub(2)?, n - 1);
            lazy.permute(&order)
        }
        How::RowPart(i, n) => {
            let axis = shape.len().saturating_sub(2);
            let part = shape[axis].is_multiple_of(n).then(|| shape[axis] / n)?;
            lazy.slice(axis, i * part, part)
        }
        How::RowEvery(i, n) | How::LastEvery(i, n) => {
            let axis = shape.len().checked_sub(if matches!(how, How::RowEvery(..)) { 2 } else { 1 })?;
            let mut parts = shape.clone();
            parts.splice(axis..=axis, [shape[axis].checked_div(n)?, n]);
            let mut out = shape;
            out[axis] /= n;
            lazy.reshape(&parts)?.slice(axis + 1, i, 1)?.reshape(&out)
        }
        How::LatentKeys | How::LatentValues => {
            let d = first.checked_div(n_head)?;
            let nope = u64::from(facts.n_nope);
            let heads = lazy.reshape(&[n_head, d, rest])?;
            match how {
                How::LatentKeys => heads.slice(1, 0, nope)?.permute(&[0, 2, 1]),
                _ => heads.slice(1, nope, d.checked_sub(nope)?),
            }
        }
        How::RowsBehindPad => {
            let skip = u64::from(facts.pad?) + 1;
            lazy.slice(0, skip, first.checked_sub(skip)?)
        }
        How::Regroup => {
            let third = |third: Third| apply(How::Grouped(third), lazy.clone(), facts);
            Lazy::join(vec![third(Third::Query)?, third(Third::Key)?, third(Third::Value)?])
        }
        How::Times(factor) => Some(match facts.factors.of(factor) {
            1.0 => lazy,
            factor => lazy.each(Each::Times(factor)),
        }),
        How::TimesParts => {
            let parts = &facts.factors.parts;
            if parts.iter().map(|(rows, _)| rows).sum::<u64>() != first {
                return None;
            }
            let mut start = 0;
            let part = |(rows, factor): &(u64, f64)| {
                let part = lazy.clone().slice(0, start, *rows)?;
                start += rows;
                Some(part.each(Each::Times(*factor)))
            };
            Lazy::join(parts.iter().map(part).collect::<Option<_>>()?)
        }
        How::Four(dims) => {
            let dim = |dim: Dim| match dim {
                Dim::One => 1,
                Dim::All => lazy.len(),
                Dim::First => first,
                Dim::Last => shape[shape.len() - 1],
            };
            let shape = dims.map(dim);
            lazy.reshape(&shape)
        }
        How::FillRows => lazy.fill_rows(facts.n_vocab.map_or(first, u64::from)),
        How::Grouped(third) => {
            let queries = n_head / n_kv;
            let d = first.checked_div(n_kv * (queries + 2))?;
            let (start, n) = match third {
                Third::Query => (0, queries),
                Third::Key => (queries, 1),
                Third::Value => (queries + 1, 1),
            };
            rows(lazy.reshape(&[n_kv, queries + 2, d, rest])?.slice(1, start, n)?)
        }
        How::Ungroup => {
            let d = first.checked_div(n_head * 3)?;
            rows(lazy.reshape(&[n_head, 3, d, rest])?.permute(&[1, 0, 2, 3])?)
        }
        How::NegExp => Some(lazy.each(Each::NegExp)),
        How::Squeeze => {
            let shape: Vec<u64> = shape.into_iter().filter(|n| *n != 1).collect();
            lazy.reshape(&shape)
        }
        How::Column => lazy.reshape(&[shape.iter().product(), 1]),
        How::StateGroups => {
            let groups = u64::from(facts.n_state_group);
            lazy.reshape(&[groups, first.is_multiple_of(groups).then(|| first.checked_div(groups))??])
        }
        How::OfKeyHeads(part) => {
            let [keys, values] = facts.n_delta_head.map(u64::from);
            let per_key = values.checked_div(keys)?;
            let d = first.checked_div(keys * (2 + 2 * per_key))?;
            let heads = lazy.reshape(&[keys, (2 + 2 * per_key) * d, rest])?;
            let rows = |start: u64, n: u64| heads.clone().slice(1, start * d, n * d)?.reshape(&[keys * n * d, rest]);
            match part {
                DeltaPart::Inputs => Lazy::join(vec![rows(0, 1)?, rows(1, 1)?, rows(2, per_key)?]),
                DeltaPart::Gate => rows(2 + per_key, per_key),
            }
        }
        How::InTurn(what) => {
            let [keys, values] = facts.n_delta_head.map(u64::from);
            let per_key = values.checked_div(keys)?;
            // [outer, values, rest], value heads side by side.
            let turn = |lazy: Lazy, outer: u64, n: u64, rest: u64| {
                let d = n.checked_div(values)?;
                lazy.reshape(&[outer, keys, per_key, d, rest])?.permute(&[0, 2, 1, 3, 4])
            };
            match what {
                Turned::Rows => turn(lazy, 1, first, rest)?.reshape(&shape),
                Turned::Columns => turn(lazy, first, rest, 1)?.reshape(&shape),
                Turned::RowsBehindKeys => {
                    // Heads of both kinds are equally wide.
                    let start = first.checked_div(2 * keys + values)? * 2 * keys;
                    let behind = lazy.clone().slice(0, start, first.checked_sub(start)?)?;
                    let behind = turn(behind, 1, first - start, rest)?;
                    let tail: Vec<u64> = std::iter::once(first - start).chain(shape[1..].iter().copied()).collect();
                    Lazy::join(vec![lazy.slice(0, 0, start)?, behind.reshape(&tail)?])
                }
            }
        }
    }
}
