//! What may stand in settings: sections become configurations, and everything that is wrong is found at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;

use super::deserialize::{one_of, read};
use super::error::SettingsProblem;
use super::node::{Map, Node, Path, Value};
use super::origin::Origin;
use crate::adaptive::AdaptiveTimeoutConfig;
use crate::config::BulkheadConfig;
use crate::dependency::{
    AdaptiveTimeoutSetting, ChaosOverrides, ConfigLevel, DependencyConfig, DependencyDefaults,
    DependencyKind, DependencyOverrides, HedgeOverrides, OperationOverrides, Place, Resolved,
    TimeoutSetting,
};
use crate::error::BuildError;

pub(super) const RESILIENCE: &str = "resilience";
pub(super) const DEPENDENCIES: &str = "external_dependencies";
const TIMEOUTS: &str = "timeouts";
const CIRCUIT_BREAKER: &str = "circuit_breaker";
const HEALTH: &str = "health";
const RETRY: &str = "retry";
const RATE_LIMIT: &str = "rate_limit";
const HEDGE: &str = "hedge";
const CHAOS: &str = "chaos";
/// What cannot stand in settings, and why.
const FALLBACK: &str = "fallback";
const FALLBACK_IS_CODE: &str = "it in the program, with `DependencyPipelineBuilder::fallback`: it answers with a value of the program's \
                                own type, and only the program knows for which calls an answer is right";
/// The sections with rules, which also stand in `resilience`, for all that have one.
const WITH_RULES: [&str; 6] = [CIRCUIT_BREAKER, HEALTH, RETRY, RATE_LIMIT, HEDGE, CHAOS];
const BULKHEADS: &str = "bulkheads";
const OPERATIONS: &str = "operations";
pub(super) const DEFAULT: &str = "default";
pub(super) const DEFAULT_TIMEOUT: &str = "default_timeout";

/// From here on nothing more is looked for.
pub(super) const MAX_PROBLEMS: usize = 1_000;

/// The sections that all environments may have.
pub(super) const SECTIONS: [&str; 2] = [RESILIENCE, DEPENDENCIES];

/// What the settings say.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    pub(super) defaults: DependencyDefaults,
    pub(super) dependencies: BTreeMap<String, DependencyConfig>,
    pub(super) origins: Origins,
}

/// Where each key stands.
#[derive(Clone, Debug, Default)]
pub(super) struct Origins(Option<Arc<Node>>);

impl Origins {
    fn root(&self) -> Option<&Map> {
        as_map(self.0.as_ref()?)
    }

    /// Where the key of a path stands. `None` also where two paths are shown as this one.
    pub(super) fn get(&self, path: &str) -> Option<&Origin> {
        fn inside<'a>(map: &'a Map, path: &str) -> Option<&'a Origin> {
            let mut found = None;
            for (name, entry) in map {
                let shown = [Path::whole(name), Path::shown(&[name])];
                let rest = shown.iter().find_map(|shown| {
                    let rest = path.strip_prefix(&**shown)?;
                    (rest.is_empty() || rest.starts_with('.')).then_some(rest)
                });
                let origin = match rest.map(|rest| rest.strip_prefix('.')) {
                    Some(None) => Some(&entry.key),
                    Some(Some(rest)) => as_map(&entry.node).and_then(|map| inside(map, rest)),
                    None => None,
                };
                if found.is_some() && origin.is_some() {
                    return None;
                }
                found = found.or(origin);
            }
            found
        }
        inside(self.root()?, path)
    }

    fn find(&self, keys: &[String]) -> Option<&Origin> {
        let (first, rest) = keys.split_first()?;
        let mut entry = self.root()?.get(first)?;
        for key in rest {
            entry = as_map(&entry.node)?.get(key)?;
        }
        Some(&entry.key)
    }

    /// Where a setting stands that a level has decided.
    pub(super) fn of_place(&self, place: &Place<'_>) -> Option<&Origin> {
        let keys = keys_of(place)?;
        let exact = self.find(&keys);
        // `circuit_breaker: false` says it of `enabled`.
        exact.or_else(|| self.find(keys.split_last()?.1))
    }
}

fn as_map(node: &Node) -> Option<&Map> {
    match &node.value {
        Value::Map(map) => Some(map),
        _ => None,
    }
}

