//! Settings, and how they are loaded: file, environment's section, variables.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use super::error::{SettingsError, SettingsProblem};
use super::node::{Entry, MAX_ENVIRONMENTS, MAX_VALUES_OF_ALL, Map, Node, Path, Value};
use super::origin::Origin;
use super::schema::{self, Content, MAX_PROBLEMS, Origins, SECTIONS};
use super::source::{self, Format};
use super::variables::{self, Variables};
use crate::dependency::did_you_mean::nearest;
use crate::dependency::{DependencyConfig, DependencyDefaults};

/// Settings that were loaded, and are all in range: defaults, and dependencies by name.
///
/// The [module](super) has the schema.
///
/// ```
/// use bulkman::settings::{Format, Settings};
/// use bulkman::{Dependencies, DependencyKind};
/// use std::time::Duration;
///
/// let text = r#"
///     [resilience.timeouts]
///     database_timeout = "5s"
///
///     [external_dependencies.user_db]
///     kind = "database"
///
///     [production.external_dependencies.user_db]
///     max_concurrent_calls = 40
/// "#;
/// let settings = Settings::from_text(text, Format::Toml)
///     .environment("production")
///     .load()?;
/// assert_eq!(settings.dependencies()["user_db"].kind, DependencyKind::Database);
///
/// let dependencies = Dependencies::from_settings(&settings)?;
/// let explained = dependencies.explain("user_db", "get_user")?;
/// assert_eq!(explained.timeout.value.limit(), Some(Duration::from_secs(5)));
/// assert_eq!(explained.max_concurrent_calls.value, 40);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Settings {
    content: Arc<Content>,
    environment: Option<String>,
}

impl Settings {
    /// For settings in a file.
    pub fn from_path(path: impl AsRef<FilePath>) -> SettingsLoader {
        SettingsLoader::new(Source::File(path.as_ref().to_owned()))
    }

    /// For settings in a text.
    pub fn from_text(text: impl Into<String>, format: Format) -> SettingsLoader {
        SettingsLoader::new(Source::Text(text.into())).format(format)
    }

    /// What holds for all dependencies, and for those of a kind.
    #[must_use]
    pub fn defaults(&self) -> &DependencyDefaults {
        &self.content.defaults
    }

    /// The dependencies, by name.
    #[must_use]
    pub fn dependencies(&self) -> &BTreeMap<String, DependencyConfig> {
        &self.content.dependencies
    }

    /// The environment whose section was laid over the others.
    #[must_use]
    pub fn environment(&self) -> Option<&str> {
        self.environment.as_deref()
    }

    /// Where the key of a path stands, such as `resilience.timeouts.default_timeout`.
    #[must_use]
    pub fn origin(&self, path: &str) -> Option<&Origin> {
        self.content.origins.get(path)
    }

    /// That come from no file.
    pub(super) fn of_data(content: Content) -> Self {
        let content = Content {
            origins: Origins::default(),
            ..content
        };
        Self {
            content: Arc::new(content),
            environment: None,
        }
    }

    pub(super) fn content(&self) -> &Arc<Content> {
        &self.content
    }
}

/// Loads [`Settings`], from [`Settings::from_path`] or [`Settings::from_text`].
#[must_use = "nothing is loaded until `load`"]
#[derive(Clone)]
pub struct SettingsLoader {
    source: Source,
    format: Option<Format>,
    environment: Option<String>,
    may_lack_environment: bool,
    variables: Given,
    prefix: String,
    size_limit: u64,
}

#[derive(Clone)]
enum Source {
    File(PathBuf),
    Text(String),
}

#[derive(Clone)]
enum Given {
    Process,
    These(Vec<(OsString, OsString)>),
}

impl SettingsLoader {
    /// The most bytes of a file by default: 1 MiB.
    pub const SIZE_LIMIT: u64 = 1 << 20;

    fn new(source: Source) -> Self {
        Self {
            source,
            format: None,
            environment: None,
            may_lack_environment: false,
            variables: Given::Process,
            prefix: "BULKMAN_".to_owned(),
            size_limit: Self::SIZE_LIMIT,
        }
    }

    /// Lays the section of this environment over the others. Default: what the variable `BULKMAN_ENVIRONMENT` says, and
    /// else no section. It is an error if there is no such section, unless
    /// [`environment_may_be_missing`](Self::environment_may_be_missing).
    pub fn environment(mut self, name: impl Into<String>) -> Self {
        self.environment = Some(name.into());
        self
    }

    /// Takes the settings as they are if no section has the name of the environment.
    pub fn environment_may_be_missing(mut self) -> Self {
        self.may_lack_environment = true;
        self
    }

