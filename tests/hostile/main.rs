//! Files from strangers: every one is refused with its place and reason or accepted as documented,
//! quickly, in bounded memory, and nothing panics.

mod accepted;
mod places;
mod properties;
mod raw;
mod refused;
mod shards;

use std::collections::BTreeSet;
use std::error::Error as _;
use std::path::Path;
use std::time::{Duration, Instant};

use tealight::ErrorKind;
use tealight::gguf::{Gguf, ScanError, ValueType};

use crate::raw::{Raw, array, key};

/// Opens `path`, which must be refused as a bad model with these words, in time; gives the cause, or
/// what is wrong with the refusal.
fn refusal(path: &Path, says: &str) -> Result<Option<ScanError>, String> {
    let start = Instant::now();
    let Err(error) = Gguf::open(path) else { return Err("accepted".into()) };
    let message = error.to_string();
    let ok = start.elapsed() < Duration::from_secs(1)
        && error.kind() == ErrorKind::Model
        && message.starts_with(&format!("{}: ", path.display()))
        && message.contains(says)
        && !message.chars().any(char::is_control);
    match ok {
        true => Ok(error.source().and_then(|e| e.downcast_ref::<ScanError>()).cloned()),
        false => Err(format!("{:?} in {:?}: {message:?}, expected `{says}`", error.kind(), start.elapsed())),
    }
}

fn check_refused(name: &str, path: &Path, says: &str) -> Option<ScanError> {
    refusal(path, says).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// The variants of `ScanErrorKind`, read from its source so that a new one is missed by this test.
fn declared_kinds() -> BTreeSet<&'static str> {
    let source = include_str!("../../src/gguf/scan/error.rs");
    let body = source.split("pub enum ScanErrorKind {").nth(1).and_then(|s| s.split("\n}").next()).unwrap();
    let variant = |line: &'static str| line.strip_prefix("    ").filter(|l| l.starts_with(char::is_uppercase));
    body.lines().filter_map(variant).map(|l| l.split(|c: char| !c.is_alphanumeric()).next().unwrap()).collect()
}

#[test]
fn every_malformed_container_is_refused_with_its_place_and_reason() {
    let folder = raw::folder("refused");
    let (mut kinds, mut failures) = (BTreeSet::new(), Vec::new());
    for (i, case) in refused::cases().into_iter().enumerate() {
        let path = folder.join(format!("{i}.gguf"));
        std::fs::write(&path, &case.bytes).unwrap();
        let cause = match refusal(&path, case.says) {
            Ok(cause) => cause,
            Err(e) => {
                failures.push(format!("{}: {e}", case.name));
                continue;
            }
        };
        // An empty file cannot be mapped and is refused before the scan.
        let cause = cause.or_else(|| tealight::gguf::scan(&case.bytes).err()).expect("refused by the scan too");
        let kind = format!("{:?}", cause.kind);
        kinds.insert(kind.split(|c: char| !c.is_alphanumeric()).next().unwrap().to_owned());
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    kinds.insert(endless_vocabulary(&folder.join("strings.gguf")));
    let declared = declared_kinds();
    let produced: BTreeSet<&str> = kinds.iter().map(String::as_str).collect();
    assert!(declared.len() > 20);
    assert_eq!(produced, declared, "every kind of refusal has a case");
    check_peak_memory();
}

/// A hundred million empty strings in a sparse file: as many as its 800 MB hold.
fn endless_vocabulary(path: &Path) -> String {
    const N: u64 = 100_000_000;
    let raw = Raw { keys: vec![key(b"tokens", ValueType::Array, &array(ValueType::Str, N, &[]))], ..Raw::empty() };
    std::fs::write(path, raw.build()).unwrap();
    std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(8 * N + 1024).unwrap();
    let cause = check_refused("endless vocabulary", path, "key `tokens` at byte").expect("refused by the scan");
    std::fs::remove_file(path).unwrap();
    format!("{:?}", cause.kind)
}

/// The most memory this process has had so far; the tests beside this one are as small.
fn check_peak_memory() {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return };
    let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
    let kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kib < 512 * 1024, "{kib} KiB");
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let whole = Raw::valid().build();
    let folder = raw::folder("cut");
    let path = folder.join("m.gguf");
    for len in 0..whole.len() {
        std::fs::write(&path, &whole[..len]).unwrap();
        check_refused(&format!("cut to {len} bytes"), &path, "");
    }
    std::fs::write(&path, &whole).unwrap();
    assert!(Gguf::open(&path).is_ok());
}

#[test]
fn fifty_thousand_keys_and_tensors_take_linear_time() {
    let raw = Raw {
        keys: (0..50_000u32).map(|i| key(format!("k{i}").as_bytes(), ValueType::U8, &[0])).collect(),
        tensors: (0..50_000u64).map(|i| raw::tensor(format!("t{i}").as_bytes(), &[8], 0, 32 * i)).collect(),
        data: vec![0; 50_000 * 32],
        ..Raw::empty()
    };
    let path = raw::folder("many").join("m.gguf");
    std::fs::write(&path, raw.build()).unwrap();
    let start = Instant::now();
    let model = Gguf::open(&path).unwrap();
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert_eq!((model.tensors().len(), model.metadata().iter().count()), (50_000, 50_000));
    assert_eq!(model.tensor("t49999").map(|t| t.bytes), Some(32));
}
