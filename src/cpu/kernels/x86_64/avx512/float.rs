//! AVX-512: products, sums and functions of plain numbers.
//!
//! What is left of a slice behind the last whole vector is padded with zeros and treated as a vector,
//! so that an element's value does not depend on where it lies.

use super::super::super::{GELU_CUBIC, GELU_SCALE, MatvecF32};
use super::super::{avx2, exp, load_256, load_512, prefetch, store_256, store_512};
use half::f16;
use std::arch::x86_64::*;
use tealight_quant::BlockType;
use tealight_quant::blocks::{Block, BlockVisitor, visit_blocks};

/// Lanes of a vector of f32.
const LANES: usize = 16;

/// A row product over rows of numbers, and the dot product under it. `$bytes` bytes of the row are 16
/// numbers, which `$load` turns into f32.
macro_rules! matvec_numbers {
    ($name:ident, $dot:ident, $bytes:literal, $load:ident) => {
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
        pub(in crate::cpu::kernels) fn $name(rows: &[u8], x: &[f32], out: &mut [f32]) {
            let row_bytes = rows.len() / out.len().max(1);
            for (r, out) in out.iter_mut().enumerate() {
                *out = $dot(&rows[r * row_bytes..][..row_bytes], x);
            }
        }

        #[inline]
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
        fn $dot(row: &[u8], x: &[f32]) -> f32 {
            let mut acc = [_mm512_setzero_ps(); 4];
            let (w, w_tail) = row.as_chunks::<{ 4 * $bytes }>();
            let (x, x_tail) = x.as_chunks::<{ 4 * LANES }>();
            for (w, x) in w.iter().zip(x) {
                prefetch(w, 4 * $bytes);
                let parts = w.as_chunks::<$bytes>().0.iter().zip(x.as_chunks::<LANES>().0);
                for ((w, x), acc) in parts.zip(&mut acc) {
                    *acc = _mm512_fmadd_ps($load(w), load(x), *acc);
                }
            }
            let (w, w_tail) = w_tail.as_chunks::<$bytes>();
            let (x, x_tail) = x_tail.as_chunks::<LANES>();
            for ((w, x), acc) in w.iter().zip(x).zip(&mut acc) {
                *acc = _mm512_fmadd_ps($load(w), load(x), *acc);
            }
            if !x_tail.is_empty() {
                let mut w = [0; $bytes];
                w[..w_tail.len()].copy_from_slice(w_tail);
                acc[3] = _mm512_fmadd_ps($load(&w), load(&padded(x_tail)), acc[3]);
            }
            _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(acc[0], acc[1]), _mm512_add_ps(acc[2], acc[3])))
        }
    };
}

matvec_numbers!(matvec_f32_f32, dot_f32_bytes, 64, load_f32_bytes);
matvec_numbers!(matvec_f16_f32, dot_f16_bytes, 32, load_f16_bytes);
matvec_numbers!(matvec_bf16_f32, dot_bf16_bytes, 32, load_bf16_bytes);

pub(in crate::cpu::kernels) fn matvec_blocks(ty: BlockType) -> Option<MatvecF32> {
    struct Pick;
    impl BlockVisitor for Pick {
        type Output = MatvecF32;
        fn visit<B: Block<N>, const N: usize>(self) -> MatvecF32 {
            matvec_blocks_f32::<B, N>
        }
    }
    match ty {
        // table and codebook lookups: here the compiler makes 512-bit gathers of them, which are slower
        // than the loads that it makes for AVX2 (by half on Sapphire Rapids)
        BlockType::Iq2Xxs | BlockType::Iq2Xs | BlockType::Iq2S | BlockType::Iq3Xxs | BlockType::Iq3S => None,
        BlockType::Iq4Nl | BlockType::Iq4Xs | BlockType::Mxfp4 | BlockType::Nvfp4 => None,
        _ => visit_blocks(ty, Pick),
    }
    .or_else(|| avx2::float::matvec_blocks(ty))
}

