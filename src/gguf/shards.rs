//! The files of one model. A model of several files names them `<prefix>-00001-of-00003.gguf`, each of
//! which says its number and the count in its metadata; both must agree, and each file passes the gate
//! alone. Only files of the first one's folder and pattern are ever opened.
//!
//! Names are parsed here and not by `ggus::GGufFileName`, which panics on shard 0 and on numbers that
//! pass 32 bits anywhere in the name.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::keys::KeyTable;
use super::map::Map;
use super::scan::{self, Layout, TensorSpan};
use super::{Gguf, Metadata, Tensor};
use crate::error::{Error, ErrorKind, Result, printable};

/// One opened file that has passed the gate.
#[derive(Debug)]
pub(super) struct Shard {
    pub(super) path: PathBuf,
    pub(super) map: Map,
    pub(super) keys: KeyTable,
    pub(super) version: u32,
    pub(super) alignment: u64,
}

/// Files of one model: each keeps a descriptor open, and 1024 is a common limit of a process. Models of
/// 10^12 parameters come in about 50.
const MAX_SHARDS: u64 = 512;

const NO: &str = "split.no";
const COUNT: &str = "split.count";
const TENSORS: &str = "split.tensors.count";

/// Opens all files of the model that `path` belongs to.
pub(super) fn open(path: &Path) -> Result<Gguf> {
    let given = open_file(path)?;
    let count = Metadata::new(&given.0).u64(COUNT)?.unwrap_or(1).max(1);
    let name = Name::of(path);
    let files = match name {
        None if count == 1 => vec![given],
        Some(Name { count: 1, .. }) if count == 1 => vec![given],
        Some(name) if name.count == count => open_siblings(given, &name)?,
        name => return Err(misnamed(&given.0, name.as_ref(), count)),
    };
    gather(path, files)
}

/// Passes bytes of the program through the gate as a model of one file called `name`.
pub(super) fn of_program(name: &str, bytes: &'static [u8]) -> Result<Gguf> {
    let path = Path::new(name);
    let file = check_file(path, Map::of_program(bytes))?;
    match Metadata::new(&file.0).u64(COUNT)?.unwrap_or(1).max(1) {
        1 => gather(path, vec![file]),
        count => Err(misnamed(&file.0, None, count)),
    }
}

type File = (Shard, Vec<TensorSpan>, Vec<String>);

fn open_file(path: &Path) -> Result<File> {
    check_file(path, Map::open(path)?)
}

fn check_file(path: &Path, map: Map) -> Result<File> {
    let layout = scan::scan(&map).map_err(|e| {
        let error = Error::new(ErrorKind::Model, e.to_string()).in_file(path);
        let hint = e.hint();
        let error = error.caused_by(e);
        match hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    })?;
    let Layout { version, alignment, keys, tensors, warnings } = layout;
    let keys = KeyTable::new(keys, &map);
    Ok((Shard { path: path.to_owned(), map, keys, version, alignment }, tensors, warnings))
}

fn open_siblings(given: File, name: &Name) -> Result<Vec<File>> {
    let meta = Metadata::new(&given.0);
    if name.count > MAX_SHARDS {
        return Err(meta.key_error(COUNT, name.count, format!("at most {MAX_SHARDS}")));
    }
    check_number(&given.0, name.number)?;
    let path = |number| given.0.path.with_file_name(name.sibling(number));
    let missing: Vec<String> =
        (1..=name.count).filter(|&i| !path(i).exists()).map(|i| printable(&name.sibling(i))).collect();
    if !missing.is_empty() {
        let message = format!("{} of {} shards are missing: {}", missing.len(), name.count, missing.join(", "));
        let error = Error::new(ErrorKind::Model, message).in_file(&given.0.path);
        return Err(error.with_hint("download the missing files into the same folder"));
    }
    let paths: Vec<PathBuf> = (1..=name.count).map(path).collect();
    let mut given = Some(given);
    let mut files = Vec::with_capacity(paths.len());
    for (number, path) in (1..).zip(&paths) {
        let file = match given.take_if(|_| number == name.number) {
            Some(file) => file,
            None => open_file(path)?,
        };
        let meta = Metadata::new(&file.0);
        match meta.u64(COUNT)? {
            Some(count) if count == name.count => {}
            Some(count) => return Err(meta.key_error(COUNT, count, format!("{} as its siblings have", name.count))),
            None => return Err(meta.key_error(COUNT, "no such key", name.count)),
        }
        check_number(&file.0, number)?;
        files.push(file);
    }
    Ok(files)
}

/// The number in the metadata counts from 0, that in the name from 1.
fn check_number(shard: &Shard, number: u64) -> Result<()> {
    let meta = Metadata::new(shard);
    match meta.u64(NO)? {
        Some(no) if no == number - 1 => Ok(()),
        Some(no) => Err(meta.key_error(NO, no, format!("{} by the name of the file", number - 1))),
        None => Err(meta.key_error(NO, "no such key", number - 1)),
    }
}

fn misnamed(shard: &Shard, name: Option<&Name>, count: u64) -> Error {
    let meta = Metadata::new(shard);
    let error = match name {
        Some(name) => meta.key_error(COUNT, count, format!("{} by the name of the file", name.count)),
        None => {
            let number = meta.u64(NO).ok().flatten().unwrap_or(0).saturating_add(1);
            meta.key_error(COUNT, count, format!("a name that ends in `-{number:05}-of-{count:05}.gguf`"))
        }
    };
    error.with_hint("the shards of a model must keep the names that they were published under")
}