/// The key of the timeout that holds for a kind.
pub(super) fn timeout_key(kind: DependencyKind) -> String {
    match kind {
        DependencyKind::ExternalApi => "api_call_timeout".to_owned(),
        _ => format!("{kind}_timeout"),
    }
}

/// The keys under which a level says something. `None`: no settings say it.
fn keys_of(place: &Place<'_>) -> Option<Vec<String>> {
    let root = Path::Root;
    let (resilience, dependencies) = (root.key(RESILIENCE), root.key(DEPENDENCIES));
    let timeouts = resilience.key(TIMEOUTS);
    let bulkheads = resilience.key(BULKHEADS);
    let kind_name = place.kind.name();
    let dependency = dependencies.key(place.dependency);
    let operations = dependency.key(OPERATIONS);
    let operation = operations.key(place.operation);
    let section = match (place.level, place.setting, place.rule) {
        (ConfigLevel::Preset | ConfigLevel::BuiltIn, ..) => return None,
        (ConfigLevel::Operation, ..) => operation,
        (ConfigLevel::Dependency, ..) => dependency,
        (ConfigLevel::Kind, "timeout", _) => {
            return Some(timeouts.key(&timeout_key(place.kind)).keys());
        }
        (ConfigLevel::Kind, ..) => bulkheads.key(kind_name),
        (ConfigLevel::Global, "timeout", _) => {
            return Some(timeouts.key(DEFAULT_TIMEOUT).keys());
        }
        (ConfigLevel::Global, setting, _) if WITH_RULES.contains(&setting) => resilience,
        (ConfigLevel::Global, ..) => bulkheads.key(DEFAULT),
    };
    let setting = section.key(place.setting);
    Some(match place.rule {
        Some(rule) => setting.key(rule).keys(),
        None if place.setting.is_empty() => section.keys(),
        None => setting.keys(),
    })
}

