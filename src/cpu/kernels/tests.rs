//! Every kernel set against the scalar one, and the scalar one against f64 over dequantized rows.

use super::*;
mod attention;
mod blocks;
mod panel;

use half::bf16;

/// Uniform numbers by xorshift64*.
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// In -1..1.
    fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    fn units(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.unit()).collect()
    }

    fn below(&mut self, n: usize) -> usize {
        (self.bits() >> 33) as usize % n
    }
}

const WEIGHTS: [BlockType; 28] = [
    BlockType::F32,
    BlockType::F16,
    BlockType::Bf16,
    BlockType::Q4_0,
    BlockType::Q4_1,
    BlockType::Q8_0,
    BlockType::Q4K,
    BlockType::Q6K,
    BlockType::Q5_0,
    BlockType::Q5_1,
    BlockType::Iq4Nl,
    BlockType::Mxfp4,
    BlockType::Q2K,
    BlockType::Q3K,
    BlockType::Q5K,
    BlockType::Iq4Xs,
    BlockType::Iq1S,
    BlockType::Iq1M,
    BlockType::Iq2Xxs,
    BlockType::Iq2Xs,
    BlockType::Iq2S,
    BlockType::Iq3Xxs,
    BlockType::Iq3S,
    BlockType::Tq1_0,
    BlockType::Tq2_0,
    BlockType::Nvfp4,
    BlockType::Q1_0,
    BlockType::Q2_0,
];

/// Rows of random quants under finite scales of either sign.
fn random_rows(ty: BlockType, n_row: usize, n: usize, random: &mut Random) -> Vec<u8> {
    let mut bytes = vec![0; n_row * n / ty.block_len() * ty.block_bytes()];
    if ty == BlockType::I16 {
        bytes.fill_with(|| random.bits() as u8);
        return bytes;
    }
    for block in bytes.chunks_exact_mut(ty.block_bytes()) {
        block.fill_with(|| random.bits() as u8 ^ 0x5a);
        let mut put = |at: usize, x: f32| block[at..at + 2].copy_from_slice(&f16::from_f32(x).to_le_bytes());
        match ty {
            BlockType::F32 => block.copy_from_slice(&random.unit().to_le_bytes()),
            BlockType::F16 => put(0, random.unit()),
            BlockType::Bf16 => block.copy_from_slice(&bf16::from_f32(random.unit()).to_le_bytes()),
            BlockType::Q4_0 | BlockType::Q8_0 | BlockType::Q5_0 | BlockType::Iq4Nl | BlockType::Iq4Xs => {
                put(0, random.unit());
            }
            BlockType::Mxfp4 => block[0] = 120 + random.below(8) as u8,
            BlockType::Q2K => {
                put(80, random.unit());
                put(82, random.unit());
            }
            BlockType::Q3K => put(108, random.unit()),
            BlockType::Q4_1 | BlockType::Q5_1 | BlockType::Q4K | BlockType::Q5K => {
                put(0, random.unit());
                put(2, random.unit());
            }
            BlockType::Q6K => put(208, random.unit()),
            BlockType::Iq1S | BlockType::Iq2Xxs | BlockType::Iq2Xs | BlockType::Iq2S => put(0, random.unit()),
            BlockType::Iq3Xxs | BlockType::Iq3S | BlockType::Q1_0 | BlockType::Q2_0 => put(0, random.unit()),
            BlockType::Tq1_0 => put(52, random.unit()),
            BlockType::Tq2_0 => put(64, random.unit()),
            // the scale's highest bits, in the last word's
            BlockType::Iq1M => block[55] &= 0xbf,
            BlockType::Nvfp4 => {}
            _ => panic!("{ty} has no random rows"),
        }
    }
    bytes
}

/// A quantized activation row with its storage.
struct Quantized {
    q: Vec<i8>,
    d: Vec<f32>,
    sums: Vec<i16>,
}

