//! One shared circuit and its row: what a row means for the circuit, and what is written for it.
//!
//! | row in the storage | the circuit |
//! |---|---|
//! | no row | stays as it is; stores its row again if it has opened the circuit and its isolation lasts |
//! | the known one: same version, same state | stays as it is |
//! | an older one: a smaller version | as if there were no row; writes may replace it |
//! | any other | takes the row over, unless it has a change of its own that is not stored yet |
//!
//! The end of an isolation becomes a time of the monotonic clock when the row is written or taken over. From then on
//! the wall clock does not count for that row: when the monotonic time has come, the circuit may replace exactly that
//! row, whatever the wall clock says by then.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::local_circuit::{LocalCircuit, StorageNews};
use super::members::FOR_EVER;
use super::state::CircuitState;
use super::state_machine::{Adopted, Snapshot};
use super::storage::{
    CircuitRecord, CircuitStorage, StorageError, StoredCircuit, WriteGuard, WriteOutcome,
};
use crate::panic::note;
use crate::sync;

/// The settled generation of a circuit of which the storage has not said anything yet.
const NOTHING: u64 = 0;
/// The generation in which a circuit begins.
const FIRST: u64 = 1;
/// An end that is further ahead means until a reset by hand.
const UNTIL_RESET: Duration = Duration::from_secs(50 * 365 * 86_400);
/// The smallest default cap of an isolation that a peer has stored.
const SHORTEST_CAP: Duration = Duration::from_secs(300);

/// The longest pause between two attempts for a circuit that cannot be stored: each leaves an error in a server's log.
const LONGEST_PAUSE_IN_TROUBLE: Duration = Duration::from_secs(60);

/// A circuit with what the synchronizer knows about its row.
pub(super) struct SharedCircuit {
    circuit: Arc<LocalCircuit>,
    /// See [`CircuitSync::with_max_adopted_isolation`](super::members::CircuitSync::with_max_adopted_isolation).
    max_adopted_isolation: Option<Duration>,
    /// The row that was last written or taken over; `None` if it is gone.
    known: Option<KnownRow>,
    /// The version of an older row that stands in place of the known one.
    outdated: Option<u64>,
    /// The isolation was over before the storage was last asked for news.
    is_over: bool,
    /// This circuit's outcomes when they were last written, or taken over with the state.
    told: Vec<bool>,
    trouble: Option<Trouble>,
    /// Since when its owner has been told of trouble, if the end is not told yet.
    in_trouble_since: Option<Instant>,
}

struct KnownRow {
    version: u64,
    state: CircuitState,
    /// When the isolation of an open row ends; `None` for a row that is not open, or has no end.
    until: Option<Instant>,
    /// This circuit has written it.
    is_own: bool,
    /// A row with a smaller version is older. This is the version of the known row, or a smaller one after the clock of
    /// the storage was set back.
    mark: u64,
}

/// Why this circuit cannot be stored although the storage answers.
struct Trouble {
    error: String,
    pause: Duration,
    /// When the storage is asked for it again.
    retry_at: Instant,
    /// Its row was read since then, so that a write is worth a try.
    is_readable: bool,
}

enum Comparison {
    Known,
    Older,
    News,
}

impl SharedCircuit {
    pub(super) fn new(circuit: Arc<LocalCircuit>, max_adopted_isolation: Option<Duration>) -> Self {
        Self {
            circuit,
            max_adopted_isolation,
            known: None,
            outdated: None,
            is_over: false,
            told: Vec::new(),
            trouble: None,
            in_trouble_since: None,
        }
    }

    pub(super) fn circuit(&self) -> &Arc<LocalCircuit> {
        &self.circuit
    }

    pub(super) fn name(&self) -> &Arc<str> {
        self.circuit.name()
    }

    /// Notes whether the isolation is over, before the storage is asked for news.
    pub(super) fn note_end_of_isolation(&mut self) {
        self.is_over = self.circuit.is_due();
    }

    /// The isolation was over before the storage was asked, and the answer has not changed that.
    pub(super) fn is_over(&self) -> bool {
        self.is_over && self.circuit.is_due()
    }

