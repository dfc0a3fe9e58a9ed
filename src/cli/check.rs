//! `tealight check`: one verdict before anything is loaded, with what to do about each fault.

mod scan;
mod words;

use std::sync::Arc;

use serde_json::{Value as Json, json};
use tealight::engine::available_memory;
use tealight::error::escaped;
use tealight::gguf::Gguf;
use tealight::plan::MemoryEstimate;
use tealight::{DeviceChoice, Error, ErrorKind, Model, ModelOptions, SessionOptions};

use super::args::CheckArgs;
use super::interrupt::Interrupt;
use super::output::Output;
use super::{Failure, Outcome, files};

/// How a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Grade {
    Good,
    Odd,
    Bad,
}

impl Grade {
    fn word(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Odd => "note",
            Self::Bad => "fault",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    grade: Grade,
    what: &'static str,
    text: String,
    /// What to do; empty for what is good.
    fix: String,
    /// The kind of error that a fault is.
    kind: ErrorKind,
}

impl Finding {
    fn good(what: &'static str, text: impl Into<String>) -> Self {
        Self { grade: Grade::Good, what, text: text.into(), fix: String::new(), kind: ErrorKind::Model }
    }

    fn odd(what: &'static str, text: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { grade: Grade::Odd, what, text: text.into(), fix: fix.into(), kind: ErrorKind::Model }
    }

    fn bad(what: &'static str, kind: ErrorKind, text: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { grade: Grade::Bad, what, text: text.into(), fix: fix.into(), kind }
    }

    /// A fault that opening or computing told.
    fn of(what: &'static str, error: &Error) -> Self {
        let text = error.to_string();
        let prefix = error.file().map(|f| format!("{}: ", escaped(&f.to_string_lossy()))).unwrap_or_default();
        let fix = error.hint().unwrap_or("get the file again, or another one of the model");
        Self::bad(what, error.kind(), text.strip_prefix(&prefix).unwrap_or(&text), fix)
    }
}

/// What was found, in the order of looking.
#[derive(Default)]
struct Report {
    name: String,
    bytes: u64,
    findings: Vec<Finding>,
    memory: Option<(u32, MemoryEstimate, Option<u64>)>,
    tokens_per_s: Option<f64>,
    hashes: Vec<(String, String)>,
}

pub(crate) fn run(args: &CheckArgs, out: &mut Output, interrupt: &Interrupt) -> Outcome {
    let (subject, _) = args.model.resolve(&args.words, false)?;
    let mut report = Report::default();
    match subject.gguf() {
        Ok(gguf) => look(Arc::new(gguf), args, &mut report, out, interrupt)?,
        // Only what is wrong with a file is a finding; a file that is not there is an error as everywhere.
        Err(Failure::Error(error)) if error.kind() == ErrorKind::Model => {
            report.name = error.file().and_then(|f| f.file_name()).unwrap_or_default().to_string_lossy().into_owned();
            report.findings.push(Finding::of("file", &error));
        }
        Err(failure) => return Err(failure),
    }
    let text = if args.json { format!("{:#}\n", report.json()) } else { report.text() };
    out.bytes(text.as_bytes())?;
    match report.verdict() {
        None => Ok(()),
        Some(fault) => Err(Error::new(fault.kind, format!("it does not run here: {}", fault.text)).into()),
    }
}

fn look(gguf: Arc<Gguf>, args: &CheckArgs, report: &mut Report, out: &Output, interrupt: &Interrupt) -> Outcome {
    report.name = escaped(&gguf.path().file_name().unwrap_or_default().to_string_lossy());
    report.bytes = gguf.file_sizes().fold(0, u64::saturating_add);
    let n_file = gguf.shard_paths().len();
    let of_files = if n_file > 1 { format!(" in {n_file} files") } else { String::new() };
    let found = &mut report.findings;
    found.push(Finding::good(
        "file",
        format!("{}{of_files}, {} tensors, well-formed", files::size(report.bytes), gguf.tensors().len()),
    ));
    for warning in gguf.warnings() {
        found.push(Finding::odd("file", warning, "harmless; whoever made the file may want to know"));
    }
    let _guard = interrupt.stoppable();
    let cancel = interrupt.token();
    if args.hash {
        report.hashes = scan::hashes(&gguf, &cancel, out)?;
    }
    if !args.quick {
        scan::weights(&gguf, &cancel, out, found)?;
    }
    let options = args.device.resolve()?;
    let session = args.context.resolve(args.cache.resolve(false));
    let cpu = options.clone().with_device(DeviceChoice::Cpu);
    let model = match Model::from_gguf(gguf.clone(), &cpu) {
        Ok(model) => model,
        Err(e) => {
            found.push(Finding::of("family", &e));
            return Ok(());
        }
    };
    let arch = gguf.metadata().str("general.architecture")?.unwrap_or_default().to_owned();
    found.push(Finding::good("family", format!("`{}` is supported", tealight::error::printable(&arch))));
    words::vocabulary(&model, found);
    words::template(&model, found);
    needs(&model, &session, report)?;
    if !args.quick {
        speed(&model, &options, report)?;
    }
    Ok(())
}

/// Part of the free memory that a model may take: the rest is for the program itself and what starts meanwhile.
const USABLE: f64 = 0.95;

fn needs(model: &Model, options: &SessionOptions, report: &mut Report) -> Outcome {
    let n_ctx = match model.session(options) {
        Ok(session) => session.n_ctx(),
        Err(e) => {
            report.findings.push(Finding::of("context", &e));
            return Ok(());
        }
    };
    let memory = model.memory(n_ctx, options)?;
    let free = available_memory();
    report.memory = Some((n_ctx, memory, free));
    let sum = format!(
        "{} for {n_ctx} tokens: {} weights + {} cache + {} work",
        files::size(memory.total()),
        files::size(memory.weights),
        files::size(memory.cache),
        files::size(memory.scratch)
    );
    report.findings.push(match free {
        None => Finding::good("memory", sum),
        Some(free) => fits(sum, &memory, n_ctx, free),
    });
    Ok(())
}

fn fits(sum: String, memory: &MemoryEstimate, n_ctx: u32, free: u64) -> Finding {
    let usable = (free as f64 * USABLE) as u64;
    let text = format!("{sum}; {} free", files::size(free));
    if memory.total() <= usable {
        return Finding::good("memory", text);
    }
    // The cache grows with the context, so a shorter one may fit.
    let left = usable.saturating_sub(memory.weights + memory.scratch);
    let fitting = memory.cache.checked_div(u64::from(n_ctx)).filter(|n| *n > 0).map_or(0, |each| left / each);
    match fitting {
        256.. => {
            let fix = format!("use a shorter context: -c {}", fitting / 256 * 256);
            Finding::bad("memory", ErrorKind::Memory, text, fix)
        }
        _ => Finding::bad("memory", ErrorKind::Memory, text, "take a smaller model, or one of fewer bits per weight"),
    }
}

fn speed(model: &Model, options: &ModelOptions, report: &mut Report) -> Outcome {
    let is_cpu = matches!(options.device, DeviceChoice::Cpu | DeviceChoice::Auto);
    let work = model.plan(0)?.work();
    match model.limits()? {
        Some(limits) if work.bytes > 0 => {
            let most = limits.read_bytes_per_s / work.bytes as f64;
            report.tokens_per_s = Some(most);
            let where_ = if is_cpu { "on the CPU" } else { "on the CPU; a GPU has its own limit" };
            let text = format!(
                "at most {} tokens per second {where_}: a token reads {}, memory gives {} per second",
                rounded(most),
                files::size(work.bytes),
                files::size(limits.read_bytes_per_s as u64)
            );
            let fix = "take a smaller model or fewer bits per weight; `tealight bench` measures";
            report.findings.push(if most < SLOW {
                Finding::odd("speed", text, fix)
            } else {
                Finding::good("speed", text)
            });
        }
        _ => {}
    }
    Ok(())
}

/// Tokens per second that a person waits for: reading takes four or five words a second.
const SLOW: f64 = 2.0;

/// Two digits are all that a prediction is worth.
fn rounded(x: f64) -> String {
    if x >= 10.0 { format!("{:.0}", x) } else { format!("{x:.1}") }
}

impl Report {
    /// The worst fault, `None` when the model runs.
    fn verdict(&self) -> Option<&Finding> {
        self.findings.iter().find(|f| f.grade == Grade::Bad)
    }

