//! Unpacking to panels, row by row; then rows and columns change places in registers. Formats without a
//! function of their own here are unpacked as the specification says, which the compiler does well where
//! it meets no tables and no halves for each 32 elements.

use super::super::codes::{Coded, CodedVisitor, iq4_xs_scales, visit_coded};
use super::super::panel::{PANEL_COLS, PANEL_ROWS, Panel, PanelBytes, RowBuffers, Unpack};
use super::super::scalar::panel::row_codes;
use super::neon::{fives, look_up, nibbles};
use super::{half, load, load_2, prefetch_next, store};
use std::arch::aarch64::*;
use tealight_quant::BlockType;
use tealight_quant::blocks::iq::{BlockIq4Nl, BlockIq4Xs};
use tealight_quant::blocks::legacy::{BlockQ4_0, BlockQ4_1, BlockQ5_0, BlockQ5_1, BlockQ8_0};
use tealight_quant::blocks::mx::BlockMxfp4;
use tealight_quant::grids::{FP4_DOUBLED, IQ4_VALUES};

/// Scales or minimums of the columns of a row, by sub-block.
type Scales = [f32; 16];

pub(super) fn unpack(ty: BlockType) -> Option<Unpack> {
    struct Pick;
    impl CodedVisitor for Pick {
        type Output = Unpack;
        fn visit<B: Coded<N>, const N: usize>(self) -> Unpack {
            unpack_blocks::<B, N>
        }
    }
    Some(match ty {
        BlockType::Q4_0 => unpack_q4_0,
        BlockType::Q4_1 => unpack_q4_1,
        BlockType::Q5_0 => unpack_q5_0,
        BlockType::Q5_1 => unpack_q5_1,
        BlockType::Q8_0 => unpack_q8_0,
        BlockType::Iq4Nl => unpack_iq4_nl,
        BlockType::Iq4Xs => unpack_iq4_xs,
        BlockType::Mxfp4 => unpack_mxfp4,
        _ => return visit_coded(ty, Pick),
    })
}

/// Unpacks all rows of a format by a function of one.
#[inline]
#[target_feature(enable = "neon")]
fn unpack_rows<B: Coded<N>, const N: usize>(
    rows: &PanelBytes<'_>,
    panel: &mut Panel,
    row_codes: impl Fn(&[u8], &mut [u8; PANEL_COLS], &mut Scales, &mut Scales),
) {
    let RowBuffers { q, scale, min, .. } = &mut panel.rows;
    let out = q.iter_mut().zip(scale.iter_mut().zip(min.iter_mut()));
    for (row, (q, (scale, min))) in rows.iter().zip(out) {
        prefetch_next(row);
        row_codes(row, q, scale, min);
    }
    let n_sub = PANEL_COLS / B::SUB;
    interleave(q, &mut panel.q);
    interleave::<64>(bytemuck::cast_ref(scale), bytemuck::cast_slice_mut(&mut panel.scale[..n_sub]));
    if B::HAS_MIN {
        interleave::<64>(bytemuck::cast_ref(min), bytemuck::cast_slice_mut(&mut panel.min[..n_sub]));
    }
}

#[target_feature(enable = "neon")]
fn unpack_blocks<B: Coded<N>, const N: usize>(rows: &PanelBytes<'_>, panel: &mut Panel) {
    unpack_rows::<B, N>(rows, panel, |row, q, scale, min| row_codes::<B, N>(row, q, scale, min));
}

/// Unpacking of a format of 32: what a block gives are its scale, its minimum and its codes.
macro_rules! unpack_32 {
    ($name:ident, $block:ty, |$b:ident| $codes:expr) => {
        #[target_feature(enable = "neon")]
        fn $name(rows: &PanelBytes<'_>, panel: &mut Panel) {
            unpack_rows::<$block, 32>(rows, panel, |row, q, scale, min| {
                let blocks = bytemuck::cast_slice::<u8, $block>(row).iter().zip(q.as_chunks_mut::<32>().0);
                for (($b, q), (scale, min)) in blocks.zip(scale.iter_mut().zip(min)) {
                    let codes: [uint8x16_t; 2];
                    (*scale, *min, codes) = $codes;
                    store_2(codes, q);
                }
            });
        }
    };
}

