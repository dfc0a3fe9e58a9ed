//! `tealight chat` at a terminal, key by key.

use super::terminal::{Start, Terminal};
use super::*;

/// A conversation whose answers are held to a form, so that what the screen shows is known.
fn chat(start: &Start<'_>, rest: &[&str]) -> Terminal {
    let m = model("llama31");
    start.tealight(&[&["chat", &m, "--no-history", "-s", "5", "-t", "2", "--device", "cpu"], rest].concat())
}

fn says(form: &str) -> Terminal {
    chat(&Start::default(), &["--regex", form])
}

fn leave(mut terminal: Terminal) -> Vec<u8> {
    terminal.wait_for_prompt();
    terminal.keys("\x04");
    let (status, raw) = terminal.end();
    assert_eq!(status.code(), Some(0));
    raw
}

#[test]
fn the_first_start_says_what_to_do() {
    let mut t = says("yes");
    t.wait_for("Ask something; /help lists the commands");
    assert!(t.text().starts_with("model (") && t.text().contains(" tokens) - /help shows commands\n"), "{}", t.text());
    assert_eq!(t.look_of("Ask something"), (false, true));
    t.line("/help");
    t.wait_for("or one that is pasted");
    for name in ["/regen", "/undo", "/edit [TEXT]", "/set [NAME [VALUE]]", "/think [on|off|hide]", "/exit, /bye, /quit"]
    {
        assert!(t.text().contains(name), "{name}\n{}", t.text());
    }
    t.line("/stast");
    t.wait_for("did you mean /stats?");
    leave(t);
}

#[test]
fn an_answer_is_shown_with_its_markdown_and_its_figures() {
    let mut t = says(r"# Title\n\nA \*\*bold\*\* word\.\n\n- one\n- two\n\n```sh\nls \*\*\n```\n2 \* 3");
    t.line("Hello");
    t.wait_for("t/s, prompt");
    let text = t.text();
    assert!(text.contains("\nTitle\n\nA bold word.\n\n• one\n• two\n\n── sh ───────"), "{text}");
    assert!(text.contains("───\nls **\n─────") && text.contains("───\n2 * 3\nmodel | ▰"), "{text}");
    assert_eq!(
        [t.look_of("Title"), t.look_of("bold"), t.look_of("word"), t.look_of("── sh")],
        [(true, false), (true, false), (false, false), (false, true)]
    );
    assert_eq!(t.look_of("model | ▰"), (false, true));
    t.line("/set markdown off");
    t.line("/set show-timings off");
    t.line("/regen");
    t.wait_for("**bold**");
    t.wait_for_prompt();
    assert_eq!(t.text().matches("t/s, prompt").count(), 1);
    t.line("/set markdown on");
    t.line("/clear");
    t.line("/set json-schema {\"const\": \"*a* and **b**\"}");
    t.line("As JSON");
    t.wait_for("\"*a* and **b**\"\n");
    leave(t);
}

#[test]
fn questions_may_have_several_lines() {
    let mut t = says("yes");
    t.line("\"\"\"");
    t.keys("one\rtwo\r\"\"\"\r");
    t.wait_for("yes");
    t.line("three\\");
    t.keys("four\r");
    t.wait_for_prompt();
    // What is pasted comes between marks, its lines ended as by Enter.
    t.keys("\x1b[200~five\rsix\rseven\x1b[201~");
    t.wait_for("seven");
    assert_eq!(t.text().matches("yes").count(), 2, "a pasted line end sends nothing\n{}", t.text());
    t.keys("\r");
    t.line("/show messages");
    t.wait_for("[user]\nfive\nsix\nseven");
    assert!(t.text().contains("[user]\none\ntwo\n") && t.text().contains("[user]\nthree\nfour\n"), "{}", t.text());
    leave(t);
}

