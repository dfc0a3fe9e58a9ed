//! What the machine could do with a model at most.

use super::load::{MappedWeights, Model};
use crate::cpu::Limits;
use crate::error::Result;
use crate::plan::{Step, WeightId, Weights};

/// Bytes that are read at most: more than caches hold, and quickly done.
const MAX_READ_BYTES: usize = 2 << 30;

impl Model {
    /// What this machine can do at most with the model's threads and kernels, measured at once: reading the model's
    /// own matrices as they lie in memory (the first 2 GiB), and products from registers. Takes some 0.1 s for each
    /// GiB. Speeds mean something beside limits of the same minute: measure before and after, and keep the better
    /// by [`Limits::best`]. `None` where a GPU computes.
    ///
    /// # Errors
    /// As [`Model::kernels`].
    pub fn limits(&self) -> Result<Option<Limits>> {
        let plan = self.plan(0)?;
        let weights = MappedWeights::new(&self.0.gguf, &self.0.adapters, &plan)?;
        let linear = plan.steps().iter().filter_map(|step| match step {
            Step::Linear { parts, .. } => Some(parts.iter().map(|p| p.weight).collect::<Vec<_>>()),
            Step::Experts(e) => Some(e.parts().map(|p| p.weight).collect()),
            _ => None,
        });
        let (mut ids, mut n_bytes): (Vec<WeightId>, usize) = (Vec::new(), 0);
        for id in linear.flatten() {
            let len = weights.bytes(id).len();
            if !ids.contains(&id) && n_bytes + len <= MAX_READ_BYTES.max(len) {
                ids.push(id);
                n_bytes += len;
            }
        }
        let bytes: Vec<&[u8]> = ids.into_iter().map(|id| weights.bytes(id)).collect();
        self.with_any_executor(|executor| executor.limits(&bytes))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::engine::{Model, ModelOptions};

    #[test]
    fn a_model_knows_the_limits_of_its_threads() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/qwen3/model.gguf");
        let options = ModelOptions::default().with_threads(2);
        let limits = Model::open(&path, &options).unwrap().limits().unwrap().unwrap();
        assert!(limits.read_bytes_per_s > 0.0 && limits.read_bytes_per_s.is_finite(), "{limits:?}");
        // Exact mode computes without the instructions that limits count.
        let exact = Model::open(&path, &options.with_exact(true)).unwrap().limits().unwrap().unwrap();
        assert!(exact.read_bytes_per_s > 0.0 && exact.int8_macs_per_s.is_none(), "{exact:?}");
    }
}
