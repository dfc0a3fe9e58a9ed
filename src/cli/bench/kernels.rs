//! `tealight bench --kernels`: the speed of each format on each instruction set, without a model.

use serde_json::{Value as Json, json};
use tealight::Knobs;
use tealight::engine::kernel_bench::{DecodeSpeed, KernelBench, PROMPT_TOKENS, PromptSpeed};
use tealight::error::printable;
use tealight::quant::BlockType;

use super::super::args::BenchArgs;
use super::super::interrupt::Interrupt;
use super::super::output::Output;
use super::super::progress::Progress;
use super::super::{Failure, Outcome, usage};
use super::report::cpu_name;
use super::table::{Column, Table, share};

/// Products for as many rows of activations as [`PROMPT_TOKENS`] says.
const HEAD: &[Column] = &[
    ("kernels", false),
    ("type", false),
    ("threads", true),
    ("GB/s", true),
    ("of reading", true),
    ("in cache", true),
    ("GMAC/s 512", true),
    ("of peak", true),
    ("128", true),
    ("of peak", true),
    ("32", true),
    ("of peak", true),
    ("8", true),
    ("of peak", true),
];

pub(super) fn run(args: &BenchArgs, out: &mut Output, interrupt: &Interrupt) -> Outcome {
    let types = types(args)?;
    let only = Knobs::from_env()?.cpu;
    let sets: Vec<_> = KernelBench::sets().into_iter().filter(|set| only == "auto" || only == *set).collect();
    if sets.is_empty() {
        let hint = format!("it has {}", KernelBench::sets().join(", "));
        return Err(usage(format!("this CPU has no kernels `{}`", printable(&only)), &hint));
    }
    let _guard = interrupt.stoppable();
    let token = interrupt.token();
    let mut table = Table::new(args.output, HEAD);
    for n_threads in args.threads() {
        let bench = KernelBench::new(n_threads.unwrap_or(1), args.mib as usize)?;
        for &set in &sets {
            for &ty in &types {
                let progress = Progress::start(out, "measuring");
                let decode = (args.mib > 0).then(|| bench.decode(set, ty)).transpose()?;
                let prompt = bench.prompt(set, ty)?;
                drop(progress);
                if token.is_cancelled() {
                    return Err(Failure::Interrupted);
                }
                if decode.is_none() && prompt.is_none() {
                    continue;
                }
                let row = Row { set, ty, n_threads: bench.n_threads(), decode, prompt };
                out.bytes(table.row(&row.object(), &row.markdown()).as_bytes())?;
            }
        }
    }
    out.bytes(table.tail().as_bytes())
}

/// The formats that were named, or all.
fn types(args: &BenchArgs) -> Outcome<Vec<BlockType>> {
    let all = KernelBench::types();
    if args.words.is_empty() {
        return Ok(all);
    }
    let named = |word: &std::ffi::OsString| {
        let word = word.to_string_lossy();
        let unknown = || {
            let names: Vec<_> = all.iter().map(|ty| ty.name()).collect();
            let hint = format!("formats are {}", names.join(", "));
            usage(format!("`{}` is no format of weights", printable(&word)), &hint)
        };
        all.iter().copied().find(|ty| ty.name().eq_ignore_ascii_case(&word)).ok_or_else(unknown)
    };
    args.words.iter().map(named).collect()
}

struct Row {
    set: &'static str,
    ty: BlockType,
    n_threads: usize,
    decode: Option<DecodeSpeed>,
    prompt: Option<PromptSpeed>,
}

impl Row {
    fn object(&self) -> Json {
        let mut object = json!({
            "build_commit": format!("tealight {}", env!("CARGO_PKG_VERSION")),
            "cpu_info": cpu_name(),
            "kernels": self.set,
            "type": self.ty.name(),
            "n_threads": self.n_threads,
            "weights_gb_per_s": self.decode.map(|d| d.bytes_per_s / 1e9),
            "read_gb_per_s": self.decode.map(|d| d.read_bytes_per_s / 1e9),
            "read_share": self.decode.map(|d| d.bytes_per_s / d.read_bytes_per_s),
            "cached_gb_per_s": self.decode.map(|d| d.cached_bytes_per_s / 1e9),
            "peak_gmac_per_s": self.prompt.map(|p| p.peak_macs_per_s / 1e9),
        });
        for (i, n) in PROMPT_TOKENS.into_iter().enumerate() {
            object[format!("gmac_per_s_{n}")] = json!(self.prompt.map(|p| p.macs_per_s[i] / 1e9));
            object[format!("peak_share_{n}")] = json!(self.prompt.map(|p| p.macs_per_s[i] / p.peak_macs_per_s));
        }
        object
    }

    fn markdown(&self) -> String {
        let number = |n: Option<f64>| n.map_or_else(|| "-".to_owned(), |n| format!("{:.1}", n / 1e9));
        let mut cells = vec![
            self.set.to_owned(),
            self.ty.name().to_owned(),
            self.n_threads.to_string(),
            number(self.decode.map(|d| d.bytes_per_s)),
            share(self.decode.map(|d| d.bytes_per_s / d.read_bytes_per_s)),
            number(self.decode.map(|d| d.cached_bytes_per_s)),
        ];
        for i in 0..PROMPT_TOKENS.len() {
            cells.push(number(self.prompt.map(|p| p.macs_per_s[i])));
            cells.push(share(self.prompt.map(|p| p.macs_per_s[i] / p.peak_macs_per_s)));
        }
        format!("| {} |\n", cells.join(" | "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_for_the_counts_that_are_measured() {
        let names: Vec<String> = PROMPT_TOKENS.iter().map(ToString::to_string).collect();
        let counts = HEAD[6..].iter().filter(|(name, _)| *name != "of peak").map(|(name, _)| *name);
        assert_eq!(counts.map(|name| name.trim_start_matches("GMAC/s ")).collect::<Vec<_>>(), names);
        let row = Row { set: "scalar", ty: BlockType::Q4K, n_threads: 1, decode: None, prompt: None };
        assert_eq!(row.markdown().matches(" | ").count(), HEAD.len() - 1);
    }
}