#[test]
fn an_answer_that_is_stopped_stays_and_can_be_gone_on_from() {
    // It would go on for far longer than it takes to stop it.
    let mut t = chat(&Start::default(), &["--regex", "(tick )*", "--ignore-eos", "-c", "500000"]);
    t.line("Count");
    t.wait_for("tick tick tick");
    t.keys("\x03");
    t.wait_for_prompt();
    assert!(!t.text().contains("^C") && !t.text().contains("is full"), "{}", t.text());
    t.line("/clear");
    t.line("/set regex done");
    t.line("More");
    t.wait_for("done");
    // A line that is begun is cleared first; then two of them leave.
    t.wait_for_prompt();
    t.keys("abc");
    t.wait_for_draft("abc");
    t.keys("\x03");
    t.wait_for_prompt();
    t.keys("\x03");
    t.wait_for("Ctrl-C once more leaves");
    t.wait_for_prompt();
    t.keys("\x03");
    let (status, _) = t.end();
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_question_that_is_stopped_before_its_answer_is_not_kept() {
    let folder = TempDir::new("dialogue-long");
    let long = folder.path().join("long.txt");
    std::fs::write(&long, "word ".repeat(200_000)).unwrap();
    let mut t = chat(&Start::default(), &["-c", "2000000", "--regex", "yes"]);
    t.line(&format!("/file {}", long.display()));
    t.wait_for("go with the next question");
    t.line("Hello");
    t.wait_for("reading the prompt");
    t.keys("\x03");
    t.wait_for("stopped before the answer: the question is not kept");
    t.line("/show messages");
    t.line("/clear");
    t.line("Hello");
    t.wait_for("yes\nmodel | ");
    assert!(!t.text().contains("[user]") && !t.text().contains("word"), "{}", t.text());
    leave(t);
}

#[test]
fn questions_are_asked_again_taken_back_and_edited() {
    let mut t = says("[a-e]{12}");
    t.line("First");
    t.wait_for("t/s, prompt");
    t.line("/regen");
    t.wait_for_prompt();
    t.line("/undo");
    t.wait_for("taken back: First");
    t.line("/undo");
    t.wait_for("there is nothing to take back");
    t.line("/edit");
    t.wait_for("there is no question to edit");
    t.line("/set regex yes");
    t.line("Seconf");
    t.wait_for("yes\nmodel | ");
    t.line("/edit");
    t.wait_for_draft("Seconf");
    t.keys("\x7fd\r");
    t.line("/show messages");
    t.wait_for("[user]\nSecond\n\n[assistant]\nyes");
    assert!(!t.text().contains("[user]\nSeconf"), "{}", t.text());
    t.line("/edit Third");
    t.line("/show messages");
    t.wait_for("[user]\nThird\n\n[assistant]\nyes");
    leave(t);
}

#[test]
fn conversations_are_saved_and_loaded() {
    let folder = TempDir::new("dialogue");
    let file = folder.path().join("talk.json").to_string_lossy().into_owned();
    let notes = folder.path().join("the notes.txt");
    std::fs::write(&notes, "buy milk\n").unwrap();
    let mut t = says("yes");
    t.line(&format!("/file {}", notes.display()));
    t.line(&format!("/file '{}'", notes.display()));
    t.wait_for("go with the next question, beside 1 other file");
    t.line("/clear");
    t.line(&format!("/file {}", notes.display()));
    t.line("What to do?");
    t.wait_for("yes\nmodel | ");
    t.line(&format!("/save {file}"));
    t.wait_for("2 messages written");
    t.line(&format!("/save {}", notes.display()));
    t.wait_for("is not replaced");
    leave(t);
    let saved = read_json(Path::new(&file));
    assert_eq!(saved["messages"][0]["content"], "File `the notes.txt`:\n```\nbuy milk\n```\n\nWhat to do?");
    assert_eq!(saved["messages"][1], serde_json::json!({"role": "assistant", "content": "yes"}));
    assert_eq!(std::fs::read(&notes).unwrap(), b"buy milk\n");
    let mut t = says("no");
    // The Tab key completes commands and paths.
    t.wait_for_prompt();
    t.keys("/loa\t");
    t.wait_for(">>> /load");
    t.keys(&format!("{}\t\r", &file[..file.len() - 4]));
    t.wait_for("goes on behind 2 messages");
    t.line("/show messages");
    t.wait_for("[assistant]\nyes");
    leave(t);
}

#[test]
fn lines_fit_a_window_that_changes_its_size() {
    let mut t = chat(&Start { columns: 60, ..Start::default() }, &["--regex", "(wide 世界 ){12}end"]);
    t.line("Hello");
    t.wait_for("end");
    t.wait_for_prompt();
    t.resize(40, 24);
    t.line("/clear");
    t.line("Again");
    t.wait_for_prompt();
    let rows = t.rows();
    let begin = rows.iter().rposition(|row| row.starts_with(">>> Again")).expect("the question");
    let answer: Vec<&str> = rows[begin + 1..].iter().map(String::as_str).take_while(|row| !row.contains('▰')).collect();
    // Words of four columns with blanks between them, five in a line of 24.
    let [even, odd] = ["wide 世界 wide 世界 wide", "世界 wide 世界 wide 世界"];
    assert_eq!(answer, [even, odd, even, odd, "wide 世界 wide 世界 end"]);
    leave(t);
}

#[test]
fn thoughts_are_dim_or_hidden() {
    let folder = TempDir::new("dialogue-thoughts");
    let path = thinker(&folder);
    let mut t = Start::default().tealight(&[
        "chat",
        &path,
        "--no-history",
        "-t",
        "2",
        "--device",
        "cpu",
        "--regex",
        "<think>\nhm\n</think>\n\nyes",
    ]);
    t.line("Hello");
    t.wait_for("\nhm\n\nyes\nthinker | ");
    assert_eq!([t.look_of("hm"), t.look_of("yes")], [(false, true), (false, false)]);
    t.line("/clear");
    t.line("/think hide");
    t.line("Hidden?");
    t.wait_for("Hidden?\nyes\nthinker");
    leave(t);
}

/// A template that thinks when it is asked to, and opens the thought itself.
const THINKS: &str = "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}<assistant>\
    {% if enable_thinking is not defined %}{% elif enable_thinking %}<think>\n{% else %}<think>\n\n</think>\n\n{% endif %}";

/// A model with that template.
fn thinker(folder: &TempDir) -> String {
    let path = folder.path().join("thinker.gguf").to_string_lossy().into_owned();
    let mut edit = Edit::read(Path::new(&model("llama31")));
    edit.set("tokenizer.chat_template", THINKS);
    edit.write(Path::new(&path));
    path
}

#[test]
fn a_template_is_told_whether_to_think() {
    let folder = TempDir::new("dialogue-think");
    let path = thinker(&folder);
    let mut t = says("x");
    t.line("/think off");
    t.wait_for("no switch for thinking");
    t.line("Hello");
    // The other model goes on with the same messages, and with the settings of the command line.
    t.line(&format!("/model {path}"));
    t.wait_for("thinker goes on with the conversation");
    t.line("/show messages");
    t.wait_for("[user]\nHello\n\n[assistant]\nx");
    t.line("/think on");
    t.wait_for("the model is asked to think");
    // A form is kept to from the answer's first letter on, so it is no thought, whatever the template has opened.
    t.line("/set regex no");
    t.line("And now?");
    t.wait_for("And now?\nno\n");
    t.line("/model nowhere.gguf");
    t.wait_for("error: nowhere.gguf");
    t.line("/model");
    t.wait_for("thinker.gguf");
    leave(t);
}

#[test]
fn lines_are_remembered_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = TempDir::new("dialogue-history");
    let state = folder.path().join("state").to_string_lossy().into_owned();
    let variables = [("XDG_STATE_HOME", state.as_str())];
    let start = Start { variables: &variables, ..Start::default() };
    let m = model("llama31");
    let args = ["chat", m.as_str(), "--regex", "yes", "--device", "cpu"];
    let mut t = start.tealight(&args);
    t.line("What is a cat?");
    t.line("/stats");
    t.wait_for("answers:  1");
    leave(t);
    let history = folder.path().join("state/tealight/history");
    assert_eq!(std::fs::metadata(&history).unwrap().permissions().mode() & 0o777, 0o600);
    let mut t = start.tealight(&args);
    t.wait_for_prompt();
    t.keys("\x1b[A\x1b[A");
    t.wait_for(">>> What is a cat?");
    t.keys("\x15");
    t.wait_for_prompt();
    t.keys("\x12is a");
    t.wait_for("What is a cat?");
    t.keys("\r");
    t.wait_for("yes");
    leave(t);
}

