//! What was measured, for people and for programs. Columns have llama-bench's names where it has them.

use std::fmt::Write as _;

use serde_json::{Value as Json, json};
use tealight::Model;
use tealight::plan::Work;

use super::super::args::{BenchArgs, BenchFormat};
use super::super::{Outcome, files};
use super::Test;

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
    /// Nanoseconds of each repetition.
    pub samples: &'a [u64],
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
        self.samples.iter().map(|ns| self.test.n_token() * 1e9 / *ns as f64).collect()
    }

    /// Bytes of matrices read, and products made, per second in the best repetition.
    fn best(&self) -> (f64, f64) {
        let seconds = self.samples.iter().copied().min().unwrap_or(1) as f64 / 1e9;
        let (work, test) = (&self.subject.work, self.test);
        let n_pass = test.n_prompt.div_ceil(self.subject.n_ubatch.max(1)) + test.n_gen;
        let n_wanted = (usize::from(test.n_prompt > 0) + test.n_gen) as f64;
        let macs = test.n_token() * work.macs as f64 + n_wanted * work.macs_wanted as f64;
        (n_pass as f64 * work.bytes as f64 / seconds, macs / seconds)
    }

    fn object(&self) -> Outcome<Json> {
        let s = self.subject;
        let ns: Vec<f64> = self.samples.iter().map(|n| *n as f64).collect();
        let ((avg_ns, stddev_ns), (avg_ts, stddev_ts)) = (mean_and_deviation(&ns), mean_and_deviation(&self.rates()));
        let device = self.model.kernels()?;
        let (read, macs) = self.best();
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
            "gmac_per_s": macs / 1e9,
            "samples_ns": self.samples,
            "samples_ts": self.rates(),
        }))
    }
}

/// The processor's own name, where the system tells.
fn cpu_name() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find(|l| l.starts_with("model name")).and_then(|l| l.split_once(':'));
    name.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| tealight::error::printable(name.trim()))
}

/// Lines as they come.
pub(super) struct Table {
    format: BenchFormat,
    n_row: usize,
}

impl Table {
    pub fn new(format: BenchFormat) -> Self {
        Self { format, n_row: 0 }
    }

    fn head(&self) -> String {
        match self.format {
            BenchFormat::Md => "| model | size | params | backend | threads | test | t/s | weights GB/s | GMAC/s |\n\
                                | --- | ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: |\n"
                .to_owned(),
            BenchFormat::Json => "[\n".to_owned(),
            BenchFormat::Csv | BenchFormat::Jsonl => String::new(),
        }
    }

    pub fn tail(&self) -> String {
        match self.format {
            BenchFormat::Json => "\n]\n".to_owned(),
            _ => String::new(),
        }
    }

    pub fn row(&mut self, row: &Row<'_>) -> Outcome<String> {
        self.n_row += 1;
        let is_first = self.n_row == 1;
        let head = if is_first { self.head() } else { String::new() };
        let line = match self.format {
            BenchFormat::Md => markdown(row)?,
            BenchFormat::Jsonl => format!("{}\n", row.object()?),
            BenchFormat::Json => format!("{}{:#}", if is_first { "" } else { ",\n" }, row.object()?),
            BenchFormat::Csv => csv(&row.object()?, is_first),
        };
        Ok(head + &line)
    }
}

fn markdown(row: &Row<'_>) -> Outcome<String> {
    let s = row.subject;
    let (avg, deviation) = mean_and_deviation(&row.rates());
    let (read, macs) = row.best();
    let (size, n_params, device) = (files::size(s.size), files::count(s.n_params), row.model.kernels()?);
    Ok(format!(
        "| {} | {size} | {n_params} | {device} | {} | {} | {avg:.2} ± {deviation:.2} | {:.1} | {:.1} |\n",
        s.ty,
        s.n_threads,
        row.test.name(),
        read / 1e9,
        macs / 1e9
    ))
}

/// The object's fields but the samples, as llama-bench's table has them.
fn csv(object: &Json, with_names: bool) -> String {
    let mut text = String::new();
    let fields: Vec<_> = object.as_object().into_iter().flatten().filter(|(_, v)| !v.is_array()).collect();
    let quoted = |t: &str| format!("\"{}\"", t.replace('"', "\"\""));
    let mut line = |cells: Vec<String>| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}", cells.join(","));
    };
    if with_names {
        line(fields.iter().map(|(name, _)| (*name).clone()).collect());
    }
    line(fields.iter().map(|(_, v)| quoted(&v.as_str().map_or_else(|| v.to_string(), str::to_owned))).collect());
    text
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

    #[test]
    fn cells_of_a_csv_line_are_quoted() {
        let text = csv(&json!({"a": "x \"y\", z", "b": 1.5, "samples": [1]}), true);
        assert_eq!(text, "a,b\n\"x \"\"y\"\", z\",\"1.5\"\n");
    }
}