    /// The storage has not said anything about it yet.
    pub(super) fn is_new(&self) -> bool {
        self.circuit.settled() == NOTHING
    }

    /// The generation from which news may be taken over.
    fn base(&self) -> u64 {
        match self.circuit.settled() {
            NOTHING => FIRST,
            settled => settled,
        }
    }

    /// It has a change that the storage does not know.
    pub(super) fn is_unsettled(&self) -> bool {
        self.circuit.generation() != self.base()
    }

    /// Ends the isolation without the storage's consent.
    pub(super) fn go_on_alone(&self) {
        if self.circuit.is_due() {
            self.circuit.half_open(self.circuit.generation());
        }
    }

    // ---- trouble with this circuit alone

    pub(super) fn trouble(&self) -> Option<&str> {
        self.trouble.as_ref().map(|trouble| trouble.error.as_str())
    }

    /// Writes for it are worth a try.
    pub(super) fn is_writable(&self) -> bool {
        self.trouble
            .as_ref()
            .is_none_or(|trouble| trouble.is_readable)
    }

    /// The storage is to be asked for this circuit alone.
    pub(super) fn is_retried_at(&self, now: Instant) -> bool {
        self.trouble
            .as_ref()
            .is_some_and(|trouble| trouble.retry_at <= now)
    }

    /// The first pause is `interval`, and each further one twice as long, up to a minute.
    pub(super) fn fails(&mut self, error: String, interval: Duration) {
        let pause = match &self.trouble {
            Some(trouble) => (trouble.pause * 2).min(LONGEST_PAUSE_IN_TROUBLE.max(interval)),
            None => {
                let name = self.name();
                note(|| {
                    log::warn!(
                        target: "bulkman::circuit", circuit:% = name, error = error.as_str();
                        "circuit `{name}` cannot be stored and goes on with what this process knows: {error}"
                    );
                });
                interval
            }
        };
        self.trouble = Some(Trouble {
            error,
            pause,
            retry_at: sync::now() + pause,
            is_readable: false,
        });
    }

    pub(super) fn is_readable_again(&mut self) {
        if let Some(trouble) = &mut self.trouble {
            trouble.is_readable = true;
        }
    }

    /// Ends the trouble if nothing is left that has to be written.
    pub(super) fn end_trouble(&mut self) {
        if self.is_writable() && !self.is_unsettled() && self.trouble.take().is_some() {
            let name = self.name();
            note(|| {
                log::info!(
                    target: "bulkman::circuit", circuit:% = name; "circuit `{name}` is in step with its storage again"
                );
            });
        }
    }

    /// Tells the circuit's owner when trouble begins, be it with the whole storage (`outage`) or with this circuit alone, and
    /// when it ends.
    pub(super) fn tell_of_trouble(&mut self, outage: Option<&str>) {
        let trouble = outage.or(self.trouble());
        let news = match (trouble, self.in_trouble_since) {
            (Some(error), None) => StorageNews::TroubleBegan { error },
            (None, Some(since)) => StorageNews::TroubleEnded {
                lasted: sync::now().saturating_duration_since(since),
            },
            _ => return,
        };
        self.circuit.tell_of_storage(news);
        self.in_trouble_since = match self.in_trouble_since {
            None => Some(sync::now()),
            Some(_) => None,
        };
    }

    // ---- what the storage says

    /// The storage's answer to a refresh. `clock` is the storage's own.
    pub(super) fn take(&mut self, row: Option<StoredCircuit>, clock: Option<SystemTime>) {
        let comparison = row.as_ref().map(|row| self.compare(row, clock));
        match (row, comparison) {
            (Some(row), Some(Comparison::News)) => return self.take_over(row, self.base(), clock),
            (Some(_), Some(Comparison::Known)) => self.outdated = None,
            (Some(row), _) => {
                self.outdated = Some(row.version);
                self.store_again();
            }
            (None, _) => {
                self.store_again();
                self.known = None;
                self.outdated = None;
            }
        }
        if self.is_new() {
            self.circuit.settle_generation(FIRST);
        }
    }

