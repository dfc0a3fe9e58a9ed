//! What runs a plan: the CPU, a GPU, or the CPU for the first layers and a GPU for the rest.
//!
//! A GPU that fails is left: the CPU takes the whole plan, and sequences that were on the GPU are fed to it once
//! more. The answer goes on, and people are told by a [`Notice`].
#![forbid(unsafe_code)]

#[cfg(not(feature = "gpu"))]
mod absent;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

#[cfg(not(feature = "gpu"))]
use absent::{GpuBackend, GpuSequence};

use super::adapter::OpenAdapter;
use super::load::{Inner, MappedWeights};
use super::notice::Notice;
#[cfg(feature = "gpu")]
use super::placement;
use crate::cpu::{self, CpuBackend, CpuOptions, CpuSequence, InputSum, Limits, MappedRows, SavedRows, Team};
use crate::error::{Error, ErrorKind, Result};
use crate::gguf::Gguf;
#[cfg(feature = "gpu")]
use crate::gpu::{GpuBackend, GpuSequence};
use crate::plan::{Backend, CacheType, Plan, Probe, Rows, SequenceMemory};

/// A back-end and the plan that it runs.
pub(super) struct Part<B> {
    pub backend: B,
    pub plan: Arc<Plan>,
}

/// Makes CPU back-ends for plans of one file.
pub(super) struct CpuMaker {
    gguf: Arc<Gguf>,
    adapters: Arc<[OpenAdapter]>,
    options: CpuOptions,
    team: Arc<Team>,
}

impl CpuMaker {
    pub fn new(inner: &Inner, team: Arc<Team>) -> Self {
        let options = CpuOptions {
            exact: inner.options.exact,
            kernels: inner.options.knobs.cpu.clone(),
            sum_inputs: inner.options.sum_inputs,
        };
        Self { gguf: inner.gguf.clone(), adapters: inner.adapters.clone(), options, team }
    }

    /// The same, computing exactly.
    #[cfg(feature = "gpu")]
    pub fn exact(&self) -> Self {
        let options = CpuOptions { exact: true, sum_inputs: false, ..self.options.clone() };
        Self { gguf: self.gguf.clone(), adapters: self.adapters.clone(), options, team: self.team.clone() }
    }

    pub fn weights(&self, plan: &Plan) -> Result<MappedWeights> {
        MappedWeights::new(&self.gguf, &self.adapters, plan)
    }

    pub fn make(&self, plan: Arc<Plan>) -> Result<Part<CpuBackend>> {
        let weights = Arc::new(self.weights(&plan)?);
        let backend = CpuBackend::new(plan.clone(), weights, self.team.clone(), &self.options)?;
        Ok(Part { backend, plan })
    }

    /// Name of the kernels.
    pub fn kernels(&self) -> Result<String> {
        self.options.kernels_in_use().map(str::to_owned)
    }

    fn limits(&self, bytes: &[&[u8]]) -> Result<Limits> {
        cpu::limits(&self.team, &self.options, bytes)
    }

    /// Threads that compute.
    #[cfg(feature = "gpu")]
    pub fn n_threads(&self) -> usize {
        self.team.n_threads()
    }
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
    plan: Arc<Plan>,
    maker: CpuMaker,
    cpu: Option<Part<CpuBackend>>,
    gpu: Option<Part<GpuBackend>>,
    seam: usize,
    /// What the CPU hands to the GPU.
    handed: Vec<f32>,
    /// How often the plan has moved to another back-end; memories of an earlier time must follow.
    moves: u32,
    notices: Vec<Notice>,
}

/// What one sequence remembers on either side.
pub(crate) struct Memory {
    cpu: Option<CpuSequence>,
    gpu: Option<GpuSequence>,
    /// The tokens that both sides hold, for feeding them to another back-end.
    tokens: Vec<u32>,
    n_ctx: u32,
    n_batch: u32,
    types: (CacheType, CacheType),
    moves: u32,
}

