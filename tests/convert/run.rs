//! What comes out of a folder computes what the folder's checkpoint does, in transformers' own numbers.

use std::path::Path;

use tealight::convert::{self, ConvertOptions, Source};
use tealight::gguf::GgufWriter;
use tealight::plan::CacheType;
use tealight::{Model, ModelOptions, SessionOptions, Want};

use crate::common::{read_f32, read_json, tokens};
use crate::fixtures::fixtures;

/// Writes a model as it is; rows at a time, as a command would.
pub fn write(source: &Source, path: &Path) {
    let mut writer = GgufWriter::new();
    for (key, value) in &source.metadata {
        writer.key(key.clone(), value.clone());
    }
    for t in &source.tensors {
        writer.tensor(t.name.clone(), t.ty, &t.shape);
    }
    let mut body = writer.begin(std::fs::File::create(path).expect("a file")).expect("a head");
    let mut bytes = Vec::new();
    for t in &source.tensors {
        for row in 0..t.n_row() {
            bytes.clear();
            t.rows_bytes(row..row + 1, &mut bytes).expect("a row");
            body.write(&bytes).expect("room on the disk");
        }
    }
    body.finish().expect("all tensors");
}

#[test]
fn converted_folders_compute_what_their_checkpoints_do() {
    let known = convert::supported();
    let mut done = Vec::new();
    for (name, path) in fixtures() {
        let config = read_json(&path.join("hf/config.json"));
        if !known.contains(&config["architectures"][0].as_str().unwrap_or_default()) {
            continue;
        }
        let source = convert::open(&path.join("hf"), &ConvertOptions::new()).unwrap_or_else(|e| panic!("{name}: {e}"));
        if source.notes.iter().any(|n| n.contains("do not run here yet")) {
            continue;
        }
        let file = std::env::temp_dir().join(format!("tealight-convert-{name}-{}.gguf", std::process::id()));
        write(&source, &file);
        let options = ModelOptions::default().with_exact(true).with_threads(2);
        let model = Model::open(&file, &options);
        let model = match model {
            Err(e) if e.to_string().contains("not supported yet") => {
                std::fs::remove_file(&file).expect("the file");
                continue;
            }
            other => other.unwrap_or_else(|e| panic!("{name}: {e}")),
        };
        let expect = read_json(&path.join("expect.json"));
        let tokens = tokens(&expect["tokens"]);
        let want = read_f32(&path.join("logits.f32"));
        // The reference has chosen longrope's factors by the prompt's length.
        let n_ctx =
            (tokens.len() as u32).max(expect["greedy"].as_array().map_or(0, Vec::len) as u32 + tokens.len() as u32);
        let n_ctx = if name.starts_with("phi") { n_ctx.min(256) } else { n_ctx };
        let session = SessionOptions::default().with_ctx(n_ctx).with_cache(CacheType::F32, CacheType::F32);
        let mut session = model.session(&session).unwrap_or_else(|e| panic!("{name}: {e}"));
        let got = session.feed(&tokens, 512, Want::All, &mut |_| {}).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(got.len(), want.len(), "{name}");
        let scale = want.iter().fold(0f32, |m, x| m.max(x.abs()));
        let error = got.iter().zip(&want).fold(0f32, |m, (a, b)| m.max((a - b).abs())) / scale;
        assert!(error <= 1e-4, "{name}: {error:e}");
        let mut last = got[got.len() - got.len() / tokens.len()..].to_vec();
        for token in expect["greedy"].as_array().into_iter().flatten() {
            let best = (0u32..).zip(&last).max_by(|a, b| a.1.total_cmp(b.1)).map(|(id, _)| id);
            assert_eq!(best.map(u64::from), token.as_u64(), "{name}");
            last = session
                .feed(&best.into_iter().collect::<Vec<u32>>(), 1, Want::Last, &mut |_| {})
                .expect("room")
                .to_vec();
        }
        drop((session, model));
        std::fs::remove_file(&file).expect("the file");
        done.push(name);
    }
    println!("{} compute alike: {}", done.len(), done.join(", "));
}
