//! Every fixture of a family that runs reproduces the logits of its reference, however its tokens are cut into calls.
//!
//! The fixtures are tiny models with random weights; the reference is transformers in f32 (`expect.json` names its
//! version). A few stand in `tests/fixtures`; the whole set is used where it is at hand.

mod common;

use std::path::{Path, PathBuf};

use common::{read_f32, read_json, shared, skipped, tokens};
use tealight::plan::CacheType;
use tealight::{EmbedOptions, Model, ModelOptions, Pooling, Session, SessionOptions, Want};

struct Fixture {
    name: String,
    model: PathBuf,
    tokens: Vec<u32>,
    greedy: Vec<u32>,
    /// [tokens, n_output]
    logits: Vec<f32>,
    /// The vector of the tokens as a text, `[n_output]`; empty where the model writes text.
    pooled: Vec<f32>,
}

impl Fixture {
    fn load(folder: &Path) -> Option<Fixture> {
        let expect = folder.join("expect.json");
        let model = folder.join("model.gguf");
        if !expect.is_file() || !model.is_file() {
            return None;
        }
        let expect = read_json(&expect);
        // Where the file says less than the checkpoint (mistral-swa lacks the window) the file has its own reference.
        let own = folder.join("logits-gguf.f32");
        let (logits, expect) =
            if own.is_file() { (own, &expect["gguf"]) } else { (folder.join("logits.f32"), &expect) };
        let all = read_json(&folder.join("expect.json"));
        Some(Fixture {
            name: folder.file_name()?.to_string_lossy().into_owned(),
            model,
            tokens: tokens(&all["tokens"]),
            greedy: expect.get("greedy").map(tokens).unwrap_or_default(),
            logits: read_f32(&logits),
            pooled: floats(&all["pooled"]["values"]),
        })
    }

    fn model(&self, exact: bool, n_threads: usize) -> Model {
        let options = ModelOptions::default().with_exact(exact).with_threads(n_threads);
        Model::open(&self.model, &options).unwrap_or_else(|e| panic!("{}: {e}", self.name))
    }

    fn session(&self, model: &Model, cache: CacheType) -> Session {
        self.try_session(model, cache).unwrap()
    }

    fn try_session(&self, model: &Model, cache: CacheType) -> tealight::Result<Session> {
        let n_ctx = (self.tokens.len() + self.greedy.len()) as u32;
        // The reference has chosen longrope's factors by the prompt's length.
        let n_ctx = if self.name.starts_with("phi") { n_ctx.min(256) } else { n_ctx };
        model.session(&SessionOptions::default().with_ctx(n_ctx).with_cache(cache, cache))
    }

    fn run(&self, model: &Model, cache: CacheType, n_chunk: u32) -> Vec<f32> {
        let mut session = self.session(model, cache);
        // What looks both ways takes a text whole.
        let n_chunk = if model.is_causal() { n_chunk } else { 512 };
        session.feed(&self.tokens, n_chunk, Want::All, &mut |_| {}).unwrap().to_vec()
    }
}

/// The numbers of a JSON array; none of anything else.
fn floats(value: &serde_json::Value) -> Vec<f32> {
    value.as_array().map_or(Vec::new(), |list| list.iter().map(|x| x.as_f64().unwrap() as f32).collect())
}

/// Largest difference relative to the largest expected number.
fn relative_error(got: &[f32], want: &[f32]) -> f32 {
    assert_eq!(got.len(), want.len());
    let scale = want.iter().fold(0f32, |m, x| m.max(x.abs()));
    got.iter().zip(want).fold(0f32, |m, (a, b)| m.max((a - b).abs())) / scale
}

/// The median over tokens of the largest difference relative to the largest expected number. Rounding may send single
/// tokens to other experts where two are nearly as good, and then their logits are others.
fn median_error(got: &[f32], want: &[f32], n_token: usize) -> f32 {
    let scale = want.iter().fold(0f32, |m, x| m.max(x.abs()));
    let n = want.len() / n_token;
    let largest = |(a, b): (&[f32], &[f32])| a.iter().zip(b).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
    let mut errors: Vec<f32> = got.chunks_exact(n).zip(want.chunks_exact(n)).map(largest).collect();
    errors.sort_by(f32::total_cmp);
    errors[n_token / 2] / scale
}

/// Has the model matrices that are no plain numbers?
fn has_blocks(model: &Model) -> bool {
    model.gguf().tensors().iter().any(|t| t.ty.block_len() > 1)
}

