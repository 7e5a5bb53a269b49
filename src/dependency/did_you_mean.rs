//! Finds the name that a slip probably meant.

use std::fmt;

/// The candidate that is nearest to `name`, if one is near enough to be a slip.
pub(crate) fn nearest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let plain = plain(name);
    // Names from a file may be of any length; a slip is not.
    if plain.is_empty() || plain.len() > 64 {
        return None;
    }
    let slips_allowed = (plain.len() / 3).clamp(1, 3);
    candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= 4 * 64)
        .map(|candidate| (distance(&plain, &self::plain(candidate)), candidate))
        .filter(|(distance, _)| *distance <= slips_allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `UserDb`, `user-db` and `user_db` are the same here.
fn plain(name: &str) -> Vec<char> {
    name.chars()
        .filter(|c| c.is_alphanumeric())
        .flat_map(char::to_lowercase)
        .collect()
}

/// How many letters have to be put in, left out, changed, or exchanged with their neighbour.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, &x) in a.iter().enumerate() {
        let mut line = vec![i + 1];
        for (j, &y) in b.iter().enumerate() {
            let mut least = (last[j] + usize::from(x != y))
                .min(last[j + 1] + 1)
                .min(line[j] + 1);
            if i > 0 && j > 0 && x == b[j - 1] && a[i - 1] == y {
                least = least.min(before[j - 1] + 1);
            }
            line.push(least);
        }
        before = std::mem::replace(&mut last, line);
    }
    last[b.len()]
}

/// `; did you mean …? There are: …`
pub(crate) struct Listed<'a, S> {
    pub(crate) known: &'a [S],
    pub(crate) near: Option<&'a str>,
}

/// A long list helps nobody.
const MOST_LISTED: usize = 20;

impl<S: AsRef<str>> fmt::Display for Listed<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(near) = self.near {
            write!(f, "; did you mean `{}`?", near.escape_debug())?;
        }
        if self.known.is_empty() {
            return f.write_str("; there is none");
        }
        f.write_str(if self.near.is_some() {
            " There are "
        } else {
            "; there are "
        })?;
        for (i, name) in self.known.iter().take(MOST_LISTED).enumerate() {
            let before = if i == 0 { "" } else { ", " };
            write!(f, "{before}`{}`", name.as_ref().escape_debug())?;
        }
        match self.known.len().saturating_sub(MOST_LISTED) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_another_word_is_not() {
        let names = ["user_db", "orders_db", "cache", "tax-api"];
        for (name, near) in [
            ("user_bd", Some("user_db")),
            ("usr_db", Some("user_db")),
            ("UserDB", Some("user_db")),
            ("userdb", Some("user_db")),
            ("order_db", Some("orders_db")),
            ("cahce", Some("cache")),
            ("tax_api", Some("tax-api")),
            ("payments", None),
            ("", None),
            ("x", None),
            ("db", None),
        ] {
            assert_eq!(nearest(name, names), near, "{name}");
        }
        assert_eq!(nearest("a", []), None);
    }

    #[test]
    fn very_long_names_are_not_compared() {
        let long = "x".repeat(1 << 20);
        assert_eq!(nearest(&long, ["xxx"]), None);
        assert_eq!(nearest("xxx", [&*long]), None);
    }

    #[test]
    fn a_long_list_is_cut() {
        let names: Vec<String> = (0..23).map(|i| format!("n{i}")).collect();
        let listed = Listed {
            known: &names,
            near: None,
        };
        let text = listed.to_string();
        assert!(text.ends_with("`n19` and 3 more"), "{text}");
    }
}
