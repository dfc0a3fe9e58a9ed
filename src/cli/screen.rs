//! Answers on a terminal: styled pieces become lines that fit its width.
//!
//! A word is written when it is complete, so that it never has to be moved to the next line afterwards. Between wide
//! characters, as Chinese and Japanese write them, a line may break anywhere but before closing marks. Words and code
//! that are longer than a line are left to the terminal, which joins them again when they are copied.

use tealight::chat::render::{Lead, Piece, Style};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// How an answer may look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// As the model wrote it.
    Raw,
    /// Words are kept whole.
    Wrapped,
    /// Markdown is shown by styles.
    Styled,
}

/// Lays out text for a terminal; what comes out is to be written as it is.
pub(crate) struct Screen {
    /// Columns of the terminal; asked before each line.
    columns: Box<dyn Fn() -> usize>,
    look: Look,
    /// Everything is dim: what a model thinks.
    dim: bool,
    width: usize,
    /// Columns used in the line.
    column: usize,
    /// The line has begun: its width has been asked.
    begun: bool,
    /// The line is left to the terminal.
    unwrapped: bool,
    /// What a wrapped line begins with.
    leads: Vec<Lead>,
    /// Blanks before the word, which a line end swallows.
    blanks: usize,
    /// The word that is not complete yet.
    word: Vec<(String, Style)>,
    /// Characters of it.
    n_held: usize,
    /// A beginning of the word has been written: it is longer than a line.
    is_torn: bool,
    /// The styles that the terminal has now, as parameters of SGR.
    current: String,
    out: String,
}

/// A line of the frame is no longer than this.
const MAX_RULE: usize = 60;
/// Characters of a word that are waited for; some languages and many codes have no blanks.
const MAX_WORD: usize = 60;
/// Where the terminal's tab stops are.
const TAB: usize = 8;

/// Binds characters to one another, as in emoji of families.
const JOINER: char = '\u{200d}';
/// Wide marks that no line ends with.
const OPENING: &str = "（「『【《〈〔［｛“‘";
/// Marks that no line begins with.
const CLOSING: &str = "、。，．！？：；）」』】》〉〕］｝”’・ー々…,.!?:;)]}";

const PLAIN: &str = "";
const DIM: &str = "2";

impl Screen {
    /// `columns` tells how wide the terminal is, 0 if it does not say.
    pub(crate) fn new(look: Look, columns: impl Fn() -> usize + 'static) -> Self {
        Self {
            columns: Box::new(columns),
            look,
            dim: false,
            width: usize::MAX,
            column: 0,
            begun: false,
            unwrapped: look == Look::Raw,
            leads: Vec::new(),
            blanks: 0,
            word: Vec::new(),
            n_held: 0,
            is_torn: false,
            current: String::new(),
            out: String::new(),
        }
    }

    /// From here on everything is dim, or no longer.
    pub(crate) fn set_dim(&mut self, dim: bool) {
        self.flush();
        self.dim = dim;
    }

    /// Takes pieces and gives what can be written.
    pub(crate) fn show(&mut self, pieces: &[Piece]) -> String {
        for piece in pieces {
            match piece {
                Piece::Text(text, style) => self.text(text, *style),
                Piece::Code(text) => self.code(text),
                Piece::Unwrapped => self.unwrapped = true,
                Piece::Lead(lead) => {
                    self.begin_line();
                    let lead = match lead {
                        Lead::Indent(n) => Lead::Indent(*n.min(&self.max_indent())),
                        other => other.clone(),
                    };
                    self.lead(&lead, true);
                    self.leads.push(lead);
                }
                Piece::LineEnd => self.end_line(),
                Piece::Rule => self.rule(""),
                Piece::CodeBegin(language) => self.rule(language),
                Piece::CodeEnd => self.rule(""),
                _ => {}
            }
        }
        std::mem::take(&mut self.out)
    }

    /// Gives what is held back, and ends the line and the styles.
    pub(crate) fn finish(&mut self) -> String {
        self.flush();
        if self.begun {
            self.end_line();
        }
        self.style(PLAIN);
        std::mem::take(&mut self.out)
    }