    /// Sets the format. Default: by the ending of the file's name.
    pub fn format(mut self, format: Format) -> Self {
        self.format = Some(format);
        self
    }

    /// Takes these variables in place of the process's.
    pub fn variables<N, V>(mut self, variables: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: Into<OsString>,
        V: Into<OsString>,
    {
        let variables = variables.into_iter();
        let variables = variables.map(|(name, value)| (name.into(), value.into()));
        self.variables = Given::These(variables.collect());
        self
    }

    /// Takes no variables.
    pub fn without_variables(mut self) -> Self {
        self.variables = Given::These(Vec::new());
        self
    }

    /// Sets what the names of variables begin with. Default `BULKMAN_`.
    pub fn variable_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Sets the most bytes that a file may have. Default [`SIZE_LIMIT`](Self::SIZE_LIMIT).
    pub fn size_limit(mut self, bytes: u64) -> Self {
        self.size_limit = bytes;
        self
    }

    /// Reads everything, and checks every value.
    ///
    /// # Errors
    ///
    /// [`SettingsError`]. Keys and values that are wrong, in whichever environment's section, are reported together.
    pub fn load(self) -> Result<Settings, SettingsError> {
        let (text, format, path): (_, _, Arc<str>) = match &self.source {
            Source::File(path) => {
                let format = self.format.map_or_else(|| Format::of(path), Ok)?;
                let text = source::read(path, self.size_limit)?;
                (text, format, path.to_string_lossy().into())
            }
            Source::Text(text) => {
                let format = self.format.unwrap_or(Format::Toml);
                (text.clone(), format, "text".into())
            }
        };
        let root = source::parse(&text, format, &path)?;
        let mut layers = Layers::of(root)?;
        let mut problems = std::mem::take(&mut layers.problems);
        let Variables { trees, environment } = match self.variables {
            Given::Process => variables::read(std::env::vars_os(), &self.prefix, &layers.all),
            Given::These(variables) => variables::read(variables, &self.prefix, &layers.all),
        }
        .map_err(|problems| SettingsError::Invalid { problems })?;
        let environment = self.environment.or(environment);
        let chosen = match &environment {
            None => None,
            Some(name) => match layers.environments.get(name) {
                Some(entry) => Some(&entry.node),
                None if self.may_lack_environment || !problems.is_empty() => None,
                None => return Err(layers.unknown(name, path)),
            },
        };
        let on_top = |base: &Arc<Node>| {
            trees
                .iter()
                .fold(Arc::clone(base), |below, tree| Node::overlaid(&below, tree))
        };
        // The other environments are read too: a slip in `production` is found in `testing`.
        for entry in layers.environments.values() {
            let is_chosen = chosen.is_some_and(|chosen| Arc::ptr_eq(chosen, &entry.node));
            if !is_chosen && problems.len() < MAX_PROBLEMS {
                let merged = Node::overlaid(&layers.base, &entry.node);
                problems.extend(schema::interpret(&merged).err().unwrap_or_default());
            }
        }
        let merged = match chosen {
            Some(section) => on_top(&Node::overlaid(&layers.base, section)),
            None => on_top(&layers.base),
        };
        match schema::interpret(&merged) {
            Ok(content) if problems.is_empty() => Ok(Settings {
                content: Arc::new(content),
                environment,
            }),
            result => {
                let mut all = result.err().unwrap_or_default();
                all.append(&mut problems);
                Err(SettingsError::Invalid {
                    problems: in_order(all),
                })
            }
        }
    }
}

/// In the order of the file, and each once: what stands in the base is wrong in every environment, and what a kind says is
/// wrong for all its dependencies.
fn in_order(mut problems: Vec<SettingsProblem>) -> Vec<SettingsProblem> {
    let place = |problem: &SettingsProblem| match &problem.origin {
        Origin::File { line, column, .. } => (*line, *column),
        Origin::Data | Origin::Variable { .. } => (usize::MAX, 0),
    };
    problems.sort_by(|a, b| {
        let rest = |problem: &SettingsProblem| (problem.path.clone(), problem.found.clone());
        place(a).cmp(&place(b)).then_with(|| rest(a).cmp(&rest(b)))
    });
    problems.dedup();
    problems
}

/// What holds in all environments, and what lies over it in each.
struct Layers {
    /// Everything together, for the spelling of names.
    all: Arc<Node>,
    base: Arc<Node>,
    environments: Map,
    /// The sections that are unknown.
    problems: Vec<SettingsProblem>,
}

impl Layers {
    fn of(root: Node) -> Result<Self, SettingsError> {
        let Value::Map(map) = root.value else {
            let problem = SettingsProblem {
                found: root.found(),
                origin: root.origin,
                path: String::new(),
                expected: format!("the sections `{}` and `{}`", SECTIONS[0], SECTIONS[1]),
            };
            return Err(SettingsError::Invalid {
                problems: vec![problem],
            });
        };
        let (base, others): (Map, Map) = map
            .into_iter()
            .partition(|(name, _)| SECTIONS.contains(&name.as_str()));
        let (environments, unknown): (Map, Map) = others
            .into_iter()
            .partition(|(_, entry)| is_environment(&entry.node));
        let problems = unknown
            .iter()
            .flat_map(|(name, entry)| unknown_section(name, entry))
            .take(MAX_PROBLEMS)
            .collect();
        if environments.len() > MAX_ENVIRONMENTS {
            return Err(SettingsError::TooMuch {
                origin: root.origin,
                what: format!("more than {MAX_ENVIRONMENTS} environments"),
            });
        }
        let origin = root.origin;
        let value = Value::Map(base);
        let base = Arc::new(Node { value, origin });
        let sections: usize = environments.values().map(|entry| entry.node.values()).sum();
        if base.values() * (environments.len() + 1) + sections > MAX_VALUES_OF_ALL {
            return Err(SettingsError::TooMuch {
                origin: base.origin.clone(),
                what: format!(
                    "more than {MAX_VALUES_OF_ALL} values in all environments, each of which has those of the base too"
                ),
            });
        }
        let all = environments.values().fold(Arc::clone(&base), |all, entry| {
            Node::overlaid(&all, &as_section(&entry.node))
        });
        let environments = environments
            .into_iter()
            .map(|(name, entry)| {
                let node = as_section(&entry.node);
                (name, Entry { node, ..entry })
            })
            .collect();
        Ok(Self {
            all,
            base,
            environments,
            problems,
        })
    }