/// The configurations that the settings say, or all that is wrong with them.
pub(super) fn interpret(root: &Arc<Node>) -> Result<Content, Vec<SettingsProblem>> {
    let mut reader = Reader::default();
    reader.content.origins = Origins(Some(Arc::clone(root)));
    reader.root(root);
    reader.check_ranges();
    // What is wrong by itself would go with nothing.
    if reader.problems.is_empty() {
        reader.check_together();
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

    fn does_not_stand_here(
        &mut self,
        origin: &Origin,
        path: &Path<'_>,
        expected: impl Into<String>,
    ) {
        self.problem(origin, path, "a key that does not stand here", expected);
    }

    /// A section with policies has no fallback among them.
    fn tell_of_fallback(&mut self, map: &Map, path: &Path<'_>, told: &mut Vec<Vec<String>>) {
        if let Some(entry) = map.get(FALLBACK) {
            let path = path.key(FALLBACK);
            self.does_not_stand_here(&entry.key, &path, FALLBACK_IS_CODE);
            told.push(path.keys());
        }
    }

    fn unknown(&mut self, origin: &Origin, path: &Path<'_>, name: &str, expected: &[&str]) {
        let expected = one_of(name, expected, "`");
        self.problem(origin, path, "a key that is unknown here", expected);
    }

    fn read<'a, T: Deserialize<'a>>(&mut self, node: &'a Node, path: &Path<'_>) -> Option<T> {
        read(node, path, Vec::new(), &mut self.problems)
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
                CIRCUIT_BREAKER => {
                    if let Some(rules) = this.rules(node, &path, "is a circuit breaker") {
                        this.content.defaults.global.circuit_breaker = rules;
                    }
                }
                HEALTH => {
                    if let Some(rules) = this.rules(node, &path, "are health thresholds") {
                        this.content.defaults.global.health = rules;
                    }
                }
                RETRY => {
                    if let Some(rules) = this.rules(node, &path, "is a retry") {
                        this.content.defaults.global.retry = rules;
                    }
                }
                RATE_LIMIT => {
                    if let Some(rules) = this.rules(node, &path, "is a rate limit") {
                        this.content.defaults.global.rate_limit = rules;
                    }
                }
                HEDGE => {
                    if let Some(rules) = this.rules(node, &path, "is a hedge") {
                        this.content.defaults.global.hedge = rules;
                    }
                }
                CHAOS => {
                    if let Some(rules) = this.rules(node, &path, "is chaos") {
                        this.content.defaults.global.chaos = rules;
                    }
                }
                BULKHEADS => this.bulkheads(node, &path),
                FALLBACK => this.does_not_stand_here(key, &path, FALLBACK_IS_CODE),
                _ => {
                    let known = [
                        TIMEOUTS,
                        CIRCUIT_BREAKER,
                        HEALTH,
                        RETRY,
                        RATE_LIMIT,
                        HEDGE,
                        CHAOS,
                        BULKHEADS,
                    ];
                    this.unknown(key, &path, name, &known);
                }
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

    /// The rules for all that have one. That they have one does not stand here.
    fn rules<'a, T: Deserialize<'a>>(
        &mut self,
        node: &'a Node,
        path: &Path<'_>,
        what: &str,
    ) -> Option<T> {
        let enabled = match &node.value {
            Value::Map(map) => map.get("enabled").map(|entry| &entry.key),
            Value::Bool(_) => Some(&node.origin),
            Value::Nothing => return None,
            _ => None,
        };
        let mut told = Vec::new();
        if let Some(origin) = enabled {
            self.problem(
                origin,
                path,
                format!("whether there {what}"),
                "rules alone: that a kind of dependency has one, or none, stands in `resilience.bulkheads`, that a \
                 dependency has one in `external_dependencies`",
            );
            told.push(path.key("enabled").keys());
        }
        read(node, path, told, &mut self.problems)
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
            let mut told = Vec::new();
            for (setting, place) in [
                ("timeout", format!("it as `resilience.timeouts.{timeout}`")),
                (
                    CIRCUIT_BREAKER,
                    "it as `resilience.circuit_breaker`".to_owned(),
                ),
                (HEALTH, "it as `resilience.health`".to_owned()),
                (RETRY, "it as `resilience.retry`".to_owned()),
                (RATE_LIMIT, "it as `resilience.rate_limit`".to_owned()),
                (HEDGE, "it as `resilience.hedge`".to_owned()),
                (CHAOS, "it as `resilience.chaos`".to_owned()),
            ] {
                let stands_elsewhere = setting == "timeout" || kind.is_none();
                if let Some(entry) = map.get(setting).filter(|_| stands_elsewhere) {
                    let path = path.key(setting);
                    this.does_not_stand_here(&entry.key, &path, place);
                    told.push(path.keys());
                }
            }
            this.tell_of_fallback(map, &path, &mut told);
            let read = read::<DependencyOverrides>(node, &path, told, &mut this.problems);
            let Some(read) = read else {
                return;
            };
            let overrides = match kind {
                Some(kind) => this.kind(kind),
                None => &mut this.content.defaults.global,
            };
            let before = std::mem::replace(overrides, read);
            overrides.timeout = before.timeout;
            if kind.is_none() {
                overrides.circuit_breaker = before.circuit_breaker;
                overrides.health = before.health;
                overrides.retry = before.retry;
                overrides.rate_limit = before.rate_limit;
                overrides.hedge = before.hedge;
                overrides.chaos = before.chaos;
            }
        });
    }

    fn dependencies(&mut self, node: &Node, outer: &Path<'_>) {
        self.section(node, outer, |this, name, _, node| {
            let path = outer.key(name);
            let mut told = Vec::new();
            if let Some(map) = as_map(node) {
                this.tell_of_fallback(map, &path, &mut told);
                let path = path.key(OPERATIONS);
                let operations = map.get(OPERATIONS).and_then(|entry| as_map(&entry.node));
                for (operation, entry) in operations.into_iter().flatten() {
                    if let Some(map) = as_map(&entry.node) {
                        this.tell_of_fallback(map, &path.key(operation), &mut told);
                    }
                }
            }
            if let Some(config) = read(node, &path, told, &mut this.problems) {
                this.content.dependencies.insert(name.to_owned(), config);
            }
        });
    }

    /// Whether each value by itself is in range, also one that another level overrides.
    fn check_ranges(&mut self) {
        let Content {
            defaults,
            dependencies,
            origins,
        } = &self.content;
        let mut ranges = Ranges {
            origins,
            problems: &mut self.problems,
        };
        let global = Place {
            level: ConfigLevel::Global,
            ..Place::default()
        };
        ranges.check(&defaults.global, global);
        for (kind, overrides) in &defaults.kinds {
            let place = Place {
                kind: *kind,
                level: ConfigLevel::Kind,
                ..Place::default()
            };
            ranges.check(overrides, place);
        }
        for (name, config) in dependencies {
            let place = Place {
                dependency: name,
                kind: config.kind,
                level: ConfigLevel::Dependency,
                ..Place::default()
            };
            ranges.check_one(BulkheadConfig::new(name).validate(), place);
            ranges.check(&config.overrides, place);
            for (operation, overrides) in &config.operations {
                let place = Place {
                    operation,
                    level: ConfigLevel::Operation,
                    ..place
                };
                ranges.check_limits(overrides.timeout, overrides.queue_timeout, place);
                ranges.check_adaptive(overrides.adaptive_timeout, place);
                ranges.check_rules(RETRY, overrides.retry.wrong_alone(), place);
                ranges.check_rules(HEDGE, overrides.hedge.wrong_alone(), place);
                ranges.check_rules(CHAOS, overrides.chaos.wrong_alone(), place);
            }
        }
    }

    /// Whether the values that hold go together: those of each dependency, and of each kind, also if it has no dependency
    /// yet. Of an operation only hedge and chaos do not go with everything.
    fn check_together(&mut self) {
        let Content {
            defaults,
            dependencies,
            origins,
        } = &self.content;
        let mut problems: Vec<SettingsProblem> = Vec::new();
        let mut check = |name: &str, config: &DependencyConfig| {
            let says_so = |own: &OperationOverrides| {
                own.hedge != HedgeOverrides::default() || own.chaos != ChaosOverrides::default()
            };
            let operations = config
                .operations
                .iter()
                .filter(|(_, own)| says_so(own))
                .map(|(operation, own)| (operation.as_str(), Some(own)));
            for (operation, own) in std::iter::once(("", None)).chain(operations) {
                let resolved = defaults.resolve(config, own);
                if let Err(error) = resolved.validate(name) {
                    let place = Place {
                        dependency: name,
                        kind: config.kind,
                        operation,
                        ..Place::default()
                    };
                    return problems.push(out_of_range(&error, place, &resolved, origins));
                }
            }
        };
        for kind in DependencyKind::ALL {
            check("any", &DependencyConfig::new(kind));
        }
        for (name, config) in dependencies {
            check(name, config);
        }
        problems.truncate(MAX_PROBLEMS);
        self.problems.extend(problems);
    }
}

