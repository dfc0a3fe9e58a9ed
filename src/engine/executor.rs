//! What runs a plan: the CPU, a GPU, or the CPU for the first layers and a GPU for the rest.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::load::{Inner, MappedWeights};
use crate::cpu::{CpuBackend, CpuOptions, CpuSequence, Team};
use crate::error::{Error, ErrorKind, Result};
#[cfg(feature = "gpu")]
use crate::gpu::{GpuBackend, GpuSequence};
use crate::plan::{Backend, CacheType, Plan, Probe, Rows, SequenceMemory};

/// Without the feature there is no GPU: types without values.
#[cfg(not(feature = "gpu"))]
mod absent {
    use super::*;

    pub enum GpuBackend {}
    pub enum GpuSequence {}

    impl SequenceMemory for GpuSequence {
        fn len(&self) -> u32 {
            match *self {}
        }
        fn rewind(&mut self, _: u32) -> bool {
            match *self {}
        }
        fn take_back(&mut self, _: u32) {
            match *self {}
        }
        fn clear(&mut self) {
            match *self {}
        }
        fn bytes(&self) -> u64 {
            match *self {}
        }
    }

    impl Backend for GpuBackend {
        type Sequence = GpuSequence;

        fn run(
            &mut self,
            _: &Rows<'_>,
            _: &mut [&mut GpuSequence],
            _: Option<Probe>,
            _: &AtomicBool,
            _: &mut Vec<f32>,
        ) -> Result<()> {
            match *self {}
        }
    }
}
#[cfg(not(feature = "gpu"))]
use absent::{GpuBackend, GpuSequence};

/// A back-end and the plan that it runs.
struct Part<B> {
    backend: B,
    plan: Arc<Plan>,
}

/// How far the loading of weights is, and whether it goes on.
#[cfg_attr(not(feature = "gpu"), expect(dead_code, reason = "the CPU computes on the file"))]
pub(super) struct Loading<'a> {
    pub cancel: &'a AtomicBool,
    /// Hears bytes that are loaded, and all of them.
    pub progress: &'a mut dyn FnMut(u64, u64),
}

/// Runs one plan, the steps before `seam` on the CPU and the rest on the GPU.
pub(crate) struct Executor {
    cpu: Option<Part<CpuBackend>>,
    gpu: Option<Part<GpuBackend>>,
    seam: usize,
    /// What the CPU hands to the GPU.
    handed: Vec<f32>,
}

/// What one sequence remembers on either side.
pub(crate) struct Memory {
    cpu: Option<CpuSequence>,
    gpu: Option<GpuSequence>,
}

impl Executor {
    /// The executor of a plan as the model's options want it. `n_ctx` positions are what memory must suffice for.
    pub(super) fn new(
        plan: &Arc<Plan>,
        inner: &Inner,
        team: impl Fn() -> Result<Arc<Team>>,
        n_ctx: u32,
        loading: &mut Loading<'_>,
    ) -> Result<Self> {
        let on_cpu = |plan: Arc<Plan>| -> Result<Part<CpuBackend>> {
            let options = CpuOptions { exact: inner.options.exact, kernels: inner.options.knobs.cpu.clone() };
            let weights = Arc::new(MappedWeights::new(&inner.gguf, &plan)?);
            Ok(Part { backend: CpuBackend::new(plan.clone(), weights, team()?, &options)?, plan })
        };
        let Some((seam, gpu)) = on_gpu(plan, inner, n_ctx, loading)? else {
            let cpu = Some(on_cpu(plan.clone())?);
            return Ok(Self { cpu, gpu: None, seam: plan.steps().len(), handed: Vec::new() });
        };
        let cpu = match seam {
            0 => None,
            _ => Some(on_cpu(Arc::new(excerpt(plan, 0..seam)?))?),
        };
        Ok(Self { cpu, gpu: Some(gpu), seam, handed: Vec::new() })
    }

    /// Name of what computes.
    pub fn name(&self) -> String {
        #[cfg(feature = "gpu")]
        if let Some(gpu) = &self.gpu {
            return gpu.backend.gpu().name().to_owned();
        }
        self.cpu.as_ref().map_or("none", |part| part.backend.kernels()).to_owned()
    }

    /// An empty sequence of up to `n_ctx` positions, fed by at most `n_batch` rows at once.
    pub fn memory(&self, n_ctx: u32, n_batch: u32, k: CacheType, v: CacheType) -> Result<Memory> {
        let cpu = self.cpu.as_ref().map(|part| CpuSequence::new(&part.plan, n_ctx, n_batch, k, v)).transpose()?;
        #[cfg(feature = "gpu")]
        let gpu = match &self.gpu {
            Some(part) => Some(GpuSequence::new(part.backend.gpu(), &part.plan, n_ctx, n_batch, k, v)?),
            None => None,
        };
        #[cfg(not(feature = "gpu"))]
        let gpu = None;
        Ok(Memory { cpu, gpu })
    }
}

