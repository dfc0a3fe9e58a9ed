//! Whether a GPU computes a model rightly: a few tokens on it and on the CPU in exact mode, over one layer of each
//! kind that the model has. The verdict is kept for the same device, driver, kernels and kinds of layers.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::device::GpuCheck;
use super::executor::CpuMaker;
use super::load::Inner;
use super::remembered::Fact;
use crate::cpu::{CpuBackend, CpuSequence};
use crate::error::Result;
use crate::gpu::{self, Gpu, GpuBackend, GpuOptions, GpuSequence};
use crate::plan::{Backend, CacheType, Plan, Probe, Rows, SequenceMemory, Step};

/// Largest difference from the exact result, relative to the largest number of a row: with float activations, and
/// with activations in 8 bits. Faults of kernels and drivers are far above, rounding is far below.
const TOLERANCE: f32 = 5e-3;
const TOLERANCE_INT8: f32 = 8e-2;
/// Rows of the passes: a tiled product that does not fill its tile, one token, a few.
const PASSES: [u32; 3] = [11, 1, 3];
/// Rows of a pass whose results are compared.
const N_WANT: u32 = 2;
/// First word of a verdict that is good.
const GOOD: &str = "equal";

/// What is wrong with a GPU for this plan, `None` where nothing is.
///
/// # Errors
/// The check itself failed.
pub(super) fn fault(
    plan: &Arc<Plan>,
    inner: &Inner,
    maker: &CpuMaker,
    gpu: &Arc<Gpu>,
    options: &GpuOptions,
) -> Result<Option<String>> {
    let small = small_plan(plan).map_or_else(|| plan.clone(), Arc::new);
    let (version, signature) = (env!("CARGO_PKG_VERSION"), small.signature());
    let key = format!("{} {version} {:016x} {options:?} {:?} {signature}", gpu.key(), gpu::fingerprint(), gpu.caps());
    let fact = Fact::new(inner.options.knobs.cache_dir.as_deref(), "gpu-checks", &key);
    let kept = fact.read().filter(|_| inner.options.gpu_check != GpuCheck::Force);
    let verdict = match kept {
        Some(verdict) => verdict,
        None => {
            let found = Check::new(small, maker, gpu, options)?.verdict()?;
            fact.write(&found);
            found
        }
    };
    Ok((!verdict.starts_with(GOOD)).then_some(verdict))
}

/// The plan with one layer of each kind.
fn small_plan(plan: &Plan) -> Option<Plan> {
    let sections = plan.sections();
    let end_of = |i: usize| sections.get(i + 1).map_or(plan.steps().len(), |next| next.0);
    let (mut ranges, mut kinds) = (Vec::new(), Vec::new());
    for (i, (start, name)) in sections.iter().enumerate() {
        let range = *start..end_of(i);
        if name.starts_with("blk.") {
            let kind = plan.excerpt(std::slice::from_ref(&range))?.signature();
            if kinds.contains(&kind) {
                continue;
            }
            kinds.push(kind);
        }
        ranges.push(range);
    }
    plan.excerpt(&ranges)
}

/// Both back-ends with the same plan.
struct Check {
    plan: Arc<Plan>,
    cpu: CpuBackend,
    gpu: GpuBackend,
    device: Arc<Gpu>,
    tolerance: f32,
}

/// What a sequence remembers on both.
struct Pair(CpuSequence, GpuSequence);

impl Check {
    fn new(plan: Arc<Plan>, maker: &CpuMaker, device: &Arc<Gpu>, options: &GpuOptions) -> Result<Self> {
        let cpu = maker.exact().make(plan.clone())?.backend;
        let (weights, never) = (maker.weights(&plan)?, AtomicBool::new(false));
        let options = GpuOptions { n_batch: PASSES[0], ..options.clone() };
        let gpu = GpuBackend::new(device.clone(), plan.clone(), &weights, &options, &never, &mut |_| {})?;
        let tolerance = if gpu.uses_int8() { TOLERANCE_INT8 } else { TOLERANCE };
        Ok(Self { plan, cpu, gpu, device: device.clone(), tolerance })
    }

