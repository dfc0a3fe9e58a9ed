//! Compiled shaders on disk: one file per kind of GPU, as the driver gave it, behind a length and a checksum.
//!
//! The checksum begins with a stamp of what the shaders belong to, so that those of another version do not count.
//! A driver trusts what it is given, and wgpu compares versions only. So a file that is cut, damaged or of another
//! form is left out, and a new one takes its name when it is complete.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

/// Eight bytes that begin a file of this form.
const MAGIC: &[u8; 8] = b"TLPIPE01";
/// Magic, length and checksum.
const HEAD: usize = 24;
/// Caches of drivers are some megabytes; more is not ours.
const MAX_BYTES: u64 = 256 << 20;

/// `data` behind their head.
fn sealed(stamp: u64, data: &[u8]) -> Vec<u8> {
    let mut file = Vec::with_capacity(HEAD + data.len());
    file.extend_from_slice(MAGIC);
    file.extend_from_slice(&(data.len() as u64).to_le_bytes());
    file.extend_from_slice(&checksum(stamp, data).to_le_bytes());
    file.extend_from_slice(data);
    file
}

/// What was sealed; `None` when a byte or the stamp differs.
fn unsealed(stamp: u64, file: &[u8]) -> Option<&[u8]> {
    let (head, data) = file.split_at_checked(HEAD)?;
    let length = (data.len() as u64).to_le_bytes();
    (head[..8] == *MAGIC && head[8..16] == length && head[16..] == checksum(stamp, data).to_le_bytes()).then_some(data)
}

/// FNV-1a: finds damage, not malice, for which the folder is the user's own.
pub(super) fn checksum(start: u64, data: &[u8]) -> u64 {
    data.iter().fold(start ^ 0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3))
}

/// The data of a file, if it is there and whole.
pub(super) fn read(path: &Path, stamp: u64) -> Option<Vec<u8>> {
    let mut file = Vec::new();
    fs::File::open(path).ok()?.take(MAX_BYTES).read_to_end(&mut file).ok()?;
    unsealed(stamp, &file).map(<[u8]>::to_vec)
}

/// Writes `data` so that the file is whole at any time, whoever else writes it. The folder is made.
pub(super) fn write(path: &Path, stamp: u64, data: &[u8]) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::create_dir_all(folder)?;
    // Two writers in one process differ by the address of their data.
    let part = path.with_extension(format!("{}-{:x}.part", std::process::id(), data.as_ptr() as usize));
    let written = fs::write(&part, sealed(stamp, data)).and_then(|()| fs::rename(&part, path));
    if written.is_err() {
        // The error of the writing is the one to tell.
        let _ = fs::remove_file(&part);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_is_unsealed_unless_a_byte_differs() {
        for data in [&b""[..], b"x", &[7; 1000]] {
            let file = sealed(7, data);
            assert_eq!(unsealed(7, &file), Some(data));
            assert_eq!(unsealed(8, &file), None);
            for i in 0..file.len() {
                let mut damaged = file.clone();
                damaged[i] ^= 0x20;
                assert_eq!(unsealed(7, &damaged), None, "byte {i}");
                assert_eq!(unsealed(7, &file[..i]), None, "cut at {i}");
            }
        }
    }

    #[test]
    fn a_file_is_replaced_and_nothing_else_is_left() {
        let folder = std::env::temp_dir().join(format!("tealight-pipelines-{}", std::process::id()));
        let path = folder.join("below").join("cache");
        assert_eq!(read(&path, 7), None);
        for data in [&b"one"[..], b"another"] {
            write(&path, 7, data).unwrap();
            assert_eq!((read(&path, 7).as_deref(), read(&path, 8)), (Some(data), None));
        }
        fs::write(&path, b"TLPIPE01 and something else").unwrap();
        assert_eq!(read(&path, 7), None);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        fs::remove_dir_all(&folder).unwrap();
    }
}
