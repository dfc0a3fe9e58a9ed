//! Unpacking to panels: codes as the specification says, compiled for these instructions, row by row;
//! then rows and columns change places in registers.

use super::super::codes::{Coded, CodedVisitor, visit_coded};
use super::super::panel::{PANEL_COLS, PANEL_ROWS, Panel, PanelBytes, RowBuffers, Unpack};
use super::super::scalar::panel::row_codes;
use super::{load, prefetch_next, store};
use std::arch::aarch64::*;
use tealight_quant::BlockType;

pub(super) fn unpack(ty: BlockType) -> Option<Unpack> {
    struct Pick;
    impl CodedVisitor for Pick {
        type Output = Unpack;
        fn visit<B: Coded<N>, const N: usize>(self) -> Unpack {
            unpack_blocks::<B, N>
        }
    }
    visit_coded(ty, Pick)
}

#[target_feature(enable = "neon")]
fn unpack_blocks<B: Coded<N>, const N: usize>(rows: &PanelBytes<'_>, panel: &mut Panel) {
    let RowBuffers { q, scale, min } = &mut panel.rows;
    let out = q.iter_mut().zip(scale.iter_mut().zip(min.iter_mut()));
    for (row, (q, (scale, min))) in rows.iter().zip(out) {
        prefetch_next(row);
        row_codes::<B, N>(row, q, scale, min);
    }
    let n_sub = PANEL_COLS / B::SUB;
    interleave(q, &mut panel.q);
    interleave::<64>(bytemuck::cast_ref(scale), bytemuck::cast_slice_mut(&mut panel.scale[..n_sub]));
    if B::HAS_MIN {
        interleave::<64>(bytemuck::cast_ref(min), bytemuck::cast_slice_mut(&mut panel.min[..n_sub]));
    }
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
