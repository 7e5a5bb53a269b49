//! Values as text.
//!
//! | file | job |
//! |---|---|
//! | here | a user's text on one line of the log or of an error: a name, the message of a panic, what a storage says |
//! | `duration` | durations in settings |
//! | `serialized` | the numbers of a bulkhead, for serde |
//!
//! A line break in a user's text would begin a log line of its own, and a control character would move the cursor of the
//! terminal that shows it.

#[cfg(feature = "config")]
pub(crate) mod duration;
#[cfg(feature = "config")]
pub(crate) mod serialized;

use std::fmt::{self, Write};

/// Shows a text on one line, without characters that act on a terminal: `\n` for a line break, `\u{1b}` for an escape. With
/// `{:#}`, the text is asked for its longer form.
pub(crate) struct OneLine<T>(pub(crate) T);

impl<T: fmt::Display> fmt::Display for OneLine<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if f.alternate() {
            write!(Escaping(f), "{:#}", self.0)
        } else {
            write!(Escaping(f), "{}", self.0)
        }
    }
}

/// Passes everything on but the characters that act.
struct Escaping<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(acts) {
            let (before, from) = rest.split_at(at);
            self.0.write_str(before)?;
            let mut from = from.chars();
            if let Some(acting) = from.next() {
                write!(self.0, "{}", acting.escape_default())?;
            }
            rest = from.as_str();
        }
        self.0.write_str(rest)
    }
}

/// Whether a character acts on what shows it, rather than being shown: control characters, separators of lines, and marks
/// that turn the direction of the text after them.
pub(crate) fn acts(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

#[cfg(test)]
mod tests {
    use super::OneLine;

    #[test]
    fn what_acts_is_escaped_and_all_else_is_as_it_was() {
        for (text, expected) in [
            ("", ""),
            ("größe/1 🦀 `x` \"y\" \\", "größe/1 🦀 `x` \"y\" \\"),
            ("a\nb\r\n", "a\\nb\\r\\n"),
            ("\u{1b}[2J\0\u{7f}\u{9b}", "\\u{1b}[2J\\u{0}\\u{7f}\\u{9b}"),
            ("a\u{202e}b\u{2028}", "a\\u{202e}b\\u{2028}"),
        ] {
            assert_eq!(OneLine(text).to_string(), expected);
        }
    }

    #[test]
    fn the_longer_form_is_asked_for_and_escaped_too() {
        struct Longer;
        impl std::fmt::Display for Longer {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(if f.alternate() { "long\ner" } else { "short" })
            }
        }
        assert_eq!(OneLine(Longer).to_string(), "short");
        assert_eq!(format!("{:#}", OneLine(Longer)), "long\\ner");
    }
}
