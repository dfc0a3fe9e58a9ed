//! The arithmetic of the CPU back-end, one table of functions for each instruction set.
//!
//! [`KernelSet::SCALAR`] is the specification: plain loops, integer parts exact, f32 sums. Every other
//! set computes the same up to the rounding of sums in f32, and quantizes to the same bytes. A kernel
//! knows neither threads nor models: it gets slices. Each row of a product is summed in one order
//! that depends on its length only, so results do not depend on how rows are cut into calls.
//!
//! Row products read raw GGUF blocks at any alignment, and nothing behind the last one.
#![allow(unsafe_code)] // calls through the table; see `KernelSet`

#[cfg(target_arch = "aarch64")]
mod aarch64;
mod attention;
mod codes;
#[cfg(any(target_arch = "aarch64", target_arch = "x86_64"))]
mod float;
mod panel;
mod read;
mod scalar;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod x86_64;

pub use panel::{PANEL_COLS, PANEL_ROWS, PANEL_TOKENS, Panel, Rows8};
pub use read::readers;

use attention::AttentionKernels;
pub use attention::{CHUNK, CacheNumber, KEY_GROUP};
use half::f16;
use panel::PanelKernels;
use tealight_quant::{BlockType, dequantize};

/// One activation row, quantized to 8 bits.
#[derive(Clone, Copy)]
pub struct Row8<'a> {
    /// Quants, `[n]`, -127..=127.
    pub q: &'a [i8],
    /// Scales, one for 32 quants (Q8_0) or for 256 (Q8_K).
    pub d: &'a [f32],
    /// Sums of 16 quants, [n / 16].
    pub sums: &'a [i16],
}

/// What a row product reads as activations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ActivationKind {
    /// Plain numbers.
    F32,
    /// 8-bit quants, one scale for 32.
    Q8_0,
    /// 8-bit quants, one scale for 256.
    Q8K,
}

impl ActivationKind {
    /// Elements that share a scale; 1 for plain numbers.
    pub const fn block_len(self) -> usize {
        match self {
            Self::F32 => 1,
            Self::Q8_0 => BlockType::Q8_0.block_len(),
            Self::Q8K => BlockType::Q8K.block_len(),
        }
    }

    /// What products with weights of type `ty` read: blocks of 256 go with Q8_K, shorter ones with Q8_0,
    /// plain numbers and the formats of activations with numbers.
    pub const fn of(ty: BlockType) -> Self {
        match ty {
            BlockType::Q8_1 | BlockType::Q8K => Self::F32,
            _ => match ty.block_len() {
                1 => Self::F32,
                256 => Self::Q8K,
                _ => Self::Q8_0,
            },
        }
    }
}