    /// One line: that both agree, or what differs first.
    fn verdict(&mut self) -> Result<String> {
        let mut worst = 0f32;
        for pass in 0..self.n_pass() {
            let difference = self.difference(pass, None)?;
            if difference > self.tolerance {
                return self.blamed(pass, difference);
            }
            worst = worst.max(difference);
        }
        Ok(format!("{GOOD} within {worst:.1e}"))
    }

    /// Names the first step whose result differs.
    fn blamed(&mut self, pass: usize, difference: f32) -> Result<String> {
        let mut place = String::from("in no step alone");
        for step in 0..self.plan.steps().len() {
            let Some(probe) = self.plan.find_label(&step.to_string()) else { continue };
            let difference = self.difference(pass, Some(probe))?;
            if difference > self.tolerance {
                let (section, name) = (self.plan.section_of(step), self.plan.steps()[step].name());
                let buffer = &self.plan.buffers()[probe.operand().buf.index()].name;
                place = format!("first in `{section}` at `{name}` (result `{buffer}`)");
                break;
            }
        }
        let n_row = PASSES[pass];
        Ok(format!("its results differ from the CPU's by {difference:.1e} of the largest with {n_row} rows, {place}"))
    }

    /// Where rows see later ones, or the vectors of whole sequences are pooled, a sequence is one pass.
    fn n_pass(&self) -> usize {
        if !self.plan.is_causal() || self.plan.steps().iter().any(|s| matches!(s, Step::Pool { .. })) {
            1
        } else {
            PASSES.len()
        }
    }

    /// The largest difference in a pass, after those before it.
    fn difference(&mut self, pass: usize, probe: Option<Probe>) -> Result<f32> {
        let n_ctx: u32 = PASSES.iter().sum();
        let types = CacheType::F16;
        let mut pair = Pair(
            CpuSequence::new(&self.plan, n_ctx, PASSES[0], types, types)?,
            GpuSequence::new(&self.device, &self.plan, n_ctx, PASSES[0], types, types)?,
        );
        for &n_row in &PASSES[..pass] {
            self.run(&mut pair, n_row, None)?;
        }
        let [exact, found] = self.run(&mut pair, PASSES[pass], probe)?;
        let width = probe.map_or(self.plan.outputs()[0], |p| p.operand()).len() as usize;
        let rows = exact.chunks(width).zip(found.chunks(width));
        Ok(rows.map(|(e, f)| relative_difference(e, f)).fold(0.0, f32::max))
    }

    /// Results of the CPU and of the GPU.
    fn run(&mut self, pair: &mut Pair, n_row: u32, probe: Option<Probe>) -> Result<[Vec<f32>; 2]> {
        let n_vocab = self.plan.n_token().unwrap_or(1).max(1) as usize;
        let start = pair.0.len();
        let pos: Vec<u32> = (start..start + n_row).collect();
        // Any tokens do; these are spread over the table.
        let token: Vec<u32> = pos.iter().map(|p| ((*p as usize * 7919 + 13) % n_vocab) as u32).collect();
        let want: Vec<u32> = (n_row.saturating_sub(N_WANT)..n_row).collect();
        let rows = Rows { token: &token, pos: &pos, seq: &vec![0; n_row as usize], want: &want, input: &[] };
        let (never, mut exact, mut found) = (AtomicBool::new(false), Vec::new(), Vec::new());
        self.cpu.run(&rows, &mut [&mut pair.0], probe, &never, &mut exact)?;
        self.gpu.run(&rows, &mut [&mut pair.1], probe, &never, &mut found)?;
        Ok([exact, found])
    }
}

/// Of the largest number; infinite where one is no number or is missing.
fn relative_difference(exact: &[f32], found: &[f32]) -> f32 {
    if exact.len() != found.len() || found.iter().any(|x| !x.is_finite()) {
        return f32::INFINITY;
    }
    let largest = exact.iter().fold(f32::MIN_POSITIVE, |m, x| m.max(x.abs()));
    exact.iter().zip(found).fold(0f32, |m, (e, f)| m.max((e - f).abs())) / largest
}
