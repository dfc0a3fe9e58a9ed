//! Panels of every set against the specification, and that against f64 over dequantized rows.

use super::super::codes::Coding;
use super::super::panel::Unpack;
use super::*;

/// Blocks of random bits, without the exponents of infinity wherever scales lie.
fn random_blocks(ty: BlockType, n_row: usize, n: usize, random: &mut Random) -> Vec<u8> {
    let mut rows = vec![0; n_row * (n / ty.block_len()) * ty.block_bytes()];
    rows.fill_with(|| random.bits() as u8 & if random.below(8) == 0 { 0xff } else { 0x3b });
    let mut values = vec![0.0; n_row * n];
    dequantize(ty, &rows, &mut values).unwrap();
    // random bits that hit an exponent of infinity, or a huge scale, would say nothing about the rest
    for (block, values) in rows.chunks_exact_mut(ty.block_bytes()).zip(values.chunks_exact(ty.block_len())) {
        if values.iter().any(|v| !v.is_finite() || v.abs() > 1e4) {
            block.iter_mut().for_each(|b| *b &= 0x3b);
        }
    }
    rows
}

fn coded() -> impl Iterator<Item = (BlockType, Coding)> {
    BlockType::ALL.iter().filter_map(|&ty| Some((ty, Coding::of(ty)?)))
}

/// Lengths of rows: whole panels, parts of them, and less than one.
fn row_lens(ty: BlockType) -> Vec<usize> {
    match ty.block_len() {
        1 => vec![1, 17, 64, 255, 256, 257, 600],
        256 => vec![256, 512, 1280],
        n => vec![n, 3 * n, 256, 256 + n, 512 + 2 * n],
    }
}

/// Quantized activations of tokens, in one of the two layouts.
struct Tokens {
    q: Vec<i8>,
    d: Vec<f32>,
    sums: Vec<i16>,
    kind: ActivationKind,
    n: usize,
    token_stride: usize,
    block_stride: usize,
}

impl Tokens {
    fn new(kind: ActivationKind, x: &[Vec<f32>], by_block: bool) -> Self {
        let n = x[0].len();
        let (token_stride, block_stride) = if by_block { (256, 256 * x.len()) } else { (n, 256) };
        let reach = x.len() * n.next_multiple_of(256) + 256;
        let mut to = Self {
            q: vec![99; reach],
            d: vec![f32::NAN; reach / kind.block_len()],
            sums: vec![9999; reach / SUM_LEN],
            kind,
            n,
            token_stride,
            block_stride,
        };
        for (t, x) in x.iter().enumerate() {
            let from = Quantized::new(&KernelSet::SCALAR, kind, x);
            for i in 0..n {
                let at = i / 256 * block_stride + t * token_stride + i % 256;
                to.q[at] = from.q[i];
                to.d[at / kind.block_len()] = from.d[i / kind.block_len()];
                to.sums[at / SUM_LEN] = from.sums[i / SUM_LEN];
            }
        }
        to
    }

    fn rows(&self) -> Rows8<'_> {
        Rows8 {
            q: &self.q,
            d: &self.d,
            sums: &self.sums,
            kind: self.kind,
            n: self.n,
            token_stride: self.token_stride,
            block_stride: self.block_stride,
        }
    }
}

/// The product by panels, [token][row].
fn matmul(set: &KernelSet, ty: BlockType, rows: &[u8], n_row: usize, x: &[Vec<f32>], by_block: bool) -> Vec<Vec<f32>> {
    let mut panel = Panel::new();
    let mut c = vec![[f32::NAN; PANEL_ROWS]; x.len()];
    match ActivationKind::of(ty) {
        ActivationKind::F32 => {
            let x: Vec<&[f32]> = x.iter().map(|x| &x[..]).collect();
            set.matmul_f32(ty, rows, &x, &mut panel, &mut c);
        }
        kind => {
            let tokens = Tokens::new(kind, x, by_block);
            // in two parts, which must not matter
            let half = x.len() / 2;
            let (first, second) = c.split_at_mut(half);
            set.matmul_q8(ty, rows, &tokens.rows(), 0..half, &mut panel, first);
            set.matmul_q8(ty, rows, &tokens.rows(), half..x.len(), &mut panel, second);
        }
    }
    c.iter().map(|c| c[..n_row].to_vec()).collect()
}