impl Executor {
    /// The executor of a plan as the model's options want it. `n_ctx` positions are what memory must suffice for.
    pub(super) fn new(
        plan: &Arc<Plan>,
        inner: &Inner,
        team: Arc<Team>,
        n_ctx: u32,
        loading: &mut Loading<'_>,
    ) -> Result<Self> {
        let maker = CpuMaker::new(inner, team);
        #[cfg(feature = "gpu")]
        let (placed, notices) = placement::place(plan, inner, &maker, n_ctx, loading)?;
        #[cfg(not(feature = "gpu"))]
        let (placed, notices) = (None::<(usize, Part<GpuBackend>)>, Vec::<Notice>::new());
        #[cfg(not(feature = "gpu"))]
        let _ = (n_ctx, loading);
        let (seam, gpu) = placed.map_or((plan.steps().len(), None), |(seam, part)| (seam, Some(part)));
        let cpu = match seam {
            0 => None,
            _ if gpu.is_none() => Some(maker.make(plan.clone())?),
            _ => Some(maker.make(Arc::new(excerpt(plan, 0..seam)?))?),
        };
        Ok(Self { plan: plan.clone(), maker, cpu, gpu, seam, handed: Vec::new(), moves: 0, notices })
    }

    /// Name of what computes.
    pub fn name(&self) -> String {
        #[cfg(feature = "gpu")]
        if let Some(gpu) = &self.gpu {
            return gpu.backend.gpu().name().to_owned();
        }
        self.cpu.as_ref().map_or("none", |part| part.backend.kernels()).to_owned()
    }

    /// Does the CPU compute, alone or a part?
    pub fn uses_cpu(&self) -> bool {
        self.cpu.is_some()
    }

    /// What the CPU can do at most with the kernels in use, reading `bytes`; `None` where a GPU computes.
    pub fn limits(&self, bytes: &[&[u8]]) -> Result<Option<Limits>> {
        self.gpu.is_none().then(|| self.maker.limits(bytes)).transpose()
    }

    /// What people should hear, once.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// An empty sequence of up to `n_ctx` positions, fed by at most `n_batch` rows at once.
    pub fn memory(&mut self, n_ctx: u32, n_batch: u32, k: CacheType, v: CacheType) -> Result<Memory> {
        #[cfg(feature = "gpu")]
        let gpu = match &self.gpu {
            Some(part) => match GpuSequence::new(part.backend.gpu(), &part.plan, n_ctx, n_batch, k, v) {
                Ok(memory) => Some(memory),
                Err(e) if is_of_gpu(&e) => {
                    self.leave_gpu(&e)?;
                    None
                }
                Err(e) => return Err(e),
            },
            None => None,
        };
        #[cfg(not(feature = "gpu"))]
        let gpu = None;
        let cpu = self.cpu.as_ref().map(|part| CpuSequence::new(&part.plan, n_ctx, n_batch, k, v)).transpose()?;
        Ok(Memory { cpu, gpu, tokens: Vec::new(), n_ctx, n_batch, types: (k, v), moves: self.moves })
    }