#[test]
fn a_context_that_fills_is_said_to_do_so() {
    let mut t = chat(&Start::default(), &["-c", "120", "--regex", "[a-z]{60}"]);
    t.line("Hello");
    t.wait_for("/120 |");
    t.wait_for_prompt();
    if !t.text().contains("warning: the context is") {
        t.line("And");
    }
    t.wait_for("warning: the ");
    t.wait_for("of 120 tokens");
    leave(t);
}

#[test]
fn a_pipe_in_shows_no_prompt_and_a_file_gets_the_text_alone() {
    let folder = TempDir::new("dialogue-files");
    let (input, output) = (folder.path().join("in.txt"), folder.path().join("out.txt"));
    std::fs::write(&input, "Hello\n").unwrap();
    let form = ["--regex", r"\*\*yes\*\*"];
    // Questions from a file, answers on the terminal.
    let t = chat(&Start { stdin: Some(&input), ..Start::default() }, &form);
    let (status, raw) = t.end();
    let raw = String::from_utf8(raw).unwrap();
    assert!(status.success() && raw.contains("\x1b[0;1myes\x1b[0m\r\n") && !raw.contains(">>>"), "{raw:?}");
    // Questions typed, answers to a file: they are not drawn, and the prompt is not in the file.
    let mut t = chat(&Start { stdout: Some(&output), ..Start::default() }, &form);
    t.keys("Hello\r");
    t.wait_for("t/s, prompt");
    t.wait_for_prompt();
    t.keys("\x04");
    let (status, _) = t.end();
    assert_eq!((status.code(), std::fs::read_to_string(&output).unwrap()), (Some(0), "**yes**\n".to_owned()));
    // Both.
    let t = chat(&Start { stdin: Some(&input), stdout: Some(&output), ..Start::default() }, &form);
    let (status, _) = t.end();
    assert_eq!((status.code(), std::fs::read_to_string(&output).unwrap()), (Some(0), "**yes**\n".to_owned()));
}

