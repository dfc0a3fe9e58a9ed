//! The text of a kernel: constants, the prelude, fragments for formats, and the kernel's own file, joined.
//!
//! All of it is WGSL in `shaders/`, embedded in the binary. Names in [`FILES`] are paths below that folder. A kernel's
//! bindings stand here once, as a table that a test compares with the text.

use std::fmt::Write as _;

macro_rules! files {
    ($($name:literal)*) => { &[$(($name, include_str!(concat!("../../shaders/", $name, ".wgsl")))),*] };
}

/// Every file of `shaders/`.
pub(super) const FILES: &[(&str, &str)] = files![
    "prelude" "linear" "experts" "int8" "math" "act" "rows" "reduce/tree" "reduce/subgroup"
    "kernel/add" "kernel/embed" "kernel/experts_gate" "kernel/experts_group" "kernel/experts_sum" "kernel/gate" "kernel/matmul" "kernel/matmul_int8" "kernel/matvec"
    "kernel/matvec_int8" "kernel/mix" "kernel/norm" "kernel/pool" "kernel/quantize" "kernel/rope" "kernel/rescale" "kernel/route" "kernel/scale" "kernel/softcap" "kernel/sparsify" "kernel/take"
    "weights"
    "quant/integer" "quant/f32" "quant/f16" "quant/bf16"
    "quant/q4_0" "quant/q4_1" "quant/q5_0" "quant/q5_1" "quant/q8_0" "quant/q1_0" "quant/q2_0"
    "quant/fp4" "quant/mxfp4" "quant/nvfp4"
    "quant/q2_k" "quant/q3_k" "quant/k_scales" "quant/q4_k" "quant/q5_k" "quant/q6_k"
    "quant/tq1_0" "quant/tq2_0"
    "quant/iq4" "quant/iq4_nl" "quant/iq4_xs"
    "quant/grid8" "quant/iq2" "quant/even_signs" "quant/iq2_xxs" "quant/iq2_xs" "quant/iq2_s"
    "quant/grid4" "quant/iq3_xxs" "quant/iq3_s"
    "quant/iq1" "quant/iq1_s" "quant/iq1_m"
    "kernel/dequantize"
    "cache/f32" "cache/f16" "cache/q8_0" "cache/put_f32" "cache/put_f16" "cache/put_q8_0"
    "lib/attend" "lib/select"
    "kernel/store" "kernel/attend" "kernel/attend_reduce" "kernel/argmax" "kernel/top_k"
    "lib/state" "kernel/conv" "kernel/delta" "kernel/delta_gates" "kernel/scan" "kernel/scan_steps"
    "lib/positions" "kernel/positions_score" "kernel/positions_choose" "kernel/attend_chosen"
];

/// What a binding shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Slot {
    /// A storage buffer that is only read.
    Read,
    /// A storage buffer that is written, or shared with one that is.
    Write,
    /// Parameters.
    Uniform,
}

use Slot::{Read, Uniform, Write};

/// Bindings of kernels over weights: wq, ws, tables, x, y, bias, p, batch.
pub(super) const WEIGHTS: &[Slot] = &[Read, Read, Read, Read, Write, Read, Uniform, Uniform];
/// The same with the scales of quantized activations behind them.
pub(super) const WEIGHTS_INT8: &[Slot] = &[Read, Read, Read, Read, Write, Read, Uniform, Uniform, Read];
/// Bindings of kernels over rows: a, b, out, weight, bias, p, batch. Inputs are bound for writing, since a result may
/// lie on its input, and a buffer cannot be bound for reading and for writing at once.
pub(super) const ROWS: &[Slot] = &[Write, Write, Write, Read, Read, Uniform, Uniform];
/// Bindings of the kernel that quantizes activations: a, codes, scales, p, batch.
pub(super) const QUANTIZE: &[Slot] = &[Read, Write, Write, Uniform, Uniform];
/// Bindings of the kernel that fills a cache: k, v, cache k, cache v, order, status, p, seq.
pub(super) const STORE: &[Slot] = &[Read, Read, Write, Write, Read, Write, Uniform, Uniform];
/// Bindings of attention: q, cache k, cache v, out, part, order, p, seq, sinks.
pub(super) const ATTEND: &[Slot] = &[Read, Read, Read, Write, Write, Read, Uniform, Uniform, Read];
/// Bindings of the kernel that joins the parts of attention: out, part, order, p, seq.
pub(super) const ATTEND_REDUCE: &[Slot] = &[Write, Read, Read, Uniform, Uniform];
/// Bindings of the kernel that groups rows by expert: idx, table, p, batch.
pub(super) const EXPERTS_GROUP: &[Slot] = &[Read, Write, Uniform, Uniform];
/// Bindings of the activation of experts: a, b, out, weight, bias, p, batch, idx, w.
pub(super) const EXPERTS_GATE: &[Slot] = &[Write, Write, Write, Read, Read, Uniform, Uniform, Read, Read];
/// Bindings of the choice of tokens: logits, part, out, p.
pub(super) const SELECT: &[Slot] = &[Read, Write, Write, Uniform];

