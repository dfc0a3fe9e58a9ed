//! Caches and attention against plain f64 loops.

use half::f16;

use super::*;
use crate::gpu::pipelines::testing;
use crate::plan::Temper;

/// A number in -1..1 from a counter (SplitMix64).
fn noise(seed: &mut u64) -> f32 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*seed ^ (*seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
}

fn noises(seed: &mut u64, n: usize) -> Vec<f32> {
    (0..n).map(|_| noise(seed)).collect()
}

/// Numbers of the rows as they are stored: encoded as the layout says.
fn encode(ty: CacheType, row: &[f32]) -> Vec<u32> {
    let words: Vec<u32> = match ty {
        CacheType::F32 => row.iter().map(|x| x.to_bits()).collect(),
        CacheType::F16 => {
            let pair = |x: &[f32; 2]| {
                u32::from(f16::from_f32(x[0]).to_bits()) | u32::from(f16::from_f32(x[1]).to_bits()) << 16
            };
            row.as_chunks().0.iter().map(pair).collect()
        }
        CacheType::Q8_0 => {
            let blocks: Vec<_> = row.as_chunks().0.iter().map(tealight_quant::activations::quantize_32).collect();
            let mut bytes: Vec<u8> = blocks.iter().flat_map(|(_, codes)| codes.map(|c| c as u8)).collect();
            bytes.extend(blocks.iter().flat_map(|(scale, _)| scale.to_le_bytes()));
            bytes.resize(4 * row_words(ty, row.len() as u32) as usize, 0);
            bytes.as_chunks().0.iter().map(|&b| u32::from_le_bytes(b)).collect()
        }
    };
    assert_eq!(words.len(), row_words(ty, row.len() as u32) as usize);
    words
}

/// The numbers that stored words stand for.
fn decode(ty: CacheType, words: &[u32], width: usize) -> Vec<f32> {
    match ty {
        CacheType::F32 => words.iter().map(|&w| f32::from_bits(w)).collect(),
        CacheType::F16 => {
            words.iter().flat_map(|w| [*w as u16, (w >> 16) as u16].map(|h| f16::from_bits(h).to_f32())).collect()
        }
        CacheType::Q8_0 => {
            let number = |c: usize| {
                let code = (words[c / 4] >> (8 * (c % 4))) as u8 as i8;
                f32::from(code) * f32::from_bits(words[width / 4 + c / 32])
            };
            (0..width).map(number).collect()
        }
    }
}

/// A batch over one cache.
#[derive(Clone, Copy, Debug)]
struct Case {
    heads: u32,
    kv_heads: u32,
    dims: [u32; 2],
    types: [CacheType; 2],
    rows: u32,
    len: u32,
    n_slot: u32,
    span: Span,
    softcap: Option<f32>,
    temper: Option<Temper>,
    sinks: bool,
    n_split: u32,
}

const F32: [CacheType; 2] = [CacheType::F32; 2];
const F16: [CacheType; 2] = [CacheType::F16; 2];
const Q8: [CacheType; 2] = [CacheType::Q8_0; 2];

const CASE: Case = Case {
    heads: 4,
    kv_heads: 2,
    dims: [64, 64],
    types: F16,
    rows: 1,
    len: 70,
    n_slot: 400,
    span: Span::Full,
    softcap: None,
    temper: None,
    sinks: false,
    n_split: 1,
};

impl Case {
    fn cache(&self) -> CacheShape {
        CacheShape { types: self.types, heads: self.kv_heads, dims: self.dims, n_slot: self.n_slot }
    }

    /// The step over buffers with gaps between rows and heads, and their widths.
    fn step(&self) -> (plan::Attend, [u32; 2]) {
        let mut build = plan::PlanBuilder::default();
        let [k_dim, v_dim] = self.dims;
        let cache = build.cache(CacheSpec {
            name: "kv".into(),
            k: self.kv_heads * k_dim,
            v: self.kv_heads * v_dim,
            heads: self.kv_heads,
            span: self.span,
        });
        let q_row = self.heads * (k_dim + 8) + 12;
        let out_row = self.heads * v_dim + 4;
        let stride = if self.heads == 1 { 0 } else { k_dim + 8 };
        let q = Operand { start: 4, width: k_dim, heads: self.heads, stride, ..build.buffer("q", q_row) };
        let out = build.buffer("o", out_row).columns(4, self.heads * v_dim);
        let step = plan::Attend {
            q,
            out,
            cache,
            heads: self.heads,
            kv_heads: self.kv_heads,
            scale: 1.0 / (k_dim as f32).sqrt(),
            span: self.span,
            softcap: self.softcap,
            temper: self.temper,
            alibi: None,
            sinks: self.sinks.then(|| {
                let (name, shape) = ("sinks".into(), vec![self.heads.into()]);
                build.weight(plan::WeightRef { name, ty: tealight_quant::BlockType::F32, shape })
            }),
            v_prefix: None,
            select: None,
        };
        (step, [q_row, out_row])
    }

