//! `tealight imatrix`: sums of squared inputs of every matrix of the layers, over the chunks of a text.

use std::path::Path;

use tealight::convert::imatrix::{Entry, Imatrix};
use tealight::{Model, SessionOptions, Want};

use super::args::ImatrixArgs;
use super::interrupt::Interrupt;
use super::output::Output;
use super::perplexity::{self, Chunks, Score};
use super::progress::Progress;
use super::{Outcome, answer, logits, usage};

pub(crate) fn run(args: &ImatrixArgs, out: &mut Output, interrupt: &Interrupt) -> Outcome {
    let mut inputs: Vec<&Path> = args.in_file.iter().map(std::path::PathBuf::as_path).collect();
    let mut known = Imatrix::default();
    for path in &args.in_file {
        known.merge(Imatrix::open(path)?)?;
    }
    let Some(file) = args.file.as_deref() else {
        if args.in_file.is_empty() {
            return Err(usage("no text given", "give one by --file FILE, or files to add up by --in-file"));
        }
        return finish(&known, args, &inputs, out);
    };
    let (subject, _) = args.model.resolve(&args.words, false)?;
    let options = args.compute.resolve()?.with_sum_inputs(true);
    let model = subject.open(&options)?;
    let collected = collect(&model, file, args, options.knobs.n_ubatch as u32, out, interrupt)?;
    known.merge(collected)?;
    inputs.extend(model.gguf().shard_paths().chain([file]));
    finish(&known, args, &inputs, out)
}

fn finish(imatrix: &Imatrix, args: &ImatrixArgs, inputs: &[&Path], out: &Output) -> Outcome {
    for (name, entry) in imatrix.entries().filter(|(_, e)| e.share_used() < 1.0) {
        let share = 100.0 * entry.share_used();
        out.warning(&format!("`{name}`: the text used {share:.1} % of its experts; a longer one would be better"));
    }
    imatrix.write(&args.output, inputs)?;
    let n = imatrix.entries().len();
    out.notice(&format!("{}: {n} tensors, {} chunks", args.output.display(), imatrix.n_chunk));
    Ok(())
}

/// Feeds the text and takes the sums.
fn collect(
    model: &Model,
    file: &Path,
    args: &ImatrixArgs,
    n_batch: u32,
    out: &mut Output,
    interrupt: &Interrupt,
) -> Outcome<Imatrix> {
    logits::check_writes_text(model)?;
    let mut chunks = Chunks::read(model, file, args.ctx_size, args.chunks.map(|n| n.saturating_add(args.chunk)))?;
    chunks.skip(args.chunk);
    if chunks.len() == 0 {
        return Err(usage("--chunk passes over the whole text", "take a smaller number"));
    }
    answer::warn(model, out);
    let mut session = model.session(&SessionOptions::default().with_ctx(args.ctx_size))?;
    answer::tell(model, out);
    let _guard = interrupt.stoppable();
    session.set_cancel_token(interrupt.token());
    let progress = Progress::start(out, "reading the text");
    let mut score = Score::default();
    let n_vocab = model.n_output() as usize;
    for (i, chunk) in chunks.iter(model)?.enumerate() {
        session.clear();
        let mut at = 0;
        for part in chunk.chunks(n_batch as usize) {
            // All rows are wanted, since the last layer computes no others.
            let rows = session.feed(part, n_batch, Want::All, &mut |_| {})?;
            for row in rows.chunks_exact(n_vocab) {
                at += 1;
                if !args.no_ppl && at > chunk.len() / 2 && at < chunk.len() {
                    score.add(perplexity::nll(row, chunk[at] as usize));
                }
            }
        }
        progress.set((i + 1) * chunk.len(), chunks.n_token());
        if !args.no_ppl {
            out.detail(&format!("[{}] {:.4}", i + 1, score.perplexity().0));
        }
    }
    drop(progress);
    answer::tell(model, out);
    if !args.no_ppl {
        out.bytes(perplexity::final_estimate(&score).as_bytes())?;
    }
    let mut imatrix = Imatrix::new(args.ctx_size);
    imatrix.n_chunk = chunks.len() as u32;
    imatrix.datasets.push(file.display().to_string());
    for sum in model.input_sums()? {
        if sum.tensor.starts_with("blk.") || args.process_output && sum.tensor == "output.weight" {
            let squares = sum.squares.iter().map(|x| *x as f32).collect();
            imatrix.add(&sum.tensor, Entry::new(squares, sum.n_row.iter().map(|n| *n as f32).collect())?)?;
        }
    }
    Ok(imatrix)
}