fn excerpt(plan: &Plan, steps: std::ops::Range<usize>) -> Result<Plan> {
    plan.excerpt(&[steps]).ok_or_else(|| Error::new(ErrorKind::Internal, "the plan cannot be cut there"))
}

#[cfg(not(feature = "gpu"))]
fn on_gpu(_: &Arc<Plan>, _: &Inner, _: u32, _: &mut Loading<'_>) -> Result<Option<(usize, Part<GpuBackend>)>> {
    Ok(None)
}

/// The GPU's part of a plan, if one is chosen: the last layers and the head.
#[cfg(feature = "gpu")]
fn on_gpu(
    plan: &Arc<Plan>,
    inner: &Inner,
    n_ctx: u32,
    loading: &mut Loading<'_>,
) -> Result<Option<(usize, Part<GpuBackend>)>> {
    use super::device::{DeviceChoice, GpuLayers};
    use crate::gpu::{self, GpuOptions};

    let options = &inner.options;
    let is_off = options.exact || matches!(options.device, DeviceChoice::Cpu | DeviceChoice::Auto);
    if is_off || options.gpu_layers == GpuLayers::Count(0) {
        return Ok(None);
    }
    let Some(device) = super::device::open(&options.device)? else { return Ok(None) };
    let gpu_options = GpuOptions::of(&options.knobs);
    let layers: Vec<usize> = plan.sections().iter().filter(|s| s.1.starts_with("blk.")).map(|s| s.0).collect();
    let seams = plan.seams();
    let cut_at = |seam: usize| if seam == 0 || seams.contains(&seam) { Some(seam) } else { None };
    let candidates: Vec<usize> = match options.gpu_layers {
        GpuLayers::Count(n) if (n as usize) <= layers.len() => {
            cut_at(layers[layers.len() - n as usize]).into_iter().collect()
        }
        GpuLayers::Count(_) | GpuLayers::All => vec![0],
        GpuLayers::Auto => std::iter::once(0).chain(seams.iter().copied()).collect(),
    };
    let budget = device.memory().map_or(u64::MAX, |m| m.budget.unwrap_or(m.total) / 100 * 85);
    let mut why = String::from("no layer fits");
    for seam in candidates {
        let part = match seam {
            0 => plan.clone(),
            _ => Arc::new(excerpt(plan, seam..plan.steps().len())?),
        };
        if let Some((step, reason)) = gpu::unsupported(&part, &device) {
            why = format!("`{}`: {reason}", part.section_of(step));
            continue;
        }
        let estimate = part.memory(n_ctx.into(), options.knobs.n_ubatch as u64, CacheType::F16, CacheType::F16);
        if options.gpu_layers == GpuLayers::Auto && estimate.total() > budget {
            why = format!("{} bytes are needed, {budget} are free", estimate.total());
            continue;
        }
        let weights = MappedWeights::new(&inner.gguf, &part)?;
        let total = part.weights().iter().map(|w| w.bytes()).sum();
        let Loading { cancel, progress } = &mut *loading;
        let mut uploaded = |bytes: u64| progress(bytes, total);
        let made = GpuBackend::new(device.clone(), part.clone(), &weights, &gpu_options, cancel, &mut uploaded);
        match made {
            Ok(backend) => return Ok(Some((seam, Part { backend, plan: part }))),
            Err(e) if e.kind() == ErrorKind::Memory && options.gpu_layers == GpuLayers::Auto => why = e.to_string(),
            Err(e) => return Err(e),
        }
    }
    Err(Error::new(ErrorKind::Gpu, format!("the GPU `{}` cannot run this model: {why}", device.name()))
        .with_hint("use the CPU (--device cpu)"))
}

/// References to one side of several memories.
fn sides<'m, S>(
    memories: &'m mut [&mut Memory],
    side: impl Fn(&'m mut Memory) -> Option<&'m mut S>,
) -> Result<Vec<&'m mut S>> {
    let found: Option<Vec<&'m mut S>> = memories.iter_mut().map(|m| side(m)).collect();
    found.ok_or_else(|| Error::new(ErrorKind::Internal, "a session of another executor"))
}