/// Folders of fixtures whose architecture runs, the repository's own first.
fn fixtures() -> Vec<Fixture> {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")];
    folders.extend(shared("fixtures"));
    let mut found = Vec::new();
    for folder in folders {
        let mut names: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
        names.sort();
        found.extend(names.iter().filter_map(|p| Fixture::load(p)));
    }
    found.retain(|f| runs(&f.model));
    assert!(found.len() >= 9, "only {} fixtures found", found.len());
    found
}

/// Does the architecture of the file run? Refusals must name it.
fn runs(model: &Path) -> bool {
    match Model::open(model, &ModelOptions::default()) {
        Ok(_) => true,
        Err(e) => {
            let text = e.to_string();
            assert!(text.contains("is not supported") || text.contains("not supported yet"), "{text}");
            false
        }
    }
}

#[test]
fn logits_equal_the_reference() {
    for f in fixtures() {
        let exact = relative_error(&f.run(&f.model(true, 2), CacheType::F32, 512), &f.logits);
        let fast = f.model(false, 2);
        let f32_cache = relative_error(&f.run(&fast, CacheType::F32, 512), &f.logits);
        let f16 = f.run(&fast, CacheType::F16, 512);
        let f16_cache = match fast.plan(64).unwrap().to_string().contains(" Route ") {
            true => median_error(&f16, &f.logits, f.tokens.len()),
            false => relative_error(&f16, &f.logits),
        };
        println!("{:18} exact {exact:.1e}  f32 cache {f32_cache:.1e}  f16 cache {f16_cache:.1e}", f.name);
        assert!(exact <= 1e-4, "{}: exact {exact:e}", f.name);
        // Activations are rounded to 8 bits for blocks of 4 bits.
        let slack = if has_blocks(&fast) { 40.0 } else { 1.0 };
        assert!(f32_cache <= 1e-3 * slack, "{}: f32 cache {f32_cache:e}", f.name);
        // Scores that no factor makes smaller tell the rounding of keys more.
        let slack = if f.name.starts_with("gemma4") || f.name == "gemma3n" { 4.0 } else { slack };
        assert!(f16_cache <= 5e-3 * slack, "{}: f16 cache {f16_cache:e}", f.name);
    }
}

#[test]
fn vectors_of_texts_equal_the_reference() {
    let options = EmbedOptions::default();
    for f in fixtures().into_iter().filter(|f| !f.pooled.is_empty()) {
        for (exact, limit) in [(true, 1e-4), (false, 1e-3)] {
            let model = f.model(exact, 2);
            let alone = model.embed_tokens(&[&f.tokens], &options).unwrap();
            let error = relative_error(&alone[0].vectors[0], &f.pooled);
            println!("{:18} exact {exact}: {error:.1e}", f.name);
            assert!(error <= limit, "{} exact {exact}: {error:e}", f.name);
            assert_eq!((alone[0].vectors.len(), alone[0].n_token), (1, f.tokens.len()));

            // Among others it is the same, and with other batches of the same rows.
            let texts = [&f.tokens[..3], &f.tokens, &f.tokens[1..], &f.tokens[..1]];
            let many = model.embed_tokens(&texts, &options).unwrap();
            assert!(relative_error(&many[1].vectors[0], &alone[0].vectors[0]) <= 1e-5, "{} among others", f.name);
            let one = model.embed_tokens(&texts[2..3], &options).unwrap();
            assert!(relative_error(&many[2].vectors[0], &one[0].vectors[0]) <= 1e-5, "{} among others", f.name);
            assert!(relative_error(&many[0].vectors[0], &alone[0].vectors[0]) > 1e-3, "{}", f.name);

            let unit = model.embed_tokens(&[&f.tokens], &options.clone().with_normalize(true)).unwrap();
            let length: f32 = unit[0].vectors[0].iter().map(|x| x * x).sum::<f32>().sqrt();
            assert!((length - 1.0).abs() < 1e-5, "{}: {length}", f.name);
        }
    }
}

#[test]
fn a_chosen_pooling_is_what_hidden_states_make() {
    for f in fixtures().into_iter().filter(|f| !f.pooled.is_empty()) {
        let width = f.pooled.len();
        let rows: Vec<&[f32]> = f.logits.chunks_exact(width).collect();
        let mean: Vec<f32> =
            (0..width).map(|i| rows.iter().map(|r| f64::from(r[i])).sum::<f64>() as f32 / rows.len() as f32).collect();
        let with = |pooling: Pooling| {
            let model = Model::open(&f.model, &ModelOptions::default().with_exact(true).with_pooling(pooling)).unwrap();
            model.embed_tokens(&[&f.tokens], &EmbedOptions::default()).unwrap().remove(0).vectors
        };
        for (pooling, want) in
            [(Pooling::Mean, &mean[..]), (Pooling::Cls, rows[0]), (Pooling::Last, rows[rows.len() - 1])]
        {
            let error = relative_error(&with(pooling)[0], want);
            assert!(error <= 1e-4, "{} {pooling:?}: {error:e}", f.name);
        }
        let each = with(Pooling::None);
        assert_eq!(each.len(), f.tokens.len());
        assert!(relative_error(&each.concat(), &f.logits) <= 1e-4, "{}", f.name);
    }
}

