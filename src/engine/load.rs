//! Opening a model.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::adapter::{self, Adapter, OpenAdapter};
use super::cancel::CancelToken;
use super::device::{DeviceChoice, GpuCheck, GpuLayers};
use super::executor::{CpuMaker, Executor, Loading};
use super::notice::{Notice, Placement};
use crate::arch::{self, Config, Pooling};
use crate::cpu::{self, Team};
use crate::error::{Error, ErrorKind, Result};
use crate::gguf::{Gguf, Tensor};
use crate::knobs::Knobs;
use crate::plan::{Plan, WeightId, WeightRef, Weights};
#[cfg(feature = "grammar")]
use crate::sample::grammar::TokenTable;
use crate::text::{ChatTemplate, Encode, Vocab};

/// How a model is opened.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ModelOptions {
    /// Threads; `None`: physical cores, fast ones where there are slow ones, and no more than the process may use.
    pub n_threads: Option<usize>,
    /// Compute exactly: f32 activations, dequantized weights, f64 sums in matrices and norms. Slow.
    pub exact: bool,
    /// The device that computes.
    pub device: DeviceChoice,
    /// Layers that a GPU computes.
    pub gpu_layers: GpuLayers,
    /// Whether a GPU is compared with the CPU first.
    pub gpu_check: GpuCheck,
    /// Sum the squares of what matrices are multiplied with, which the CPU does alone: [`Model::input_sums`].
    pub sum_inputs: bool,
    /// How texts get their vectors, in place of what the file says. A model that writes text gives vectors then, and no
    /// logits.
    pub pooling: Option<Pooling>,
    /// LoRA adapters that change the model's matrices, all together.
    pub adapters: Vec<Adapter>,
    /// Tuning values.
    pub knobs: Knobs,
}

impl ModelOptions {
    /// Sets the number of threads.
    #[must_use]
    pub fn with_threads(mut self, n_threads: usize) -> Self {
        self.n_threads = Some(n_threads);
        self
    }

    /// Chooses exact computation.
    #[must_use]
    pub fn with_exact(mut self, exact: bool) -> Self {
        self.exact = exact;
        self
    }

    /// Chooses the device that computes.
    #[must_use]
    pub fn with_device(mut self, device: DeviceChoice) -> Self {
        self.device = device;
        self
    }

    /// Sets the layers that a GPU computes.
    #[must_use]
    pub fn with_gpu_layers(mut self, gpu_layers: GpuLayers) -> Self {
        self.gpu_layers = gpu_layers;
        self
    }

    /// Sets whether a GPU is compared with the CPU first.
    #[must_use]
    pub fn with_gpu_check(mut self, gpu_check: GpuCheck) -> Self {
        self.gpu_check = gpu_check;
        self
    }

    /// Asks for sums of what matrices are multiplied with; the CPU computes then, whatever device was chosen.
    #[must_use]
    pub fn with_sum_inputs(mut self, sum_inputs: bool) -> Self {
        self.sum_inputs = sum_inputs;
        self
    }

    /// Makes the model one that gives vectors for texts.
    #[must_use]
    pub fn with_pooling(mut self, pooling: Pooling) -> Self {
        self.pooling = Some(pooling);
        self
    }

    /// Adds a LoRA adapter.
    #[must_use]
    pub fn with_adapter(mut self, adapter: Adapter) -> Self {
        self.adapters.push(adapter);
        self
    }

    /// Sets the tuning values.
    #[must_use]
    pub fn with_knobs(mut self, knobs: Knobs) -> Self {
        self.knobs = knobs;
        self
    }
}

/// What a matrix was multiplied with.
#[derive(Clone, Debug, PartialEq)]
pub struct InputSum {
    /// Name of the tensor.
    pub tensor: String,
    /// Sum of the squares of each column of its inputs, `[in]`; of a stack of matrices [matrices, in].
    pub squares: Vec<f64>,
    /// Inputs, one for each token; of each matrix of a stack.
    pub n_row: Vec<u64>,
}