fn gather(path: &Path, files: Vec<File>) -> Result<Gguf> {
    let n_shard = files.len();
    let mut gguf = Gguf {
        path: path.to_owned(),
        shards: Vec::with_capacity(n_shard),
        tensors: Vec::with_capacity(files.iter().map(|f| f.1.len()).sum()),
        by_name: Vec::new(),
        warnings: Vec::new(),
    };
    for (i, (shard, spans, warnings)) in files.into_iter().enumerate() {
        gguf.tensors.extend(spans.iter().map(|span| tensor(&shard, i, span)));
        gguf.warnings.extend(warnings.into_iter().map(|w| match n_shard {
            1 => w,
            _ => format!("shard {}: {w}", i + 1),
        }));
        gguf.shards.push(shard);
    }
    check_tensors(&gguf)?;
    gguf.by_name = (0..gguf.tensors.len()).collect();
    gguf.by_name.sort_unstable_by(|&a, &b| gguf.tensors[a].name.cmp(&gguf.tensors[b].name));
    Ok(gguf)
}

fn tensor(shard: &Shard, i: usize, span: &TensorSpan) -> Tensor {
    Tensor {
        name: String::from_utf8_lossy(&shard.map[span.name.clone()]).into_owned(),
        ty: span.ty,
        shape: span.ne.iter().rev().copied().collect(),
        shard: i,
        offset: span.data.start as u64,
        bytes: span.data.len() as u64,
    }
}

/// Each tensor lives in one shard, and there are as many as the shards say.
fn check_tensors(gguf: &Gguf) -> Result<()> {
    let mut seen: HashMap<&str, usize> = HashMap::with_capacity(gguf.tensors.len());
    for tensor in &gguf.tensors {
        if let Some(first) = seen.insert(&tensor.name, tensor.shard) {
            let message = format!(
                "tensor `{}` at byte {}: found also in shard {}, expected in one shard",
                printable(&tensor.name),
                tensor.offset,
                first + 1
            );
            return Err(Error::new(ErrorKind::Model, message).in_file(&gguf.shards[tensor.shard].path));
        }
    }
    if gguf.shards.len() == 1 {
        return Ok(());
    }
    for meta in gguf.shards.iter().map(Metadata::new) {
        let n_tensor = gguf.tensors.len() as u64;
        match meta.u64(TENSORS)? {
            Some(n) if n != n_tensor => {
                return Err(meta.key_error(TENSORS, n, format!("{n_tensor}, which the shards hold together")));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The name of a shard, `<prefix>-00001-of-00003.gguf`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) prefix: String,
    /// From 1 to `count`.
    pub(crate) number: u64,
    pub(crate) count: u64,
}

impl Name {
    /// Reads the name of a file; `None` if it does not follow the pattern.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let stem = path.file_name()?.to_str()?.strip_suffix(".gguf")?;
        let (rest, count) = stem.rsplit_once("-of-")?;
        let (prefix, number) = rest.rsplit_once('-')?;
        let (number, count) = (five_digits(number)?, five_digits(count)?);
        (1..=count).contains(&number).then(|| Self { prefix: prefix.to_owned(), number, count })
    }

    pub(crate) fn sibling(&self, number: u64) -> String {
        format!("{}-{number:05}-of-{:05}.gguf", self.prefix, self.count)
    }
}

fn five_digits(text: &str) -> Option<u64> {
    let digits = text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shard_names_follow_the_pattern_exactly() {
        let name = |text| Name::of(Path::new(text)).map(|n| (n.prefix, n.number, n.count));
        assert_eq!(name("d/m-00002-of-00003.gguf"), Some(("m".into(), 2, 3)));
        assert_eq!(name("-00001-of-00001.gguf"), Some((String::new(), 1, 1)));
        let odd = [
            "m.gguf",
            "m-00000-of-00003.gguf",
            "m-00004-of-00003.gguf",
            "m-1-of-3.gguf",
            "m-00001-of-00003",
            "m-+0001-of-00003.gguf",
            "m-00001-of-00000.gguf",
            "m-000001-of-000003.gguf",
            "00001-of-00003.gguf",
            "m-99999999999-of-99999999999.gguf",
            "m-v99999999999.1-F16.gguf",
            ".gguf",
            "",
        ];
        for text in odd {
            assert_eq!(name(text), None, "{text}");
        }
    }

    #[test]
    fn a_sibling_has_the_same_prefix_and_count() {
        let name = Name::of(Path::new("/x/a-b-00002-of-00010.gguf")).expect("a shard name");
        assert_eq!(name.sibling(10), "a-b-00010-of-00010.gguf");
    }

    #[test]
    fn bytes_of_the_program_pass_the_same_gate() {
        static MODEL: &[u8] = include_bytes!("../../tests/fixtures/qwen3/model.gguf");
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/qwen3/model.gguf");
        let (of_file, of_program) = (open(&path).unwrap(), of_program("inside", MODEL).unwrap());
        assert_eq!(of_file.tensors(), of_program.tensors());
        for tensor in of_file.tensors() {
            assert_eq!(of_file.bytes(tensor), of_program.bytes(tensor), "{}", tensor.name);
        }
        assert_eq!(of_program.file_sizes().collect::<Vec<_>>(), [MODEL.len() as u64]);
        assert!(of_program.check_unchanged().is_ok() && of_program.path() == Path::new("inside"));
        let cut = super::of_program("inside", &MODEL[..MODEL.len() / 2]).unwrap_err();
        assert_eq!((cut.kind(), cut.file()), (ErrorKind::Model, Some(Path::new("inside"))));
    }
}
