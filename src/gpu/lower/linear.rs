//! Products with matrices: their inputs brought to where kernels can read them, and quantized; what stands behind them.

use super::{
    Bound, GROUP_LEN, Grid, Kernel, Kernels, Linear, Lowering, MATVEC_COLS, MATVEC_ROWS, Place, WG, row_stride,
    weights_kernel, words,
};
use crate::gpu::compose::{QUANTIZE, WEIGHTS, WEIGHTS_INT8};
use crate::gpu::planes::{Planes, planes};
use crate::plan::{Operand, Step};

/// Where kernels of products read their input, in numbers.
#[derive(Clone, Copy)]
pub(super) struct Input {
    pub source: Bound,
    /// First number of a row, and numbers from one row to the next.
    pub start: u32,
    pub row: u32,
    /// From one head to the next.
    pub head: u32,
}

impl Input {
    /// As the kernels for f32 have it: start, row and head in units of 4 numbers.
    pub const fn in_quads(&self) -> [u32; 3] {
        [self.start / 4, self.row / 4, self.head / 4]
    }
}

impl Lowering<'_> {
    /// The input of products, of which each of `n` heads has a matrix of its own: as it is where it is aligned, else
    /// copied.
    pub(super) fn input(&mut self, x: Operand, n: u32) -> Result<Input, String> {
        let width = x.len() / n;
        let stride = if n > 1 { x.stride } else { 0 };
        // Groups of weights are whole, so what stands behind a row is read, times zero.
        let end = |start: u32, stride: u32| start + (n - 1) * stride + row_stride(width);
        let aligned = x.start.is_multiple_of(4) && stride.is_multiple_of(4) && end(x.start, stride) <= self.stride(x);
        let source = self.place(x);
        if aligned && (n > 1 || x.is_contiguous()) {
            return Ok(Input { source, start: x.start, row: self.stride(x), head: stride });
        }
        if n > 1 && !width.is_multiple_of(4) {
            return Err(format!("no kernels for heads of {width} numbers"));
        }
        let wide = row_stride(end(0, if n > 1 { width } else { 0 }));
        let kernel = self.rows_kernel("take").set("ALIGN", 1).set("WG", WG);
        let params = [&self.view(x)[..], &[0, wide, wide, wide], &[x.len()]].concat();
        let bound = [source, source, Bound::Aligned, Bound::Unused, Bound::Unused];
        self.push_rows(kernel, bound, params, Grid::Rows(wide.div_ceil(WG)));
        let side = usize::from(self.taken);
        self.out.aligned[side] = self.out.aligned[side].max(wide);
        Ok(Input { source: Bound::Aligned, start: 0, row: wide, head: if n > 1 { width } else { 0 } })
    }

    pub(super) fn linear(&mut self) -> Result<(), String> {
        let Step::Linear { x, parts, clamp } = &self.plan.steps()[self.step] else {
            unreachable!("called for a Linear")
        };
        let weight = |id: crate::plan::WeightId| &self.plan.weights()[id.index()];
        let layouts: Option<Vec<&Planes>> = parts.iter().map(|p| planes(weight(p.weight).ty)).collect();
        let layouts = layouts.ok_or("no kernels for the format of a matrix")?;
        // Matrices of heads, or one.
        let n = parts.iter().map(|p| weight(p.weight).n_matrix()).max().unwrap_or(1).max(1) as u32;
        for part in parts.iter().filter(|_| n > 1) {
            self.fits_binding(part.weight)?;
        }
        let k = x.len() / n;
        let int8 = n == 1 && layouts.iter().any(|l| l.has_codes()) && k.is_multiple_of(32);
        let input = self.input(*x, n)?;
        let source = input.source;
        let int8 = [self.variant.int8_decode, self.variant.int8_prompt].map(|wanted| wanted && int8);
        self.quantize(int8, source, [input.start, input.row, k / 32], MATVEC_COLS);
        let mut cap = 0.0;
        let mut sum = None;
        if let ([part], 1) = (&parts[..], n) {
            match self.following() {
                Some(Step::Softcap { x, out, cap: c }) if *x == part.out && *out == part.out => cap = *c,
                _ => sum = self.following_sum(part.out),
            }
        }
        for (part, layout) in parts.iter().zip(&layouts) {
            let (target, add_scale) = sum.unwrap_or((part.out, 0.0));
            if Bound::Place(Place { buf: target.buf, taken: self.taken }) == source {
                return Err("a matrix writes into the buffer of its input".into());
            }
            let w = &self.plan.weights()[part.weight.index()];
            let int8 = int8.map(|wanted| wanted && layout.has_codes());
            let (out_len, y_head) = if n > 1 { (w.out_len() as u32, target.stride) } else { (0, 0) };
            for (chunk, (first, rows)) in self.chunks.chunks(part.weight).into_iter().enumerate() {
                // Of a stack, chunks are whole matrices.
                let (head, n_head) = if n > 1 { (first / out_len, rows / out_len) } else { (0, 1) };
                let (rows, first) = if n > 1 { (out_len, 0) } else { (rows, first) };
                let params = |is_int8: bool| {
                    let [x_start, x_row, x_head] = match is_int8 {
                        true => [0, k / 32, 0],
                        false => input.in_quads(),
                    };
                    words(&Linear {
                        rows,
                        groups: w.row_len().div_ceil(GROUP_LEN) as u32,
                        x_start: x_start + head * x_head,
                        x_row,
                        y_start: target.start + first + head * y_head,
                        y_row: self.stride(target),
                        bias_start: first,
                        has_bias: part.bias.is_some().into(),
                        scale: part.scale,
                        add_scale,
                        clamp: clamp.unwrap_or(0.0),
                        cap,
                        grid_x: rows.div_ceil(MATVEC_ROWS).min(self.variant.max_groups),
                        x_head,
                        y_head,
                        ..Linear::default()
                    })
                };
                let bindings = vec![
                    Bound::PlaneA(part.weight, chunk),
                    Bound::PlaneS(part.weight, chunk),
                    Bound::Grid(part.weight),
                    source,
                    self.place(target),
                    part.bias.map_or(Bound::Unused, Bound::Vector),
                    Bound::Params,
                    Bound::Batch,
                ];
                let flags = Product { taken: self.taken, add: sum.is_some(), reduce: self.variant.reduce() };
                let cost = u64::from(rows) * u64::from(n_head) * u64::from(k);
                let (few, many) = (flags.few(layout, int8[0]), flags.many(layout, int8[1]));
                let [few_bindings, many_bindings] = int8.map(|is| bindings_of(&bindings, is));
                let [few_params, many_params] = int8.map(params);
                let grids = match n {
                    1 => [Grid::Matvec(rows), Grid::Matmul(rows)],
                    _ => [Grid::HeadsFew(rows, n_head), Grid::HeadsMany(rows, n_head)],
                };
                let [few_grid, many_grid] = grids;
                self.push(Kernels::Few(Box::new(few)), few_bindings, few_params, few_grid, cost);
                self.push(Kernels::One(many), many_bindings, many_params, many_grid, cost);
            }
        }
        self.step += usize::from(cap > 0.0 || sum.is_some());
        Ok(())
    }

    /// The input of integer products: `view` is start, row stride, groups. For up to `few` rows and for more, as wanted.
    pub(super) fn quantize(&mut self, wanted: [bool; 2], source: Bound, view: [u32; 3], few: u32) {
        let rows = match wanted {
            [false, false] => return,
            [true, false] => 1..=few,
            [false, true] => few + 1..=u32::MAX,
            [true, true] => 1..=u32::MAX,
        };
        let kernel = Kernel::new("quantize", QUANTIZE).set("WG", WG).set("TAKEN", self.taken.into());
        let bindings = vec![source, Bound::Codes, Bound::Scales, Bound::Params, Bound::Batch];
        let params = vec![view[0], view[1], view[2], 0];
        self.push(Kernels::One(kernel), bindings, params, Grid::Rows(view[2].div_ceil(WG)), 0);
        self.out.dispatches.last_mut().expect("just pushed").rows = rows;
        let side = usize::from(self.taken);
        self.out.quantized[side] = self.out.quantized[side].max(32 * view[2]);
    }

    /// Can a binding show one matrix of a stack?
    pub(super) fn fits_binding(&self, id: crate::plan::WeightId) -> Result<(), String> {
        let w = &self.plan.weights()[id.index()];
        let layout = planes(w.ty).ok_or_else(|| format!("no kernels for {}", w.ty))?;
        match layout.chunk_bytes(w.out_len(), w.row_len()) <= self.variant.max_binding {
            true => Ok(()),
            false => Err(format!(
                "no kernels for `{}`: each of its matrices is larger than what the GPU binds ({} bytes)",
                w.name, self.variant.max_binding
            )),
        }
    }
}

