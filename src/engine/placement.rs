//! Where the steps of a plan run: which GPU, how many layers, and whether it may be trusted.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::device::{DeviceChoice, GpuCheck, GpuLayers};
use super::executor::{CpuMaker, Part, excerpt};
use super::load::Inner;
use super::notice::Notice;
use super::{choice, device, trust};
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::{self, Gpu, GpuBackend, GpuOptions};
use crate::knobs::GpuVariant;
use crate::plan::{CacheType, Plan};

/// Percent of the memory that a GPU still has which a model may take, so that a desktop has room.
const SHARE: u64 = 85;

/// First step on the GPU, and what runs from there.
type Placed = Option<(usize, Part<GpuBackend>)>;

/// The GPU's part of a plan, if one is chosen: the last layers and the head; and what people should hear of it.
/// `n_ctx` positions are what memory must suffice for.
///
/// # Errors
/// A GPU that was asked for by name or number does not exist or cannot be used. With the choice left open, and for a
/// GPU that computes wrongly, the CPU is chosen with a notice.
pub(super) fn place(plan: &Arc<Plan>, inner: &Inner, maker: &CpuMaker, n_ctx: u32) -> Result<(Placed, Vec<Notice>)> {
    let mut notices = Vec::new();
    let is_open = inner.options.device == DeviceChoice::Auto;
    match try_place(plan, inner, maker, n_ctx, &mut notices) {
        Err(e) if is_open && e.kind() != ErrorKind::Interrupted => {
            notices.push(Notice::Fallback(format!("no GPU is used: {e}")));
            Ok((None, notices))
        }
        placed => Ok((placed?, notices)),
    }
}

fn try_place(
    plan: &Arc<Plan>,
    inner: &Inner,
    maker: &CpuMaker,
    n_ctx: u32,
    notices: &mut Vec<Notice>,
) -> Result<Placed> {
    let options = &inner.options;
    if options.exact || options.gpu_layers == GpuLayers::Count(0) {
        return Ok(None);
    }
    let Some(gpu) = device::open(&options.device)? else { return Ok(None) };
    let place = Place { plan, inner, maker, gpu };
    let (mut candidates, mut why) = place.candidates(n_ctx);
    if options.gpu_check != GpuCheck::Off
        && !candidates.is_empty()
        && let Some(fault) = trust::fault(plan, inner, maker, &place.gpu, &place.options())?
    {
        notices.push(Notice::Fallback(format!("the GPU `{}` is not used: {fault}", place.gpu.name())));
        return Ok(None);
    }
    if options.device == DeviceChoice::Auto
        && let Some(&seam) = candidates.first()
    {
        let measured = choice::compare(plan, seam, inner, maker, &place.gpu, &place.options())?;
        notices.push(Notice::Choice(measured.to_string()));
        if !measured.gpu_wins() {
            return Ok(None);
        }
    }
    for seam in candidates.drain(..) {
        match place.upload(seam) {
            Ok(part) => {
                notices.extend(place.told(seam));
                return Ok(Some((seam, part)));
            }
            Err(e) if e.kind() == ErrorKind::Memory && options.gpu_layers == GpuLayers::Auto => why = e.to_string(),
            Err(e) => return Err(e),
        }
    }
    Err(Error::new(ErrorKind::Gpu, format!("the GPU `{}` cannot run this model: {why}", place.gpu.name()))
        .with_hint("use the CPU (--device cpu)"))
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
        let knobs = &self.inner.options.knobs;
        GpuOptions {
            n_batch: knobs.n_ubatch as u32,
            max_chunk: knobs.gpu_chunk,
            plain: knobs.gpu_variant == GpuVariant::Plain,
            ..GpuOptions::default()
        }
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
        let is_bounded = self.inner.options.gpu_layers == GpuLayers::Auto;
        let budget = self.gpu.memory().map_or(u64::MAX, |m| m.budget.unwrap_or(m.total) / 100 * SHARE);
        let mut why = String::from("it cannot be cut there");
        let mut fits = |seam: &usize| {
            let Ok(part) = self.part(*seam) else { return false };
            if let Some((step, reason)) = gpu::unsupported(&part, &self.gpu) {
                why = format!("`{}`: {reason}", part.section_of(step));
                return false;
            }
            let n_row = self.inner.options.knobs.n_ubatch as u64;
            let needs = part.memory(n_ctx.into(), n_row, CacheType::F16, CacheType::F16).total();
            if is_bounded && needs > budget {
                why = format!("{} MiB are needed, {} MiB may be taken", needs >> 20, budget >> 20);
            }
            !is_bounded || needs <= budget
        };
        let candidates = wanted.into_iter().filter(|seam| fits(seam)).collect();
        (candidates, why)
    }

    fn upload(&self, seam: usize) -> Result<Part<GpuBackend>> {
        let plan = self.part(seam)?;
        let weights = self.maker.weights(&plan)?;
        let never = AtomicBool::new(false);
        let backend = GpuBackend::new(self.gpu.clone(), plan.clone(), &weights, &self.options(), &never, &mut |_| {})?;
        Ok(Part { backend, plan })
    }

    /// What people should hear of a cut that they did not ask for.
    fn told(&self, seam: usize) -> Option<Notice> {
        if seam == 0 || self.inner.options.gpu_layers != GpuLayers::Auto {
            return None;
        }
        let layers = self.layers();
        let n = layers.iter().filter(|l| **l >= seam).count();
        let name = self.gpu.name();
        Some(Notice::Choice(format!(
            "{n} of {} layers fit into the memory of `{name}`; the CPU computes the rest",
            layers.len()
        )))
    }
}
