//! Small plans with weights of their own, and both back-ends over the same rows.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tealight_quant::{BlockType, dequantize};

use crate::cpu::{CpuBackend, CpuOptions, CpuSequence, Team};
use crate::error::Result;
use crate::gpu::planes::planes;
use crate::gpu::{Gpu, GpuBackend, GpuOptions, GpuSequence};
use crate::plan::{
    Backend, CacheType, Index, Operand, Part, Plan, PlanBuilder, Rows, Step, WeightId, WeightRef, Weights,
};

/// Formats that kernels read, from the table of all types.
pub fn formats() -> Vec<BlockType> {
    BlockType::ALL.iter().copied().filter(|&ty| planes(ty).is_some()).collect()
}

/// Numbers and bits from a counter (SplitMix64).
pub struct Noise(pub u64);

impl Noise {
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Between -1 and 1.
    pub fn number(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    pub fn numbers(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.number()).collect()
    }

    /// Blocks of random bits whose largest weight is of a usual size.
    pub fn blocks(&mut self, ty: BlockType, n: usize) -> Vec<u8> {
        let mut bytes = vec![0; n / ty.block_len() * ty.block_bytes()];
        let mut values = vec![0.0; ty.block_len()];
        for block in bytes.chunks_exact_mut(ty.block_bytes()) {
            loop {
                block.fill_with(|| self.bits() as u8);
                dequantize(ty, block, &mut values).unwrap();
                let largest = values.iter().fold(0f32, |m, v| if v.is_finite() { m.max(v.abs()) } else { f32::MAX });
                if (0.02..4.0).contains(&largest) {
                    break;
                }
            }
        }
        bytes
    }
}

/// Bytes of the weights of a plan, by id.
pub struct Owned(pub Vec<Vec<u8>>);

impl Weights for Owned {
    fn bytes(&self, id: WeightId) -> &[u8] {
        &self.0[id.index()]
    }
}

/// A plan in the making, with random weights.
pub struct Model {
    pub plan: PlanBuilder,
    weights: Vec<Vec<u8>>,
    noise: Noise,
}

impl Model {
    pub fn new(seed: u64) -> Self {
        Self { plan: PlanBuilder::default(), weights: Vec::new(), noise: Noise(seed) }
    }

    /// A plan that is given `width` columns with every row.
    pub fn given(seed: u64, width: u32) -> (Self, Operand) {
        let mut model = Self::new(seed);
        let x = model.plan.buffer("x", width);
        model.plan.input(x);
        (model, x)
    }

    pub fn weight(&mut self, ty: BlockType, shape: &[u64]) -> WeightId {
        let name = format!("w{}", self.weights.len());
        self.weights.push(self.noise.blocks(ty, shape.iter().product::<u64>() as usize));
        self.plan.weight(WeightRef { name, ty, shape: shape.to_vec() })
    }

    /// A vector of f32.
    pub fn vector(&mut self, n: u32) -> WeightId {
        self.weight(BlockType::F32, &[n.into()])
    }

    /// A weight of f32 whose numbers are those between -1 and 1 that `of` makes something else of.
    pub fn numbers(&mut self, shape: &[u64], of: impl Fn(f32) -> f32) -> WeightId {
        let id = self.weight(BlockType::F32, shape);
        let n = shape.iter().product::<u64>() as usize;
        self.weights[id.index()] = self.noise.numbers(n).into_iter().flat_map(|x| of(x).to_le_bytes()).collect();
        id
    }

    /// A part with a new matrix.
    pub fn part(&mut self, ty: BlockType, x: Operand, out: Operand) -> Part {
        let weight = self.weight(ty, &[out.len().into(), x.len().into()]);
        Part { out, weight, bias: None, scale: 1.0 }
    }

    pub fn linear(&mut self, ty: BlockType, x: Operand, out: Operand) {
        let parts = vec![self.part(ty, x, out)];
        self.plan.push(Step::Linear { x, parts, clamp: None });
    }

    pub fn embed(&mut self, ty: BlockType, n_token: u64, out: Operand, scale: f32, add: bool) {
        let table = self.weight(ty, &[n_token, out.len().into()]);
        self.plan.push(Step::Embed { out, table, index: Index::Token, scale, add });
    }

    pub fn add(&mut self, x: Operand, y: Operand, scale: f32) {
        self.plan.push(Step::Add { x, y, out: x, scale });
    }

    /// The plan with `out` as its result.
    pub fn finish(mut self, out: Operand) -> (Arc<Plan>, Arc<Owned>) {
        self.plan.output(out);
        let plan = self.plan.finish().unwrap_or_else(|e| panic!("{e}"));
        (Arc::new(plan), Arc::new(Owned(self.weights)))
    }
}

/// A batch as rows of sequences: `[0, 1, 1]` is a row of the first and two of the second one.
pub type Batch = Vec<u32>;

/// All rows of one sequence.
pub fn rows(n: usize) -> Batch {
    vec![0; n]
}

/// What a pass over several batches gave: results of every row that is wanted, batch by batch.
pub fn pass<B: Backend>(
    backend: &mut B,
    plan: &Plan,
    sequences: &mut [B::Sequence],
    batches: &[Batch],
    wanted: Wanted,
) -> Result<Vec<f32>> {
    pass_with(backend, plan, sequences, batches, wanted, &[])
}

