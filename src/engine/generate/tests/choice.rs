//! Tokens that are chosen on a GPU are those that are chosen from all logits.
#![cfg(feature = "gpu")]

use std::path::{Path, PathBuf};

use super::super::*;
use crate::engine::{CancelToken, DeviceChoice, GpuCheck, Model, ModelOptions, SessionOptions};
use crate::gguf::{Gguf, GgufWriter};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name).join("model.gguf")
}

/// A model on the GPU; `None` where there is none, unless one is required.
fn on_gpu(path: &Path) -> Option<Model> {
    if crate::engine::devices().unwrap().is_empty() {
        assert!(std::env::var_os("TEALIGHT_REQUIRE_GPU").is_none(), "no GPU adapter");
        println!("skipped: no GPU adapter");
        return None;
    }
    let options = ModelOptions::default().with_device(DeviceChoice::Gpu).with_gpu_check(GpuCheck::Off).with_threads(1);
    Some(Model::open(path, &options).unwrap())
}

fn tokens(model: &Model, options: &GenerateOptions) -> (Vec<u32>, Result<()>, u32) {
    let mut session = model.session(&SessionOptions::default().with_ctx(300)).unwrap();
    let max = session.max_best();
    let prompt: Vec<u32> = (0..270).map(|i| (i * 37 + 11) % model.n_vocab()).collect();
    let end = session.generate(&prompt[..prompt.len() - 9], options).unwrap().try_for_each(|e| e.map(|_| ()));
    (session.tokens().to_vec(), end, max)
}

fn options(change: impl FnOnce(&mut SampleOptions)) -> GenerateOptions {
    let mut sampling = SampleOptions { seed: 5, ignore_eos: true, ..SampleOptions::default() };
    change(&mut sampling);
    let mut options = GenerateOptions::new(sampling);
    options.max_tokens = Some(24);
    options
}

#[test]
fn a_choice_on_the_gpu_is_the_choice_from_all_logits() {
    for name in ["llama31", "gemma2", "qwen3"] {
        let Some(model) = on_gpu(&fixture(name)) else { return };
        let changes: [fn(&mut SampleOptions); 3] = [|o| o.temp = 0.0, |_| (), |o| o.top_k = 3];
        for change in changes {
            let there = options(change);
            let mut here = there.clone();
            // A bias of nothing makes the sampler look at all logits.
            here.sampling.logit_bias = vec![(0, 0.0)];
            let (got, end, max) = tokens(&model, &there);
            end.unwrap();
            assert!(max > 0, "the GPU chooses");
            assert_eq!(got.len(), 261 + 23, "the last token is not read");
            assert_eq!(got, tokens(&model, &here).0, "{name} {:?}", there.sampling.top_k);
        }
    }
}

#[test]
fn logits_that_are_no_numbers_are_the_same_error_both_ways() {
    let source = Gguf::open(&fixture("llama31")).unwrap();
    let mut writer = GgufWriter::new();
    for (key, ty, bytes) in source.metadata().raw() {
        writer.raw_key(key, ty, bytes);
    }
    for t in source.tensors() {
        writer.tensor(&t.name, t.ty, &t.shape);
    }
    let mut body = writer.begin(Vec::new()).unwrap();
    for t in source.tensors() {
        let mut bytes = source.bytes(t).to_vec();
        if t.name == "output_norm.weight" {
            bytes.as_chunks_mut::<4>().0.iter_mut().for_each(|x| *x = f32::MAX.to_le_bytes());
        }
        body.write(&bytes).unwrap();
    }
    let path = std::env::temp_dir().join(format!("tealight-odd-{}.gguf", std::process::id()));
    std::fs::write(&path, body.finish().unwrap()).unwrap();
    let model = on_gpu(&path);
    if let Some(model) = model {
        let there = options(|_| ());
        let mut here = there.clone();
        here.sampling.logit_bias = vec![(0, 0.0)];
        let (got, error, _) = tokens(&model, &there);
        let (want, expected, _) = tokens(&model, &here);
        let (error, expected) = (error.unwrap_err(), expected.unwrap_err());
        assert_eq!(error.to_string(), expected.to_string());
        assert!(error.to_string().contains("not a finite number (row 0, first in `"), "{error}");
        assert_eq!((error.kind(), error.hint(), got), (expected.kind(), expected.hint(), want));
    }
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn weights_are_loaded_with_an_eye_on_them_and_the_loading_can_be_stopped() {
    let Some(model) = on_gpu(&fixture("llama31")) else { return };
    let options = SessionOptions::default().with_ctx(64);
    let stop = CancelToken::new();
    let error = model.prepare(&options, &stop, &mut |_, _| stop.cancel()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    let mut heard = Vec::new();
    model.prepare(&options, &CancelToken::new(), &mut |done, total| heard.push((done, total))).unwrap();
    let total = heard[0].1;
    assert!(heard.is_sorted() && heard.iter().all(|h| h.0 <= total && h.1 == total), "{heard:?}");
    assert!(heard.last().unwrap().0 > total / 10 * 9, "vectors are a small part");
    // What is loaded stays so.
    model.prepare(&options, &stop, &mut |_, _| unreachable!("loaded already")).unwrap();
    assert_eq!(model.session(&options).unwrap().n_ctx(), 64);
}
