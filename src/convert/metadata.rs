//! The metadata of a GGUF file but the tokenizer's: what the folder says, in GGUF's words.

mod layers;

use std::collections::BTreeMap;

use super::facts::Facts;
use super::hf::{Branch, Field, Folder, Section};
use super::names::{
    COMMON_KEYS, EXPERT_KEYS, From, HfFamily, Key, LayerSizes, Longrope, ScoreScale, StateLayers, Windows,
};
use super::producer::{Lazy, Node};
use crate::error::{Error, ErrorKind, Result, printable};
use crate::gguf::KeyValue;

/// Keys and values of a file to be.
#[derive(Debug, Default)]
pub(super) struct Keys(Vec<(String, KeyValue)>);

impl Keys {
    /// Adds a key, or replaces its value.
    pub(super) fn set(&mut self, name: impl Into<String>, value: impl Into<KeyValue>) {
        let (name, value) = (name.into(), value.into());
        match self.0.iter_mut().find(|(n, _)| *n == name) {
            Some(slot) => slot.1 = value,
            None => self.0.push((name, value)),
        }
    }

    pub(super) fn into_inner(self) -> Vec<(String, KeyValue)> {
        self.0
    }
}

/// Takes numbers that a checkpoint has as tensors and a file as keys, one of each layer.
///
/// # Errors
/// [`ErrorKind::Model`] where some layers lack theirs, or a tensor has several.
pub(super) fn numbers(facts: &Facts, made: &mut Vec<(String, Lazy)>, keys: &mut Keys) -> Result<()> {
    let mut all: BTreeMap<String, Vec<f32>> = BTreeMap::new();
    for (name, lazy) in made.extract_if(.., |(name, _)| name.starts_with('=')) {
        let (key, layer) = name.trim_start_matches('=').split_once(' ').unwrap_or((&name, "0"));
        let mut number = [0.0];
        if lazy.len() != 1 {
            let message = format!("`{key}` of layer {layer}: a tensor of shape {:?}, expected one number", lazy.shape);
            return Err(Error::new(ErrorKind::Model, message));
        }
        lazy.node.read(0, &mut number)?;
        all.entry(key.to_owned()).or_default().extend(number);
    }
    for (key, list) in all {
        if list.len() != facts.n_layer as usize {
            let message = format!("`{key}`: the checkpoint has it for {} of {} layers", list.len(), facts.n_layer);
            return Err(Error::new(ErrorKind::Model, message).with_hint("the download is incomplete"));
        }
        keys.set(key, list);
    }
    Ok(())
}

/// Writes the keys of the architecture; gives the tensors that are computed from `config.json`.
///
/// # Errors
/// [`ErrorKind::Model`] naming a key that is missing, out of range, or says what GGUF cannot.
pub(super) fn write(
    family: &HfFamily,
    facts: &Facts,
    folder: &Folder,
    n_vocab: u64,
    made: &[(String, Lazy)],
    keys: &mut Keys,
    notes: &mut Vec<String>,
) -> Result<Vec<(String, Lazy)>> {
    let mut w = Writer { family, facts, folder, made, keys, notes, tensors: Vec::new() };
    w.put("block_count", facts.n_layer);
    let expert_keys = if facts.n_expert > 0 { EXPERT_KEYS } else { &[] };
    let own_width = family.layer_sizes != LayerSizes::Equal;
    let common = COMMON_KEYS.iter().filter(|key| !(own_width && key.name == "feed_forward_length"));
    w.keys_from(common)?;
    w.keys_from(expert_keys)?;
    w.put("attention.head_count", facts.n_head);
    w.kv_heads()?;
    let n_vocab = u32::try_from(n_vocab).map_err(|_| folder.error(Field::Vocab, n_vocab, "below 2^32"))?;
    if let Some(said) = folder.uint(Field::Vocab)?.filter(|n| *n != n_vocab) {
        w.notes.push(format!("`config.json` says {said} tokens; the embeddings have {n_vocab}, which counts"));
    }
    w.put("vocab_size", n_vocab);
    if facts.n_head > 0 {
        w.rotations()?;
    }
    w.windows()?;
    w.layer_sizes()?;
    w.score_scale()?;
    w.pooling()?;
    w.sampling()?;
    w.keys_from(family.keys)?;
    let omitted: Vec<String> = family.omits.iter().map(|name| format!("{}.{name}", family.arch)).collect();
    w.keys.0.retain(|(name, _)| !omitted.contains(name));
    Ok(w.tensors)
}

