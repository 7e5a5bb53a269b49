//! What may stand in settings: sections become configurations, and everything that is wrong is found at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;

use super::deserialize::{one_of, read};
use super::error::SettingsProblem;
use super::node::{Map, Node, Path, Value};
use super::origin::Origin;
use crate::dependency::{
    ConfigLevel, DependencyConfig, DependencyDefaults, DependencyKind, DependencyOverrides, Place,
    TimeoutSetting,
};
use crate::error::BuildError;

pub(super) const RESILIENCE: &str = "resilience";
pub(super) const DEPENDENCIES: &str = "external_dependencies";
const TIMEOUTS: &str = "timeouts";
const CIRCUIT_BREAKER: &str = "circuit_breaker";
const BULKHEADS: &str = "bulkheads";
const DEFAULT: &str = "default";
const DEFAULT_TIMEOUT: &str = "default_timeout";

/// From here on nothing more is looked for.
const MAX_PROBLEMS: usize = 1_000;

/// The sections that all environments may have.
pub(super) const SECTIONS: [&str; 2] = [RESILIENCE, DEPENDENCIES];

/// What the settings say.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    pub(super) defaults: DependencyDefaults,
    pub(super) dependencies: BTreeMap<String, DependencyConfig>,
    pub(super) origins: Origins,
}

/// Where each key stands, by its path.
#[derive(Clone, Debug, Default)]
pub(super) struct Origins(BTreeMap<String, Origin>);

impl Origins {
    pub(super) fn get(&self, path: &str) -> Option<&Origin> {
        self.0.get(path)
    }

    fn of(root: &Node) -> Self {
        fn collect(map: &Map, path: &Path<'_>, into: &mut BTreeMap<String, Origin>) {
            for (name, entry) in map {
                let path = path.key(name);
                into.insert(path.to_string(), entry.key.clone());
                if let Value::Map(map) = &entry.node.value {
                    collect(map, &path, into);
                }
            }
        }
        let mut origins = BTreeMap::new();
        if let Value::Map(map) = &root.value {
            collect(map, &Path::Root, &mut origins);
        }
        Self(origins)
    }

    /// Where a setting stands that a level has decided.
    pub(super) fn of_place(&self, place: &Place<'_>) -> Option<&Origin> {
        let path = path_of(place)?;
        let exact = self.get(&path);
        // `circuit_breaker: false` says it of `enabled`.
        exact.or_else(|| self.get(path.rsplit_once('.')?.0))
    }
}

/// The key of the timeout that holds for a kind.
fn timeout_key(kind: DependencyKind) -> String {
    match kind {
        DependencyKind::ExternalApi => "api_call_timeout".to_owned(),
        _ => format!("{kind}_timeout"),
    }
}

/// The path of keys under which a level says something. `None`: no settings say it.
fn path_of(place: &Place<'_>) -> Option<String> {
    let root = Path::Root;
    let (resilience, dependencies) = (root.key(RESILIENCE), root.key(DEPENDENCIES));
    let timeouts = resilience.key(TIMEOUTS);
    let bulkheads = resilience.key(BULKHEADS);
    let kind_name = place.kind.name();
    let dependency = dependencies.key(place.dependency);
    let operations = dependency.key("operations");
    let operation = operations.key(place.operation);
    let section = match (place.level, place.setting, place.rule) {
        (ConfigLevel::Preset | ConfigLevel::BuiltIn, ..) => return None,
        (ConfigLevel::Operation, ..) => operation,
        (ConfigLevel::Dependency, ..) => dependency,
        (ConfigLevel::Kind, "timeout", _) => {
            return Some(timeouts.key(&timeout_key(place.kind)).to_string());
        }
        (ConfigLevel::Kind, ..) => bulkheads.key(kind_name),
        (ConfigLevel::Global, "timeout", _) => {
            return Some(timeouts.key(DEFAULT_TIMEOUT).to_string());
        }
        (ConfigLevel::Global, CIRCUIT_BREAKER, Some(_)) => resilience,
        (ConfigLevel::Global, ..) => bulkheads.key(DEFAULT),
    };
    let setting = section.key(place.setting);
    Some(match place.rule {
        Some(rule) => setting.key(rule).to_string(),
        None => setting.to_string(),
    })
}

/// The configurations that the settings say, or all that is wrong with them.
pub(super) fn interpret(root: &Node) -> Result<Content, Vec<SettingsProblem>> {
    let mut reader = Reader::default();
    reader.root(root);
    // A value that is out of range is only looked for where all could be read.
    if reader.problems.is_empty() {
        reader.content.origins = Origins::of(root);
        reader.check_ranges();
    }
    if reader.problems.is_empty() {
        Ok(reader.content)
    } else {
        Err(reader.problems)
    }
}

