//! Models by name, and the one that answers when none is named.

use super::*;

/// A home with models of several programs.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        Self(TempDir::new("models"))
    }

    fn put(&self, path: &str, from: &str) {
        let path = self.0.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::copy(from, path).unwrap();
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = command(args);
        command.env("HOME", self.0.path()).env("USERPROFILE", self.0.path());
        command.env("TEALIGHT_MODELS_DIR", self.0.path().join("own"));
        command
    }

    fn run(&self, args: &[&str]) -> Run {
        finish(self.command(args), None)
    }
}

#[test]
fn models_are_listed_by_name_and_named_in_place_of_paths() {
    let home = Home::new();
    home.put("own/tiny.gguf", &model("qwen3"));
    home.put(".lmstudio/models/pub/repo/other-Q8_0.gguf", &model("phi2"));
    std::fs::write(home.0.path().join("own/broken.gguf"), b"no model").unwrap();
    let text = home.run(&["models"]).quietly();
    for (name, rest) in [("tiny", "qwen3"), ("pub/repo:Q8_0", "lm studio"), ("broken", "broken: ")] {
        assert!(text.lines().any(|l| l.starts_with(name) && l.contains(rest)), "{name}: {text}");
    }
    let object = read_json_text(&home.run(&["models", "--json"]).quietly());
    let found: Vec<&str> = object["models"].as_array().unwrap().iter().map(|m| m["name"].as_str().unwrap()).collect();
    assert_eq!(found, ["broken", "tiny", "pub/repo:Q8_0"]);
    assert_eq!(object["models"][1]["is_model"], true);
    assert!(object["models"][0]["fault"].as_str().unwrap().contains("GGUF"));
    for name in ["tiny", "TINY.gguf", "repo:q8_0", "pub/repo", "other-Q8_0"] {
        let text = home.run(&["inspect", name]).quietly();
        assert!(text.starts_with("file "), "{name}: {text}");
    }
    assert_eq!(
        home.run(&["tokenize", "tiny", "hi"]).quietly(),
        tealight(["tokenize", &model("qwen3"), "hi"]).quietly()
    );
    let text = home.run(&["inspect", "tinny"]).error(5);
    assert!(text.contains("`tinny`") && text.contains("did you mean tiny?"), "{text}");
    let text = home.run(&["inspect", "elephant"]).error(5);
    assert!(text.contains("tealight models"), "{text}");
}

#[test]
fn a_name_of_several_models_is_refused_with_all_of_them() {
    let home = Home::new();
    home.put(".lmstudio/models/a/same/x-Q8_0.gguf", &model("qwen3"));
    home.put(".lmstudio/models/b/same/x-Q8_0.gguf", &model("phi2"));
    let text = home.run(&["inspect", "same"]).error(2);
    assert!(text.contains("a/same:Q8_0 or b/same:Q8_0"), "{text}");
}

#[test]
fn an_empty_machine_says_where_it_looked() {
    let run = Home::new().run(&["models"]);
    assert_eq!(run.code, Some(0));
    assert!(run.stderr.contains("no models found") && run.stderr.contains("(ollama)"), "{}", run.stderr);
    let built_in = run.text().starts_with("spark ");
    assert_eq!(built_in, cfg!(feature = "spark"), "{}", run.text());
}

fn read_json_text(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn the_only_model_of_a_machine_answers_and_says_so() {
    let home = Home::new();
    home.put("own/only.gguf", &model("qwen3"));
    let ask = |args: &[&str]| {
        let run = home.run(args);
        assert_eq!(run.code, Some(0), "{}", run.stderr);
        (run.text().to_owned(), run.stderr)
    };
    let options = ["-n", "4", "--temp", "0", "--device", "cpu"];
    let (text, notes) = ask(&[&["run", "why is the sky blue?"][..], &options].concat());
    assert!(notes.contains("no model named: only answers"), "{notes}");
    let (same, notes) = ask(&[&["run", "only", "why is the sky blue?"][..], &options].concat());
    assert_eq!((text, notes.contains("no model named")), (same, false));
}

#[cfg(feature = "spark")]
#[test]
fn without_a_model_the_built_in_one_answers_and_says_so() {
    let home = Home::new();
    let run = home.run(&["run", "how do i convert a model?", "--device", "cpu"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(run.stderr.contains("Spark answers") && run.stderr.contains("help get_models"), "{}", run.stderr);
    assert!(!run.text().trim().is_empty());
    // It is silent about it when asked to be, and the same model by its name.
    let quiet = home.run(&["run", "spark", "how do i convert a model?", "--device", "cpu", "-q"]);
    assert_eq!((quiet.code, quiet.stderr.as_str(), &quiet.stdout), (Some(0), "", &run.stdout));
    // Two models on the machine: nobody can tell which one is meant.
    home.put("own/one.gguf", &model("qwen3"));
    home.put("own/two.gguf", &model("llama31"));
    let mut chat = home.command(&["chat", "--device", "cpu", "--no-history"]);
    chat.stdin(Stdio::piped());
    let run = finish(chat, Some(b"hello\nhow do i quantize a model?\n"));
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(run.stderr.contains("2 bigger ones"), "{}", run.stderr);
    assert_eq!(run.text().lines().count(), 2, "{}", run.text());
    let text = home.run(&["run"]).error(2);
    assert!(text.contains("no prompt"), "{text}");
}

#[cfg(not(feature = "spark"))]
#[test]
fn without_a_model_nothing_answers() {
    let text = Home::new().run(&["run", "how do i convert a model?"]).error(2);
    assert!(text.contains("no model given"), "{text}");
}