    /// The rows of a memory, and the name of what computed them. `None` where a GPU keeps a part.
    pub fn saved<'m>(&self, memory: &'m Memory) -> Option<(&'static str, Vec<SavedRows<'m>>)> {
        let part = self.cpu.as_ref().filter(|_| self.gpu.is_none() && memory.moves == self.moves)?;
        Some((part.backend.kernels(), memory.cpu.as_ref()?.saved()))
    }

    /// Name of the kernels whose rows [`Executor::restore`] takes. `None` where a GPU keeps a part.
    pub fn kernels_of_rows(&self) -> Option<&'static str> {
        self.cpu.as_ref().filter(|_| self.gpu.is_none()).map(|part| part.backend.kernels())
    }

    /// Makes a memory hold `tokens`, by rows that [`Executor::saved`] gave of the same plan, types and kernels.
    pub fn restore(&mut self, memory: &mut Memory, tokens: &[u32], rows: Vec<MappedRows>) -> Result<()> {
        let cpu = memory.cpu.as_mut().filter(|_| self.gpu.is_none() && memory.moves == self.moves);
        let cpu = cpu.ok_or_else(|| Error::new(ErrorKind::Internal, "rows for a sequence on a GPU"))?;
        memory.tokens.clear();
        cpu.restore(tokens.len() as u32, rows)?;
        memory.tokens.extend_from_slice(tokens);
        Ok(())
    }

    /// What the matrices on the CPU were multiplied with, by their names.
    pub fn input_sums(&self) -> Vec<(String, InputSum)> {
        let cpu = self.cpu.iter();
        let named =
            |part: &Part<CpuBackend>, sum: InputSum| (part.plan.weights()[sum.weight.index()].name.clone(), sum);
        cpu.flat_map(|part| part.backend.input_sums().into_iter().map(|sum| named(part, sum))).collect()
    }

    /// The CPU takes the whole plan, because the GPU failed.
    fn leave_gpu(&mut self, why: &Error) -> Result<()> {
        self.cpu = Some(self.maker.make(self.plan.clone())?);
        self.gpu = None;
        self.seam = self.plan.steps().len();
        self.moves += 1;
        self.notices.push(Notice::Fallback(format!("{why}; the CPU goes on")));
        Ok(())
    }

    /// Feeds what a memory of another back-end holds to the CPU.
    fn follow(&mut self, memory: &mut Memory, cancel: &AtomicBool) -> Result<()> {
        let cpu = self.cpu.as_mut().expect("a GPU that was left leaves the CPU");
        let (k, v) = memory.types;
        let mut sequence = CpuSequence::new(&cpu.plan, memory.n_ctx, memory.n_batch, k, v)?;
        let mut start = 0;
        for token in memory.tokens.chunks(memory.n_batch.max(1) as usize) {
            let pos: Vec<u32> = (start..start + token.len() as u32).collect();
            let rows = Rows { token, pos: &pos, seq: &vec![0; token.len()], want: &[], input: &[] };
            cpu.backend.run(&rows, &mut [&mut sequence], None, cancel, &mut Vec::new())?;
            start += token.len() as u32;
        }
        (memory.cpu, memory.gpu, memory.moves) = (Some(sequence), None, self.moves);
        Ok(())
    }

    /// One forward pass on the back-ends as they stand.
    fn pass(
        &mut self,
        rows: &Rows<'_>,
        memories: &mut [&mut Memory],
        ask: &mut Ask<'_>,
        cancel: &AtomicBool,
    ) -> Result<Option<u32>> {
        let Some(gpu) = &mut self.gpu else {
            let cpu = self.cpu.as_mut().expect("one of both is there");
            return ask.of(&mut cpu.backend, 0, rows, sides(memories, |m| m.cpu.as_mut())?, cancel);
        };
        let Some(cpu) = &mut self.cpu else {
            return ask.of(&mut gpu.backend, 0, rows, sides(memories, |m| m.gpu.as_mut())?, cancel);
        };
        if ask.probe().is_some_and(|p| p.behind(self.seam).is_none()) {
            return ask.of(&mut cpu.backend, 0, rows, sides(memories, |m| m.cpu.as_mut())?, cancel);
        }
        self.handed.clear();
        let want: Vec<u32> = (0..rows.token.len() as u32).collect();
        let all = Rows { want: &want, ..*rows };
        cpu.backend.run(&all, &mut sides(memories, |m| m.cpu.as_mut())?, None, cancel, &mut self.handed)?;
        let rest = Rows { input: &self.handed, ..*rows };
        ask.of(&mut gpu.backend, self.seam, &rest, sides(memories, |m| m.gpu.as_mut())?, cancel)
    }

    /// One forward pass, on the CPU if the GPU fails.
    fn answer(
        &mut self,
        rows: &Rows<'_>,
        memories: &mut [&mut Memory],
        mut ask: Ask<'_>,
        cancel: &AtomicBool,
    ) -> Result<Option<u32>> {
        let n_before = ask.n_answer();
        loop {
            let moves = self.moves;
            for memory in memories.iter_mut().filter(|m| m.moves != moves) {
                self.follow(memory, cancel)?;
            }
            let result = self.pass(rows, memories, &mut ask, cancel);
            match result {
                Err(e) if self.gpu.is_some() && is_of_gpu(&e) => {
                    // What the memories hold now does not matter: they follow by their tokens.
                    ask.forget(n_before);
                    self.leave_gpu(&e)?;
                }
                _ => {
                    let is_done = result.is_ok();
                    for (i, memory) in memories.iter_mut().enumerate() {
                        let new = rows.token.iter().zip(rows.seq).filter(|(_, seq)| **seq as usize == i);
                        memory.settle(is_done.then_some(new.map(|(token, _)| *token)));
                    }
                    return result;
                }
            }
        }
    }
}

