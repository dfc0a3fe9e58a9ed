//! `tealight inspect`: what is in a file, what it needs, whether it runs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value as Json, json};
use tealight::engine::{self, DeviceChoice, Placement};
use tealight::error::{escaped, printable};
use tealight::gguf::{Gguf, Metadata, Tensor};
use tealight::plan::MemoryEstimate;
use tealight::{Error, Model, ModelOptions, SessionOptions};

use super::args::InspectArgs;
use super::output::Output;
use super::{Outcome, files};

pub(crate) fn run(args: &InspectArgs, out: &mut Output) -> Outcome {
    if args.architectures {
        return out.bytes(if args.json { architectures_json() } else { architectures_text() }.as_bytes());
    }
    let (subject, _) = args.model.resolve(&args.words, false)?;
    let gguf = Arc::new(subject.gguf()?);
    gguf.warnings().iter().for_each(|w| out.warning(w));
    let options = args.device.resolve()?;
    let session = args.context.resolve(args.cache.resolve(false));
    let needs = Needs::of(&gguf, &options, &session);
    let placement = match (&needs, args.plan) {
        (Ok(needs), true) => Some(Model::from_gguf(gguf.clone(), &options)?.placement(needs.n_ctx)?),
        _ => None,
    };
    let report = Report { gguf: &gguf, needs, placement };
    let text = if args.json { report.json(args)? } else { report.text(args)? };
    out.bytes(text.as_bytes())
}

/// What a file holds, and what it needs.
struct Report<'a> {
    gguf: &'a Gguf,
    needs: Result<Needs, Error>,
    placement: Option<Placement>,
}

/// What running takes.
struct Needs {
    model: Model,
    n_ctx: u32,
    memory: MemoryEstimate,
    options: SessionOptions,
}

impl Needs {
    fn of(gguf: &Arc<Gguf>, options: &ModelOptions, session: &SessionOptions) -> Result<Needs, Error> {
        // Looking at a file loads nothing onto a GPU.
        let model = Model::from_gguf(gguf.clone(), &options.clone().with_device(DeviceChoice::Cpu))?;
        // An empty session takes no memory, and is refused where `run` would be.
        let n_ctx = model.session(session)?.n_ctx();
        let memory = model.memory(n_ctx, session)?;
        Ok(Needs { model, n_ctx, memory, options: session.clone() })
    }
}