    fn text(&mut self, text: &str, style: Style) {
        for c in text.chars() {
            match c {
                '\n' => self.end_line(),
                ' ' if !self.unwrapped => {
                    self.flush();
                    self.blanks += 1;
                }
                '\t' if !self.unwrapped => {
                    self.flush();
                    self.blanks += TAB - (self.column + self.blanks) % TAB;
                }
                _ => {
                    if self.breaks_before(c) {
                        self.flush();
                    }
                    match self.word.last_mut() {
                        Some((word, last)) if *last == style => word.push(c),
                        _ => self.word.push((c.into(), style)),
                    }
                    self.n_held += 1;
                    if self.n_held >= MAX_WORD {
                        self.write_word();
                        self.is_torn = true;
                    }
                }
            }
        }
        if self.unwrapped {
            self.flush();
        }
    }

    /// Whether a line may end between the word so far and this character.
    fn breaks_before(&self, c: char) -> bool {
        let Some(last) = self.word.last().and_then(|(word, _)| word.chars().next_back()) else { return false };
        let is_wide = |c: char| c.width() == Some(2);
        let joins = c.width() == Some(0) || last == JOINER || OPENING.contains(last) || CLOSING.contains(c);
        (is_wide(c) || is_wide(last)) && !joins
    }

    /// Code goes as it is: what is copied from it must be what was written.
    fn code(&mut self, text: &str) {
        self.begin_line();
        self.style(if self.dim { DIM } else { PLAIN });
        self.out.push_str(text);
    }

    /// Writes the word, which is complete.
    fn flush(&mut self) {
        self.write_word();
        self.is_torn = false;
    }

    /// Writes what there is of the word, on the next line if it does not fit on this one.
    fn write_word(&mut self) {
        self.n_held = 0;
        if self.word.is_empty() {
            return;
        }
        self.begin_line();
        let word = std::mem::take(&mut self.word);
        // Of whole parts: an emoji of several characters has another width than they have together.
        let width: usize = word.iter().map(|(text, _)| text.width()).sum();
        let used = self.column + self.blanks;
        if !self.unwrapped && !self.is_torn && used + width > self.width && self.column > self.lead_width() {
            self.wrap();
        } else {
            if self.column <= self.lead_width() {
                self.blanks = self.blanks.min(self.max_indent());
            }
            self.put_blanks();
        }
        self.blanks = 0;
        for (text, style) in word {
            let parameters = self.parameters(style);
            self.style(&parameters);
            self.out.push_str(&text);
        }
        self.column += width;
        // A word that is longer than the line has been broken by the terminal.
        if self.column > self.width {
            self.column = (self.column - 1) % self.width + 1;
        }
    }

    fn put_blanks(&mut self) {
        self.out.extend(std::iter::repeat_n(' ', self.blanks));
        self.column += self.blanks;
    }

    /// Most of a line is for words.
    fn max_indent(&self) -> usize {
        self.width / 4
    }

    fn lead_width(&self) -> usize {
        self.leads.iter().map(width_of).sum()
    }

    /// Goes on in the next line.
    fn wrap(&mut self) {
        self.style(PLAIN);
        self.out.push('\n');
        self.begun = false;
        self.begin_line();
        let leads = std::mem::take(&mut self.leads);
        leads.iter().for_each(|lead| self.lead(lead, false));
        self.leads = leads;
    }

    fn begin_line(&mut self) {
        if !self.begun {
            // Too narrow for words, or unknown: the terminal breaks lines where it likes.
            let columns = (self.columns)();
            self.width = if columns < 8 { usize::MAX } else { columns };
            (self.begun, self.column) = (true, 0);
        }
    }

    fn end_line(&mut self) {
        self.flush();
        self.style(PLAIN);
        self.out.push('\n');
        // Blanks at the end of a line are seen by nobody.
        (self.begun, self.unwrapped, self.column, self.blanks) = (false, self.look == Look::Raw, 0, 0);
        self.leads.clear();
    }

    /// A line of its own with a word on it.
    fn rule(&mut self, word: &str) {
        self.flush();
        if self.begun && self.column > self.lead_width() {
            self.end_line();
        }
        self.begin_line();
        let columns = self.width.min(MAX_RULE).saturating_sub(self.column);
        let label = if word.is_empty() { String::new() } else { format!("── {word} ") };
        let label = if label.width() < columns { label } else { String::new() };
        self.style(DIM);
        self.out.push_str(&label);
        self.out.extend(std::iter::repeat_n('─', columns - label.width()));
        self.end_line();
    }

