//! The specification of panels, and of row products over codes.

use super::super::codes::{Coded, CodedVisitor, Coding, visit_coded};
use super::super::panel::{PANEL_COLS, PANEL_ROWS, Panel, PanelBytes, PanelKernels, PanelWork, Rows8};
use super::super::panel::{Token, Unpack};
use super::super::{ActivationKind, MatvecQ8, Row8, SUM_LEN};
use std::ops::Range;
use tealight_quant::BlockType;

pub(in crate::cpu::kernels) const PANELS: PanelKernels =
    PanelKernels { whole_blocks: |_| None, unpack, unpack_f32, product: |_, _| product, product_f32 };

/// Codes of the columns of a row, with their scales and minimums by sub-block.
#[inline(always)]
pub(in crate::cpu::kernels) fn row_codes<B: Coded<N>, const N: usize>(
    row: &[u8],
    q: &mut [u8; PANEL_COLS],
    scale: &mut [f32; PANEL_COLS / SUM_LEN],
    min: &mut [f32; PANEL_COLS / SUM_LEN],
) {
    let n_sub = N / B::SUB;
    let subs = scale.chunks_exact_mut(n_sub).zip(min.chunks_exact_mut(n_sub));
    let blocks = bytemuck::cast_slice::<u8, B>(row).iter().zip(q.as_chunks_mut::<N>().0);
    for ((block, q), (scale, min)) in blocks.zip(subs) {
        block.codes(q, scale, min);
    }
}

fn unpack(ty: BlockType) -> Option<Unpack> {
    struct Pick;
    impl CodedVisitor for Pick {
        type Output = Unpack;
        fn visit<B: Coded<N>, const N: usize>(self) -> Unpack {
            unpack_blocks::<B, N>
        }
    }
    visit_coded(ty, Pick)
}

fn unpack_blocks<B: Coded<N>, const N: usize>(rows: &PanelBytes<'_>, panel: &mut Panel) {
    for (r, row) in rows.iter().enumerate() {
        let (mut q, mut scale, mut min) = ([0; PANEL_COLS], [0.0; _], [0.0; _]);
        row_codes::<B, N>(row, &mut q, &mut scale, &mut min);
        for (q, to) in q.as_chunks::<4>().0.iter().zip(&mut panel.q) {
            to.as_chunks_mut::<4>().0[r] = *q;
        }
        for ((to_scale, to_min), (scale, min)) in
            panel.scale.iter_mut().zip(&mut panel.min).zip(scale.into_iter().zip(min))
        {
            (to_scale[r], to_min[r]) = (scale, min);
        }
    }
}

/// The sum of the quants of a sub-block.
fn sub_sum(sums: &[i16; PANEL_COLS / SUM_LEN], sub: usize, s: usize) -> i32 {
    let n = sub / SUM_LEN;
    sums[s * n..][..n].iter().map(|&s| i32::from(s)).sum()
}

/// What the f32 part of a sub-block takes from the activations: the factor of its dot, and that of
/// its minimum.
fn factors(kind: ActivationKind, d: &[f32], sub: usize, s: usize, sum: i32) -> (f32, f32) {
    match kind {
        ActivationKind::Q8_0 => (d[s * sub / 32], d[s * sub / 32] * sum as f32),
        _ => (1.0, sum as f32),
    }
}

fn product(work: &PanelWork<'_>, x: &Rows8<'_>, block: usize, tokens: Range<usize>, c: &mut [[f32; PANEL_ROWS]]) {
    let PanelWork { panel, coding: Coding { sub, offset, has_min, .. }, n_sub } = *work;
    for (token, c) in tokens.zip(c) {
        let Token { q, d, sums } = x.token(token, block);
        let q = q.as_chunks::<4>().0;
        let is_q8_k = x.kind == ActivationKind::Q8K;
        let mut acc = if is_q8_k { [0.0; PANEL_ROWS] } else { *c };
        for s in 0..n_sub {
            let sum = sub_sum(sums, sub, s);
            let mut dot = [-i32::from(offset) * sum; PANEL_ROWS];
            for (w, q) in panel.q.iter().zip(q).skip(s * sub / 4).take(sub / 4) {
                for (w, dot) in w.as_chunks::<4>().0.iter().zip(&mut dot) {
                    *dot += w.iter().zip(q).map(|(&w, &q)| i32::from(w) * i32::from(q)).sum::<i32>();
                }
            }
            let (factor, min_factor) = factors(x.kind, d, sub, s, sum);
            for (r, acc) in acc.iter_mut().enumerate() {
                *acc = (dot[r] as f32 * factor).mul_add(panel.scale[s][r], *acc);
                if has_min {
                    *acc = panel.min[s][r].mul_add(min_factor, *acc);
                }
            }
        }
        *c = if is_q8_k { std::array::from_fn(|r| acc[r].mul_add(d[0], c[r])) } else { acc };
    }
}

