//! Text that comes from files, on its way to a terminal.

use std::borrow::Cow;

/// The text with its control characters spelled out, but for ends of lines and tabs: names in files must not steer a terminal.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    let steers = |character: char| character.is_control() && !matches!(character, '\n' | '\t');
    if !text.contains(steers) {
        return text.into();
    }
    let mut spelled = String::with_capacity(text.len());
    for character in text.chars() {
        if steers(character) { spelled.extend(character.escape_default()) } else { spelled.push(character) }
    }
    spelled.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_spelled_out() {
        assert_eq!(printable("a\tb\u{e9}\n"), "a\tb\u{e9}\n");
        assert_eq!(printable("\u{1b}[2J\r\u{9b}x\0"), "\\u{1b}[2J\\r\\u{9b}x\\u{0}");
    }
}