struct Writer<'a> {
    family: &'a HfFamily,
    facts: &'a Facts,
    folder: &'a Folder,
    /// The tensors of the file.
    made: &'a [(String, Lazy)],
    keys: &'a mut Keys,
    notes: &'a mut Vec<String>,
    tensors: Vec<(String, Lazy)>,
}

impl Writer<'_> {
    fn keys_from<'k>(&mut self, keys: impl IntoIterator<Item = &'k Key>) -> Result<()> {
        for key in keys {
            if let Some(value) = self.value(key.from)? {
                self.put(key.name, value);
            }
        }
        Ok(())
    }

    /// Key and value heads, layer by layer where some layers have none.
    fn kv_heads(&mut self) -> Result<()> {
        let (facts, kinds) = (self.facts, self.family.state_layers);
        if kinds == StateLayers::None {
            self.put("attention.head_count_kv", facts.n_head_kv);
            return Ok(());
        }
        if kinds == StateLayers::Branches {
            let branches = self.folder.branches(facts.n_layer)?;
            let [expert, dense] = [Field::ExpertFf, Field::Ff].map(|field| self.folder.uint(field));
            let (expert, dense) = (expert?.unwrap_or(0), dense?.unwrap_or(0));
            let numbers = |n: &dyn Fn(Branch) -> u32| {
                branches.iter().map(|b| i32::try_from(n(*b)).unwrap_or(i32::MAX)).collect::<Vec<i32>>()
            };
            let heads = numbers(&|branch| if branch == Branch::Attention { facts.n_head_kv } else { 0 });
            let widths = numbers(&|branch| match branch {
                Branch::Dense => dense,
                Branch::Experts => expert,
                Branch::Attention | Branch::State => 0,
            });
            self.put("attention.head_count_kv", heads);
            self.put("feed_forward_length", widths);
            return Ok(());
        }
        let Some(layers) = self.folder.state_layers(facts.n_layer)? else {
            return Err(self.folder.error(Field::LayerTypes, "nothing", "the kind of each layer"));
        };
        if kinds == StateLayers::Listed {
            self.put("attention.head_count_kv", facts.n_head_kv);
            self.put("attention.recurrent_layers", layers);
            return Ok(());
        }
        let n_head_kv = if kinds == StateLayers::NoLatentHead { 1 } else { facts.n_head_kv };
        let heads = |keeps: &bool| if *keeps { 0 } else { n_head_kv };
        let heads: Option<Vec<i32>> = layers.iter().map(|keeps| i32::try_from(heads(keeps)).ok()).collect();
        let heads = heads.ok_or_else(|| self.folder.error(Field::KvHeads, facts.n_head_kv, "below 2^31"))?;
        self.put("attention.head_count_kv", heads);
        Ok(())
    }

    /// A key of the architecture.
    fn put(&mut self, name: &str, value: impl Into<KeyValue>) {
        self.keys.set(format!("{}.{name}", self.family.arch), value);
    }

    #[expect(clippy::cast_possible_truncation, reason = "f64 to f32 rounds: GGUF's numbers are of single precision")]
    fn put_float(&mut self, name: &str, value: f64) {
        self.put(name, value as f32);
    }

    #[expect(clippy::cast_possible_truncation, reason = "f64 to f32 rounds: GGUF's numbers are of single precision")]
    fn value(&self, from: From) -> Result<Option<KeyValue>> {
        Ok(match from {
            From::Uint(field) => self.folder.uint(field)?.map(Into::into),
            From::Float(field) => self.folder.float(field)?.map(|x| (x as f32).into()),
            From::Flag(field) => self.folder.flag(field)?.map(Into::into),
            From::Text(text) => Some(text.into()),
            From::Ratio(a, b) => match (self.folder.float(a)?, self.folder.float(b)?.filter(|b| *b != 0.0)) {
                (Some(a), Some(b)) => Some(((a / b) as f32).into()),
                _ => None,
            },
            From::PerRootLayers(field) => {
                self.folder.float(field)?.map(|x| ((x / f64::from(self.facts.n_layer).sqrt()) as f32).into())
            }
            From::Sum(a, b) => match (self.folder.uint(a)?, self.folder.uint(b)?) {
                (Some(a), Some(b)) => a.checked_add(b).map(Into::into),
                _ => None,
            },
            From::Product(a, b) => match (self.folder.uint(a)?, self.folder.uint(b)?) {
                (Some(a), Some(b)) => a.checked_mul(b).map(Into::into),
                _ => None,
            },
            From::Fixed(n) => Some(n.into()),
            From::Gating(silent) => match self.folder.config.text(self.folder.key(Field::Gating))? {
                None => Some(silent.into()),
                Some("softmax") => Some(1u32.into()),
                Some("sigmoid") => Some(2u32.into()),
                Some(other) => {
                    let found = format!("`{}`", printable(other));
                    return Err(self.folder.error(Field::Gating, found, "softmax or sigmoid"));
                }
            },
            From::RowsOf(name) => {
                let found = self.made.iter().find(|(n, _)| n == name).and_then(|(_, t)| t.shape.first());
                found.and_then(|n| u32::try_from(*n).ok()).map(Into::into)
            }
            From::Bool(flag) => Some(flag.into()),
            From::Is(field, text) => {
                let found = self.folder.config.text(self.folder.key(field))?;
                Some(found.is_none_or(|t| t == text).into())
            }
            From::OrSixteenth(a, b) => match (self.folder.uint(a)?, self.folder.uint(b)?) {
                (Some(a), _) => Some(a.into()),
                (None, Some(b)) => Some(b.div_ceil(16).into()),
                _ => None,
            },
            From::False => Some(false.into()),
            From::Word(field) => self.folder.config.text(self.folder.key(field))?.map(Into::into),
            From::BehindPad(field) => {
                let rest = |n: u32| n.checked_sub(self.facts.pad?)?.checked_sub(1);
                self.folder.uint(field)?.and_then(rest).map(Into::into)
            }
            From::OrProduct(one, a, b) => match self.folder.uint(one)? {
                Some(n) => Some(n.into()),
                None => self.value(From::Product(a, b))?,
            },
            From::LeadingDense => self.folder.leading_dense()?.map(Into::into),
            From::FfOrFourfold => Some(self.folder.uint(Field::Ff)?.unwrap_or(4 * self.facts.n_embd).into()),
        })
    }

    fn rotations(&mut self) -> Result<()> {
        let (facts, rope) = (self.facts, &self.facts.rope);
        self.put("rope.dimension_count", facts.n_rot);
        if let Some(theta) = rope.theta {
            self.put_float("rope.freq_base", theta);
        }
        if let Some(theta) = rope.theta_local {
            self.put_float("rope.freq_base_swa", theta);
        }
        self.check_unrotated()?;
        self.check_expected()?;
        if self.family.longrope == Longrope::Tensors {
            let original = self.folder.uint(Field::OriginalContext)?.unwrap_or(facts.n_ctx);
            self.put("rope.scaling.original_context_length", original);
        }
        let Some(params) = &rope.params else { return Ok(()) };
        let sections = params.uints("mrope_section")?;
        if !sections.is_empty() {
            // Time, height, width, and one that no model has.
            let small = |n: u32| i32::try_from(n).ok().filter(|n| *n <= 1 << 24);
            let sections: Option<Vec<i32>> = sections.into_iter().chain([0; 4]).take(4).map(small).collect();
            let sections =
                sections.ok_or_else(|| params.error("mrope_section", "larger numbers", "pairs of a head"))?;
            self.put("rope.dimension_sections", sections);
        }
        match rope.kind.as_str() {
            "default" | "mrope" => {}
            "linear" => {
                self.put("rope.scaling.type", "linear");
                self.put_float("rope.scaling.factor", factor(params)?);
            }
            "yarn" => self.yarn(params)?,
            "llama3" => self.llama3(params)?,
            "longrope" | "su" if self.family.longrope == Longrope::Tensors => self.longrope(params)?,
            // Hunyuan's, which is another base at any length. Source: transformers `modeling_hunyuan_v1_dense.py`.
            "dynamic" if params.float("alpha")?.is_some_and(|alpha| alpha > 0.0) => {
                let alpha = params.float("alpha")?.unwrap_or(1.0);
                let dims = f64::from(facts.n_rot);
                self.put_float("rope.freq_base", rope.theta.unwrap_or(10000.0) * alpha.powf(dims / (dims - 2.0)));
            }
            "proportional" if self.family.layer_sizes == LayerSizes::Heads => {}
            "dynamic" => self.notes.push(
                "rotations of type `dynamic` change beyond the trained context only; the file is for up to it".into(),
            ),
            other => {
                let found = format!("`{}`", printable(other));
                return Err(params.error("rope_type", found, "rotations that this architecture knows"));
            }
        }
        Ok(())
    }

    fn yarn(&mut self, params: &Section) -> Result<()> {
        let scale = factor(params)?;
        self.put("rope.scaling.type", "yarn");
        self.put_float("rope.scaling.factor", scale);
        if let Some(n) = params.uint("original_max_position_embeddings")? {
            self.put("rope.scaling.original_context_length", n);
        }
        for (key, name) in [("beta_fast", "rope.scaling.yarn_beta_fast"), ("beta_slow", "rope.scaling.yarn_beta_slow")]
        {
            if let Some(beta) = params.float(key)? {
                self.put_float(name, beta);
            }
        }
        // Factor of cosines and sines. Source: transformers `modeling_rope_utils.py`, `_compute_yarn_parameters`.
        let grown = |m: f64| if scale > 1.0 { 0.1 * m * scale.ln() + 1.0 } else { 1.0 };
        let (mscale, all) = (params.float("mscale")?, params.float("mscale_all_dim")?);
        let amp = match (params.float("attention_factor")?, mscale, all) {
            (Some(amp), _, _) => amp,
            (None, Some(m), Some(all)) if m != 0.0 && all != 0.0 => grown(m) / grown(all),
            _ => grown(1.0),
        };
        let mut assumed = grown(1.0);
        if let Some(all) = all.filter(|_| self.family.yarn_log != 0.0) {
            self.put_float("rope.scaling.yarn_log_multiplier", all * self.family.yarn_log);
            assumed = 1.0;
        }
        if (amp - assumed).abs() > 1e-6 {
            self.put_float("rope.scaling.attn_factor", amp);
            self.notes.push(format!(
                "cosines and sines are multiplied by {amp}; llama.cpp multiplies its own factor of yarn into that"
            ));
        }
        if let Some(beta) = params.float("llama_4_scaling_beta")? {
            self.put_float("attention.temperature_scale", beta);
        }
        Ok(())
    }

    /// Divisors of frequencies, in the single precision of the original. Source: transformers
    /// `modeling_rope_utils.py`, `_compute_llama3_parameters`.
    #[expect(clippy::cast_possible_truncation, reason = "the original computes in single precision")]
    fn llama3(&mut self, params: &Section) -> Result<()> {
        let need = |key: &str| -> Result<f32> {
            let x = params.float(key)?.filter(|x| *x > 0.0);
            x.map(|x| x as f32).ok_or_else(|| params.error(key, "nothing", "a number above 0"))
        };
        let (scale, low, high) = (factor(params)? as f32, need("low_freq_factor")?, need("high_freq_factor")?);
        let n_ctx = need("original_max_position_embeddings")?;
        let theta = self.facts.rope.theta.unwrap_or(10000.0) as f32;
        let n_rot = self.facts.n_rot;
        let divisor = |i: u32| {
            let freq = 1.0 / theta.powf((2 * i) as f32 / n_rot as f32);
            let wavelength = 2.0 * std::f32::consts::PI / freq;
            if wavelength < n_ctx / high {
                1.0
            } else if wavelength > n_ctx / low {
                scale
            } else {
                let smooth = (n_ctx / wavelength - low) / (high - low);
                1.0 / ((1.0 - smooth) / scale + smooth)
            }
        };
        let divisors = (0..n_rot / 2).map(divisor).collect();
        self.computed("rope_freqs.weight", divisors);
        Ok(())
    }

    /// Source: transformers `modeling_rope_utils.py`, `_compute_longrope_parameters`.
    fn longrope(&mut self, params: &Section) -> Result<()> {
        let facts = self.facts;
        let original = match params.uint("original_max_position_embeddings")? {
            Some(n) => Some(n),
            None => self.folder.uint(Field::OriginalContext)?,
        };
        let original = original.unwrap_or(facts.n_ctx);
        self.put("rope.scaling.original_context_length", original);
        let scale = f64::from(facts.n_ctx) / f64::from(original.max(1));
        let own = match params.float("attention_factor")? {
            Some(own) => Some(own),
            // Phi-3.5-MoE names it for both sets of factors; they are equal there.
            None => params.float("long_mscale")?,
        };
        let formula = || if scale > 1.0 { (1.0 + scale.ln() / f64::from(original).ln()).sqrt() } else { 1.0 };
        self.put_float("rope.scaling.attn_factor", own.unwrap_or_else(formula));
        for (key, name) in [("long_factor", "rope_factors_long.weight"), ("short_factor", "rope_factors_short.weight")]
        {
            match params.floats(key)? {
                Some(list) if list.len() == facts.n_rot as usize / 2 => self.computed(name, list),
                Some(list) => {
                    return Err(params.error(key, list.len(), &format!("{} factors", facts.n_rot / 2)));
                }
                None => return Err(params.error(key, "nothing", "a list of factors")),
            }
        }
        Ok(())
    }

    fn computed(&mut self, name: &str, values: Vec<f32>) {
        let lazy = Lazy { shape: vec![values.len() as u64], node: Node::Values(values.into()) };
        self.tensors.push((name.to_owned(), lazy));
    }

    fn check_expected(&self) -> Result<()> {
        for &(field, expected) in self.family.expects {
            if let Some(found) = self.folder.json(field).filter(|found| found != expected) {
                return Err(self.folder.error(field, found, expected));
            }
        }
        // Files have no word for a norm before the gate.
        let before = self.folder.flag(Field::StateNormFirst)?;
        if self.folder.flag(Field::StateNorm)? == Some(true) && before != Some(false) {
            let found = before.map_or("nothing".to_owned(), |b| b.to_string());
            return Err(self.folder.error(Field::StateNormFirst, found, "false beside a norm"));
        }
        // Nor for limits of step sizes; transformers 5 writes an infinite one as an object.
        if let Some(limits) = self.folder.json(Field::StepLimit) {
            let endless = ["[0.0,\"Infinity\"]", "[0.0,{\"__float__\":\"Infinity\"}]", "[0,\"Infinity\"]"];
            if !endless.contains(&limits.as_str()) {
                return Err(self.folder.error(Field::StepLimit, limits, "0 to infinity"));
            }
        }
        match self.folder.uint(Field::LinearHeads)? {
            Some(n) if n != self.facts.n_head => {
                let expected = format!("{}, as attention has", self.facts.n_head);
                Err(self.folder.error(Field::LinearHeads, n, &expected))
            }
            _ => Ok(()),
        }
    }

    fn check_unrotated(&self) -> Result<()> {
        let Some(n) = self.family.unrotated else { return Ok(()) };
        let list = self.folder.config.uints(self.folder.key(Field::Unrotated))?;
        if list.iter().zip(1..).any(|(rotates, layer)| (*rotates == 0) != (layer % n == 0)) {
            let expected = format!("0 for each layer of number {n}, which is all that a file of this kind can say");
            return Err(self.folder.error(Field::Unrotated, format!("{list:?}"), &expected));
        }
        Ok(())
    }

    fn windows(&mut self) -> Result<()> {
        let period = match self.family.windows {
            Windows::None => return Ok(()),
            Windows::Period(n) => Some(n),
            Windows::Listed | Windows::FullFirst => None,
        };
        let first = match self.family.windows {
            Windows::FullFirst => self.folder.uint(Field::FullEvery)?.filter(|n| *n > 0),
            _ => None,
        };
        let used = self.folder.flag(Field::UseWindow)?.unwrap_or(true);
        let layers = self.folder.windowed_layers(self.facts.n_layer)?;
        let none = layers.as_ref().is_some_and(|l| !l.contains(&true));
        let Some(window) = self.folder.uint(Field::Window)?.filter(|n| *n > 0 && used && !none) else {
            if self.family.names_no_window {
                self.put("attention.sliding_window", 0u32);
            }
            return Ok(());
        };
        self.put("attention.sliding_window", window);
        if let Some(n) = first {
            self.put("attention.sliding_window_pattern", n);
        }
        let n_layer = self.facts.n_layer;
        let assumed = match (period, first) {
            (Some(n), _) => Some((1..=n_layer).map(|i| n == 0 || i % n != 0).collect::<Vec<bool>>()),
            (None, Some(n)) => Some((0..n_layer).map(|i| i % n != 0).collect()),
            (None, None) => None,
        };
        if let Some(layers) = layers.filter(|l| assumed.as_ref() != Some(l)) {
            self.put("attention.sliding_window_pattern", layers);
        }
        Ok(())
    }

    fn score_scale(&mut self) -> Result<()> {
        let ScoreScale::Scalar { by_width } = self.family.score_scale else { return Ok(()) };
        let Some(scalar) = self.folder.float(Field::ScoreScalar)? else { return Ok(()) };
        let facts = self.facts;
        let wide = facts.n_layer == by_width;
        let assumed = if wide { f64::from(facts.n_embd) / f64::from(facts.n_head) } else { facts.head_dim.into() };
        if scalar <= 0.0 {
            return Err(self.folder.error(Field::ScoreScalar, scalar, "a number above 0"));
        }
        if (scalar - assumed).abs() > 1e-6 * assumed {
            self.put_float("attention.scale", scalar.sqrt().recip());
        }
        Ok(())
    }

    /// Source: sentence-transformers `models/Pooling.py`; numbers as llama.cpp's `llama_pooling_type`.
    fn pooling(&mut self) -> Result<()> {
        if self.folder.path.join("2_Dense").is_dir() {
            let what =
                "the layers behind the pooling (`2_Dense` and so on) are left out: vectors are those before them";
            self.notes.push(what.into());
        }
        let Some(config) = Section::read_if_present(&self.folder.path.join("1_Pooling").join("config.json"))? else {
            return Ok(());
        };
        let kinds = [("pooling_mode_mean_tokens", 1u32), ("pooling_mode_cls_token", 2), ("pooling_mode_lasttoken", 3)];
        for (key, kind) in kinds {
            if config.flag(key)? == Some(true) {
                self.put("pooling_type", kind);
                return Ok(());
            }
        }
        let message = "none of the kinds of pooling that GGUF knows (mean, first, last token) is chosen";
        Err(Error::new(ErrorKind::Model, message).in_file(&self.folder.path.join("1_Pooling").join("config.json")))
    }

    /// How the model's makers want it to be sampled.
    #[expect(clippy::cast_possible_truncation, reason = "f64 to f32 rounds: GGUF's numbers are of single precision")]
    fn sampling(&mut self) -> Result<()> {
        let Some(config) = &self.folder.generation else { return Ok(()) };
        if config.flag("do_sample")? == Some(false) {
            return Ok(());
        }
        let numbers =
            [("temperature", "temp"), ("top_p", "top_p"), ("min_p", "min_p"), ("repetition_penalty", "penalty_repeat")];
        for (key, name) in numbers {
            if let Some(x) = config.float(key)? {
                self.keys.set(format!("general.sampling.{name}"), x as f32);
            }
        }
        if let Some(n) = config.uint("top_k")?.and_then(|n| i32::try_from(n).ok()) {
            self.keys.set("general.sampling.top_k", n);
        }
        Ok(())
    }
}

fn factor(params: &Section) -> Result<f64> {
    match params.float("factor")? {
        Some(x) if x > 0.0 => Ok(x),
        Some(x) => Err(params.error("factor", x, "a number above 0")),
        None => Err(params.error("factor", "nothing", "a number above 0")),
    }
}
