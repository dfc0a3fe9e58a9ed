//! `tealight quantize`: arguments in llama-quantize's order, the table of what was made, and the check of it.

mod check;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Instant;

use tealight::convert::imatrix::Imatrix;
use tealight::convert::quantize::{Importance, Job, QuantizeOptions, Split};
use tealight::convert::recipe::{Recipe, RecipeOptions, TypeOverride};
use tealight::convert::{self, ConvertOptions, OutType, Source};
use tealight::error::printable;

use super::args::QuantizeArgs;
use super::interrupt::Interrupt;
use super::output::Output;
use super::progress::Progress;
use super::{Outcome, files, input, usage};

/// What is made of what.
struct Words {
    input: PathBuf,
    output: PathBuf,
    /// `None`: every type stays.
    recipe: Option<Recipe>,
    n_threads: Option<usize>,
}

impl Words {
    /// `IN [OUT] TYPE [THREADS]`.
    fn parse(words: &[OsString]) -> Outcome<Self> {
        let Some((input, rest)) = words.split_first() else {
            return Err(usage("no model given", "as in `tealight quantize IN OUT Q4_K_M`"));
        };
        let input = super::model::path_of(Path::new(input))?;
        let recipe = |word: &OsString| match word.to_string_lossy() {
            name if name.eq_ignore_ascii_case("COPY") => Ok(None),
            name => Recipe::parse(&name).map(Some),
        };
        let (output, ty, rest) = match rest {
            [] => return Err(usage("no type given", "as in `tealight quantize IN OUT Q4_K_M`")),
            [ty, rest @ ..] if recipe(ty).is_ok() => (None, ty, rest),
            [_] => {
                let ty = &rest[0];
                return Err(recipe(ty).expect_err("the arm before takes recipes").into());
            }
            [output, ty, rest @ ..] => (Some(PathBuf::from(output)), ty, rest),
        };
        let recipe = recipe(ty)?;
        let n_threads = match rest {
            [] => None,
            [n] => match n.to_str().and_then(|n| n.parse().ok()).filter(|n| (1..=1024).contains(n)) {
                Some(n) => Some(n),
                None => {
                    let text = format!("`{}` is no number of threads", printable(&n.to_string_lossy()));
                    return Err(usage(text, "behind the type stands a number from 1 to 1024"));
                }
            },
            [_, extra, ..] => {
                let text = format!("unexpected argument `{}`", printable(&extra.to_string_lossy()));
                return Err(usage(text, "as in `tealight quantize IN OUT Q4_K_M 8`"));
            }
        };
        let output = output.unwrap_or_else(|| {
            let name = format!("ggml-model-{}.gguf", recipe.map_or("COPY", Recipe::name));
            if input.is_dir() { input.join(name) } else { input.with_file_name(name) }
        });
        Ok(Self { input, output, recipe, n_threads })
    }
}

pub(crate) fn run(args: QuantizeArgs, out: &mut Output, interrupt: &Interrupt) -> Outcome {
    let words = Words::parse(&args.words)?;
    let source = open(&words, &args)?;
    source.notes.iter().for_each(|note| out.notice(note));
    let check = args.check.clone().map(|file| check::Check {
        file,
        n_ctx: args.check_ctx,
        n_chunk: args.check_chunks,
        source: words.input.clone(),
    });
    let (dry_run, mut inputs) = (args.dry_run, source.files());
    let extra: Vec<PathBuf> = args.imatrix.iter().chain(&args.check).cloned().collect();
    inputs.extend(extra.iter().map(PathBuf::as_path));
    let job = Job::new(&source, options(args, &words)?)?;
    if dry_run {
        return out.bytes(plan(&job).as_bytes());
    }
    for t in job.tensors() {
        if let Some(wanted) = t.instead_of {
            let row = t.shape.last().copied().unwrap_or(1);
            out.detail(&format!("{}: {} instead of {wanted}, which rows of {row} do not suit", t.name, t.to));
        }
    }
    let start = Instant::now();
    write(&job, &words.output, &inputs, out, interrupt)?;
    let files = job.files(&words.output);
    if out.shows_progress() {
        out.notice(&table(&job));
    }
    let seconds = start.elapsed().as_secs_f64();
    out.timing(&format!("{} in {seconds:.1} s", files[0].display()));
    match check {
        Some(check) => check.run(&source, &files[0], out, interrupt),
        None => Ok(()),
    }
}