    fn compare(&mut self, row: &StoredCircuit, clock: Option<SystemTime>) -> Comparison {
        let Some(known) = &mut self.known else {
            return Comparison::News;
        };
        // While the storage's clock is behind the known row, times of it say nothing about the order.
        let clock = clock.map_or(u64::MAX, micros);
        let has_order = clock >= known.mark;
        known.mark = known.mark.min(clock);
        if (row.version, row.record.state) == (known.version, known.state) {
            Comparison::Known
        } else if has_order && row.version < known.mark {
            Comparison::Older
        } else {
            Comparison::News
        }
    }

    /// If this circuit has opened, and its isolation lasts, its row has to be written again.
    fn store_again(&mut self) {
        let now = self.circuit.clock().now();
        let is_live = self.known.as_ref().is_some_and(|known| {
            known.is_own
                && known.state == CircuitState::Open
                && known.until.is_none_or(|until| until > now)
        });
        if is_live && !self.is_unsettled() {
            // So that it counts as a change which is not stored yet. An open circuit is in its second generation at least.
            self.circuit.settle_generation(self.circuit.settled() - 1);
        }
    }

    /// A write was refused: what is stored holds here too. If that makes no sense, what is known here goes on.
    fn give_way(&mut self, storage: &dyn CircuitStorage, from: u64) -> Result<(), StorageError> {
        match storage.load(self.circuit.name())? {
            Some(row) => {
                let clock = storage.clock();
                match self.compare(&row, clock) {
                    Comparison::Known | Comparison::News => self.take_over(row, from, clock),
                    Comparison::Older => self.outdated = Some(row.version),
                }
            }
            None if self.circuit.is_due() => {
                self.circuit.half_open(from);
            }
            None => {}
        }
        Ok(())
    }

    /// Takes a row over, unless the circuit has moved on since the generation `from`.
    fn take_over(&mut self, row: StoredCircuit, from: u64, clock: Option<SystemTime>) {
        let StoredCircuit { record, version } = row;
        let is_first = self.is_new();
        let until = self.end_of(&record, version, clock);
        let adopted = match record.state {
            CircuitState::Closed => Adopted::Closed,
            CircuitState::HalfOpen => Adopted::HalfOpen {
                successes: record.outcomes.iter().filter(|success| **success).count(),
            },
            CircuitState::Open => Adopted::Open { until },
        };
        let Some(generation) = self.circuit.adopt(adopted, from) else {
            return;
        };
        if is_first && record.state == CircuitState::Closed {
            self.circuit.restore(&record.outcomes, generation);
        }
        if is_first || generation != from {
            self.told = self.circuit.snapshot().outcomes;
        }
        let is_own = self
            .known
            .as_ref()
            .is_some_and(|known| known.is_own && known.version == version);
        self.know(version, record.state, until, is_own);
        self.circuit.settle_generation(generation);
    }

    /// When the isolation of a row ends by the monotonic clock; `None` if the row does not say.
    fn end_of(
        &self,
        record: &CircuitRecord,
        version: u64,
        clock: Option<SystemTime>,
    ) -> Option<Instant> {
        let (now, wall_now) = self.circuit.clock().both();
        let until = record
            .open_until
            .filter(|_| record.state == CircuitState::Open)?;
        if let Some(known) = self.known.as_ref().filter(|known| known.version == version) {
            return Some(known.until.unwrap_or(now + FOR_EVER));
        }
        let left = |clock| until.duration_since(clock).unwrap_or_default();
        // The clock of a host that has just started may still be in 1970, and then every end seems to be that far ahead.
        let cap = if left(clock.unwrap_or(wall_now)) > UNTIL_RESET {
            FOR_EVER
        } else {
            self.cap().min(UNTIL_RESET)
        };
        Some(now + left(wall_now).min(cap))
    }

    fn cap(&self) -> Duration {
        self.max_adopted_isolation.unwrap_or_else(|| {
            let longest = self.circuit.longest_isolation();
            longest.saturating_mul(2).max(SHORTEST_CAP)
        })
    }

