use std::fs;
use std::path::{Path, PathBuf};

use super::*;

/// A folder of a test, removed with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tealight-shelf-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, path: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn fixture() -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/qwen3/model.gguf")).unwrap()
}

fn search(keeper: Keeper, root: &Path) -> Shelf {
    Shelf::search(&Places::default().with(keeper, root))
}

fn names(shelf: &Shelf) -> Vec<&str> {
    shelf.models.iter().map(|m| m.name.as_str()).collect()
}

#[test]
fn a_plain_folder_names_models_by_their_files() {
    let folder = Folder::new("plain");
    folder.write("b.Q4_0.gguf", &fixture());
    folder.write("sub/A.GGUF", b"x");
    folder.write("notes.txt", b"x");
    folder.write(".hidden/c.gguf", b"x");
    let shelf = search(Keeper::Tealight, &folder.0);
    assert_eq!(names(&shelf), ["b.Q4_0", "sub/A"]);
    let facts = shelf.models[0].facts().unwrap();
    assert!(facts.is_model && facts.architecture.as_deref() == Some("qwen3") && facts.n_parameter > 0);
    let error = shelf.models[1].facts().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Model);
    assert_eq!(search(Keeper::Tealight, &folder.0.join("no-such")), Shelf::default());
}

#[test]
fn shards_are_one_model_and_missing_ones_are_told() {
    let folder = Folder::new("shards");
    for n in 1..=3 {
        folder.write(&format!("whole-0000{n}-of-00003.gguf"), b"1234");
    }
    folder.write("cut-00002-of-00003.gguf", b"1234");
    folder.write("empty.gguf", b"");
    let shelf = search(Keeper::LlamaCpp, &folder.0);
    assert_eq!(names(&shelf), ["cut", "empty", "whole"]);
    let faults: Vec<Option<&str>> = shelf.models.iter().map(|m| m.fault.as_deref()).collect();
    assert_eq!(faults, [Some("2 of 3 files are missing"), Some("the file is empty"), None]);
    let whole = &shelf.models[2];
    assert_eq!((whole.bytes, whole.n_file), (12, 3));
    assert!(whole.path.ends_with("whole-00001-of-00003.gguf"));
    assert!(shelf.models[0].facts().unwrap_err().to_string().contains("2 of 3 files"));
}

#[cfg(unix)]
#[test]
fn the_hub_counts_a_blob_once_under_its_current_commit() {
    let folder = Folder::new("hub");
    let blob = folder.write("models--u--r-GGUF/blobs/abc", b"1234");
    let old = folder.write("models--u--r-GGUF/blobs/old", b"12");
    folder.write("models--u--r-GGUF/refs/main", b"2222222222\n");
    for (commit, target) in [("1111111111", &old), ("2222222222", &blob), ("3333333333", &blob)] {
        let link = folder.0.join(format!("models--u--r-GGUF/snapshots/{commit}/r-1B-Q4_K_M.gguf"));
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(target, link).unwrap();
    }
    std::os::unix::fs::symlink("/no/such/blob", folder.0.join("models--u--r-GGUF/snapshots/2222222222/gone-Q8_0.gguf"))
        .unwrap();
    std::os::unix::fs::symlink(&folder.0, folder.0.join("models--u--r-GGUF/snapshots/2222222222/circle")).unwrap();
    folder.write("datasets--u--d/snapshots/1/x.gguf", b"x");
    let shelf = search(Keeper::HuggingFace, &folder.0);
    assert_eq!(names(&shelf), ["u/r-GGUF:Q4_K_M", "u/r-GGUF:Q4_K_M@1111111"]);
    assert_eq!(shelf.models[0].bytes, 4);
    assert!(matches!(shelf.find("r-gguf:q4_k_m"), Match::One(m) if m.bytes == 4));
}

const DIGEST: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

