//! YAML as a tree: from the parser's events, so that duplicate keys are found, and aliases cannot make it grow without bounds.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle};

use super::error::{SettingsError, SettingsProblem};
use super::node::{Entry, MAX_DEPTH, MAX_VALUES, Map, Node, Path, Value};
use super::origin::Origin;
use super::scalar;

/// The tree; `None` if there is none.
pub(super) fn parse(text: &str, path: &Arc<str>) -> Result<Option<Node>, SettingsError> {
    let mut builder = Builder {
        path,
        open: Vec::new(),
        anchors: HashMap::new(),
        values: 0,
        root: None,
    };
    let mut documents = 0;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            let origin = builder.origin(*error.marker());
            builder.syntax(origin, error.info())
        })?;
        let origin = builder.origin(span.start);
        match event {
            Event::DocumentStart(_) => {
                documents += 1;
                if documents > 1 {
                    return Err(
                        builder.syntax(origin, "a second document begins: settings are one")
                    );
                }
            }
            Event::Alias(anchor) => builder.alias(anchor, origin)?,
            Event::Scalar(text, style, anchor, tag) => {
                builder.no_tag(tag.is_some(), &origin)?;
                builder.scalar(text.into_owned(), style, anchor, origin)?;
            }
            Event::SequenceStart(anchor, tag) => {
                builder.no_tag(tag.is_some(), &origin)?;
                builder.begin(Collection::List(Vec::new()), anchor, origin)?;
            }
            Event::MappingStart(anchor, tag) => {
                builder.no_tag(tag.is_some(), &origin)?;
                let map = Collection::Map(BTreeMap::new(), None);
                builder.begin(map, anchor, origin)?;
            }
            Event::SequenceEnd | Event::MappingEnd => builder.end()?,
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
    }
    Ok(builder.root.map(|root| Arc::unwrap_or_clone(root.node)))
}

struct Builder<'a> {
    path: &'a Arc<str>,
    /// The sections and lists that have begun and not ended, the innermost last.
    open: Vec<Open>,
    anchors: HashMap<usize, Counted>,
    /// How many values there are so far, those behind aliases as often as they are used.
    values: usize,
    root: Option<Counted>,
}

/// A value, and how large it is.
#[derive(Clone)]
struct Counted {
    node: Arc<Node>,
    /// Itself and those inside.
    values: usize,
    /// How many are inside each other.
    depth: usize,
}

struct Open {
    collection: Collection,
    anchor: usize,
    origin: Origin,
    values: usize,
    depth: usize,
}

enum Collection {
    List(Vec<Arc<Node>>),
    /// And the key whose value comes next.
    Map(Map, Option<(String, Origin)>),
}

