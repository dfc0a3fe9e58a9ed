//! A person at a terminal: a pseudo-terminal that the binary runs in, and the screen that it draws.

use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::command;

/// Nothing that is waited for takes so long, on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// What the launcher is told: the terminal, then files for standard input and output (empty: the terminal), then the
/// program and its arguments.
const LAUNCH: &str = "TEST_TERMINAL_LAUNCH";

/// A program in a terminal.
pub struct Terminal {
    master: File,
    child: Child,
    output: Receiver<Vec<u8>>,
    screen: vt100::Parser,
    /// Everything that the program has written.
    pub raw: Vec<u8>,
}

/// How a program is started.
pub struct Start<'a> {
    pub rows: u16,
    pub columns: u16,
    pub variables: &'a [(&'a str, &'a str)],
    pub stdin: Option<&'a Path>,
    pub stdout: Option<&'a Path>,
}

impl Default for Start<'_> {
    fn default() -> Self {
        Self { rows: 30, columns: 80, variables: &[], stdin: None, stdout: None }
    }
}

impl Start<'_> {
    /// Runs `tealight` with these arguments.
    pub fn tealight(&self, args: &[&str]) -> Terminal {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pseudo-terminal");
        grantpt(&master).expect("its rights");
        unlockpt(&master).expect("it opens");
        let name = ptsname(&master, Vec::new()).expect("its name").into_string().expect("text");
        set_size(&master, self.rows, self.columns);
        let path = |p: Option<&Path>| p.map_or(String::new(), |p| p.to_string_lossy().into_owned());
        let mut words = vec![name, path(self.stdin), path(self.stdout), env!("CARGO_BIN_EXE_tealight").to_owned()];
        words.extend(args.iter().map(|a| (*a).to_owned()));
        let mut launcher = Command::new(std::env::current_exe().expect("this program"));
        // The environment is that of other tests, on a common terminal.
        for (name, _) in command([""]).get_envs().filter(|(_, value)| value.is_none()) {
            launcher.env_remove(name);
        }
        launcher.args(["--exact", "terminal::a_program_runs_in_a_terminal_of_its_own", "--nocapture"]);
        launcher.env("TERM", "xterm-256color").envs(self.variables.iter().copied());
        launcher.env(LAUNCH, serde_json::to_string(&words).expect("JSON"));
        let child = launcher.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("the launcher starts");
        let master = File::from(master);
        let (sender, output) = channel();
        let mut reader = master.try_clone().expect("a second handle");
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // Reading fails when the last program has left the terminal.
            while let Ok(n @ 1..) = reader.read(&mut buffer) {
                if sender.send(buffer[..n].to_vec()).is_err() {
                    return;
                }
            }
        });
        let (rows, columns) = (size(self.rows), size(self.columns));
        Terminal { master, child, output, screen: vt100::Parser::new(rows, columns, 1000), raw: Vec::new() }
    }
}