fn manifest(digest: &str, size: u64) -> Vec<u8> {
    let layer = |kind: &str, digest: &str| serde_json::json!({"mediaType": format!("application/vnd.ollama.image.{kind}"), "digest": digest, "size": size});
    serde_json::json!({"schemaVersion": 2, "layers": [layer("license", "sha256:0"), layer("model", digest)]})
        .to_string()
        .into_bytes()
}

#[test]
fn ollama_models_have_their_names_and_lie_in_blobs() {
    let folder = Folder::new("ollama");
    let blob = folder.write(&format!("blobs/sha256-{DIGEST}"), &fixture());
    let size = fixture().len() as u64;
    let good = manifest(&format!("sha256:{DIGEST}"), size);
    folder.write("manifests/registry.ollama.ai/library/llama3.2/latest", &good);
    folder.write("manifests/hf.co/user/repo/Q4_K_M", &manifest(&format!("sha256:{}", DIGEST.replace('a', "b")), 7));
    folder.write("manifests/registry.ollama.ai/library/cut/1b", &manifest(&format!("sha256:{DIGEST}"), size + 1));
    folder.write("manifests/registry.ollama.ai/stray", b"not four levels down");
    let shelf = search(Keeper::Ollama, &folder.0);
    assert_eq!(names(&shelf), ["cut:1b", "hf.co/user/repo:Q4_K_M", "llama3.2:latest"]);
    assert_eq!(shelf.models[1].fault.as_deref(), Some("its blob is missing"));
    assert!(shelf.models[0].fault.as_deref().is_some_and(|f| f.contains("the manifest says")));
    let Match::One(model) = shelf.find("Llama3.2") else { panic!("{shelf:?}") };
    assert_eq!((model.path.as_path(), model.fault.as_deref()), (blob.as_path(), None));
    assert!(model.facts().unwrap().is_model);
}