/// Elements of a step over a dequantized block: the shortest block.
const STEP: usize = 32;

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn matvec_blocks_f32<B: Block<N>, const N: usize>(rows: &[u8], x: &[f32], out: &mut [f32]) {
    const { assert!(N.is_multiple_of(STEP)) };
    let row_bytes = rows.len() / out.len().max(1);
    let mut w = [0.0; N];
    for (r, out) in out.iter_mut().enumerate() {
        let row = bytemuck::cast_slice::<u8, B>(&rows[r * row_bytes..][..row_bytes]);
        let mut acc = [_mm512_setzero_ps(); STEP / LANES];
        for (block, x) in row.iter().zip(x.as_chunks::<N>().0) {
            prefetch(block, size_of::<B>());
            block.dequantize(&mut w);
            for (w, x) in w.as_chunks::<STEP>().0.iter().zip(x.as_chunks::<STEP>().0) {
                let parts = w.as_chunks().0.iter().zip(x.as_chunks().0);
                for ((w, x), acc) in parts.zip(&mut acc) {
                    *acc = _mm512_fmadd_ps(load(w), load(x), *acc);
                }
            }
        }
        *out = _mm512_reduce_add_ps(_mm512_add_ps(acc[0], acc[1]));
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn load(x: &[f32; LANES]) -> __m512 {
    _mm512_castsi512_ps(load_512(x))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn store(v: __m512, to: &mut [f32; LANES]) {
    store_512(_mm512_castps_si512(v), to);
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn load_f32_bytes(x: &[u8; 64]) -> __m512 {
    _mm512_castsi512_ps(load_512(x))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn load_f16_bytes(x: &[u8; 32]) -> __m512 {
    _mm512_cvtph_ps(load_256(x))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn load_bf16_bytes(x: &[u8; 32]) -> __m512 {
    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(load_256(x))))
}

/// The end of a slice, filled up with zeros.
#[inline]
fn padded<T: Copy + Default>(tail: &[T]) -> [T; LANES] {
    let mut full = [T::default(); LANES];
    full[..tail.len()].copy_from_slice(tail);
    full
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
pub(in crate::cpu::kernels) fn dot_f32(a: &[f32], b: &[f32]) -> f32 {
    dot_f32_bytes(bytemuck::cast_slice(a), b)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
pub(in crate::cpu::kernels) fn axpy_f32(a: f32, x: &[f32], y: &mut [f32]) {
    let factor = _mm512_set1_ps(a);
    let (x, x_tail) = x.as_chunks();
    let (y, y_tail) = y.as_chunks_mut();
    for (x, y) in x.iter().zip(y) {
        store(_mm512_fmadd_ps(factor, load(x), load(y)), y);
    }
    for (x, y) in x_tail.iter().zip(y_tail) {
        *y = a.mul_add(*x, *y);
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
pub(in crate::cpu::kernels) fn scale_f32(a: f32, y: &mut [f32]) {
    for y in y {
        *y *= a;
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
pub(in crate::cpu::kernels) fn f16_to_f32(x: &[f16], out: &mut [f32]) {
    let (x, x_tail) = x.as_chunks::<LANES>();
    let (out, out_tail) = out.as_chunks_mut::<LANES>();
    for (x, out) in x.iter().zip(out) {
        store(_mm512_cvtph_ps(load_256(x)), out);
    }
    let mut last = [0.0; LANES];
    store(_mm512_cvtph_ps(load_256(&padded(x_tail))), &mut last);
    out_tail.copy_from_slice(&last[..out_tail.len()]);
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
pub(in crate::cpu::kernels) fn f32_to_f16(x: &[f32], out: &mut [f16]) {
    let (x, x_tail) = x.as_chunks::<LANES>();
    let (out, out_tail) = out.as_chunks_mut::<LANES>();
    for (x, out) in x.iter().zip(out) {
        store_256(_mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(load(x)), out);
    }
    let mut last = [f16::ZERO; LANES];
    store_256(_mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(load(&padded(x_tail))), &mut last);
    out_tail.copy_from_slice(&last[..out_tail.len()]);
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
pub(in crate::cpu::kernels) fn max_f32(x: &[f32]) -> f32 {
    let (x, x_tail) = x.as_chunks::<LANES>();
    let mut max = _mm512_set1_ps(f32::NEG_INFINITY);
    for x in x {
        // the second operand is the result where the first is NaN
        max = _mm512_max_ps(load(x), max);
    }
    x_tail.iter().fold(_mm512_reduce_max_ps(max), |max, &x| max.max(x))
}

/// `exp(x)` within 1.5 units in the last place (1.05 seen); see [`exp`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn exp(x: __m512) -> __m512 {
    // NaN as the second operand stays
    let x = _mm512_min_ps(_mm512_set1_ps(exp::RANGE[1]), _mm512_max_ps(_mm512_set1_ps(exp::RANGE[0]), x));
    let n =
        _mm512_roundscale_ps::<_MM_FROUND_TO_NEAREST_INT>(_mm512_mul_ps(x, _mm512_set1_ps(std::f32::consts::LOG2_E)));
    let r = _mm512_fnmadd_ps(n, _mm512_set1_ps(exp::LN_2[0]), x);
    let r = _mm512_fnmadd_ps(n, _mm512_set1_ps(exp::LN_2[1]), r);
    let mut p = _mm512_set1_ps(exp::P[4]);
    for c in [exp::P[3], exp::P[2], exp::P[1], exp::P[0]] {
        p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(c));
    }
    let p = _mm512_fmadd_ps(_mm512_mul_ps(p, r), r, r);
    _mm512_scalef_ps(_mm512_add_ps(p, _mm512_set1_ps(1.0)), n)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
pub(in crate::cpu::kernels) fn exp_sum(x: &mut [f32], max: f32) -> f32 {
    let max = _mm512_set1_ps(max);
    let mut sum = _mm512_setzero_ps();
    let (x, tail) = x.as_chunks_mut::<LANES>();
    for x in x {
        let e = exp(_mm512_sub_ps(load(x), max));
        sum = _mm512_add_ps(sum, e);
        store(e, x);
    }
    if !tail.is_empty() {
        let mut last = [f32::NEG_INFINITY; LANES];
        last[..tail.len()].copy_from_slice(tail);
        let e = exp(_mm512_sub_ps(load(&last), max));
        sum = _mm512_add_ps(sum, e);
        store(e, &mut last);
        tail.copy_from_slice(&last[..tail.len()]);
    }
    _mm512_reduce_add_ps(sum)
}

/// `up[i] *= gate[i] / (1 + exp(-u(gate[i])))`: SiLU and GELU differ in u.
macro_rules! gate {
    ($name:ident, $u:ident) => {
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
        pub(in crate::cpu::kernels) fn $name(gate: &[f32], up: &mut [f32]) {
            let (gate, gate_tail) = gate.as_chunks::<LANES>();
            let (up, up_tail) = up.as_chunks_mut::<LANES>();
            for (gate, up) in gate.iter().zip(up) {
                let gate = load(gate);
                store(gated(gate, $u(gate), load(up)), up);
            }
            if !gate_tail.is_empty() {
                let gate = load(&padded(gate_tail));
                let mut last = padded(up_tail);
                store(gated(gate, $u(gate), load(&last)), &mut last);
                up_tail.copy_from_slice(&last[..up_tail.len()]);
            }
        }
    };
}

gate!(silu_mul, minus);
gate!(gelu_mul, minus_gelu_exponent);

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn gated(gate: __m512, minus_u: __m512, up: __m512) -> __m512 {
    let divisor = _mm512_add_ps(_mm512_set1_ps(1.0), exp(minus_u));
    _mm512_mul_ps(up, _mm512_div_ps(gate, divisor))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn minus(gate: __m512) -> __m512 {
    _mm512_xor_ps(gate, _mm512_set1_ps(-0.0))
}

/// `-2 sqrt(2/pi) (g + 0.044715 g^3)`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn minus_gelu_exponent(gate: __m512) -> __m512 {
    let cubic = _mm512_mul_ps(_mm512_mul_ps(gate, gate), _mm512_mul_ps(gate, _mm512_set1_ps(GELU_CUBIC)));
    _mm512_mul_ps(_mm512_set1_ps(-2.0 * GELU_SCALE), _mm512_add_ps(gate, cubic))
}