impl Terminal {
    /// Presses keys.
    pub fn keys(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).expect("the terminal takes keys");
    }

    /// Types a line, once the program asks for one.
    pub fn line(&mut self, text: &str) {
        self.wait_for_prompt();
        let before = self.raw.len();
        self.keys(&format!("{text}\r"));
        // From here on no prompt on the screen is the old one.
        self.wait("an end of the line", |t| t.raw[before..].contains(&b'\n'));
    }

    /// Waits for an empty prompt at the cursor.
    pub fn wait_for_prompt(&mut self) {
        self.wait("a prompt", |t| {
            let (row, column) = t.screen.screen().cursor_position();
            column == 4 && t.rows().get(usize::from(row)).is_some_and(|line| line.starts_with(">>>"))
        });
    }

    /// Waits for a line that has begun with this text, the cursor behind it.
    pub fn wait_for_draft(&mut self, text: &str) {
        let line = format!(">>> {text}");
        self.wait(text, |t| {
            let (row, column) = t.screen.screen().cursor_position();
            usize::from(column) == line.len() && t.rows().get(usize::from(row)) == Some(&line)
        });
    }

    /// Waits until the screen shows a text.
    pub fn wait_for(&mut self, text: &str) {
        self.wait(text, |t| t.text().contains(text));
    }

    fn wait(&mut self, what: &str, is_there: impl Fn(&Self) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !is_there(self) {
            match self.output.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.take(&bytes),
                Err(e) => panic!("no {what:?} ({e}) on the screen:\n{}", self.text()),
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        self.raw.extend(bytes);
        self.screen.process(bytes);
    }

    /// Changes the size of the window.
    pub fn resize(&mut self, rows: u16, columns: u16) {
        set_size(&self.master, rows, columns);
        self.screen.screen_mut().set_size(size(rows), size(columns));
    }

    /// The rows of the screen, without blanks at their ends.
    pub fn rows(&self) -> Vec<String> {
        let (_, columns) = self.screen.screen().size();
        self.screen.screen().rows(0, columns.get()).map(|row| row.trim_end().to_owned()).collect()
    }

    /// The screen without empty rows at its end.
    pub fn text(&self) -> String {
        self.rows().join("\n").trim_end().to_owned()
    }

    /// Whether a text on the screen is bold, and whether it is dim.
    pub fn look_of(&self, text: &str) -> (bool, bool) {
        let rows = self.rows();
        let found = rows.iter().enumerate().find_map(|(i, row)| Some((i, row[..row.find(text)?].chars().count())));
        let (row, column) = found.unwrap_or_else(|| panic!("no {text:?} on the screen:\n{}", self.text()));
        let cell = self.screen.screen().cell(row as u16, column as u16).expect("a cell of the screen");
        (cell.bold(), cell.dim())
    }

    /// Waits for the end of the program.
    pub fn end(mut self) -> (ExitStatus, Vec<u8>) {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.output.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.take(&bytes),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("the program does not end:\n{}", self.text()),
            }
        }
        (self.child.wait().expect("an exit code"), std::mem::take(&mut self.raw))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // A test that has failed leaves no program behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn set_size(master: impl std::os::fd::AsFd, rows: u16, columns: u16) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(master, size).expect("a size");
}

fn size(n: u16) -> NonZeroU16 {
    NonZeroU16::new(n).expect("a size")
}

/// Becomes the program that is to run, as the leader of a session whose terminal is the given one.
fn become_program(words: &[String]) -> ! {
    let [terminal, stdin, stdout, program, args @ ..] = words else { panic!("words of a launch") };
    rustix::process::setsid().expect("a session");
    // The first terminal that the leader of a session opens is the session's.
    let open = |path: &str| File::options().read(true).write(true).open(path).expect("the terminal opens");
    let terminal = open(terminal);
    let input = if stdin.is_empty() { terminal.try_clone() } else { File::open(stdin) };
    let output = if stdout.is_empty() { terminal.try_clone() } else { File::create(stdout) };
    rustix::stdio::dup2_stdin(input.expect("input")).expect("standard input");
    rustix::stdio::dup2_stdout(output.expect("output")).expect("standard output");
    rustix::stdio::dup2_stderr(terminal).expect("standard error");
    panic!("{}", Command::new(program).args(args).env_remove(LAUNCH).exec());
}

/// The program of the tests is its own launcher: only a process that has just begun can take a terminal.
#[test]
fn a_program_runs_in_a_terminal_of_its_own() {
    if let Ok(words) = std::env::var(LAUNCH) {
        let words: Vec<String> = serde_json::from_str(&words).expect("words");
        become_program(&words);
    }
    let (status, raw) = Start::default().tealight(&["--version"]).end();
    assert!(status.success());
    assert_eq!(String::from_utf8_lossy(&raw), format!("tealight {}\r\n", env!("CARGO_PKG_VERSION")));
}