unpack_32!(unpack_q4_0, BlockQ4_0, |b| (half(b.d), 0.0, nibbles(load(&b.qs))));
unpack_32!(unpack_q4_1, BlockQ4_1, |b| (half(b.d), half(b.m), nibbles(load(&b.qs))));
unpack_32!(unpack_q5_0, BlockQ5_0, |b| (half(b.d), 0.0, fives(b.qh, &b.qs)));
unpack_32!(unpack_q5_1, BlockQ5_1, |b| (half(b.d), half(b.m), fives(b.qh, &b.qs)));
unpack_32!(unpack_q8_0, BlockQ8_0, |b| {
    (half(b.d), 0.0, load_2(&b.qs).map(|q| vaddq_u8(q, vdupq_n_u8(BlockQ8_0::OFFSET))))
});
unpack_32!(unpack_iq4_nl, BlockIq4Nl, |b| (half(b.d), 0.0, table_codes(&IQ4_VALUES, BlockIq4Nl::OFFSET, &b.qs)));
unpack_32!(unpack_mxfp4, BlockMxfp4, |b| (b.half_scale(), 0.0, table_codes(&FP4_DOUBLED, BlockMxfp4::OFFSET, &b.qs)));

#[target_feature(enable = "neon")]
fn unpack_iq4_xs(rows: &PanelBytes<'_>, panel: &mut Panel) {
    unpack_rows::<BlockIq4Xs, 256>(rows, panel, |row, q, scale, _| {
        for b in bytemuck::cast_slice::<u8, BlockIq4Xs>(row) {
            iq4_xs_scales(b, scale);
            for (q, qs) in q.as_chunks_mut::<32>().0.iter_mut().zip(b.qs.as_chunks::<16>().0) {
                store_2(table_codes(&IQ4_VALUES, BlockIq4Xs::OFFSET, qs), q);
            }
        }
    });
}

/// The values of a table for 32 nibbles, as codes.
#[inline]
#[target_feature(enable = "neon")]
fn table_codes(values: &[i8; 16], offset: u8, qs: &[u8; 16]) -> [uint8x16_t; 2] {
    look_up(values, nibbles(load(qs))).map(|value| vaddq_u8(vreinterpretq_u8_s8(value), vdupq_n_u8(offset)))
}

#[inline]
#[target_feature(enable = "neon")]
fn store_2(v: [uint8x16_t; 2], to: &mut [u8; 32]) {
    let (to, _) = to.as_chunks_mut::<16>();
    store(v[0], &mut to[0]);
    store(v[1], &mut to[1]);
}

/// Words of 32 bits of 32 rows, `[row][word]`, as `[word][row]`: squares of four are transposed.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn interleave<const BYTES: usize>(rows: &[[u8; BYTES]; PANEL_ROWS], out: &mut [[u8; 4 * PANEL_ROWS]]) {
    for (i, out) in out.as_chunks_mut::<4>().0.iter_mut().enumerate().take(BYTES / 16) {
        for (part, rows) in rows.as_chunks::<4>().0.iter().enumerate() {
            let [a, b, c, d] = transposed([
                load(&rows[0].as_chunks::<16>().0[i]),
                load(&rows[1].as_chunks::<16>().0[i]),
                load(&rows[2].as_chunks::<16>().0[i]),
                load(&rows[3].as_chunks::<16>().0[i]),
            ]);
            for (words, out) in [a, b, c, d].into_iter().zip(out.iter_mut()) {
                store(words, &mut out.as_chunks_mut::<16>().0[part]);
            }
        }
    }
}

/// A square of four by four words.
#[inline]
#[target_feature(enable = "neon")]
fn transposed(rows: [uint8x16_t; 4]) -> [uint8x16_t; 4] {
    let [a, b, c, d] = rows.map(|row| vreinterpretq_u32_u8(row));
    // words 0 and 2, then 1 and 3, of two rows
    let (even_ab, odd_ab) = (vtrn1q_u32(a, b), vtrn2q_u32(a, b));
    let (even_cd, odd_cd) = (vtrn1q_u32(c, d), vtrn2q_u32(c, d));
    let wide = |v| vreinterpretq_u64_u32(v);
    let (even_ab, odd_ab, even_cd, odd_cd) = (wide(even_ab), wide(odd_ab), wide(even_cd), wide(odd_cd));
    [vtrn1q_u64(even_ab, even_cd), vtrn1q_u64(odd_ab, odd_cd), vtrn2q_u64(even_ab, even_cd), vtrn2q_u64(odd_ab, odd_cd)]
        .map(|v| vreinterpretq_u8_u64(v))
}
