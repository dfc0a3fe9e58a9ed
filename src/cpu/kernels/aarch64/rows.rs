//! Row products over 8-bit activations, said once for both ways to add products of bytes.
//!
//! Weights become signed bytes; products of 16 or 32 of them are added as integers, exactly, and each
//! block of 32 or 256 adds one f32 vector to its row's sum.

/// Defines the row products of one instruction set. A macro for the reason that `float_kernels` is one.
///
/// In scope must be `add_products(acc, a, b)`, which adds the products of sixteen signed bytes to the
/// lanes of `acc`, four to each and whichever they are; one of two factors is never -128.
macro_rules! row_kernels {
    ($features:literal) => {
        use super::super::codes::{Coded, CodedVisitor, visit_coded};
        use super::super::panel::PANEL_COLS;
        use super::super::{ActivationKind, MatvecQ8, Row8, SUM_LEN};
        use super::{
            eight_scales, half, load, load_2, load_f32, load_signed, prefetch, scales_and_mins, sixteen_scales,
        };
        use tealight_quant::BlockType;
        use tealight_quant::blocks::iq::{BlockIq4Nl, BlockIq4Xs};
        use tealight_quant::blocks::k::{BlockQ2K, BlockQ3K, BlockQ4K, BlockQ5K, BlockQ6K};
        use tealight_quant::blocks::legacy::{BlockQ4_0, BlockQ4_1, BlockQ5_0, BlockQ5_1, BlockQ8_0};
        use tealight_quant::blocks::mx::BlockMxfp4;
        use tealight_quant::grids::{FP4_DOUBLED, IQ4_VALUES};

        /// A row product of all rows from the dot product of one.
        macro_rules! matvec {
            ($name:ident, $dot:ident, $block:ty) => {
                #[target_feature(enable = $features)]
                pub(super) fn $name(rows: &[u8], x: Row8<'_>, out: &mut [f32]) {
                    let row_bytes = rows.len() / out.len().max(1);
                    for (r, out) in out.iter_mut().enumerate() {
                        *out = $dot(bytemuck::cast_slice::<u8, $block>(&rows[r * row_bytes..][..row_bytes]), x);
                    }
                }
            };
        }

        matvec!(matvec_q4_0_q8_0, dot_q4_0_q8_0, BlockQ4_0);
        matvec!(matvec_q4_1_q8_0, dot_q4_1_q8_0, BlockQ4_1);
        matvec!(matvec_q5_0_q8_0, dot_q5_0_q8_0, BlockQ5_0);
        matvec!(matvec_q5_1_q8_0, dot_q5_1_q8_0, BlockQ5_1);
        matvec!(matvec_q8_0_q8_0, dot_q8_0_q8_0, BlockQ8_0);
        matvec!(matvec_iq4_nl_q8_0, dot_iq4_nl_q8_0, BlockIq4Nl);
        matvec!(matvec_mxfp4_q8_0, dot_mxfp4_q8_0, BlockMxfp4);
        matvec!(matvec_q2_k_q8_k, dot_q2_k_q8_k, BlockQ2K);
        matvec!(matvec_q3_k_q8_k, dot_q3_k_q8_k, BlockQ3K);
        matvec!(matvec_q4_k_q8_k, dot_q4_k_q8_k, BlockQ4K);
        matvec!(matvec_q5_k_q8_k, dot_q5_k_q8_k, BlockQ5K);
        matvec!(matvec_q6_k_q8_k, dot_q6_k_q8_k, BlockQ6K);
        matvec!(matvec_iq4_xs_q8_k, dot_iq4_xs_q8_k, BlockIq4Xs);

        /// Row products of the formats that have no place of their own in the table.
        pub(super) fn matvec_codes(ty: BlockType) -> Option<MatvecQ8> {
            struct Pick;
            impl CodedVisitor for Pick {
                type Output = MatvecQ8;
                fn visit<B: Coded<N>, const N: usize>(self) -> MatvecQ8 {
                    matvec_any::<B, N>
                }
            }
            Some(match ty {
                BlockType::Q5_0 => matvec_q5_0_q8_0,
                BlockType::Q5_1 => matvec_q5_1_q8_0,
                BlockType::Iq4Nl => matvec_iq4_nl_q8_0,
                BlockType::Mxfp4 => matvec_mxfp4_q8_0,
                BlockType::Q2K => matvec_q2_k_q8_k,
                BlockType::Q3K => matvec_q3_k_q8_k,
                BlockType::Q5K => matvec_q5_k_q8_k,
                BlockType::Iq4Xs => matvec_iq4_xs_q8_k,
                _ => return visit_coded(ty, Pick),
            })
        }

        #[inline]
        #[target_feature(enable = $features)]
        fn add_scaled(acc: float32x4_t, d: f32, dot: int32x4_t) -> float32x4_t {
            vfmaq_n_f32(acc, vcvtq_f32_s32(dot), d)
        }

        /// The products of 32 elements.
        #[inline]
        #[target_feature(enable = $features)]
        fn products_32(w: [int8x16_t; 2], q: &[i8; 32]) -> int32x4_t {
            let q = load_signed(q);
            add_products(add_products(vdupq_n_s32(0), w[0], q[0]), w[1], q[1])
        }

        /// The nibbles of 16 bytes: low ones, then high ones.
        #[inline]
        #[target_feature(enable = $features)]
        pub(super) fn nibbles(qs: uint8x16_t) -> [uint8x16_t; 2] {
            [vandq_u8(qs, vdupq_n_u8(15)), vshrq_n_u8::<4>(qs)]
        }

        /// Codes less the code of zero.
        #[inline]
        #[target_feature(enable = $features)]
        fn signed(codes: [uint8x16_t; 2], zero: u8) -> [int8x16_t; 2] {
            codes.map(|codes| vreinterpretq_s8_u8(vsubq_u8(codes, vdupq_n_u8(zero))))
        }

        #[inline]
        #[target_feature(enable = $features)]
        pub(super) fn look_up(table: &[i8; 16], nibbles: [uint8x16_t; 2]) -> [int8x16_t; 2] {
            let table = vreinterpretq_s8_u8(load(table));
            nibbles.map(|nibbles| vqtbl1q_s8(table, nibbles))
        }

        /// Nibbles with fifth bits: each byte takes the byte of its bit, and looks at that.
        #[inline]
        #[target_feature(enable = $features)]
        pub(super) fn fives(qh: [u8; 4], qs: &[u8; 16]) -> [uint8x16_t; 2] {
            let byte = vcombine_u8(vdup_n_u8(0), vdup_n_u8(1));
            let bit = vreinterpretq_u8_u64(vdupq_n_u64(0x8040_2010_0804_0201));
            let qh = vreinterpretq_u8_u32(vdupq_n_u32(u32::from_le_bytes(qh)));
            let high = |byte| vandq_u8(vtstq_u8(vqtbl1q_u8(qh, byte), bit), vdupq_n_u8(16));
            let [low, upper] = nibbles(load(qs));
            [vorrq_u8(low, high(byte)), vorrq_u8(upper, high(vaddq_u8(byte, vdupq_n_u8(2))))]
        }

        /// Four halves as f32.
        #[inline]
        #[target_feature(enable = $features)]
        fn four_halves(d: [[u8; 2]; 4]) -> float32x4_t {
            vcvt_f32_f16(vreinterpret_f16_u64(vcreate_u64(u64::from_le_bytes(bytemuck::cast(d)))))
        }

        /// The sums of the lanes of four vectors.
        #[inline]
        #[target_feature(enable = $features)]
        fn sums_of_lanes(v: [int32x4_t; 4]) -> int32x4_t {
            vpaddq_s32(vpaddq_s32(v[0], v[1]), vpaddq_s32(v[2], v[3]))
        }

        /// A dot product of blocks of 32: the weights of a block, and the scale of one and of four.
        macro_rules! dot_32 {
            ($name:ident, $block:ty, |$b:ident| $w:expr) => {
                dot_32!($name, $block, |$b| $w, |b: &$block| half(b.d), |b: &[$block; 4]| four_halves([
                    b[0].d, b[1].d, b[2].d, b[3].d
                ]));
            };
            ($name:ident, $block:ty, |$b:ident| $w:expr, $scale:expr, $four_scales:expr) => {
                #[inline]
                #[target_feature(enable = $features)]
                fn $name(row: &[$block], x: Row8<'_>) -> f32 {
                    let products = |$b: &$block, q: &[i8; 32]| products_32($w, q);
                    let (scale, four_scales) = ($scale, $four_scales);
                    let ((fours, rest), (q, _)) = (row.as_chunks::<4>(), x.q.as_chunks::<32>());
                    let ((q_fours, q_rest), (d_fours, d_rest)) = (q.as_chunks::<4>(), x.d.as_chunks::<4>());
                    let mut acc = vdupq_n_f32(0.0);
                    for (b, (q, d)) in fours.iter().zip(q_fours.iter().zip(d_fours)) {
                        prefetch(b, 4 * size_of::<$block>());
                        let dots = sums_of_lanes([
                            products(&b[0], &q[0]),
                            products(&b[1], &q[1]),
                            products(&b[2], &q[2]),
                            products(&b[3], &q[3]),
                        ]);
                        acc = vfmaq_f32(acc, vcvtq_f32_s32(dots), vmulq_f32(four_scales(b), load_f32(d)));
                    }
                    for (b, (q, &d)) in rest.iter().zip(q_rest.iter().zip(d_rest)) {
                        acc = add_scaled(acc, scale(b) * d, products(b, q));
                    }
                    vaddvq_f32(acc)
                }
            };
        }

        dot_32!(dot_q4_0_q8_0, BlockQ4_0, |b| signed(nibbles(load(&b.qs)), 8));
        dot_32!(dot_q5_0_q8_0, BlockQ5_0, |b| signed(fives(b.qh, &b.qs), 16));
        dot_32!(dot_q8_0_q8_0, BlockQ8_0, |b| load_signed(&b.qs));
        dot_32!(dot_iq4_nl_q8_0, BlockIq4Nl, |b| look_up(&IQ4_VALUES, nibbles(load(&b.qs))));
        dot_32!(
            dot_mxfp4_q8_0,
            BlockMxfp4,
            |b| look_up(&FP4_DOUBLED, nibbles(load(&b.qs))),
            |b: &BlockMxfp4| b.half_scale(),
            |b: &[BlockMxfp4; 4]| load_f32(&[&b[0], &b[1], &b[2], &b[3]].map(BlockMxfp4::half_scale))
        );

        /// The same with minimums: the codes of a block.
        macro_rules! dot_32_with_min {
            ($name:ident, $block:ty, |$b:ident| $codes:expr) => {
                #[inline]
                #[target_feature(enable = $features)]
                fn $name(row: &[$block], x: Row8<'_>) -> f32 {
                    let products = |$b: &$block, q: &[i8; 32]| products_32(signed($codes, 0), q);
                    let ((fours, rest), (q, _)) = (row.as_chunks::<4>(), x.q.as_chunks::<32>());
                    let ((q_fours, q_rest), (d_fours, d_rest)) = (q.as_chunks::<4>(), x.d.as_chunks::<4>());
                    let (sum_fours, sum_rest) = x.sums.as_chunks::<8>();
                    let (mut acc, mut acc_min) = (vdupq_n_f32(0.0), vdupq_n_f32(0.0));
                    for (b, ((q, d), sums)) in fours.iter().zip(q_fours.iter().zip(d_fours).zip(sum_fours)) {
                        prefetch(b, 4 * size_of::<$block>());
                        let dots = sums_of_lanes([
                            products(&b[0], &q[0]),
                            products(&b[1], &q[1]),
                            products(&b[2], &q[2]),
                            products(&b[3], &q[3]),
                        ]);
                        let d = load_f32(d);
                        let scales = vmulq_f32(four_halves([b[0].d, b[1].d, b[2].d, b[3].d]), d);
                        acc = vfmaq_f32(acc, vcvtq_f32_s32(dots), scales);
                        let sums = vcvtq_f32_s32(vpaddlq_s16(vreinterpretq_s16_u8(load(sums))));
                        let mins = vmulq_f32(four_halves([b[0].m, b[1].m, b[2].m, b[3].m]), d);
                        acc_min = vfmaq_f32(acc_min, sums, mins);
                    }
                    let mut mins = 0.0f32;
                    let rest = rest.iter().zip(q_rest.iter().zip(d_rest).zip(sum_rest.as_chunks::<2>().0));
                    for (b, ((q, &d), &[s0, s1])) in rest {
                        acc = add_scaled(acc, half(b.d) * d, products(b, q));
                        mins = (half(b.m) * d).mul_add((i32::from(s0) + i32::from(s1)) as f32, mins);
                    }
                    vaddvq_f32(vaddq_f32(acc, acc_min)) + mins
                }
            };
        }

        dot_32_with_min!(dot_q4_1_q8_0, BlockQ4_1, |b| nibbles(load(&b.qs)));
        dot_32_with_min!(dot_q5_1_q8_0, BlockQ5_1, |b| fives(b.qh, &b.qs));

        /// The blocks of 256 of a row with their activations: quants, scale, sums.
        macro_rules! blocks_of_256 {
            ($row:expr, $x:expr) => {
                $row.iter().zip($x.q.as_chunks::<256>().0.iter().zip($x.d.iter().zip($x.sums.as_chunks::<16>().0)))
            };
        }

        /// Sixteen sums, in two vectors.
        #[inline]
        #[target_feature(enable = $features)]
        fn load_sums(sums: &[i16; 16]) -> [int16x8_t; 2] {
            load_2(sums).map(|sums| vreinterpretq_s16_u8(sums))
        }

        /// The products of eight i16 in four lanes.
        #[inline]
        #[target_feature(enable = $features)]
        fn products_i16(a: int16x8_t, b: int16x8_t) -> int32x4_t {
            vmlal_high_s16(vmull_s16(vget_low_s16(a), vget_low_s16(b)), a, b)
        }

        /// The minimums of Q4_K and Q5_K times the sums of 32 activations.
        #[inline]
        #[target_feature(enable = $features)]
        fn products_of_mins(mins: [u8; 8], sums: &[i16; 16]) -> float32x4_t {
            let [a, b] = load_sums(sums);
            let mins = vreinterpretq_s16_u16(vmovl_u8(vcreate_u8(u64::from_le_bytes(mins))));
            // at most 32 * 127 in magnitude
            vcvtq_f32_s32(products_i16(mins, vpaddq_s16(a, b)))
        }

        /// The sums of eight vectors, times as many scales.
        #[inline]
        #[target_feature(enable = $features)]
        fn scaled_8(v: &[[int32x4_t; 2]; 4], scales: [int32x4_t; 2]) -> int32x4_t {
            let dot = vmulq_s32(sums_of_lanes([v[0][0], v[0][1], v[1][0], v[1][1]]), scales[0]);
            vmlaq_s32(dot, sums_of_lanes([v[2][0], v[2][1], v[3][0], v[3][1]]), scales[1])
        }

        /// Eight scales as i32.
        #[inline]
        #[target_feature(enable = $features)]
        fn wide_scales(scales: [u8; 8]) -> [int32x4_t; 2] {
            let scales = vmovl_u8(vcreate_u8(u64::from_le_bytes(scales)));
            [vmovl_u16(vget_low_u16(scales)), vmovl_high_u16(scales)].map(|scales| vreinterpretq_s32_u32(scales))
        }

        #[inline]
        #[target_feature(enable = $features)]
        fn dot_q4_k_q8_k(row: &[BlockQ4K], x: Row8<'_>) -> f32 {
            let (mut acc, mut acc_min) = (vdupq_n_f32(0.0), vdupq_n_f32(0.0));
            for (b, (q, (&d, sums))) in blocks_of_256!(row, x) {
                prefetch(b, size_of::<BlockQ4K>());
                let (scales, mins) = scales_and_mins(&b.scales);
                acc_min = vfmsq_n_f32(acc_min, products_of_mins(mins, sums), half(b.dmin) * d);
                let mut products = [[vdupq_n_s32(0); 2]; 4];
                let parts = b.qs.as_chunks::<32>().0.iter().zip(q.as_chunks::<64>().0);
                for (products, (qs, q)) in products.iter_mut().zip(parts) {
                    let ([a, b], (q, _)) = (load_2(qs).map(|qs| nibbles(qs)), q.as_chunks::<32>());
                    for (i, products) in products.iter_mut().enumerate() {
                        *products = products_32(signed([a[i], b[i]], 0), &q[i]);
                    }
                }
                let dot = scaled_8(&products, wide_scales(scales));
                acc = add_scaled(acc, half(b.d) * d, dot);
            }
            vaddvq_f32(vaddq_f32(acc, acc_min))
        }

        #[inline]
        #[target_feature(enable = $features)]
        fn dot_q5_k_q8_k(row: &[BlockQ5K], x: Row8<'_>) -> f32 {
            let (mut acc, mut acc_min) = (vdupq_n_f32(0.0), vdupq_n_f32(0.0));
            for (b, (q, (&d, sums))) in blocks_of_256!(row, x) {
                prefetch(b, size_of::<BlockQ5K>());
                let (scales, mins) = scales_and_mins(&b.scales);
                acc_min = vfmsq_n_f32(acc_min, products_of_mins(mins, sums), half(b.dmin) * d);
                let high = load_2(&b.qh);
                let mut products = [[vdupq_n_s32(0); 2]; 4];
                let parts = b.qs.as_chunks::<32>().0.iter().zip(q.as_chunks::<64>().0);
                for (p, (products, (qs, q))) in products.iter_mut().zip(parts).enumerate() {
                    let (low, (q, _)) = (load_2(qs).map(|qs| nibbles(qs)), q.as_chunks::<32>());
                    for (i, products) in products.iter_mut().enumerate() {
                        let bit = vdupq_n_u8(1 << (2 * p + i));
                        let five = |half: usize| {
                            let high = vandq_u8(vtstq_u8(high[half], bit), vdupq_n_u8(16));
                            vorrq_u8(low[half][i], high)
                        };
                        *products = products_32(signed([five(0), five(1)], 0), &q[i]);
                    }
                }
                let dot = scaled_8(&products, wide_scales(scales));
                acc = add_scaled(acc, half(b.d) * d, dot);
            }
            vaddvq_f32(vaddq_f32(acc, acc_min))
        }

        /// The products of 32 elements, of each 16.
        #[inline]
        #[target_feature(enable = $features)]
        fn products_2x16(w: [int8x16_t; 2], q: &[i8; 32]) -> [int32x4_t; 2] {
            let (q, zero) = (load_signed(q), vdupq_n_s32(0));
            [add_products(zero, w[0], q[0]), add_products(zero, w[1], q[1])]
        }

        /// The sums of sixteen vectors, times as many scales.
        #[inline]
        #[target_feature(enable = $features)]
        fn scaled_16(v: &[[int32x4_t; 2]; 8], scales: int8x16_t) -> int32x4_t {
            let (low, high) = (vmovl_s8(vget_low_s8(scales)), vmovl_high_s8(scales));
            let wide = |scales| [vmovl_s16(vget_low_s16(scales)), vmovl_high_s16(scales)];
            let ([v0, v1, v2, v3, v4, v5, v6, v7], [a, b], [c, d]) = (*v, wide(low), wide(high));
            let dot = scaled_8(&[v0, v1, v2, v3], [a, b]);
            vaddq_s32(dot, scaled_8(&[v4, v5, v6, v7], [c, d]))
        }

        #[inline]
        #[target_feature(enable = $features)]
        fn dot_q6_k_q8_k(row: &[BlockQ6K], x: Row8<'_>) -> f32 {
            let mut acc = vdupq_n_f32(0.0);
            for (b, (q, (&d, _))) in blocks_of_256!(row, x) {
                prefetch(b, size_of::<BlockQ6K>());
                let mut products = [[vdupq_n_s32(0); 2]; 8];
                let halves = b.ql.as_chunks::<64>().0.iter().zip(b.qh.as_chunks::<32>().0).zip(q.as_chunks::<128>().0);
                for (h, ((ql, qh), q)) in halves.enumerate() {
                    let ((ql, _), qh, (q, _)) = (ql.as_chunks::<32>(), load_2(qh), q.as_chunks::<32>());
                    let [a, b] = [load_2(&ql[0]), load_2(&ql[1])].map(|ql| ql.map(|ql| nibbles(ql)));
                    let mask = vdupq_n_u8(0x30);
                    let high = [
                        qh.map(|qh| vandq_u8(vshlq_n_u8::<4>(qh), mask)),
                        qh.map(|qh| vandq_u8(vshlq_n_u8::<2>(qh), mask)),
                        qh.map(|qh| vandq_u8(qh, mask)),
                        qh.map(|qh| vandq_u8(vshrq_n_u8::<2>(qh), mask)),
                    ];
                    for j in 0..4 {
                        let low = if j % 2 == 0 { a } else { b };
                        let six = |half: usize| vorrq_u8(low[half][j / 2], high[j][half]);
                        products[4 * h + j] = products_2x16(signed([six(0), six(1)], 32), &q[j]);
                    }
                }
                let dot = scaled_16(&products, vreinterpretq_s8_u8(load(&b.scales)));
                acc = add_scaled(acc, half(b.d) * d, dot);
            }
            vaddvq_f32(acc)
        }

        /// Four planes of two bits of 16 bytes.
        #[inline]
        #[target_feature(enable = $features)]
        fn two_bits(qs: uint8x16_t) -> [uint8x16_t; 4] {
            let mask = vdupq_n_u8(3);
            [
                vandq_u8(qs, mask),
                vandq_u8(vshrq_n_u8::<2>(qs), mask),
                vandq_u8(vshrq_n_u8::<4>(qs), mask),
                vshrq_n_u8::<6>(qs),
            ]
        }

        #[inline]
        #[target_feature(enable = $features)]
        fn dot_q2_k_q8_k(row: &[BlockQ2K], x: Row8<'_>) -> f32 {
            let (mut acc, mut acc_min) = (vdupq_n_f32(0.0), vdupq_n_f32(0.0));
            for (b, (q, (&d, sums))) in blocks_of_256!(row, x) {
                prefetch(b, size_of::<BlockQ2K>());
                let mins = vshrq_n_u8::<4>(load(&b.scales));
                let mins = [vmovl_u8(vget_low_u8(mins)), vmovl_high_u8(mins)].map(|m| vreinterpretq_s16_u16(m));
                let sums = load_sums(sums);
                let min = vaddq_s32(products_i16(mins[0], sums[0]), products_i16(mins[1], sums[1]));
                acc_min = vfmsq_n_f32(acc_min, vcvtq_f32_s32(min), half(b.dmin) * d);
                let mut products = [[vdupq_n_s32(0); 2]; 8];
                for (h, (qs, q)) in b.qs.as_chunks::<32>().0.iter().zip(q.as_chunks::<128>().0).enumerate() {
                    let (planes, (q, _)) = (load_2(qs).map(|qs| two_bits(qs)), q.as_chunks::<32>());
                    for j in 0..4 {
                        let w = signed([planes[0][j], planes[1][j]], 0);
                        products[4 * h + j] = products_2x16(w, &q[j]);
                    }
                }
                let dot = scaled_16(&products, vreinterpretq_s8_u8(vandq_u8(load(&b.scales), vdupq_n_u8(15))));
                acc = add_scaled(acc, half(b.d) * d, dot);
            }
            vaddvq_f32(vaddq_f32(acc, acc_min))
        }

        #[inline]
        #[target_feature(enable = $features)]
        fn dot_q3_k_q8_k(row: &[BlockQ3K], x: Row8<'_>) -> f32 {
            let mut acc = vdupq_n_f32(0.0);
            for (b, (q, (&d, _))) in blocks_of_256!(row, x) {
                prefetch(b, size_of::<BlockQ3K>());
                let high = load_2(&b.hmask);
                let mut products = [[vdupq_n_s32(0); 2]; 8];
                for (h, (qs, q)) in b.qs.as_chunks::<32>().0.iter().zip(q.as_chunks::<128>().0).enumerate() {
                    let (planes, (q, _)) = (load_2(qs).map(|qs| two_bits(qs)), q.as_chunks::<32>());
                    for j in 0..4 {
                        let bit = vdupq_n_u8(1 << (4 * h + j));
                        let three = |half: usize| {
                            let high = vandq_u8(vtstq_u8(high[half], bit), vdupq_n_u8(4));
                            vorrq_u8(planes[half][j], high)
                        };
                        products[4 * h + j] = products_2x16(signed([three(0), three(1)], 4), &q[j]);
                    }
                }
                let dot = scaled_16(&products, vreinterpretq_s8_u8(load(&sixteen_scales(&b.scales))));
                acc = add_scaled(acc, half(b.d) * d, dot);
            }
            vaddvq_f32(acc)
        }

        #[inline]
        #[target_feature(enable = $features)]
        fn dot_iq4_xs_q8_k(row: &[BlockIq4Xs], x: Row8<'_>) -> f32 {
            let mut acc = vdupq_n_f32(0.0);
            for (b, (q, (&d, _))) in blocks_of_256!(row, x) {
                prefetch(b, size_of::<BlockIq4Xs>());
                let mut products = [[vdupq_n_s32(0); 2]; 4];
                let parts = b.qs.as_chunks::<16>().0.iter().zip(q.as_chunks::<32>().0);
                for (products, (qs, q)) in products.as_flattened_mut().iter_mut().zip(parts) {
                    *products = products_32(look_up(&IQ4_VALUES, nibbles(load(qs))), q);
                }
                let scales = load_2(&eight_scales(b.scales_l, b.scales_h)).map(|scales| vreinterpretq_s32_u8(scales));
                let dot = scaled_8(&products, scales);
                acc = add_scaled(acc, half(b.d) * d, dot);
            }
            vaddvq_f32(acc)
        }

        /// The row product over the codes of any format.
        #[target_feature(enable = $features)]
        fn matvec_any<B: Coded<N>, const N: usize>(rows: &[u8], x: Row8<'_>, out: &mut [f32]) {
            const { assert!(B::MAX as i32 - B::OFFSET as i32 <= 127 && B::OFFSET <= 128) };
            let per_scale = if N == PANEL_COLS { ActivationKind::Q8K } else { ActivationKind::Q8_0 }.block_len();
            let row_bytes = rows.len() / out.len().max(1);
            for (r, out) in out.iter_mut().enumerate() {
                let row = bytemuck::cast_slice::<u8, B>(&rows[r * row_bytes..][..row_bytes]);
                let (mut acc, mut mins) = (vdupq_n_f32(0.0), 0.0f32);
                let activations = x.q.as_chunks::<N>().0.iter().zip(x.d.chunks_exact(N / per_scale));
                let activations = activations.zip(x.sums.chunks_exact(N / SUM_LEN));
                for (block, ((q, d), sums)) in row.iter().zip(activations) {
                    prefetch(block, size_of::<B>());
                    let (mut codes, mut scale, mut min) = ([0; N], [0.0; 16], [0.0; 16]);
                    block.codes(&mut codes, &mut scale[..N / B::SUB], &mut min[..N / B::SUB]);
                    let subs = codes.chunks_exact(B::SUB).zip(q.chunks_exact(B::SUB));
                    for (s, (codes, q)) in subs.enumerate() {
                        let mut dot = vdupq_n_s32(0);
                        for (codes, q) in codes.as_chunks::<16>().0.iter().zip(q.as_chunks::<16>().0) {
                            let w = vreinterpretq_s8_u8(vsubq_u8(load(codes), vdupq_n_u8(B::OFFSET)));
                            dot = add_products(dot, w, vreinterpretq_s8_u8(load(q)));
                        }
                        let d = d[s * B::SUB / per_scale];
                        acc = add_scaled(acc, scale[s] * d, dot);
                        if B::HAS_MIN {
                            let sums = &sums[s * B::SUB / SUM_LEN..][..B::SUB / SUM_LEN];
                            let sum = sums.iter().map(|&s| i32::from(s)).sum::<i32>();
                            mins = (min[s] * d).mul_add(sum as f32, mins);
                        }
                    }
                }
                *out = vaddvq_f32(acc) + mins;
            }
        }
    };
}

pub(super) use row_kernels;