    fn check(&self, gpu: &std::sync::Arc<crate::gpu::Gpu>, checked: bool) {
        let mut seed = u64::from(self.len) << 20 | u64::from(self.rows) << 8 | u64::from(self.heads);
        let (step, [q_row, out_row]) = self.step();
        let attend = Attend::new(&step, self.cache(), q_row, out_row).unwrap();
        let end = self.len + self.rows;
        // Slots that hold nothing are full of NaN.
        let mut stored = Vec::new();
        let mut seen = Vec::new();
        for i in 0..2 {
            let width = (self.kv_heads * self.dims[i]) as usize;
            let n_word = row_words(self.types[i], width as u32) as usize;
            let mut words = vec![0x7fc0_7fc0_u32; n_word * self.n_slot as usize];
            let mut numbers = Vec::new();
            for pos in 0..end {
                let row = encode(self.types[i], &noises(&mut seed, width));
                let slot = (pos % self.n_slot) as usize;
                words[slot * n_word..(slot + 1) * n_word].copy_from_slice(&row);
                numbers.push(decode(self.types[i], &row, width));
            }
            stored.push(words);
            seen.push(numbers);
        }
        // The sequence's rows stand between those of others, in any order.
        let order: Vec<u32> = [7, 7].into_iter().chain((0..self.rows).map(|i| (i * 7 + 3) % (self.rows + 8))).collect();
        let order: Vec<u32> = if self.rows % 7 == 6 { (0..self.rows + 2).collect() } else { order };
        let n_row = self.rows as usize + 8;
        let q: Vec<f32> = noises(&mut seed, n_row * q_row as usize).iter().map(|x| 4.0 * x).collect();
        let mut out = vec![7.0_f32; n_row * out_row as usize];
        let sequence =
            Sequence { first: 2, count: self.rows, len: self.len, n_split: self.n_split, sides: [0; 2], pad: [0; 2] };
        let params = attend.params();
        let part = vec![0.0_f32; attend.part_words(self.rows, self.n_split).max(4) as usize];
        let tile = attend.tile(self.rows);
        let cast = |x: &[f32]| bytemuck::cast_slice::<f32, u8>(x).to_vec();
        let (order_bytes, params_bytes) = (bytemuck::cast_slice(&order), bytemuck::bytes_of(&params));
        let sequence_bytes = bytemuck::bytes_of(&sequence);
        let sinks = noises(&mut seed, self.heads.max(4) as usize);
        let [k, v] = [0, 1].map(|i: usize| bytemuck::cast_slice::<u32, u8>(&stored[i]));
        let (q_bytes, out_bytes, part_bytes, sink_bytes) = (cast(&q), cast(&out), cast(&part), cast(&sinks));
        let buffers =
            [&q_bytes[..], k, v, &out_bytes, &part_bytes, order_bytes, params_bytes, sequence_bytes, &sink_bytes];
        let grid = attend.grid(self.rows, self.n_split);
        let mut got = testing::run(gpu, &attend.kernel(tile), &buffers, grid, checked);
        if self.n_split > 1 {
            let buffers = [&got[3][..], &got[4], order_bytes, params_bytes, sequence_bytes];
            got[3] = testing::run(gpu, &attend.reduce_kernel(), &buffers, attend.reduce_grid(self.rows), checked)
                .swap_remove(0);
        }
        out.copy_from_slice(bytemuck::cast_slice(&got[3]));

        let [k_dim, v_dim] = self.dims.map(|d| d as usize);
        let mut untouched = out.clone();
        for i in 0..self.rows {
            let row = order[2 + i as usize] as usize;
            for (h, sink) in sinks.iter().enumerate().take(self.heads as usize) {
                let at = row * q_row as usize + 4 + h * (k_dim + 8);
                let kv = h / (self.heads / self.kv_heads) as usize;
                let [k, v] = [0, 1].map(|which: usize| &seen[which]);
                let head = |x: &[f32], dim: usize| x[kv * dim..(kv + 1) * dim].to_vec();
                let pos = self.len + i;
                let keys = self.span.visible(pos, end);
                let score = |t: u32| {
                    let k = head(&k[t as usize], k_dim);
                    let dot: f64 = q[at..at + k_dim].iter().zip(k).map(|(q, k)| f64::from(*q) * f64::from(k)).sum();
                    let heat = self
                        .temper
                        .map_or(1.0, |t| 1.0 + f64::from(t.scale) * (1.0 + f64::from((pos + t.add) / t.length)).ln());
                    let s = f64::from(step.scale) * heat * dot;
                    self.softcap.map_or(s, |c| f64::from(c) * (s / f64::from(c)).tanh())
                };
                let scores: Vec<f64> = keys.clone().map(score).collect();
                let max = scores.iter().copied().fold(f64::MIN, f64::max);
                let weights: Vec<f64> = scores.iter().map(|s| (s - max).exp()).collect();
                let sink = if self.sinks { (f64::from(*sink) - max).exp() } else { 0.0 };
                let total: f64 = weights.iter().sum::<f64>() + sink;
                for c in 0..v_dim {
                    let at = row * out_row as usize + 4 + h * v_dim + c;
                    let terms =
                        || keys.clone().zip(&weights).map(|(t, w)| w * f64::from(v[t as usize][kv * v_dim + c]));
                    let (want, size) = (terms().sum::<f64>() / total, terms().map(f64::abs).sum::<f64>() / total);
                    let error = (f64::from(out[at]) - want).abs();
                    assert!(
                        error <= 2e-5 * size,
                        "{self:?} checked={checked} tile={tile}: row {i} head {h} column {c}: {} for {want}",
                        out[at]
                    );
                    untouched[at] = 7.0;
                }
            }
        }
        assert!(untouched.iter().all(|&x| x == 7.0), "{self:?}: wrote outside of its columns");
    }
}

