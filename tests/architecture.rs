//! The structure of the house: who may import whom, where `unsafe`, printing, threads and the
//! environment are allowed, and how long a file may be. Read from the sources, since no lint says it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Rooms and what each may import. A room that is not listed is an error: give it a line here first.
/// `quant` stands for the crate of that name; `cli` and `main` are clients of everything public.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("knobs", &["error"]),
    ("gguf", &["quant", "error"]),
    ("text", &["gguf", "error"]),
    ("reply", &["error"]),
    ("plan", &["quant", "error"]),
    ("cache", &["plan", "quant", "error"]),
    ("arch", &["plan", "gguf", "quant", "error"]),
    ("cpu", &["plan", "cache", "quant", "knobs", "error"]),
    ("gpu", &["plan", "cache", "quant", "knobs", "error"]),
    ("sample", &["text", "error"]),
    ("shelf", &["gguf", "error", "knobs"]),
    ("engine", &["arch", "cache", "cpu", "error", "gguf", "gpu", "knobs", "plan", "quant", "reply", "sample", "text"]),
    ("convert", &["gguf", "quant", "arch", "text", "error", "knobs"]),
    ("chat", &["engine", "gguf", "reply", "sample", "text", "error", "knobs"]),
    (
        "cli",
        &[
            "arch", "chat", "convert", "engine", "error", "gguf", "knobs", "plan", "quant", "reply", "sample", "shelf",
            "text",
        ],
    ),
    (
        "main",
        &["chat", "cli", "convert", "engine", "error", "gguf", "knobs", "plan", "quant", "reply", "sample", "text"],
    ),
];

/// Names that `lib.rs` re-exports, and the room that each comes from.
const RE_EXPORTED: &[(&str, &str)] =
    &[("Error", "error"), ("ErrorKind", "error"), ("Result", "error"), ("Knobs", "knobs")];

/// Where `unsafe` may stand. Everything else forbids it, by its own file or by the root of its room.
const MAY_BE_UNSAFE: &[&str] =
    &["gguf/map.rs", "cpu/pool.rs", "cpu/pool/", "cpu/kernels.rs", "cpu/kernels/", "gpu/hal.rs", "capi.rs"];

/// The same for the crate of formats.
const QUANT_MAY_BE_UNSAFE: &[&str] = &["quantize/dispatch.rs"];

/// Files that contain others which may be unsafe, so they cannot forbid it; the lint of the workspace
/// denies it in them.
const ABOVE_UNSAFE: &[&str] = &["lib.rs", "main.rs", "gguf.rs", "cpu.rs", "cpu/", "gpu.rs", "gpu/"];

const MAY_PRINT: &[&str] = &["cli.rs", "cli/", "chat.rs", "chat/", "main.rs"];
const MAY_START_THREADS: &[&str] = &[
    "cpu/pool.rs",
    "cpu/pool/",
    "engine/warm.rs",
    "convert/quantize/pipeline.rs",
    "sample/grammar/bounded.rs",
    "cli.rs",
    "cli/",
    "chat.rs",
    "chat/",
];
const MAY_READ_ENVIRONMENT: &[&str] = &["knobs.rs"];

/// Lines of code of a file without its tests; tables are exempt.
const MAX_LINES: usize = 900;
const TABLES: &[&str] = &["grids.rs", "tables.rs", "unicode_tables.rs"];

/// A source file without comments, strings and its tests.
struct Source {
    /// Relative to `src`, with `/`.
    name: String,
    code: String,
    lines: usize,
}

impl Source {
    fn room(&self) -> &str {
        self.name.split(['/', '.']).next().expect("split gives one part")
    }

    fn is_in(&self, places: &[&str]) -> bool {
        places.iter().any(|p| self.name == *p || p.ends_with('/') && self.name.starts_with(p))
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

fn sources(folder: &str) -> Vec<Source> {
    let folder = root().join(folder);
    let mut paths = Vec::new();
    rust_files(&folder, &mut paths);
    paths.sort();
    let source = |path: &PathBuf| {
        let name = path.strip_prefix(&folder).expect("found there").to_string_lossy().replace('\\', "/");
        let text = fs::read_to_string(path).expect("a source file");
        // A room's tests are the last thing in a file; they may do what tests need.
        let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        Source { name, code: stripped(text), lines: text.lines().count() }
    };
    // Files of tests, beside the code that they test.
    paths.iter().map(source).filter(|s| !s.name.ends_with("/tests.rs") && !s.name.contains("/tests/")).collect()
}

/// The code without comments, and with the contents of strings left out.
fn stripped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skip = match c {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |at| at + 2),
            'r' if is_raw_string(rest, out.chars().last()) => raw_string_len(rest),
            '"' => {
                out.push('"');
                string_len(rest)
            }
            // A quote or a backslash as a char literal would open a string that is none.
            '\'' if rest.starts_with("'\"'") => 3,
            '\'' if rest.starts_with("'\\") => 2 + rest[3..].find('\'').map_or(1, |at| at + 2),
            _ => {
                out.push(c);
                c.len_utf8()
            }
        };
        rest = rest.get(skip..).unwrap_or_default();
    }
    out
}

