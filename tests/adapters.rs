//! Models that LoRA adapters change reproduce the logits of the reference, and adapters that do not fit are refused.
//!
//! The reference is transformers with PEFT in f32 (`expect.json` of the fixture names the base).

mod common;

use std::path::{Path, PathBuf};

use common::edit::{Edit, EditTensor, TempDir};
use common::{read_f32, read_json, shared, tokens};
use tealight::gguf::KeyValue;
use tealight::plan::CacheType;
use tealight::quant::BlockType;
use tealight::{Adapter, ErrorKind, Model, ModelOptions, Session, SessionOptions, Want};

fn own(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name).join("model.gguf")
}

fn open(model: &Path, adapters: &[(&Path, f32)], exact: bool) -> tealight::Result<Model> {
    let options = ModelOptions::default().with_exact(exact).with_threads(2);
    let with = |options: ModelOptions, a: &(&Path, f32)| options.with_adapter(Adapter::new(a.0).with_scale(a.1));
    Model::open(model, &adapters.iter().fold(options, with))
}

fn session(model: &Model) -> Session {
    model.session(&SessionOptions::default().with_cache(CacheType::F32, CacheType::F32)).unwrap()
}

fn logits(model: &Model, tokens: &[u32]) -> Vec<f32> {
    session(model).feed(tokens, 512, Want::All, &mut |_| {}).unwrap().to_vec()
}

