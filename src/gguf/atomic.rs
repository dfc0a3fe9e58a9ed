//! Output files that are complete or absent.
//!
//! Data go to `.<name>.<process>-<n>.part` beside the destination, which is renamed once everything is on
//! disk; whatever fails, a file under the destination's name is whole. The part is locked while it is
//! written, so that what killed processes left is told from what others still write, and is removed.
#![forbid(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind as IoKind, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};

/// A file that appears under its name when [`AtomicFile::commit`] succeeds, and not before. Dropped
/// without it, nothing is left.
#[derive(Debug)]
pub struct AtomicFile {
    /// `None` once the file is on disk.
    out: Option<BufWriter<File>>,
    part: PathBuf,
    destination: PathBuf,
}

/// Who may read a file, as far as the system's own rules allow it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Readers {
    Anyone,
    Owner,
}

/// Large enough that the cost of a system call vanishes beside the copy, and that the page cache of Linux holds the
/// file in pages of 2 MiB, which are read faster.
const BUFFER_BYTES: usize = 4 << 20;

impl AtomicFile {
    /// Begins a file at `destination`, which must not be one of `inputs` under any name. An existing
    /// regular file stays as it is until the commit replaces it.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when the destination is an input or no regular file, [`ErrorKind::Io`] when
    /// its folder cannot be written to.
    pub fn create(destination: &Path, inputs: &[&Path]) -> Result<Self> {
        Self::create_for(Readers::Anyone, destination, inputs)
    }

    /// As [`AtomicFile::create`], for what is nobody else's business: on Unix only the owner may read it.
    ///
    /// # Errors
    /// As [`AtomicFile::create`].
    pub fn create_private(destination: &Path) -> Result<Self> {
        Self::create_for(Readers::Owner, destination, &[])
    }

    fn create_for(readers: Readers, destination: &Path, inputs: &[&Path]) -> Result<Self> {
        let refuse = |message: String| Err(Error::new(ErrorKind::Usage, message).in_file(destination));
        let Some(name) = destination.file_name() else {
            return refuse("found no file name, expected a path to a file".into());
        };
        match fs::metadata(destination) {
            Ok(meta) if !meta.is_file() => return refuse("not a regular file: it cannot be replaced".into()),
            Ok(_) => {
                for input in inputs {
                    if is_same_file(destination, input) {
                        return refuse(format!("the output is the input {}", input.display()));
                    }
                }
            }
            Err(_) => {}
        }
        let (part, file) = create_part(destination, name, readers)?;
        let out = Some(BufWriter::with_capacity(BUFFER_BYTES, file));
        Ok(Self { out, part, destination: destination.to_owned() })
    }

    /// Takes room for a file of `bytes`, so that a full disk is found before the work is done.
    ///
    /// # Errors
    /// [`ErrorKind::Memory`] when the disk has less room, with both figures; else [`ErrorKind::Io`].
    pub fn reserve(&mut self, bytes: u64) -> Result<()> {
        let Some(out) = &self.out else { return Ok(()) };
        reserve(out.get_ref(), bytes, &self.destination)
    }

    /// The name that the file will have.
    pub fn destination(&self) -> &Path {
        &self.destination
    }

    /// Brings the data to disk and gives the file its name.
    ///
    /// # Errors
    /// [`ErrorKind::Memory`] when the disk is full, else [`ErrorKind::Io`]. Nothing is left then.
    pub fn commit(mut self) -> Result<()> {
        let cannot = |what: &str, e: io::Error| Error::io(what, &self.destination, e);
        let mut out = self.out.take().expect("a file is committed once");
        out.flush().map_err(|e| cannot("cannot write", e))?;
        out.get_ref().sync_all().map_err(|e| cannot("cannot write", e))?;
        // Windows does not rename open files.
        drop(out);
        fs::rename(&self.part, &self.destination).map_err(|e| cannot("cannot rename the finished file", e))?;
        // The part's name is gone, so what drop removes is nothing.
        sync_folder(&self.destination).map_err(|e| cannot("cannot write the folder", e))
    }
}

impl Write for AtomicFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.open()?.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.open()?.flush()
    }
}

impl AtomicFile {
    fn open(&mut self) -> io::Result<&mut BufWriter<File>> {
        self.out.as_mut().ok_or_else(|| IoKind::InvalidInput.into())
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if let Some(out) = self.out.take() {
            // Without the flush of a buffer that nobody wants, which could fail on a full disk.
            let _ = out.into_parts();
        }
        // After a commit there is nothing to remove; other failures leave a file that names itself.
        let _ = fs::remove_file(&self.part);
    }
}

