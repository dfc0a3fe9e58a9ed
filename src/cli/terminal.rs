//! What a terminal may be shown.

use std::borrow::Cow;

/// Text of a model, of a file or of a name without what could take over a terminal or turn its lines around: control
/// characters except newline and tab, DEL, the C1 range, and the overrides, embeddings and isolates of text direction.
/// Escape sequences lose their first character and stay readable as text.
pub(crate) fn safe(text: &str) -> Cow<'_, str> {
    if text.chars().all(allowed) {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(text.chars().filter(|&c| allowed(c)).collect())
    }
}

fn allowed(c: char) -> bool {
    match c {
        '\n' | '\t' => true,
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => false,
        _ => !c.is_control(),
    }
}

/// Columns of the terminal that shows results; 0 where that is not known.
pub(crate) fn columns() -> usize {
    console::Term::stdout().size_checked().map_or(0, |(_, columns)| usize::from(columns))
}

/// While this lives, Ctrl-C leaves no `^C` in an answer.
#[cfg(unix)]
pub(crate) struct EchoGuard(rustix::termios::Termios);

/// Lets the terminal echo what is typed, but no control characters.
#[cfg(unix)]
pub(crate) fn without_echo_of_control() -> Option<EchoGuard> {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
    let before = tcgetattr(std::io::stdin()).ok()?;
    let mut quiet = before.clone();
    quiet.local_modes -= LocalModes::ECHOCTL;
    tcsetattr(std::io::stdin(), OptionalActions::Now, &quiet).ok()?;
    Some(EchoGuard(before))
}

#[cfg(unix)]
impl Drop for EchoGuard {
    fn drop(&mut self) {
        // A terminal that is gone needs no echo.
        let _ = rustix::termios::tcsetattr(std::io::stdin(), rustix::termios::OptionalActions::Now, &self.0);
    }
}

/// Consoles of Windows echo no control characters.
#[cfg(not(unix))]
pub(crate) fn without_echo_of_control() {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::safe;

    #[test]
    fn escape_sequences_are_disarmed() {
        assert_eq!(safe("a\x1b]0;title\x07b\x1b[2Jc\r\u{9b}31m\u{7f}\n\td"), "a]0;titleb[2Jc31m\n\td");
        assert_eq!(safe("a\u{202e}b\u{2066}c\u{2069}"), "abc");
        assert_eq!(safe("Grüße, 世界 🎉"), "Grüße, 世界 🎉");
    }

    proptest! {
        #[test]
        fn only_printable_text_newlines_and_tabs_pass(text in "(\\PC|[\\x00-\\x1f\u{7f}-\u{9f}\u{2028}-\u{2070}])*") {
            let shown = safe(&text);
            prop_assert!(shown.bytes().all(|b| b >= 0x20 && b != 0x7f || b == b'\n' || b == b'\t'));
            let c1 = |c: char| ('\u{80}'..='\u{9f}').contains(&c);
            let turns = |c: char| ('\u{202a}'..='\u{202e}').contains(&c) || ('\u{2066}'..='\u{2069}').contains(&c);
            prop_assert!(!shown.chars().any(|c| c1(c) || turns(c)));
            let kept: String = text.chars().filter(|c| (!c.is_control() || *c == '\n' || *c == '\t') && !turns(*c)).collect();
            prop_assert_eq!(shown, kept);
        }
    }
}