impl Quantized {
    fn new(set: &KernelSet, kind: ActivationKind, x: &[f32]) -> Self {
        let n = x.len();
        let mut a = Self { q: vec![1; n], d: vec![1.0; n / kind.block_len()], sums: vec![1; n / SUM_LEN] };
        match kind {
            ActivationKind::Q8_0 => set.quantize_q8_0(x, &mut a.q, &mut a.d, &mut a.sums),
            ActivationKind::Q8K => set.quantize_q8_k(x, &mut a.q, &mut a.d, &mut a.sums),
            ActivationKind::F32 => panic!("not quantized"),
        }
        a
    }

    fn row(&self) -> Row8<'_> {
        Row8 { q: &self.q, d: &self.d, sums: &self.sums }
    }

    fn values(&self) -> Vec<f64> {
        let block_len = self.q.len() / self.d.len();
        self.q.iter().enumerate().map(|(i, &q)| f64::from(q) * f64::from(self.d[i / block_len])).collect()
    }
}

/// The product by `set`, with activations quantized by the scalar set where the type wants it.
fn matvec(set: &KernelSet, ty: BlockType, rows: &[u8], x: &[f32], n_row: usize) -> Vec<f32> {
    let mut out = vec![f32::NAN; n_row];
    match set.activation(ty) {
        ActivationKind::F32 => set.matvec_f32(ty, rows, x, &mut out, &mut Vec::new()),
        kind => {
            let x = Quantized::new(&KernelSet::SCALAR, kind, x);
            set.matvec_q8(ty, rows, x.row(), &mut out);
        }
    }
    out
}

/// The product in f64 over dequantized weights, and the sum of absolute products: what rounding
/// errors are relative to. For formats with minimums the scaled quants and the minimums are larger
/// than the weights that remain of them, so their absolute products count.
fn matvec_f64(ty: BlockType, rows: &[u8], x: &[f32], n_row: usize) -> Vec<(f64, f64)> {
    let kind = ActivationKind::of(ty);
    let x: Vec<f64> = match kind {
        ActivationKind::F32 => x.iter().map(|&x| f64::from(x)).collect(),
        kind => Quantized::new(&KernelSet::SCALAR, kind, x).values(),
    };
    let mut w = vec![0.0; n_row * x.len()];
    dequantize(ty, rows, &mut w).unwrap();
    w.chunks_exact(x.len())
        .map(|w| {
            let products = w.iter().zip(&x).map(|(&w, &x)| f64::from(w) * x);
            products.fold((0.0, 0.0), |(sum, size), p| (sum + p, size + p.abs()))
        })
        .collect()
}

/// Odd and even counts of blocks, rows that end inside of every unrolled loop.
fn shapes(ty: BlockType) -> Vec<(usize, usize)> {
    let lens: &[usize] = match ty.block_len() {
        1 => &[1, 2, 7, 8, 15, 16, 17, 31, 33, 63, 64, 65, 100, 255, 257, 4099],
        32 => &[32, 64, 96, 128, 160, 224, 256, 288, 1024, 4128],
        64 => &[64, 128, 192, 320, 448, 1024, 4160],
        128 => &[128, 256, 384, 640, 1024, 4224],
        _ => &[256, 512, 768, 1280, 4096],
    };
    lens.iter().flat_map(|&n| [1, 2, 3, 5].map(|n_row| (n_row, n))).collect()
}

#[test]
fn row_products_equal_f64_over_dequantized_weights() {
    for set in KernelSet::available() {
        for ty in WEIGHTS.into_iter().chain([BlockType::I16]) {
            let mut random = Random(7 + u64::from(ty.id()));
            for (n_row, n) in shapes(ty) {
                let (rows, x) = (random_rows(ty, n_row, n, &mut random), random.units(n));
                let got = matvec(&set, ty, &rows, &x, n_row);
                for (got, (want, size)) in got.iter().zip(matvec_f64(ty, &rows, &x, n_row)) {
                    let error = (f64::from(*got) - want).abs() / size;
                    assert!(error < 1e-6, "{} {ty} {n_row} x {n}: {got} vs {want}, {error:e}", set.name());
                }
            }
        }
    }
}