/// The row product over the codes of a type: bit for bit what a panel gives.
pub(in crate::cpu::kernels) fn matvec_codes(ty: BlockType) -> Option<MatvecQ8> {
    struct Pick;
    impl CodedVisitor for Pick {
        type Output = MatvecQ8;
        fn visit<B: Coded<N>, const N: usize>(self) -> MatvecQ8 {
            matvec_codes_q8::<B, N>
        }
    }
    visit_coded(ty, Pick)
}

fn matvec_codes_q8<B: Coded<N>, const N: usize>(rows: &[u8], x: Row8<'_>, out: &mut [f32]) {
    let kind = if N == PANEL_COLS { ActivationKind::Q8K } else { ActivationKind::Q8_0 };
    let (per_sum, per_scale) = (N / SUM_LEN, N / kind.block_len());
    super::each_row(rows, out, |row: &[B]| {
        let blocks = row.iter().zip(x.q.as_chunks::<N>().0);
        let factors_of = x.d.chunks_exact(per_scale).zip(x.sums.chunks_exact(per_sum));
        blocks.zip(factors_of).fold(0.0, |total: f32, ((block, x), (d, sums))| {
            let (mut q, mut scale, mut min) = ([0; N], [0.0; PANEL_COLS / SUM_LEN], [0.0; PANEL_COLS / SUM_LEN]);
            block.codes(&mut q, &mut scale[..N / B::SUB], &mut min[..N / B::SUB]);
            let mut acc = if kind == ActivationKind::Q8K { 0.0 } else { total };
            for (s, (q, x)) in q.chunks_exact(B::SUB).zip(x.chunks_exact(B::SUB)).enumerate() {
                let n_sum = B::SUB / SUM_LEN;
                let sum = sums[s * n_sum..][..n_sum].iter().map(|&s| i32::from(s)).sum::<i32>();
                let products = q.iter().zip(x).map(|(&w, &x)| i32::from(w) * i32::from(x));
                let dot = products.sum::<i32>() - i32::from(B::OFFSET) * sum;
                let (factor, min_factor) = factors(kind, d, B::SUB, s, sum);
                acc = (dot as f32 * factor).mul_add(scale[s], acc);
                if B::HAS_MIN {
                    acc = min[s].mul_add(min_factor, acc);
                }
            }
            if kind == ActivationKind::Q8K { acc.mul_add(d[0], total) } else { acc }
        })
    });
}

fn unpack_f32(ty: BlockType) -> Option<Unpack> {
    ty.is_float().then_some(match ty {
        BlockType::F32 => |rows, panel| unpack_numbers(BlockType::F32, rows, panel),
        BlockType::F16 => |rows, panel| unpack_numbers(BlockType::F16, rows, panel),
        _ => |rows, panel| unpack_numbers(BlockType::Bf16, rows, panel),
    })
}

fn unpack_numbers(ty: BlockType, rows: &PanelBytes<'_>, panel: &mut Panel) {
    for (r, row) in rows.iter().enumerate() {
        let mut w = [0.0; PANEL_COLS];
        let n = row.len() / ty.block_bytes();
        tealight_quant::dequantize(ty, row, &mut w[..n]).expect("a whole number of elements");
        for (w, to) in w.into_iter().zip(&mut panel.w) {
            to[r] = w;
        }
    }
}

fn product_f32(w: &[[f32; PANEL_ROWS]], x: &[&[f32]], first: usize, c: &mut [[f32; PANEL_ROWS]]) {
    for (x, c) in x.iter().zip(c) {
        let mut acc = [0f32; PANEL_ROWS];
        for (w, &x) in w.iter().zip(&x[first..]) {
            for (w, acc) in w.iter().zip(&mut acc) {
                *acc = w.mul_add(x, *acc);
            }
        }
        for (acc, c) in acc.iter().zip(c) {
            *c += acc;
        }
    }
}
