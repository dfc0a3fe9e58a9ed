//! Tiles of panels in vectors of 256 bits: up to four tokens and 16 rows.

/// Defines `tiles`, the products of codes. A macro for the reason that `float_kernels` is one.
///
/// In scope must be `add_dots::<T, SUB, STEPS>(acc, panel, half, x, s)`: adds for `T` tokens and the two vectors of
/// a half of the panel's rows the products of sub-block `s`. `STEPS` is its own; 0: codes of 8 bits are signed by
/// their highest bit, and offsets thereby gone.
macro_rules! panel_tiles {
    ($features:literal) => {
        use super::super::super::SUM_LEN;
        use super::super::super::panel::{PANEL_COLS, PANEL_ROWS, PanelWork, Rows8, Tokens, run_tiles};
        use super::super::{load_128, load_256, store_256};
        use bytemuck::Pod;
        use std::arch::x86_64::*;
        use std::ops::Range;

        /// Rows of a tile: two vectors.
        const HALF: usize = 16;

        #[target_feature(enable = $features)]
        fn tiles<const SUB: usize, const Q8K: bool, const MIN: bool, const STEPS: usize>(
            work: &PanelWork<'_>,
            x: &Rows8<'_>,
            block: usize,
            tokens: Range<usize>,
            c: &mut [[f32; PANEL_ROWS]],
        ) {
            assert!(c.len() == tokens.len() && work.n_sub * SUB <= PANEL_COLS);
            let Some(first) = Tokens::of(x, block, tokens) else { return };
            for half in 0..PANEL_ROWS / HALF {
                let (mut at, rest) = (first, &mut *c);
                run_tiles!(rest, at, [4, 2, 1], tile, [SUB, Q8K, MIN, STEPS], [work, half]);
            }
        }

        /// The sums of the sub-blocks, times a factor: 8 for 32, or two vectors of 8.
        #[inline]
        #[target_feature(enable = $features)]
        fn scaled_sums<const SUB: usize>(sums: &[i16; PANEL_COLS / SUM_LEN], factor: i16) -> [__m256i; 2] {
            if SUB == 32 {
                [_mm256_madd_epi16(load_256(sums), _mm256_set1_epi16(factor)), _mm256_setzero_si256()]
            } else {
                let (sums, _) = sums.as_chunks::<8>();
                // the upper half of a widened sum is its sign, which must count nothing
                let factor = _mm256_set1_epi32(i32::from(factor as u16));
                let scaled = |sums| _mm256_madd_epi16(_mm256_cvtepi16_epi32(load_128(sums)), factor);
                [scaled(&sums[0]), scaled(&sums[1])]
            }
        }

        #[inline]
        #[target_feature(enable = $features)]
        fn store_pair<T: Pod>(v: [__m256i; 2], to: &mut [T; 16]) {
            let (to, _) = to.as_chunks_mut::<8>();
            store_256(v[0], &mut to[0]);
            store_256(v[1], &mut to[1]);
        }

        /// The products of half of a panel and a block of `T` tokens.
        ///
        /// # Safety
        /// `x` points at a block of 256 elements of `T` tokens, and the panel has as many sub-blocks as `work` says.
        #[inline]
        #[target_feature(enable = $features)]
        unsafe fn tile<const T: usize, const SUB: usize, const Q8K: bool, const MIN: bool, const STEPS: usize>(
            work: &PanelWork<'_>,
            half: usize,
            x: &Tokens,
            c: &mut [[f32; PANEL_ROWS]; T],
        ) {
            // for each sub-block what its integers start with, and the factor of its minimum
            let mut start = [[0i32; 16]; T];
            let mut min_factor = [[0f32; 16]; T];
            for t in 0..T {
                // SAFETY: the caller's promise.
                let sums = unsafe { &*x.sums(t).cast() };
                if MIN {
                    let [a, b] = scaled_sums::<SUB>(sums, 1);
                    let mut factors = [_mm256_cvtepi32_ps(a), _mm256_cvtepi32_ps(b)];
                    if !Q8K {
                        // SAFETY: the caller's promise; there are eight scales.
                        let d = unsafe { _mm256_loadu_ps(x.d(t)) };
                        if SUB == 32 {
                            factors[0] = _mm256_mul_ps(d, factors[0]);
                        } else {
                            let (low, high) =
                                (_mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3), _mm256_setr_epi32(4, 4, 5, 5, 6, 6, 7, 7));
                            factors[0] = _mm256_mul_ps(_mm256_permutevar8x32_ps(d, low), factors[0]);
                            factors[1] = _mm256_mul_ps(_mm256_permutevar8x32_ps(d, high), factors[1]);
                        }
                    }
                    store_pair(factors.map(|f| _mm256_castps_si256(f)), &mut min_factor[t]);
                } else if STEPS > 0 {
                    store_pair(scaled_sums::<SUB>(sums, -i16::from(work.coding.offset)), &mut start[t]);
                }
            }
            let mut sum = [[_mm256_setzero_ps(); 2]; T];
            if !Q8K {
                for t in 0..T {
                    sum[t] = load_half(&c[t], half);
                }
            }
            let panel = work.panel;
            for s in 0..work.n_sub {
                let mut acc = [[_mm256_setzero_si256(); 2]; T];
                if !MIN && STEPS > 0 {
                    for t in 0..T {
                        // SAFETY: at most 16 sub-blocks.
                        acc[t] = [_mm256_set1_epi32(unsafe { *start[t].get_unchecked(s) }); 2];
                    }
                }
                // SAFETY: the caller's promise.
                unsafe { add_dots::<T, SUB, STEPS>(&mut acc, panel, half, x, s) };
                // SAFETY: at most 16 sub-blocks.
                let (scale, min) = unsafe {
                    (load_half(panel.scale.get_unchecked(s), half), load_half(panel.min.get_unchecked(s), half))
                };
                for t in 0..T {
                    for v in 0..2 {
                        let mut dot = _mm256_cvtepi32_ps(acc[t][v]);
                        if !Q8K {
                            // SAFETY: the caller's promise; there is a scale for 32 elements.
                            dot = _mm256_mul_ps(dot, _mm256_set1_ps(unsafe { *x.d(t).add(s * SUB / 32) }));
                        }
                        sum[t][v] = _mm256_fmadd_ps(dot, scale[v], sum[t][v]);
                        if MIN {
                            // SAFETY: at most 16 sub-blocks.
                            let factor = _mm256_set1_ps(unsafe { *min_factor[t].get_unchecked(s) });
                            sum[t][v] = _mm256_fmadd_ps(min[v], factor, sum[t][v]);
                        }
                    }
                }
            }
            for t in 0..T {
                if Q8K {
                    // SAFETY: the caller's promise.
                    let (d, old) = (_mm256_set1_ps(unsafe { *x.d(t) }), load_half(&c[t], half));
                    sum[t] = [_mm256_fmadd_ps(sum[t][0], d, old[0]), _mm256_fmadd_ps(sum[t][1], d, old[1])];
                }
                store_half(sum[t], &mut c[t], half);
            }
        }

        #[inline]
        #[target_feature(enable = $features)]
        fn load_half(row: &[f32; PANEL_ROWS], half: usize) -> [__m256; 2] {
            let (row, _) = row.as_chunks::<8>();
            [_mm256_castsi256_ps(load_256(&row[2 * half])), _mm256_castsi256_ps(load_256(&row[2 * half + 1]))]
        }

        #[inline]
        #[target_feature(enable = $features)]
        fn store_half(v: [__m256; 2], row: &mut [f32; PANEL_ROWS], half: usize) {
            let (row, _) = row.as_chunks_mut::<8>();
            store_256(_mm256_castps_si256(v[0]), &mut row[2 * half]);
            store_256(_mm256_castps_si256(v[1]), &mut row[2 * half + 1]);
        }
    };
}

pub(super) use panel_tiles;
