//! What files hold, in messages: not more of it than a person reads.

const CHARS_MAX: usize = 80;
const NAMES_MAX: usize = 20;

/// The beginning of a text.
pub(crate) fn shortened(text: &str) -> String {
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The first of many names.
pub(crate) fn listed<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    let more = names.len().saturating_sub(NAMES_MAX);
    let mut shown: Vec<String> = names.take(NAMES_MAX).map(|name| format!("`{}`", shortened(name))).collect();
    if more > 0 {
        shown.push(format!("and {more} more"));
    }
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_and_lists_are_cut() {
        assert_eq!(listed(["a", "b c"].into_iter()), "`a`, `b c`");
        assert_eq!(listed([].into_iter()), "");
        let long = "é".repeat(1000);
        let names = vec![long.as_str(); 23];
        let shown = listed(names.into_iter());
        assert!(shown.starts_with(&format!("`{}…`, `é", "é".repeat(80))) && shown.ends_with(", and 3 more"), "{shown}");
    }
}