/// Whether the set sums so many tokens in its own order.
fn takes_whole_blocks(set: &KernelSet, ty: BlockType, n_token: usize) -> bool {
    (set.panels.whole_blocks)(ty).is_some_and(|whole| n_token >= whole.min_tokens)
}

fn bits(c: &[Vec<f32>]) -> Vec<Vec<u32>> {
    c.iter().map(|c| c.iter().map(|c| c.to_bits()).collect()).collect()
}

#[test]
fn codes_scales_and_minimums_are_the_weights() {
    for (ty, coding) in coded() {
        let mut random = Random(21 + u64::from(ty.id()));
        let n = 1024;
        let rows = random_blocks(ty, 32, n, &mut random);
        let mut want = vec![0.0; 32 * n];
        dequantize(ty, &rows, &mut want).unwrap();
        let unpack: Unpack = (KernelSet::SCALAR.panels.unpack)(ty).unwrap();
        let row_bytes = rows.len() / 32;
        for block in 0..n / 256 {
            let bytes = row_bytes / (n / 256);
            let parts = std::array::from_fn(|r| &rows[r * row_bytes + block * bytes..][..bytes]);
            let mut panel = Panel::new();
            // SAFETY: the scalar set needs no features.
            unsafe { unpack(&parts, &mut panel) };
            for (r, want) in want.chunks_exact(n).enumerate() {
                for (i, &want) in want[256 * block..][..256].iter().enumerate() {
                    let (q, s) = (panel.q[i / 4][4 * r + i % 4], i / coding.sub);
                    assert!(q <= coding.max, "{ty} code {q}");
                    let min = if coding.has_min { panel.min[s][r] } else { 0.0 };
                    let got = panel.scale[s][r] * (f32::from(q) - f32::from(coding.offset)) + min;
                    let bound = 4e-7 * (want.abs() + min.abs());
                    assert!((got - want).abs() <= bound, "{ty} row {r} element {i}: {got} vs {want}");
                }
            }
        }
    }
}

#[test]
fn panels_are_the_same_in_every_set() {
    for set in KernelSet::available() {
        for (ty, coding) in coded() {
            let mut random = Random(22 + u64::from(ty.id()));
            for n in row_lens(ty).into_iter().filter(|&n| n <= 256) {
                let rows = random_blocks(ty, 32, n, &mut random);
                let row_bytes = rows.len() / 32;
                let parts = std::array::from_fn(|r| &rows[r * row_bytes..][..row_bytes]);
                let (mut want, mut got) = (Panel::new(), Panel::new());
                // SAFETY: a `KernelSet` exists only if its features were detected.
                unsafe { (KernelSet::SCALAR.panels.unpack)(ty).unwrap()(&parts, &mut want) };
                // SAFETY: as above.
                unsafe { (set.panels.unpack)(ty).unwrap()(&parts, &mut got) };
                assert!(want.q[..n / 4] == got.q[..n / 4], "{} {ty} {n}: codes", set.name());
                for s in 0..n / coding.sub {
                    let same = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| a == b);
                    assert!(same(&want.scale[s], &got.scale[s]), "{} {ty} {n}: scales of {s}", set.name());
                    if coding.has_min {
                        assert!(same(&want.min[s], &got.min[s]), "{} {ty} {n}: minimums of {s}", set.name());
                    }
                }
            }
        }
    }
}