fn cases() -> Vec<Case> {
    let temper = Some(Temper { scale: 0.1, length: 16, add: 1 });
    let mut cases = vec![
        // The very first token, and few keys.
        Case { len: 0, ..CASE },
        Case { len: 2, rows: 3, types: F32, ..CASE },
        // Groups of 1, 3, 7 and 16 heads.
        Case { heads: 3, kv_heads: 3, dims: [80, 80], ..CASE },
        Case { heads: 9, kv_heads: 3, dims: [72, 96], rows: 2, ..CASE },
        Case { heads: 14, kv_heads: 2, ..CASE },
        Case { heads: 16, kv_heads: 1, dims: [128, 128], len: 200, ..CASE },
        // The largest and the smallest heads.
        Case { heads: 2, kv_heads: 1, dims: [512, 512], rows: 4, len: 150, ..CASE },
        Case { heads: 2, kv_heads: 1, dims: [256, 288], rows: 9, types: Q8, ..CASE },
        Case { heads: 2, kv_heads: 2, dims: [4, 4], rows: 5, types: F32, ..CASE },
        Case { dims: [192, 128], rows: 9, ..CASE },
        // Parts of keys, some of them empty.
        Case { len: 299, n_split: 3, ..CASE },
        Case { len: 299, rows: 5, n_split: 4, dims: [80, 96], ..CASE },
        Case { len: 20, rows: 2, n_split: 7, types: F32, ..CASE },
        // Windows, rings that have wrapped, masked parts.
        Case { span: Span::Slide(10), len: 333, n_slot: 30, rows: 20, ..CASE },
        Case { span: Span::Slide(100), len: 333, n_slot: 144, rows: 45, softcap: Some(20.0), ..CASE },
        Case { span: Span::Slide(130), len: 300, n_slot: 140, rows: 9, n_split: 3, ..CASE },
        Case { span: Span::Slide(1), len: 65, n_slot: 9, rows: 9, ..CASE },
        Case { span: Span::Slide(4096), len: 40, rows: 45, ..CASE },
        // Chunks, of which a batch may see several; sinks, which parts of keys count once.
        Case { span: Span::Chunk(10), len: 333, n_slot: 64, rows: 20, ..CASE },
        Case { span: Span::Chunk(100), len: 350, n_slot: 144, rows: 45, sinks: true, ..CASE },
        Case { span: Span::Chunk(400), len: 299, rows: 2, n_split: 3, ..CASE },
        Case { sinks: true, len: 0, types: F32, ..CASE },
        Case { sinks: true, len: 299, rows: 5, n_split: 4, heads: 6, ..CASE },
        // What looks both ways: a text whole, and parts of its keys.
        Case { span: Span::All, len: 0, rows: 45, n_slot: 45, ..CASE },
        Case { span: Span::All, len: 0, rows: 130, n_split: 3, heads: 3, kv_heads: 1, ..CASE },
        Case { span: Span::Near(4), len: 0, rows: 45, ..CASE },
        Case { span: Span::Near(0), len: 0, rows: 9, types: F32, ..CASE },
        Case { span: Span::Near(70), len: 0, rows: 150, n_split: 2, types: Q8, ..CASE },
        Case { n_slot: 45, len: 0, rows: 45, temper, ..CASE },
        Case { temper, softcap: Some(2.0), len: 133, rows: 4, types: F32, ..CASE },
    ];
    let all = [CacheType::F32, CacheType::F16, CacheType::Q8_0];
    cases.extend(all.into_iter().flat_map(|k| all.map(|v| Case { types: [k, v], dims: [96, 64], rows: 3, ..CASE })));
    cases.extend((1..=9).map(|rows| Case { rows, heads: 3, kv_heads: 1, ..CASE }));
    cases
}

