//! What was measured, for people and for programs. Columns have llama-bench's names where it has them.

use serde_json::{Value as Json, json};
use tealight::Model;
use tealight::plan::Work;

use super::super::args::BenchArgs;
use super::super::{Outcome, files};
use super::table::share;
use super::{Measured, Test};

/// Columns of the table for people, and where their cells stand.
pub(super) const HEAD: &[(&str, bool)] = &[
    ("model", false),
    ("size", true),
    ("params", true),
    ("backend", false),
    ("threads", true),
    ("test", true),
    ("t/s", true),
    ("weights GB/s", true),
    ("of reading", true),
    ("GMAC/s", true),
    ("of peak", true),
];

/// A model as it is measured.
pub(super) struct Subject {
    filename: String,
    ty: String,
    size: u64,
    n_params: u64,
    n_batch: u32,
    n_ubatch: usize,
    n_threads: usize,
    type_k: &'static str,
    type_v: &'static str,
    n_gpu_layers: String,
    cpu: String,
    work: Work,
}

/// One line of the table.
pub(super) struct Row<'a> {
    pub subject: &'a Subject,
    pub model: &'a Model,
    pub test: Test,
    pub measured: &'a Measured,
}

impl Subject {
    pub fn of(model: &Model, args: &BenchArgs) -> Outcome<Self> {
        let gguf = model.gguf();
        let meta = gguf.metadata();
        let elements = |shape: &[u64]| shape.iter().product::<u64>();
        let str = |key: &str| meta.str(key).ok().flatten().map(tealight::error::printable);
        let file_type = meta.u64("general.file_type").ok().flatten().and_then(files::file_type);
        let name = [str("general.architecture"), str("general.size_label"), file_type.map(str::to_owned)];
        let cache = args.cache.resolve(false);
        Ok(Self {
            filename: gguf.path().to_string_lossy().into_owned(),
            ty: name.into_iter().flatten().collect::<Vec<_>>().join(" "),
            size: gguf.tensors().iter().map(|t| t.bytes).sum(),
            n_params: gguf.tensors().iter().map(|t| elements(&t.shape)).sum(),
            n_batch: args.batch_size,
            n_ubatch: args.options(None)?.knobs.n_ubatch,
            n_threads: model.n_threads()?,
            type_k: cache.cache_k.block_type().name(),
            type_v: cache.cache_v.block_type().name(),
            n_gpu_layers: args.device.gpu_layers.to_string(),
            cpu: cpu_name(),
            work: model.plan(1)?.work(),
        })
    }
}

impl Test {
    /// `pp512`, `tg128`, `pp512+tg128`, with the depth where there is one.
    fn name(self) -> String {
        let mut name = match (self.n_prompt, self.n_gen) {
            (p, 0) => format!("pp{p}"),
            (0, g) => format!("tg{g}"),
            (p, g) => format!("pp{p}+tg{g}"),
        };
        if self.n_depth > 0 {
            name += &format!(" @ d{}", self.n_depth);
        }
        name
    }

    fn n_token(self) -> f64 {
        (self.n_prompt + self.n_gen) as f64
    }
}

/// Mean and standard deviation of a sample.
fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    if values.len() < 2 {
        return (mean, 0.0);
    }
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
    (mean, variance.sqrt())
}

