//! What a dependency is.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::did_you_mean::{Listed, nearest};

/// What a dependency is. Each kind has a [preset](Self::preset), which every setting can override.
///
/// | kind | calls at a time | waiting | timeout | queue timeout | circuit breaker | bulkhead |
/// |---|--:|--:|--:|--:|---|---|
/// | `Database` | 10 | 20 | 10 s | 2 s | yes | thread pool |
/// | `ExternalApi` | 15 | 30 | 15 s | 3 s | after 3 failures | thread pool |
/// | `Cache` | 50 | 50 | 2 s | 200 ms | no | semaphore |
/// | `MessageQueue` | 20 | 100 | 10 s | 2 s | yes | thread pool |
/// | `FileSystem` | 8 | 32 | 30 s | 5 s | no | thread pool |
/// | `Cpu` | the cores | 4 for each core | the global default | – | no | thread pool |
/// | `Payment` | 5 | 5 | 10 s | 1 s | after 2 failures, for 60 s | thread pool |
///
/// # Thread pool or semaphore?
///
/// A dependency that can hang belongs on threads of its own: the caller leaves at its timeout, whatever the dependency
/// does. On a [semaphore](crate::SemaphoreBulkhead) a task runs in its caller's thread, and a timeout ends the wait for a
/// slot but not the task. So everything that goes over a network or to a disk has a thread pool, and a cache, whose calls
/// are many and short, has a semaphore.
///
/// Override it with [`DependencyConfig::bulkhead`](crate::DependencyConfig::bulkhead):
///
/// * A database or an API whose client has timeouts of its own that can be relied on (connect, read and write) can do
///   with a [`Semaphore`](BulkheadKind::Semaphore). It needs no threads, and its calls cost less.
/// * A cache whose client can hang needs a [`ThreadPool`](BulkheadKind::ThreadPool). Give it fewer calls at a time then,
///   since each is a thread.
///
/// ```
/// use bulkman::{BulkheadKind, DependencyKind};
///
/// let kind: DependencyKind = "external_api".parse()?;
/// assert_eq!(kind, DependencyKind::ExternalApi);
/// assert_eq!(kind.preset().max_concurrent_calls, Some(15));
/// assert_eq!(DependencyKind::Cache.preset().bulkhead, Some(BulkheadKind::Semaphore));
///
/// let typo = "external-apis".parse::<DependencyKind>().unwrap_err();
/// assert_eq!(typo.near, Some("external_api"));
/// # Ok::<(), bulkman::UnknownKind>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "config", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "config", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum DependencyKind {
    /// A database. 10 calls, as many as a usual connection pool has: more would only wait there. After 10 s the user of a
    /// page has gone.
    Database,
    /// A service of others, over the network. 15 calls, since its answers take longest; 15 s, for the same reason. Three
    /// failures in a row open the circuit: nobody here can repair it, and it recovers sooner without our calls.
    ExternalApi,
    /// A cache. 50 calls, since they are short; 2 s, since what takes longer than the source is of no use. No circuit
    /// breaker: a failure is a miss, and the caller asks the source.
    Cache,
    /// A message broker. 20 calls, and 100 that wait, since messages come in bursts; 10 s to be acknowledged.
    MessageQueue,
    /// Files. 8 calls, since more make a disk slower; 30 s, since large files and network drives take long. On threads,
    /// since no read of a file can be given a timeout. No circuit breaker: a missing file says nothing of the disk.
    FileSystem,
    /// Work for the processor. As many calls as there are cores: more would only take turns. On threads, so that the
    /// caller can leave. Without a timeout of its own, since how long work takes is known to its operation alone.
    Cpu,
    /// Payments. Stricter: 5 calls and 5 that wait, since each ties up somebody's money; 10 s. Quicker to trip: two
    /// failures in a row open the circuit, for 60 s, since each call of unknown outcome is a case to look into.
    Payment,
}

/// Which bulkhead a dependency has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "config", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "config", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum BulkheadKind {
    /// A [`Bulkhead`](crate::Bulkhead), with worker threads of its own.
    ThreadPool,
    /// A [`SemaphoreBulkhead`](crate::SemaphoreBulkhead), whose calls run in their callers' threads.
    Semaphore,
}

/// No [`DependencyKind`] has this name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("there is no kind of dependency `{}`{}", kind.escape_debug(), Listed { known: &DependencyKind::NAMES, near: *.near })]
#[non_exhaustive]
pub struct UnknownKind {
    /// The name that was asked for.
    pub kind: String,
    /// The name that was probably meant.
    pub near: Option<&'static str>,
}

impl DependencyKind {
    /// All kinds.
    pub const ALL: [Self; 7] = [
        Self::Database,
        Self::ExternalApi,
        Self::Cache,
        Self::MessageQueue,
        Self::FileSystem,
        Self::Cpu,
        Self::Payment,
    ];

    /// The names of [all](Self::ALL), in the same order.
    pub const NAMES: [&'static str; 7] = [
        "database",
        "external_api",
        "cache",
        "message_queue",
        "file_system",
        "cpu",
        "payment",
    ];

    /// The name in settings and texts: `database`, `external_api`, and so on.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

impl fmt::Display for DependencyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The kind of this [name](DependencyKind::name).
impl FromStr for DependencyKind {
    type Err = UnknownKind;

    fn from_str(name: &str) -> Result<Self, UnknownKind> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == name)
            .ok_or_else(|| UnknownKind {
                kind: name.to_owned(),
                near: nearest(name, Self::NAMES),
            })
    }
}

impl BulkheadKind {
    /// The name in settings: `thread_pool` or `semaphore`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ThreadPool => "thread_pool",
            Self::Semaphore => "semaphore",
        }
    }
}

impl fmt::Display for BulkheadKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_found_by_its_name() {
        for kind in DependencyKind::ALL {
            assert_eq!(kind.name().parse(), Ok(kind));
            assert_eq!(DependencyKind::NAMES[kind as usize], kind.to_string());
        }
    }
}
