//! A tree as serde's data. So each configuration type says by itself which keys and values it takes, and an error knows its
//! line.

use std::fmt;
use std::sync::Arc;

use serde::de::value::StrDeserializer;
use serde::de::{
    self, Deserialize, DeserializeSeed, Deserializer, Expected, IntoDeserializer, MapAccess,
    SeqAccess, Unexpected, Visitor,
};

use super::error::SettingsProblem;
use super::node::{Entry, Node, Path, Value, quoted};
use super::origin::Origin;
use crate::dependency::did_you_mean::nearest;

/// From here on nothing more is looked for in a section.
const MAX_SKIPPED: usize = 20;

/// Reads a value of some type from a tree. Problems go to `problems`: serde stops at the first, and so each key that
/// is wrong is then skipped. `None`: there is no value without the keys that are wrong. `skipped`: keys that are not read.
pub(super) fn read<'a, T: Deserialize<'a>>(
    node: &'a Node,
    path: &Path<'_>,
    mut skipped: Vec<Vec<String>>,
    problems: &mut Vec<SettingsProblem>,
) -> Option<T> {
    loop {
        let skipped_now = &skipped[..];
        let reader = Reader {
            node,
            path,
            skipped: skipped_now,
        };
        let wrong = match T::deserialize(reader) {
            Ok(value) => return Some(value),
            Err(wrong) => wrong.at(&node.origin, path),
        };
        let keys = wrong.keys();
        // It is missing because it was wrong.
        let is_told = wrong.missing.is_some_and(|name| {
            let told = |skipped: &Vec<String>| {
                skipped
                    .split_last()
                    .is_some_and(|(last, outer)| last == name && *outer == keys[..])
            };
            skipped.iter().any(told)
        });
        if !is_told {
            problems.push(wrong.into_problem(node));
        }
        if path.is(&keys) || skipped.contains(&keys) || skipped.len() >= MAX_SKIPPED {
            return None;
        }
        skipped.push(keys);
    }
}

/// What serde says is wrong, and where, once that is known.
#[derive(Debug)]
struct Wrong {
    found: String,
    expected: String,
    /// The key that is missing.
    missing: Option<&'static str>,
    place: Option<Box<(Origin, Vec<String>)>>,
}

impl Wrong {
    fn new(found: impl Into<String>, expected: impl Into<String>) -> Self {
        Self {
            found: found.into(),
            expected: expected.into(),
            missing: None,
            place: None,
        }
    }

    /// The innermost place is the one that counts, and it comes first.
    fn at(mut self, origin: &Origin, path: &Path<'_>) -> Self {
        if self.place.is_none() {
            self.place = Some(Box::new((origin.clone(), path.keys())));
        }
        self
    }

    /// The path of keys to the place.
    fn keys(&self) -> Vec<String> {
        let keys = self.place.as_ref().map(|place| place.1.clone());
        keys.unwrap_or_default()
    }

    fn into_problem(self, root: &Node) -> SettingsProblem {
        let (origin, keys) = self
            .place
            .map_or_else(|| (root.origin.clone(), Vec::new()), |place| *place);
        SettingsProblem {
            origin,
            path: Path::shown(&keys),
            found: self.found,
            expected: self.expected,
        }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "found {}, expected {}", self.found, self.expected)
    }
}

impl std::error::Error for Wrong {}

impl de::Error for Wrong {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string(), "something else")
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(in_words(found), expected.to_string())
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(in_words(found), expected.to_string())
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::new(quoted(variant), one_of(variant, expected, "\""))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::new("a key that is unknown here", one_of(field, expected, "`"))
    }

    fn missing_field(field: &'static str) -> Self {
        let wrong = Self::new(
            format!("a section without `{field}`"),
            format!("the key `{field}` in it"),
        );
        Self {
            missing: Some(field),
            ..wrong
        }
    }
}

fn in_words(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(value) => format!("`{value}`"),
        Unexpected::Unsigned(value) => format!("`{value}`"),
        Unexpected::Signed(value) => format!("`{value}`"),
        Unexpected::Float(value) => format!("`{value:?}`"),
        Unexpected::Str(text) => quoted(text),
        Unexpected::Unit | Unexpected::Option => "nothing".to_owned(),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map => "a section".to_owned(),
        other => other.to_string(),
    }
}

/// `one of "a", "b"`, and which of them was probably meant.
pub(super) fn one_of(found: &str, expected: &[&str], quote: &str) -> String {
    let names: Vec<String> = expected
        .iter()
        .map(|name| format!("{quote}{name}{quote}"))
        .collect();
    let list = match &names[..] {
        [] => return "nothing".to_owned(),
        [only] => only.clone(),
        _ => format!("one of {}", names.join(", ")),
    };
    match nearest(found, expected.iter().copied()) {
        Some(near) => format!("{list}; did you mean {quote}{near}{quote}?"),
        None => list,
    }
}

#[derive(Clone, Copy)]
struct Reader<'a, 'p> {
    node: &'a Node,
    path: &'p Path<'p>,
    skipped: &'p [Vec<String>],
}

