//! Files that are no models.

use super::*;

fn check(name: &str, path: &Path, code: i32, words: &[&str]) {
    let path = path.to_string_lossy();
    let rest: &[&str] = match name {
        "run" | "tokenize" => &["hi"],
        "logits" => &["--tokens", "1", "-o", "-"],
        _ => &[],
    };
    let text = tealight([&[name, &path], rest].concat()).error(code);
    for word in words {
        assert!(text.contains(word), "{name} {path}: {text}");
    }
    assert!(text.contains("\nhint: "), "{name} {path}: {text}");
}

#[test]
fn what_is_no_model_is_refused_by_every_command() {
    let folder = TempDir::new("cli-files");
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0123456789abcdef\nsize 98362432\n";
    let whole = std::fs::read(model("qwen3")).unwrap();
    let cases = [
        (folder.path().join("absent.gguf"), 5, "absent.gguf"),
        (folder.path().to_owned(), 3, "a folder"),
        (file("empty.gguf", b""), 3, "empty"),
        (file("text.gguf", b"This is a text and not a model, whatever its name says.\n"), 3, "not a GGUF file"),
        (file("pointer.gguf", pointer), 3, "Git LFS"),
        (file("cut.gguf", &whole[..whole.len() / 2]), 3, "byte"),
    ];
    for (path, code, word) in &cases {
        for name in MODEL_COMMANDS {
            check(name, path, *code, &[word]);
        }
    }
}

#[test]
fn an_architecture_that_does_not_run_is_inspected_and_refused() {
    let folder = TempDir::new("cli-arch");
    let path = folder.path().join("m.gguf");
    let mut edit = Edit::read(Path::new(&model("qwen3")));
    edit.set("general.architecture", "dream\u{1b}[2J");
    edit.write(&path);
    let path = path.to_string_lossy().into_owned();
    let text = tealight(["inspect", &path]).quietly();
    assert!(text.contains("runs           no: architecture `dream\\u{1b}[2J` is not supported"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&tealight(["inspect", &path, "--json"]).quietly()).unwrap();
    assert_eq!((&json["runs"], &json["memory"]), (&false.into(), &serde_json::Value::Null));
    for name in ["run", "chat", "logits"] {
        check(name, Path::new(&path), 3, &["dream\\u{1b}[2J"]);
    }
}