impl Row<'_> {
    /// Tokens per second of each repetition.
    fn rates(&self) -> Vec<f64> {
        self.measured.samples.iter().map(|ns| self.test.n_token() * 1e9 / *ns as f64).collect()
    }

    /// Bytes of matrices read, and products made, per second in the best repetition.
    fn best(&self) -> (f64, f64) {
        let seconds = self.measured.samples.iter().copied().min().unwrap_or(1) as f64 / 1e9;
        let (work, test) = (&self.subject.work, self.test);
        let n_pass = test.n_prompt.div_ceil(self.subject.n_ubatch.max(1)) + test.n_gen;
        let n_wanted = (usize::from(test.n_prompt > 0) + test.n_gen) as f64;
        let macs = test.n_token() * work.macs as f64 + n_wanted * work.macs_wanted as f64;
        (n_pass as f64 * work.bytes as f64 / seconds, macs / seconds)
    }

    /// What plain reading gets, and products from registers, per second; `None` where that was not measured.
    fn limits(&self) -> (Option<f64>, Option<f64>) {
        let Some(limits) = self.measured.limits else { return (None, None) };
        let work = &self.subject.work;
        // Blocks are multiplied as integers, plain numbers as such.
        let is_float = 2 * work.macs_float > work.macs + work.macs_wanted;
        (Some(limits.read_bytes_per_s), if is_float { limits.f32_macs_per_s } else { limits.int8_macs_per_s })
    }

    /// A line of [`HEAD`]. What limits a test has its share shown: reading limits answers, products limit prompts.
    pub fn markdown(&self) -> Outcome<String> {
        let s = self.subject;
        let (avg, deviation) = mean_and_deviation(&self.rates());
        let ((read, macs), (most_read, most_macs)) = (self.best(), self.limits());
        let (size, n_params, device) = (files::size(s.size), files::count(s.n_params), self.model.kernels()?);
        let of_reading = most_read.filter(|_| self.test.n_gen > 0).map(|r| read / r);
        let of_peak = most_macs.filter(|_| self.test.n_prompt > 0).map(|m| macs / m);
        Ok(format!(
            "| {} | {size} | {n_params} | {device} | {} | {} | {avg:.2} ± {deviation:.2} | {:.1} | {} | {:.1} | {} |\n",
            s.ty,
            s.n_threads,
            self.test.name(),
            read / 1e9,
            share(of_reading),
            macs / 1e9,
            share(of_peak)
        ))
    }

    pub fn object(&self) -> Outcome<Json> {
        let s = self.subject;
        let ns: Vec<f64> = self.measured.samples.iter().map(|n| *n as f64).collect();
        let ((avg_ns, stddev_ns), (avg_ts, stddev_ts)) = (mean_and_deviation(&ns), mean_and_deviation(&self.rates()));
        let device = self.model.kernels()?;
        let (read, macs) = self.best();
        let (most_read, most_macs) = self.limits();
        Ok(json!({
            "build_commit": format!("tealight {}", env!("CARGO_PKG_VERSION")),
            "cpu_info": s.cpu,
            "backends": device,
            "model_filename": s.filename,
            "model_type": s.ty,
            "model_size": s.size,
            "model_n_params": s.n_params,
            "n_batch": s.n_batch,
            "n_ubatch": s.n_ubatch,
            "n_threads": s.n_threads,
            "type_k": s.type_k,
            "type_v": s.type_v,
            "n_gpu_layers": s.n_gpu_layers,
            "n_prompt": self.test.n_prompt,
            "n_gen": self.test.n_gen,
            "n_depth": self.test.n_depth,
            "avg_ns": avg_ns.round() as u64,
            "stddev_ns": stddev_ns.round() as u64,
            "avg_ts": avg_ts,
            "stddev_ts": stddev_ts,
            "weights_gb_per_s": read / 1e9,
            "read_gb_per_s": most_read.map(|r| r / 1e9),
            "read_share": most_read.map(|r| read / r),
            "gmac_per_s": macs / 1e9,
            "peak_gmac_per_s": most_macs.map(|m| m / 1e9),
            "peak_share": most_macs.map(|m| macs / m),
            "samples_ns": self.measured.samples,
            "samples_ts": self.rates(),
        }))
    }
}

/// The processor's own name, where the system tells.
pub(super) fn cpu_name() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find(|l| l.starts_with("model name")).and_then(|l| l.split_once(':'));
    name.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| tealight::error::printable(name.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_have_llama_benchs_names() {
        let test = |n_prompt, n_gen, n_depth| Test { n_prompt, n_gen, n_depth }.name();
        assert_eq!(test(512, 0, 0), "pp512");
        assert_eq!(test(0, 128, 1024), "tg128 @ d1024");
        assert_eq!(test(64, 16, 0), "pp64+tg16");
    }

    #[test]
    fn deviations_are_those_of_a_sample() {
        assert_eq!(mean_and_deviation(&[2.0]), (2.0, 0.0));
        assert_eq!(mean_and_deviation(&[1.0, 2.0, 3.0]), (2.0, 1.0));
    }
}