/// Rows of raw blocks times plain activations.
type MatvecF32 = unsafe fn(rows: &[u8], x: &[f32], out: &mut [f32]);
/// Rows of raw blocks times quantized activations.
type MatvecQ8 = unsafe fn(rows: &[u8], x: Row8<'_>, out: &mut [f32]);
/// The same with some rows of activations; `out` by these.
type MatvecRowsQ8 = unsafe fn(rows: &[u8], x: &[Row8<'_>], out: &mut [&mut [f32]]);
/// Quantization of activations.
type Quantize = unsafe fn(x: &[f32], q: &mut [i8], d: &mut [f32], sums: &mut [i16]);

/// Which products a limit counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Peak {
    /// Of 8-bit integers, four of them added to an i32.
    Int8,
    /// Fused multiply-adds of f32.
    F32,
}

/// The kernels of one instruction set. A value of this type is the proof that the CPU has that set:
/// [`KernelSet::available`] makes them beside the detection, and nothing else does.
#[derive(Clone, Copy)]
pub struct KernelSet {
    name: &'static str,
    matvec_f32: MatvecF32,
    matvec_f16: MatvecF32,
    matvec_bf16: MatvecF32,
    /// For every type with blocks: dequantizes a block, multiplies it, and goes on.
    matvec_blocks: fn(BlockType) -> Option<MatvecF32>,
    matvec_q4_0: MatvecQ8,
    matvec_q4_1: MatvecQ8,
    matvec_q8_0: MatvecQ8,
    matvec_q4_k: MatvecQ8,
    matvec_q6_k: MatvecQ8,
    /// For other types with integer codes, where the set has a kernel.
    matvec_codes: fn(BlockType) -> Option<MatvecQ8>,
    /// Where the set takes blocks apart once for some rows of activations.
    matvec_rows: fn(BlockType) -> Option<MatvecRowsQ8>,
    quantize_q8_0: Quantize,
    quantize_q8_k: Quantize,
    dot_f32: unsafe fn(&[f32], &[f32]) -> f32,
    axpy_f32: unsafe fn(f32, &[f32], &mut [f32]),
    scale_f32: unsafe fn(f32, &mut [f32]),
    f32_to_f16: unsafe fn(&[f32], &mut [f16]),
    max_f32: unsafe fn(&[f32]) -> f32,
    exp_sum: unsafe fn(&mut [f32], f32) -> f32,
    silu_mul: unsafe fn(&[f32], &mut [f32]),
    gelu_mul: unsafe fn(&[f32], &mut [f32]),
    attention: AttentionKernels,
    panels: PanelKernels,
    peak: fn(Peak, usize) -> Option<usize>,
}

impl KernelSet {
    /// Plain loops, for every machine.
    pub const SCALAR: Self = Self {
        name: "scalar",
        matvec_f32: scalar::matvec_f32_f32,
        matvec_f16: scalar::matvec_f16_f32,
        matvec_bf16: scalar::matvec_bf16_f32,
        matvec_blocks: scalar::matvec_blocks,
        matvec_q4_0: scalar::matvec_q4_0_q8_0,
        matvec_q4_1: scalar::matvec_q4_1_q8_0,
        matvec_q8_0: scalar::matvec_q8_0_q8_0,
        matvec_q4_k: scalar::matvec_q4_k_q8_k,
        matvec_q6_k: scalar::matvec_q6_k_q8_k,
        quantize_q8_0: scalar::quantize_q8_0,
        quantize_q8_k: scalar::quantize_q8_k,
        dot_f32: scalar::dot_f32,
        axpy_f32: scalar::axpy_f32,
        scale_f32: scalar::scale_f32,
        f32_to_f16: scalar::f32_to_f16,
        max_f32: scalar::max_f32,
        exp_sum: scalar::exp_sum,
        silu_mul: scalar::silu_mul,
        gelu_mul: scalar::gelu_mul,
        matvec_codes: scalar::panel::matvec_codes,
        matvec_rows: |_| None,
        attention: scalar::attention::ATTENTION,
        panels: scalar::panel::PANELS,
        peak: |_, _| None,
    };

    /// Every set that this CPU can run, best first.
    pub fn available() -> Vec<Self> {
        #[cfg(target_arch = "x86_64")]
        let mut sets = x86_64::available();
        #[cfg(target_arch = "aarch64")]
        let mut sets = aarch64::available();
        #[cfg(not(any(target_arch = "aarch64", target_arch = "x86_64")))]
        let mut sets = Vec::new();
        sets.push(Self::SCALAR);
        sets
    }

    /// The set of that name, if this CPU has it; `auto` is the best one.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::available().into_iter().find(|set| name == "auto" || name == set.name)
    }

    /// `amx`, `avx512`, `avxvnni`, `avx2`, `i8mm`, `dotprod`, `neon` or `scalar`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Runs `n` steps of nothing but products, from registers; how many products these were. `None` if the
    /// set has no instruction for them.
    pub fn peak(&self, of: Peak, n: usize) -> Option<usize> {
        (self.peak)(of, n)
    }

    /// What products with weights of type `ty` read; the same for every set.
    pub fn activation(&self, ty: BlockType) -> ActivationKind {
        ActivationKind::of(ty)
    }

    /// `out[r] = sum_k W[r, k] * x[k]`.
    ///
    /// `rows`: blocks of type `ty`, [out.len(), x.len()]. `x`: `[n]`. `scratch` holds a row of types that
    /// are no usual weights (I8, F64 and so on); it grows to `[n]` once.
    ///
    /// # Panics
    /// The lengths do not fit.
    pub fn matvec_f32(&self, ty: BlockType, rows: &[u8], x: &[f32], out: &mut [f32], scratch: &mut Vec<f32>) {
        let row_bytes = check_rows(ty, rows, x.len(), out.len());
        let kernel = match ty {
            BlockType::F32 => Some(self.matvec_f32),
            BlockType::F16 => Some(self.matvec_f16),
            BlockType::Bf16 => Some(self.matvec_bf16),
            _ => (self.matvec_blocks)(ty),
        };
        let Some(kernel) = kernel else {
            scratch.resize(scratch.len().max(x.len()), 0.0);
            let row_f32 = &mut scratch[..x.len()];
            for (r, out) in out.iter_mut().enumerate() {
                let row = &rows[r * row_bytes..][..row_bytes];
                dequantize(ty, row, row_f32).expect("a row has the length of x");
                *out = self.dot_f32(row_f32, x);
            }
            return;
        };
        // SAFETY: a `KernelSet` exists only if its features were detected.
        unsafe { kernel(rows, x, out) }
    }

    /// `out[r] = sum_k W[r, k] * x[k]` for the types whose [`ActivationKind`] is not F32.
    ///
    /// `rows`: blocks of type `ty`, [out.len(), n].
    ///
    /// # Panics
    /// The lengths do not fit, or the activations are not of the type's kind.
    pub fn matvec_q8(&self, ty: BlockType, rows: &[u8], x: Row8<'_>, out: &mut [f32]) {
        check_rows(ty, rows, x.q.len(), out.len());
        check_row8(ActivationKind::of(ty), x.q.len(), x.q.len(), x.d.len(), x.sums.len());
        let kernel = match ty {
            BlockType::Q4_0 => self.matvec_q4_0,
            BlockType::Q4_1 => self.matvec_q4_1,
            BlockType::Q8_0 => self.matvec_q8_0,
            BlockType::Q4K => self.matvec_q4_k,
            BlockType::Q6K => self.matvec_q6_k,
            _ => (self.matvec_codes)(ty).expect("every set has kernels for types of codes"),
        };
        // SAFETY: a `KernelSet` exists only if its features were detected.
        unsafe { kernel(rows, x, out) }
    }

    /// `out[t][r] = sum_k W[r, k] * x[t, k]`, with the bits that [`KernelSet::matvec_q8`] gives for each row of
    /// activations alone. Some sets take blocks of some types apart once for all rows: two to five of them.
    ///
    /// `rows`: blocks of type `ty`, [out[t].len(), n].
    ///
    /// # Panics
    /// As [`KernelSet::matvec_q8`], or when the rows of `out` are not as many as those of `x`, and of one length.
    pub fn matvec_rows_q8(&self, ty: BlockType, rows: &[u8], x: &[Row8<'_>], out: &mut [&mut [f32]]) {
        assert_eq!(x.len(), out.len());
        let Some(kernel) = (self.matvec_rows)(ty).filter(|_| x.len() > 1) else {
            return x.iter().zip(out).for_each(|(x, out)| self.matvec_q8(ty, rows, *x, out));
        };
        let (n, n_row) = (x[0].q.len(), out[0].len());
        check_rows(ty, rows, n, n_row);
        for (x, out) in x.iter().zip(&*out) {
            check_row8(ActivationKind::of(ty), n, x.q.len(), x.d.len(), x.sums.len());
            assert_eq!(out.len(), n_row);
        }
        // SAFETY: a `KernelSet` exists only if its features were detected.
        unsafe { kernel(rows, x, out) }
    }

    /// Quantizes activations in blocks of 32 as llama.cpp's q8_0: `d = f16(amax / 127)`, quants with
    /// the scale before that rounding, halves to even. `q`: `[n]`, `d`: [n / 32], `sums`: [n / 16].
    ///
    /// # Panics
    /// The lengths do not fit.
    pub fn quantize_q8_0(&self, x: &[f32], q: &mut [i8], d: &mut [f32], sums: &mut [i16]) {
        check_row8(ActivationKind::Q8_0, x.len(), q.len(), d.len(), sums.len());
        // SAFETY: a `KernelSet` exists only if its features were detected.
        unsafe { (self.quantize_q8_0)(x, q, d, sums) }
    }

    /// Quantizes activations in blocks of 256 as llama.cpp's q8_K: the element of greatest magnitude
    /// becomes -127. `q`: `[n]`, `d`: [n / 256], `sums`: [n / 16].
    ///
    /// # Panics
    /// The lengths do not fit.
    pub fn quantize_q8_k(&self, x: &[f32], q: &mut [i8], d: &mut [f32], sums: &mut [i16]) {
        check_row8(ActivationKind::Q8K, x.len(), q.len(), d.len(), sums.len());
        // SAFETY: a `KernelSet` exists only if its features were detected.
        unsafe { (self.quantize_q8_k)(x, q, d, sums) }
    }

    /// `sum_i a[i] * b[i]`, of equal lengths.
    pub fn dot_f32(&self, a: &[f32], b: &[f32]) -> f32 {
        assert_eq!(a.len(), b.len());
        // SAFETY: a `KernelSet` exists only if its features were detected.
        unsafe { (self.dot_f32)(a, b) }
    }

    /// `y[i] += a * x[i]`, of equal lengths.
    pub fn axpy_f32(&self, a: f32, x: &[f32], y: &mut [f32]) {
        assert_eq!(x.len(), y.len());
        // SAFETY: a `KernelSet` exists only if its features were detected.
        unsafe { (self.axpy_f32)(a, x, y) }
    }

    /// `y[i] *= a`.
    pub fn scale_f32(&self, a: f32, y: &mut [f32]) {
        // SAFETY: a `KernelSet` exists only if its features were detected.
        unsafe { (self.scale_f32)(a, y) }
    }

    /// The nearest halves, ties to even; of equal lengths.
    pub fn f32_to_f16(&self, x: &[f32], out: &mut [f16]) {
        assert_eq!(x.len(), out.len());
        // SAFETY: a `KernelSet` exists only if its features were detected.
        unsafe { (self.f32_to_f16)(x, out) }
    }

    /// The greatest element, NaN left out; minus infinity if there is none.
    pub fn max_f32(&self, x: &[f32]) -> f32 {
        // SAFETY: a `KernelSet` exists only if its features were detected.
        unsafe { (self.max_f32)(x) }
    }

    /// Replaces `x[i]` by `exp(x[i] - max)` and returns their sum. `max` is finite; an element of
    /// minus infinity becomes 0.
    pub fn exp_sum(&self, x: &mut [f32], max: f32) -> f32 {
        // SAFETY: a `KernelSet` exists only if its features were detected.
        unsafe { (self.exp_sum)(x, max) }
    }

    /// `up[i] *= silu(gate[i])` with `silu(g) = g / (1 + exp(-g))`; of equal lengths.
    pub fn silu_mul(&self, gate: &[f32], up: &mut [f32]) {
        assert_eq!(gate.len(), up.len());
        // SAFETY: a `KernelSet` exists only if its features were detected.
        unsafe { (self.silu_mul)(gate, up) }
    }

    /// `up[i] *= gelu(gate[i])` with the tanh form of GELU,
    /// `gelu(g) = g/2 (1 + tanh(sqrt(2/pi) (g + 0.044715 g^3)))`; of equal lengths.
    pub fn gelu_mul(&self, gate: &[f32], up: &mut [f32]) {
        assert_eq!(gate.len(), up.len());
        // SAFETY: a `KernelSet` exists only if its features were detected.
        unsafe { (self.gelu_mul)(gate, up) }
    }
}

impl std::fmt::Debug for KernelSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("KernelSet").field(&self.name).finish()
    }
}

/// The bytes of a row, after checking that `rows` is [n_row, n].
fn check_rows(ty: BlockType, rows: &[u8], n: usize, n_row: usize) -> usize {
    let row_bytes = n / ty.block_len() * ty.block_bytes();
    assert!(n.is_multiple_of(ty.block_len()), "a row of {n} is not a whole number of blocks of {ty}");
    assert_eq!(Some(rows.len()), row_bytes.checked_mul(n_row), "{n_row} rows of {n} {ty}");
    row_bytes
}

fn check_row8(kind: ActivationKind, n: usize, n_q: usize, n_d: usize, n_sum: usize) {
    assert!(n_q == n && n_d * kind.block_len() == n && n_sum * SUM_LEN == n, "lengths of a quantized row of {n}");
}

/// Quants in one sum of [`Row8::sums`].
const SUM_LEN: usize = 16;

/// sqrt(2 / pi), of GELU's tanh form.
const GELU_SCALE: f32 = 0.797_884_6;
/// The cubic coefficient of GELU's tanh form.
const GELU_CUBIC: f32 = 0.044_715;
