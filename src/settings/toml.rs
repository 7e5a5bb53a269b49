//! TOML as a tree.

use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{SettingsError, SettingsProblem};
use super::node::{Entry, MAX_VALUES, Map, Node, Path, Value};
use super::origin::Origin;
use super::toml_path::keys_to;

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
        let keys = keys_to(self.text, span.start).unwrap_or_else(|| {
            let name = self.text.get(span).unwrap_or_default();
            vec![name.to_owned()]
        });
        let problem = SettingsProblem {
            origin,
            path: Path::shown(&keys),
            found: "the same key again".to_owned(),
            expected: "each key once".to_owned(),
        };
        SettingsError::Invalid {
            problems: vec![problem],
        }
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
                    // It is too large for everything here, and is shown as what it is.
                    Err(_) => float(number.as_str()),
                }
            }
            DeValue::Float(number) => float(number.as_str()),
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

fn float(number: &str) -> Value {
    match number.parse() {
        Ok(number) => Value::Float(number),
        Err(_) => Value::Text(number.to_owned()),
    }
}