impl Report<'_> {
    fn meta(&self) -> Metadata<'_> {
        self.gguf.metadata()
    }

    /// A text of the metadata; one of another type counts as absent.
    fn str(&self, key: &str) -> Option<&str> {
        self.meta().str(key).ok().flatten()
    }

    /// A number that the architecture's keys begin with its name.
    fn number(&self, key: &str) -> Option<u64> {
        let arch = self.str("general.architecture")?;
        self.meta().u64(&format!("{arch}.{key}")).ok().flatten()
    }

    fn file_type(&self) -> Option<&'static str> {
        files::file_type(self.meta().u64("general.file_type").ok().flatten()?)
    }

    fn n_parameter(&self) -> u64 {
        let elements = |shape: &[u64]| shape.iter().fold(1u64, |n, d| n.saturating_mul(*d));
        self.gguf.tensors().iter().map(|t| elements(&t.shape)).fold(0, u64::saturating_add)
    }

    fn tensor_bytes(&self) -> u64 {
        self.gguf.tensors().iter().map(|t| t.bytes).fold(0, u64::saturating_add)
    }

    fn bits_per_weight(&self) -> Option<f64> {
        let n = self.n_parameter();
        (n > 0).then(|| self.tensor_bytes() as f64 * 8.0 / n as f64)
    }

    fn n_vocab(&self) -> Option<usize> {
        self.meta().array("tokenizer.ggml.tokens").ok().flatten().map(|tokens| tokens.len())
    }

    fn has_template(&self) -> bool {
        self.str("tokenizer.chat_template").is_some()
    }

    /// What an adapter is: its kind, its ranks, its alpha, and how many matrices it changes. `None` for models.
    fn adapter(&self) -> Option<(&str, BTreeSet<u64>, Option<f32>, usize)> {
        self.str("general.type").filter(|t| *t == "adapter")?;
        let second = |t: &&Tensor| t.name.ends_with(".lora_b");
        let ranks = self.gguf.tensors().iter().filter(second).filter_map(|t| t.shape.last().copied());
        let alpha = self.meta().f32("adapter.lora.alpha").ok().flatten();
        let n_matrix = self.gguf.tensors().iter().filter(second).count();
        Some((self.str("adapter.type").unwrap_or("unknown"), ranks.collect(), alpha, n_matrix))
    }

    /// Bytes and tensors of each type.
    fn types(&self) -> BTreeMap<&'static str, (usize, u64)> {
        let mut types: BTreeMap<_, (usize, u64)> = BTreeMap::new();
        for tensor in self.gguf.tensors() {
            let entry = types.entry(tensor.ty.name()).or_default();
            *entry = (entry.0 + 1, entry.1.saturating_add(tensor.bytes));
        }
        types
    }

    /// Why it does not run, without the name of the file.
    fn reason(&self) -> Option<String> {
        let error = self.needs.as_ref().err()?;
        if self.gguf.tensors().is_empty() {
            return Some("the file holds a vocabulary and no weights".into());
        }
        let text = error.to_string();
        let prefix = error.file().map(|f| format!("{}: ", escaped(&f.to_string_lossy()))).unwrap_or_default();
        Some(text.strip_prefix(&prefix).unwrap_or(&text).to_owned())
    }

    fn file_of(&self, shard: usize) -> String {
        self.gguf.shard_paths().nth(shard).map(name_of).unwrap_or_default()
    }

    fn json(&self, args: &InspectArgs) -> Outcome<String> {
        let gguf = self.gguf;
        let files = gguf.shard_paths().zip(gguf.file_sizes());
        let tensors = gguf.tensors().iter().map(|t| {
            json!({
                "name": t.name, "type": t.ty.name(), "shape": t.shape,
                "offset": t.offset, "bytes": t.bytes, "file": self.file_of(t.shard),
            })
        });
        let keys: serde_json::Map<_, _> = self.meta().iter().map(|(k, v)| (k.to_owned(), files::json(v))).collect();
        let mut report = json!({
            "file": gguf.path().to_string_lossy(),
            "files": files.map(|(p, n)| json!({"name": name_of(p), "bytes": n})).collect::<Json>(),
            "version": gguf.version(),
            "alignment": gguf.alignment(),
            "name": self.str("general.name"),
            "architecture": self.str("general.architecture"),
            "parameters": self.n_parameter(),
            "file_type": self.file_type(),
            "bits_per_weight": self.bits_per_weight(),
            "tensor_bytes": self.tensor_bytes(),
            "n_ctx_train": self.number("context_length"),
            "vocabulary": self.n_vocab().map(|n| json!({
                "tokens": n,
                "model": self.str("tokenizer.ggml.model"),
                "pre": self.str("tokenizer.ggml.pre"),
            })),
            "chat_template": self.has_template(),
            "adapter": self.adapter().map(|(kind, ranks, alpha, n_matrix)| json!({
                "type": kind, "ranks": ranks, "alpha": alpha, "matrices": n_matrix,
            })),
            "runs": self.reason().is_none(),
            "reason": self.reason(),
            "memory": self.needs.as_ref().ok().map(|n| json!({
                "n_ctx": n.n_ctx,
                "cache_type_k": n.options.cache_k.block_type().name(),
                "cache_type_v": n.options.cache_v.block_type().name(),
                "weights": n.memory.weights,
                "cache": n.memory.cache,
                "scratch": n.memory.scratch,
                "total": n.memory.total(),
            })),
            "warnings": gguf.warnings(),
            "metadata": keys,
            "tensors": tensors.collect::<Json>(),
        });
        if args.plan {
            report["plan"] = self.plan()?.into();
            report["placement"] = self.placement.as_ref().map_or(Json::Null, |p| {
                json!({
                    "cpu": p.cpu,
                    "gpu": Some(&p.device).filter(|d| !d.is_empty()),
                    "first_gpu_step": p.first_gpu_step,
                    "why": p.why,
                    "kernels": p.kernels.iter().map(|(step, name)| json!([step, name])).collect::<Json>(),
                })
            });
        }
        Ok(format!("{report:#}\n"))
    }

    /// The plan as text; asking for that of a model which does not run is an error.
    fn plan(&self) -> Outcome<Option<String>> {
        match &self.needs {
            Ok(needs) => Ok(Some(needs.model.plan(needs.n_ctx)?.to_string())),
            Err(_) => Ok(None),
        }
    }

    fn text(&self, args: &InspectArgs) -> Outcome<String> {
        let mut text = String::new();
        for (name, value) in self.summary() {
            push(&mut text, format_args!("{name:<14} {value}"));
        }
        push(&mut text, format_args!("\nkeys"));
        for (key, value) in self.meta().iter() {
            push(&mut text, format_args!("  {} = {}", printable(key), files::line(value)));
        }
        if args.tensors {
            push(&mut text, format_args!("\ntensors (shape outermost first, offset in the file, bytes)"));
            let width = self.gguf.tensors().iter().map(|t| t.name.chars().count()).max().unwrap_or(0);
            let sharded = self.gguf.shard_paths().len() > 1;
            for t in self.gguf.tensors() {
                let name = escaped(&t.name);
                let shape = format!("{:?}", t.shape);
                let file = if sharded { format!("  {}", escaped(&self.file_of(t.shard))) } else { String::new() };
                push(
                    &mut text,
                    format_args!(
                        "  {name:<width$}  {:<7}  {shape:<20}  {:>12}  {:>12}{file}",
                        t.ty.name(),
                        t.offset,
                        t.bytes
                    ),
                );
            }
        }
        if args.plan {
            let plan = self.plan()?;
            let plan = plan.unwrap_or_else(|| format!("none: {}\n", self.reason().unwrap_or_default()));
            push(&mut text, format_args!("\nplan\n{}", plan.trim_end()));
            if let Some(placement) = &self.placement {
                push(&mut text, format_args!("\nplacement\n{}", placed(placement).trim_end()));
            }
        }
        Ok(text)
    }

    fn summary(&self) -> Vec<(&'static str, String)> {
        let gguf = self.gguf;
        let n_file = gguf.shard_paths().len();
        let total = gguf.file_sizes().fold(0, u64::saturating_add);
        let unknown = || "not said".to_owned();
        let mut rows = vec![
            ("file", name_of(gguf.path())),
            ("size", format!("{} in {}", files::size(total), plural(n_file, "file"))),
            ("name", self.str("general.name").map_or_else(unknown, printable)),
            ("architecture", self.str("general.architecture").map_or_else(unknown, printable)),
        ];
        if let Some((kind, ranks, alpha, n_matrix)) = self.adapter() {
            let ranks: Vec<String> = ranks.iter().map(u64::to_string).collect();
            let alpha = alpha.map_or_else(String::new, |a| format!(", alpha {a}"));
            let matrices = format!("{n_matrix} {}", if n_matrix == 1 { "matrix" } else { "matrices" });
            let what = format!("{}, rank {}{alpha}, changes {matrices}", printable(kind), ranks.join(" and "));
            rows.push(("adapter", format!("{what}: use it as --lora FILE beside its model")));
        }
        if let Some(bits) = self.bits_per_weight() {
            rows.push(("parameters", files::count(self.n_parameter())));
            let ty = self.file_type().map_or_else(|| "file type not said".into(), str::to_owned);
            rows.push(("file type", format!("{ty}, {bits:.2} bits per weight")));
        }
        let sizes = ["block_count", "embedding_length", "context_length"].map(|key| self.number(key));
        if let [Some(n_layer), Some(n_embd), n_ctx] = sizes {
            rows.push(("layers", format!("{n_layer}, {n_embd} wide")));
            rows.push(("trained for", n_ctx.map_or_else(unknown, |n| format!("{n} tokens of context"))));
        }
        if let Some(n) = self.n_vocab() {
            let kind = ["tokenizer.ggml.model", "tokenizer.ggml.pre"].map(|k| self.str(k).map(printable));
            let kind: Vec<_> = kind.into_iter().flatten().collect();
            rows.push(("vocabulary", format!("{n} tokens ({})", kind.join(", "))));
        }
        rows.push(("chat template", if self.has_template() { "yes".into() } else { "no".into() }));
        let types = self.types();
        let types =
            types.iter().map(|(ty, (n, bytes))| format!("{ty} in {} ({})", plural(*n, "tensor"), files::size(*bytes)));
        let types: Vec<_> = types.collect();
        rows.push(("types", if types.is_empty() { "no tensors".into() } else { types.join(", ") }));
        match (&self.needs, self.reason()) {
            (Ok(n), _) => {
                rows.push(("runs", "yes".into()));
                let m = &n.memory;
                let cache = [n.options.cache_k, n.options.cache_v].map(|t| t.block_type().name());
                let parts = format!(
                    "{} weights + {} cache ({} keys, {} values) + {} work",
                    files::size(m.weights),
                    files::size(m.cache),
                    cache[0],
                    cache[1],
                    files::size(m.scratch)
                );
                rows.push(("memory", format!("{} for {} tokens: {parts}", files::size(m.total()), n.n_ctx)));
            }
            (Err(_), reason) => rows.push(("runs", format!("no: {}", reason.unwrap_or_default()))),
        }
        rows
    }
}

