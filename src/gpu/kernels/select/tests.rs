//! The choice of tokens against sorting.

use super::*;
use crate::gpu::lint::{Subgroups, check};
use crate::gpu::pipelines::testing;

/// The records of rows of `n` logits that lie in rows of n + 3, from 5 on.
fn run(rows: &[Vec<f32>], k: u32, checked: bool) -> Option<Vec<Vec<u32>>> {
    let gpu = testing::gpu()?;
    let n = rows[0].len() as u32;
    let select = Select::new(n, n + 3, 5, k);
    // What lies between the rows is greater than they are.
    let mut logits = vec![1e9_f32; 5];
    rows.iter().for_each(|row| logits.extend(row.iter().copied().chain([1e9; 3])));
    let n_row = rows.len() as u32;
    let mut buffers = [
        bytemuck::cast_slice::<f32, u8>(&logits).to_vec(),
        vec![0xaa; 4 * select.part_words(n_row)],
        vec![0xaa; 4 * n_row as usize * select.record_words()],
        bytemuck::bytes_of(&select).to_vec(),
    ];
    for (kernel, grid) in select.stages(n_row) {
        let slices = [0, 1, 2, 3].map(|i: usize| &buffers[i][..]);
        let got = testing::run(&gpu, &kernel, &slices, grid, checked);
        let [_, part, out, _]: [Vec<u8>; 4] = got.try_into().expect("one buffer per slot");
        (buffers[1], buffers[2]) = (part, out);
    }
    let words: Vec<u32> = bytemuck::pod_collect_to_vec(&buffers[2]);
    Some(words.chunks_exact(select.record_words()).map(<[u32]>::to_vec).collect())
}

fn want(row: &[f32], k: u32) -> Vec<(f32, u32)> {
    let mut pairs: Vec<_> = row.iter().copied().zip(0..).collect();
    // Stable: lower indices stay in front of their equals, and -0 equals 0.
    pairs.sort_by(|a, b| b.0.partial_cmp(&a.0).expect("finite"));
    pairs.truncate(k as usize);
    pairs
}

/// Logits with many ties and both zeros.
fn logits(n: u32, seed: u32) -> Vec<f32> {
    let number = |i: u32| {
        let x = (i ^ seed).wrapping_mul(0x9e37_79b1).rotate_left(13).wrapping_mul(0x85eb_ca6b) >> 8;
        let x = (x % 3000) as f32 / 10.0 - 150.0;
        if !seed.is_multiple_of(2) && x > 0.0 { x * 0.0 * if i.is_multiple_of(2) { -1.0 } else { 1.0 } } else { x }
    };
    (0..n).map(number).collect()
}

#[test]
fn the_greatest_come_first_and_low_indices_win_ties() {
    for n in [1, 31, 64, 960, 961, 4097, 151_936] {
        let rows: Vec<_> = (0..if n > 100_000 { 2 } else { 3 }).map(|seed| logits(n, seed)).collect();
        for k in [1, 2, 40, 64] {
            for checked in [true, false] {
                let Some(records) = run(&rows, k, checked) else { return };
                for (row, record) in rows.iter().zip(&records) {
                    let got: Vec<_> = chosen(record).expect("finite").map(|(x, i)| (x.to_bits(), i)).collect();
                    let want: Vec<_> = want(row, k).into_iter().map(|(x, i)| (x.to_bits(), i)).collect();
                    assert_eq!(got, want, "n={n} k={k} checked={checked}");
                }
            }
        }
    }
}

#[test]
fn logits_that_are_not_finite_are_reported() {
    for wrong in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for k in [1, 5] {
            let rows = [logits(5000, 0), logits(5000, 2), logits(5000, 4)];
            for at in [0, 2500, 4999] {
                let mut rows = rows.clone();
                rows[1][at] = wrong;
                let Some(records) = run(&rows, k, false) else { return };
                let bad: Vec<bool> = records.iter().map(|r| chosen(r).is_none()).collect();
                assert_eq!(bad, [false, true, false], "{wrong} at {at}, k={k}");
            }
        }
    }
}

#[test]
fn kernels_pass_the_lint() {
    for k in [1, 2] {
        for (kernel, _) in Select::new(1, 1, 0, k).stages(1) {
            assert_eq!(check(&kernel, Subgroups::No), Vec::<String>::new(), "{}", kernel.label());
        }
    }
}