/// A model: its file, and what was made of it. Cheap to clone, usable from any thread; sessions of one model share
/// its threads and take turns.
#[derive(Clone)]
pub struct Model(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub gguf: Arc<Gguf>,
    pub adapters: Arc<[OpenAdapter]>,
    pub options: ModelOptions,
    vocab: OnceLock<Vocab>,
    /// Held while the vocabulary is read, so that two who want it read it once.
    reading_vocab: Mutex<()>,
    /// The tokens as grammars see them, made at the first use.
    #[cfg(feature = "grammar")]
    token_table: OnceLock<Arc<TokenTable>>,
    template: OnceLock<Option<ChatTemplate>>,
    /// What tells the file from others, found at the first use.
    pub identity: OnceLock<u64>,
    /// Whether the matrices are being brought into memory, or were.
    pub reads_ahead: AtomicBool,
    /// The threads of all programs, started at the first use.
    team: Mutex<Option<Arc<Team>>>,
    /// Plans by the class of context length that they hold for: short and long.
    programs: [OnceLock<Arc<Program>>; 2],
}

impl Inner {
    /// Rows of one forward pass at most: the knob's, or for a model that looks both ways all that it was trained for.
    pub fn n_batch(&self) -> u32 {
        let config = self.programs.iter().find_map(OnceLock::get).map(|p| &p.config);
        let least = config.filter(|c| !c.causal).map_or(1, |c| c.n_ctx_train);
        (self.options.knobs.n_ubatch as u32).max(least).clamp(1, MAX_BATCH)
    }
}

/// Rows of a pass at most, whatever a file or a knob says.
const MAX_BATCH: u32 = 1 << 16;

/// A plan and its executor.
pub(crate) struct Program {
    pub plan: Arc<Plan>,
    pub config: Config,
    pub n_vocab: u32,
    executor: Mutex<Option<Executor>>,
}

/// Weights where they lie in the mapped files.
pub(super) struct MappedWeights {
    /// By weight: the file, and the index into its tensors.
    tensors: Vec<(Arc<Gguf>, usize)>,
}

impl MappedWeights {
    /// The weights of a plan of the file's and its adapters'.
    pub fn new(gguf: &Arc<Gguf>, adapters: &[OpenAdapter], plan: &Plan) -> Result<Self> {
        let mut by_name: HashMap<Cow<'_, str>, (&Arc<Gguf>, usize)> = HashMap::new();
        by_name.extend(gguf.tensors().iter().enumerate().map(|(i, t)| (t.name.as_str().into(), (gguf, i))));
        for (n, adapter) in adapters.iter().enumerate() {
            let named = |t: &Tensor| arch::adapter_weight_name(n, &t.name).into();
            let tensors = adapter.gguf.tensors().iter().enumerate();
            by_name.extend(tensors.map(|(i, t)| (named(t), (&adapter.gguf, i))));
        }
        let find = |w: &WeightRef| by_name.get(w.name.as_str()).map(|(gguf, i)| ((*gguf).clone(), *i));
        let tensors: Option<Vec<_>> = plan.weights().iter().map(find).collect();
        let tensors =
            tensors.ok_or_else(|| Error::new(ErrorKind::Internal, "a plan names a tensor that is not there"))?;
        Ok(Self { tensors })
    }
}

impl Weights for MappedWeights {
    fn bytes(&self, id: WeightId) -> &[u8] {
        let (gguf, i) = &self.tensors[id.index()];
        gguf.bytes(&gguf.tensors()[*i])
    }
}

impl Model {
    /// Opens a model file, or any shard of a sharded one, and checks that it can run. Weights are not read yet.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when the file cannot be read, [`ErrorKind::Model`] when it is malformed or not supported.
    pub fn open(path: impl AsRef<Path>, options: &ModelOptions) -> Result<Model> {
        Self::from_gguf(Arc::new(Gguf::open(path.as_ref())?), options)
    }

    /// The model of a file that is open already.
    ///
    /// # Errors
    /// [`ErrorKind::Model`] when it is not supported, [`ErrorKind::Usage`] for a device that the build leaves out.
    pub fn from_gguf(gguf: Arc<Gguf>, options: &ModelOptions) -> Result<Model> {
        #[cfg(not(feature = "gpu"))]
        super::device::open(&options.device)?;
        let mut options = options.clone();
        if options.sum_inputs {
            options.device = DeviceChoice::Cpu;
        }
        let adapters = adapter::open(&options.adapters)?.into();
        let inner = Inner {
            gguf,
            adapters,
            options,
            vocab: OnceLock::new(),
            reading_vocab: Mutex::new(()),
            #[cfg(feature = "grammar")]
            token_table: OnceLock::new(),
            template: OnceLock::new(),
            identity: OnceLock::new(),
            reads_ahead: AtomicBool::new(false),
            team: Mutex::new(None),
            programs: Default::default(),
        };
        let model = Model(Arc::new(inner));
        model.program(0)?;
        Ok(model)
    }