#[test]
fn every_set_gives_the_scalar_products() {
    for set in KernelSet::available() {
        for ty in WEIGHTS {
            let mut random = Random(70 + u64::from(ty.id()));
            for (n_row, n) in shapes(ty) {
                let (rows, x) = (random_rows(ty, n_row, n, &mut random), random.units(n));
                let sizes = matvec_f64(ty, &rows, &x, n_row);
                let want = matvec(&KernelSet::SCALAR, ty, &rows, &x, n_row);
                for ((got, want), (_, size)) in matvec(&set, ty, &rows, &x, n_row).into_iter().zip(want).zip(sizes) {
                    let error = (f64::from(got) - f64::from(want)).abs() / size;
                    assert!(error < 1e-6, "{} {ty} {n_row} x {n}: {got} vs {want}, {error:e}", set.name());
                }
            }
        }
    }
}

#[test]
fn a_row_alone_equals_the_row_among_others_at_any_address() {
    for set in KernelSet::available() {
        for ty in WEIGHTS {
            let mut random = Random(5);
            let (n_row, n) = (7, if ty.block_len() == 1 { 77 } else { 768 });
            let (rows, x) = (random_rows(ty, n_row, n, &mut random), random.units(n));
            let together = matvec(&set, ty, &rows, &x, n_row);
            let row_bytes = rows.len() / n_row;
            for shift in 0..4 {
                let moved = [vec![0; shift], rows.clone()].concat();
                for (r, want) in together.iter().enumerate() {
                    let row = &moved[shift + r * row_bytes..][..row_bytes];
                    let alone = matvec(&set, ty, row, &x, 1)[0];
                    assert_eq!(alone.to_bits(), want.to_bits(), "{} {ty} row {r} shifted by {shift}", set.name());
                }
            }
        }
    }
}

#[test]
fn rows_of_activations_together_have_the_bits_of_each_alone() {
    for set in KernelSet::available() {
        for ty in WEIGHTS.into_iter().filter(|&ty| ActivationKind::of(ty) != ActivationKind::F32) {
            // what is left over to panels needs some
            assert!(set.has_panels(ty), "{} {ty}", set.name());
            let mut random = Random(6 + u64::from(ty.id()));
            for (i, (n_row, n)) in shapes(ty).into_iter().enumerate() {
                let rows = random_rows(ty, n_row, n, &mut random);
                // some shapes with more rows than any kernel takes at once
                let n_x = if i % 5 == 0 { 0..12 } else { 1..6 };
                let x: Vec<_> = (0..n_x.end)
                    .map(|_| Quantized::new(&KernelSet::SCALAR, ActivationKind::of(ty), &random.units(n)))
                    .collect();
                let alone = x.iter().map(|x| {
                    let mut out = vec![f32::NAN; n_row];
                    set.matvec_q8(ty, &rows, x.row(), &mut out);
                    out.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
                });
                let alone: Vec<_> = alone.collect();
                for n_x in n_x {
                    let x: Vec<_> = x[..n_x].iter().map(Quantized::row).collect();
                    let mut out = vec![vec![f32::NAN; n_row]; n_x];
                    let mut to: Vec<_> = out.iter_mut().map(|out| &mut out[..]).collect();
                    set.matvec_rows_q8(ty, &rows, &x, &mut to);
                    for (out, alone) in out.iter().zip(&alone) {
                        let out: Vec<_> = out.iter().map(|x| x.to_bits()).collect();
                        assert_eq!(out, *alone, "{} {ty} {n_row} x {n}, {n_x} together", set.name());
                    }
                }
            }
        }
    }
}

#[test]
fn every_type_has_products_in_every_set() {
    for set in KernelSet::available() {
        for &ty in BlockType::ALL {
            let n = if ty.block_len() == 1 { 77 } else { 3 * ty.block_len() };
            // random bits without the exponents of infinity, wherever scales lie
            let mut random = Random(19);
            let mut rows = vec![0; 3 * n / ty.block_len() * ty.block_bytes()];
            rows.fill_with(|| random.bits() as u8 & 0x3b);
            let x = random.units(n);
            for (got, (want, size)) in matvec(&set, ty, &rows, &x, 3).iter().zip(matvec_f64(ty, &rows, &x, 3)) {
                let error = (f64::from(*got) - want).abs();
                assert!(error <= 2e-6 * size + 1e-30, "{} {ty}: {got} vs {want}", set.name());
            }
        }
    }
}