    fn lead(&mut self, lead: &Lead, first: bool) {
        match lead {
            Lead::Quote => {
                self.style(DIM);
                self.out.push_str("│ ");
            }
            Lead::Bullet if first => {
                self.style(PLAIN);
                self.out.push_str("• ");
            }
            Lead::Number(number) if first => {
                self.style(PLAIN);
                self.out.push_str(number);
                self.out.push(' ');
            }
            other => {
                self.style(PLAIN);
                self.out.extend(std::iter::repeat_n(' ', width_of(other)));
            }
        }
        self.column += width_of(lead);
    }

    fn parameters(&self, style: Style) -> String {
        let styles = [(self.dim, DIM), (style.bold || style.heading, "1"), (style.italic, "3"), (style.code, "36")];
        let set: Vec<_> = styles.iter().filter(|(is_set, _)| *is_set).map(|(_, code)| *code).collect();
        set.join(";")
    }

    fn style(&mut self, parameters: &str) {
        if self.current != parameters && self.look == Look::Styled {
            let also = if parameters.is_empty() { "" } else { ";" };
            self.out.push_str(&format!("\x1b[0{also}{parameters}m"));
            self.current = parameters.to_owned();
        }
    }
}

fn width_of(lead: &Lead) -> usize {
    match lead {
        Lead::Indent(n) => *n,
        Lead::Number(number) => number.width() + 1,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use proptest::prelude::*;
    use tealight::chat::render::Markdown;

    use super::*;

    /// An answer on a terminal of so many columns, without styles in what is compared.
    fn lines(markdown: &str, columns: usize) -> Vec<String> {
        let shown = shown(markdown, columns);
        let mut plain = String::new();
        let mut parts = shown.split("\x1b[");
        plain += parts.next().unwrap_or_default();
        parts.for_each(|part| plain += part.split_once('m').expect("a style").1);
        plain.lines().map(str::to_owned).collect()
    }

    fn shown(markdown: &str, columns: usize) -> String {
        let (mut reader, mut screen) = (Markdown::default(), Screen::new(Look::Styled, move || columns));
        let mut shown = String::new();
        for c in markdown.chars() {
            shown += &screen.show(&reader.push(c.encode_utf8(&mut [0; 4])));
        }
        shown += &screen.show(&reader.finish());
        shown + &screen.finish()
    }

    #[test]
    fn words_are_kept_whole() {
        assert_eq!(lines("one two three  four", 10), ["one two", "three", "four"]);
        assert_eq!(
            lines("- one two three\n  1. four five six", 11),
            ["• one two", "  three", "  1. four", "     five", "     six"]
        );
        assert_eq!(lines("> one two three", 10), ["│ one two", "│ three"]);
        assert_eq!(lines("a **bold word** b", 9), ["a bold", "word b"]);
        assert_eq!(
            lines("x https://a.b/cdefghijk y", 10),
            ["x", "https://a.b/cdefghijk y"],
            "it ends in the first column"
        );
        assert_eq!(lines("a\n\nb  \n", 10), ["a", "", "b"]);
        assert_eq!(lines("\t\t\t\t\té f", 20), ["     é f"], "an indentation is no longer than a quarter of the line");
    }

    #[test]
    fn wide_characters_count_twice_and_may_begin_a_line() {
        assert_eq!(lines("世界你好，再见", 10), ["世界你好，", "再见"]);
        assert_eq!(lines("世界你好世，再见", 10), ["世界你好", "世，再见"]);
        assert_eq!(lines("ab 世界 cd", 8), ["ab 世界", "cd"]);
        // A letter with its accent is one column, a family of emoji two.
        assert_eq!(lines("e\u{301}e\u{301}e\u{301}e\u{301} abcde", 10), ["e\u{301}e\u{301}e\u{301}e\u{301} abcde"]);
        assert_eq!(lines("👩\u{200d}👩\u{200d}👧 abcdefg", 10), ["👩\u{200d}👩\u{200d}👧 abcdefg"]);
    }

    #[test]
    fn a_word_without_an_end_is_not_waited_for() {
        let mut screen = Screen::new(Look::Wrapped, || 20);
        let mut show = |text: &str| screen.show(&[Piece::Text(text.into(), Style::default())]);
        assert_eq!(show(&format!("ab {}", "x".repeat(MAX_WORD - 1))), "ab");
        assert_eq!(show("xx"), format!("\n{}", "x".repeat(MAX_WORD)));
        // The terminal goes on breaking it: nothing comes into the midst of it.
        assert_eq!(show(&"y".repeat(MAX_WORD)), format!("x{}", "y".repeat(MAX_WORD - 1)));
        assert_eq!(show(" end and so"), "y end and");
    }

    #[test]
    fn code_and_tables_are_left_to_the_terminal() {
        let long = "let x = 1; // longer than the line";
        assert_eq!(
            lines(&format!("See:\n```rust\n{long}\n\n```\nend"), 12),
            ["See:", "── rust ────", long, "", "────────────", "end"]
        );
        let row = "| one | two | three |";
        assert_eq!(lines(&format!("{row}\na b c d e f g"), 12), [row, "a b c d e f", "g"]);
        assert_eq!(lines("a\n***\nb", 9), ["a", "─────────", "b"]);
    }

    #[test]
    fn styles_end_with_their_line() {
        assert_eq!(shown("**a b**", 8), "\x1b[0;1ma b\x1b[0m\n");
        assert_eq!(shown("# a `b` *c*", 80), "\x1b[0;1ma \x1b[0;1;36mb \x1b[0;1;3mc\x1b[0m\n");
        let wrapped = shown("**aaaa bbbb cc**", 8);
        assert_eq!(wrapped, "\x1b[0;1maaaa\x1b[0m\n\x1b[0;1mbbbb cc\x1b[0m\n");
    }

    #[test]
    fn the_width_is_asked_before_each_line() {
        let columns = Rc::new(Cell::new(20));
        let width = columns.clone();
        let mut screen = Screen::new(Look::Wrapped, move || width.get());
        let mut show = |text: &str| screen.show(&[Piece::Text(text.into(), Style::default())]);
        assert_eq!(show("one two three four five "), "one two three four\nfive");
        columns.set(10);
        assert_eq!(show("six seven eight nine "), " six seven eight\nnine", "the line that has begun has its width");
        columns.set(0);
        assert_eq!(show(&"ten ".repeat(9)), format!(" ten\n{}ten", "ten ".repeat(7)), "a width that is not known");
    }

    proptest! {
        /// Another terminal's counting: a line that it had to break is one that was counted wrongly.
        #[test]
        fn a_terminal_shows_the_lines_that_were_meant(
            parts in prop::collection::vec(
                prop_oneof![
                    "[a-zé]{1,7}", Just("世界".to_owned()), Just("（".to_owned()), Just("，".to_owned()), Just("e\u{301}".to_owned()),
                    Just("ｶﾞ".to_owned()), Just("**b**".to_owned()), Just("`c`".to_owned()), Just(" ".to_owned()), Just("\n- ".to_owned()),
                    Just("\n> ".to_owned()), Just("\n".to_owned()), Just("\t".to_owned()), Just("…".to_owned())
                ],
                0..60
            ),
            columns in 20..60u16
        ) {
            // Words that are longer than a line are the terminal's to break.
            let text: String = parts.join("").split(' ').map(|w| w.chars().take(9).collect::<String>()).collect::<Vec<_>>().join(" ");
            let shown = shown(&text, columns.into());
            let size = |n| std::num::NonZeroU16::new(n).expect("a size");
            let mut terminal = vt100::Parser::new(size(400), size(columns), 0);
            terminal.process(shown.replace('\n', "\r\n").as_bytes());
            let (row, column) = terminal.screen().cursor_position();
            prop_assert_eq!((usize::from(row), column), (shown.matches('\n').count(), 0), "{:?}", shown);
            prop_assert!((0..row).all(|row| !terminal.screen().row_wrapped(row)), "{shown:?}");
        }

        #[test]
        fn no_line_of_words_is_too_long_and_none_could_hold_more(
            words in prop::collection::vec("[a-zé世]{1,8}", 1..40), columns in 16..50usize
        ) {
            let text = words.join(" ");
            let lines = lines(&text, columns);
            prop_assert!(lines.iter().all(|l| l.width() <= columns), "{lines:?}");
            let blankless = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
            prop_assert_eq!(blankless(&lines.concat()), blankless(&text));
            // Only words without wide characters: those may break anywhere.
            for pair in lines.windows(2).filter(|_| !text.contains('世')) {
                let next = pair[1].split(' ').next().unwrap_or_default();
                prop_assert!(pair[0].width() + 1 + next.width() > columns, "{pair:?}");
            }
        }
    }
}