#[derive(Default)]
struct Reader {
    content: Content,
    problems: Vec<SettingsProblem>,
}

impl Reader {
    /// Calls `each` for every key of a section. A key without a value is an empty section.
    fn section(
        &mut self,
        node: &Node,
        path: &Path<'_>,
        mut each: impl FnMut(&mut Self, &str, &Origin, &Node),
    ) {
        match &node.value {
            Value::Map(map) => {
                for (name, entry) in map {
                    if self.problems.len() < MAX_PROBLEMS {
                        each(self, name, &entry.key, &entry.node);
                    }
                }
            }
            Value::Nothing => {}
            _ => self.problem(&node.origin, path, node.found(), "a section"),
        }
    }

    fn problem(
        &mut self,
        origin: &Origin,
        path: &Path<'_>,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) {
        self.problems.push(SettingsProblem {
            origin: origin.clone(),
            path: path.to_string(),
            found: found.into(),
            expected: expected.into(),
        });
    }

    fn unknown(&mut self, origin: &Origin, path: &Path<'_>, name: &str, expected: &[&str]) {
        let expected = one_of(name, expected, "`");
        self.problem(origin, path, "a key that is unknown here", expected);
    }

    fn read<'a, T: Deserialize<'a>>(&mut self, node: &'a Node, path: &Path<'_>) -> Option<T> {
        match read(node, path) {
            Ok(value) => Some(value),
            Err(problem) => {
                self.problems.push(problem);
                None
            }
        }
    }

    fn root(&mut self, root: &Node) {
        let outer = Path::Root;
        self.section(root, &outer, |this, name, key, node| {
            let path = outer.key(name);
            match name {
                RESILIENCE => this.resilience(node, &path),
                DEPENDENCIES => this.dependencies(node, &path),
                _ => this.unknown(key, &path, name, &SECTIONS),
            }
        });
    }

    fn resilience(&mut self, node: &Node, outer: &Path<'_>) {
        self.section(node, outer, |this, name, key, node| {
            let path = outer.key(name);
            match name {
                TIMEOUTS => this.timeouts(node, &path),
                CIRCUIT_BREAKER => this.circuit_breaker(node, &path),
                BULKHEADS => this.bulkheads(node, &path),
                _ => this.unknown(key, &path, name, &[TIMEOUTS, CIRCUIT_BREAKER, BULKHEADS]),
            }
        });
    }

    fn timeouts(&mut self, node: &Node, outer: &Path<'_>) {
        let keys = DependencyKind::ALL.map(timeout_key);
        self.section(node, outer, |this, name, key, node| {
            let path = outer.key(name);
            let kind = keys.iter().position(|key| key == name);
            if kind.is_none() && name != DEFAULT_TIMEOUT {
                let known: Vec<&str> = std::iter::once(DEFAULT_TIMEOUT)
                    .chain(keys.iter().map(String::as_str))
                    .collect();
                return this.unknown(key, &path, name, &known);
            }
            let timeout: Option<TimeoutSetting> = this.read(node, &path);
            let overrides = match kind {
                Some(kind) => this.kind(DependencyKind::ALL[kind]),
                None => &mut this.content.defaults.global,
            };
            overrides.timeout = timeout;
        });
    }

    fn kind(&mut self, kind: DependencyKind) -> &mut DependencyOverrides {
        self.content.defaults.kinds.entry(kind).or_default()
    }

    fn circuit_breaker(&mut self, node: &Node, path: &Path<'_>) {
        let enabled = match &node.value {
            Value::Map(map) => map.get("enabled").map(|entry| &entry.key),
            Value::Bool(_) => Some(&node.origin),
            Value::Nothing => return,
            _ => None,
        };
        if let Some(origin) = enabled {
            return self.problem(
                origin,
                path,
                "whether there is a circuit breaker",
                "rules alone: that a kind of dependency has one, or none, stands in `resilience.bulkheads`, that a \
                 dependency has one in `external_dependencies`",
            );
        }
        if let Some(rules) = self.read(node, path) {
            self.content.defaults.global.circuit_breaker = rules;
        }
    }

