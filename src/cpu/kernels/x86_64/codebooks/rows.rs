//! The row products themselves: blocks come apart by the functions of the parent, and products are added as
//! integers, exactly; each block of 256 (or two of less) adds one f32 vector to its row's sum.

/// Defines the row products of one instruction set. A macro for the reason that `float_kernels` is one.
///
/// In scope must be, of vectors of 32 bytes:
///
/// | name | meaning |
/// | --- | --- |
/// | `dots(start, u, s)` | `start` and the products of unsigned bytes with signed ones, four to a lane, over arrays of vectors; the sums of two products in all vectors together fit i16 |
/// | `scaled(acc, u, s, scales)` | `acc` and such products, by twos times the lanes of `scales`, i16 |
/// | `with_signs(q, signs)` | bytes with the sign turned where a bit is set: of eight bytes each the one of its place |
macro_rules! codebook_rows {
    ($features:literal) => {
        use crate::cpu::kernels::x86_64::codebooks::*;
        use crate::cpu::kernels::x86_64::rows::{dot_rows_by, matvec_rows};
        use crate::cpu::kernels::x86_64::{FP4_CODES, half, load_128, load_256, prefetch, sum_256};
        use crate::cpu::kernels::{MatvecQ8, Row8};
        use std::arch::x86_64::*;
        use tealight_quant::BlockType;
        use tealight_quant::blocks::iq::*;
        use tealight_quant::blocks::legacy::{BlockQ1_0, BlockQ2_0};
        use tealight_quant::blocks::mx::BlockNvfp4;
        use tealight_quant::blocks::tq::{BlockTq1_0, BlockTq2_0};
        use tealight_quant::grids::*;

        /// Row products of the formats of this room.
        pub(in crate::cpu::kernels) fn matvec_codebook(ty: BlockType) -> Option<MatvecQ8> {
            Some(match ty {
                BlockType::Iq1S => matvec_iq1_s_q8_k,
                BlockType::Iq1M => matvec_iq1_m_q8_k,
                BlockType::Iq2Xxs => matvec_iq2_xxs_q8_k,
                BlockType::Iq2Xs => matvec_iq2_xs_q8_k,
                BlockType::Iq2S => matvec_iq2_s_q8_k,
                BlockType::Iq3Xxs => matvec_iq3_xxs_q8_k,
                BlockType::Iq3S => matvec_iq3_s_q8_k,
                BlockType::Tq1_0 => matvec_tq1_0_q8_k,
                BlockType::Tq2_0 => matvec_tq2_0_q8_k,
                BlockType::Q1_0 => matvec_q1_0_q8_0,
                BlockType::Q2_0 => matvec_q2_0_q8_0,
                BlockType::Nvfp4 => matvec_nvfp4_q8_0,
                _ => return None,
            })
        }

        matvec_rows!($features, matvec_iq1_s_q8_k, dot_iq1_s_q8_k, BlockIq1S, 4);
        matvec_rows!($features, matvec_iq1_m_q8_k, dot_iq1_m_q8_k, BlockIq1M, 4);
        matvec_rows!($features, matvec_iq2_xxs_q8_k, dot_iq2_xxs_q8_k, BlockIq2Xxs, 4);
        matvec_rows!($features, matvec_iq2_xs_q8_k, dot_iq2_xs_q8_k, BlockIq2Xs, 4);
        matvec_rows!($features, matvec_iq2_s_q8_k, dot_iq2_s_q8_k, BlockIq2S, 4);
        matvec_rows!($features, matvec_iq3_xxs_q8_k, dot_iq3_xxs_q8_k, BlockIq3Xxs, 4);
        matvec_rows!($features, matvec_iq3_s_q8_k, dot_iq3_s_q8_k, BlockIq3S, 4);
        matvec_rows!($features, matvec_tq1_0_q8_k, dot_tq1_0_q8_k, BlockTq1_0, 1);
        matvec_rows!($features, matvec_tq2_0_q8_k, dot_tq2_0_q8_k, BlockTq2_0, 1);
        matvec_rows!($features, matvec_q1_0_q8_0, dot_q1_0_q8_0, BlockQ1_0, 4);
        matvec_rows!($features, matvec_q2_0_q8_0, dot_q2_0_q8_0, BlockQ2_0, 4);
        matvec_rows!($features, matvec_nvfp4_q8_0, dot_nvfp4_q8_0, BlockNvfp4, 2);

        /// The dot product of a row of blocks of 256: `$d` is the factor of what `$dot` adds up from a block, its
        /// activations by 32 and their sums.
        macro_rules! dot_256 {
            ($name:ident, $block:ty, $d:expr, |$b:ident, $q:ident, $sums:ident| $dot:expr) => {
                #[inline]
                #[target_feature(enable = $features)]
                fn $name([row]: [&[$block]; 1], x: Row8<'_>) -> [f32; 1] {
                    let mut acc = _mm256_setzero_ps();
                    let activations = x.q.as_chunks::<256>().0.iter().zip(x.d.iter().zip(x.sums.as_chunks::<16>().0));
                    for ($b, (q, (&d, $sums))) in row.iter().zip(activations) {
                        prefetch($b, size_of::<$block>());
                        let ($q, _) = q.as_chunks::<32>();
                        let dot: __m256i = $dot;
                        acc = _mm256_fmadd_ps(_mm256_set1_ps($d($b) * d), _mm256_cvtepi32_ps(dot), acc);
                    }
                    [sum_256(acc)]
                }
            };
        }

        /// The dot products of rows whose codes are entries of a codebook. `$prepare` makes of a block what its groups
        /// take: their indices first. Rows go side by side, as all of this is long chains: while those of one row
        /// wait, the other's go on.
        macro_rules! dot_groups {
            (
                $name:ident, $block:ty, $d:expr, |$b:ident, $sums:ident| $prepare:expr => $start:expr,
                |$s:ident, $q:ident, $p:pat_param, $group:ident| $u:expr, $signed:expr, $scales:expr
            ) => {
                #[allow(unused_variables)] // not every format takes all that it is offered
                #[inline]
                #[target_feature(enable = $features)]
                fn $name<const R: usize>(rows: [&[$block]; R], x: Row8<'_>) -> [f32; R] {
                    let mut acc = [_mm256_setzero_ps(); R];
                    let activations = x.q.as_chunks::<256>().0.iter().zip(x.d).zip(x.sums.as_chunks::<16>().0);
                    for (i, ((q, &d), $sums)) in activations.enumerate() {
                        let blocks = rows.map(|row| &row[i]);
                        blocks.iter().for_each(|b| prefetch(*b, size_of::<$block>()));
                        let prepared = blocks.map(|$b| $prepare);
                        let mut dots = [_mm256_setzero_si256(); R];
                        for (dot, ($b, (_, $p))) in dots.iter_mut().zip(blocks.iter().zip(&prepared)) {
                            *dot = $start;
                        }
                        let (q, _) = q.as_chunks::<32>();
                        let mut $s = 0;
                        while $s < 8 {
                            let $q = load_256(&q[$s]);
                            for (dot, ($b, (groups, $p))) in dots.iter_mut().zip(blocks.iter().zip(&prepared)) {
                                let $group = &by_group(groups)[$s];
                                *dot = scaled(*dot, $u, $signed, $scales);
                            }
                            $s = next($s);
                        }
                        for (acc, (b, dot)) in acc.iter_mut().zip(blocks.iter().zip(dots)) {
                            *acc = _mm256_fmadd_ps(_mm256_set1_ps($d(b) * d), _mm256_cvtepi32_ps(dot), *acc);
                        }
                    }
                    acc.map(|acc| sum_256(acc))
                }
            };
        }

        // The entries of these codebooks are positive: signs go to the activations.

        dot_groups!(
            dot_iq2_xxs_q8_k, BlockIq2Xxs, |b: &BlockIq2Xxs| half(b.d) * 0.125,
            |b, _sums| {
                let words = iq2_xxs_words(b);
                (b.qs.as_flattened().first_chunk::<64>().expect("64 bytes"), (word_signs(words), word_scales(words)))
            } => _mm256_setzero_si256(),
            |s, q, (signs, scales), group|
            // SAFETY: bytes are below 256.
            unsafe { entries_of_8(&IQ2_XXS_GRID, first_four(group)) },
            with_signs(q, signs[s]),
            scales_of(*scales, s)
        );

        dot_groups!(
            dot_iq2_xs_q8_k, BlockIq2Xs, |b: &BlockIq2Xs| half(b.d) * 0.125,
            |b, _sums| (iq2_xs_indices(b), (iq2_xs_signs(b), iq2_scales(&b.scales))) => _mm256_setzero_si256(),
            |s, q, (signs, scales), indices|
            // SAFETY: indices of 9 bits.
            unsafe { entries_of_8(&IQ2_XS_GRID, indices) },
            with_signs(q, signs[s]),
            scales_of(*scales, s)
        );

        dot_groups!(
            dot_iq2_s_q8_k, BlockIq2S, |b: &BlockIq2S| half(b.d) * 0.125,
            |b, _sums| (iq2_s_indices(b), iq2_scales(&b.scales)) => _mm256_setzero_si256(),
            |s, q, scales, indices|
            // SAFETY: indices of 10 bits.
            unsafe { entries_of_8(&IQ2_S_GRID, indices) },
            with_signs(q, u32::from_le_bytes(by_group(&b.signs)[s])),
            scales_of(*scales, s)
        );

        dot_groups!(
            dot_iq3_xxs_q8_k, BlockIq3Xxs, |b: &BlockIq3Xxs| half(b.d) * 0.25,
            |b, _sums| {
                let words = load_256(&b.words);
                (&b.qs, (word_signs(words), word_scales(words)))
            } => _mm256_setzero_si256(),
            |s, q, (signs, scales), indices|
            // SAFETY: bytes are below 256.
            unsafe { entries_of_4(&IQ3_XXS_GRID, indices) },
            with_signs(q, signs[s]),
            scales_of(*scales, s)
        );

        dot_groups!(
            dot_iq3_s_q8_k, BlockIq3S, |b: &BlockIq3S| half(b.d),
            |b, _sums| (iq3_s_indices(b), iq3_s_scales(b)) => _mm256_setzero_si256(),
            |s, q, scales, indices|
            // SAFETY: indices of 9 bits.
            unsafe { entries_of_4(&IQ3_S_GRID, indices) },
            with_signs(q, u32::from_le_bytes(by_group(&b.signs)[s])),
            scales_of(*scales, s)
        );

        // Eight times an entry and its shift are an integer: the codes are under an offset of 8, and the shift
        // goes to the sums of activations where 32 elements share it, else to the codes, whose offset is then 9.

        dot_groups!(
            dot_iq1_s_q8_k, BlockIq1S, |b: &BlockIq1S| half(b.d) * 0.125,
            |b, sums| (iq1_s_indices(b), iq1_s_scales(b)) => _mm256_madd_epi16(*shifts, load_256(sums)),
            |s, q, (scales, shifts), indices|
            // SAFETY: indices of 11 bits.
            unsafe { entries_of_8(&IQ1_EIGHTHS, indices) },
            q,
            scales_of(*scales, s)
        );

        dot_groups!(
            dot_iq1_m_q8_k, BlockIq1M, |b: &BlockIq1M| half(b.d()) * 0.125,
            |b, sums| {
                let ((indices, shifts), (scales, in_order)) = (iq1_m_indices(b), iq1_m_scales(b));
                let sums = _mm256_madd_epi16(in_order, load_256(sums));
                (indices, (shifts, scales, _mm256_add_epi32(_mm256_slli_epi32::<3>(sums), sums)))
            } => _mm256_sub_epi32(_mm256_setzero_si256(), *offset),
            |s, q, (shifts, scales, offset), indices|
            // SAFETY: indices of 11 bits.
            _mm256_add_epi8(unsafe { entries_of_8(&IQ1_EIGHTHS, indices) }, eight_times(shifts[s])),
            q,
            scales_of(*scales, s)
        );

        dot_256!(dot_tq1_0_q8_k, BlockTq1_0, |b: &BlockTq1_0| half(b.d), |b, q, sums| {
            let start = _mm256_madd_epi16(load_256(sums), _mm256_set1_epi16(-1));
            let (sixteens, _) = b.qs.as_chunks::<16>();
            let half = _mm256_set1_epi8(-128);
            let first = _mm256_xor_si256(both(&sixteens[0], &sixteens[1]), half);
            let [second, third] = [triple(first), triple(triple(first))];
            let [fourth, fifth] = [triple(third), triple(triple(third))];
            let rest = _mm_xor_si128(load_128(&sixteens[2]), _mm256_castsi256_si128(half));
            let rest = _mm256_set_m128i(_mm_add_epi8(_mm_add_epi8(rest, rest), rest), rest);
            let next = triple(triple(rest));
            let last = _mm256_inserti128_si256::<1>(triple(triple(next)), _mm_xor_si128(times_powers_of_three(b.qh), _mm256_castsi256_si128(half)));
            let bytes = [first, second, third, fourth, fifth, rest, next, last];
            dots(start, bytes.map(|bytes| ternary_digits(bytes)), q_vectors(q))
        });

        dot_256!(dot_tq2_0_q8_k, BlockTq2_0, |b: &BlockTq2_0| half(b.d), |b, q, sums| {
            let start = _mm256_madd_epi16(load_256(sums), _mm256_set1_epi16(-1));
            let (qs, _) = b.qs.as_chunks::<32>();
            let planes = [two_bits(load_256(&qs[0])), two_bits(load_256(&qs[1]))];
            let ([a, b, c, d], [e, f, g, h]) = (planes[0], planes[1]);
            dots(start, [a, b, c, d, e, f, g, h], q_vectors(q))
        });

        #[inline]
        #[target_feature(enable = $features)]
        fn q_vectors(q: &[[i8; 32]]) -> [__m256i; 8] {
            let mut vectors = [_mm256_setzero_si256(); 8];
            for (vector, q) in vectors.iter_mut().zip(q) {
                *vector = load_256(q);
            }
            vectors
        }

        dot_rows_by!($features, dot_q1_0_q8_0, BlockQ1_0, 2, step_q1_0);
        dot_rows_by!($features, dot_q2_0_q8_0, BlockQ2_0, 2, step_q2_0);
        dot_rows_by!($features, dot_nvfp4_q8_0, BlockNvfp4, 1, step_nvfp4);

        /// Two halves as f32.
        #[inline]
        #[target_feature(enable = $features)]
        fn two_halves(a: [u8; 2], b: [u8; 2]) -> __m256 {
            let both = i32::from_le_bytes([a[0], a[1], b[0], b[1]]);
            _mm256_castps128_ps256(_mm_cvtph_ps(_mm_cvtsi32_si128(both)))
        }

        /// Bits mean codes of 0 and 2 under an offset of 1; bit j of all bytes makes a vector.
        #[inline]
        #[target_feature(enable = $features)]
        fn step_q1_0<const R: usize>(
            acc: &mut [__m256; R],
            blocks: [&[BlockQ1_0; 2]; R],
            q: &[i8; 256],
            d: &[f32; 8],
            sums: &[i16; 16],
        ) {
            let (q, d) = (by_8(q), _mm256_castsi256_ps(load_256(d)));
            let start = _mm256_madd_epi16(load_256(sums), _mm256_set1_epi16(-1));
            let which = _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1);
            for ([a, b], acc) in blocks.into_iter().zip(acc) {
                let bits = both(&a.qs, &b.qs);
                let planes = [
                    _mm256_slli_epi16::<1>(bits),
                    bits,
                    _mm256_srli_epi16::<1>(bits),
                    _mm256_srli_epi16::<2>(bits),
                    _mm256_srli_epi16::<3>(bits),
                    _mm256_srli_epi16::<4>(bits),
                    _mm256_srli_epi16::<5>(bits),
                    _mm256_srli_epi16::<6>(bits),
                ];
                let dot = dots(start, planes.map(|plane| _mm256_and_si256(plane, _mm256_set1_epi8(2))), q);
                let scale = _mm256_mul_ps(_mm256_permutevar8x32_ps(two_halves(a.d, b.d), which), d);
                *acc = _mm256_fmadd_ps(scale, _mm256_cvtepi32_ps(dot), *acc);
            }
        }

        /// Codes under an offset of 1; those of bits 2 j of all bytes make a vector.
        #[inline]
        #[target_feature(enable = $features)]
        fn step_q2_0<const R: usize>(
            acc: &mut [__m256; R],
            blocks: [&[BlockQ2_0; 2]; R],
            q: &[i8; 128],
            d: &[f32; 4],
            sums: &[i16; 8],
        ) {
            let q = by_4(q);
            let twice = _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3);
            let d = _mm256_permutevar8x32_ps(_mm256_castsi256_ps(_mm256_castsi128_si256(load_128(d))), twice);
            let start = _mm256_sub_epi32(_mm256_setzero_si256(), _mm256_cvtepi16_epi32(load_128(sums)));
            let which = _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1);
            for ([a, b], acc) in blocks.into_iter().zip(acc) {
                let dot = dots(start, two_bits(both(&a.qs, &b.qs)), q);
                let scale = _mm256_mul_ps(_mm256_permutevar8x32_ps(two_halves(a.d, b.d), which), d);
                *acc = _mm256_fmadd_ps(scale, _mm256_cvtepi32_ps(dot), *acc);
            }
        }

        /// Codes under an offset of 12. Low nibbles are the first eights of sixteen elements: of these 0 and 2 make
        /// the low half of vectors, 1 and 3 the high half.
        #[inline]
        #[target_feature(enable = $features)]
        fn step_nvfp4<const R: usize>(
            acc: &mut [__m256; R],
            blocks: [&[BlockNvfp4; 1]; R],
            q: &[i8; 64],
            d: &[f32; 2],
            sums: &[i16; 4],
        ) {
            let (q, _) = q.as_chunks::<32>();
            let q = [load_256(&q[0]), load_256(&q[1])];
            let q = [_mm256_unpacklo_epi64(q[0], q[1]), _mm256_unpackhi_epi64(q[0], q[1])];
            let d = _mm_setr_ps(d[0], d[0], d[1], d[1]);
            let sums = _mm256_set1_epi64x(i64::from_le_bytes(bytemuck::cast(*sums)));
            let places = _mm256_setr_epi64x(!0xffff | 0x0100, !0xffff | 0x0504, !0xffff | 0x0302, !0xffff | 0x0706);
            let start = _mm256_madd_epi16(_mm256_shuffle_epi8(sums, places), _mm256_set1_epi16(-12));
            let table = _mm256_broadcastsi128_si256(load_128(&FP4_CODES));
            let nibble = _mm256_set1_epi8(15);
            for ([b], acc) in blocks.into_iter().zip(acc) {
                let qs = _mm256_permute4x64_epi64::<0b11_01_10_00>(load_256(&b.qs));
                let nibbles = [_mm256_and_si256(qs, nibble), _mm256_and_si256(_mm256_srli_epi16::<4>(qs), nibble)];
                let dot = dots(start, nibbles.map(|nibbles| _mm256_shuffle_epi8(table, nibbles)), q);
                let [s0, s1, s2, s3] = b.scales.map(|s| E4M3[usize::from(s)]);
                let scales = _mm256_castps128_ps256(_mm_mul_ps(_mm_setr_ps(s0, s1, s2, s3), d));
                let scales = _mm256_permutevar8x32_ps(scales, _mm256_setr_epi32(0, 0, 2, 2, 1, 1, 3, 3));
                *acc = _mm256_fmadd_ps(scales, _mm256_cvtepi32_ps(dot), *acc);
            }
        }
    };
}

pub(in crate::cpu::kernels::x86_64) use codebook_rows;
