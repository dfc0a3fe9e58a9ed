//! Weights on the device: matrices as planes, cut by rows to what one binding may show; vectors as f32.
//!
//! Rows go up in pieces, repacked straight into the staging memory of the queue, which is handed in piece by piece, so
//! that the host never holds more than a few of them.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tealight_quant as quant;
use wgpu::WriteOnly;

use super::device::Gpu;
use super::pipelines::Range;
use super::planes::{ALIGN, Planes, planes};
use crate::error::{Error, ErrorKind, Result};
use crate::plan::{Plan, Step, WeightId, WeightRef, Weights};

/// Bytes of a matrix that go up at once.
const PIECE: usize = 2 << 20;
/// Bytes that may wait in staging memory: the queue keeps them until the device has copied them.
const STAGED: u64 = 64 << 20;

/// Some rows of a matrix in one buffer: plane A, then plane S.
pub(super) struct Chunk {
    buffer: wgpu::Buffer,
    a: u64,
    s: u64,
    /// First row, and rows.
    pub first: u32,
    pub rows: u32,
}

impl Chunk {
    pub fn plane_a(&self) -> Range<'_> {
        Range { buffer: &self.buffer, start: 0, size: self.a }
    }

    pub fn plane_s(&self) -> Range<'_> {
        Range { buffer: &self.buffer, start: self.a.next_multiple_of(ALIGN), size: self.s }
    }
}

/// A matrix on the device.
pub(super) struct Matrix {
    pub chunks: Vec<Chunk>,
    /// The format's grid.
    pub tables: Option<wgpu::Buffer>,
}

/// All weights of a plan.
pub(super) struct DeviceWeights {
    matrices: Vec<Option<Matrix>>,
    vectors: Vec<Option<wgpu::Buffer>>,
}

/// How many rows of a matrix one chunk holds; of a stack of matrices, whole ones.
fn rows_per_chunk(w: &WeightRef, layout: &Planes, limit: u64) -> Result<usize> {
    let len = w.row_len();
    let fits = |rows: usize| {
        let (a, s) = (layout.a_bytes(rows, len), layout.s_bytes(rows, len));
        a <= limit && s <= limit && layout.chunk_bytes(rows, len) <= limit
    };
    let per_row = layout.a_bytes(1, len) + layout.s_bytes(1, len);
    let mut rows = w.n_rows().min((limit / per_row.max(1)) as usize);
    while rows > 0 && !fits(rows) {
        rows -= 1;
    }
    let what = if w.n_matrix() > 1 { "matrix" } else { "row" };
    if w.n_matrix() > 1 {
        rows -= rows % w.out_len().max(1);
    }
    if rows == 0 {
        let text = format!("a {what} of tensor `{}` is larger than what the GPU binds ({limit} bytes)", w.name);
        return Err(Error::new(ErrorKind::Gpu, text).with_hint("use the CPU (--device cpu)"));
    }
    Ok(rows)
}

/// Weights that steps use as matrices, and those that they use as vectors.
fn uses(plan: &Plan) -> (Vec<WeightId>, Vec<WeightId>) {
    let (mut matrices, mut vectors) = (Vec::new(), Vec::new());
    for step in plan.steps() {
        match step {
            Step::Linear { parts, .. } => {
                matrices.extend(parts.iter().map(|p| p.weight));
                vectors.extend(parts.iter().filter_map(|p| p.bias));
            }
            Step::Embed { table, .. } => matrices.push(*table),
            Step::Experts(e) => {
                matrices.extend(e.parts().map(|p| p.weight));
                vectors.extend(e.parts().filter_map(|p| p.bias));
            }
            _ => vectors.extend(step.weights()),
        }
    }
    for ids in [&mut matrices, &mut vectors] {
        ids.sort_unstable();
        ids.dedup();
    }
    (matrices, vectors)
}

fn layout_of(w: &WeightRef) -> Result<&'static Planes> {
    planes(w.ty).ok_or_else(|| {
        Error::new(ErrorKind::Gpu, format!("tensor `{}`: the GPU has no kernels for {}", w.name, w.ty))
            .with_hint("use the CPU (--device cpu)")
    })
}