/// Every architecture on a line: name, whether it runs, models, other names.
fn architectures_text() -> String {
    let all = engine::architectures();
    let width = all.iter().map(|a| a.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for a in all {
        let runs = a.reason().map_or_else(|| "runs".to_owned(), |why| format!("does not run: {why}"));
        let aliases = if a.aliases.is_empty() { String::new() } else { format!(" (also {})", a.aliases.join(", ")) };
        push(&mut text, format_args!("{:<width$}  {}{aliases}; {runs}", a.name, a.models));
    }
    push(&mut text, format_args!("\n{} run of {}", all.iter().filter(|a| a.runs()).count(), all.len()));
    text
}

fn architectures_json() -> String {
    let all = engine::architectures().iter();
    let object = |a: &engine::Architecture| json!({"name": a.name, "models": a.models, "aliases": a.aliases, "runs": a.runs(), "reason": a.reason()});
    format!("{:#}\n", json!({"architectures": all.map(object).collect::<Json>()}))
}

/// What computes which steps, and why.
fn placed(p: &Placement) -> String {
    let mut text = String::new();
    match p.first_gpu_step {
        None => push(&mut text, format_args!("all steps: CPU ({})", p.cpu)),
        Some(first) => {
            if first > 0 {
                push(&mut text, format_args!("steps 0 to {}: CPU ({})", first - 1, p.cpu));
            }
            push(&mut text, format_args!("steps from {first}: GPU {}", p.device));
        }
    }
    push(&mut text, format_args!("why: {}", p.why));
    p.kernels.iter().for_each(|(step, kernel)| push(&mut text, format_args!("{step:4} {kernel}")));
    text
}

fn push(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{line}");
}

fn plural(n: usize, word: &str) -> String {
    format!("{n} {word}{}", if n == 1 { "" } else { "s" })
}

fn name_of(path: &Path) -> String {
    escaped(&path.file_name().unwrap_or(path.as_os_str()).to_string_lossy())
}
