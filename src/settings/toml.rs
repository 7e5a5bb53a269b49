//! TOML as a tree.

use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{SettingsError, SettingsProblem};
use super::node::{Entry, MAX_VALUES, Map, Node, Path, Value, quoted};
use super::origin::Origin;

/// The tree, which is a section.
pub(super) fn parse(text: &str, path: &Arc<str>) -> Result<Node, SettingsError> {
    let mut reader = Reader {
        text,
        path,
        lines: line_starts(text),
        values: 0,
    };
    match DeTable::parse(text) {
        Ok(table) => {
            let origin = reader.origin(0);
            let value = Value::Map(reader.map(table.into_inner())?);
            Ok(Node { value, origin })
        }
        Err(error) => Err(reader.wrong(error.message(), error.span().unwrap_or_default())),
    }
}

fn line_starts(text: &str) -> Vec<usize> {
    let after_breaks = text.match_indices('\n').map(|(at, _)| at + 1);
    std::iter::once(0).chain(after_breaks).collect()
}

struct Reader<'a> {
    text: &'a str,
    path: &'a Arc<str>,
    lines: Vec<usize>,
    values: usize,
}

impl Reader<'_> {
    fn origin(&self, at: usize) -> Origin {
        let line = self.lines.partition_point(|start| *start <= at);
        let start = self.lines[line - 1];
        let before = self.text.get(start..at).unwrap_or_default();
        Origin::File {
            path: Arc::clone(self.path),
            line,
            column: before.chars().count() + 1,
        }
    }

    fn wrong(&self, message: &str, span: Range<usize>) -> SettingsError {
        let origin = self.origin(span.start);
        if !message.contains("duplicate key") {
            let message = message.to_owned();
            return SettingsError::Syntax { origin, message };
        }
        let path = self.path_to(span);
        let problem = SettingsProblem {
            origin,
            path,
            found: "the same key again".to_owned(),
            expected: "each key once".to_owned(),
        };
        SettingsError::Invalid {
            problems: vec![problem],
        }
    }

    /// The path of keys to a key that the parser has refused: the last header before it, the inline tables around it, and
    /// the key.
    fn path_to(&self, key: Range<usize>) -> String {
        let name = self.text.get(key.clone()).unwrap_or_default();
        let mut names: Vec<String> = Vec::new();
        let line = self.lines[line_of(&self.lines, key.start)];
        let stands_in_header = self.text[line..].trim_start().starts_with('[');
        let before = if stands_in_header {
            ""
        } else {
            &self.text[..key.start]
        };
        let is_header = |line: &&str| line.starts_with('[');
        if let Some(header) = before.lines().rev().map(str::trim).find(is_header) {
            let keys = header.trim_matches(['[', ']', ' ']).split('.');
            names.extend(keys.map(|key| key.trim().trim_matches(['"', '\'']).to_owned()));
        }
        // What the parser could read of the rest has the tables around the key.
        let (root, _) = DeTable::parse_recoverable(self.text);
        let mut table = Some(root.get_ref());
        for name in &names {
            table = table.and_then(|table| match table.get(name.as_str())?.get_ref() {
                DeValue::Table(inner) => Some(inner),
                _ => None,
            });
        }
        while let Some((outer, DeValue::Table(inner))) = table.and_then(|table| {
            let around = |value: &&Spanned<DeValue<'_>>| value.span().contains(&key.start);
            let (name, value) = table.iter().find(|(_, value)| around(value))?;
            Some((name.get_ref().to_string(), value.get_ref()))
        }) {
            names.push(outer);
            table = Some(inner);
        }
        names.push(name.trim_matches(['"', '\'']).to_owned());
        let root = Path::Root;
        names.iter().fold(String::new(), |path, name| {
            let key = root.key(name).to_string();
            if path.is_empty() {
                key
            } else {
                format!("{path}.{key}")
            }
        })
    }

    fn map(&mut self, table: DeTable<'_>) -> Result<Map, SettingsError> {
        let entry = |(key, value): (Spanned<_>, Spanned<DeValue<'_>>)| {
            let origin = self.origin(key.span().start);
            let name = std::borrow::Cow::into_owned(key.into_inner());
            let node = Arc::new(self.node(value)?);
            Ok((name, Entry { key: origin, node }))
        };
        table.into_iter().map(entry).collect()
    }

    fn node(&mut self, value: Spanned<DeValue<'_>>) -> Result<Node, SettingsError> {
        let origin = self.origin(value.span().start);
        self.values += 1;
        if self.values > MAX_VALUES {
            let what = format!("more than {MAX_VALUES} values");
            return Err(SettingsError::TooMuch { origin, what });
        }
        let value = match value.into_inner() {
            DeValue::String(text) => Value::Text(text.into_owned()),
            DeValue::Boolean(value) => Value::Bool(value),
            DeValue::Integer(number) => {
                match i128::from_str_radix(number.as_str(), number.radix()) {
                    Ok(number) => Value::Integer(number),
                    Err(_) => {
                        let message = format!("{} is too large", quoted(number.as_str()));
                        return Err(SettingsError::Syntax { origin, message });
                    }
                }
            }
            DeValue::Float(number) => match number.as_str().parse() {
                Ok(number) => Value::Float(number),
                Err(_) => Value::Text(number.as_str().to_owned()),
            },
            // No setting is one, and so it is shown where it is found.
            DeValue::Datetime(moment) => Value::Text(moment.to_string()),
            DeValue::Array(items) => {
                let items = items.into_iter().map(|item| self.node(item).map(Arc::new));
                Value::List(items.collect::<Result<_, _>>()?)
            }
            DeValue::Table(table) => Value::Map(self.map(table)?),
        };
        Ok(Node { value, origin })
    }
}

/// The index of the line in which a byte stands.
fn line_of(lines: &[usize], at: usize) -> usize {
    lines.partition_point(|start| *start <= at) - 1
}