#[test]
fn panel_products_have_the_same_bits_in_every_set_and_layout() {
    let types = coded().map(|(ty, _)| ty).chain([BlockType::F32, BlockType::F16, BlockType::Bf16]);
    for ty in types {
        let mut random = Random(23 + u64::from(ty.id()));
        for (i, n) in row_lens(ty).into_iter().enumerate() {
            let n_row = [32, 1, 31, 7, 32, 13, 2][i];
            let rows = match ty.block_len() {
                1 => random_rows(ty, n_row, n, &mut random),
                _ => random_blocks(ty, n_row, n, &mut random),
            };
            for n_token in [1, 2, 3, 5, 6, 7, 11, 16, 70] {
                let x: Vec<_> = (0..n_token).map(|_| random.units(n)).collect();
                let want = matmul(&KernelSet::SCALAR, ty, &rows, n_row, &x, false);
                for (x, c) in x.iter().zip(&want) {
                    for (got, (exact, size)) in c.iter().zip(matvec_f64(ty, &rows, x, n_row)) {
                        let error = (f64::from(*got) - exact).abs();
                        assert!(error <= 2e-6 * size + 1e-30, "{ty} {n_row} x {n}: {got} vs {exact} of {size}");
                    }
                }
                for set in KernelSet::available() {
                    for by_block in [false, true] {
                        let got = matmul(&set, ty, &rows, n_row, &x, by_block);
                        if takes_whole_blocks(&set, ty, n_token / 2) {
                            continue;
                        }
                        assert!(
                            bits(&want) == bits(&got),
                            "{} {ty} {n_row} x {n}, {n_token} tokens, {by_block}",
                            set.name()
                        );
                    }
                }
                // the specification's row product over codes sums in the same order
                if let Some(matvec) = (KernelSet::SCALAR.matvec_codes)(ty) {
                    for (x, want) in x.iter().zip(&want) {
                        let mut out = vec![f32::NAN; n_row];
                        let x = Quantized::new(&KernelSet::SCALAR, ActivationKind::of(ty), x);
                        // SAFETY: the scalar set needs no features.
                        unsafe { matvec(&rows, x.row(), &mut out) };
                        assert!(bits(&[out]) == bits(std::slice::from_ref(want)), "{ty} {n_row} x {n}: row product");
                    }
                }
            }
        }
    }
}

#[test]
fn extreme_codes_and_activations_do_not_overflow_panels() {
    for set in KernelSet::available() {
        for (ty, _) in coded() {
            for fill in [0x00, 0x7f, 0x80, 0xff] {
                let n = 1024;
                let mut rows = vec![fill; 32 * (n / ty.block_len()) * ty.block_bytes()];
                // halves at both ends of a block, where scales lie, are finite; other bytes of scales may be any
                for block in rows.chunks_exact_mut(ty.block_bytes()) {
                    let last = block.len() - 1;
                    for at in [1, 3, last, last - 2] {
                        block[at] &= 0x3f;
                    }
                }
                for sign in [1.0, -1.0] {
                    let x = vec![vec![sign; n]; 7];
                    let want = matmul(&KernelSet::SCALAR, ty, &rows, 32, &x, true);
                    let got = matmul(&set, ty, &rows, 32, &x, true);
                    assert!(bits(&want) == bits(&got), "{} {ty} of {fill:x} times {sign}", set.name());
                    // many tokens may go another way, whose sums are those of equal tokens as well
                    let many = matmul(&set, ty, &rows, 32, &vec![vec![sign; n]; 70], true);
                    for (got, want) in many.iter().flat_map(|got| got.iter().zip(&want[0])) {
                        assert!(
                            close(*got, *want, 4e-6 * want.abs()),
                            "{} {ty} of {fill:x}: {got} vs {want}",
                            set.name()
                        );
                    }
                    let (exact, size) = matvec_f64(ty, &rows, &x[0], 32)[0];
                    let error = (f64::from(want[0][0]) - exact).abs();
                    assert!(
                        !exact.is_finite() || error <= 4e-6 * size + 1e-30,
                        "{ty} of {fill:x}: {} vs {exact}",
                        want[0][0]
                    );
                }
            }
        }
    }
}