    /// The file.
    pub fn gguf(&self) -> &Gguf {
        &self.0.gguf
    }

    /// The vocabulary, read at its first use. It may be wanted on a thread beside [`Model::prepare`], before it is
    /// needed.
    ///
    /// # Errors
    /// [`ErrorKind::Model`] when the file has none, or one that is malformed.
    pub fn vocab(&self) -> Result<&Vocab> {
        if let Some(vocab) = self.0.vocab.get() {
            return Ok(vocab);
        }
        let _reading = self.0.reading_vocab.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(vocab) = self.0.vocab.get() {
            return Ok(vocab);
        }
        let vocab = Vocab::load(&self.0.gguf)?;
        if vocab.n_tokens() > self.n_vocab() {
            let text =
                format!("the vocabulary has {} tokens, the embeddings {} rows", vocab.n_tokens(), self.n_vocab());
            return Err(Error::new(ErrorKind::Model, text).in_file(self.gguf().path()));
        }
        Ok(self.0.vocab.get_or_init(|| vocab))
    }

    /// The chat template, compiled at its first use; `None` when the file has none.
    ///
    /// # Errors
    /// [`ErrorKind::Model`] when it does not compile.
    pub fn chat_template(&self) -> Result<Option<&ChatTemplate>> {
        if let Some(template) = self.0.template.get() {
            return Ok(template.as_ref());
        }
        let template = ChatTemplate::from_metadata(&self.gguf().metadata())?;
        Ok(self.0.template.get_or_init(|| template).as_ref())
    }

    /// The tokens of a text, which may be any bytes.
    ///
    /// # Errors
    /// As [`Model::vocab`].
    pub fn encode(&self, text: &[u8], how: Encode) -> Result<Vec<u32>> {
        Ok(self.vocab()?.encode(text, how))
    }

    /// What is odd about the file but no reason to refuse it: of the container, the plan and the vocabulary, if they
    /// have been read.
    pub fn warnings(&self) -> Vec<String> {
        let vocab = self.0.vocab.get().map_or(&[][..], Vocab::warnings);
        self.gguf().warnings().iter().chain(self.any_program().plan.notes()).chain(vocab).cloned().collect()
    }

    /// What has happened since the last call that people should hear: where the model computes and why, and a GPU that
    /// was left. New ones come when a session is made and when one is fed.
    pub fn take_notices(&self) -> Vec<Notice> {
        let executors = self.0.programs.iter().filter_map(OnceLock::get).map(|p| &p.executor);
        let locked = executors.map(|e| e.lock().unwrap_or_else(PoisonError::into_inner));
        locked.flat_map(|mut e| e.as_mut().map(Executor::take_notices).unwrap_or_default()).collect()
    }

    /// The tokens as grammars see them.
    #[cfg(feature = "grammar")]
    pub(crate) fn token_table(&self) -> Result<&Arc<TokenTable>> {
        if let Some(table) = self.0.token_table.get() {
            return Ok(table);
        }
        let table = TokenTable::new(self.vocab()?)?;
        Ok(self.0.token_table.get_or_init(|| Arc::new(table)))
    }

    /// Context length that the model was trained for.
    pub fn n_ctx_train(&self) -> u32 {
        self.any_program().config.n_ctx_train
    }

    /// Width of a row of results: logits, or hidden states of an embedding model.
    pub fn n_output(&self) -> u32 {
        self.any_program().plan.outputs()[0].len()
    }

    /// Rows of the embedding table.
    pub fn n_vocab(&self) -> u32 {
        self.any_program().n_vocab
    }

    /// Does the model produce logits, so that it can write text?
    pub fn has_logits(&self) -> bool {
        !self.any_program().config.embeds
    }