#[test]
fn extreme_quants_do_not_overflow() {
    for set in KernelSet::available() {
        for (ty, fill) in
            [(BlockType::Q4_0, 0xff), (BlockType::Q4_1, 0xff), (BlockType::Q8_0, 0x80), (BlockType::Q8_0, 0x7f)]
                .into_iter()
                .chain([(BlockType::Q4K, 0xff), (BlockType::Q6K, 0xff), (BlockType::Q6K, 0x00), (BlockType::Q6K, 0x80)])
                .chain([BlockType::Q5_0, BlockType::Q5_1, BlockType::Q5K, BlockType::Q2K].map(|ty| (ty, 0xff)))
                .chain(
                    [BlockType::Q3K, BlockType::Iq4Nl, BlockType::Iq4Xs]
                        .into_iter()
                        .flat_map(|ty| [(ty, 0), (ty, 0xff)]),
                )
        {
            for sign in [1.0, -1.0] {
                let (n_row, n, one) = (3, 1024, f16::ONE.to_le_bytes());
                let mut rows = random_rows(ty, n_row, n, &mut Random(1));
                for block in rows.chunks_exact_mut(ty.block_bytes()) {
                    block.fill(fill);
                    match ty {
                        BlockType::Q6K => block[208..].copy_from_slice(&one),
                        BlockType::Q2K => block[80..].copy_from_slice(&[one, one].concat()),
                        BlockType::Q3K => block[108..].copy_from_slice(&one),
                        BlockType::Q4_1 | BlockType::Q5_1 | BlockType::Q4K | BlockType::Q5K => {
                            block[..4].copy_from_slice(&[one, one].concat())
                        }
                        _ => block[..2].copy_from_slice(&one),
                    }
                }
                let x = vec![sign; n];
                let got = matvec(&set, ty, &rows, &x, n_row);
                for (got, (want, size)) in got.iter().zip(matvec_f64(ty, &rows, &x, n_row)) {
                    assert!(
                        (f64::from(*got) - want).abs() <= 2e-6 * size,
                        "{} {ty} {fill:x}: {got} vs {want}",
                        set.name()
                    );
                }
            }
        }
    }
}

#[test]
fn quantized_activations_are_the_same_bytes_in_every_set() {
    for set in KernelSet::available() {
        let mut random = Random(3);
        for kind in [ActivationKind::Q8_0, ActivationKind::Q8K] {
            for n_block in [0, 1, 2, 3, 9] {
                for case in 0..40 {
                    let mut x = random.units(n_block * kind.block_len());
                    let scale = 2f32.powi(random.below(60) as i32 - 30);
                    x.iter_mut().for_each(|x| *x *= scale);
                    match case {
                        0 => x.fill(0.0),
                        // ties, and the greatest magnitude with both signs
                        1 => x.iter_mut().enumerate().for_each(|(i, x)| *x = (i % 17) as f32 * 0.5 - 4.0),
                        2 => x.iter_mut().enumerate().for_each(|(i, x)| *x = if i % 5 == 0 { 127.0 } else { -126.5 }),
                        _ => {}
                    }
                    let (want, got) = (Quantized::new(&KernelSet::SCALAR, kind, &x), Quantized::new(&set, kind, &x));
                    assert!(want.q == got.q && want.sums == got.sums, "{} {kind:?} {n_block}", set.name());
                    let bits = |d: &[f32]| d.iter().map(|d| d.to_bits()).collect::<Vec<_>>();
                    assert_eq!(bits(&want.d), bits(&got.d), "{} {kind:?} {n_block}", set.name());
                }
            }
            let mut x = random.units(512);
            x[300] = f32::NAN;
            let d = Quantized::new(&set, kind, &x).d;
            assert!(d[300 / kind.block_len()].is_nan() && !d[0].is_nan(), "{} {kind:?}", set.name());
        }
    }
}