/// Bindings of the scores of positions: q, w, cache k, scores, order, p, seq.
pub(super) const POSITIONS_SCORE: &[Slot] = &[Read, Read, Read, Write, Read, Uniform, Uniform];
/// Bindings of the choice by them: scores, out, order, p, seq.
pub(super) const POSITIONS_CHOOSE: &[Slot] = &[Read, Write, Read, Uniform, Uniform];
/// Bindings of attention over chosen positions: q, cache k, cache v, out, chosen, order, p, seq.
pub(super) const ATTEND_CHOSEN: &[Slot] = &[Read, Read, Read, Write, Read, Read, Uniform, Uniform];
/// Bindings of short convolutions: x, out, state, weight, bias, order, p, seq. Inputs are bound for writing as in
/// [`ROWS`].
pub(super) const CONV: &[Slot] = &[Write, Write, Write, Read, Read, Read, Uniform, Uniform];
/// Bindings of the delta rule: q, k, v, out, gates, state, order, p, seq.
pub(super) const DELTA: &[Slot] = &[Write, Write, Write, Write, Read, Write, Read, Uniform, Uniform];
/// Bindings of a selective scan: x, b, c, out, gates, state, rates, order, p, seq.
pub(super) const SCAN: &[Slot] = &[Write, Write, Write, Write, Read, Write, Read, Read, Uniform, Uniform];
/// Bindings of what comes before one: x, dt, out, gates, d, bias, p, batch.
pub(super) const SCAN_STEPS: &[Slot] = &[Write, Write, Write, Write, Read, Read, Uniform, Uniform];

/// A kernel and everything that its text depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Kernel {
    /// File of the kernel, without `kernel/`.
    pub name: &'static str,
    /// Further files, in any order. `FILE@x` is the file with x for every `KV`: its names for keys or for values,
    /// since WGSL cannot hand a buffer to a function.
    pub fragments: Vec<&'static str>,
    /// Constants: `const NAME = value;`, of type u32.
    pub consts: Vec<(&'static str, u32)>,
    /// Its bindings.
    pub slots: &'static [Slot],
    /// Does the text need f16?
    pub f16: bool,
}

impl Kernel {
    /// A kernel without fragments.
    pub fn new(name: &'static str, slots: &'static [Slot]) -> Self {
        Self { name, fragments: Vec::new(), consts: Vec::new(), slots, f16: false }
    }

    /// Adds a file.
    #[must_use]
    pub fn with(mut self, fragment: &'static str) -> Self {
        self.fragments.push(fragment);
        self
    }

    /// Adds a constant.
    #[must_use]
    pub fn set(mut self, name: &'static str, value: u32) -> Self {
        self.consts.push((name, value));
        self
    }

    /// The file and the fragments.
    pub fn parts(&self) -> String {
        let mut parts = self.name.to_owned();
        self.fragments.iter().for_each(|f| parts.extend(["+", f]));
        parts
    }

    /// Name for people: the file, the fragments, the constants.
    pub fn label(&self) -> String {
        let mut label = self.parts();
        self.consts.iter().for_each(|(name, value)| write!(label, " {name}={value}").expect("a string"));
        label
    }

    /// The whole text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        if self.f16 {
            text += "enable f16;\n";
        }
        for (name, value) in &self.consts {
            writeln!(text, "const {name} = {value}u;").expect("a string");
        }
        let kernel = format!("kernel/{}", self.name);
        for name in ["prelude"].into_iter().chain(self.fragments.iter().copied()).chain([kernel.as_str()]) {
            match name.split_once('@') {
                Some((name, letter)) => text += &file(name).replace("KV", letter),
                None => text += file(name),
            }
        }
        text
    }
}

/// A file of `shaders/`.
fn file(name: &str) -> &'static str {
    FILES.iter().find(|f| f.0 == name).map(|f| f.1).unwrap_or_else(|| unreachable!("`{name}` is not listed"))
}

/// A number that changes with every text: part of the key of cached verdicts.
pub fn fingerprint() -> u64 {
    // FNV-1a.
    let bytes = FILES.iter().flat_map(|(name, text)| name.bytes().chain(text.bytes()));
    bytes.fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::path::Path;

    /// Names of the files in `folder` and below it, relative to `root`.
    fn shaders(root: &Path, folder: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                shaders(root, &path, found);
            } else {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
                found.insert(name.strip_suffix(".wgsl").unwrap_or(&name).to_owned());
            }
        }
    }

    #[test]
    fn every_file_of_the_shaders_is_listed_once() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
        let mut found = BTreeSet::new();
        shaders(&root, &root, &mut found);
        let listed: BTreeSet<String> = FILES.iter().map(|f| f.0.to_owned()).collect();
        assert_eq!(listed, found);
        assert_eq!(listed.len(), FILES.len());
    }
}