    fn know(&mut self, version: u64, state: CircuitState, until: Option<Instant>, is_own: bool) {
        self.known = Some(KnownRow {
            version,
            state,
            until,
            is_own,
            mark: version,
        });
        self.outdated = None;
    }

    // ---- what is written

    fn guard(&self) -> WriteGuard {
        let (now, wall_now) = self.circuit.clock().both();
        let over = self.known.as_ref().filter(|known| {
            known.state == CircuitState::Open && known.until.is_some_and(|until| until <= now)
        });
        WriteGuard::UnlessOpen {
            now: wall_now,
            except: self.outdated.or(over.map(|known| known.version)),
        }
    }

    pub(super) fn write_state(&mut self, storage: &dyn CircuitStorage) -> Result<(), StorageError> {
        let snapshot = self.circuit.snapshot();
        if snapshot.is_private && !snapshot.by_hand {
            self.circuit.settle_generation(snapshot.generation);
            return Ok(());
        }
        let guard = if snapshot.by_hand {
            WriteGuard::Always
        } else {
            self.guard()
        };
        let record = self.record(&snapshot);
        match storage.store(self.circuit.name(), &record, guard)? {
            WriteOutcome::Applied { version } => {
                self.know(version, record.state, snapshot.open_until, true);
                self.told = record.outcomes;
                self.circuit.settle_generation(snapshot.generation);
            }
            WriteOutcome::Refused => self.give_way(storage, snapshot.generation)?,
        }
        Ok(())
    }

    /// The isolation is over. A peer may have been faster, but that was looked for just now.
    pub(super) fn end_isolation(
        &mut self,
        storage: &dyn CircuitStorage,
    ) -> Result<(), StorageError> {
        let from = self.circuit.settled();
        let record = CircuitRecord {
            state: CircuitState::HalfOpen,
            ..CircuitRecord::closed()
        };
        match storage.store(self.circuit.name(), &record, self.guard())? {
            WriteOutcome::Applied { version } => {
                self.know(version, record.state, None, true);
                self.told.clear();
                if let Some(generation) = self.circuit.half_open(from) {
                    self.circuit.settle_generation(generation);
                }
            }
            WriteOutcome::Refused => self.give_way(storage, from)?,
        }
        Ok(())
    }

    /// Writes the outcomes since the last change of state, so that a process that starts later can go on with them.
    pub(super) fn write_outcomes(
        &mut self,
        storage: &dyn CircuitStorage,
    ) -> Result<(), StorageError> {
        if self.circuit.is_clean() && self.told.is_empty() {
            return Ok(());
        }
        // An older row is left to the process that has opened the circuit.
        if self.outdated.is_some() {
            return Ok(());
        }
        let snapshot = self.circuit.snapshot();
        if snapshot.is_private {
            return Ok(());
        }
        // Settled, so that the row, as far as is known, is in the same state.
        if snapshot.generation != self.circuit.settled() || snapshot.outcomes == self.told {
            return Ok(());
        }
        let record = self.record(&snapshot);
        match storage.store(self.circuit.name(), &record, self.guard())? {
            WriteOutcome::Applied { version } => {
                self.know(version, record.state, snapshot.open_until, true);
                self.told = record.outcomes;
            }
            WriteOutcome::Refused => self.give_way(storage, snapshot.generation)?,
        }
        Ok(())
    }

    fn record(&self, snapshot: &Snapshot) -> CircuitRecord {
        let (now, wall_now) = self.circuit.clock().both();
        let open_until = (snapshot.state == CircuitState::Open).then(|| {
            // Infinite times are not understood by all peers.
            let isolation = snapshot.open_until.map_or(FOR_EVER, |until| {
                until.saturating_duration_since(now).min(FOR_EVER)
            });
            wall_now + isolation
        });
        let outcomes = snapshot.outcomes.clone();
        let failures = outcomes.iter().rev().take_while(|succeeded| !**succeeded);
        CircuitRecord {
            state: snapshot.state,
            failure_count: failures.count() as u32,
            open_until,
            outcomes,
        }
    }
}

/// A time as a version. The version of a storage that counts its writes is far smaller.
fn micros(time: SystemTime) -> u64 {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