/// Opens and locks a new `.part` file.
fn create_part(destination: &Path, name: &OsStr, readers: Readers) -> Result<(PathBuf, File)> {
    remove_stale(destination, name);
    for attempt in 0u32.. {
        let mut part = OsString::from(".");
        part.push(name);
        part.push(format!(".{}-{attempt}.part", std::process::id()));
        let part = destination.with_file_name(part);
        let cannot = |e| Error::io("cannot create a file", &part, e);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        if readers == Readers::Owner {
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        }
        #[cfg(not(unix))]
        let _ = readers;
        let file = match options.open(&part) {
            Ok(file) => file,
            Err(e) if e.kind() == IoKind::AlreadyExists && attempt < 100 => continue,
            Err(e) => return Err(cannot(e)),
        };
        // Where files cannot be locked nobody takes them for stale either.
        let _ = file.try_lock();
        // Another process may have taken the file for stale before it was locked.
        if part.exists() || attempt >= 100 {
            return Ok((part, file));
        }
    }
    unreachable!("an attempt returns")
}

/// Removes parts of this destination that nobody holds a lock on: their processes were killed. Whatever cannot be
/// looked at stays.
fn remove_stale(destination: &Path, name: &OsStr) {
    let parent = destination.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Ok(entries) = fs::read_dir(parent) else { return };
    let mut prefix = OsString::from(".");
    prefix.push(name);
    prefix.push(".");
    for entry in entries.flatten() {
        let found = entry.file_name();
        let rest = found.as_encoded_bytes().strip_prefix(prefix.as_encoded_bytes());
        let middle = rest.and_then(|rest| rest.strip_suffix(b".part"));
        let is_part = middle.is_some_and(|m| !m.is_empty() && m.iter().all(|b| b.is_ascii_digit() || *b == b'-'));
        // Opened for writing, since some systems lock no others; an existing file is not changed by that.
        let lock = || OpenOptions::new().write(true).open(entry.path()).is_ok_and(|file| file.try_lock().is_ok());
        if is_part && entry.file_type().is_ok_and(|t| t.is_file()) && lock() {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(unix)]
fn reserve(file: &File, bytes: u64, destination: &Path) -> Result<()> {
    let full = |room: Option<u64>| {
        let room = room.map_or_else(String::new, |n| format!(", and {n} are free"));
        let text = format!("the file needs {bytes} bytes{room}");
        Err(Error::new(ErrorKind::Memory, text)
            .in_file(destination)
            .with_hint("free some space, or write to another disk"))
    };
    let room = rustix::fs::fstatvfs(file).ok().map(|s| s.f_bavail.saturating_mul(s.f_frsize));
    if room.is_some_and(|n| n < bytes) {
        return full(room);
    }
    match take_room(file, bytes) {
        Ok(true) => Ok(()),
        Ok(false) => full(room),
        Err(e) => Err(Error::io("cannot take room", destination, e)),
    }
}

/// Whether the disk gives the room, or cannot say so.
#[cfg(target_os = "linux")]
fn take_room(file: &File, bytes: u64) -> io::Result<bool> {
    use rustix::{fs::FallocateFlags, io::Errno};
    // The length stays, so that a file is never longer than what was written.
    match rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, 0, bytes.max(1)) {
        Ok(()) | Err(Errno::NOTSUP | Errno::NOSYS) => Ok(true),
        Err(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// Nothing that keeps the length takes room here: what was free is all that is known.
#[cfg(all(unix, not(target_os = "linux")))]
fn take_room(_: &File, _: u64) -> io::Result<bool> {
    Ok(true)
}

/// Setting the length takes the room on the file systems of Windows.
#[cfg(not(unix))]
fn reserve(file: &File, bytes: u64, destination: &Path) -> Result<()> {
    file.set_len(bytes).and_then(|()| file.set_len(0)).map_err(|e| {
        Error::io("cannot take room", destination, e).with_hint("free some space, or write to another disk")
    })
}

/// Whether two paths lead to one existing file, through links too.
fn is_same_file(a: &Path, b: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let id = |path| fs::metadata(path).ok().map(|m| (m.dev(), m.ino()));
        id(a).is_some() && id(a) == id(b)
    }
    #[cfg(not(unix))]
    {
        let id = |path: &Path| fs::canonicalize(path).ok();
        id(a).is_some() && id(a) == id(b)
    }
}

/// Makes a rename last: on Unix the folder is a file of its own.
fn sync_folder(file: &Path) -> io::Result<()> {
    #[cfg(unix)]
    {
        let parent = file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(parent)?.sync_all()
    }
    #[cfg(not(unix))]
    {
        let _ = file;
        Ok(())
    }
}
