//! Variables of the environment, which lie over everything else.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::Arc;

use super::error::SettingsProblem;
use super::node::{Entry, MAX_DEPTH, Map, Node, Value, quoted};
use super::origin::Origin;
use super::scalar;

/// Between the keys of a path, since keys have single ones.
const SEPARATOR: &str = "__";

/// The variable that chooses the environment, where the program does not.
pub(super) const ENVIRONMENT: &str = "ENVIRONMENT";

/// A variable, and the tree that it says.
pub(super) struct Variables {
    pub(super) trees: Vec<Arc<Node>>,
    pub(super) environment: Option<String>,
}

/// Reads those that begin with `prefix`. `settings`: what the variables lie over; a name there may be written in another
/// way, as `USER_DB` for `user-db`.
pub(super) fn read(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
    prefix: &str,
    settings: &Node,
) -> Result<Variables, Vec<SettingsProblem>> {
    let mut problems = Vec::new();
    // In the order of their names, so that errors are too.
    let mut paths: BTreeMap<Vec<String>, Arc<str>> = BTreeMap::new();
    let mut read = Variables {
        trees: Vec::new(),
        environment: None,
    };
    let mut ours: Vec<(String, OsString)> = Vec::new();
    for (name, value) in variables {
        if !name.as_encoded_bytes().starts_with(prefix.as_bytes()) {
            continue;
        }
        match name.into_string() {
            Ok(name) => ours.push((name, value)),
            Err(name) => problems.push(SettingsProblem {
                origin: Origin::Variable {
                    name: name.to_string_lossy().into(),
                },
                path: String::new(),
                found: "a name with bytes that are not UTF-8".to_owned(),
                expected: "keys with two underscores between them".to_owned(),
            }),
        }
    }
    ours.sort();
    for (name, value) in ours {
        let keys = &name[prefix.len()..];
        let name: Arc<str> = name.as_str().into();
        let origin = Origin::Variable {
            name: Arc::clone(&name),
        };
        let problem = |found: String, expected: &str| SettingsProblem {
            origin: origin.clone(),
            path: String::new(),
            found,
            expected: expected.to_owned(),
        };
        let Ok(value) = value.into_string() else {
            problems.push(problem("bytes that are not UTF-8".to_owned(), "text"));
            continue;
        };
        if keys == ENVIRONMENT {
            read.environment = Some(value);
            continue;
        }
        let keys: Vec<&str> = keys.split(SEPARATOR).collect();
        if keys.iter().any(|key| key.is_empty()) || keys.len() > MAX_DEPTH {
            let found = format!("the path of keys {}", quoted(&keys.join(SEPARATOR)));
            problems.push(problem(found, "keys with two underscores between them"));
            continue;
        }
        let path = match spelled(&keys, settings) {
            Ok(path) => path,
            Err(found) => {
                problems.push(problem(found, "one"));
                continue;
            }
        };
        if let Some(first) = paths.get(&path) {
            let found = format!("the same key as in variable {first}");
            problems.push(problem(found, "each key once"));
            continue;
        }
        let value = match scalar::plain(&value) {
            Value::Nothing => Value::Text(value),
            plain => plain,
        };
        let leaf = Arc::new(Node {
            value,
            origin: origin.clone(),
        });
        let tree = path.iter().rev().fold(leaf, |node, key| {
            let entry = Entry {
                key: origin.clone(),
                node,
            };
            Arc::new(Node {
                value: Value::Map(Map::from([(key.clone(), entry)])),
                origin: origin.clone(),
            })
        });
        read.trees.push(tree);
        paths.insert(path, name);
    }
    // The keys inside of a section come directly after it.
    for ((outer, name), (inner, other)) in paths.iter().zip(paths.iter().skip(1)) {
        if inner.starts_with(outer) {
            problems.push(SettingsProblem {
                origin: Origin::Variable {
                    name: Arc::clone(name),
                },
                path: String::new(),
                found: format!("a value for the section in which variable {other} sets a key"),
                expected: "one of the two variables".to_owned(),
            });
        }
    }
    if problems.is_empty() {
        Ok(read)
    } else {
        Err(problems)
    }
}

/// The keys as the settings spell them, and in lower case where they have none.
fn spelled(keys: &[&str], settings: &Node) -> Result<Vec<String>, String> {
    let mut here = Some(settings);
    let mut path = Vec::new();
    for key in keys {
        let map = match here.map(|node| &node.value) {
            Some(Value::Map(map)) => Some(map),
            _ => None,
        };
        let alike: Vec<&String> = map
            .into_iter()
            .flat_map(Map::keys)
            .filter(|name| plain(name) == plain(key))
            .collect();
        let name = match alike[..] {
            [] => key.to_lowercase(),
            [name] => name.clone(),
            [first, second, ..] => {
                return Err(format!("a name that means both `{first}` and `{second}`"));
            }
        };
        here = map.and_then(|map| map.get(&name)).map(|entry| &*entry.node);
        path.push(name);
    }
    Ok(path)
}

/// `user-db`, `user.db` and `USER_DB` are the same here.
fn plain(name: &str) -> String {
    let plain = |c: char| if c.is_alphanumeric() { c } else { '_' };
    name.to_lowercase().chars().map(plain).collect()
}
