//! Paths that are no ordinary file.

use std::path::Path;

use tealight::ErrorKind;
use tealight::gguf::Gguf;

use crate::raw::{Raw, folder};

fn check(path: &Path, kind: ErrorKind, says: &str) {
    let error = Gguf::open(path).err().unwrap_or_else(|| panic!("{}: accepted", path.display()));
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(says), "{error}");
}

#[test]
fn a_missing_file_is_said_with_a_hint() {
    let path = folder("missing").join("none.gguf");
    check(&path, ErrorKind::Io, "cannot find");
    assert!(Gguf::open(&path).unwrap_err().hint().is_some());
}

#[test]
fn a_folder_is_refused() {
    check(&folder("folder"), ErrorKind::Model, "found a folder, expected a GGUF file");
}

#[cfg(unix)]
#[test]
fn devices_and_pipes_are_refused_without_waiting() {
    let pipe = folder("pipe").join("m.gguf");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo");
    assert!(made.success());
    for path in [Path::new("/dev/null"), Path::new("/dev/zero"), &pipe] {
        check(path, ErrorKind::Model, "found a device, pipe or socket");
    }
}

#[cfg(unix)]
#[test]
fn a_loop_of_links_is_refused() {
    let folder = folder("loop");
    std::os::unix::fs::symlink(folder.join("b"), folder.join("a")).unwrap();
    std::os::unix::fs::symlink(folder.join("a"), folder.join("b")).unwrap();
    check(&folder.join("a"), ErrorKind::Io, "cannot find");
}

#[cfg(unix)]
#[test]
fn an_unreadable_file_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let path = folder("unreadable").join("m.gguf");
    std::fs::write(&path, Raw::valid().build()).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).unwrap();
    if std::fs::File::open(&path).is_ok() {
        println!("skipped: an unreadable file, since this user may read everything");
        return;
    }
    check(&path, ErrorKind::Io, "cannot open");
}

#[cfg(target_os = "linux")]
#[test]
fn a_path_that_is_not_utf8_is_opened() {
    use std::os::unix::ffi::OsStrExt;
    let path = folder("bytes").join(std::ffi::OsStr::from_bytes(b"m\xff.gguf"));
    std::fs::write(&path, Raw::valid().build()).unwrap();
    assert_eq!(Gguf::open(&path).unwrap().tensors().len(), 2);
}

#[test]
fn a_file_that_is_rewritten_while_open_is_noticed() {
    let path = folder("rewritten").join("m.gguf");
    std::fs::write(&path, Raw::valid().build()).unwrap();
    let model = Gguf::open(&path).unwrap();
    model.check_unchanged().unwrap();
    let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
    std::io::Write::write_all(&mut file, b"more").unwrap();
    let error = model.check_unchanged().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("changed while in use"), "{error}");
}
