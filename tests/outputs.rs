//! Output files are complete or absent.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use tealight::ErrorKind;
use tealight::gguf::AtomicFile;

fn folder(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("outputs").join(name);
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).expect("a folder for temporary files");
    path
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_file_appears_when_it_is_committed() {
    let folder = folder("commit");
    let path = folder.join("m.gguf");
    fs::write(&path, "old").unwrap();
    let mut file = AtomicFile::create(&path, &[]).unwrap();
    file.write_all(b"new").unwrap();
    file.flush().unwrap();
    assert_eq!((fs::read(&path).unwrap(), names(&folder).len()), (b"old".to_vec(), 2));
    file.commit().unwrap();
    assert_eq!((fs::read(&path).unwrap(), names(&folder)), (b"new".to_vec(), vec!["m.gguf".into()]));
}

#[test]
fn nothing_is_left_of_a_file_that_is_dropped() {
    let folder = folder("drop");
    let mut file = AtomicFile::create(&folder.join("m.gguf"), &[]).unwrap();
    file.write_all(&[1; 3 << 20]).unwrap();
    assert_eq!(names(&folder).len(), 1);
    drop(file);
    assert_eq!(names(&folder), [""; 0]);
}

#[test]
fn two_writers_of_one_destination_do_not_meet() {
    let folder = folder("two");
    let path = folder.join("m.gguf");
    let mut first = AtomicFile::create(&path, &[]).unwrap();
    let mut second = AtomicFile::create(&path, &[]).unwrap();
    first.write_all(b"first").unwrap();
    second.write_all(b"second").unwrap();
    first.commit().unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"first");
    second.commit().unwrap();
    assert_eq!((fs::read(&path).unwrap(), names(&folder).len()), (b"second".to_vec(), 1));
}

#[test]
fn the_input_is_never_the_output() {
    let folder = folder("same");
    let input = folder.join("in.gguf");
    fs::write(&input, "model").unwrap();
    let mut outputs = vec![input.clone(), folder.join("./in.gguf")];
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(&input, folder.join("link.gguf")).unwrap();
        fs::hard_link(&input, folder.join("hard.gguf")).unwrap();
        outputs.extend([folder.join("link.gguf"), folder.join("hard.gguf")]);
    }
    for output in outputs {
        let error = AtomicFile::create(&output, &[&input]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
        assert!(error.to_string().contains("the output is the input"), "{error}");
    }
    assert_eq!(fs::read(&input).unwrap(), b"model");
}

#[test]
fn a_destination_that_cannot_be_a_file_is_refused() {
    let folder = folder("refused");
    for (path, kind) in [
        (folder.clone(), ErrorKind::Usage),
        (folder.join("absent/m.gguf"), ErrorKind::Io),
        (folder.join(".."), ErrorKind::Usage),
    ] {
        assert_eq!(AtomicFile::create(&path, &[]).unwrap_err().kind(), kind, "{}", path.display());
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error_and_leaves_nothing() {
    // The process that writes is limited to files of 1 MB; with the signal ignored the write fails.
    let folder = folder("full");
    let output = std::process::Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 1024; exec \"$0\" --exact writer_of_a_full_disk --nocapture"])
        .arg(std::env::current_exe().unwrap())
        .env("OUTPUTS_FULL_DISK", folder.join("m.gguf"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(names(&folder), [""; 0]);
}

/// The limited process of the test above; alone it does nothing.
#[test]
fn writer_of_a_full_disk() {
    let Some(path) = std::env::var_os("OUTPUTS_FULL_DISK") else { return };
    let mut file = AtomicFile::create(Path::new(&path), &[]).unwrap();
    let written = (0..8).try_for_each(|_| file.write_all(&[1; 1 << 20]));
    let failed = written.is_err() || file.commit().is_err();
    assert!(failed, "8 MB were written");
}

#[test]
fn what_a_killed_process_left_is_removed() {
    let folder = folder("stale");
    let path = folder.join("m.gguf");
    for stale in [".m.gguf.4711-0.part", ".m.gguf.x.part", ".other.gguf.1-0.part"] {
        fs::write(folder.join(stale), "half").unwrap();
    }
    let held = AtomicFile::create(&path, &[]).unwrap();
    let second = AtomicFile::create(&path, &[]).unwrap();
    let parts = names(&folder);
    assert!(!parts.contains(&".m.gguf.4711-0.part".into()), "{parts:?}");
    assert_eq!(parts.len(), 4, "two that are written, and files of others: {parts:?}");
    drop((held, second));
}

#[cfg(unix)]
#[test]
fn room_that_the_disk_lacks_is_refused_before_anything_is_written() {
    let folder = folder("reserve");
    let mut file = AtomicFile::create(&folder.join("m.gguf"), &[]).unwrap();
    file.reserve(1 << 20).unwrap();
    let error = file.reserve(1 << 60).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Memory, "{error}");
    assert!(error.to_string().contains("the file needs 1152921504606846976 bytes"), "{error}");
    file.write_all(b"abc").unwrap();
    file.commit().unwrap();
    assert_eq!(fs::metadata(folder.join("m.gguf")).unwrap().len(), 3);
}