impl DeviceWeights {
    /// Uploads what the plan's steps read. `progress` hears the bytes of matrices of the file that are done.
    ///
    /// # Errors
    /// [`ErrorKind::Memory`] when the device has no room, [`ErrorKind::Gpu`], [`ErrorKind::Interrupted`].
    pub fn upload(
        gpu: &Arc<Gpu>,
        plan: &Plan,
        weights: &dyn Weights,
        limit: u64,
        cancel: &AtomicBool,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Self> {
        let n = plan.weights().len();
        let mut up = Self {
            matrices: std::iter::repeat_with(|| None).take(n).collect(),
            vectors: std::iter::repeat_with(|| None).take(n).collect(),
        };
        let (matrices, vectors) = uses(plan);
        let mut done = 0;
        for id in matrices {
            let w = &plan.weights()[id.index()];
            let mut piece = |bytes: u64| {
                done += bytes;
                progress(done);
                match cancel.load(Ordering::Relaxed) {
                    true => Err(Error::new(ErrorKind::Interrupted, "interrupted")),
                    false => Ok(()),
                }
            };
            up.matrices[id.index()] = Some(matrix(gpu, w, weights.bytes(id), limit, &mut piece)?);
        }
        for id in vectors {
            let w = &plan.weights()[id.index()];
            let mut values = vec![0f32; w.row_len() * w.n_rows()];
            quant::dequantize(w.ty, weights.bytes(id), &mut values)
                .map_err(|e| Error::new(ErrorKind::Internal, format!("tensor `{}`: {e}", w.name)))?;
            let buffer = gpu.storage(&w.name, 4 * values.len() as u64)?;
            gpu.queue.write_buffer(&buffer, 0, bytemuck::cast_slice(&values));
            up.vectors[id.index()] = Some(buffer);
        }
        gpu.queue.submit([]);
        gpu.wait()?;
        Ok(up)
    }

    /// A weight that a step uses as a matrix.
    pub fn matrix_of(&self, id: WeightId) -> &Matrix {
        self.matrices[id.index()].as_ref().expect("uploaded with the plan")
    }

    /// A weight that a step uses as a vector.
    pub fn vector_of(&self, id: WeightId) -> &wgpu::Buffer {
        self.vectors[id.index()].as_ref().expect("uploaded with the plan")
    }
}

/// Uploads a matrix in chunks of at most `limit` bytes. `piece` hears of every piece, and may stop.
fn matrix(
    gpu: &Arc<Gpu>,
    w: &WeightRef,
    bytes: &[u8],
    limit: u64,
    piece: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<Matrix> {
    let layout = layout_of(w)?;
    let limit = limit.min(gpu.caps().max_binding).min(gpu.caps().max_buffer);
    let per_chunk = rows_per_chunk(w, layout, limit)?;
    let mut chunks = Vec::new();
    for first in (0..w.n_rows()).step_by(per_chunk) {
        let rows = per_chunk.min(w.n_rows() - first);
        let (a, s) = (layout.a_bytes(rows, w.row_len()), layout.s_bytes(rows, w.row_len()));
        let (a, s) = (a.max(16), s.max(16));
        let buffer = gpu.storage(&w.name, a.next_multiple_of(ALIGN) + s)?;
        let chunk = Chunk { buffer, a, s, first: first as u32, rows: rows as u32 };
        let range = first * w.row_bytes()..(first + rows) * w.row_bytes();
        fill(gpu, w, layout, &chunk, &bytes[range], piece)?;
        chunks.push(chunk);
    }
    let words = layout.tables();
    let tables = match words.is_empty() {
        true => None,
        false => {
            let buffer = gpu.storage("grid", 4 * words.len() as u64)?;
            gpu.queue.write_buffer(&buffer, 0, bytemuck::cast_slice(&words));
            Some(buffer)
        }
    };
    Ok(Matrix { chunks, tables })
}

/// Packs a chunk's rows piece by piece into staging memory.
fn fill(
    gpu: &Gpu,
    w: &WeightRef,
    layout: &Planes,
    chunk: &Chunk,
    bytes: &[u8],
    piece_done: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<()> {
    let step = layout.row_step(w.row_len());
    let piece_rows = (PIECE / w.row_bytes().max(1)).next_multiple_of(step).max(step);
    let (mut a_pos, mut s_pos) = (chunk.plane_a().start, chunk.plane_s().start);
    let mut staged = 0;
    for piece in bytes.chunks(piece_rows * w.row_bytes()) {
        let rows = piece.len() / w.row_bytes();
        let sizes = [layout.a_bytes(rows, w.row_len()), layout.s_bytes(rows, w.row_len())];
        let view = |at: u64, size: u64| match NonZeroU64::new(size) {
            Some(size) => gpu.queue.write_buffer_with(&chunk.buffer, at, size).map(Some).ok_or_else(|| failed(gpu)),
            None => Ok(None),
        };
        let (mut a, mut s) = (view(a_pos, sizes[0])?, view(s_pos, sizes[1])?);
        layout.pack(piece, w.row_len(), whole(&mut a), whole(&mut s));
        drop((a, s));
        // Staging memory is freed when the submission that carries it is done.
        gpu.queue.submit([]);
        staged += sizes[0] + sizes[1];
        if staged < STAGED {
            gpu.poll()?;
        } else {
            gpu.wait()?;
            staged = 0;
        }
        a_pos += sizes[0];
        s_pos += sizes[1];
        piece_done(piece.len() as u64)?;
    }
    Ok(())
}

/// All of a view; nothing for a plane that is empty.
fn whole(view: &mut Option<wgpu::QueueWriteBufferView>) -> WriteOnly<'_, [u8]> {
    match view {
        Some(view) => view.slice(..),
        None => WriteOnly::from_mut(&mut [][..]),
    }
}

fn failed(gpu: &Gpu) -> Error {
    match gpu.check() {
        Err(e) => e,
        Ok(()) => Error::new(ErrorKind::Gpu, format!("the GPU `{}` takes no data", gpu.name())),
    }
}
