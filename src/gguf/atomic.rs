//! Output files that are complete or absent.
//!
//! Data go to `.<name>.<process>.part` beside the destination, which is renamed once everything is on
//! disk; whatever fails, a file under the destination's name is whole.
#![forbid(unsafe_code)]

use std::ffi::OsString;
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

/// Large enough that the cost of a system call vanishes beside the copy.
const BUFFER_BYTES: usize = 1 << 20;

impl AtomicFile {
    /// Begins a file at `destination`, which must not be one of `inputs` under any name. An existing
    /// regular file stays as it is until the commit replaces it.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when the destination is an input or no regular file, [`ErrorKind::Io`] when
    /// its folder cannot be written to.
    pub fn create(destination: &Path, inputs: &[&Path]) -> Result<Self> {
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
        let (part, file) = create_part(destination, name)?;
        let out = Some(BufWriter::with_capacity(BUFFER_BYTES, file));
        Ok(Self { out, part, destination: destination.to_owned() })
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

/// Opens a new `.part` file: an existing one, of a process that was killed, is never written to.
fn create_part(destination: &Path, name: &std::ffi::OsStr) -> Result<(PathBuf, File)> {
    let mut attempt = 0u32;
    loop {
        let mut part = OsString::from(".");
        part.push(name);
        part.push(format!(".{}-{attempt}.part", std::process::id()));
        let part = destination.with_file_name(part);
        match OpenOptions::new().write(true).create_new(true).open(&part) {
            Ok(file) => return Ok((part, file)),
            Err(e) if e.kind() == IoKind::AlreadyExists && attempt < 100 => attempt += 1,
            Err(e) => return Err(Error::io("cannot create a file", &part, e)),
        }
    }
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