#[test]
fn attention_is_that_of_plain_loops() {
    let Some(gpu) = testing::gpu() else { return };
    for case in cases() {
        for checked in [true, false] {
            case.check(&gpu, checked);
        }
    }
}

#[test]
fn kernels_pass_the_lint() {
    use crate::gpu::lint::{Subgroups, check};
    let mut kernels = std::collections::HashSet::new();
    for case in cases() {
        let (step, [q_row, out_row]) = case.step();
        let attend = Attend::new(&step, case.cache(), q_row, out_row).unwrap();
        kernels.extend((0..5).map(|rows| attend.kernel(attend.tile(1 << rows))));
        kernels.insert(attend.reduce_kernel());
        let heads = Heads { row: 0, start: 0, stride: 0 };
        kernels.insert(Store { cache: case.cache(), k: heads, v: heads }.kernel());
    }
    for kernel in kernels {
        assert_eq!(check(&kernel, Subgroups::No), Vec::<String>::new(), "{}", kernel.label());
    }
}

/// Stores rows whose numbers have a size, and returns decoded rows by slot, and the status.
fn stored(case: &Case, x: &[Vec<f32>; 2], checked: bool) -> Option<([Vec<Vec<f32>>; 2], u32)> {
    let gpu = testing::gpu()?;
    let store = Store {
        cache: case.cache(),
        k: Heads { row: case.kv_heads * (case.dims[0] + 4) + 3, start: 3, stride: case.dims[0] + 4 },
        v: Heads { row: case.kv_heads * case.dims[1], start: 0, stride: case.dims[1] },
    };
    let order: Vec<u32> = std::iter::once(9).chain((0..case.rows).rev()).collect();
    let words = store.cache.words().map(|n| vec![0_u32; n as usize]);
    let params = store.params();
    let sequence = Sequence { first: 1, count: case.rows, len: case.len, n_split: 1, sides: [0; 2], pad: [0; 2] };
    let buffers: [&[u8]; 8] = [
        bytemuck::cast_slice(&x[0]),
        bytemuck::cast_slice(&x[1]),
        bytemuck::cast_slice(&words[0]),
        bytemuck::cast_slice(&words[1]),
        bytemuck::cast_slice(&order),
        &[0; 4],
        bytemuck::bytes_of(&params),
        bytemuck::bytes_of(&sequence),
    ];
    let got = testing::run(&gpu, &store.kernel(), &buffers, store.grid(case.rows), checked);
    let rows = |i: usize| {
        let width = case.kv_heads * case.dims[i];
        let words: Vec<u32> = bytemuck::pod_collect_to_vec(&got[2 + i]);
        let row_words = row_words(case.types[i], width) as usize;
        words.chunks_exact(row_words).map(|w| decode(case.types[i], w, width as usize)).collect()
    };
    Some(([rows(0), rows(1)], bytemuck::pod_read_unaligned(&got[5])))
}

