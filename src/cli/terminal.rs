//! What a terminal may be shown.

use std::borrow::Cow;

/// Text of a model without what could take over a terminal: control characters except newline and tab, DEL, and the
/// C1 range. Escape sequences lose their first character and stay readable as text.
pub(crate) fn safe(text: &str) -> Cow<'_, str> {
    let allowed = |c: char| !c.is_control() || matches!(c, '\n' | '\t');
    if text.chars().all(allowed) {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(text.chars().filter(|&c| allowed(c)).collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::safe;

    #[test]
    fn escape_sequences_are_disarmed() {
        assert_eq!(safe("a\x1b]0;title\x07b\x1b[2Jc\r\u{9b}31m\u{7f}\n\td"), "a]0;titleb[2Jc31m\n\td");
        assert_eq!(safe("Grüße, 世界 🎉"), "Grüße, 世界 🎉");
    }

    proptest! {
        #[test]
        fn only_printable_text_newlines_and_tabs_pass(text in any::<String>()) {
            let shown = safe(&text);
            prop_assert!(shown.bytes().all(|b| b >= 0x20 && b != 0x7f || b == b'\n' || b == b'\t'));
            let c1 = |c: char| ('\u{80}'..='\u{9f}').contains(&c);
            prop_assert!(!shown.chars().any(c1));
            let kept: String = text.chars().filter(|c| !c.is_control() || *c == '\n' || *c == '\t').collect();
            prop_assert_eq!(shown, kept);
        }
    }
}
