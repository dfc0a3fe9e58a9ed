//! What row products of all formats have in common, for functions of any instruction set.

/// A row product of all rows from the dot products of `$n` rows and of one.
macro_rules! matvec_rows {
    ($features:literal, $name:ident, $dot:ident, $block:ty, $n:literal) => {
        #[target_feature(enable = $features)]
        pub(in crate::cpu::kernels) fn $name(rows: &[u8], x: Row8<'_>, out: &mut [f32]) {
            let row_bytes = rows.len() / out.len().max(1);
            let row = |r: usize| bytemuck::cast_slice::<u8, $block>(&rows[r * row_bytes..][..row_bytes]);
            let (groups, last) = out.as_chunks_mut::<$n>();
            let n_grouped = $n * groups.len();
            for (i, out) in groups.iter_mut().enumerate() {
                let mut rows = [row($n * i); $n];
                rows.iter_mut().enumerate().for_each(|(r, to)| *to = row($n * i + r));
                *out = $dot(rows, x);
            }
            for (i, out) in last.iter_mut().enumerate() {
                [*out] = $dot([row(n_grouped + i)], x);
            }
        }
    };
}

/// The dot products of rows of blocks of less than 256: `$step` adds what `$per` of them give.
macro_rules! dot_rows_by {
    ($features:literal, $name:ident, $block:ty, $per:literal, $step:ident) => {
        #[inline]
        #[target_feature(enable = $features)]
        fn $name<const R: usize>(rows: [&[$block]; R], x: Row8<'_>) -> [f32; R] {
            const N: usize = $per * <$block>::LEN;
            let mut acc = [_mm256_setzero_ps(); R];
            let (q, q_tail) = x.q.as_chunks::<N>();
            let (d, d_tail) = x.d.as_chunks::<{ N / 32 }>();
            let (sums, sums_tail) = x.sums.as_chunks::<{ N / 16 }>();
            for (i, ((q, d), sums)) in q.iter().zip(d).zip(sums).enumerate() {
                let blocks = rows.map(|row| &row.as_chunks::<$per>().0[i]);
                blocks.iter().for_each(|blocks| prefetch(*blocks, size_of::<[$block; $per]>()));
                $step(&mut acc, blocks, q, d, sums);
            }
            if !q_tail.is_empty() {
                // fewer blocks at the end go with zeros
                let (mut q, mut d, mut sums) = ([0; N], [0.0; N / 32], [0; N / 16]);
                q[..q_tail.len()].copy_from_slice(q_tail);
                d[..d_tail.len()].copy_from_slice(d_tail);
                sums[..sums_tail.len()].copy_from_slice(sums_tail);
                let mut blocks = [[<$block as bytemuck::Zeroable>::zeroed(); $per]; R];
                for (blocks, row) in blocks.iter_mut().zip(rows) {
                    let tail = row.as_chunks::<$per>().1;
                    blocks[..tail.len()].copy_from_slice(tail);
                }
                $step(&mut acc, blocks.each_ref(), &q, &d, &sums);
            }
            acc.map(|acc| sum_256(acc))
        }
    };
}

pub(super) use {dot_rows_by, matvec_rows};
