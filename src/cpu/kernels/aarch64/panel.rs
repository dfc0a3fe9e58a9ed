//! Panels of codes, said once for all ways to add products of bytes: tiles of up to four tokens and 16
//! rows. Codes below 128 are signed bytes as they are, and dots begin with what their offset takes away;
//! codes of 8 bits become signed by their highest bit.

/// Defines `PANELS` of one instruction set. A macro for the reason that `float_kernels` is one.
///
/// In scope must be `dots::<T, SUB, HIGH>(panel, half, x, s, start)`: for `T` tokens and the four vectors
/// of a half of the panel's rows, `start` plus the products of sub-block `s`. `HIGH`: codes of 8 bits.
macro_rules! panel_kernels {
    ($features:literal) => {
        use super::super::codes::Coding;
        use super::super::panel::{PANEL_ROWS, PanelKernels, PanelProduct, PanelWork, Rows8, Tokens, run_tiles};
        use super::panel::HALF;
        use super::{numbers, store_f32, unpack};
        use std::ops::Range;

        pub(super) const PANELS: PanelKernels = PanelKernels {
            whole_blocks: |_| None,
            unpack: unpack::unpack,
            unpack_f32: numbers::unpack_f32,
            product,
            product_f32: numbers::product_f32,
        };

        fn product(coding: Coding, kind: ActivationKind) -> PanelProduct {
            let is_q8_k = kind == ActivationKind::Q8K;
            match (coding.sub, is_q8_k, coding.has_min) {
                (16, false, true) => tiles::<16, false, true, false>,
                (16, true, true) => tiles::<16, true, true, false>,
                (_, false, true) => tiles::<32, false, true, false>,
                (_, true, true) => tiles::<32, true, true, false>,
                (16, false, _) if coding.max < 128 => tiles::<16, false, false, false>,
                (16, true, _) if coding.max < 128 => tiles::<16, true, false, false>,
                (_, false, _) if coding.max < 128 => tiles::<32, false, false, false>,
                (_, true, _) if coding.max < 128 => tiles::<32, true, false, false>,
                (16, false, _) => tiles::<16, false, false, true>,
                (16, true, _) => tiles::<16, true, false, true>,
                (_, false, _) => tiles::<32, false, false, true>,
                (_, true, _) => tiles::<32, true, false, true>,
            }
        }

        #[target_feature(enable = $features)]
        fn tiles<const SUB: usize, const Q8K: bool, const MIN: bool, const HIGH: bool>(
            work: &PanelWork<'_>,
            x: &Rows8<'_>,
            block: usize,
            tokens: Range<usize>,
            c: &mut [[f32; PANEL_ROWS]],
        ) {
            assert!(c.len() == tokens.len() && work.n_sub * SUB <= PANEL_COLS);
            // what the start of a dot does not take away
            assert!(if HIGH { work.coding.offset == 128 } else { work.coding.max < 128 });
            assert!(!MIN || work.coding.offset == 0);
            let Some(first) = Tokens::of(x, block, tokens) else { return };
            for half in 0..PANEL_ROWS / HALF {
                let (mut at, rest) = (first, &mut *c);
                run_tiles!(rest, at, [4, 2, 1], tile, [SUB, Q8K, MIN, HIGH], [work, half]);
            }
        }

        /// The sums of the sub-blocks of a token: 8 for 32, or 16.
        #[inline]
        #[target_feature(enable = $features)]
        fn sub_sums<const SUB: usize>(sums: &[i16; PANEL_COLS / SUM_LEN]) -> [i32; 16] {
            let [a, b] = load_2(sums).map(|sums| vreinterpretq_s16_u8(sums));
            let sums = if SUB == 32 {
                [vpaddlq_s16(a), vpaddlq_s16(b), vdupq_n_s32(0), vdupq_n_s32(0)]
            } else {
                let wide = |sums| [vmovl_s16(vget_low_s16(sums)), vmovl_high_s16(sums)];
                let ([a, b], [c, d]) = (wide(a), wide(b));
                [a, b, c, d]
            };
            let mut out = [[0i32; 4]; 4];
            for (sums, out) in sums.into_iter().zip(&mut out) {
                super::store(vreinterpretq_u8_s32(sums), out);
            }
            bytemuck::cast(out)
        }

        /// The products of half of a panel and a block of `T` tokens.
        ///
        /// # Safety
        /// `x` points at a block of 256 elements of `T` tokens, and the panel has as many sub-blocks as
        /// `work` says.
        #[inline]
        #[target_feature(enable = $features)]
        unsafe fn tile<const T: usize, const SUB: usize, const Q8K: bool, const MIN: bool, const HIGH: bool>(
            work: &PanelWork<'_>,
            half: usize,
            x: &Tokens,
            c: &mut [[f32; PANEL_ROWS]; T],
        ) {
            // seen here, the bound of its use costs nothing in the loops
            let (panel, half) = (work.panel, half.min(1));
            let mut sub_sum = [[0i32; 16]; T];
            if MIN || !HIGH {
                for t in 0..T {
                    // SAFETY: the caller's promise.
                    sub_sum[t] = sub_sums::<SUB>(unsafe { &*x.sums(t).cast() });
                }
            }
            let mut sum = [[vdupq_n_f32(0.0); 4]; T];
            if !Q8K {
                for t in 0..T {
                    sum[t] = load_half(&c[t], half);
                }
            }
            for s in 0..work.n_sub.min(16) {
                let mut start = [0; T];
                if !MIN && !HIGH {
                    for t in 0..T {
                        start[t] = -i32::from(work.coding.offset) * sub_sum[t][s];
                    }
                }
                // SAFETY: the caller's promise.
                let dot = unsafe { dots::<T, SUB, HIGH>(panel, half, x, s, start) };
                let (scale, min) = (load_half(&panel.scale[s], half), load_half(&panel.min[s], half));
                for t in 0..T {
                    // SAFETY: the caller's promise; there is a scale for 32 elements.
                    let d = if Q8K { 1.0 } else { unsafe { *x.d(t).add(s * SUB / 32) } };
                    for v in 0..4 {
                        let mut dot = vcvtq_f32_s32(dot[t][v]);
                        if !Q8K {
                            dot = vmulq_n_f32(dot, d);
                        }
                        sum[t][v] = vfmaq_f32(sum[t][v], dot, scale[v]);
                        if MIN {
                            sum[t][v] = vfmaq_n_f32(sum[t][v], min[v], d * sub_sum[t][s] as f32);
                        }
                    }
                }
            }
            for t in 0..T {
                if Q8K {
                    // SAFETY: the caller's promise.
                    let (d, old) = (unsafe { *x.d(t) }, load_half(&c[t], half));
                    for v in 0..4 {
                        sum[t][v] = vfmaq_n_f32(old[v], sum[t][v], d);
                    }
                }
                store_half(sum[t], &mut c[t], half);
            }
        }

        #[inline]
        #[target_feature(enable = $features)]
        fn load_half(row: &[f32; PANEL_ROWS], half: usize) -> [float32x4_t; 4] {
            let row = &row.as_chunks::<4>().0[4 * half..][..4];
            [load_f32(&row[0]), load_f32(&row[1]), load_f32(&row[2]), load_f32(&row[3])]
        }

        #[inline]
        #[target_feature(enable = $features)]
        fn store_half(v: [float32x4_t; 4], row: &mut [f32; PANEL_ROWS], half: usize) {
            for (v, row) in v.into_iter().zip(&mut row.as_chunks_mut::<4>().0[4 * half..]) {
                store_f32(v, row);
            }
        }
    };
}