fn close(a: f32, b: f32, bound: f32) -> bool {
    a.to_bits() == b.to_bits() || (a - b).abs() <= bound || a.is_nan() && b.is_nan()
}

#[test]
fn whole_blocks_are_exact_where_numbers_hold_their_integers() {
    for set in KernelSet::available() {
        for (ty, _) in coded() {
            let Some(whole) = (set.panels.whole_blocks)(ty) else { continue };
            let mut random = Random(24 + u64::from(ty.id()));
            let n = 256;
            let mut rows = random_blocks(ty, 32, n, &mut random);
            let block_bytes = ty.block_bytes();
            for block in rows.chunks_exact_mut(block_bytes) {
                // scales of 1, where the format has them
                let one = [0x00, 0x3c];
                match ty {
                    BlockType::Q2K => block[80..84].copy_from_slice(&[one, one].concat()),
                    BlockType::Q4K | BlockType::Q5K => block[..4].copy_from_slice(&[one, one].concat()),
                    BlockType::Iq4Xs => block[..2].copy_from_slice(&one),
                    _ => block[block_bytes - 2..].copy_from_slice(&one),
                }
            }
            for n_token in [whole.min_tokens, whole.min_tokens + 1, 3 * whole.min_tokens - 1] {
                // quants and scales so small that sums stay below 2^24
                let mut tokens = Tokens::new(ActivationKind::Q8K, &vec![vec![0.0; n]; n_token], true);
                tokens.q.fill_with(|| random.below(15) as i8 - 7);
                tokens.d.fill(1.0);
                for (sum, q) in tokens.sums.iter_mut().zip(tokens.q.as_chunks::<16>().0) {
                    *sum = q.iter().map(|&q| i16::from(q)).sum();
                }
                let mut c = vec![[f32::NAN; PANEL_ROWS]; n_token];
                set.matmul_q8(ty, &rows, &tokens.rows(), 0..n_token, &mut Panel::new(), &mut c);
                let mut w = vec![0.0; 32 * n];
                dequantize(ty, &rows, &mut w).unwrap();
                for (t, c) in c.iter().enumerate() {
                    let x = &tokens.q[n * t..][..n];
                    for (r, (got, w)) in c.iter().zip(w.chunks_exact(n)).enumerate() {
                        let want: f64 = w.iter().zip(x).map(|(&w, &x)| f64::from(w) * f64::from(x)).sum();
                        let case = format!("{} {ty} token {t} of {n_token} row {r}", set.name());
                        assert!(f64::from(*got) == want, "{case}: {got} vs {want}");
                    }
                }
            }
        }
    }
}

#[test]
fn whole_blocks_have_the_same_bits_for_every_cut_of_tokens_and_layout() {
    for set in KernelSet::available() {
        for (ty, _) in coded().filter(|&(ty, _)| takes_whole_blocks(&set, ty, 32)) {
            let mut random = Random(25 + u64::from(ty.id()));
            let (n, n_row) = (1280, 31);
            let rows = random_blocks(ty, n_row, n, &mut random);
            let x: Vec<_> = (0..111).map(|_| random.units(n)).collect();
            let want = matmul(&set, ty, &rows, n_row, &x, false);
            for (x, c) in x.iter().zip(&want) {
                for (got, (exact, size)) in c.iter().zip(matvec_f64(ty, &rows, x, n_row)) {
                    let error = (f64::from(*got) - exact).abs();
                    assert!(error <= 2e-6 * size + 1e-30, "{} {ty}: {got} vs {exact} of {size}", set.name());
                }
            }
            assert!(bits(&want) == bits(&matmul(&set, ty, &rows, n_row, &x, true)), "{} {ty} by block", set.name());
            let some = matmul(&set, ty, &rows, n_row, &x[..97], true);
            assert!(bits(&want[..97]) == bits(&some), "{} {ty}: other cuts", set.name());
        }
    }
}