/// The source, in the types of the recipe where that only converts.
fn open(words: &Words, args: &QuantizeArgs) -> Outcome<Source> {
    let out = match words.recipe {
        Some(Recipe::F32) => OutType::F32,
        Some(Recipe::F16) => OutType::F16,
        Some(Recipe::Bf16) => OutType::Bf16,
        _ => OutType::Auto,
    };
    // A folder's own keys may be wanting: a pre-tokenizer that is not known, say.
    let options = args.override_kv.iter().fold(ConvertOptions::new().out(out), |o, (k, v)| o.set(k, v.clone()));
    let is_adapter = words.input.join("adapter_config.json").is_file();
    match &args.base {
        Some(base) => Ok(convert::open_adapter(&words.input, base, &options)?),
        None if is_adapter => {
            let text = format!("{} is a LoRA adapter", words.input.display());
            Err(usage(text, "name the folder of its model by --base"))
        }
        None => Ok(convert::open(&words.input, &options)?),
    }
}

fn options(args: QuantizeArgs, words: &Words) -> Outcome<QuantizeOptions> {
    let mut overrides = args.tensor_type;
    if let Some(file) = &args.tensor_type_file {
        let text = input::file(file)?;
        for word in String::from_utf8_lossy(&text).split_whitespace() {
            overrides.push(TypeOverride::parse(word).map_err(|e| e.in_file(file))?);
        }
    }
    let mut rules = RecipeOptions::default();
    (rules.pure, rules.keep_output) = (args.pure, args.leave_output_tensor);
    (rules.output_type, rules.token_embedding_type) = (args.output_tensor_type, args.token_embedding_type);
    rules.overrides = overrides;
    let importance = match &args.imatrix {
        Some(file) => {
            let mut imatrix = Imatrix::open(file)?;
            let any = |names: &[String], name: &str| names.iter().any(|n| name.contains(n.as_str()));
            imatrix.retain(|name| {
                (args.include_weights.is_empty() || any(&args.include_weights, name))
                    && !any(&args.exclude_weights, name)
            });
            Some(Importance { imatrix, file: file.display().to_string() })
        }
        None => None,
    };
    let split = match args.split_max_size {
        Some(bytes) => Split::MaxBytes(bytes),
        None if args.keep_split => Split::Keep,
        None => Split::One,
    };
    let mut options = QuantizeOptions::default();
    (options.recipe, options.rules, options.importance) = (words.recipe, rules, importance);
    (options.allow_requantize, options.prune_layers) = (args.allow_requantize, args.prune_layers);
    (options.overrides, options.split, options.n_threads) = (args.override_kv, split, words.n_threads);
    Ok(options)
}

/// Writes the file with a bar.
fn write(job: &Job<'_>, output: &Path, inputs: &[&Path], out: &Output, interrupt: &Interrupt) -> Outcome {
    let _guard = interrupt.stoppable();
    let bar = Progress::start_named_bytes(out, "quantizing");
    let token = interrupt.token();
    Ok(job.write(output, inputs, token.flag(), &mut |p| {
        bar.name(p.tensor);
        bar.set_bytes(p.done, p.total);
    })?)
}

/// What every tensor would become.
fn plan(job: &Job<'_>) -> String {
    let mut text = String::new();
    for t in job.tensors() {
        let shape: Vec<_> = t.shape.iter().map(u64::to_string).collect();
        let why = t.instead_of.map(|ty| format!(" (not {ty})")).unwrap_or_default();
        let (name, from, to) = (printable(&t.name), t.from, t.to);
        text += &format!("{name} [{}] {from} -> {to}{why}, {}\n", shape.join(", "), files::size(t.bytes));
    }
    text + &table(job) + "\n"
}

/// Types, tensors, sizes and bits per weight.
fn table(job: &Job<'_>) -> String {
    let mut types: BTreeMap<_, (usize, u64, u64)> = BTreeMap::new();
    for t in job.tensors() {
        let (n, bytes, weights) = types.entry(t.to.name()).or_default();
        (*n, *bytes, *weights) = (*n + 1, *bytes + t.bytes, *weights + t.n_weight());
    }
    let mut rows: Vec<_> = types.into_iter().collect();
    rows.sort_by_key(|(_, (_, bytes, _))| std::cmp::Reverse(*bytes));
    let total = rows.iter().fold((0, 0, 0), |(n, b, w), (_, row)| (n + row.0, b + row.1, w + row.2));
    let mut text = format!("{:<10} {:>8} {:>12} {:>16}", "type", "tensors", "size", "bits per weight");
    for (name, (n, bytes, weights)) in rows.iter().chain([&("total", total)]) {
        let bits = 8.0 * *bytes as f64 / (*weights).max(1) as f64;
        text += &format!("\n{name:<10} {n:>8} {:>12} {bits:>16.2}", files::size(*bytes));
    }
    text
}