/// What a pass is for.
enum Ask<'a> {
    /// Result rows, or what the probe sees.
    Rows(Option<Probe>, &'a mut Vec<f32>),
    /// The greatest numbers of result rows.
    Best(u32, &'a mut Vec<(u32, f32)>),
}

impl Ask<'_> {
    fn probe(&self) -> Option<Probe> {
        match self {
            Self::Rows(probe, _) => *probe,
            Self::Best(..) => None,
        }
    }

    /// Asks a back-end that runs the plan from its step `seam` on.
    fn of<B: Backend>(
        &mut self,
        backend: &mut B,
        seam: usize,
        rows: &Rows<'_>,
        mut sequences: Vec<&mut B::Sequence>,
        cancel: &AtomicBool,
    ) -> Result<Option<u32>> {
        match self {
            Self::Rows(probe, out) => {
                let probe = probe.and_then(|p| p.behind(seam));
                backend.run(rows, &mut sequences, probe, cancel, out).map(|()| None)
            }
            Self::Best(k, out) => backend.choose(rows, &mut sequences, *k, cancel, out),
        }
    }
}

impl Executor {
    /// One forward pass on the back-ends as they stand.
    fn pass(
        &mut self,
        rows: &Rows<'_>,
        memories: &mut [&mut Memory],
        mut ask: Ask<'_>,
        cancel: &AtomicBool,
    ) -> Result<Option<u32>> {
        let Some(gpu) = &mut self.gpu else {
            let cpu = self.cpu.as_mut().expect("one of both is there");
            return ask.of(&mut cpu.backend, 0, rows, sides(memories, |m| m.cpu.as_mut())?, cancel);
        };
        let Some(cpu) = &mut self.cpu else {
            return ask.of(&mut gpu.backend, 0, rows, sides(memories, |m| m.gpu.as_mut())?, cancel);
        };
        let lengths: Vec<u32> = memories.iter().map(|m| m.len()).collect();
        if ask.probe().is_some_and(|p| p.behind(self.seam).is_none()) {
            ask.of(&mut cpu.backend, 0, rows, sides(memories, |m| m.cpu.as_mut())?, cancel)?;
            // Only half of the memory has moved.
            memories.iter_mut().zip(lengths).for_each(|(m, len)| m.take_back(len));
            return Ok(None);
        }
        self.handed.clear();
        let want: Vec<u32> = (0..rows.token.len() as u32).collect();
        let all = Rows { want: &want, ..*rows };
        cpu.backend.run(&all, &mut sides(memories, |m| m.cpu.as_mut())?, None, cancel, &mut self.handed)?;
        let rest = Rows { input: &self.handed, ..*rows };
        let result = ask.of(&mut gpu.backend, self.seam, &rest, sides(memories, |m| m.gpu.as_mut())?, cancel);
        if result.is_err() {
            memories.iter_mut().zip(lengths).for_each(|(m, len)| m.take_back(len));
        }
        result
    }
}

impl Backend for Executor {
    type Sequence = Memory;

    fn run(
        &mut self,
        rows: &Rows<'_>,
        memories: &mut [&mut Memory],
        probe: Option<Probe>,
        cancel: &AtomicBool,
        out: &mut Vec<f32>,
    ) -> Result<()> {
        self.pass(rows, memories, Ask::Rows(probe, out), cancel).map(|_| ())
    }

    fn max_choice(&self) -> u32 {
        self.gpu.as_ref().map_or(0, |gpu| gpu.backend.max_choice())
    }

    fn choose(
        &mut self,
        rows: &Rows<'_>,
        memories: &mut [&mut Memory],
        k: u32,
        cancel: &AtomicBool,
        out: &mut Vec<(u32, f32)>,
    ) -> Result<Option<u32>> {
        self.pass(rows, memories, Ask::Best(k, out), cancel)
    }
}

impl Memory {
    fn each(&mut self) -> impl Iterator<Item = &mut dyn SequenceMemory> {
        let cpu = self.cpu.as_mut().map(|s| s as &mut dyn SequenceMemory);
        cpu.into_iter().chain(self.gpu.as_mut().map(|s| s as &mut dyn SequenceMemory))
    }
}

impl SequenceMemory for Memory {
    fn len(&self) -> u32 {
        let gpu = self.gpu.as_ref().map(SequenceMemory::len);
        gpu.or(self.cpu.as_ref().map(SequenceMemory::len)).unwrap_or(0)
    }

    fn rewind(&mut self, len: u32) -> bool {
        self.each().all(|s| s.rewind(len))
    }

    fn take_back(&mut self, len: u32) {
        self.each().for_each(|s| s.take_back(len));
        // A side that could not go back holds nothing: neither may the other.
        if self.each().any(|s| s.len() != len) {
            self.clear();
        }
    }

    fn clear(&mut self) {
        self.each().for_each(|s| s.clear());
    }

    fn bytes(&self) -> u64 {
        self.cpu.as_ref().map_or(0, SequenceMemory::bytes) + self.gpu.as_ref().map_or(0, SequenceMemory::bytes)
    }
}
