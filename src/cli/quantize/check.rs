//! Whether a quantized model still says what its source says: both read the same text.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use tealight::convert::Source;
use tealight::convert::quantize::{Job, QuantizeOptions};
use tealight::{Knobs, Model, ModelOptions, SessionOptions};

use crate::cli::interrupt::Interrupt;
use crate::cli::output::Output;
use crate::cli::perplexity::divergence::Divergence;
use crate::cli::perplexity::{Chunks, each_scored, log_sum_exp};
use crate::cli::progress::Progress;
use crate::cli::{Outcome, logits};

/// Bytes of the logits of one call.
const MAX_ROWS_BYTES: usize = 64 << 20;

/// A comparison on a text.
pub(super) struct Check {
    pub file: PathBuf,
    pub n_ctx: u32,
    pub n_chunk: Option<u32>,
    /// The path of the source.
    pub source: PathBuf,
}

/// A file that is removed in the end.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // What cannot be removed has a name that says what it is.
        let _ = fs::remove_file(&self.0);
    }
}

impl Check {
    pub(super) fn run(&self, source: &Source, result: &Path, out: &mut Output, interrupt: &Interrupt) -> Outcome {
        let options = ModelOptions::default().with_knobs(Knobs::from_env()?);
        // A folder runs once it is a file.
        let converted = if source.is_gguf() { None } else { Some(convert(source, result)?) };
        let base = Model::open(converted.as_ref().map_or(self.source.as_path(), |t| &t.0), &options)?;
        let model = Model::open(result, &options)?;
        logits::check_writes_text(&base)?;
        let chunks = Chunks::read(&base, &self.file, self.n_ctx, self.n_chunk)?;
        let session = SessionOptions::default().with_ctx(self.n_ctx);
        let (mut of_base, mut of_model) = (base.session(&session)?, model.session(&session)?);
        let _guard = interrupt.stoppable();
        of_base.set_cancel_token(interrupt.token());
        of_model.set_cancel_token(interrupt.token());
        let n_vocab = base.n_output() as usize;
        let n_batch = (MAX_ROWS_BYTES / 4 / n_vocab).clamp(1, options.knobs.n_ubatch) as u32;
        let progress = Progress::start(out, "checking");
        let mut divergence = Divergence::new(n_vocab);
        for (i, chunk) in chunks.iter(&base)?.enumerate() {
            let mut held: Vec<Vec<f32>> = Vec::new();
            each_scored(&mut of_base, &chunk, n_batch, &mut |row, _| {
                let norm = log_sum_exp(row);
                held.push(row.iter().map(|x| (f64::from(*x) - norm) as f32).collect());
                Ok(())
            })?;
            let mut base_rows = held.iter();
            each_scored(&mut of_model, &chunk, n_batch, &mut |row, next| {
                let base = base_rows.next().expect("both models score the same tokens");
                divergence.add(row, base, next);
                Ok(())
            })?;
            progress.set((i + 1) * chunk.len(), chunks.n_token());
            out.detail(&divergence.line(i + 1));
        }
        drop(progress);
        out.bytes(verdict(&divergence).as_bytes())
    }
}

/// The source as a file beside the result, in its own types.
fn convert(source: &Source, result: &Path) -> Outcome<Temporary> {
    let name = result.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let path = result.with_file_name(format!(".{name}.{}.source.gguf", std::process::id()));
    let job = Job::new(source, QuantizeOptions::default())?;
    job.write(&path, &source.files(), &AtomicBool::new(false), &mut |_| {})?;
    Ok(Temporary(path))
}

fn verdict(divergence: &Divergence) -> String {
    let [(ppl, ppl_error), (base, base_error)] = divergence.perplexities();
    let ((kl, kl_error), (same, same_error)) = (divergence.kl(), divergence.same_top());
    let change = 100.0 * (ppl / base - 1.0);
    format!(
        "perplexity of the source: {base:.4} +/- {base_error:.4}\n\
         perplexity of the result: {ppl:.4} +/- {ppl_error:.4} ({change:+.2} %)\n\
         KL divergence:            {kl:.6} +/- {kl_error:.6}\n\
         same most likely token:   {:.2} +/- {:.2} %\n",
        100.0 * same,
        100.0 * same_error
    )
}