#[test]
fn hostile_manifests_lead_nowhere() {
    let folder = Folder::new("hostile");
    folder.write("secret.gguf", b"secret");
    let cases: [(&str, Vec<u8>); 7] = [
        ("path", manifest("sha256:../../secret.gguf", 1)),
        ("long", manifest(&format!("sha256:{}/../../secret.gguf", DIGEST), 1)),
        ("none", b"{}".to_vec()),
        ("text", b"not json".to_vec()),
        ("deep", [b"[".repeat(100_000), b"]".repeat(100_000)].concat()),
        ("types", br#"{"layers": [1, {"mediaType": "application/vnd.ollama.image.model", "digest": 3}]}"#.to_vec()),
        ("huge", vec![b' '; (1 << 20) + 1]),
    ];
    for (name, bytes) in &cases {
        folder.write(&format!("manifests/h/n/{name}/t"), bytes);
    }
    let shelf = search(Keeper::Ollama, &folder.0);
    assert_eq!(shelf.models, []);
    assert_eq!(shelf.notes.len(), cases.len(), "{:?}", shelf.notes);
    assert!(shelf.notes.iter().all(|n| n.len() < 300), "{:?}", shelf.notes);
}

#[test]
fn names_are_unique_typable_and_found_in_short() {
    let folder = Folder::new("names");
    folder.write("u/r-GGUF/one-Q4_K_M.gguf", b"1");
    folder.write("u/r-GGUF/two-Q4_K_M.gguf", b"2");
    folder.write("v/s-GGUF/s-7B-Q8_0.gguf", b"3");
    folder.write("w/s-GGUF/s-7B-Q8_0.gguf", b"4");
    folder.write("u/a b\u{1b}/x-Q8_0.gguf", b"5");
    let shelf = search(Keeper::LmStudio, &folder.0);
    let found = names(&shelf);
    assert_eq!(found.iter().collect::<std::collections::HashSet<_>>().len(), 5);
    assert!(found.iter().all(|n| !n.contains([' ', '\u{1b}'])), "{found:?}");
    assert!(found.contains(&"u/r-GGUF/one-Q4_K_M") && found.contains(&"v/s-GGUF:Q8_0"), "{found:?}");
    assert!(matches!(shelf.find("one-q4_k_m"), Match::One(_)));
    assert!(matches!(shelf.find("V/S-gguf"), Match::One(_)));
    assert!(matches!(shelf.find("One"), Match::One(m) if m.name.ends_with("one-Q4_K_M")));
    assert!(matches!(shelf.find("s-7b"), Match::Several(_)));
    match shelf.find("s-GGUF:Q8_0") {
        Match::Several(all) => assert_eq!(all.len(), 2),
        other => panic!("{other:?}"),
    }
    assert_eq!(shelf.find("one-q4_k_n"), Match::None(vec!["u/r-GGUF/one-Q4_K_M", "u/r-GGUF/two-Q4_K_M"]));
    assert_eq!(shelf.find("elephant-in-the-room"), Match::None(Vec::new()));
}

#[test]
fn letters_that_differ_are_counted() {
    for (a, b, n) in [("", "", 0), ("abc", "", 3), ("kitten", "sitting", 3), ("ü", "u", 1), ("ab", "ba", 2)] {
        assert_eq!((names::distance(a, b), names::distance(b, a)), (n, n), "{a} {b}");
    }
}

#[cfg(unix)]
#[test]
fn places_follow_the_variables_of_the_programs() {
    let places = |variables: &[(&str, &str)]| {
        let value = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| PathBuf::from(v));
        let places = Places::from_variables(None, value);
        places.roots().map(|(k, p)| (k, p.to_string_lossy().into_owned())).collect::<Vec<_>>()
    };
    let root = |found: &[(Keeper, String)], keeper| {
        found.iter().filter(|(k, _)| *k == keeper).map(|(_, p)| p.clone()).collect::<Vec<_>>()
    };
    let found = places(&[("HOME", "/h")]);
    assert_eq!(root(&found, Keeper::HuggingFace), ["/h/.cache/huggingface/hub"]);
    assert_eq!(root(&found, Keeper::LmStudio), ["/h/.lmstudio/models", "/h/.cache/lm-studio/models"]);
    assert_eq!(root(&found, Keeper::Ollama)[0], "/h/.ollama/models");
    let found = places(&[("HOME", "/h"), ("HF_HOME", "/f"), ("OLLAMA_MODELS", "/o"), ("LLAMA_CACHE", "/l")]);
    assert_eq!(root(&found, Keeper::HuggingFace), ["/f/hub"]);
    assert_eq!(root(&found, Keeper::Ollama), ["/o"]);
    assert_eq!(root(&found, Keeper::LlamaCpp), ["/l"]);
    let found = places(&[("HF_HUB_CACHE", "/c"), ("HF_HOME", "/f"), ("XDG_CACHE_HOME", "relative")]);
    assert_eq!(root(&found, Keeper::HuggingFace), ["/c"]);
    assert_eq!(root(&found, Keeper::LlamaCpp), [""; 0]);
}

#[test]
fn lm_studio_tells_where_its_files_are() {
    let folder = Folder::new("studio");
    let home = folder.0.join("moved");
    folder.write(".lmstudio-home-pointer", home.to_string_lossy().as_bytes());
    let models = folder.0.join("elsewhere");
    let settings = serde_json::json!({"downloadsFolder": models.to_string_lossy()}).to_string();
    folder.write("moved/settings.json", settings.as_bytes());
    let home_of_test = if cfg!(windows) { "USERPROFILE" } else { "HOME" };
    let places = Places::from_variables(None, |name| (name == home_of_test).then(|| folder.0.clone()));
    let studio: Vec<&Path> = places.roots().filter(|(k, _)| *k == Keeper::LmStudio).map(|(_, p)| p).collect();
    assert_eq!(studio[..2], [models.as_path(), &home.join("models")]);
}