impl Builder<'_> {
    fn origin(&self, marker: Marker) -> Origin {
        Origin::File {
            path: Arc::clone(self.path),
            line: marker.line().max(1),
            column: marker.col() + 1,
        }
    }

    fn syntax(&self, origin: Origin, message: &str) -> SettingsError {
        let message = message.to_owned();
        SettingsError::Syntax { origin, message }
    }

    fn no_tag(&self, has_tag: bool, origin: &Origin) -> Result<(), SettingsError> {
        if has_tag {
            return Err(self.syntax(origin.clone(), "settings have no tags"));
        }
        Ok(())
    }

    /// Whether the next value is the key of a section.
    fn wants_key(&self) -> bool {
        matches!(
            self.open.last(),
            Some(Open {
                collection: Collection::Map(_, None),
                ..
            })
        )
    }

    fn count(&mut self, values: usize, origin: &Origin) -> Result<(), SettingsError> {
        self.values = self.values.saturating_add(values);
        if self.values > MAX_VALUES {
            return Err(SettingsError::TooMuch {
                origin: origin.clone(),
                what: format!(
                    "more than {MAX_VALUES} values, if each alias counts as what it stands for"
                ),
            });
        }
        Ok(())
    }

    fn scalar(
        &mut self,
        text: String,
        style: ScalarStyle,
        anchor: usize,
        origin: Origin,
    ) -> Result<(), SettingsError> {
        if self.wants_key() {
            return self.key(text, origin);
        }
        let value = match style {
            ScalarStyle::Plain => scalar::plain(&text),
            _ => Value::Text(text),
        };
        self.count(1, &origin)?;
        let node = Arc::new(Node { value, origin });
        let counted = Counted {
            node,
            values: 1,
            depth: 0,
        };
        self.put(counted, anchor);
        Ok(())
    }

    fn key(&mut self, name: String, origin: Origin) -> Result<(), SettingsError> {
        let Some(Open {
            collection: Collection::Map(map, next),
            ..
        }) = self.open.last_mut()
        else {
            return Ok(());
        };
        let Some(first) = map.get(&name) else {
            *next = Some((name, origin));
            return Ok(());
        };
        let found = format!("the same key again, first in {}", first.key);
        let problem = SettingsProblem {
            origin,
            path: self.path_to(&name),
            found,
            expected: "each key once".to_owned(),
        };
        Err(SettingsError::Invalid {
            problems: vec![problem],
        })
    }

    /// The path of keys to a key in the innermost section.
    fn path_to(&self, name: &str) -> String {
        fn join(path: &Path<'_>, mut rest: std::slice::Iter<'_, Open>, name: &str) -> String {
            match rest.next().map(|open| &open.collection) {
                None => path.key(name).to_string(),
                Some(Collection::Map(_, Some((outer, _)))) => join(&path.key(outer), rest, name),
                Some(_) => join(path, rest, name),
            }
        }
        join(&Path::Root, self.open.iter(), name)
    }

    fn alias(&mut self, anchor: usize, origin: Origin) -> Result<(), SettingsError> {
        if self.wants_key() {
            return Err(self.syntax(origin, "an alias stands where a key is expected"));
        }
        let Some(counted) = self.anchors.get(&anchor).cloned() else {
            return Err(self.syntax(
                origin,
                "an alias stands for a key, or for a value around itself",
            ));
        };
        self.count(counted.values, &origin)?;
        self.check_depth(counted.depth, &origin)?;
        self.put(counted, 0);
        Ok(())
    }

    fn begin(
        &mut self,
        collection: Collection,
        anchor: usize,
        origin: Origin,
    ) -> Result<(), SettingsError> {
        if self.wants_key() {
            return Err(self.syntax(origin, "a section or a list stands where a key is expected"));
        }
        self.count(1, &origin)?;
        self.check_depth(1, &origin)?;
        self.open.push(Open {
            collection,
            anchor,
            origin,
            values: 1,
            depth: 1,
        });
        Ok(())
    }

    /// Whether something of this depth may stand here.
    fn check_depth(&self, depth: usize, origin: &Origin) -> Result<(), SettingsError> {
        if self.open.len() + depth > MAX_DEPTH {
            return Err(SettingsError::TooMuch {
                origin: origin.clone(),
                what: format!("more than {MAX_DEPTH} sections and lists inside each other"),
            });
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), SettingsError> {
        let Some(open) = self.open.pop() else {
            return Ok(());
        };
        let value = match open.collection {
            Collection::List(items) => Value::List(items),
            Collection::Map(map, _) => Value::Map(map),
        };
        let origin = open.origin;
        let node = Arc::new(Node { value, origin });
        let counted = Counted {
            node,
            values: open.values,
            depth: open.depth,
        };
        self.put(counted, open.anchor);
        Ok(())
    }

    /// Puts a whole value where it belongs.
    fn put(&mut self, counted: Counted, anchor: usize) {
        if anchor != 0 {
            self.anchors.insert(anchor, counted.clone());
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(counted);
            return;
        };
        let Counted {
            node,
            values,
            depth,
        } = counted;
        open.values = open.values.saturating_add(values);
        open.depth = open.depth.max(depth + 1);
        match &mut open.collection {
            Collection::List(items) => items.push(node),
            Collection::Map(map, next) => {
                if let Some((name, key)) = next.take() {
                    map.insert(name, Entry { key, node });
                }
            }
        }
    }
}
