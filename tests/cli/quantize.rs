//! `tealight quantize`, `imatrix`, and what `perplexity` says of their results.

use super::*;
use tealight::convert::imatrix::Imatrix;
use tealight::gguf::{Gguf, KeyValue};
use tealight::quant::BlockType;

/// A folder with a text that makes several chunks of 32 tokens.
fn text(folder: &TempDir) -> String {
    let path = folder.path().join("text.txt");
    let words = "The committee met on the second floor of the old post office, in a room with nine chairs. ";
    std::fs::write(&path, words.repeat(12)).unwrap();
    path.to_string_lossy().into_owned()
}

fn path(folder: &TempDir, name: &str) -> String {
    folder.path().join(name).to_string_lossy().into_owned()
}

fn names(folder: &TempDir) -> Vec<String> {
    let entries = std::fs::read_dir(folder.path()).unwrap();
    let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn types(path: &str) -> Vec<(String, BlockType)> {
    Gguf::open(Path::new(path)).unwrap().tensors().iter().map(|t| (t.name.clone(), t.ty)).collect()
}

#[test]
fn words_stand_in_the_order_of_llama_quantize() {
    let folder = TempDir::new("cli-quantize-words");
    let (input, out) = (path(&folder, "in.gguf"), path(&folder, "out.gguf"));
    std::fs::copy(model("llama31"), &input).unwrap();
    let two = tealight(["quantize", &input, &out, "q8_0", "2"]);
    assert_eq!(two.quietly(), "");
    let bytes = std::fs::read(&out).unwrap();
    assert!(types(&out).iter().any(|(_, ty)| *ty == BlockType::Q8_0));
    // by number, with another number of threads, and to the name that llama-quantize takes
    assert_eq!(tealight(["quantize", &input, "7", "1"]).quietly(), "");
    assert!(std::fs::read(path(&folder, "ggml-model-Q8_0.gguf")).unwrap() == bytes, "threads change the result");
    for (words, told) in [
        (vec!["quantize", &input], "no type given"),
        (vec!["quantize", &input, "Q9_Z"], "unknown recipe `Q9_Z`"),
        (vec!["quantize", &input, &out, "Q9_Z"], "unknown recipe `Q9_Z`"),
        (vec!["quantize", &input, &out, "Q8_0", "many"], "`many` is no number of threads"),
        (vec!["quantize", &input, &input, "Q8_0"], "the output is the input"),
        (vec!["quantize", &input, &out, "Q8_0", "--override-kv", "a.b=int:x"], "is no int"),
        (vec!["quantize", &input, &out, "Q8_0", "--tensor-type", "attn_v=Q9"], "nothing can be quantized to `Q9`"),
    ] {
        assert!(tealight(&words).error(2).contains(told), "{words:?}");
    }
    assert_eq!(names(&folder), ["ggml-model-Q8_0.gguf", "in.gguf", "out.gguf"]);
}

#[test]
fn a_dry_run_says_what_would_be_and_writes_nothing() {
    let folder = TempDir::new("cli-quantize-dry");
    let (m, out) = (model("llama31"), path(&folder, "out.gguf"));
    let plan = tealight(["quantize", &m, &out, "Q4_K_M", "--dry-run"]).quietly();
    assert!(plan.contains("token_embd.weight") && plan.contains("\ntotal "), "{plan}");
    assert_eq!(names(&folder), [""; 0]);
    assert_eq!(tealight(["quantize", &m, &out, "Q4_K_M"]).quietly(), "");
    let file = Gguf::open(Path::new(&out)).unwrap();
    for t in file.tensors() {
        let line = plan.lines().find(|l| l.starts_with(&format!("{} [", t.name))).unwrap_or_default();
        assert!(line.contains(&format!("-> {}", t.ty)), "{}: {line}", t.name);
    }
}

#[test]
fn exceptions_from_a_recipe_are_heard() {
    let folder = TempDir::new("cli-quantize-rules");
    let (m, out, list) = (model("llama31"), path(&folder, "out.gguf"), path(&folder, "types.txt"));
    std::fs::write(&list, "ffn_up=q5_0\n  blk\\.0\\.ffn_gate=F16\n").unwrap();
    let words = ["quantize", &m, &out, "q8_0", "--tensor-type", "attn_v=q4_0", "--tensor-type-file", &list];
    let more = ["--token-embedding-type", "bf16", "--override-kv", "general.name=str:other", "--prune-layers", "1"];
    assert_eq!(tealight([&words[..], &more[..]].concat()).quietly(), "");
    let found = types(&out);
    let of = |name: &str| found.iter().find(|(n, _)| n == name).map(|(_, ty)| *ty);
    assert_eq!(of("blk.0.attn_v.weight"), Some(BlockType::Q4_0));
    assert_eq!(of("blk.1.ffn_up.weight"), Some(BlockType::Q5_0));
    assert_eq!(of("blk.0.ffn_gate.weight"), Some(BlockType::F16));
    assert_eq!(of("token_embd.weight"), Some(BlockType::Bf16));
    assert_eq!(of("blk.0.attn_q.weight"), Some(BlockType::Q8_0));
    let (before, after) = (Gguf::open(Path::new(&m)).unwrap(), Gguf::open(Path::new(&out)).unwrap());
    let layers = |file: &Gguf| file.metadata().u64("llama.block_count").unwrap().unwrap();
    assert_eq!(layers(&after), layers(&before) - 1);
    assert_eq!(after.metadata().str("general.name").unwrap(), Some("other"));
    assert_eq!(tealight(["run", &out, "--raw", "a", "-n", "1", "--device", "cpu"]).code, Some(0));
}

#[test]
fn what_is_quantized_already_is_refused_unless_told() {
    let folder = TempDir::new("cli-quantize-again");
    let (once, twice) = (path(&folder, "once.gguf"), path(&folder, "twice.gguf"));
    assert_eq!(tealight(["quantize", &model("llama31"), &once, "Q8_0"]).quietly(), "");
    let told = tealight(["quantize", &once, &twice, "Q4_0"]).error(2);
    assert!(told.contains("is Q8_0 already") && told.contains("--allow-requantize"), "{told}");
    assert_eq!(tealight(["quantize", &once, &twice, "Q4_0", "--allow-requantize"]).quietly(), "");
    // nothing to convert: copied
    let copy = path(&folder, "copy.gguf");
    assert_eq!(tealight(["quantize", &once, &copy, "COPY"]).quietly(), "");
    let data = |path: &str| {
        let file = Gguf::open(Path::new(path)).unwrap();
        let mut all: Vec<_> = file.tensors().iter().map(|t| (t.name.clone(), file.bytes(t).to_vec())).collect();
        all.sort();
        all
    };
    assert!(data(&once) == data(&copy));
}

#[test]
fn numbers_that_are_not_finite_are_refused_by_name() {
    let folder = TempDir::new("cli-quantize-nan");
    let mut edit = Edit::read(Path::new(&model("llama31")));
    let tensor = edit.tensor("blk.1.ffn_up.weight");
    assert!(tensor.ty.is_float());
    let width = tensor.ty.block_bytes();
    let row = *tensor.shape.last().unwrap() as usize;
    tensor.data[(2 * row + 3) * width..][..width].fill(0xff);
    let (bad, out) = (path(&folder, "bad.gguf"), path(&folder, "out.gguf"));
    edit.write(Path::new(&bad));
    let told = tealight(["quantize", &bad, &out, "Q8_0"]).error(3);
    assert!(told.contains("blk.1.ffn_up.weight") && told.contains("row 2, column 3 is NaN"), "{told}");
    assert_eq!(names(&folder), ["bad.gguf"]);
}

#[test]
fn a_model_in_several_files_is_one_model() {
    let folder = TempDir::new("cli-quantize-split");
    let (m, out) = (model("llama31"), path(&folder, "m.gguf"));
    let whole = path(&folder, "whole.gguf");
    assert_eq!(tealight(["quantize", &m, &out, "Q8_0", "--split-max-size", "30000"]).quietly(), "");
    assert_eq!(tealight(["quantize", &m, &whole, "Q8_0"]).quietly(), "");
    let files = names(&folder);
    let n = files.len() - 1;
    assert!(n > 1 && files[0] == format!("m-00001-of-{n:05}.gguf"), "{files:?}");
    let first = path(&folder, &files[0]);
    let mut found = types(&first);
    found.sort();
    let mut expected = types(&whole);
    expected.sort();
    assert_eq!(found, expected);
    let answer = |m: &str| tealight(["run", m, "--raw", "a b", "-n", "8", "--temp", "0", "--device", "cpu"]).quietly();
    assert_eq!(answer(&first), answer(&whole));
    // and as many files again
    let again = path(&folder, "again");
    let words = ["quantize", &first, &again, "Q4_0", "--allow-requantize", "--keep-split"];
    assert_eq!(tealight(words).quietly(), "");
    assert_eq!(names(&folder).iter().filter(|f| f.starts_with("again-")).count(), n);
}

#[test]
fn an_importance_matrix_is_made_merged_and_used() {
    let folder = TempDir::new("cli-imatrix");
    let (m, text) = (model("llama31"), text(&folder));
    let (one, two) = (path(&folder, "one.gguf"), path(&folder, "two.gguf"));
    let made = tealight(["imatrix", &m, "-f", &text, "-o", &one, "-c", "32", "--exact", "-q"]).quietly();
    assert!(made.starts_with("Final estimate: PPL = "), "{made}");
    assert_eq!(tealight(["imatrix", "--in-file", &one, "--in-file", &one, "-o", &two, "-q"]).quietly(), "");
    let (a, b) = (Gguf::open(Path::new(&one)).unwrap(), Gguf::open(Path::new(&two)).unwrap());
    assert_eq!(a.metadata().str("general.type").unwrap(), Some("imatrix"));
    let chunks = |g: &Gguf| g.metadata().u64("imatrix.chunk_count").unwrap().unwrap();
    assert_eq!(chunks(&b), 2 * chunks(&a));
    assert!(a.tensor("blk.0.attn_q.weight.in_sum2").is_some() && a.tensor("token_embd.weight.in_sum2").is_none());
    let (out, plain) = (path(&folder, "out.gguf"), path(&folder, "plain.gguf"));
    assert_eq!(tealight(["quantize", &m, "--imatrix", &one, &out, "Q4_0"]).quietly(), "");
    assert_eq!(tealight(["quantize", &m, &plain, "Q4_0"]).quietly(), "");
    let file = Gguf::open(Path::new(&out)).unwrap();
    assert_eq!(file.metadata().str("quantize.imatrix.file").unwrap(), Some(&*one));
    let q = |g: &Gguf| g.bytes(g.tensor("blk.0.attn_q.weight").unwrap()).to_vec();
    assert!(q(&file) != q(&Gguf::open(Path::new(&plain)).unwrap()), "importance changes what is written");
    let told = tealight(["quantize", &model("phi2"), "--imatrix", &one, &plain, "Q4_0"]).error(3);
    assert!(told.contains("the importance matrix is another model's"), "{told}");
    let told = tealight(["quantize", &m, "--imatrix", &text, &plain, "Q4_0"]).error(3);
    assert!(told.contains("not an importance matrix"), "{told}");
}

#[test]
fn an_importance_matrix_is_llama_imatrixs() {
    let Some(quants) = common::shared("fixtures/llama-256/quants") else { return };
    let folder = TempDir::new("cli-imatrix-equal");
    let (m, text) = (quants.join("../model.gguf"), quants.join("imatrix.txt"));
    let (m, text, out) = (m.to_string_lossy(), text.to_string_lossy(), path(&folder, "i.gguf"));
    let made = tealight(["imatrix", &m, "-f", &text, "-o", &out, "-c", "128", "--exact", "--no-ppl", "-q"]);
    assert_eq!(made.quietly(), "");
    let (found, want) = (Imatrix::open(Path::new(&out)).unwrap(), Imatrix::open(&quants.join("imatrix.gguf")).unwrap());
    assert_eq!((found.n_chunk, found.chunk_size), (want.n_chunk, want.chunk_size));
    assert!(found.entries().map(|e| e.0).eq(want.entries().map(|e| e.0)));
    for (name, want) in want.entries() {
        let (found, want) = (found.entry(name).unwrap().importance(0), want.importance(0));
        let greatest = want.iter().fold(0f32, |m, x| m.max(*x));
        let error = found.iter().zip(&want).fold(0f32, |m, (a, b)| m.max((a - b).abs())) / greatest;
        assert!(error < 1e-4, "{name}: {error:e}");
    }
}

#[test]
fn a_result_is_compared_with_its_source() {
    let folder = TempDir::new("cli-check");
    let (m, text, out) = (model("llama31"), text(&folder), path(&folder, "out.gguf"));
    let words = ["quantize", &m, &out, "Q8_0", "--check", &text, "--check-ctx", "32"];
    let verdict = tealight(words).quietly();
    let value = |line: &str| -> f64 {
        let line = verdict.lines().find(|l| l.starts_with(line)).unwrap_or_else(|| panic!("{verdict}"));
        line.split(':').nth(1).unwrap().split_whitespace().next().unwrap().parse().unwrap()
    };
    let (kl, same) = (value("KL divergence"), value("same most likely token"));
    assert!((0.0..0.01).contains(&kl) && same > 80.0, "{verdict}");
    // the same by hand, through a file
    let base = path(&folder, "base.kld");
    let f = ["-f", &text, "-c", "32", "--device", "cpu"];
    let first = tealight([&["perplexity", &m, "--kl-divergence-base", &base][..], &f[..]].concat()).quietly();
    assert!(first.starts_with("Final estimate: PPL = "), "{first}");
    let words = ["perplexity", &out, "--kl-divergence-base", &base, "--kl-divergence", "--device", "cpu"];
    let report = tealight(words).quietly();
    let mean = report.lines().find(|l| l.starts_with("Mean    KLD:")).unwrap();
    let by_file: f64 = mean.split_whitespace().nth(2).unwrap().parse().unwrap();
    assert!((by_file - kl).abs() < 1e-3, "{by_file} {kl}");
    let told = tealight(["perplexity", &model("phi2"), "--kl-divergence-base", &base, "--kl-divergence"]).error(2);
    assert!(told.contains("compare models with the same vocabulary") || told.contains("log-probabilities"), "{told}");
    let told = tealight(["perplexity", &m, "--kl-divergence-base", &text, "--kl-divergence"]).error(2);
    assert!(told.contains("not a file of log-probabilities"), "{told}");
}

#[cfg(unix)]
#[test]
fn a_killed_run_leaves_no_file_under_the_name() {
    let folder = TempDir::new("cli-quantize-kill");
    // large enough that moments differ
    let mut edit = Edit::read(Path::new(&model("llama31")));
    edit.set("general.name", KeyValue::from("large"));
    let big = edit.tensor("blk.0.ffn_up.weight").clone();
    for i in 0..40 {
        let n = 4096u64;
        let mut t = big.clone();
        (t.name, t.shape) = (format!("blk.0.filler_{i}.weight"), vec![256, n]);
        t.data = vec![0x3c; 256 * n as usize * t.ty.block_bytes()];
        edit.tensors.push(t);
    }
    let (input, out) = (path(&folder, "in.gguf"), path(&folder, "out.gguf"));
    edit.write(Path::new(&input));
    let words = ["quantize", &input, &out, "Q4_K_M", "2"];
    let start = std::time::Instant::now();
    assert_eq!(tealight(words).quietly(), "");
    let whole = start.elapsed();
    let expected = std::fs::read(&out).unwrap();
    let source = std::fs::read(&input).unwrap();
    for i in 0..12 {
        std::fs::remove_file(&out).unwrap();
        let mut child = command(words).spawn().unwrap();
        std::thread::sleep(whole * i / 11);
        child.kill().unwrap();
        child.wait().unwrap();
        match std::fs::read(&out) {
            Ok(found) => assert!(found == expected, "kill {i}: a file that is not whole"),
            Err(_) => {
                // what it left does not hinder the next run, which removes it
                assert_eq!(tealight(words).quietly(), "");
                assert_eq!(names(&folder), ["in.gguf", "out.gguf"], "kill {i}");
            }
        }
        assert!(std::fs::read(&input).unwrap() == source, "kill {i}: the source changed");
    }
}
