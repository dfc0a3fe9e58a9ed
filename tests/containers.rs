//! Files that the gate accepts, and what it says of them.

mod common;

use std::path::{Path, PathBuf};

use tealight::gguf::{Gguf, GgufWriter, KeyValue, Value, scan};
use tealight::quant::BlockType;

/// A folder of this test's own, empty.
fn folder(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("containers").join(name);
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).expect("a folder for temporary files");
    path
}

#[test]
fn a_model_can_be_shared_between_threads() {
    fn check<T: Send + Sync + 'static>() {}
    check::<Gguf>();
}

#[test]
fn what_is_written_is_read_back() {
    let mut file = GgufWriter::new();
    file.alignment(64)
        .key("a.text", "tea")
        .key("a.u8", 200u8)
        .key("a.i16", -3i16)
        .key("a.f64", 0.5f64)
        .key("a.bool", true)
        .key("a.texts", KeyValue::strings(["x", "", "yz"]))
        .key("a.ids", vec![1i32, -2, 3])
        .key("a.scores", vec![0.25f32, -1.0])
        .key("a.bytes", vec![7u8, 8])
        .key("a.flags", vec![true, false])
        .tensor("t", BlockType::Q8_0, &[2, 32])
        .tensor("u", BlockType::F32, &[3]);
    let mut body = file.begin(Vec::new()).unwrap();
    let data: Vec<u8> = (0..80).collect();
    body.write(&data[..30]).unwrap();
    body.write(&data[30..68]).unwrap();
    body.write(&data[68..]).unwrap();
    let path = folder("round").join("m.gguf");
    std::fs::write(&path, body.finish().unwrap()).unwrap();

    let model = Gguf::open(&path).unwrap();
    assert_eq!((model.version(), model.alignment(), model.path()), (3, 64, path.as_path()));
    assert_eq!(model.warnings(), [] as [&str; 0]);
    let names: Vec<_> = model.tensors().iter().map(|t| (t.name.as_str(), t.ty, t.shape.clone())).collect();
    assert_eq!(names, [("t", BlockType::Q8_0, vec![2, 32]), ("u", BlockType::F32, vec![3])]);
    assert_eq!(model.bytes(model.tensor("t").unwrap()), &data[..68]);
    assert_eq!(model.bytes(model.tensor("u").unwrap()), &data[68..]);
    assert_eq!(model.tensor("v"), None);
    model.check_unchanged().unwrap();

    let meta = model.metadata();
    assert_eq!(meta.str("a.text").unwrap(), Some("tea"));
    assert_eq!((meta.u64("a.u8").unwrap(), meta.i64("a.u8").unwrap()), (Some(200), Some(200)));
    assert_eq!((meta.i64("a.i16").unwrap(), meta.f32("a.i16").unwrap()), (Some(-3), Some(-3.0)));
    assert_eq!(meta.f32("a.f64").unwrap(), Some(0.5));
    assert_eq!(meta.bool("a.bool").unwrap(), Some(true));
    assert_eq!(meta.u32("absent").unwrap(), None);
    let array = |key| meta.array(key).unwrap().unwrap();
    assert_eq!(array("a.texts").strings().unwrap().collect::<Vec<_>>(), [b"x" as &[u8], b"", b"yz"]);
    for (at, text) in array("a.texts").strings_with_offsets().unwrap() {
        assert_eq!(&model.metadata_bytes()[at as usize..][..text.len()], text);
    }
    assert_eq!(array("a.ids").integers().unwrap().collect::<Vec<_>>(), [1, -2, 3]);
    assert_eq!(array("a.scores").floats().unwrap().collect::<Vec<_>>(), [0.25, -1.0]);
    assert_eq!(array("a.bytes").bytes(), Some(&[7u8, 8] as &[u8]));
    assert_eq!(array("a.flags").bools().unwrap().collect::<Vec<_>>(), [true, false]);
    assert!(array("a.ids").strings().is_none() && array("a.ids").floats().is_none());
    assert!(array("a.scores").integers().is_none() && array("a.flags").integers().is_none());
    assert_eq!((array("a.ids").len(), array("a.ids").element()), (3, "i32"));
    assert!(matches!(meta.iter().next(), Some(("a.text", Value::Str(b"tea")))));
    assert_eq!(meta.iter().count(), 11);
}

#[test]
fn a_wrong_type_names_file_key_offset_found_and_expected() {
    let mut file = GgufWriter::new();
    file.key("k", -1i8).key("s", "a\x1bb");
    let path = folder("types").join("m.gguf");
    std::fs::write(&path, file.begin(Vec::new()).unwrap().finish().unwrap()).unwrap();
    let model = Gguf::open(&path).unwrap();
    let meta = model.metadata();
    let file = path.display();
    let message = |e: tealight::Error| e.to_string();
    let e = message(meta.u64("k").unwrap_err());
    assert_eq!(e, format!("{file}: key `k` at byte 37: found -1, expected an unsigned integer"));
    let e = message(meta.f32("s").unwrap_err());
    assert_eq!(e, format!("{file}: key `s` at byte 51: found the text `a\\u{{1b}}b`, expected a number"));
}

fn gguf_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            gguf_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "gguf") {
            found.push(path);
        }
    }
}

#[test]
fn every_published_fixture_passes_without_warning() {
    let Some(shared) = common::shared("") else { return };
    let mut files = Vec::new();
    gguf_files(&shared, &mut files);
    assert!(files.len() > 50, "{} files", files.len());
    for path in files {
        let model = Gguf::open(&path).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(model.warnings(), [] as [&str; 0], "{}", path.display());
        assert!(model.metadata().str("general.type").is_ok() && model.metadata().iter().count() > 0);
        let total: usize = model.tensors().iter().map(|t| model.bytes(t).len()).sum();
        assert!(total as u64 <= model.file_sizes().sum::<u64>());
    }
}

#[test]
fn a_vocabulary_of_250_000_tokens_is_scanned_at_once() {
    let tokens = (0..250_000).map(|i| format!("token{i}"));
    let mut file = GgufWriter::new();
    file.key("tokenizer.ggml.tokens", KeyValue::strings(tokens));
    let bytes = file.begin(Vec::new()).unwrap().finish().unwrap();
    let start = std::time::Instant::now();
    assert_eq!(scan(&bytes).unwrap().keys.len(), 1);
    assert!(start.elapsed().as_millis() < 1000, "{:?}", start.elapsed());
}