/// The same with tokens of the caller for the first rows, and any for the others.
fn pass_with<B: Backend>(
    backend: &mut B,
    plan: &Plan,
    sequences: &mut [B::Sequence],
    batches: &[Batch],
    wanted: Wanted,
    tokens: &[u32],
) -> Result<Vec<f32>> {
    let mut noise = Noise(0x7ea);
    let mut out = Vec::new();
    let n_token = u64::from(plan.n_token().unwrap_or(1000));
    let width: usize = plan.inputs().iter().map(|o| o.len() as usize).sum();
    let mut at = vec![0u32; sequences.len()];
    let mut given = tokens.iter().copied();
    for seq in batches {
        let token: Vec<u32> = seq.iter().map(|_| given.next().unwrap_or((noise.bits() % n_token) as u32)).collect();
        let next = |&s: &u32| {
            at[s as usize] += 1;
            at[s as usize] - 1
        };
        let pos: Vec<u32> = seq.iter().map(next).collect();
        let n = seq.len() as u32;
        let is_first = |i: u32| !seq[..i as usize].contains(&seq[i as usize]);
        let is_wanted = |&i: &u32| match wanted {
            Wanted::All => true,
            Wanted::Some => i % 3 == 1 || i + 1 == n,
            Wanted::Firsts => is_first(i),
            Wanted::Last => i + 1 == n,
        };
        let want: Vec<u32> = (0..n).filter(is_wanted).collect();
        let input = noise.numbers(width * seq.len());
        let rows = Rows { token: &token, pos: &pos, seq, want: &want, input: &input };
        let mut of_batch: Vec<&mut B::Sequence> = sequences.iter_mut().collect();
        backend.run(&rows, &mut of_batch, None, &AtomicBool::new(false), &mut out)?;
    }
    Ok(out)
}

/// Which rows of a batch are wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    All,
    /// Every third one, and the last.
    Some,
    /// The first of each sequence.
    Firsts,
    /// The last of the batch.
    Last,
}

/// Batches with caches of these types.
pub struct Script<'a> {
    pub batches: &'a [Batch],
    pub cache: [CacheType; 2],
    pub wanted: Wanted,
}

impl Script<'_> {
    fn n_seq(&self) -> usize {
        self.batches.iter().flatten().max().map_or(1, |&s| s as usize + 1)
    }

    fn n_row(&self) -> u32 {
        self.batches.iter().map(|b| b.len() as u32).max().unwrap_or(1)
    }

    fn n_ctx(&self) -> u32 {
        self.batches.iter().map(|b| b.len() as u32).sum()
    }

    pub fn on_cpu(&self, plan: &Arc<Plan>, weights: Arc<dyn Weights>, exact: bool) -> Vec<f32> {
        self.on_cpu_with(plan, weights, exact, &[])
    }

    /// With these tokens in the first rows.
    pub fn on_cpu_with(&self, plan: &Arc<Plan>, weights: Arc<dyn Weights>, exact: bool, tokens: &[u32]) -> Vec<f32> {
        let options = CpuOptions { exact, kernels: "auto".into(), sum_inputs: false };
        let team = Arc::new(Team::new(1, 0).unwrap());
        let mut backend = CpuBackend::new(plan.clone(), weights, team, &options).unwrap();
        let [k, v] = self.cache;
        let sequence = |_| CpuSequence::new(plan, self.n_ctx(), self.n_row(), k, v).unwrap();
        let mut sequences: Vec<_> = (0..self.n_seq()).map(sequence).collect();
        pass_with(&mut backend, plan, &mut sequences, self.batches, self.wanted, tokens).unwrap()
    }

    pub fn on_gpu(&self, gpu: &Arc<Gpu>, plan: &Arc<Plan>, weights: &dyn Weights, options: &GpuOptions) -> Vec<f32> {
        self.on_gpu_with(gpu, plan, weights, options, &[])
    }

    /// With these tokens in the first rows.
    pub fn on_gpu_with(
        &self,
        gpu: &Arc<Gpu>,
        plan: &Arc<Plan>,
        weights: &dyn Weights,
        options: &GpuOptions,
        tokens: &[u32],
    ) -> Vec<f32> {
        let options = GpuOptions { n_batch: self.n_row(), ..options.clone() };
        let mut backend = backend(gpu, plan, weights, &options).unwrap_or_else(|e| panic!("{e}"));
        let [k, v] = self.cache;
        let sequence = |_| GpuSequence::new(gpu, plan, self.n_ctx(), self.n_row(), k, v).unwrap();
        let mut sequences: Vec<_> = (0..self.n_seq()).map(sequence).collect();
        pass_with(&mut backend, plan, &mut sequences, self.batches, self.wanted, tokens).unwrap()
    }
}

pub fn backend(gpu: &Arc<Gpu>, plan: &Arc<Plan>, weights: &dyn Weights, options: &GpuOptions) -> Result<GpuBackend> {
    GpuBackend::new(gpu.clone(), plan.clone(), weights, options, &AtomicBool::new(false), &mut |_| {})
}

/// The largest difference in units of the largest wanted number, and where it is.
pub fn worst(want: &[f32], got: &[f32]) -> (f32, usize) {
    assert_eq!(want.len(), got.len());
    let scale = want.iter().fold(f32::MIN_POSITIVE, |m, x| m.max(x.abs()));
    let error = |i: usize| {
        let e = (want[i] - got[i]).abs() / scale;
        if e.is_nan() { f32::INFINITY } else { e }
    };
    let at = (0..want.len()).max_by(|&a, &b| error(a).total_cmp(&error(b))).unwrap_or(0);
    (if want.is_empty() { 0.0 } else { error(at) }, at)
}

/// Mean of the differences.
pub fn mean_error(want: &[f32], got: &[f32]) -> f64 {
    assert_eq!(want.len(), got.len());
    want.iter().zip(got).map(|(a, b)| f64::from((a - b).abs())).sum::<f64>() / want.len().max(1) as f64
}
