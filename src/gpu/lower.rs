//! From a plan to dispatches: which kernel runs over which buffers with which parameters. Nothing here touches a
//! device, so that it can be printed and tested without one.
//!
//! Neighbouring steps that one kernel can do are fused: the soft cap and the residual sum behind a matrix, the
//! residual sum behind a norm. A step that the kernels cannot do is an error with its reason; the caller then leaves
//! its layer to the CPU.

mod experts;
mod linear;
mod pointwise;
mod positions;
mod states;

use std::ops::RangeInclusive;

use super::compose::{Kernel, ROWS, WEIGHTS};
use super::device::Caps;
use super::kernels::attend;
use super::kernels::linear::Linear;
use super::planes::{GROUP_LEN, Planes, planes};
use crate::plan::{
    Attend, BufId, CacheId, CacheType, Index, NormKind, Operand, Pairs, Plan, PoolKind, Select, StateId, Step, TableId,
    WeightId,
};

/// Largest number of rows for which a matrix is read by the kernel for single rows.
pub(super) const MATVEC_COLS: u32 = 8;
/// Rows and columns that one workgroup of the tiled product computes.
pub(super) const TILE: (u32, u32) = (64, 32);
/// Lanes of the kernels that treat elements.
const WG: u32 = 64;

/// A buffer of the plan, as it is before the Take, or with the wanted rows only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub buf: BufId,
    pub taken: bool,
}

/// What a binding shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Bound {
    /// An activation buffer.
    Place(Place),
    /// Plane A, plane S and the grid of a chunk of a matrix.
    PlaneA(WeightId, usize),
    PlaneS(WeightId, usize),
    Grid(WeightId),
    /// A norm's weight or a bias, in f32.
    Vector(WeightId),
    /// Quantized activations: codes and scales.
    Codes,
    Scales,
    /// An input copied to where it is aligned.
    Aligned,
    /// Decays, shares or step sizes of a step with a state.
    Gates,
    /// A state of the sequence.
    State(StateId),
    /// The sequence's part of the batch.
    Sequence,
    /// What experts leave between their steps.
    Scratch(Scratch),
    /// (token, position, 0, 0) of each row.
    RowInfo,
    /// Indices of wanted rows.
    Want,
    /// Rows grouped by sequence.
    Order,
    /// (first, count) of each sequence in it.
    Groups,
    /// cos and sin of each row.
    Rotation(TableId),
    /// The dispatch's own parameters.
    Params,
    /// The batch's.
    Batch,
    /// Nothing: any buffer.
    Unused,
}

/// Buffers of experts, for the widest of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Scratch {
    /// What goes through the activation, [pairs, ff], or with the factor behind it [pairs, 2 ff].
    Gates,
    /// The factor, then what the last matrix reads, [pairs, ff].
    Ups,
    /// [pairs, out].
    Results,
    /// Pairs grouped by expert.
    Table,
}

impl Scratch {
    pub const ALL: [Self; 4] = [Self::Gates, Self::Ups, Self::Results, Self::Table];
}

/// Workgroups of a dispatch.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Grid {
    /// (n, rows, 1).
    Rows(u32),
    /// A product with a matrix of this many rows, by the kernel for few columns, or by the tiled one.
    Matvec(u32),
    Matmul(u32),
    /// (n, sequences, 1).
    Sequences(u32),
    /// The same with matrices of so many rows, one for each of so many heads.
    HeadsFew(u32, u32),
    HeadsMany(u32, u32),
    /// (n, rows, chosen experts).
    Pairs(u32, u32),
    /// The products of experts with matrices of this many rows.
    ExpertsFew(u32, Chosen),
    ExpertsMany(u32, Chosen),
    /// One workgroup.
    One,
    /// Filling a cache, once per sequence: its keys and values.
    Store(CacheId, Operand, Option<Operand>),
    /// Attention, once per sequence.
    Attend(Box<Attend>),
    /// The choice of positions, once per sequence.
    Select(Select),
    /// (x, y, 1) over a state, once per sequence; as many more in y as it has rows where `per_row`.
    State {
        x: u32,
        y: u32,
        per_row: bool,
    },
}

/// Experts of a step: how many a row chooses, of how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chosen {
    pub used: u32,
    pub of: u32,
}