/// Looks for values that are out of range by themselves.
struct Ranges<'a> {
    origins: &'a Origins,
    problems: &'a mut Vec<SettingsProblem>,
}

impl Ranges<'_> {
    /// The settings of a level, whose place has no setting yet.
    fn check(&mut self, overrides: &DependencyOverrides, place: Place<'_>) {
        let setting = |setting| Place { setting, ..place };
        if let Some(calls) = overrides.max_concurrent_calls {
            let config = smallest().max_concurrent_calls(calls);
            self.check_one(config.validate(), setting("max_concurrent_calls"));
        }
        if let Some(calls) = overrides.max_queue_size {
            let config = smallest().max_queue_size(calls);
            self.check_one(config.validate(), setting("max_queue_size"));
        }
        if let Some(TimeoutSetting::After(limit)) = overrides.idle_timeout {
            let config = smallest().idle_timeout(limit);
            self.check_one(config.validate(), setting("idle_timeout"));
        }
        if let Some(bytes) = overrides.stack_size {
            let config = smallest().stack_size(bytes);
            self.check_one(config.validate(), setting("stack_size"));
        }
        self.check_limits(overrides.timeout, overrides.queue_timeout, place);
        self.check_adaptive(overrides.adaptive_timeout, place);
        let breaker = overrides.circuit_breaker.wrong_alone();
        self.check_rules(CIRCUIT_BREAKER, breaker, place);
        self.check_rules(HEALTH, overrides.health.wrong_alone(), place);
        self.check_rules(RETRY, overrides.retry.wrong_alone(), place);
        self.check_rules(RATE_LIMIT, overrides.rate_limit.wrong_alone(), place);
        self.check_rules(HEDGE, overrides.hedge.wrong_alone(), place);
        self.check_rules(CHAOS, overrides.chaos.wrong_alone(), place);
    }

    fn check_rules(
        &mut self,
        setting: &'static str,
        wrong: Vec<(&'static str, BuildError)>,
        place: Place<'_>,
    ) {
        for (rule, error) in wrong {
            let place = Place {
                setting,
                rule: Some(rule),
                ..place
            };
            self.check_one(Err(error), place);
        }
    }

    fn check_limits(
        &mut self,
        timeout: Option<TimeoutSetting>,
        queue_timeout: Option<TimeoutSetting>,
        place: Place<'_>,
    ) {
        for (setting, limit) in [("timeout", timeout), ("queue_timeout", queue_timeout)] {
            if let Some(TimeoutSetting::After(limit)) = limit {
                let config = smallest().execution_timeout(limit);
                self.check_one(config.validate(), Place { setting, ..place });
            }
        }
    }

    fn check_adaptive(&mut self, adaptive: Option<AdaptiveTimeoutSetting>, place: Place<'_>) {
        let config = adaptive.and_then(AdaptiveTimeoutSetting::config);
        for (number, error) in config.iter().flat_map(AdaptiveTimeoutConfig::wrong) {
            let place = Place {
                setting: "adaptive_timeout",
                rule: Some(number),
                ..place
            };
            self.check_one(Err(error), place);
        }
    }

    fn check_one(&mut self, checked: Result<(), BuildError>, place: Place<'_>) {
        if let Err(error) = checked {
            if self.problems.len() < MAX_PROBLEMS {
                self.problems.push(at(&place, self.origins, &error));
            }
        }
    }
}