    fn bulkheads(&mut self, node: &Node, outer: &Path<'_>) {
        self.section(node, outer, |this, name, key, node| {
            let path = outer.key(name);
            let kind = name.parse::<DependencyKind>().ok();
            if kind.is_none() && name != DEFAULT {
                let known: Vec<&str> = std::iter::once(DEFAULT)
                    .chain(DependencyKind::NAMES)
                    .collect();
                return this.unknown(key, &path, name, &known);
            }
            let Value::Map(map) = &node.value else {
                // It is a problem, unless it is an empty section.
                return this.section(node, &path, |_, _, _, _| {});
            };
            let timeout = kind.map_or(DEFAULT_TIMEOUT.to_owned(), timeout_key);
            for (setting, place) in [
                ("timeout", format!("it as `resilience.timeouts.{timeout}`")),
                (
                    CIRCUIT_BREAKER,
                    "it as `resilience.circuit_breaker`".to_owned(),
                ),
            ] {
                let stands_elsewhere = setting == "timeout" || kind.is_none();
                if let Some(entry) = map.get(setting).filter(|_| stands_elsewhere) {
                    let path = path.key(setting);
                    return this.problem(
                        &entry.key,
                        &path,
                        "a key that does not stand here",
                        place,
                    );
                }
            }
            let Some(read) = this.read::<DependencyOverrides>(node, &path) else {
                return;
            };
            let overrides = match kind {
                Some(kind) => this.kind(kind),
                None => &mut this.content.defaults.global,
            };
            let (timeout, rules) = (overrides.timeout, overrides.circuit_breaker.clone());
            *overrides = read;
            overrides.timeout = timeout;
            if kind.is_none() {
                overrides.circuit_breaker = rules;
            }
        });
    }

    fn dependencies(&mut self, node: &Node, outer: &Path<'_>) {
        self.section(node, outer, |this, name, _, node| {
            if let Some(config) = this.read(node, &outer.key(name)) {
                this.content.dependencies.insert(name.to_owned(), config);
            }
        });
    }

    /// Whether all values are in range: those of each dependency and operation, and of each kind, also if it has no
    /// dependency yet.
    fn check_ranges(&mut self) {
        let Content {
            defaults,
            dependencies,
            origins,
        } = &self.content;
        let mut problems: Vec<SettingsProblem> = Vec::new();
        let mut check = |name: &str, config: &DependencyConfig, operation: Option<&str>| {
            let overrides = operation.and_then(|operation| config.operations.get(operation));
            let resolved = defaults.resolve(config, overrides);
            // The dependency's own check has seen the name.
            let checked_name = operation.map_or(name, |_| "any");
            let Err(error) = resolved.bulkhead_config(checked_name).validate() else {
                return;
            };
            let place = Place {
                dependency: name,
                kind: config.kind,
                operation: operation.unwrap_or_default(),
                ..Place::default()
            };
            problems.push(out_of_range(&error, place, &resolved, origins));
        };
        for kind in DependencyKind::ALL {
            check("any", &DependencyConfig::new(kind), None);
        }
        for (name, config) in dependencies {
            check(name, config, None);
            for operation in config.operations.keys() {
                check(name, config, Some(operation));
            }
        }
        self.problems.extend(problems);
    }
}

/// What a configuration says is out of range, with the place of the level that decided it.
fn out_of_range(
    error: &BuildError,
    place: Place<'_>,
    resolved: &crate::dependency::Resolved,
    origins: &Origins,
) -> SettingsProblem {
    let BuildError::InvalidValue {
        field, value, rule, ..
    } = error
    else {
        return at(&place, origins, error.to_string(), "another".to_owned());
    };
    let place = match *field {
        "max_concurrent_calls" => Place {
            setting: "max_concurrent_calls",
            level: resolved.max_concurrent_calls.level,
            ..place
        },
        "max_queue_size" => Place {
            setting: "max_queue_size",
            level: resolved.max_queue_size.level,
            ..place
        },
        "execution_timeout" => Place {
            setting: "timeout",
            level: resolved.timeout.level,
            ..place
        },
        "queue_timeout" => Place {
            setting: "queue_timeout",
            level: resolved.queue_timeout.level,
            ..place
        },
        rule => match resolved.rules.get(rule) {
            Some(decided) => Place {
                setting: CIRCUIT_BREAKER,
                rule: Some(rule),
                level: decided.level,
                ..place
            },
            // The name itself.
            None => Place {
                level: ConfigLevel::Dependency,
                ..place
            },
        },
    };
    let rule = match rule
        .strip_prefix("must be ")
        .or(rule.strip_prefix("must have "))
    {
        Some(rule) => rule.replace("; leave it out for no limit", "; \"none\" is no limit"),
        None => format!("something else, since it {rule}"),
    };
    at(&place, origins, value.clone(), rule)
}

fn at(place: &Place<'_>, origins: &Origins, found: String, expected: String) -> SettingsProblem {
    let path = match place.setting {
        "" => Path::Root
            .key(DEPENDENCIES)
            .key(place.dependency)
            .to_string(),
        _ => path_of(place).unwrap_or_default(),
    };
    let nowhere = || Origin::Variable {
        name: Arc::from("?"),
    };
    let origin = origins.get(&path).cloned();
    SettingsProblem {
        origin: origin
            .or_else(|| origins.of_place(place).cloned())
            .unwrap_or_else(nowhere),
        path,
        found,
        expected,
    }
}