impl Chosen {
    /// Tiles that the pairs of `n` rows make at most, when each has pairs of one expert.
    pub fn max_tiles(self, n: u32) -> u32 {
        let n_pair = n * self.used;
        n_pair / TILE.1 + n_pair.min(self.of)
    }
}

/// Kernels of a dispatch.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kernels {
    One(Kernel),
    /// For 1, 2, up to 4, up to 8 rows of the batch.
    Few(Box<[Kernel; 4]>),
    /// Depending on how the sequence stores its cache.
    OfSequence,
}

impl Kernels {
    /// All of them.
    pub fn all(&self) -> Vec<&Kernel> {
        match self {
            Self::One(k) => vec![k],
            Self::Few(ks) => ks.iter().collect(),
            Self::OfSequence => vec![],
        }
    }
}

/// One kernel over its bindings.
#[derive(Clone, Debug)]
pub(super) struct Dispatch {
    /// The last step of the plan that it computes.
    pub step: usize,
    pub kernels: Kernels,
    pub bindings: Vec<Bound>,
    pub params: Vec<u32>,
    pub grid: Grid,
    /// Over the wanted rows only.
    pub taken: bool,
    /// Numbers of rows for which it is the right one; for others it is left out.
    pub rows: RangeInclusive<u32>,
    /// Multiplications per row.
    pub cost: u64,
}

/// A lowered plan.
#[derive(Debug, Default)]
pub(super) struct Lowered {
    pub dispatches: Vec<Dispatch>,
    /// Widest quantized input and widest copied one, in numbers, before and behind the Take.
    pub quantized: [u32; 2],
    pub aligned: [u32; 2],
    /// Most numbers of a row that are kept for a step with a state.
    pub gates: u32,
    /// Likewise, in words, what experts leave: by [`Scratch::ALL`].
    pub scratch: [[u32; 2]; 4],
}

impl Lowered {
    /// Makes the products of the first step with matrices leave out half of their columns.
    pub fn sabotage(&mut self) {
        let is_product = |d: &Dispatch| matches!(d.grid, Grid::Matvec(_) | Grid::Matmul(_));
        let Some(step) = self.dispatches.iter().find(|d| is_product(d)).map(|d| d.step) else { return };
        for dispatch in self.dispatches.iter_mut().filter(|d| d.step == step && is_product(d)) {
            let [params] = bytemuck::cast_slice_mut::<u32, Linear>(&mut dispatch.params) else { continue };
            params.groups /= 2;
        }
    }
}

/// What a device and its user allow.
#[derive(Clone, Debug)]
pub(super) struct Variant {
    pub subgroups: bool,
    /// Packed int8 dot products for prompts, and for single rows.
    pub int8_prompt: bool,
    pub int8_decode: bool,
    pub max_groups: u32,
    /// Largest range of weights that one binding shows.
    pub max_binding: u64,
    pub fuse: bool,
}

impl Variant {
    pub fn of(caps: &Caps) -> Self {
        Self {
            subgroups: caps.subgroups,
            int8_prompt: caps.int8_dot,
            int8_decode: false,
            max_groups: caps.max_groups,
            max_binding: caps.max_binding.min(caps.max_buffer),
            fuse: true,
        }
    }

    /// Name of the fragment that sums over a workgroup.
    fn reduce(&self) -> &'static str {
        if self.subgroups { "reduce/subgroup" } else { "reduce/tree" }
    }
}

/// A step that kernels cannot do, and why.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unsupported {
    pub step: usize,
    pub why: String,
}

/// How many rows of which matrices lie in each chunk: known once they are laid out.
pub(super) trait Chunks {
    /// (first row, rows) of each chunk of a matrix.
    fn chunks(&self, id: WeightId) -> Vec<(u32, u32)>;
}

/// Every matrix in one chunk: for questions about a plan before anything is uploaded.
pub(super) struct WholeMatrices<'a>(pub &'a Plan);

impl Chunks for WholeMatrices<'_> {
    fn chunks(&self, id: WeightId) -> Vec<(u32, u32)> {
        vec![(0, self.0.weights()[id.index()].n_rows() as u32)]
    }
}

/// Lowers the steps of a plan up to `end`.
pub(super) fn lower(plan: &Plan, end: usize, variant: &Variant, chunks: &dyn Chunks) -> Result<Lowered, Unsupported> {
    let mut lowering = Lowering {
        plan,
        variant,
        chunks,
        live: plan.needed_after(),
        out: Lowered::default(),
        taken: false,
        step: 0,
        end,
    };
    while lowering.step < end {
        let step = lowering.step;
        lowering.next().map_err(|why| Unsupported { step, why })?;
    }
    Ok(lowering.out)
}

