//! Opening and mapping a file: the only place of the gate that may use `unsafe`.
//!
//! A map is not memory: who truncates the file while it is mapped ends this process by a signal. The
//! file is opened once and mapped from that descriptor, so a name that is exchanged meanwhile does
//! not matter; [`Map::check_unchanged`] notices a file that was rewritten in place.
#![allow(unsafe_code)]

use std::fs::{self, File, Metadata};
use std::hint::black_box;
use std::ops::{Deref, Range};
use std::path::Path;
use std::time::SystemTime;

use memmap2::{Mmap, MmapMut, MmapOptions};

use crate::error::{Error, ErrorKind, Result};

/// No system has smaller pages.
const SMALLEST_PAGE: usize = 4096;

/// Bytes for reading: those of a regular file, mapped, or those that came with the program.
#[derive(Debug)]
pub(crate) struct Map(Origin);

#[derive(Debug)]
enum Origin {
    File { bytes: Mmap, file: File, identity: Identity },
    Program(&'static [u8]),
}

/// What changes when a file is written to.
#[derive(Debug, PartialEq, Eq)]
struct Identity {
    len: u64,
    modified: Option<SystemTime>,
}

impl Identity {
    fn of(meta: &Metadata) -> Self {
        Self { len: meta.len(), modified: meta.modified().ok() }
    }
}

impl Map {
    /// Opens and maps the GGUF file at `path`, which must be regular and not empty.
    pub(super) fn open(path: &Path) -> Result<Map> {
        Self::open_as(path, "a GGUF file")
    }

    /// Bytes that are part of the program, which loads them as it loads itself.
    pub(super) fn of_program(bytes: &'static [u8]) -> Map {
        Map(Origin::Program(bytes))
    }

    /// Are they part of the program?
    pub(super) fn is_program(&self) -> bool {
        matches!(self.0, Origin::Program(_))
    }

    /// Opens and maps the regular file at `path`, which must not be empty; `what` it should be is for messages.
    pub(crate) fn open_as(path: &Path, what: &str) -> Result<Map> {
        // Opening a FIFO would wait for a writer, so what the name means is asked first.
        let named = fs::metadata(path).map_err(|e| cannot("cannot find", path, e))?;
        require_regular(&named, path, what)?;
        let file = File::open(path).map_err(|e| cannot("cannot open", path, e))?;
        let meta = file.metadata().map_err(|e| Error::io("cannot read", path, e))?;
        require_regular(&meta, path, what)?;
        if meta.len() == 0 {
            let message = format!("the file is empty: found 0 bytes, expected {what}");
            return Err(Error::new(ErrorKind::Model, message).in_file(path).with_hint(AGAIN));
        }
        // SAFETY: the map is read only and lives as long as its file; writers of that file are excluded by contract (docs/security.md).
        let bytes = unsafe { Mmap::map(&file) }.map_err(|e| Error::io("cannot map", path, e))?;
        // Fewer page faults and TLB misses where the kernel has huge pages for files; else no effect. Before the first
        // read, because what is read then decides on the size of folios in the page cache.
        #[cfg(target_os = "linux")]
        let _ = bytes.advise(memmap2::Advice::HugePage);
        Ok(Map(Origin::File { bytes, file, identity: Identity::of(&meta) }))
    }

    /// Reads these bytes of the file and maps their pages; what lies outside of it is left out.
    pub(super) fn populate(&self, range: Range<usize>) {
        let end = range.end.min(self.len());
        let Some(bytes) = self.get(range.start..end).filter(|b| !b.is_empty()) else { return };
        #[cfg(unix)]
        if let Origin::File { bytes: map, .. } = &self.0 {
            // One call maps whole folios, without a fault for each page (Linux 5.14).
            #[cfg(target_os = "linux")]
            if map.advise_range(memmap2::Advice::PopulateRead, range.start, bytes.len()).is_ok() {
                return;
            }
            // Larger reads than those that faults ask for.
            let _ = map.advise_range(memmap2::Advice::WillNeed, range.start, bytes.len());
        }
        for byte in bytes.iter().step_by(SMALLEST_PAGE) {
            black_box(*byte);
        }
    }

    /// Gives the pages back that are mapped; those that are needed again come from the file again.
    pub(crate) fn release(&self) {
        #[cfg(unix)]
        if let Origin::File { bytes, .. } = &self.0 {
            // SAFETY: the map is shared and read only, so its pages hold nothing that the file does not.
            let _ = unsafe { bytes.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
        }
    }

    /// Maps a part of the file once more, so that it can be written to in memory; the file stays as it is.
    pub(crate) fn private(&self, range: Range<usize>, path: &Path) -> Result<MmapMut> {
        let Origin::File { bytes, file, .. } = &self.0 else {
            return Err(Error::new(ErrorKind::Internal, "a part of the program is no file").in_file(path));
        };
        if range.start > range.end || range.end > bytes.len() {
            return Err(Error::new(ErrorKind::Internal, "a part of a file lies outside of it").in_file(path));
        }
        let mut options = MmapOptions::new();
        options.offset(range.start as u64).len(range.len());
        // SAFETY: the map is private and this process's own, so nobody else writes to it; writers of the file are
        // excluded by contract (docs/security.md).
        unsafe { options.map_copy(file) }.map_err(|e| Error::io("cannot map", path, e))
    }

    /// Fails if the file is not as it was when it was opened.
    pub(crate) fn check_unchanged(&self, path: &Path) -> Result<()> {
        let Origin::File { file, identity, .. } = &self.0 else { return Ok(()) };
        let meta = file.metadata().map_err(|e| Error::io("cannot read", path, e))?;
        if Identity::of(&meta) == *identity {
            return Ok(());
        }
        let message = format!("the file changed while in use: found {} bytes, expected {}", meta.len(), identity.len);
        Err(Error::new(ErrorKind::Io, message).in_file(path).with_hint("open the model again"))
    }
}

impl Deref for Map {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Origin::File { bytes, .. } => bytes,
            Origin::Program(bytes) => bytes,
        }
    }
}

fn require_regular(meta: &Metadata, path: &Path, what: &str) -> Result<()> {
    let found = match () {
        () if meta.is_file() => return Ok(()),
        () if meta.is_dir() => "a folder",
        () => "a device, pipe or socket",
    };
    let message = format!("not a regular file: found {found}, expected {what}");
    let error = Error::new(ErrorKind::Model, message).in_file(path);
    Err(if meta.is_dir() { error.with_hint("name the `.gguf` file inside it") } else { error })
}

fn cannot(what: &str, path: &Path, source: std::io::Error) -> Error {
    let hint = match source.kind() {
        std::io::ErrorKind::NotFound => Some("check the path of the model file"),
        std::io::ErrorKind::PermissionDenied => Some("check who may read the file"),
        _ => None,
    };
    let error = Error::io(what, path, source);
    match hint {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

/// What helps against a file whose download broke off.
pub(crate) const AGAIN: &str = "the download or conversion was interrupted: do it again";