#[test]
fn quantized_activations_are_those_of_llama_cpp() {
    let shared = std::env::var_os("TEALIGHT_SHARED")
        .map_or_else(|| std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), Into::into);
    let dir = shared.join("fixtures/quants");
    let read = |name: &str| std::fs::read(dir.join(name));
    let (Ok(x), Ok(q8_0), Ok(q8_k)) =
        (read("activations.f32"), read("activations.q8_0.bin"), read("activations.q8_k.bin"))
    else {
        #[allow(clippy::print_stderr)]
        {
            eprintln!("skipped: activations of llama.cpp: no fixtures");
        }
        return;
    };
    let x: Vec<f32> = x.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
    for set in KernelSet::available() {
        let a = Quantized::new(&set, ActivationKind::Q8_0, &x);
        for (i, block) in q8_0.chunks_exact(34).enumerate() {
            assert_eq!(f16::from_f32(a.d[i]).to_le_bytes(), block[..2], "{} block {i}", set.name());
            assert_eq!(bytemuck::cast_slice::<_, u8>(&a.q[32 * i..][..32]), &block[2..], "{} block {i}", set.name());
        }
        let a = Quantized::new(&set, ActivationKind::Q8K, &x);
        for (i, block) in q8_k.chunks_exact(292).enumerate() {
            assert_eq!(a.d[i].to_le_bytes(), block[..4], "{} block {i}", set.name());
            assert_eq!(
                bytemuck::cast_slice::<_, u8>(&a.q[256 * i..][..256]),
                &block[4..260],
                "{} block {i}",
                set.name()
            );
            for (sum, want) in a.sums[16 * i..][..16].iter().zip(block[260..].as_chunks::<2>().0) {
                assert_eq!(sum.to_le_bytes(), *want, "{} block {i}", set.name());
            }
        }
    }
}

const LENGTHS: [usize; 14] = [0, 1, 3, 7, 8, 9, 15, 16, 17, 31, 33, 64, 127, 1000];

#[test]
fn sums_over_numbers_equal_f64() {
    for set in KernelSet::available() {
        let mut random = Random(11);
        for n in LENGTHS {
            let (a, b) = (random.units(n), random.units(n));
            let exact = |b: &[f32]| {
                let products = a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b));
                products.fold((0.0, 1e-30), |(sum, size), p| (sum + p, size + p.abs()))
            };
            let (want, size) = exact(&b);
            assert!((f64::from(set.dot_f32(&a, &b)) - want).abs() / size < 1e-6, "{} dot {n}", set.name());
            let want = a.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert_eq!(set.max_f32(&a), want, "{} max {n}", set.name());
        }
        assert_eq!(set.max_f32(&[1.0, f32::NAN, 3.0, f32::NAN]), 3.0);
    }
}

#[test]
fn elementwise_operations_equal_the_scalar_ones() {
    for set in KernelSet::available() {
        let mut random = Random(13);
        for n in LENGTHS {
            let (x, y) = (random.units(n), random.units(n));
            let (mut got, mut want) = (y.clone(), y.clone());
            set.axpy_f32(0.7, &x, &mut got);
            KernelSet::SCALAR.axpy_f32(0.7, &x, &mut want);
            assert!(got.iter().zip(&want).all(|(a, b)| (a - b).abs() < 3e-7), "{} axpy {n}", set.name());
            set.scale_f32(-3.0, &mut got);
            assert!(got.iter().zip(&want).all(|(a, b)| (a + 3.0 * b).abs() < 1e-6), "{} scale {n}", set.name());
            // all signs, exponents and roundings of halves, infinities too
            let x: Vec<f32> = (0..n).map(|_| f32::from_bits((random.bits() >> 32) as u32)).map(|x| x % 1e6).collect();
            let x: Vec<f32> = x.into_iter().map(|x| if x.is_nan() { f32::INFINITY } else { x * 1e-4 }).collect();
            let (mut got, mut want) = (vec![f16::NAN; n], vec![f16::NAN; n]);
            set.f32_to_f16(&x, &mut got);
            KernelSet::SCALAR.f32_to_f16(&x, &mut want);
            assert_eq!(got, want, "{} to f16 {n}", set.name());
        }
    }
}

/// Distance of `got` from `want` in units of the last place of a normal or subnormal f32.
fn ulps(got: f32, want: f64) -> f64 {
    let exponent = want.abs().log2().floor().max(-126.0);
    (f64::from(got) - want).abs() / 2f64.powf(exponent - 23.0)
}

