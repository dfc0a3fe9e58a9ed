//! `tealight bench`: how fast a model reads prompts and writes answers, by llama-bench's conventions.

mod kernels;
mod report;
mod table;

use std::path::PathBuf;
use std::time::Instant;

use tealight::engine::Limits;
use tealight::{Model, ModelOptions, Session, SessionOptions, Want};

use super::args::BenchArgs;
use super::interrupt::Interrupt;
use super::output::Output;
use super::progress::Progress;
use super::{Outcome, answer, usage};
use report::{Row, Subject};
use table::Table;

/// What is measured: tokens of a prompt, then tokens one by one, behind tokens that are there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Test {
    n_prompt: usize,
    n_gen: usize,
    n_depth: usize,
}

pub(crate) fn run(args: &BenchArgs, out: &mut Output, interrupt: &Interrupt) -> Outcome {
    if args.kernels {
        return kernels::run(args, out, interrupt);
    }
    let models: Vec<PathBuf> = args.model.iter().cloned().chain(args.words.iter().map(PathBuf::from)).collect();
    if models.is_empty() {
        return Err(usage("no model given", "name a GGUF file, as in `tealight bench MODEL.gguf`"));
    }
    let tests = args.tests();
    if tests.is_empty() {
        return Err(usage("nothing to measure", "give -p, -n or -pg a number above 0"));
    }
    let _guard = interrupt.stoppable();
    let mut table = Table::new(args.output, report::HEAD);
    for path in &models {
        let subject = super::model::named(path.as_os_str())?;
        for &n_threads in &args.threads() {
            measure_model(&subject, n_threads, &tests, args, &mut table, out, interrupt)?;
        }
    }
    out.bytes(table.tail().as_bytes())
}

fn measure_model(
    subject: &super::model::Subject,
    n_threads: Option<usize>,
    tests: &[Test],
    args: &BenchArgs,
    table: &mut Table,
    out: &mut Output,
    interrupt: &Interrupt,
) -> Outcome {
    let options = args.options(n_threads)?;
    let model = subject.open(&options)?;
    super::logits::check_writes_text(&model)?;
    answer::warn(&model, out);
    let of_model = Subject::of(&model, args)?;
    for test in tests {
        let cache = args.cache.resolve(false);
        let measured = measure(&model, &cache, *test, args, out, interrupt)?;
        let row = Row { subject: &of_model, model: &model, test: *test, measured: &measured };
        out.bytes(table.row(&row.object()?, &row.markdown()?).as_bytes())?;
    }
    Ok(())
}

/// A test's result.
struct Measured {
    /// Nanoseconds of each repetition.
    samples: Vec<u64>,
    /// What the machine could do at most, before or after; `None` on a GPU or when nobody asked.
    limits: Option<Limits>,
}

fn measure(
    model: &Model,
    cache: &SessionOptions,
    test: Test,
    args: &BenchArgs,
    out: &Output,
    interrupt: &Interrupt,
) -> Outcome<Measured> {
    let n_ctx = test.n_depth + test.n_prompt + test.n_gen;
    let n_ctx = u32::try_from(n_ctx).map_err(|_| usage("too many tokens", "give fewer"))?;
    let mut session = model.session(&cache.clone().with_ctx(n_ctx))?;
    answer::tell(model, out);
    session.set_cancel_token(interrupt.token());
    let mut tokens = Tokens { state: 1, n_vocab: model.n_vocab() };
    let progress = Progress::start(out, "measuring");
    let limits = || if args.no_limits { Ok(None) } else { model.limits() };
    let before = limits()?;
    let n_run = args.repetitions as usize + usize::from(!args.no_warmup);
    let mut samples = Vec::with_capacity(n_run);
    for i in 0..n_run {
        samples.push(repetition(&mut session, &mut tokens, test, args.batch_size)?);
        progress.set(i + 1, n_run);
    }
    let after = limits()?;
    drop(progress);
    answer::tell(model, out);
    let limits = before.zip(after).map(|(before, after)| before.best(after));
    Ok(Measured { samples: samples.split_off(n_run - args.repetitions as usize), limits })
}

fn repetition(session: &mut Session, tokens: &mut Tokens, test: Test, n_batch: u32) -> Outcome<u64> {
    session.clear();
    session.feed(&tokens.next(test.n_depth), n_batch, Want::None, &mut |_| {})?;
    let (prompt, answer) = (tokens.next(test.n_prompt), tokens.next(test.n_gen));
    let clock = Instant::now();
    session.feed(&prompt, n_batch, Want::Last, &mut |_| {})?;
    for token in answer {
        session.feed(&[token], 1, Want::Last, &mut |_| {})?;
    }
    Ok(u64::try_from(clock.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1))
}