fn is_raw_string(rest: &str, before: Option<char>) -> bool {
    let word = before.is_some_and(|c| c.is_alphanumeric() && c != 'b' || c == '_');
    !word && rest[1..].trim_start_matches('#').starts_with('"') && (rest.starts_with("r\"") || rest.starts_with("r#"))
}

fn raw_string_len(rest: &str) -> usize {
    let hashes = rest[1..].chars().take_while(|&c| c == '#').count();
    let open = 1 + hashes + 1;
    let close = format!("\"{}", "#".repeat(hashes));
    rest[open..].find(&close).map_or(rest.len(), |at| open + at + close.len())
}

fn string_len(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// What follows each `prefix::` of the code: one path each, groups in braces taken apart.
fn paths_after(code: &str, prefix: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for (at, _) in code.match_indices(prefix) {
        let word = code[..at].chars().last().is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':');
        let rest = &code[at + prefix.len()..];
        if word {
            continue;
        }
        match rest.strip_prefix('{') {
            Some(group) => paths.extend(group_members(group)),
            None => paths.push(path_of(rest)),
        }
    }
    paths
}

fn path_of(text: &str) -> String {
    text.trim_start().chars().take_while(|c| c.is_alphanumeric() || matches!(c, '_' | ':')).collect()
}

/// The members of `a, b::{c, d}, e}`, without what is nested in them.
fn group_members(group: &str) -> Vec<String> {
    let mut depth = 0;
    let mut members = vec![String::new()];
    for c in group.chars() {
        match c {
            '}' if depth == 0 => break,
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => members.push(String::new()),
            c if depth == 0 => members.last_mut().expect("never empty").push(c),
            _ => {}
        }
    }
    members.iter().map(|m| path_of(m)).filter(|m| !m.is_empty()).collect()
}

/// What a file imports from this house: the room, and the whole path for messages.
fn imports(source: &Source) -> Vec<(String, String)> {
    let paths = paths_after(&source.code, "crate::").into_iter().chain(paths_after(&source.code, "tealight::"));
    let room = |path: &str| {
        let first = path.split("::").next().unwrap_or_default();
        RE_EXPORTED.iter().find(|(name, _)| *name == first).map_or(first, |(_, room)| room).to_owned()
    };
    paths.map(|path| (room(&path), path)).collect()
}

fn check(violations: &[String]) {
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
}

#[test]
fn rooms_import_in_one_direction() {
    let table: BTreeMap<_, _> = MAY_IMPORT.iter().copied().collect();
    let mut violations = Vec::new();
    for source in sources("src").iter().filter(|s| s.name != "lib.rs") {
        let Some(allowed) = table.get(source.room()) else {
            violations.push(format!("{}: `{}` is no room of this house", source.name, source.room()));
            continue;
        };
        for (room, path) in imports(source) {
            let own = room == source.room();
            if !own && table.contains_key(room.as_str()) | (room == "quant") && !allowed.contains(&room.as_str()) {
                violations.push(format!("{}: `{}` must not import `{path}`", source.name, source.room()));
            }
            // Rooms export through their root: `a::b::c::D` names what is inside of another one's inside.
            let modules = path.rsplit_once("::").map_or(0, |(modules, _)| modules.split("::").count());
            if !own && modules > 2 {
                violations.push(format!("{}: `{path}` reaches into another room", source.name));
            }
        }
    }
    check(&violations);
}

#[test]
fn the_import_table_has_no_cycle() {
    let mut done: BTreeSet<&str> = BTreeSet::from(["quant"]);
    let mut left: Vec<_> = MAY_IMPORT.to_vec();
    while !left.is_empty() {
        let n = left.len();
        left.retain(|(room, needs)| !needs.iter().all(|n| done.contains(n)) || !done.insert(room));
        assert!(left.len() < n, "a cycle among {left:?}");
    }
}

#[test]
fn the_crate_of_formats_knows_no_files_threads_or_models() {
    let words = ["std::fs", "std::io", "std::thread", "std::env", "rayon", "tealight::", "memmap2"];
    let mut violations = Vec::new();
    for source in sources("quant/src") {
        for word in words.iter().filter(|w| source.code.contains(**w)) {
            violations.push(format!("quant/src/{}: `{word}`", source.name));
        }
        if source.code.contains("unsafe ") && !source.is_in(QUANT_MAY_BE_UNSAFE) {
            violations.push(format!("quant/src/{}: unsafe code", source.name));
        }
    }
    check(&violations);
}

