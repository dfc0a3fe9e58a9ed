//! Models of several files.

use std::path::{Path, PathBuf};

use tealight::gguf::{Gguf, GgufWriter};
use tealight::quant::BlockType;

use crate::check_refused;
use crate::raw::folder;

/// What one shard says of itself.
struct Shard {
    no: Option<u16>,
    count: Option<u16>,
    total: Option<i32>,
    alignment: u32,
    tensors: Vec<&'static str>,
}

/// Three good shards with four tensors, the first one without any.
fn good() -> Vec<Shard> {
    let tensors = [vec![], vec!["a", "b"], vec!["c", "d"]];
    let shard = |(no, tensors)| Shard { no: Some(no), count: Some(3), total: Some(4), alignment: 32, tensors };
    (0..).zip(tensors).map(shard).collect()
}

fn build(shard: &Shard) -> Vec<u8> {
    let mut file = GgufWriter::new();
    file.alignment(shard.alignment);
    shard.no.map(|n| file.key("split.no", n));
    shard.count.map(|n| file.key("split.count", n));
    shard.total.map(|n| file.key("split.tensors.count", n));
    if shard.no == Some(0) {
        file.key("general.architecture", "llama");
    }
    for &name in &shard.tensors {
        file.tensor(name, BlockType::F32, &[3]);
    }
    let mut body = file.begin(Vec::new()).unwrap();
    for &name in &shard.tensors {
        body.write(&[name.as_bytes()[0]; 12]).unwrap();
    }
    body.finish().unwrap()
}

fn path(folder: &Path, number: usize, count: usize) -> PathBuf {
    folder.join(format!("m-{number:05}-of-{count:05}.gguf"))
}

fn write(name: &str, shards: &[Shard]) -> PathBuf {
    let folder = folder(name);
    for (i, shard) in shards.iter().enumerate() {
        std::fs::write(path(&folder, i + 1, shards.len()), build(shard)).unwrap();
    }
    folder
}

#[test]
fn any_shard_opens_the_whole_model() {
    let mut shards = good();
    shards[2].alignment = 4096;
    let folder = write("three", &shards);
    for number in 1..=3 {
        let model = Gguf::open(&path(&folder, number, 3)).unwrap();
        let names: Vec<_> = model.tensors().iter().map(|t| (t.name.as_str(), t.shard)).collect();
        assert_eq!(names, [("a", 1), ("b", 1), ("c", 2), ("d", 2)]);
        for tensor in model.tensors() {
            assert_eq!(model.bytes(tensor), [tensor.name.as_bytes()[0]; 12]);
        }
        assert_eq!(model.metadata().str("general.architecture").unwrap(), Some("llama"));
        assert_eq!(model.metadata().path(), path(&folder, 1, 3));
        assert_eq!(model.path(), path(&folder, number, 3));
        assert_eq!((model.shard_paths().len(), model.file_sizes().len()), (3, 3));
    }
}

#[test]
fn one_shard_of_one_is_a_model() {
    for (name, no, count) in [("one", Some(0), Some(1)), ("bare", None, None)] {
        let folder = write(name, &[Shard { no, count, total: Some(1), alignment: 32, tensors: vec!["a"] }]);
        assert_eq!(Gguf::open(&path(&folder, 1, 1)).unwrap().tensors().len(), 1, "{name}");
    }
}

type Change = fn(&mut Vec<Shard>);

#[test]
fn shards_that_disagree_are_refused() {
    let cases: [(&str, usize, Change, &str); 9] = [
        ("number of another shard", 1, |s| s[1].no = Some(2), "00002-of-00003.gguf: key `split.no` at byte"),
        ("number of the given shard", 1, |s| s[0].no = Some(1), "found 1, expected 0 by the name of the file"),
        ("no number", 1, |s| s[1].no = None, "key `split.no`: found no such key, expected 1"),
        ("count of another shard", 1, |s| s[2].count = Some(4), "found 4, expected 3 as its siblings have"),
        ("count of the given shard", 1, |s| s[0].count = Some(4), "found 4, expected 3 by the name of the file"),
        ("no count in another shard", 1, |s| s[1].count = None, "key `split.count`: found no such key, expected 3"),
        ("no count in the given shard", 2, |s| s[1].count = None, "found 1, expected 3 by the name of the file"),
        ("tensor in two shards", 1, |s| s[2].tensors = vec!["c", "a"], "found also in shard 2, expected in one shard"),
        ("total of tensors", 1, |s| s[0].total = Some(5), "found 5, expected 4, which the shards hold together"),
    ];
    for (i, (name, given, change, says)) in cases.into_iter().enumerate() {
        let mut shards = good();
        change(&mut shards);
        let folder = write(&format!("disagree-{i}"), &shards);
        let error = Gguf::open(&path(&folder, given, 3)).err().unwrap_or_else(|| panic!("{name}: accepted"));
        assert_eq!(error.kind(), tealight::ErrorKind::Model, "{name}");
        assert!(error.to_string().contains(says), "{name}: `{error}` lacks `{says}`");
    }
}

#[test]
fn every_missing_shard_is_named() {
    let folder = write("missing-shards", &good());
    for number in [1, 3] {
        std::fs::remove_file(path(&folder, number, 3)).unwrap();
    }
    let says = "2 of 3 shards are missing: m-00001-of-00003.gguf, m-00003-of-00003.gguf";
    check_refused("missing", &path(&folder, 2, 3), says);
}

#[test]
fn a_truncated_shard_is_named() {
    let folder = write("truncated-shard", &good());
    let last = path(&folder, 3, 3);
    let bytes = std::fs::read(&last).unwrap();
    std::fs::write(&last, &bytes[..bytes.len() - 24]).unwrap();
    let error = Gguf::open(&path(&folder, 1, 3)).unwrap_err();
    assert_eq!(error.file(), Some(last.as_path()));
    assert!(error.to_string().contains("tensor `d` at byte"), "{error}");
}

#[test]
fn a_shard_that_is_a_folder_is_named() {
    let folder = write("folder-shard", &good());
    let last = path(&folder, 3, 3);
    std::fs::remove_file(&last).unwrap();
    std::fs::create_dir(&last).unwrap();
    let error = Gguf::open(&path(&folder, 1, 3)).unwrap_err();
    assert_eq!(error.file(), Some(last.as_path()));
}

#[test]
fn a_renamed_shard_is_refused_with_the_name_it_should_have() {
    let folder = write("renamed", &good());
    let renamed = folder.join("model.gguf");
    std::fs::rename(path(&folder, 2, 3), &renamed).unwrap();
    check_refused("renamed", &renamed, "expected a name that ends in `-00002-of-00003.gguf`");
}

#[test]
fn a_count_of_65535_is_refused_at_once() {
    let folder = folder("many-shards");
    let shard = Shard { no: Some(0), count: Some(u16::MAX), total: None, alignment: 32, tensors: vec!["a"] };
    let path = path(&folder, 1, 65_535);
    std::fs::write(&path, build(&shard)).unwrap();
    check_refused("65535 shards", &path, "found 65535, expected at most 512");
}