/// What goes with any value.
fn smallest() -> BulkheadConfig {
    BulkheadConfig::new("any")
        .max_concurrent_calls(1)
        .max_queue_size(0)
}

/// What a configuration says is out of range, with the place of the level that decided it.
fn out_of_range(
    error: &BuildError,
    place: Place<'_>,
    resolved: &Resolved,
    origins: &Origins,
) -> SettingsProblem {
    let (setting, rule, level) = match error {
        BuildError::InvalidValue { field, .. } => match (*field, resolved.rules.get(field)) {
            (rule, Some(decided)) => (CIRCUIT_BREAKER, Some(rule), decided.level),
            ("max_queue_size", None) => ("max_queue_size", None, resolved.max_queue_size.level),
            // No level says it.
            ("rate_limit.calls", None) => (RATE_LIMIT, None, resolved.has_rate_limit.level),
            ("hedge" | "hedge.delay", None) => (HEDGE, None, resolved.has_hedge.level),
            (field, None) => rule_of(field, resolved),
        },
        _ => ("", None, ConfigLevel::Dependency),
    };
    let place = Place {
        setting,
        rule,
        level,
        ..place
    };
    at(&place, origins, error)
}

/// The rule of a policy that an error names.
fn rule_of(
    field: &'static str,
    resolved: &Resolved,
) -> (&'static str, Option<&'static str>, ConfigLevel) {
    let policies = [
        (RATE_LIMIT, &resolved.rate_limit_rules),
        (CHAOS, &resolved.chaos_rules),
    ];
    let mut found = policies.into_iter().filter_map(|(policy, rules)| {
        let rule = field.strip_prefix(policy)?.strip_prefix('.')?;
        Some((policy, Some(rule), rules.get(rule)?.level))
    });
    found.next().unwrap_or(("", None, ConfigLevel::Dependency))
}

fn at(place: &Place<'_>, origins: &Origins, error: &BuildError) -> SettingsProblem {
    let (found, expected) = match error {
        BuildError::InvalidValue { value, rule, .. } => {
            let rule = rule
                .strip_prefix("must be ")
                .or(rule.strip_prefix("must have "))
                .map(|rule| rule.replace("; leave it out for no limit", "; \"none\" is no limit"))
                .unwrap_or_else(|| format!("something else, since it {rule}"));
            (value.clone(), rule)
        }
        _ => (error.to_string(), "another".to_owned()),
    };
    let nowhere = || Origin::Variable {
        name: Arc::from("?"),
    };
    SettingsProblem {
        origin: origins.of_place(place).cloned().unwrap_or_else(nowhere),
        path: Path::shown(&keys_of(place).unwrap_or_default()),
        found,
        expected,
    }
}