#[test]
fn a_model_that_looks_both_ways_takes_a_text_whole() {
    let both: Vec<_> = fixtures().into_iter().filter(|f| !f.model(false, 1).is_causal()).collect();
    if both.is_empty() {
        return skipped("models that look both ways: the shared test data is not here");
    }
    for f in both {
        let model = f.model(false, 1);
        let n_ctx = f.tokens.len() as u32 + 8;
        let options = SessionOptions::default().with_ctx(n_ctx).with_cache(CacheType::F32, CacheType::F32);
        let mut session = model.session(&options).unwrap();
        let error = session.feed(&f.tokens, 7, Want::All, &mut |_| {}).unwrap_err();
        assert!(error.to_string().contains("looks both ways") && error.hint().is_some(), "{error}");
        assert!(session.tokens().is_empty());
        let whole = session.feed(&f.tokens, 512, Want::All, &mut |_| {}).unwrap().to_vec();
        let error = session.feed(&[3], 512, Want::All, &mut |_| {}).unwrap_err();
        assert!(error.to_string().contains("both ways"), "{error}");
        session.rewind(5).unwrap();
        session.clear();
        assert_eq!(session.feed(&f.tokens, 512, Want::All, &mut |_| {}).unwrap(), whole);
    }
}

#[test]
fn a_batch_in_chunks_and_token_by_token_agree() {
    for f in fixtures() {
        let model = f.model(true, 1);
        let whole = f.run(&model, CacheType::F32, 512);
        for n_chunk in [7, 1] {
            let error = relative_error(&f.run(&model, CacheType::F32, n_chunk), &whole);
            assert!(error <= 1e-4, "{} in chunks of {n_chunk}: {error:e}", f.name);
        }
    }
}

#[test]
fn greedy_text_equals_the_reference() {
    for f in fixtures().into_iter().filter(|f| !f.greedy.is_empty()) {
        let model = f.model(false, 2);
        let model = if has_blocks(&model) { f.model(true, 2) } else { model };
        if !model.has_logits() || f.name == "phi35-long" {
            continue; // the reference of longrope changes its factors while it writes
        }
        let mut session = f.session(&model, CacheType::F32);
        let mut next = f.tokens.clone();
        for (i, &want) in f.greedy.iter().enumerate() {
            if session.tokens().len() + next.len() > session.n_ctx() as usize {
                break;
            }
            let logits = session.feed(&next, 512, Want::Last, &mut |_| {}).unwrap();
            let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
            assert_eq!(best as u32, want, "{}: token {i}", f.name);
            next = vec![want];
        }
    }
}

#[test]
fn results_have_the_same_bits_for_every_number_of_threads() {
    for f in fixtures() {
        let one = f.run(&f.model(false, 1), CacheType::F16, 16);
        for n_threads in [2, 3, 8] {
            let many = f.run(&f.model(false, n_threads), CacheType::F16, 16);
            let same = one.iter().zip(&many).all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(same, "{} with {n_threads} threads", f.name);
        }
    }
}

#[test]
fn kernel_sets_agree() {
    let mut compared = Vec::new();
    for f in fixtures() {
        let run = |name: &str| {
            let mut knobs = tealight::Knobs::default();
            knobs.cpu = name.to_owned();
            let model = Model::open(&f.model, &ModelOptions::default().with_knobs(knobs)).unwrap();
            let mut session = f.try_session(&model, CacheType::F32)?;
            session.feed(&f.tokens, 512, Want::All, &mut |_| {}).map(<[f32]>::to_vec)
        };
        let scalar = run("scalar").unwrap();
        for name in ["avx2", "avxvnni", "avx512", "amx", "neon", "dotprod", "i8mm"] {
            match run(name) {
                Ok(fast) => {
                    let error = relative_error(&fast, &scalar);
                    println!("{:18} {name} differs from scalar by {error:.1e}", f.name);
                    // Of Gemma 3n even f32 and f64 are 4e-5 apart.
                    let limit = if matches!(f.name.as_str(), "gemma3n" | "gemma4") { 4e-5 } else { 1e-5 };
                    assert!(error <= limit, "{} with {name}: {error:e}", f.name);
                    compared.push(name);
                }
                Err(e) => assert!(e.to_string().contains("has no kernel set"), "{e}"),
            }
        }
    }
    if compared.is_empty() {
        skipped("kernel sets other than scalar: this CPU has none");
    }
}