/// The kernels of a lowered plan, for people: the last step of each dispatch, and what computes it.
pub(super) fn names(lowered: &Lowered) -> Vec<(usize, String)> {
    let name = |d: &Dispatch| match (&d.grid, d.kernels.all().first()) {
        (Grid::Store(..), _) => "store".to_owned(),
        (Grid::Attend(_), _) => "attend".to_owned(),
        (Grid::Select(_), _) => "positions".to_owned(),
        (_, Some(kernel)) => kernel.parts(),
        (_, None) => String::new(),
    };
    let rows = |d: &Dispatch| match (*d.rows.start(), *d.rows.end()) {
        (0 | 1, u32::MAX) => String::new(),
        (start, u32::MAX) => format!(" from {start} rows"),
        (_, end) => format!(" up to {end} rows"),
    };
    lowered.dispatches.iter().map(|d| (d.step, name(d) + &rows(d))).collect()
}

struct Lowering<'a> {
    plan: &'a Plan,
    variant: &'a Variant,
    chunks: &'a dyn Chunks,
    live: Vec<Vec<BufId>>,
    out: Lowered,
    taken: bool,
    step: usize,
    end: usize,
}

/// Row stride of a buffer: whole groups of 32 numbers, so that every row is aligned.
pub(super) fn row_stride(width: u32) -> u32 {
    width.next_multiple_of(32)
}

impl<'a> Lowering<'a> {
    fn stride(&self, o: Operand) -> u32 {
        row_stride(self.plan.buffers()[o.buf.index()].width)
    }

    /// View of an operand: start, width, stride, row. With one head, any division of columns is right.
    fn view(&self, o: Operand) -> [u32; 4] {
        let stride = if o.heads == 1 { o.width } else { o.stride };
        [o.start, o.width, stride, self.stride(o)]
    }

    fn place(&self, o: Operand) -> Bound {
        Bound::Place(Place { buf: o.buf, taken: self.taken })
    }

    fn rows_kernel(&self, name: &'static str) -> Kernel {
        Kernel::new(name, ROWS).with("rows").set("TAKEN", self.taken.into())
    }

