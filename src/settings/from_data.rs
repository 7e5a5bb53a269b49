//! Settings from serde's data, of whichever format, with the keys that files have.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::error::SettingsError;
use super::loader::Settings;
use super::node::{Entry, MAX_DEPTH, MAX_VALUES, Map, Node, Value, quoted};
use super::origin::Origin;
use super::schema;

/// Reads the sections `resilience` and `external_dependencies`, as they are [written](Settings#impl-Serialize-for-Settings), from
/// a format that describes itself, such as JSON. Every value is checked, and problems are told together, as
/// [`load`](super::SettingsLoader::load) does. There are no sections for environments, and no variables.
impl<'de> Deserialize<'de> for Settings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let values = Cell::new(0);
        let seed = NodeSeed {
            depth: 0,
            values: &values,
        };
        let root = Arc::new(seed.deserialize(deserializer)?);
        match schema::interpret(&root) {
            Ok(content) => Ok(Self::of_data(content)),
            Err(problems) => Err(D::Error::custom(SettingsError::Invalid { problems })),
        }
    }
}

/// Reads a tree.
#[derive(Clone, Copy)]
struct NodeSeed<'a> {
    /// How many sections and lists are around it.
    depth: usize,
    /// How many values there are so far.
    values: &'a Cell<usize>,
}

impl NodeSeed<'_> {
    fn inside<E: Error>(self) -> Result<Self, E> {
        if self.depth >= MAX_DEPTH {
            return Err(E::custom(format_args!(
                "settings have more than {MAX_DEPTH} sections and lists inside each other"
            )));
        }
        Ok(Self {
            depth: self.depth + 1,
            ..self
        })
    }

    fn node<E: Error>(self, value: Value) -> Result<Node, E> {
        self.values.set(self.values.get() + 1);
        if self.values.get() > MAX_VALUES {
            return Err(E::custom(format_args!(
                "settings have more than {MAX_VALUES} values"
            )));
        }
        Ok(Node {
            value,
            origin: Origin::Data,
        })
    }
}

impl<'de> DeserializeSeed<'de> for NodeSeed<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for NodeSeed<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a section, a list, text, a number, or `true`, or `false`")
    }

    fn visit_unit<E: Error>(self) -> Result<Node, E> {
        self.node(Value::Nothing)
    }

    fn visit_none<E: Error>(self) -> Result<Node, E> {
        self.node(Value::Nothing)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Node, E> {
        self.node(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Node, E> {
        self.node(Value::Integer(number.into()))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Node, E> {
        self.node(Value::Integer(number.into()))
    }

    fn visit_i128<E: Error>(self, number: i128) -> Result<Node, E> {
        self.node(Value::Integer(number))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Node, E> {
        self.node(Value::Float(number))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Node, E> {
        self.node(Value::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let seed = self.inside()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(seed)? {
            list.push(Arc::new(item));
        }
        self.node(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let seed = self.inside()?;
        let mut map = Map::new();
        while let Some(name) = entries.next_key::<String>()? {
            let node = Arc::new(entries.next_value_seed(seed)?);
            let key = Origin::Data;
            if map.contains_key(&name) {
                return Err(A::Error::custom(format_args!(
                    "settings have the key {} twice",
                    quoted(&name)
                )));
            }
            map.insert(name, Entry { key, node });
        }
        self.node(Value::Map(map))
    }
}
