//! Settings from files and the environment, with the feature `config`; YAML with the feature `yaml`.
//!
//! ```yaml
//! resilience:
//!   timeouts:                      # how long a caller waits in all, queue included
//!     default_timeout: 20          # seconds, or text with a unit: "250ms", "5m", "1m 30s"; "none" is no limit.
//!                                  # It decides for `cpu`: the presets of the other kinds have a timeout
//!     database_timeout: 5s         # one for each kind: database, api_call, cache, message_queue,
//!     api_call_timeout: 15s        # file_system, cpu, payment
//!   circuit_breaker:               # rules for all that have one, by the names of CircuitBreakerConfig
//!     success_threshold: 2
//!   health:                        # from where on each counts as unhealthy, by the names of HealthOverrides
//!     all_busy_for: 30s
//!   retry:                         # the same for retries, by the names of RetryOverrides; and `rate_limit`,
//!     max_delay: 2s                # `hedge`, `chaos`
//!   bulkheads:                     # one for each kind, over its preset; and `default`, for what no preset says
//!     database:
//!       max_concurrent_calls: 10
//!       max_queue_size: 20
//!       queue_timeout: 2s
//!       bulkhead: thread_pool      # or semaphore
//!       idle_timeout: 30s          # after which a worker ends; none: all are there from the start
//!       stack_size: 4194304        # of each worker, in bytes
//!       max_nested_calls: 64
//!       adaptive_timeout: false    # or true, or a section with the numbers of AdaptiveTimeoutConfig: experimental
//!       circuit_breaker: true      # or false, or a section with rules
//!       health: {queued_for: 1s}   # or false: no thresholds
//!       retry: {attempts: 3}       # for calls through Dependencies::pipeline; or true, or false
//! external_dependencies:
//!   user_db:
//!     kind: database               # the only key that has to be there
//!     timeout: 3s                  # and all keys of a bulkhead above
//!     circuit_breaker:
//!       failure_threshold: 3
//!     rate_limit: {calls: 100, max_wait: 50ms}
//!     operations:
//!       export: {timeout: 2m, queue_timeout: 10s, adaptive_timeout: false, retry: false}
//! production:                      # any other name is an environment's, with both sections over the ones above
//!   external_dependencies:
//!     user_db: {max_concurrent_calls: 40, chaos: false}
//! ```
//!
//! [`Settings::from_path`]`(p).environment("production").load()` reads them, and
//! [`Dependencies::from_settings`](crate::Dependencies::from_settings) uses them. TOML has the same keys.
//!
//! # Layers
//!
//! The environment's section lies over the sections that all environments have, and variables lie over both. A section
//! over a section is merged key by key, and a blank one changes nothing; anything else replaces what is below it.
//!
//! A variable is `BULKMAN_` and the keys in capitals with two underscores between them:
//! `BULKMAN_RESILIENCE__TIMEOUTS__DEFAULT_TIMEOUT=10`, `BULKMAN_EXTERNAL_DEPENDENCIES__USER_DB__TIMEOUT=250ms`. `USER_DB`
//! also means a `user-db` of the settings. `BULKMAN_ENVIRONMENT` chooses the environment where the program does not. Every
//! other variable that begins so has to be a key too, and none may replace a section in which another one sets a key.
//!
//! Which level then decides a setting is another question. The first that says something does: the operation, the
//! dependency, its kind, the kind's [preset](crate::DependencyKind::preset), and last the default. Presets say nearly
//! everything, so `default_timeout` and `bulkheads.default` rarely decide. A kind's own key does.
//!
//! # What settings cannot say
//!
//! Settings name numbers and switches. Functions and values of the program's own types come from code, among them every fallback:
//! see [`DependencyOverrides`](crate::DependencyOverrides#what-code-has-to-give).
//!
//! # Errors
//!
//! A key that is unknown, a value of the wrong type or out of range, a key twice: each is a [`SettingsProblem`] with file,
//! line, path of keys, what was found and what was expected.
//!
//! ```
//! use bulkman::settings::{Format, Settings};
//!
//! let text = "[resilience.timeouts]\ndatabse_timeout = -3\n";
//! let error = Settings::from_text(text, Format::Toml).without_variables().load().unwrap_err();
//! assert!(error.to_string().starts_with(
//!     "text:2:1: `resilience.timeouts.databse_timeout`: found a key that is unknown here, expected one of"
//! ));
//! assert!(error.to_string().ends_with("did you mean `database_timeout`?"));
//! ```
//!
//! Nothing is used of settings that have a problem, and the problems of all environments are reported together: of each
//! section up to 20 keys that are unknown or have a wrong type, and every value that is out of range by itself. There are
//! two exceptions. A variable whose name is wrong is reported before all else. Values that do not go together, such as a
//! `slow_call_rate` without a `slow_call_duration`, are looked for once nothing else is wrong, and then one is reported of
//! each dependency. After 1000 problems nothing more is looked for. A key twice is an error of its own in TOML and YAML:
//! the first is reported alone.
//!
//! A file that is missing, empty, no file, not UTF-8, or too large, YAML whose aliases would grow beyond all bounds, and more than 500000
//! values in all environments together, have errors of their own: see [`SettingsError`].
//!
//! # Other formats
//!
//! With the feature `config` all configurations ([`BulkheadConfig`](crate::BulkheadConfig),
//! [`CircuitBreakerConfig`](crate::CircuitBreakerConfig), [`HealthOverrides`](crate::HealthOverrides),
//! [`RetryOverrides`](crate::RetryOverrides), [`RateLimitOverrides`](crate::RateLimitOverrides), [`HedgeOverrides`](crate::HedgeOverrides),
//! [`ChaosOverrides`](crate::ChaosOverrides), [`DependencyConfig`](crate::DependencyConfig),
//! [`DependencyDefaults`](crate::DependencyDefaults) and what is in them) are serde's `Serialize` and `Deserialize`, with the
//! keys above; only `DependencyDefaults` has the keys `global` and `kinds` in place of `resilience`. Durations are written as
//! text and read as seconds or text. [`Settings`] are too: what holds in the chosen environment.

// Imports run downward in this list.
//
// | file | job |
// |---|---|
// | `dependencies` | settings become dependencies |
// | `serialize`, `from_data` | settings as serde's data |
// | `loader` | the layers: file, environment's section, variables |
// | `schema` | what may stand where |
// | `deserialize` | serde's view of a tree |
// | `source`, `toml`, `yaml`, `variables` | each becomes a tree |
// | `toml_path` | where a key stands that the parser of TOML has refused |
// | `scalar` | what a word without quotes means |
// | `node` | the tree, and how one is laid over another |
// | `error`, `origin` | what is wrong, and where |

mod dependencies;
mod deserialize;
mod error;
mod from_data;
mod loader;
mod node;
mod origin;
mod scalar;
mod schema;
mod serialize;
mod source;
mod toml;
mod toml_path;
mod variables;
#[cfg(feature = "yaml")]
mod yaml;

pub use error::{SettingsError, SettingsProblem};
pub use loader::{Settings, SettingsLoader};
pub use origin::Origin;
pub use source::Format;
