//! Whether a GPU is faster than the CPU for a model: measured once, on its last layers, and remembered.
#![forbid(unsafe_code)]

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use super::executor::{CpuMaker, excerpt};
use super::load::Inner;
use super::remembered::Fact;
use crate::cpu::CpuSequence;
use crate::error::Result;
use crate::gpu::{self, Gpu, GpuBackend, GpuOptions, GpuSequence};
use crate::plan::{Backend, CacheType, Plan, Rows, SequenceMemory};

/// Weights of the layers that are measured; a smaller model is measured whole.
const MEASURED_BYTES: u64 = 512 << 20;
/// Rows of a prompt's pass, and single tokens behind it.
const N_PROMPT: u32 = 64;
const N_DECODE: u32 = 9;
/// What people do with a model: tokens read and written in one exchange. Decides where one of both speeds is better
/// and the other is worse.
const EXCHANGE: [f64; 2] = [256.0, 128.0];

/// Seconds per token, of a prompt and of an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Speed([f64; 2]);

/// What was measured.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Measured {
    name: String,
    gpu: Speed,
    cpu: Speed,
}

impl Speed {
    fn exchange(self) -> f64 {
        self.0[0] * EXCHANGE[0] + self.0[1] * EXCHANGE[1]
    }

    /// Of a model whose part `share` has this speed and the rest the other one.
    fn mixed(self, share: f64, other: Self) -> Self {
        Self([0, 1].map(|i| self.0[i] * share + other.0[i] * (1.0 - share)))
    }
}

impl Measured {
    /// Is the GPU to be used?
    pub fn gpu_wins(&self) -> bool {
        self.gpu.exchange() < self.cpu.exchange()
    }

    fn remembered(name: &str, text: &str) -> Option<Self> {
        let mut numbers = text.split_ascii_whitespace().map(|n| n.parse::<f64>().ok().filter(|n| *n > 0.0));
        let mut speed = || Some(Speed([numbers.next()??, numbers.next()??]));
        Some(Self { name: name.to_owned(), gpu: speed()?, cpu: speed()? })
    }

    fn to_remember(&self) -> String {
        let [a, b] = self.gpu.0;
        let [c, d] = self.cpu.0;
        format!("{a} {b} {c} {d}")
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rates = |s: Speed| format!("{:.1} and {:.1}", 1.0 / s.0[0], 1.0 / s.0[1]);
        let (gpu, cpu) = (rates(self.gpu), rates(self.cpu));
        let (winner, loser) = match self.gpu_wins() {
            true => (format!("the GPU `{}` computes: {gpu}", self.name), format!("the CPU {cpu}")),
            false => (format!("the CPU computes: {cpu}"), format!("the GPU `{}` {gpu}", self.name)),
        };
        write!(f, "{winner} tokens per second for prompts and answers, {loser}")
    }
}

/// Measures both, or remembers it. The GPU would compute the steps from `seam` on.
///
/// # Errors
/// A back-end failed.
pub(super) fn compare(
    plan: &Arc<Plan>,
    seam: usize,
    inner: &Inner,
    maker: &CpuMaker,
    device: &Arc<Gpu>,
    options: &GpuOptions,
) -> Result<Measured> {
    let tail = tail(plan)?;
    let weights = |plan: &Plan| plan.memory(1, 1, CacheType::F16, CacheType::F16).weights as f64;
    let cpu = maker.make(tail.clone())?;
    let version = env!("CARGO_PKG_VERSION");
    let key = format!(
        "{} {version} {:016x} {options:?} {} threads {} {seam} of {} {}",
        device.key(),
        gpu::fingerprint(),
        maker.n_threads(),
        cpu.backend.kernels(),
        weights(plan),
        tail.signature()
    );
    let fact = Fact::new(inner.options.knobs.cache_dir.as_deref(), "gpu-choices", &key);
    if let Some(measured) = fact.read().and_then(|text| Measured::remembered(device.name(), &text)) {
        return Ok(measured);
    }
    let scale = weights(plan) / weights(&tail).max(1.0);
    let (n_ctx, types) = (N_PROMPT + N_DECODE, CacheType::F16);
    let options = GpuOptions { n_batch: N_PROMPT, ..options.clone() };
    let never = AtomicBool::new(false);
    let mut gpu = GpuBackend::new(device.clone(), tail.clone(), &maker.weights(&tail)?, &options, &never, &mut |_| {})?;
    let mut on_gpu = GpuSequence::new(device, &tail, n_ctx, N_PROMPT, types, types)?;
    let gpu_speed = speed(&mut gpu, &mut on_gpu, &tail, scale)?;
    drop((gpu, on_gpu));
    let mut cpu = cpu.backend;
    let cpu_speed = speed(&mut cpu, &mut CpuSequence::new(&tail, n_ctx, N_PROMPT, types, types)?, &tail, scale)?;
    let share =
        if seam == 0 { 1.0 } else { weights(&excerpt(plan, seam..plan.steps().len())?) / weights(plan).max(1.0) };
    let measured = Measured { name: device.name().to_owned(), gpu: gpu_speed.mixed(share, cpu_speed), cpu: cpu_speed };
    fact.write(&measured.to_remember());
    Ok(measured)
}

