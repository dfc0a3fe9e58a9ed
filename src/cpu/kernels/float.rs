//! Products, sums and functions of plain numbers, said once for all widths of vectors.
//!
//! What is left of a slice behind the last whole vector is padded with zeros and treated as a vector,
//! so that an element's value does not depend on where it lies.

/// `exp(x)` for vectors of every width: `x = n ln 2 + r`, `|r| <= ln 2 / 2`, and
/// `exp(r) = 1 + r + r^2 P(r)`. P interpolates at the Chebyshev nodes of the interval; its error is
/// 1.1e-8 of exp(r), a tenth of a unit in the last place.
pub(super) mod exp {
    /// Coefficients of P, of ascending powers.
    pub const P: [f32; 5] = [0.5, 1.666_657_6e-1, 4.166_655_6e-2, 8.363_203e-3, 1.392_621_3e-3];
    /// ln 2 in two parts.
    pub const LN_2: [f32; 2] = [std::f32::consts::LN_2, -1.904_654_2e-9];
    /// Below it exp(x) rounds to 0; above the other it is infinite.
    pub const RANGE: [f32; 2] = [-104.0, 89.0];
}

/// Defines the kernels over numbers of one instruction set, from its primitives. A macro, since the
/// features of a function are part of its source: no generic function can take them from its type.
///
/// `$features` is the list that `available` detects for the set. In scope must be, next to the
/// intrinsics under these names:
///
/// | name | meaning |
/// | --- | --- |
/// | `V`, `LANES` | a vector of f32, and how many it holds |
/// | `load`, `store` | from and to an array of `LANES` numbers, or of as many bytes as `V` has |
/// | `load_f16`, `store_f16`, `load_bf16` | the same of an array of halves, rounding to nearest |
/// | `zero`, `set1` | 0 or a number in every lane |
/// | `add`, `sub`, `mul`, `div`, `xor` | lane by lane |
/// | `min`, `max` | lane by lane, the second where one is NaN |
/// | `fmadd`, `fnmadd` | `a b + c`, `c - a b` |
/// | `round`, `scale` | the nearest integer n, as a number and as `scale` takes it; `a 2^n`, if 2^n is subnormal too |
/// | `sum`, `greatest` | of all lanes |
/// | `prefetch` | of what follows the bytes at an address, if that helps |
macro_rules! float_kernels {
    ($features:literal) => {
        use crate::cpu::kernels::float::exp;
        use crate::cpu::kernels::{GELU_CUBIC, GELU_SCALE, MatvecF32};
        use half::f16;
        use tealight_quant::BlockType;
        use tealight_quant::blocks::{Block, BlockVisitor, visit_blocks};

        #[target_feature(enable = $features)]
        pub(in crate::cpu::kernels) fn matvec_f32_f32(rows: &[u8], x: &[f32], out: &mut [f32]) {
            matvec_numbers(rows, x, out, |w: &[u8; 4 * LANES]| load(w));
        }

        #[target_feature(enable = $features)]
        pub(in crate::cpu::kernels) fn matvec_f16_f32(rows: &[u8], x: &[f32], out: &mut [f32]) {
            matvec_numbers(rows, x, out, |w: &[u8; 2 * LANES]| load_f16(w));
        }

        #[target_feature(enable = $features)]
        pub(in crate::cpu::kernels) fn matvec_bf16_f32(rows: &[u8], x: &[f32], out: &mut [f32]) {
            matvec_numbers(rows, x, out, |w: &[u8; 2 * LANES]| load_bf16(w));
        }

        #[target_feature(enable = $features)]
        pub(in crate::cpu::kernels) fn dot_f32(a: &[f32], b: &[f32]) -> f32 {
            dot_numbers(bytemuck::cast_slice(a), b, |w: &[u8; 4 * LANES]| load(w))
        }

        /// A row product over rows of numbers, of which `N_BYTES` bytes are a vector's.
        #[inline]
        #[target_feature(enable = $features)]
        fn matvec_numbers<const N_BYTES: usize>(
            rows: &[u8],
            x: &[f32],
            out: &mut [f32],
            load_row: impl Fn(&[u8; N_BYTES]) -> V,
        ) {
            let row_bytes = rows.len() / out.len().max(1);
            for (r, out) in out.iter_mut().enumerate() {
                *out = dot_numbers(&rows[r * row_bytes..][..row_bytes], x, &load_row);
            }
        }

        #[inline]
        #[target_feature(enable = $features)]
        fn dot_numbers<const N_BYTES: usize>(row: &[u8], x: &[f32], load_row: impl Fn(&[u8; N_BYTES]) -> V) -> f32 {
            let mut acc = [zero(); 4];
            let (w, w_tail) = row.as_chunks::<N_BYTES>();
            let (x, x_tail) = x.as_chunks::<LANES>();
            let (w, w_rest) = w.as_chunks::<4>();
            let (x, x_rest) = x.as_chunks::<4>();
            for (w, x) in w.iter().zip(x) {
                prefetch(w, 4 * N_BYTES);
                for ((w, x), acc) in w.iter().zip(x).zip(&mut acc) {
                    *acc = fmadd(load_row(w), load(x), *acc);
                }
            }
            for ((w, x), acc) in w_rest.iter().zip(x_rest).zip(&mut acc) {
                *acc = fmadd(load_row(w), load(x), *acc);
            }
            if !x_tail.is_empty() {
                acc[3] = fmadd(load_row(&padded(w_tail)), load(&padded::<_, LANES>(x_tail)), acc[3]);
            }
            sum_of(acc)
        }

        /// The row product over blocks of any type, which are dequantized one by one.
        pub(in crate::cpu::kernels) fn matvec_blocks(ty: BlockType) -> Option<MatvecF32> {
            struct Pick;
            impl BlockVisitor for Pick {
                type Output = MatvecF32;
                fn visit<B: Block<N>, const N: usize>(self) -> MatvecF32 {
                    matvec_blocks_f32::<B, N>
                }
            }
            visit_blocks(ty, Pick)
        }

        /// Elements of a step over a dequantized block: the shortest block.
        const STEP: usize = 32;

        #[target_feature(enable = $features)]
        fn matvec_blocks_f32<B: Block<N>, const N: usize>(rows: &[u8], x: &[f32], out: &mut [f32]) {
            const { assert!(N.is_multiple_of(STEP)) };
            let row_bytes = rows.len() / out.len().max(1);
            let mut w = [0.0; N];
            for (r, out) in out.iter_mut().enumerate() {
                let row = bytemuck::cast_slice::<u8, B>(&rows[r * row_bytes..][..row_bytes]);
                let mut acc = [zero(); STEP / LANES];
                for (block, x) in row.iter().zip(x.as_chunks::<N>().0) {
                    prefetch(block, size_of::<B>());
                    block.dequantize(&mut w);
                    for (w, x) in w.as_chunks::<STEP>().0.iter().zip(x.as_chunks::<STEP>().0) {
                        let parts = w.as_chunks::<LANES>().0.iter().zip(x.as_chunks::<LANES>().0);
                        for ((w, x), acc) in parts.zip(&mut acc) {
                            *acc = fmadd(load(w), load(x), *acc);
                        }
                    }
                }
                *out = sum_of(acc);
            }
        }

        /// The sum of all lanes of a power of two of vectors, neighbours first.
        #[inline]
        #[target_feature(enable = $features)]
        fn sum_of<const N: usize>(mut acc: [V; N]) -> f32 {
            const { assert!(N.is_power_of_two()) };
            let mut n = N;
            while n > 1 {
                n /= 2;
                for i in 0..n {
                    acc[i] = add(acc[2 * i], acc[2 * i + 1]);
                }
            }
            sum(acc[0])
        }

        /// The end of a slice, filled up with zeros.
        #[inline]
        fn padded<T: Copy + Default, const N: usize>(tail: &[T]) -> [T; N] {
            let mut full = [T::default(); N];
            full[..tail.len()].copy_from_slice(tail);
            full
        }

        #[target_feature(enable = $features)]
        pub(in crate::cpu::kernels) fn axpy_f32(a: f32, x: &[f32], y: &mut [f32]) {
            let factor = set1(a);
            let (x, x_tail) = x.as_chunks::<LANES>();
            let (y, y_tail) = y.as_chunks_mut::<LANES>();
            for (x, y) in x.iter().zip(y) {
                store(fmadd(factor, load(x), load(y)), y);
            }
            for (x, y) in x_tail.iter().zip(y_tail) {
                *y = a.mul_add(*x, *y);
            }
        }

        #[target_feature(enable = $features)]
        pub(in crate::cpu::kernels) fn scale_f32(a: f32, y: &mut [f32]) {
            for y in y {
                *y *= a;
            }
        }

        #[target_feature(enable = $features)]
        pub(in crate::cpu::kernels) fn f32_to_f16(x: &[f32], out: &mut [f16]) {
            let (x, x_tail) = x.as_chunks::<LANES>();
            let (out, out_tail) = out.as_chunks_mut::<LANES>();
            for (x, out) in x.iter().zip(out) {
                store_f16(load(x), out);
            }
            let mut last = [f16::ZERO; LANES];
            store_f16(load(&padded::<_, LANES>(x_tail)), &mut last);
            out_tail.copy_from_slice(&last[..out_tail.len()]);
        }

        #[target_feature(enable = $features)]
        pub(in crate::cpu::kernels) fn max_f32(x: &[f32]) -> f32 {
            let (x, x_tail) = x.as_chunks::<LANES>();
            let mut most = set1(f32::NEG_INFINITY);
            for x in x {
                // the second operand is the result where the first is NaN
                most = max(load(x), most);
            }
            x_tail.iter().fold(greatest(most), |most, &x| most.max(x))
        }

        /// `exp(x)` within 1.5 units in the last place (1.05 seen); see [`mod@exp`].
        #[inline]
        #[target_feature(enable = $features)]
        fn exp(x: V) -> V {
            // NaN as the second operand stays
            let x = min(set1(exp::RANGE[1]), max(set1(exp::RANGE[0]), x));
            let (n, power) = round(mul(x, set1(std::f32::consts::LOG2_E)));
            let r = fnmadd(n, set1(exp::LN_2[0]), x);
            let r = fnmadd(n, set1(exp::LN_2[1]), r);
            let mut p = set1(exp::P[4]);
            for c in [exp::P[3], exp::P[2], exp::P[1], exp::P[0]] {
                p = fmadd(p, r, set1(c));
            }
            let p = fmadd(mul(p, r), r, r);
            scale(add(p, set1(1.0)), power)
        }

        #[target_feature(enable = $features)]
        pub(in crate::cpu::kernels) fn exp_sum(x: &mut [f32], max: f32) -> f32 {
            let max = set1(max);
            let mut total = zero();
            let (x, tail) = x.as_chunks_mut::<LANES>();
            for x in x {
                let e = exp(sub(load(x), max));
                total = add(total, e);
                store(e, x);
            }
            if !tail.is_empty() {
                let mut last = [f32::NEG_INFINITY; LANES];
                last[..tail.len()].copy_from_slice(tail);
                let e = exp(sub(load(&last), max));
                total = add(total, e);
                store(e, &mut last);
                tail.copy_from_slice(&last[..tail.len()]);
            }
            sum(total)
        }

        #[target_feature(enable = $features)]
        pub(in crate::cpu::kernels) fn silu_mul(gate: &[f32], up: &mut [f32]) {
            gate_mul(gate, up, |gate| xor(gate, set1(-0.0)));
        }

        #[target_feature(enable = $features)]
        pub(in crate::cpu::kernels) fn gelu_mul(gate: &[f32], up: &mut [f32]) {
            gate_mul(gate, up, |gate| {
                let cubic = mul(mul(gate, gate), mul(gate, set1(GELU_CUBIC)));
                mul(set1(-2.0 * GELU_SCALE), add(gate, cubic))
            });
        }

        /// `up[i] *= gate[i] / (1 + exp(-u(gate[i])))`: SiLU and GELU differ in u, of which GELU's is
        /// `2 sqrt(2/pi) (g + 0.044715 g^3)`.
        #[inline]
        #[target_feature(enable = $features)]
        fn gate_mul(gate: &[f32], up: &mut [f32], minus_u: impl Fn(V) -> V) {
            let gated = |gate: V, up: V| mul(up, div(gate, add(set1(1.0), exp(minus_u(gate)))));
            let (gate, gate_tail) = gate.as_chunks::<LANES>();
            let (up, up_tail) = up.as_chunks_mut::<LANES>();
            for (gate, up) in gate.iter().zip(up) {
                store(gated(load(gate), load(up)), up);
            }
            if !gate_tail.is_empty() {
                let mut last = padded::<_, LANES>(up_tail);
                store(gated(load(&padded::<_, LANES>(gate_tail)), load(&last)), &mut last);
                up_tail.copy_from_slice(&last[..up_tail.len()]);
            }
        }
    };
}

pub(super) use float_kernels;