    /// The step behind this one if it can be fused: it must be before the end.
    fn following(&self) -> Option<&'a Step> {
        self.plan.steps()[..self.end].get(self.step + 1).filter(|_| self.variant.fuse)
    }

    /// Is the next step `x + scale y -> x` with `y` the given result, which nobody else reads?
    fn following_sum(&self, result: Operand) -> Option<(Operand, f32)> {
        let Some(Step::Add { x, y, out, scale }) = self.following() else { return None };
        let dead = !self.live[self.step + 1].contains(&result.buf);
        (*y == result && x == out && dead && x.buf != result.buf).then_some((*x, *scale))
    }

    fn push(&mut self, kernels: Kernels, bindings: Vec<Bound>, params: Vec<u32>, grid: Grid, cost: u64) {
        let (step, taken) = (self.step, self.taken);
        let rows = match grid {
            Grid::Matvec(_) | Grid::HeadsFew(..) => 1..=MATVEC_COLS,
            Grid::Matmul(_) | Grid::HeadsMany(..) => MATVEC_COLS + 1..=u32::MAX,
            _ => 1..=u32::MAX,
        };
        self.out.dispatches.push(Dispatch { step, kernels, bindings, params, grid, taken, rows, cost });
    }

    /// A kernel over rows: bindings a, b, out, weight, bias.
    fn push_rows(&mut self, kernel: Kernel, bound: [Bound; 5], params: Vec<u32>, grid: Grid) {
        let mut bindings = bound.to_vec();
        bindings.extend([Bound::Params, Bound::Batch]);
        self.push(Kernels::One(kernel), bindings, params, grid, 0);
    }

    fn no_rows_behind_take(&self) -> Result<(), String> {
        if self.taken { Err("needs the positions of rows behind the Take".into()) } else { Ok(()) }
    }

    fn next(&mut self) -> Result<(), String> {
        let plan = self.plan;
        match &plan.steps()[self.step] {
            step @ Step::Embed { .. } => self.embed(step)?,
            step @ Step::Norm { .. } => self.norm(step),
            Step::Linear { .. } => self.linear()?,
            Step::Rope { x, out, table, pairs } => {
                self.no_rows_behind_take()?;
                let n_pair = plan.tables()[table.index()].freqs.len() as u32;
                let kernel = self.rows_kernel("rope").set("WG", WG).set("ADJACENT", (*pairs == Pairs::Adjacent).into());
                let params = [&self.view(*x)[..], &self.view(*out), &[n_pair, x.heads]].concat();
                let (a, out) = (self.place(*x), self.place(*out));
                let grid = Grid::Rows((x.heads * (x.width - n_pair)).div_ceil(WG));
                self.push_rows(kernel, [a, a, out, Bound::Rotation(*table), Bound::Unused], params, grid);
            }
            Step::Store { cache, k, v } => {
                self.no_rows_behind_take()?;
                attend::fits(&plan.caches()[cache.index()], [CacheType::F16; 2])?;
                self.push(Kernels::OfSequence, vec![], vec![], Grid::Store(*cache, *k, *v), 0);
            }
            Step::Attend(a) => {
                self.no_rows_behind_take()?;
                if a.q.buf == a.out.buf {
                    return Err("attention within one buffer".into());
                }
                self.check_chosen(a)?;
                let spec = &plan.caches()[a.cache.index()];
                attend::Attend::new(a, attend::CacheShape::new(spec, [CacheType::F16; 2], 1), 0, 0)?;
                self.push(Kernels::OfSequence, vec![], vec![], Grid::Attend(a.clone()), 0);
            }
            Step::Gate { x, out, act, by } => self.gate(*x, *out, *act, *by),
            Step::Add { x, y, out, scale } => {
                let kernel = self.rows_kernel("add").set("WG", WG);
                let views = [self.view(*x), self.view(*y), self.view(*out)].concat();
                let params = [&views[..], &[x.len(), scale.to_bits()]].concat();
                let bound = [self.place(*x), self.place(*y), self.place(*out), Bound::Unused, Bound::Unused];
                self.push_rows(kernel, bound, params, Grid::Rows(x.len().div_ceil(WG)));
            }
            Step::Softcap { x, out, cap } => {
                let kernel = self.rows_kernel("softcap").with("math").set("WG", WG);
                let params = [&self.view(*x)[..], &self.view(*out), &[x.len(), cap.to_bits()]].concat();
                let (a, out) = (self.place(*x), self.place(*out));
                self.push_rows(
                    kernel,
                    [a, a, out, Bound::Unused, Bound::Unused],
                    params,
                    Grid::Rows(x.len().div_ceil(WG)),
                );
            }
            Step::Take { keep } => {
                for &buf in keep {
                    let width = plan.buffers()[buf.index()].width;
                    let view = [0, width, width, row_stride(width)];
                    let (a, out) =
                        (Bound::Place(Place { buf, taken: false }), Bound::Place(Place { buf, taken: true }));
                    let kernel = Kernel::new("take", ROWS).with("rows").set("TAKEN", 1).set("ALIGN", 0).set("WG", WG);
                    let params = [&view[..], &view, &[width]].concat();
                    self.taken = true;
                    self.push_rows(
                        kernel,
                        [a, a, out, Bound::Want, Bound::Unused],
                        params,
                        Grid::Rows(width.div_ceil(WG)),
                    );
                }
                self.taken = true;
            }
            step @ Step::Conv { .. } => self.conv(step)?,
            Step::Delta(d) => self.delta(d)?,
            Step::Scan(s) => self.scan(s)?,
            step @ (Step::Scale { .. } | Step::Rescale { .. } | Step::Mix { .. } | Step::Sparsify { .. }) => {
                self.streams(step)?;
            }
            Step::Select(s) => self.select(s)?,
            Step::Route(r) => self.route(r)?,
            Step::Experts(e) => self.experts(e)?,
            Step::Pool { x, out, kind } => {
                self.no_rows_behind_take()?;
                if x.buf == out.buf {
                    return Err("pools within one buffer".into());
                }
                let kind = match kind {
                    PoolKind::Mean => 0,
                    PoolKind::First => 1,
                    PoolKind::Last => 2,
                };
                let kernel = self.rows_kernel("pool").set("KIND", kind).set("WG", WG);
                let params = [&self.view(*x)[..], &self.view(*out), &[x.len()]].concat();
                let (a, out) = (self.place(*x), self.place(*out));
                let grid = Grid::Sequences(x.len().div_ceil(WG));
                self.push_rows(kernel, [a, a, out, Bound::Order, Bound::Groups], params, grid);
            }
        }
        self.step += 1;
        Ok(())
    }

    fn norm(&mut self, step: &Step) {
        let Step::Norm { x, out, kind, eps, width, weight, bias } = step else { unreachable!("called for a Norm") };
        let sum = self.following_sum(*out);
        // The sum is over whole columns: heads of a norm may be any groups of them.
        let (add, scale) = sum.unwrap_or((*out, 1.0));
        let target = if sum.is_some() { add } else { *out };
        let groups = |id: &Option<WeightId>| match id {
            Some(id) => {
                let w = &self.plan.weights()[id.index()];
                [1, (w.row_len() * w.n_rows() != *width as usize).into()]
            }
            None => [0, 0],
        };
        let wg = if *width <= 128 { 32 } else { 256 };
        let by = match kind {
            NormKind::Rms => 0,
            NormKind::Layer => 1,
            NormKind::L2 => 2,
        };
        let kernel = self
            .rows_kernel("norm")
            .with(self.variant.reduce())
            .set("KIND", by)
            .set("ADD", sum.is_some().into())
            .set("WG", wg)
            .set("SLOTS", 1);
        let views = [self.view(*x), self.view(add), self.view(target)].concat();
        let rest = [*width, eps.to_bits(), groups(weight)[0], groups(weight)[1], groups(bias)[0], groups(bias)[1]];
        let params = [&views[..], &rest, &[scale.to_bits(), 0]].concat();
        let vector = |id: &Option<WeightId>| id.map_or(Bound::Unused, Bound::Vector);
        let bound = [self.place(*x), self.place(add), self.place(target), vector(weight), vector(bias)];
        let n_group = x.len() / width;
        self.step += usize::from(sum.is_some());
        self.push_rows(kernel, bound, params, Grid::Rows(n_group));
    }

    fn embed(&mut self, step: &Step) -> Result<(), String> {
        let Step::Embed { out, table, index, scale, add } = step else { unreachable!("called for an Embed") };
        let (out, table, scale, add) = (*out, *table, *scale, *add);
        let by = match index {
            Index::Token => [0, 0],
            Index::Position(first) => [1, *first],
            Index::Row(row) => [2, *row],
        };
        self.no_rows_behind_take()?;
        let w = &self.plan.weights()[table.index()];
        let layout = planes(w.ty).ok_or_else(|| format!("no kernels for {}", w.ty))?;
        let groups = w.row_len().div_ceil(GROUP_LEN) as u32;
        for (chunk, (first, rows)) in self.chunks.chunks(table).into_iter().enumerate() {
            let kernel = weights_kernel("embed", WEIGHTS, layout, "linear")
                .set("WG", 32)
                .set("TAKEN", 0)
                .set("ADD", add.into())
                .set("BY", by[0])
                .set("OFFSET", by[1]);
            let params = Linear {
                rows,
                groups,
                y_start: out.start,
                y_row: self.stride(out),
                scale,
                add_scale: 1.0,
                first,
                row_len: out.len(),
                ..Linear::default()
            };
            let bindings = vec![
                Bound::PlaneA(table, chunk),
                Bound::PlaneS(table, chunk),
                Bound::Grid(table),
                Bound::RowInfo,
                self.place(out),
                Bound::Unused,
                Bound::Params,
                Bound::Batch,
            ];
            let grid = Grid::Rows(groups.div_ceil(32));
            self.push(Kernels::One(kernel), bindings, words(&params), grid, 0);
        }
        Ok(())
    }
}

/// Rows of a matrix that one workgroup of the kernel for few columns computes.
pub(super) const MATVEC_ROWS: u32 = 4;

/// A parameter block as words.
fn words<P: bytemuck::Pod>(params: &P) -> Vec<u32> {
    bytemuck::cast_slice(std::slice::from_ref(params)).to_vec()
}

/// A kernel over the weights of a format; `interface` says what it reads and where results go.
fn weights_kernel(
    name: &'static str,
    slots: &'static [super::compose::Slot],
    layout: &Planes,
    interface: &'static str,
) -> Kernel {
    layout.add_to(Kernel::new(name, slots).with(interface).with("math"))
}
