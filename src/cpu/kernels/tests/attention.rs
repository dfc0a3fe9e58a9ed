//! Attention's products against f64, and a query alone against the same among others.

use super::super::attention::{CHUNK, CacheNumber, KEY_GROUP};
use super::*;

/// Shapes: queries, width of keys, width of values, positions.
const SHAPES: [(usize, usize, usize, usize); 9] = [
    (1, 64, 64, 64),
    (1, 8, 8, 17),
    (3, 16, 24, 33),
    (4, 128, 128, 64),
    (5, 80, 96, 50),
    (8, 32, 40, 1),
    (9, 64, 80, 48),
    (13, 7, 9, 31),
    (30, 256, 112, 63),
];

fn check<T: CacheNumber>(set: &KernelSet, number: impl Fn(f32) -> T, value: impl Fn(T) -> f64) {
    for (case, &(n_query, dk, dv, n)) in SHAPES.iter().enumerate() {
        let mut random = Random(91 + case as u64);
        let n_group = n.div_ceil(KEY_GROUP);
        // groups lie apart, as heads share a group's dimensions
        let stride = (dk + 3) * KEY_GROUP;
        let q = random.units(n_query * dk);
        let keys: Vec<T> = random.units(n_group * stride).into_iter().map(&number).collect();
        let mut scores = vec![f32::NAN; n_query * CHUNK];
        set.scores(&q, dk, &keys, stride, n_group, &mut scores);
        for (i, q) in q.chunks_exact(dk).enumerate() {
            for j in 0..n_group * KEY_GROUP {
                let key = |d: usize| value(keys[j / KEY_GROUP * stride + d * KEY_GROUP + j % KEY_GROUP]);
                let products = (0..dk).map(|d| f64::from(q[d]) * key(d));
                let (want, size) = products.fold((0.0, 1e-30), |(s, a), p: f64| (s + p, a + p.abs()));
                let got = scores[i * CHUNK + j];
                assert!((f64::from(got) - want).abs() < 1e-6 * size, "{} case {case}: {got} {want}", set.name());
            }
            let mut alone = vec![0.0; CHUNK];
            set.scores(q, dk, &keys, stride, n_group, &mut alone);
            assert_eq!(alone[..n_group * KEY_GROUP], scores[i * CHUNK..][..n_group * KEY_GROUP]);
        }
        let row = dv + 5;
        let p = random.units(n_query * CHUNK);
        let values: Vec<T> = random.units(n * row).into_iter().map(&number).collect();
        let before = random.units(n_query * dv);
        let mut sums = before.clone();
        set.add_values(&p, &values, row, n, dv, &mut sums);
        for i in 0..n_query {
            let p = &p[i * CHUNK..][..CHUNK];
            for c in 0..dv {
                let start = f64::from(before[i * dv + c]);
                let products = (0..n).map(|j| f64::from(p[j]) * value(values[j * row + c]));
                let (want, size) = products.fold((start, start.abs()), |(s, a), p| (s + p, a + p.abs()));
                let got = sums[i * dv + c];
                assert!((f64::from(got) - want).abs() < 1e-6 * size, "{} case {case}: {got} {want}", set.name());
            }
            let mut alone = before[i * dv..][..dv].to_vec();
            set.add_values(p, &values, row, n, dv, &mut alone);
            assert_eq!(alone, sums[i * dv..][..dv], "{} case {case}", set.name());
        }
    }
}

#[test]
fn scores_and_sums_of_values_equal_f64() {
    for set in KernelSet::available() {
        check(&set, |x| x, f64::from);
        check(&set, f16::from_f32, f16::to_f64);
    }
}