#[test]
fn stored_rows_are_those_of_the_batch() {
    let all = [CacheType::F32, CacheType::F16, CacheType::Q8_0];
    for types in all.into_iter().flat_map(|k| all.map(|v| [k, v])) {
        for checked in [true, false] {
            // Three heads of 32: 9 scales, a padded row. Rows wrap around the ring.
            let case = Case { types, heads: 3, kv_heads: 3, dims: [96, 32], rows: 9, len: 35, n_slot: 12, ..CASE };
            let mut seed = 5;
            let k_row = 3 * 100 + 3;
            let x = [k_row, 96].map(|row| noises(&mut seed, 9 * row).iter().map(|x| 50.0 * x).collect::<Vec<_>>());
            let Some((rows, status)) = stored(&case, &x, checked) else { return };
            assert_eq!(status, 0);
            for i in 0..9 {
                let slot = (35 + i) % 12;
                let row = 8 - i;
                for which in 0..2 {
                    let dim = case.dims[which] as usize;
                    let at =
                        |c: usize| if which == 0 { row * k_row + 3 + c / dim * 100 + c % dim } else { row * 96 + c };
                    for (c, &got) in rows[which][slot].iter().enumerate() {
                        let want = x[which][at(c)];
                        let block = (c / 32 * 32..c / 32 * 32 + 32).map(|c| x[which][at(c)].abs());
                        let bound = match types[which] {
                            CacheType::F32 => 0.0,
                            CacheType::F16 => want.abs() / 1024.0,
                            CacheType::Q8_0 => block.fold(0.0, f32::max) / 127.0 * 0.5001,
                        };
                        assert!((got - want).abs() <= bound, "{types:?} {i} {which} {c}: {got} for {want}");
                    }
                }
            }
            assert!(rows[0][(35 + 9) % 12].iter().all(|&x| x == 0.0), "a slot of another position was written");
        }
    }
}

#[test]
fn numbers_that_cannot_be_stored_are_reported() {
    for (ty, limit) in [(CacheType::F32, f32::MAX), (CacheType::F16, 65504.0), (CacheType::Q8_0, f32::MAX)] {
        let case = Case { types: [ty; 2], kv_heads: 1, dims: [32, 32], rows: 1, ..CASE };
        for (x, wrong) in
            [(limit, false), (-limit, false), (limit.next_up(), true), (f32::NAN, true), (f32::NEG_INFINITY, true)]
        {
            for which in 0..2 {
                let mut rows = [vec![1.0; 39], vec![1.0; 32]];
                rows[which][20] = x;
                let Some((_, status)) = stored(&case, &rows, false) else { return };
                assert_eq!(status, u32::from(wrong), "{ty:?} {x}");
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let spec = |k, v, heads| CacheSpec { name: "kv".into(), k, v, heads, span: Span::Full };
    assert_eq!(fits(&spec(144, 160, 2), F16), Ok(()));
    assert!(fits(&spec(144, 160, 2), Q8).is_err(), "72 is no multiple of 32");
    assert!(fits(&spec(12, 12, 2), F16).is_err(), "6 is no multiple of 4");
    assert!(fits(&spec(2056, 8, 2), F16).is_err(), "1028 is too much for a key");
    assert!(fits(&spec(8, 1032, 2), F16).is_err(), "516 is too much for a value");
    assert_eq!(fits(&spec(576, 0, 1), F16), Ok(()));
    assert!(fits(&spec(9, 8, 2), F32).is_err(), "9 numbers are not 2 heads");
    let (step, _) = CASE.step();
    assert!(Attend::new(&step, CacheShape { dims: [32, 64], ..CASE.cache() }, 999, 999).is_err());
    assert!(Attend::new(&step, CacheShape { heads: 4, ..CASE.cache() }, 999, 999).is_err());
}

#[test]
fn work_is_cut_for_the_device() {
    let attend = |case: Case| {
        let (step, [q, out]) = case.step();
        Attend::new(&step, case.cache(), q, out).unwrap()
    };
    let a = attend(Case { heads: 32, kv_heads: 8, dims: [128, 128], ..CASE });
    assert_eq!((a.tile(1), a.tile(2), a.tile(512)), (4, 8, 16));
    assert_eq!(a.n_split(1, 0), 1);
    assert_eq!(a.n_split(1, 1023), 8);
    assert_eq!(a.n_split(1, 100_000), 16);
    assert_eq!(a.n_split(512, 100_000), 1);
    assert_eq!(a.grid(1, 16), [1, 8, 16]);
    assert_eq!(a.part_words(1, 16), 32 * 16 * 130);
    let window = attend(Case { span: Span::Slide(256), ..CASE });
    assert_eq!(window.n_split(1, 100_000), 2);
    let large = attend(Case { heads: 16, kv_heads: 1, dims: [512, 512], ..CASE });
    assert_eq!((large.tile(1), large.tile(9)), (4, 4));
}