/// Tokens at random, the same in every run: which ones does not matter for speed.
struct Tokens {
    state: u64,
    n_vocab: u32,
}

impl Tokens {
    fn next(&mut self, n: usize) -> Vec<u32> {
        let mut one = || {
            // Knuth's multiplier; the high half is random enough.
            self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.state >> 33) as u32 % self.n_vocab.max(1)
        };
        (0..n).map(|_| one()).collect()
    }
}

impl BenchArgs {
    /// Every combination, in llama-bench's order: prompts, answers, both.
    fn tests(&self) -> Vec<Test> {
        let mut tests = Vec::new();
        for n_depth in numbers(&self.n_depth, &[0]) {
            let test = |n_prompt, n_gen| Test { n_prompt, n_gen, n_depth };
            tests.extend(numbers(&self.n_prompt, &[512]).into_iter().map(|n| test(n, 0)));
            tests.extend(numbers(&self.n_gen, &[128]).into_iter().map(|n| test(0, n)));
            tests.extend(self.prompt_and_gen.iter().map(|&(p, g)| test(p, g)));
        }
        tests.retain(|t| t.n_prompt + t.n_gen > 0);
        tests
    }

    /// `None`: what the machine offers.
    fn threads(&self) -> Vec<Option<usize>> {
        let given = numbers(&self.threads, &[]).into_iter().map(|n| Some(n).filter(|n| *n > 0));
        let given: Vec<_> = given.collect();
        if given.is_empty() { vec![None] } else { given }
    }

    fn options(&self, n_threads: Option<usize>) -> Outcome<ModelOptions> {
        let mut options = self.lora.resolve(self.device.resolve()?);
        if let Some(n) = self.ubatch_size {
            options.knobs.n_ubatch = n as usize;
        }
        Ok(n_threads.map_or(options.clone(), |n| options.with_threads(n)))
    }
}

/// All numbers of a flag that was given several times, or its default.
fn numbers(given: &[Numbers], default: &[usize]) -> Vec<usize> {
    if given.is_empty() { default.to_vec() } else { given.iter().flat_map(|n| n.0.iter().copied()).collect() }
}

/// Numbers as llama-bench takes them: `512`, `1,2,4`, `1-4`, `128-1024*2`, `16-64+16`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Numbers(Vec<usize>);

/// More numbers than anybody waits for.
const MAX_NUMBERS: usize = 1000;

impl std::str::FromStr for Numbers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |t: &str| {
            let n = t.parse::<usize>().map_err(|_| format!("`{t}` is no count"))?;
            if n > 1 << 24 { Err(format!("{n} is too many")) } else { Ok(n) }
        };
        let mut all = Vec::new();
        for part in text.split(',') {
            let Some((first, rest)) = part.split_once('-') else {
                all.push(number(part)?);
                continue;
            };
            let (last, step, factor) = match (rest.split_once('+'), rest.split_once('*')) {
                (Some((last, step)), _) => (number(last)?, number(step)?, 1),
                (_, Some((last, factor))) => (number(last)?, 0, number(factor)?),
                _ => (number(rest)?, 1, 1),
            };
            let (mut n, before) = (number(first)?, all.len());
            while n <= last {
                all.push(n);
                let next = n * factor + step;
                if next <= n || all.len() > MAX_NUMBERS {
                    return Err(format!("the range `{part}` does not end"));
                }
                n = next;
            }
            if all.len() == before {
                return Err(format!("the range `{part}` is empty"));
            }
        }
        Ok(Self(all))
    }
}

/// `512,128` of -pg.
pub(crate) fn pair(text: &str) -> Result<(usize, usize), String> {
    match text.parse::<Numbers>()?.0[..] {
        [prompt, gen_] => Ok((prompt, gen_)),
        _ => Err("expected two counts, as in 512,128".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_llama_bench_does() {
        for (text, numbers) in [
            ("512", vec![512]),
            ("1,2,4", vec![1, 2, 4]),
            ("1-4", vec![1, 2, 3, 4]),
            ("128-1024*2", vec![128, 256, 512, 1024]),
            ("16-64+16", vec![16, 32, 48, 64]),
            ("0,8-9", vec![0, 8, 9]),
        ] {
            assert_eq!(text.parse::<Numbers>().unwrap().0, numbers, "{text}");
        }
        for wrong in ["", "x", "1,", "4-1", "1-8*1", "0-8*2", "1-4+0", "1-99999", "99999999999"] {
            assert!(wrong.parse::<Numbers>().is_err(), "{wrong}");
        }
        assert_eq!(pair("512,128"), Ok((512, 128)));
        assert!(pair("512").is_err());
    }
}
