//! Settings of any format as one tree, in which each key and each value knows where it stands; and how one tree is laid
//! over another.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::origin::Origin;

/// The most values of a tree. Those behind an alias count as often as it is used.
pub(super) const MAX_VALUES: usize = 100_000;
/// The most values that are looked at in all environments together, each with its section laid over the others.
pub(super) const MAX_VALUES_OF_ALL: usize = 500_000;
/// The most sections and lists inside each other.
pub(super) const MAX_DEPTH: usize = 64;
/// The most environments, each of which is checked.
pub(super) const MAX_ENVIRONMENTS: usize = 100;

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) origin: Origin,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    Nothing,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(String),
    List(Vec<Arc<Node>>),
    Map(Map),
}

pub(super) type Map = BTreeMap<String, Entry>;

/// A value under its key. Values are shared: an alias costs no memory.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: Origin,
    pub(super) node: Arc<Node>,
}

impl Node {
    /// What stands here, in words.
    pub(super) fn found(&self) -> String {
        match &self.value {
            Value::Nothing => "nothing".to_owned(),
            Value::Bool(value) => format!("`{value}`"),
            Value::Integer(value) => format!("`{value}`"),
            Value::Float(value) => format!("`{value:?}`"),
            Value::Text(text) => quoted(text),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a section".to_owned(),
        }
    }

    /// How many values there are, itself included. Those behind an alias count as often as it is used.
    pub(super) fn values(&self) -> usize {
        let inside: usize = match &self.value {
            Value::List(items) => items.iter().map(|item| item.values()).sum(),
            Value::Map(map) => map.values().map(|entry| entry.node.values()).sum(),
            _ => 0,
        };
        1 + inside
    }

    /// This tree with another laid over it: a section over a section is merged key by key, one without keys too; anything
    /// else replaces.
    pub(super) fn overlaid(base: &Arc<Self>, over: &Arc<Self>) -> Arc<Self> {
        let (below, above) = match (&base.value, &over.value) {
            (Value::Map(below), Value::Map(above)) => (below, above),
            (Value::Map(_), Value::Nothing) => return Arc::clone(base),
            _ => return Arc::clone(over),
        };
        let mut merged = below.clone();
        for (name, entry) in above {
            let node = match merged.get(name) {
                Some(old) => Self::overlaid(&old.node, &entry.node),
                None => Arc::clone(&entry.node),
            };
            let key = entry.key.clone();
            merged.insert(name.clone(), Entry { key, node });
        }
        Arc::new(Self {
            value: Value::Map(merged),
            origin: over.origin.clone(),
        })
    }
}

/// A file may have text of any length, errors and paths do not.
const LONGEST: usize = 60;

/// Text in quotes, cut where it is long.
pub(super) fn quoted(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}…", &text[..end]),
    }
}

/// A path of keys: the innermost, and those around it.
#[derive(Clone, Copy)]
pub(super) enum Path<'a> {
    Root,
    In(&'a Self, &'a str),
}

impl<'a> Path<'a> {
    pub(super) fn key(&'a self, name: &'a str) -> Self {
        Self::In(self, name)
    }

    /// The keys, the innermost last.
    pub(super) fn keys(&self) -> Vec<String> {
        let Self::In(outer, name) = self else {
            return Vec::new();
        };
        let mut keys = outer.keys();
        keys.push((*name).to_owned());
        keys
    }

    /// Whether these are the keys.
    pub(super) fn is(&self, keys: &[String]) -> bool {
        match (self, keys.split_last()) {
            (Self::Root, None) => true,
            (Self::In(outer, name), Some((last, rest))) => last == name && outer.is(rest),
            _ => false,
        }
    }

    /// A key as a path shows it, and not cut.
    pub(super) fn whole(name: &str) -> String {
        if !name.is_empty() && name.chars().all(is_plain) {
            name.to_owned()
        } else {
            format!("{name:?}")
        }
    }

    /// Keys as a path is shown.
    pub(super) fn shown(keys: &[impl AsRef<str>]) -> String {
        fn inside(path: &Path<'_>, keys: &[impl AsRef<str>]) -> String {
            match keys {
                [] => path.to_string(),
                [first, rest @ ..] => inside(&path.key(first.as_ref()), rest),
            }
        }
        inside(&Path::Root, keys)
    }
}

fn is_plain(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '-'
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::In(outer, name) = self else {
            return Ok(());
        };
        if matches!(outer, Self::In(..)) {
            write!(f, "{outer}.")?;
        }
        if (1..=LONGEST).contains(&name.len()) && name.chars().all(is_plain) {
            f.write_str(name)
        } else {
            f.write_str(&quoted(name))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(line: usize) -> Origin {
        Origin::File {
            path: "test".into(),
            line,
            column: 1,
        }
    }

    fn value(line: usize, number: i128) -> Arc<Node> {
        let value = Value::Integer(number);
        let origin = origin(line);
        Arc::new(Node { value, origin })
    }

    fn map(line: usize, entries: &[(&str, Arc<Node>)]) -> Arc<Node> {
        let entry = |node: &Arc<Node>| Entry {
            key: origin(line),
            node: Arc::clone(node),
        };
        let entries = entries
            .iter()
            .map(|(name, node)| ((*name).to_owned(), entry(node)));
        Arc::new(Node {
            value: Value::Map(entries.collect()),
            origin: origin(line),
        })
    }

    fn shown(node: &Node) -> String {
        let Value::Map(entries) = &node.value else {
            return format!("{} in {}", node.found(), node.origin);
        };
        let entries = entries
            .iter()
            .map(|(name, entry)| format!("{name}: {}", shown(&entry.node)));
        format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
    }

    #[test]
    fn sections_are_merged_and_all_else_is_replaced() {
        let base = map(
            1,
            &[
                ("kept", value(2, 1)),
                ("changed", value(3, 2)),
                (
                    "section",
                    map(4, &[("kept", value(5, 3)), ("changed", value(6, 4))]),
                ),
                ("gone", map(7, &[("inside", value(8, 5))])),
                ("grown", value(9, 6)),
            ],
        );
        let over = map(
            11,
            &[
                ("changed", value(12, 12)),
                (
                    "section",
                    map(13, &[("changed", value(14, 14)), ("new", value(15, 15))]),
                ),
                ("gone", value(16, 16)),
                ("grown", map(17, &[("inside", value(18, 18))])),
                ("added", value(19, 19)),
            ],
        );
        let merged = shown(&Node::overlaid(&base, &over));
        assert_eq!(
            merged,
            "{added: `19` in test:19:1, changed: `12` in test:12:1, gone: `16` in test:16:1, \
             grown: {inside: `18` in test:18:1}, kept: `1` in test:2:1, \
             section: {changed: `14` in test:14:1, kept: `3` in test:5:1, new: `15` in test:15:1}}"
        );
    }

    #[test]
    fn a_path_quotes_what_is_no_plain_name() {
        let root = Path::Root;
        let outer = root.key("external_dependencies");
        for (name, expected) in [
            ("user_db", "external_dependencies.user_db"),
            ("tax-api", "external_dependencies.tax-api"),
            ("tax.api", "external_dependencies.\"tax.api\""),
            ("", "external_dependencies.\"\""),
            ("a\nb", "external_dependencies.\"a\\nb\""),
        ] {
            assert_eq!(outer.key(name).to_string(), expected);
        }
    }
}