/// Rows of a tile: four vectors of four.
pub(super) const HALF: usize = 16;

/// Defines `dots` from `add_row_products::<WORD>(acc, w, q)`, which adds to each lane of `acc` the products
/// of its four signed bytes of `w` with those of a word of `q`.
macro_rules! dots_by_row {
    ($features:literal) => {
        /// `start` and the products of sub-block `s`, for `T` tokens and four vectors of rows.
        ///
        /// # Safety
        /// `x` points at a block of 256 elements of `T` tokens, and the panel has that sub-block.
        #[inline]
        #[target_feature(enable = $features)]
        pub(super) unsafe fn dots<const T: usize, const SUB: usize, const HIGH: bool>(
            panel: &Panel,
            half: usize,
            x: &Tokens,
            s: usize,
            start: [i32; T],
        ) -> [[int32x4_t; 4]; T] {
            let half = half.min(1);
            let mut acc = start.map(|start| [vdupq_n_s32(start); 4]);
            for first in (s * (SUB / 4)..(s + 1) * (SUB / 4)).step_by(4) {
                // SAFETY: the caller's promise.
                let q: [int8x16_t; T] = std::array::from_fn(|t| unsafe { vld1q_s8(x.q(t).add(4 * first)) });
                macro_rules! word {
                    ($word:literal) => {
                        // SAFETY: the caller's promise.
                        let w = unsafe { panel.q.get_unchecked(first + $word) };
                        for v in 0..4 {
                            let mut w = load(&w.as_chunks::<16>().0[4 * half + v]);
                            if HIGH {
                                w = veorq_u8(w, vdupq_n_u8(0x80));
                            }
                            for t in 0..T {
                                acc[t][v] = add_row_products::<$word>(acc[t][v], vreinterpretq_s8_u8(w), q[t]);
                            }
                        }
                    };
                }
                word!(0);
                word!(1);
                word!(2);
                word!(3);
            }
            acc
        }
    };
}

pub(super) use {dots_by_row, panel_kernels};
