//! Names with braces that stand for several: `{000..099}` and `{a,b}`, as in shells and in WebDataset.

use crate::error::DatasetError;

/// More names than this are a typing error.
const NAMES_MAX: usize = 1 << 20;

/// All names that a pattern stands for, in order; nothing if it has no braces.
pub(super) fn expand(pattern: &str) -> Result<Option<Vec<String>>, DatasetError> {
    let invalid =
        |reason: String| DatasetError::InvalidOption { option: "source", reason: format!("`{pattern}` {reason}") };
    let mut names = vec![String::new()];
    let mut rest = pattern;
    let mut has_braces = false;
    while let Some((before, braces)) = rest.split_once('{') {
        has_braces = true;
        let (inside, after) = braces.split_once('}').ok_or_else(|| invalid("has an open brace".to_owned()))?;
        let choices = choices(inside).map_err(invalid)?;
        if names.len().saturating_mul(choices.len()) > NAMES_MAX {
            return Err(invalid(format!("stands for more than {NAMES_MAX} names")));
        }
        let longer = |name: &String| choices.iter().map(|choice| format!("{name}{before}{choice}")).collect::<Vec<_>>();
        names = names.iter().flat_map(longer).collect();
        rest = after;
    }
    if !has_braces {
        return Ok(None);
    }
    for name in &mut names {
        name.push_str(rest);
    }
    Ok(Some(names))
}

fn choices(inside: &str) -> Result<Vec<String>, String> {
    let Some((first, last)) = inside.split_once("..") else {
        return Ok(inside.split(',').map(str::to_owned).collect());
    };
    let number = |text: &str| text.parse::<u64>().map_err(|_| format!("has `{text}` where a number should be"));
    let (from, to) = (number(first)?, number(last)?);
    if from > to || (to - from) as usize >= NAMES_MAX {
        return Err(format!("has the range `{inside}`, expected at least 1 number and at most {NAMES_MAX}"));
    }
    // Leading zeros say how many digits all numbers have.
    let width = if first.len() == last.len() { first.len() } else { 0 };
    Ok((from..=to).map(|number| format!("{number:0width$}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_stand_for_names_in_order() {
        let check = |pattern: &str, expected: &[&str]| {
            assert_eq!(expand(pattern).unwrap().unwrap_or_default(), expected, "{pattern}");
        };
        check("a-{008..010}.tar", &["a-008.tar", "a-009.tar", "a-010.tar"]);
        check("{9..11}", &["9", "10", "11"]);
        check("{x,y}/{0..1}", &["x/0", "x/1", "y/0", "y/1"]);
        check("plain.tar", &[]);
        for bad in ["{1..", "{5..1}", "{a..b}", "{0..99999999}", "{0..9999}{0..9999}"] {
            assert!(expand(bad).is_err(), "{bad}");
        }
    }
}