    fn unknown(&self, environment: &str, path: Arc<str>) -> SettingsError {
        let known: Vec<String> = self.environments.keys().cloned().collect();
        SettingsError::UnknownEnvironment {
            path,
            near: nearest(environment, known.iter().map(String::as_str)).map(str::to_owned),
            environment: environment.to_owned(),
            known,
        }
    }
}

/// An environment's section has what the settings have, or nothing.
fn is_environment(node: &Node) -> bool {
    match &node.value {
        Value::Map(map) => map.keys().all(|name| SECTIONS.contains(&name.as_str())),
        Value::Nothing => true,
        _ => false,
    }
}

/// A key without a value is an empty section.
fn as_section(node: &Arc<Node>) -> Arc<Node> {
    match node.value {
        Value::Nothing => Arc::new(Node {
            value: Value::Map(Map::new()),
            origin: node.origin.clone(),
        }),
        _ => Arc::clone(node),
    }
}

fn unknown_section(name: &str, entry: &Entry) -> Vec<SettingsProblem> {
    let problem =
        |origin: &Origin, path: String, found: String, expected: String| SettingsProblem {
            origin: origin.clone(),
            path,
            found,
            expected,
        };
    let [resilience, dependencies] = SECTIONS;
    if let Some(near) = nearest(name, SECTIONS) {
        return vec![problem(
            &entry.key,
            Path::Root.key(name).to_string(),
            "a key that is unknown here".to_owned(),
            format!("`{resilience}`, `{dependencies}` or an environment; did you mean `{near}`?"),
        )];
    }
    let path = Path::Root.key(name);
    let Value::Map(map) = &entry.node.value else {
        return vec![problem(
            &entry.node.origin,
            path.to_string(),
            entry.node.found(),
            format!(
                "a section with `{resilience}` or `{dependencies}`, since `{name}` is taken for an environment"
            ),
        )];
    };
    let wrong = map
        .iter()
        .filter(|(inner, _)| !SECTIONS.contains(&inner.as_str()));
    let wrong = wrong.take(MAX_PROBLEMS).map(|(inner, inner_entry)| {
        problem(
            &inner_entry.key,
            path.key(inner).to_string(),
            "a key that is unknown here".to_owned(),
            format!(
                "`{resilience}` or `{dependencies}`, since `{name}` is taken for an environment"
            ),
        )
    });
    wrong.collect()
}

impl fmt::Debug for SettingsLoader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = match &self.source {
            Source::File(path) => path.display().to_string(),
            Source::Text(_) => "text".to_owned(),
        };
        f.debug_struct("SettingsLoader")
            .field("source", &source)
            .field("environment", &self.environment)
            .finish_non_exhaustive()
    }
}