/// The last layers and the head: as many as are worth measuring.
fn tail(plan: &Arc<Plan>) -> Result<Arc<Plan>> {
    let fits = |plan: &Plan| plan.memory(1, 1, CacheType::F16, CacheType::F16).weights <= MEASURED_BYTES;
    if fits(plan) {
        return Ok(plan.clone());
    }
    let end = plan.steps().len();
    for seam in plan.seams() {
        let tail = excerpt(plan, seam..end)?;
        // Behind the last seam is the head; without a layer it says little.
        if fits(&tail) || plan.seams().last() == Some(&seam) {
            return Ok(Arc::new(tail));
        }
    }
    Ok(plan.clone())
}

/// Seconds per token of a plan that is `scale` times this one.
fn speed<B: Backend>(backend: &mut B, memory: &mut B::Sequence, plan: &Plan, scale: f64) -> Result<Speed> {
    // The first pass compiles, faults pages in and wakes threads.
    feed(backend, memory, plan, N_PROMPT)?;
    memory.clear();
    let prompt = feed(backend, memory, plan, N_PROMPT)? / f64::from(N_PROMPT);
    let mut one = || {
        if !plan.is_causal() {
            memory.clear();
        }
        feed(backend, memory, plan, 1)
    };
    let mut single = (0..N_DECODE).map(|_| one()).collect::<Result<Vec<f64>>>()?;
    single.sort_by(f64::total_cmp);
    Ok(Speed([prompt * scale, single[single.len() / 2] * scale]))
}

/// Seconds of one pass.
fn feed<B: Backend>(backend: &mut B, memory: &mut B::Sequence, plan: &Plan, n_row: u32) -> Result<f64> {
    let start = memory.len();
    let pos: Vec<u32> = (start..start + n_row).collect();
    let width = plan.inputs().iter().map(|o| o.len()).sum::<u32>();
    // Any numbers of a usual size do.
    let input: Vec<f32> = (0..n_row * width).map(|i| (i as f32 * 0.37).sin()).collect();
    let (token, seq) = (vec![0; n_row as usize], vec![0; n_row as usize]);
    let rows = Rows { token: &token, pos: &pos, seq: &seq, want: &[n_row - 1], input: &input };
    let clock = Instant::now();
    backend.run(&rows, &mut [memory], None, &AtomicBool::new(false), &mut Vec::new())?;
    Ok(clock.elapsed().as_secs_f64().max(1e-9))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(gpu: [f64; 2], cpu: [f64; 2]) -> Measured {
        Measured { name: "Radeon".into(), gpu: Speed(gpu), cpu: Speed(cpu) }
    }

    #[test]
    fn the_faster_one_of_an_exchange_wins_and_says_so() {
        let faster = measured([1e-3, 2e-2], [1e-2, 5e-2]);
        assert!(faster.gpu_wins());
        assert_eq!(
            faster.to_string(),
            "the GPU `Radeon` computes: 1000.0 and 50.0 tokens per second for prompts and answers, the CPU 100.0 and 20.0"
        );
        // Prompts ten times as fast do not make up for answers that are half as fast.
        let slower = measured([1e-3, 1e-1], [1e-2, 5e-2]);
        assert!(!slower.gpu_wins());
        assert!(slower.to_string().starts_with("the CPU computes: 100.0 and 20.0 tokens"));
    }

    #[test]
    fn what_is_remembered_is_what_was_measured() {
        let one = measured([1e-3, 2e-2], [1.0 / 3.0, 5e-2]);
        assert_eq!(Measured::remembered("Radeon", &one.to_remember()), Some(one));
        for damaged in ["", "1 2 3", "1 2 3 x", "1 2 3 -4", "1 2 3 NaN"] {
            assert_eq!(Measured::remembered("Radeon", damaged), None, "{damaged}");
        }
    }

    #[test]
    fn a_share_of_the_layers_has_a_share_of_the_speed() {
        assert_eq!(Speed([1.0, 2.0]).mixed(0.25, Speed([3.0, 6.0])), Speed([2.5, 5.0]));
    }
}
