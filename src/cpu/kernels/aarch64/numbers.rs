//! Panels of plain numbers.
#![allow(clippy::needless_range_loop)] // tokens and vectors are lanes of several arrays

use super::super::panel::{PANEL_ROWS, Panel, PanelBytes, Unpack};
use super::panel::HALF;
use super::unpack::interleave;
use super::{load_f32, prefetch_next, store_f32};
use std::arch::aarch64::*;
use tealight_quant::BlockType;

pub(super) fn unpack_f32(ty: BlockType) -> Option<Unpack> {
    match ty {
        BlockType::F32 => Some(unpack_rows_f32),
        BlockType::F16 => Some(unpack_rows_f16),
        BlockType::Bf16 => Some(unpack_rows_bf16),
        _ => None,
    }
}

/// Unpacks rows of numbers of `N_BYTES` bytes for 4; 4 columns at a time.
#[inline]
#[target_feature(enable = "neon")]
fn unpack_numbers<const N_BYTES: usize>(
    rows: &PanelBytes<'_>,
    panel: &mut Panel,
    load: impl Fn([u8; N_BYTES]) -> float32x4_t,
) {
    rows.iter().for_each(|row| prefetch_next(row));
    for (i, out) in panel.w.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        let mut w = [[0f32; 4]; PANEL_ROWS];
        for (row, w) in rows.iter().zip(&mut w) {
            let rest = row.get(i * N_BYTES..).unwrap_or_default();
            let x = rest.first_chunk().copied().unwrap_or_else(|| {
                let mut x = [0; N_BYTES];
                x[..rest.len()].copy_from_slice(rest);
                x
            });
            store_f32(load(x), w);
        }
        interleave::<16>(bytemuck::cast_ref(&w), bytemuck::cast_slice_mut(out));
    }
}

#[target_feature(enable = "neon")]
fn unpack_rows_f32(rows: &PanelBytes<'_>, panel: &mut Panel) {
    unpack_numbers(rows, panel, |x: [u8; 16]| vreinterpretq_f32_u8(super::load(&x)));
}

#[target_feature(enable = "neon")]
fn unpack_rows_f16(rows: &PanelBytes<'_>, panel: &mut Panel) {
    unpack_numbers(rows, panel, |x: [u8; 8]| vcvt_f32_f16(vreinterpret_f16_u64(vcreate_u64(u64::from_le_bytes(x)))));
}

#[target_feature(enable = "neon")]
fn unpack_rows_bf16(rows: &PanelBytes<'_>, panel: &mut Panel) {
    unpack_numbers(rows, panel, |x: [u8; 8]| {
        vreinterpretq_f32_u32(vshll_n_u16::<16>(vcreate_u16(u64::from_le_bytes(x))))
    });
}

#[target_feature(enable = "neon")]
pub(super) fn product_f32(w: &[[f32; PANEL_ROWS]], x: &[&[f32]], first: usize, c: &mut [[f32; PANEL_ROWS]]) {
    for half in 0..PANEL_ROWS / HALF {
        let (x_fours, x) = x.as_chunks::<4>();
        let (c_fours, c) = c.as_chunks_mut::<4>();
        for (x, c) in x_fours.iter().zip(c_fours) {
            tile(w, half, x, first, c);
        }
        for (x, c) in x.as_chunks::<1>().0.iter().zip(c.as_chunks_mut::<1>().0) {
            tile(w, half, x, first, c);
        }
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn tile<const T: usize>(
    w: &[[f32; PANEL_ROWS]],
    half: usize,
    x: &[&[f32]; T],
    first: usize,
    c: &mut [[f32; PANEL_ROWS]; T],
) {
    let x = x.map(|x| &x[first..][..w.len()]);
    let mut sum = [[vdupq_n_f32(0.0); 4]; T];
    for (k, w) in w.iter().enumerate() {
        let w = &w.as_chunks::<4>().0[4 * half..][..4];
        for t in 0..T {
            for v in 0..4 {
                sum[t][v] = vfmaq_n_f32(sum[t][v], load_f32(&w[v]), x[t][k]);
            }
        }
    }
    for t in 0..T {
        for (sum, c) in sum[t].into_iter().zip(&mut c[t].as_chunks_mut::<4>().0[4 * half..]) {
            store_f32(vaddq_f32(load_f32(c), sum), c);
        }
    }
}