    /// How a text gets its vector; `None` where neither the file nor the options say it.
    pub fn pooling(&self) -> Option<Pooling> {
        self.any_program().config.pooling
    }

    /// Does every token see earlier ones alone? Else a text must be fed whole, in one call.
    pub fn is_causal(&self) -> bool {
        self.any_program().config.causal
    }

    /// The plan for sessions of `n_ctx` positions.
    ///
    /// # Errors
    /// [`ErrorKind::Model`] when the model is not supported.
    pub fn plan(&self, n_ctx: u32) -> Result<Arc<Plan>> {
        Ok(self.program(n_ctx)?.plan.clone())
    }

    /// Where sessions of `n_ctx` positions run, without loading weights. A choice that is left open is measured.
    ///
    /// # Errors
    /// [`ErrorKind::Gpu`] or [`ErrorKind::Usage`] when the chosen device does not exist or cannot run the model.
    pub fn placement(&self, n_ctx: u32) -> Result<Placement> {
        let maker = CpuMaker::new(&self.0, self.team()?);
        #[cfg(feature = "gpu")]
        return super::placement::placement(&self.plan(n_ctx)?, &self.0, &maker, n_ctx);
        #[cfg(not(feature = "gpu"))]
        return Ok(Placement::on_cpu(maker.kernels()?, format!("{n_ctx} positions; built without GPU support")));
    }

    /// Name of the CPU kernels or of the GPU in use.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when the chosen kernels do not run on this CPU, [`ErrorKind::Memory`] when threads cannot
    /// start.
    pub fn kernels(&self) -> Result<String> {
        self.with_any_executor(|e| Ok(e.name()))
    }

    /// Calls `f` with the executor that exists, or else is made for sessions as long as the model was trained for.
    pub(super) fn with_any_executor<R>(&self, f: impl FnOnce(&mut Executor) -> Result<R>) -> Result<R> {
        self.with_executor(self.any_program(), self.n_ctx_train(), f)
    }

    /// What each matrix was multiplied with since the model was opened with [`ModelOptions::sum_inputs`], in the order
    /// of use; a matrix that several steps use comes several times.
    ///
    /// # Errors
    /// As [`Model::kernels`].
    pub fn input_sums(&self) -> Result<Vec<InputSum>> {
        self.with_any_executor(|e| {
            let named = e.input_sums().into_iter();
            Ok(named.map(|(tensor, sum)| InputSum { tensor, squares: sum.squares, n_row: sum.n_row }).collect())
        })
    }

    /// Threads that compute.
    ///
    /// # Errors
    /// [`ErrorKind::Memory`] when they cannot start.
    pub fn n_threads(&self) -> Result<usize> {
        Ok(self.team()?.n_threads())
    }

    fn team(&self) -> Result<Arc<Team>> {
        let mut team = self.0.team.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(team) = &*team {
            return Ok(team.clone());
        }
        let n_threads = self.0.options.n_threads.unwrap_or_else(cpu::default_threads);
        Ok(team.insert(Arc::new(Team::new(n_threads, self.0.options.knobs.spins)?)).clone())
    }

    /// What the choice between both devices goes by.
    #[cfg(all(test, feature = "gpu"))]
    pub(super) fn measured(&self, plan: &Arc<Plan>, gpu: &Arc<crate::gpu::Gpu>) -> Result<super::choice::Measured> {
        let maker = CpuMaker::new(&self.0, self.team()?);
        super::choice::compare(plan, 0, &self.0, &maker, gpu, &crate::gpu::GpuOptions::default())
    }

    /// Calls `f` with the executor of a program, which is made at its first use for sessions of `n_ctx` positions.
    pub(crate) fn with_executor<R>(
        &self,
        program: &Program,
        n_ctx: u32,
        f: impl FnOnce(&mut Executor) -> Result<R>,
    ) -> Result<R> {
        let never = CancelToken::new();
        self.with_loading(program, n_ctx, &mut Loading { cancel: never.flag(), progress: &mut |_, _| {} }, f)
    }