#[test]
fn unsafe_code_stands_in_the_listed_places_only() {
    let all = sources("src");
    let forbids = |s: &Source| s.code.contains("#![forbid(unsafe_code)]");
    let forbidden_rooms: BTreeSet<&str> =
        all.iter().filter(|s| !s.name.contains('/') && forbids(s)).map(Source::room).collect();
    let mut violations = Vec::new();
    for source in all.iter().filter(|s| !s.is_in(MAY_BE_UNSAFE)) {
        let denied = forbids(source) || forbidden_rooms.contains(source.room()) || source.is_in(ABOVE_UNSAFE);
        if !denied && !source.code.trim().is_empty() {
            violations.push(format!("{}: neither it nor its room has `#![forbid(unsafe_code)]`", source.name));
        }
        for word in
            ["allow(unsafe_code)", "expect(unsafe_code)", "unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"]
        {
            if source.code.contains(word) {
                violations.push(format!("{}: `{word}`", source.name));
            }
        }
    }
    check(&violations);
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("the manifest");
    assert!(manifest.contains("unsafe_code = \"deny\""), "the workspace denies what the list does not allow");
}

#[test]
fn only_the_terminal_prints_and_only_main_ends_the_process() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("the manifest");
    for lint in ["print_stdout", "print_stderr", "dbg_macro", "exit", "todo", "unimplemented"] {
        assert!(manifest.contains(&format!("{lint} = \"deny\"")), "lint {lint}");
    }
    for member in ["Cargo.toml", "quant/Cargo.toml"] {
        let manifest = fs::read_to_string(root().join(member)).expect("a manifest");
        assert!(manifest.contains("[lints]\nworkspace = true"), "{member} takes the lints of the workspace");
    }
    let mut violations = Vec::new();
    for source in sources("src") {
        let prints = [
            "clippy::print_stdout",
            "clippy::print_stderr",
            "io::stdout()",
            "io::stderr()",
            "stdout().lock",
            "io::stdin()",
        ];
        for word in prints.iter().filter(|w| source.code.contains(**w) && !source.is_in(MAY_PRINT)) {
            violations.push(format!("{}: `{word}`", source.name));
        }
        let ends = ["process::exit", "process::abort"];
        for word in ends.iter().filter(|w| source.code.contains(**w) && source.name != "main.rs") {
            violations.push(format!("{}: `{word}`", source.name));
        }
    }
    check(&violations);
}

#[test]
fn only_knobs_reads_the_environment() {
    // `env!` is of the build, and clap's `env = ..` attributes belong to flags of the binary.
    let words = ["env::var", "env::vars", "env::set_var", "env::remove_var", "option_env!"];
    let mut violations = Vec::new();
    for source in sources("src").iter().filter(|s| !s.is_in(MAY_READ_ENVIRONMENT)) {
        for word in words.iter().filter(|w| source.code.contains(**w)) {
            violations.push(format!("{}: `{word}`", source.name));
        }
        let attribute = source.code.lines().any(|l| l.contains("arg(") && l.contains("env"));
        if attribute && !source.is_in(&["cli.rs", "cli/"]) {
            violations.push(format!("{}: a flag that reads the environment", source.name));
        }
    }
    check(&violations);
}

#[test]
fn nothing_opens_a_connection_or_starts_a_program() {
    let words = ["std::net", "TcpStream", "TcpListener", "UdpSocket", "UnixStream", "process::Command", "Command::new"];
    let mut violations = Vec::new();
    for source in sources("src") {
        // The parser of arguments has a type of that name.
        let words = words.iter().filter(|w| **w != "Command::new" || !source.is_in(&["cli.rs", "cli/", "main.rs"]));
        for word in words.filter(|w| source.code.contains(**w)) {
            violations.push(format!("{}: `{word}`", source.name));
        }
    }
    check(&violations);
}

#[test]
fn threads_start_in_the_listed_places_only() {
    let words = ["thread::spawn", "thread::Builder", "thread::scope", "ThreadPoolBuilder"];
    let mut violations = Vec::new();
    for source in sources("src").iter().filter(|s| !s.is_in(MAY_START_THREADS)) {
        for word in words.iter().filter(|w| source.code.contains(**w)) {
            violations.push(format!("{}: `{word}`", source.name));
        }
    }
    check(&violations);
}

#[test]
fn files_fit_a_reader() {
    let mut violations = Vec::new();
    for folder in ["src", "quant/src"] {
        for source in sources(folder) {
            let table = source.name.rsplit('/').next().is_some_and(|name| TABLES.contains(&name));
            if source.lines > MAX_LINES && !table {
                violations.push(format!("{folder}/{}: {} lines, at most {MAX_LINES}", source.name, source.lines));
            }
        }
    }
    check(&violations);
}

#[test]
fn the_reader_of_sources_sees_code_and_nothing_else() {
    let code = stripped(
        "use crate::{gguf::{a, b}, text, Error};\n// crate::gpu\nlet s = \"crate::cpu \\\" x\"; /* crate::chat */\nlet r = r#\"crate::cli\"#; let c = '\"'; crate::plan::Op;\nlet d = '\\''; mycrate::arch();",
    );
    let source = Source { name: "cpu/exec.rs".into(), code, lines: 0 };
    let rooms: Vec<String> = imports(&source).into_iter().map(|i| i.0).collect();
    assert_eq!(rooms, ["gguf", "text", "error", "plan"]);
    assert_eq!(source.room(), "cpu");
    assert!(source.is_in(&["cpu/"]) && !source.is_in(&["cpu.rs"]));
}