#[test]
fn without_colours_markdown_is_left_as_it_is() {
    let styles = |raw: &[u8]| {
        String::from_utf8_lossy(raw)
            .split("\x1b[")
            .skip(1)
            .filter(|s| s.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';').starts_with('m'))
            .count()
    };
    let mut t = chat(&Start { variables: &[("NO_COLOR", "1")], ..Start::default() }, &["--regex", r"A \*\*b\*\*"]);
    t.line("Hello");
    t.wait_for("A **b**");
    t.line("/sing");
    t.wait_for("error: unknown command `/sing`");
    assert_eq!(styles(&leave(t)), 0);
    // A terminal that understands nothing gets no sequence at all.
    let mut t = chat(&Start { variables: &[("TERM", "dumb")], ..Start::default() }, &["--regex", r"A \*\*b\*\*"]);
    t.line("Hello");
    t.wait_for("A **b**");
    let raw = leave(t);
    assert!(!raw.contains(&0x1b), "{:?}", String::from_utf8_lossy(&raw));
}

#[test]
fn control_characters_never_reach_the_terminal() {
    let folder = TempDir::new("dialogue-control");
    let mut edit = Edit::read(Path::new(&model("llama31")));
    edit.set("general.name", "\x1b]0;name\x07\u{202e}x");
    edit.set("general.license", "\x1b[31mfree\u{9b}2J");
    let path = folder.path().join("m\x1b[2J.gguf").to_string_lossy().into_owned();
    edit.write(Path::new(&path));
    let form = "a\\x1b\\]0;title\\x07b\\x1b\\[2Jc\\x9b31md\\u{202e}e\\re";
    let start = Start::default();
    let args = ["chat", &path, "--no-history", "-s", "5", "--regex", form, "--no-color", "--device", "cpu"];
    let mut t = start.tealight(&args);
    t.line("Hello");
    t.wait_for("t/s, prompt");
    assert!(t.text().contains("a]0;titleb[2Jc31mdee"), "{}", t.text());
    t.line("/show");
    t.wait_for("computes on:");
    t.line("/show license");
    t.wait_for("[31mfree2J");
    t.line("/show messages");
    t.wait_for("[assistant]\na]0;titleb");
    let raw = String::from_utf8(leave(t)).unwrap();
    for part in ["\x1b]0;", "\x07", "\x1b[31m", "\u{9b}", "\u{202e}", "\x1b[2Jc", "\x1b[2J."] {
        assert!(!raw.contains(part), "{part:?} in {raw:?}");
    }
}