    /// As [`Model::with_executor`], with an eye on the making.
    pub(super) fn with_loading<R>(
        &self,
        program: &Program,
        n_ctx: u32,
        loading: &mut Loading<'_>,
        f: impl FnOnce(&mut Executor) -> Result<R>,
    ) -> Result<R> {
        let mut executor = program.executor.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(executor) = &mut *executor {
            return f(executor);
        }
        let executor = executor.insert(Executor::new(&program.plan, &self.0, self.team()?, n_ctx, loading)?);
        if executor.uses_cpu() {
            self.read_ahead();
        }
        f(executor)
    }

    pub(crate) fn options(&self) -> &ModelOptions {
        &self.0.options
    }

    pub(crate) fn any_program(&self) -> &Program {
        self.0.programs.iter().find_map(OnceLock::get).expect("`from_gguf` made the first program")
    }

    /// The program for sessions of `n_ctx` positions: longrope models have two, all others one.
    pub(crate) fn program(&self, n_ctx: u32) -> Result<Arc<Program>> {
        let gguf = &self.0.gguf;
        let two = gguf.tensor("rope_factors_long.weight").is_some();
        let long = two && self.0.programs[0].get().is_some_and(|p| n_ctx > p.config.rope.n_ctx_orig);
        let slot = &self.0.programs[usize::from(long)];
        if let Some(program) = slot.get() {
            return Ok(program.clone());
        }
        let adapters: Vec<_> = self.0.adapters.iter().map(|a| (&*a.gguf, a.scale)).collect();
        let purpose = arch::Purpose { n_ctx, adapters: &adapters, pooling: self.0.options.pooling };
        let arch::Lowered { plan, config, n_vocab } = arch::lower(gguf, &purpose)?;
        let program = Program { plan: Arc::new(plan), config, n_vocab, executor: Mutex::new(None) };
        Ok(slot.get_or_init(|| Arc::new(program)).clone())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{InputSum, Model, ModelOptions};
    use crate::engine::{SessionOptions, Want};
    use crate::plan::CacheType;

    fn sums(n_threads: usize, n_chunk: u32) -> Vec<InputSum> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/qwen3/model.gguf");
        let options = ModelOptions::default().with_threads(n_threads).with_exact(true).with_sum_inputs(true);
        let model = Model::open(path, &options).unwrap();
        let mut session = model.session(&SessionOptions::default().with_cache(CacheType::F32, CacheType::F32)).unwrap();
        session.feed(&[5, 9, 2, 7, 11, 3, 8], n_chunk, Want::All, &mut |_| {}).unwrap();
        model.input_sums().unwrap()
    }

    #[test]
    fn sums_of_inputs_are_the_squares_of_what_matrices_read() {
        let found = sums(2, 7);
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/qwen3/model.gguf");
        let model = Model::open(path, &ModelOptions::default().with_exact(true)).unwrap();
        let plan = model.plan(64).unwrap();
        let mut session = model.session(&SessionOptions::default().with_cache(CacheType::F32, CacheType::F32)).unwrap();
        // what the second norm of the layer wrote, which the feed-forward part reads
        let probe = plan.find_label("blk.1.n").expect("the plan names the normalised rows");
        let rows = session.feed_probe(&[5, 9, 2, 7, 11, 3, 8], 7, Want::All, Some(probe), &mut |_| {}).unwrap();
        let width = probe.operand().len() as usize;
        let up = found.iter().find(|s| s.tensor == "blk.1.ffn_up.weight").unwrap();
        assert_eq!((up.squares.len(), &up.n_row[..]), (width, &[7][..]));
        for (i, sum) in up.squares.iter().enumerate() {
            let expected: f64 = rows.chunks_exact(width).map(|row| f64::from(row[i]) * f64::from(row[i])).sum();
            assert!((sum - expected).abs() <= 1e-12 * expected.max(1.0), "{i}: {sum} {expected}");
        }
        assert!(found.iter().any(|s| s.tensor == "blk.0.ffn_down.weight" && s.n_row == [7]));
    }

    #[test]
    fn sums_of_inputs_do_not_depend_on_threads_or_batches() {
        let whole = sums(1, 7);
        assert!(!whole.is_empty());
        for (n_threads, n_chunk) in [(3, 7), (2, 2), (1, 1)] {
            assert_eq!(sums(n_threads, n_chunk), whole, "{n_threads} threads, chunks of {n_chunk}");
        }
    }
}