#[test]
fn exponentials_are_within_their_bound() {
    for set in KernelSet::available() {
        let mut worst = 0f64;
        let inputs: Vec<f32> = (0..400_000).map(|i| -103.0 + i as f32 * (191.0 / 400_000.0)).collect();
        for x in inputs.chunks(1000) {
            let mut y = x.to_vec();
            let sum = set.exp_sum(&mut y, 0.0);
            let exact: f64 = x.iter().map(|&x| f64::from(x).exp()).sum();
            // a sum of subnormals has no relative precision, and 1000 terms overflow before one does
            let close = (f64::from(sum) - exact).abs() <= 1e-6 * exact + 1e-42;
            assert!(close || x[0] > 80.0, "{} sum near {}", set.name(), x[0]);
            for (&x, &y) in x.iter().zip(&y) {
                worst = worst.max(ulps(y, f64::from(x).exp()));
            }
        }
        assert!(worst <= 1.5, "{}: {worst} ulp", set.name());
        let mut edges = [f32::NEG_INFINITY, -1e30, -200.0, 0.0, 89.0, f32::NAN, f32::NEG_INFINITY, 1.0, 1.0];
        set.exp_sum(&mut edges, 0.0);
        assert_eq!(edges[..5], [0.0, 0.0, 0.0, 1.0, f32::INFINITY], "{}", set.name());
        assert!(edges[5].is_nan() && edges[6] == 0.0, "{}", set.name());
        let mut x = [f32::NEG_INFINITY, 3.0, 3.0, 3.0];
        assert_eq!(set.exp_sum(&mut x, 3.0), 3.0);
        assert_eq!(set.exp_sum(&mut [], 0.0), 0.0);
    }
}

#[test]
fn gates_follow_their_formulas() {
    let silu = |g: f64| g / (1.0 + (-g).exp());
    let gelu = |g: f64| {
        let u = (2.0 / std::f64::consts::PI).sqrt() * (g + 0.044_715 * g * g * g);
        g / (1.0 + (-2.0 * u).exp())
    };
    for set in KernelSet::available() {
        let mut random = Random(17);
        for n in LENGTHS {
            let (gate, up): (Vec<f32>, _) = (random.units(n).iter().map(|g| g * 12.0).collect(), random.units(n));
            let (mut silu_out, mut gelu_out) = (up.clone(), up.clone());
            set.silu_mul(&gate, &mut silu_out);
            set.gelu_mul(&gate, &mut gelu_out);
            for i in 0..n {
                let (g, u) = (f64::from(gate[i]), f64::from(up[i]));
                let near = |got: f32, want: f64| (f64::from(got) - want).abs() <= 1e-6 * want.abs() + 1e-30;
                assert!(near(silu_out[i], silu(g) * u), "{} silu({g})", set.name());
                // the error of the exponent grows with it
                assert!(
                    (f64::from(gelu_out[i]) - gelu(g) * u).abs() <= 2e-6 * gelu(g).abs() + 1e-7,
                    "{} gelu({g})",
                    set.name()
                );
            }
        }
        let mut edges = [1.0f32; 4];
        set.silu_mul(&[-200.0, 200.0, f32::NAN, 0.0], &mut edges);
        assert!(
            edges[0] == 0.0 && edges[1] == 200.0 && edges[2].is_nan() && edges[3] == 0.0,
            "{} {edges:?}",
            set.name()
        );
        let mut edges = [1.0f32; 3];
        set.gelu_mul(&[-200.0, 200.0, f32::NAN], &mut edges);
        assert!(edges[0] == 0.0 && edges[1] == 200.0 && edges[2].is_nan(), "{} {edges:?}", set.name());
    }
}

#[test]
fn sets_are_found_by_name() {
    for set in KernelSet::available() {
        assert_eq!(KernelSet::by_name(set.name()).map(|s| s.name()), Some(set.name()));
    }
    assert_eq!(KernelSet::by_name("auto").map(|s| s.name()), KernelSet::available().first().map(KernelSet::name));
    assert_eq!(KernelSet::available().last().map(KernelSet::name), Some("scalar"));
    assert!(KernelSet::by_name("mmx").is_none());
}