fn greedy(model: &Model, tokens: &[u32], n: usize) -> Vec<u32> {
    let mut session = session(model);
    let (mut next, mut found) = (tokens.to_vec(), Vec::new());
    for _ in 0..n {
        let row = session.feed(&next, 512, Want::Last, &mut |_| {}).unwrap();
        let best = (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap() as u32;
        found.push(best);
        next = vec![best];
    }
    found
}

fn relative_error(got: &[f32], want: &[f32]) -> f32 {
    assert_eq!(got.len(), want.len());
    let scale = want.iter().fold(0f32, |m, x| m.max(x.abs()));
    got.iter().zip(want).fold(0f32, |m, (a, b)| m.max((a - b).abs())) / scale
}

#[test]
fn logits_with_an_adapter_equal_the_reference() {
    let Some(fixtures) = shared("fixtures") else { return };
    let folder = fixtures.join("lora-llama");
    let expect = read_json(&folder.join("expect.json"));
    let base = fixtures.join(expect["base"].as_str().unwrap()).join("model.gguf");
    let adapter = folder.join("adapter.gguf");
    let (ids, want) = (tokens(&expect["tokens"]), read_f32(&folder.join("logits.f32")));
    for (exact, limit) in [(true, 1e-4), (false, 1e-3)] {
        let whole = open(&base, &[(&adapter, 1.0)], exact).unwrap();
        let error = relative_error(&logits(&whole, &ids), &want);
        println!("exact {exact}: {error:.1e}");
        assert!(error <= limit, "exact {exact}: {error:e}");
        let text = tokens(&expect["greedy"]);
        assert_eq!(greedy(&whole, &ids, text.len()), text);

        let half = open(&base, &[(&adapter, 0.5)], exact).unwrap();
        let last: Vec<f32> =
            expect["scale_0.5"]["last_logits"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect();
        let all = logits(&half, &ids);
        let error = relative_error(&all[all.len() - last.len()..], &last);
        assert!(error <= limit, "half of it, exact {exact}: {error:e}");
        let text = tokens(&expect["scale_0.5"]["greedy"]);
        assert_eq!(greedy(&half, &ids, text.len()), text);

        // Adapters add up; 0 is none of it.
        let twice = open(&base, &[(&adapter, 0.75), (&adapter, 0.25)], exact).unwrap();
        assert!(relative_error(&logits(&twice, &ids), &want) <= limit);
        let none = open(&base, &[(&adapter, 0.0)], exact).unwrap();
        let plain = logits(&open(&base, &[], exact).unwrap(), &ids);
        assert!(relative_error(&logits(&none, &ids), &plain) <= 1e-6);
        assert!(relative_error(&plain, &want) > 1e-2, "the adapter changes something");
    }
}

/// An adapter of rank 2 for the fixture `qwen3` with these tensors: name, rows, columns.
fn made(folder: &TempDir, tensors: &[(&str, u64, u64)], change: impl FnOnce(&mut Edit)) -> PathBuf {
    let numbers = |n: u64, seed: u64| (0..n).map(move |i| ((i * 7 + seed) % 13) as f32 / 130.0 - 0.05);
    let tensor = |(i, (name, rows, columns)): (usize, &(&str, u64, u64))| EditTensor {
        name: (*name).to_owned(),
        ty: BlockType::F32,
        shape: vec![*rows, *columns],
        data: numbers(rows * columns, i as u64).flat_map(f32::to_le_bytes).collect(),
    };
    let mut edit = Edit { keys: Vec::new(), tensors: tensors.iter().enumerate().map(tensor).collect() };
    edit.set("general.architecture", "qwen3");
    edit.set("general.type", "adapter");
    edit.set("adapter.type", "lora");
    edit.set("adapter.lora.alpha", KeyValue::F32(4.0));
    change(&mut edit);
    let path = folder.path().join("adapter.gguf");
    edit.write(&path);
    path
}

/// The numbers of a tensor, changed and then in single precision.
fn change(edit: &mut Edit, tensor: &str, change: impl Fn(usize) -> f32) {
    let t = edit.tensor(tensor);
    let mut numbers = vec![0.0; t.shape.iter().product::<u64>() as usize];
    tealight::quant::dequantize(t.ty, &t.data, &mut numbers).unwrap();
    numbers.iter_mut().enumerate().for_each(|(i, x)| *x += change(i));
    t.ty = BlockType::F32;
    t.data = numbers.into_iter().flat_map(f32::to_le_bytes).collect();
}

fn shape(tensor: &str) -> (u64, u64) {
    let gguf = tealight::gguf::Gguf::open(&own("qwen3")).unwrap();
    let shape = &gguf.tensor(tensor).unwrap().shape;
    (shape[0], shape[1])
}

fn factors(path: &Path, stem: &str) -> [Vec<f32>; 2] {
    let gguf = tealight::gguf::Gguf::open(path).unwrap();
    ["a", "b"].map(|part| {
        let bytes = gguf.bytes(gguf.tensor(&format!("{stem}.lora_{part}")).unwrap());
        bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    })
}

const IDS: [u32; 6] = [5, 9, 2, 7, 11, 3];

/// What an adapter does equals what merging it into the weights does.
#[test]
fn an_adapter_equals_the_merged_weights() {
    let folder = TempDir::new("merged");
    let name = "blk.1.ffn_down.weight";
    let (n_out, n_in) = shape(name);
    let adapter =
        made(&folder, &[("blk.1.ffn_down.weight.lora_a", 2, n_in), ("blk.1.ffn_down.weight.lora_b", n_out, 2)], |_| {});
    let [a, b] = factors(&adapter, name);
    let mut edit = Edit::read(&own("qwen3"));
    change(&mut edit, name, |i| {
        let (row, column) = (i / n_in as usize, i % n_in as usize);
        // alpha / rank = 2, and 0.5 by the caller
        b[2 * row] * a[column] + b[2 * row + 1] * a[n_in as usize + column]
    });
    let merged = folder.path().join("merged.gguf");
    edit.write(&merged);
    let got = logits(&open(&own("qwen3"), &[(&adapter, 0.5)], true).unwrap(), &IDS);
    let want = logits(&open(&merged, &[], true).unwrap(), &IDS);
    assert!(relative_error(&got, &want) <= 1e-5);
    assert!(relative_error(&got, &logits(&open(&own("qwen3"), &[], true).unwrap(), &IDS)) > 1e-3);
}

/// Embeddings are looked up: the first factor has a row for each token. The head, which is the same table here, stays.
#[test]
fn an_adapter_of_embeddings_changes_what_is_looked_up() {
    let folder = TempDir::new("embeddings");
    let name = "token_embd.weight";
    let (n_vocab, n_embd) = shape(name);
    let adapter =
        made(&folder, &[("token_embd.weight.lora_a", n_vocab, 2), ("token_embd.weight.lora_b", n_embd, 2)], |edit| {
            edit.remove_key("adapter.lora.alpha")
        });
    let [a, b] = factors(&adapter, name);
    let mut apart = Edit::read(&own("qwen3"));
    if apart.tensors.iter().all(|t| t.name != "output.weight") {
        let head = EditTensor { name: "output.weight".into(), ..apart.tensor(name).clone() };
        apart.tensors.push(head);
    }
    change(&mut apart, name, |i| {
        let (token, column) = (i / n_embd as usize, i % n_embd as usize);
        a[2 * token] * b[2 * column] + a[2 * token + 1] * b[2 * column + 1]
    });
    let merged = folder.path().join("merged.gguf");
    apart.write(&merged);
    let got = logits(&open(&own("qwen3"), &[(&adapter, 1.0)], true).unwrap(), &IDS);
    let want = logits(&open(&merged, &[], true).unwrap(), &IDS);
    let error = relative_error(&got, &want);
    assert!(error <= 1e-5, "{error:e}");
}

#[test]
fn adapters_that_do_not_fit_are_refused_by_name() {
    let folder = TempDir::new("refused");
    let (n_out, n_in) = shape("blk.0.attn_q.weight");
    let pair = |name: &str, n_out, n_in| [(format!("{name}.lora_a"), 2, n_in), (format!("{name}.lora_b"), n_out, 2)];
    let check = |tensors: &[(String, u64, u64)], change: fn(&mut Edit), words: &[&str]| {
        let tensors: Vec<(&str, u64, u64)> = tensors.iter().map(|(n, r, c)| (n.as_str(), *r, *c)).collect();
        let adapter = made(&folder, &tensors, change);
        let error = open(&own("qwen3"), &[(&adapter, 1.0)], false).err().expect("refused");
        let text = format!("{error}; {}", error.hint().unwrap_or_default());
        assert!(words.iter().all(|w| text.contains(w)) && error.kind() == ErrorKind::Model, "{words:?}: {text}");
        assert!(text.contains("adapter.gguf"), "{text}");
    };
    let q = || pair("blk.0.attn_q.weight", n_out, n_in);
    let none: fn(&mut Edit) = |_| {};
    check(&pair("blk.99.attn_q.weight", n_out, n_in), none, &["blk.99.attn_q.weight.lora_a", "another model"]);
    check(&pair("blk.0.attn_norm.weight", 1, n_in), none, &["blk.0.attn_norm.weight.lora_a"]);
    check(&pair("blk.0.attn_q.weight", n_out + 2, n_in), none, &["blk.0.attn_q.weight.lora_b", "found shape"]);
    check(&pair("blk.0.attn_q.weight", n_out, n_in * 2), none, &["blk.0.attn_q.weight.lora_a", "found shape"]);
    check(&q()[..1], none, &["blk.0.attn_q.weight.lora_b", "missing"]);
    check(&q()[1..], none, &["blk.0.attn_q.weight.lora_a", "missing"]);
    check(&q(), |e| e.set("general.architecture", "llama"), &["`llama` models", "`qwen3`"]);
    check(&q(), |e| e.set("adapter.type", "control_vector"), &["adapter.type", "control_vector", "lora"]);
    check(&q(), |e| e.set("general.type", "model"), &["not a LoRA adapter"]);
    check(&q(), |e| e.set("adapter.lora.alpha", KeyValue::F32(f32::NAN)), &["adapter.lora.alpha"]);
    check(&[], none, &["no tensors"]);

    let adapter = made(&folder, &[], |_| {});
    let error = open(&adapter, &[], false).err().expect("an adapter is no model");
    assert!(error.to_string().contains("adapter") && error.hint().unwrap().contains("--lora"), "{error}");
    let scale = open(&own("qwen3"), &[(&adapter, f32::NAN)], false).err().expect("refused");
    assert_eq!(scale.kind(), ErrorKind::Usage);
}

#[test]
fn a_saved_session_belongs_to_its_adapters() {
    let folder = TempDir::new("saved");
    let (n_out, n_in) = shape("blk.0.attn_q.weight");
    let adapter =
        made(&folder, &[("blk.0.attn_q.weight.lora_a", 2, n_in), ("blk.0.attn_q.weight.lora_b", n_out, 2)], |_| {});
    let path = folder.path().join("s.session");
    let options = SessionOptions::default();
    let with = open(&own("qwen3"), &[(&adapter, 1.0)], false).unwrap();
    let mut first = with.session(&options).unwrap();
    first.feed(&IDS, 512, Want::Last, &mut |_| {}).unwrap();
    first.save(&path, &[]).unwrap();
    let mut again = with.restore(&path, &options).unwrap();
    let one = first.feed(&[4], 1, Want::Last, &mut |_| {}).unwrap().to_vec();
    assert_eq!(again.feed(&[4], 1, Want::Last, &mut |_| {}).unwrap(), one);
    for (adapters, words) in [(vec![], "no adapter"), (vec![(&*adapter, 0.5)], "adapter.gguf:0.5")] {
        let other = open(&own("qwen3"), &adapters, false).unwrap();
        assert_ne!(other.identity(), with.identity());
        let error = other.restore(&path, &options).err().expect("refused");
        let text = format!("{error}; {}", error.hint().unwrap_or_default());
        assert!(text.contains(words) && text.contains("--lora"), "{text}");
    }
}