impl<'a> Reader<'a, '_> {
    fn wrong(&self, expected: &str) -> Wrong {
        Wrong::new(self.node.found(), expected).at(&self.node.origin, self.path)
    }

    fn map<V: Visitor<'a>>(self, map: &'a super::node::Map, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_map(Entries {
            rest: map.iter(),
            next: None,
            path: self.path,
            skipped: self.skipped,
        })
    }

    fn unsigned(&self) -> Result<u64, Wrong> {
        let number = match self.node.value {
            Value::Integer(number) => u64::try_from(number).ok(),
            _ => None,
        };
        number.ok_or_else(|| self.wrong("a whole number, not negative"))
    }
}

impl<'a> Deserializer<'a> for Reader<'a, '_> {
    type Error = Wrong;

    fn deserialize_any<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Wrong> {
        let result = match &self.node.value {
            Value::Nothing => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Integer(number) => match (u64::try_from(*number), i64::try_from(*number)) {
                (Ok(number), _) => visitor.visit_u64(number),
                (_, Ok(number)) => visitor.visit_i64(number),
                _ => visitor.visit_f64(*number as f64),
            },
            Value::Float(number) => visitor.visit_f64(*number),
            Value::Text(text) => visitor.visit_borrowed_str(text),
            Value::List(items) => visitor.visit_seq(Items {
                rest: items.iter(),
                path: self.path,
                skipped: self.skipped,
            }),
            Value::Map(map) => self.map(map, visitor),
        };
        result.map_err(|wrong| wrong.at(&self.node.origin, self.path))
    }

    fn deserialize_bool<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.node.value {
            Value::Bool(value) => visitor.visit_bool(value),
            _ => Err(self.wrong("`true` or `false`")),
        }
    }

    fn deserialize_u64<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_u64(self.unsigned()?)
    }

    fn deserialize_u32<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Wrong> {
        let number = u32::try_from(self.unsigned()?);
        visitor.visit_u32(number.map_err(|_| self.wrong("a whole number, at most 4294967295"))?)
    }

    fn deserialize_f64<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.node.value {
            Value::Float(number) => visitor.visit_f64(number),
            Value::Integer(number) => visitor.visit_f64(number as f64),
            _ => Err(self.wrong("a number")),
        }
    }

    fn deserialize_option<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_some(self)
    }

    fn deserialize_map<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match &self.node.value {
            Value::Map(map) => {
                let result = self.map(map, visitor);
                result.map_err(|wrong| wrong.at(&self.node.origin, self.path))
            }
            _ => Err(self.wrong("a section")),
        }
    }

    fn deserialize_struct<V: Visitor<'a>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'a>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        let Value::Text(name) = &self.node.value else {
            return Err(self.wrong(&one_of("", variants, "\"")));
        };
        let name: StrDeserializer<'_, Wrong> = name.as_str().into_deserializer();
        visitor
            .visit_enum(name)
            .map_err(|wrong| wrong.at(&self.node.origin, self.path))
    }

    serde::forward_to_deserialize_any! {
        <V: Visitor<'a>>
        i8 i16 i32 i64 i128 u8 u16 u128 f32 char str string bytes byte_buf unit unit_struct newtype_struct seq
        tuple tuple_struct identifier ignored_any
    }
}

struct Entries<'a, 'p> {
    rest: std::collections::btree_map::Iter<'a, String, Entry>,
    next: Option<(&'a str, &'a Node)>,
    path: &'p Path<'p>,
    skipped: &'p [Vec<String>],
}

impl Entries<'_, '_> {
    fn skips(&self, name: &str) -> bool {
        let path = self.path.key(name);
        self.skipped.iter().any(|keys| path.is(keys))
    }
}

impl<'a> MapAccess<'a> for Entries<'a, '_> {
    type Error = Wrong;

    fn next_key_seed<K: DeserializeSeed<'a>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Wrong> {
        let (name, entry) = loop {
            match self.rest.next() {
                None => return Ok(None),
                Some((name, _)) if self.skips(name) => {}
                Some(next) => break next,
            }
        };
        self.next = Some((name, &entry.node));
        let key: StrDeserializer<'_, Wrong> = name.as_str().into_deserializer();
        seed.deserialize(key)
            .map(Some)
            .map_err(|wrong| wrong.at(&entry.key, &self.path.key(name)))
    }

    fn next_value_seed<S: DeserializeSeed<'a>>(&mut self, seed: S) -> Result<S::Value, Wrong> {
        let Some((name, node)) = self.next.take() else {
            return Err(Wrong::new("a value without a key", "a key"));
        };
        let path = self.path.key(name);
        let reader = Reader {
            node,
            path: &path,
            skipped: self.skipped,
        };
        seed.deserialize(reader)
            .map_err(|wrong| wrong.at(&node.origin, &path))
    }
}

struct Items<'a, 'p> {
    rest: std::slice::Iter<'a, Arc<Node>>,
    path: &'p Path<'p>,
    skipped: &'p [Vec<String>],
}

impl<'a> SeqAccess<'a> for Items<'a, '_> {
    type Error = Wrong;

    fn next_element_seed<S: DeserializeSeed<'a>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Wrong> {
        let Some(node) = self.rest.next() else {
            return Ok(None);
        };
        let reader = Reader {
            node,
            path: self.path,
            skipped: self.skipped,
        };
        seed.deserialize(reader).map(Some)
    }
}
