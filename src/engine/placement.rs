//! Where the steps of a plan run: which GPU, how many layers, and whether it may be trusted.
#![forbid(unsafe_code)]

use std::sync::Arc;

use super::device::{DeviceChoice, GpuCheck, GpuLayers};
use super::executor::{CpuMaker, Loading, Part, excerpt};
use super::load::Inner;
use super::notice::{Notice, Placement};
use super::{choice, device, trust};
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::{self, Gpu, GpuBackend, GpuOptions};
use crate::plan::{CacheType, Plan};

/// Percent of the memory that a GPU still has which a model may take, so that a desktop has room.
const SHARE: u64 = 85;

/// First step on the GPU, and what runs from there.
type Placed = Option<(usize, Part<GpuBackend>)>;

/// What is to be done, and why.
enum Decision<'a> {
    Cpu(String),
    /// First steps on the GPU that may do, best first. At least one, or the reason for none.
    Gpu(Place<'a>, Vec<usize>, String),
}

/// The GPU's part of a plan, if one is chosen: the last layers and the head; and what people should hear of it.
/// `n_ctx` positions are what memory must suffice for.
///
/// # Errors
/// A GPU that was asked for by name or number does not exist or cannot be used. With the choice left open, and for a
/// GPU that computes wrongly, the CPU is chosen with a notice.
pub(super) fn place(
    plan: &Arc<Plan>,
    inner: &Inner,
    maker: &CpuMaker,
    n_ctx: u32,
    loading: &mut Loading<'_>,
) -> Result<(Placed, Vec<Notice>)> {
    let mut notices = Vec::new();
    let placed = match decide(plan, inner, maker, n_ctx, &mut notices) {
        Ok(Decision::Cpu(_)) => Ok(None),
        Ok(Decision::Gpu(place, candidates, why)) => {
            place.upload_first(candidates, why, &mut notices, loading).map(Some)
        }
        Err(e) => Err(e),
    };
    match placed {
        Err(e) if inner.options.device == DeviceChoice::Auto && e.kind() != ErrorKind::Interrupted => {
            notices.push(Notice::Fallback(format!("no GPU is used: {e}")));
            Ok((None, notices))
        }
        placed => Ok((placed?, notices)),
    }
}

/// What [`place`] would do, without loading weights.
///
/// # Errors
/// As [`place`].
pub(super) fn placement(plan: &Arc<Plan>, inner: &Inner, maker: &CpuMaker, n_ctx: u32) -> Result<Placement> {
    let mut notices = Vec::new();
    let decision = decide(plan, inner, maker, n_ctx, &mut notices)?;
    let cpu = maker.kernels()?;
    let (place, seam) = match decision {
        Decision::Cpu(why) => return Ok(Placement::on_cpu(cpu, why)),
        Decision::Gpu(place, candidates, why) => {
            let seam = candidates.first().copied().ok_or_else(|| place.refused(&why))?;
            (place, seam)
        }
    };
    let kernels = gpu::kernels(&*place.part(seam)?, &place.gpu, &place.options());
    let mut why = place.told(seam).map_or_else(|| format!("{} layers", place.n_layer(seam)), |n| n.to_string());
    for notice in &notices {
        why += &format!("; {notice}");
    }
    Ok(Placement {
        device: place.gpu.name().to_owned(),
        cpu,
        first_gpu_step: Some(seam),
        kernels: kernels.into_iter().map(|(step, kernel)| (seam + step, kernel)).collect(),
        why,
    })
}

fn decide<'a>(
    plan: &'a Arc<Plan>,
    inner: &'a Inner,
    maker: &'a CpuMaker,
    n_ctx: u32,
    notices: &mut Vec<Notice>,
) -> Result<Decision<'a>> {
    let options = &inner.options;
    let cpu = |why: &str| Ok(Decision::Cpu(why.to_owned()));
    if options.exact {
        return cpu("exact results were asked for");
    }
    if options.device == DeviceChoice::Cpu || options.gpu_layers == GpuLayers::Count(0) {
        return cpu("it was asked for");
    }
    let Some(gpu) = device::open(&options.device)? else { return cpu("there is no GPU") };
    let place = Place { plan, inner, maker, gpu };
    let (candidates, why) = place.candidates(n_ctx);
    let Some(&best) = candidates.first() else { return Ok(Decision::Gpu(place, candidates, why)) };
    if options.gpu_check != GpuCheck::Off
        && let Some(fault) = trust::fault(plan, inner, maker, &place.gpu, &place.options())?
    {
        let text = format!("the GPU `{}` is not used: {fault}", place.gpu.name());
        notices.push(Notice::Fallback(text.clone()));
        return Ok(Decision::Cpu(text));
    }
    if options.device == DeviceChoice::Auto {
        let measured = choice::compare(plan, best, inner, maker, &place.gpu, &place.options())?;
        notices.push(Notice::Choice(measured.to_string()));
        if !measured.gpu_wins() {
            return Ok(Decision::Cpu(measured.to_string()));
        }
    }
    Ok(Decision::Gpu(place, candidates, why))
}