/// Is a failure one of the GPU, which the CPU does not share?
fn is_of_gpu(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Gpu | ErrorKind::Memory)
}

pub(super) fn excerpt(plan: &Plan, steps: std::ops::Range<usize>) -> Result<Plan> {
    plan.excerpt(&[steps]).ok_or_else(|| Error::new(ErrorKind::Internal, "the plan cannot be cut there"))
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

    /// Numbers of the answer so far.
    fn n_answer(&self) -> usize {
        match self {
            Self::Rows(_, out) => out.len(),
            Self::Best(_, out) => out.len(),
        }
    }

    /// Back to the first `n` numbers.
    fn forget(&mut self, n: usize) {
        match self {
            Self::Rows(_, out) => out.truncate(n),
            Self::Best(_, out) => out.truncate(n),
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
        self.answer(rows, memories, Ask::Rows(probe, out), cancel).map(|_| ())
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
        self.answer(rows, memories, Ask::Best(k, out), cancel)
    }
}

impl Memory {
    /// Storage of keys and values.
    pub fn types(&self) -> (CacheType, CacheType) {
        self.types
    }

    fn each(&mut self) -> impl Iterator<Item = &mut dyn SequenceMemory> {
        let cpu = self.cpu.as_mut().map(|s| s as &mut dyn SequenceMemory);
        cpu.into_iter().chain(self.gpu.as_mut().map(|s| s as &mut dyn SequenceMemory))
    }

    /// After a pass over `new` tokens: both sides hold them, or neither does. Half a pass is taken back, as after a
    /// failure or for a look at the first side's results.
    fn settle(&mut self, new: Option<impl Iterator<Item = u32>>) {
        let before = self.tokens.len();
        self.tokens.extend(new.into_iter().flatten());
        let len = self.tokens.len() as u32;
        if self.each().any(|s| s.len() != len) {
            self.take_back(before as u32);
        }
    }
}

impl SequenceMemory for Memory {
    fn len(&self) -> u32 {
        self.tokens.len() as u32
    }

    fn rewind(&mut self, len: u32) -> bool {
        let is_back = self.each().all(|s| s.rewind(len));
        if is_back {
            self.tokens.truncate(len as usize);
        }
        is_back
    }

    fn nearest(&self, len: u32) -> u32 {
        // A position that both sides can go on from: each answer is at most what was asked for.
        let mut near = len;
        loop {
            let before = near;
            near = self.cpu.as_ref().map_or(near, |s| s.nearest(near));
            near = self.gpu.as_ref().map_or(near, |s| s.nearest(near));
            if near == before {
                return near;
            }
        }
    }

    fn take_back(&mut self, len: u32) {
        self.each().for_each(|s| s.take_back(len));
        self.tokens.truncate(len as usize);
        // A side that could not go back holds nothing: neither may the other.
        if self.each().any(|s| s.len() != len) {
            self.clear();
        }
    }

    fn clear(&mut self) {
        self.each().for_each(|s| s.clear());
        self.tokens.clear();
    }

    fn bytes(&self) -> u64 {
        self.cpu.as_ref().map_or(0, SequenceMemory::bytes) + self.gpu.as_ref().map_or(0, SequenceMemory::bytes)
    }
}

#[cfg(all(test, feature = "gpu"))]
mod tests;