    fn json(&self) -> Json {
        let findings = self.findings.iter().map(|f| {
            let fix = Some(&f.fix).filter(|t| !t.is_empty());
            json!({"what": f.what, "grade": f.grade.word(), "text": f.text, "fix": fix})
        });
        json!({
            "file": self.name,
            "bytes": self.bytes,
            "runs": self.verdict().is_none(),
            "memory": self.memory.as_ref().map(|(n_ctx, m, free)| json!({
                "n_ctx": n_ctx, "weights": m.weights, "cache": m.cache, "scratch": m.scratch, "total": m.total(),
                "free": free,
            })),
            "tokens_per_second_at_most": self.tokens_per_s,
            "sha256": self.hashes.iter().map(|(f, h)| json!({"file": f, "sha256": h})).collect::<Json>(),
            "findings": findings.collect::<Json>(),
        })
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for f in &self.findings {
            text += &format!("{:<6} {:<10} {}\n", f.grade.word(), f.what, f.text);
            if !f.fix.is_empty() {
                text += &format!("{:<17} fix: {}\n", "", f.fix);
            }
        }
        for (file, hash) in &self.hashes {
            text += &format!("sha256 {hash}  {file}\n");
        }
        text += &match self.verdict() {
            None => format!("{} runs here\n", self.name),
            Some(fault) => format!("{} does not run here: {} ({})\n", self.name, fault.text, fault.what),
        };
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_has_a_fix_that_fits() {
        let memory = MemoryEstimate { weights: 6_000, cache: 64_000_000, scratch: 1_000 };
        let finding = |free| fits("sum".to_owned(), &memory, 32_000, free);
        assert_eq!(finding(80_000_000).grade, Grade::Good);
        let short = finding(10_000_000);
        assert_eq!((short.grade, short.kind), (Grade::Bad, ErrorKind::Memory));
        let n: u64 = short.fix.rsplit(' ').next().unwrap().parse().unwrap();
        assert!(n * 2_000 + 7_000 <= 9_500_000 && n > 4_000, "{n}");
        assert!(finding(5_000).fix.contains("smaller model"));
    }

    #[test]
    fn the_worst_finding_decides() {
        let mut report = Report { name: "m".to_owned(), ..Report::default() };
        report.findings.push(Finding::odd("file", "odd", "ask"));
        assert!(report.verdict().is_none() && report.text().ends_with("m runs here\n"));
        report.findings.push(Finding::bad("memory", ErrorKind::Memory, "too large", "buy"));
        assert_eq!(report.verdict().map(|f| f.kind), Some(ErrorKind::Memory));
        assert_eq!(report.json()["runs"], false);
        assert_eq!(report.json()["findings"][1]["fix"], "buy");
    }
}