/// A plan on its way to a GPU.
struct Place<'a> {
    plan: &'a Arc<Plan>,
    inner: &'a Inner,
    maker: &'a CpuMaker,
    gpu: Arc<Gpu>,
}

impl Place<'_> {
    fn options(&self) -> GpuOptions {
        GpuOptions { n_batch: self.inner.n_batch(), ..GpuOptions::of(&self.inner.options.knobs) }
    }

    /// First steps of the layers.
    fn layers(&self) -> Vec<usize> {
        self.plan.sections().iter().filter(|s| s.1.starts_with("blk.")).map(|s| s.0).collect()
    }

    fn part(&self, seam: usize) -> Result<Arc<Plan>> {
        match seam {
            0 => Ok(self.plan.clone()),
            _ => Ok(Arc::new(excerpt(self.plan, seam..self.plan.steps().len())?)),
        }
    }

    /// First steps on the GPU that may do, best first, and why others do not.
    fn candidates(&self, n_ctx: u32) -> (Vec<usize>, String) {
        let (layers, seams) = (self.layers(), self.plan.seams());
        let wanted: Vec<usize> = match self.inner.options.gpu_layers {
            GpuLayers::Count(n) if (n as usize) < layers.len() => {
                seams.iter().copied().filter(|seam| *seam == layers[layers.len() - n as usize]).collect()
            }
            GpuLayers::Count(_) | GpuLayers::All => vec![0],
            GpuLayers::Auto => std::iter::once(0).chain(seams.iter().copied()).collect(),
        };
        let is_bounded = self.is_bounded();
        let budget = self.gpu.memory().map_or(u64::MAX, |m| m.budget.unwrap_or(m.total) / 100 * SHARE);
        let mut why = String::from("it cannot be cut there");
        let mut fits = |seam: &usize| {
            let Ok(part) = self.part(*seam) else { return false };
            if let Some((step, reason)) = gpu::unsupported(&part, &self.gpu) {
                why = format!("`{}`: {reason}", part.section_of(step));
                return false;
            }
            let n_row = u64::from(self.inner.n_batch());
            let needs = part.memory(n_ctx.into(), n_row, CacheType::F16, CacheType::F16).total();
            if is_bounded && needs > budget {
                why = format!("{} MiB are needed, {} MiB may be taken", needs >> 20, budget >> 20);
            }
            !is_bounded || needs <= budget
        };
        let candidates = wanted.into_iter().filter(|seam| fits(seam)).collect();
        (candidates, why)
    }

    fn upload(&self, seam: usize, loading: &mut Loading<'_>) -> Result<Part<GpuBackend>> {
        let plan = self.part(seam)?;
        let weights = self.maker.weights(&plan)?;
        let total = plan.weights().iter().map(|w| w.bytes()).sum();
        let Loading { cancel, progress } = loading;
        let mut uploaded = |bytes: u64| progress(bytes, total);
        let backend =
            GpuBackend::new(self.gpu.clone(), plan.clone(), &weights, &self.options(), cancel, &mut uploaded)?;
        Ok(Part { backend, plan })
    }

    /// Uploads the first candidate that there is room for.
    fn upload_first(
        &self,
        candidates: Vec<usize>,
        mut why: String,
        notices: &mut Vec<Notice>,
        loading: &mut Loading<'_>,
    ) -> Result<(usize, Part<GpuBackend>)> {
        for seam in candidates {
            match self.upload(seam, loading) {
                Ok(part) => {
                    notices.extend(self.told(seam));
                    return Ok((seam, part));
                }
                Err(e) if e.kind() == ErrorKind::Memory && self.is_bounded() => why = e.to_string(),
                Err(e) => return Err(e),
            }
        }
        Err(self.refused(&why))
    }

    fn refused(&self, why: &str) -> Error {
        Error::new(ErrorKind::Gpu, format!("the GPU `{}` cannot run this model: {why}", self.gpu.name()))
            .with_hint("use the CPU (--device cpu)")
    }

    /// Is the number of layers left open, so that memory bounds it?
    fn is_bounded(&self) -> bool {
        self.inner.options.gpu_layers == GpuLayers::Auto
    }

    /// Layers from a step on.
    fn n_layer(&self, seam: usize) -> usize {
        self.layers().iter().filter(|l| **l >= seam).count()
    }

    /// What people should hear of a cut that they did not ask for.
    fn told(&self, seam: usize) -> Option<Notice> {
        if seam == 0 || !self.is_bounded() {
            return None;
        }
        let (n, layers) = (self.n_layer(seam), self.layers());
        let name = self.gpu.name();
        Some(Notice::Choice(format!(
            "{n} of {} layers fit into the memory of `{name}`; the CPU computes the rest",
            layers.len()
        )))
    }
}