/// The bindings of a product, whose input is quantized where `int8`.
pub(super) fn bindings_of(bindings: &[Bound], int8: bool) -> Vec<Bound> {
    let mut bindings = bindings.to_vec();
    if int8 {
        bindings[3] = Bound::Codes;
        bindings.push(Bound::Scales);
    }
    bindings
}

/// What the kernels of a product depend on besides the format.
struct Product {
    taken: bool,
    add: bool,
    reduce: &'static str,
}

/// A kernel of products with matrices of one format: `name` for f32, and for int8.
pub(super) fn product_kernel(name: [&'static str; 2], layout: &Planes, int8: bool, interface: &'static str) -> Kernel {
    match int8 {
        true => weights_kernel(name[1], WEIGHTS_INT8, layout, interface).with("int8"),
        false => weights_kernel(name[0], WEIGHTS, layout, interface),
    }
}

/// The kernel for few columns.
pub(super) fn few_kernel(kernel: Kernel, reduce: &'static str, cols: u32) -> Kernel {
    // The tree of 4 x 8 sums over 64 lanes takes 8 KiB of workgroup memory.
    let kernel = kernel.with(reduce).set("WG", 64).set("ROWS", MATVEC_ROWS);
    kernel.set("COLS", cols).set("SLOTS", MATVEC_ROWS * cols)
}

impl Product {
    fn kernel(&self, name: [&'static str; 2], layout: &Planes, int8: bool) -> Kernel {
        let kernel = product_kernel(name, layout, int8, "linear");
        kernel.set("TAKEN", self.taken.into()).set("ADD", self.add.into())
    }

    /// For 1, 2, 4 and 8 columns.
    fn few(&self, layout: &Planes, int8: bool) -> [Kernel; 4] {
        [1, 2, 4, 8].map(|cols| few_kernel(self.kernel(["matvec", "matvec_int8"], layout, int8), self.reduce, cols))
    }

    fn many(&self, layout: &Planes, int8: bool) -> Kernel {
        self.kernel(["matmul", "matmul_int8"], layout, int8)
    }
}
