//! Keeps shared circuits in step with their storage, on a thread of its own. The rules for each circuit:
//!
//! - A change of state made here is *unsettled* until the storage has it, or has answered with a peer's open circuit,
//!   which then holds here too. Unsettled changes are written first, and at once.
//! - News from the storage is only taken over by a settled circuit. So a change whose write failed is never undone by
//!   an older row; it is written when the storage is back.
//! - An open circuit goes half-open when its time is over: news first, since a peer may have been faster, then one
//!   guarded write. If that is refused, a peer has opened it again. If there is no answer, it goes half-open here; if the
//!   storage just hangs, a call moves it in the end.
//! - Outcomes of a circuit whose state does not change are written with the refresh.
//!
//! When the storage fails, circuits go on with what this process knows, and the synchronizer tries again after a pause that
//! grows. A storage that fails for one circuit, since its row is locked, say, is asked for news all the same, without
//! a growing pause, and tried with another circuit first the next time. It is logged once when the storage goes and
//! once when it is back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::locked::Circuit;
use super::machine::{Adopted, CircuitState, Snapshot};
use super::members::{CircuitSync, FOR_EVER};
use super::storage::{
    CircuitRecord, CircuitStorage, StorageError, StoredCircuit, WriteGuard, WriteOutcome,
};
use crate::error::BuildError;
use crate::panic::{catch, contain, discard, message, note};
use crate::sync;

/// How long building a breaker waits for what its storage knows.
const FIRST_ANSWER: Duration = Duration::from_secs(2);
/// The pause before the storage is asked again for the end of an isolation, after it has refused and yet holds no
/// circuit that is open longer: it goes by another clock.
const SECOND_LOOK: Duration = Duration::from_millis(50);
/// The longest pause between two attempts, or the refresh interval if that is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// A circuit's place with the synchronizer of its storage. Dropping it gives the place up.
pub(crate) struct Attachment {
    sync: CircuitSync,
    /// `None` only while it is dropped.
    circuit: Option<Arc<Circuit>>,
}

impl Attachment {
    /// Waits for what the storage knows, but not for long.
    pub(crate) fn new(
        storage: Arc<dyn CircuitStorage>,
        circuit: Arc<Circuit>,
    ) -> Result<Self, BuildError> {
        let name = Arc::clone(circuit.name());
        let refused = |error: StorageError| BuildError::CircuitStorage {
            circuit: name.to_string(),
            source: error.into(),
        };
        storage.check_name(&name).map_err(refused)?;
        let sync = storage.sync().clone();
        let start = || {
            let synchronizer = Synchronizer::new(Arc::clone(&storage), sync.clone());
            sync::spawn("bulkman-circuits".to_owned(), || synchronizer.run()).map(drop)
        };
        sync.join(&circuit, start)
            .map_err(|error| refused(StorageError::new(error)))?;
        // If a synchronizer ran already, this may be the last of a storage that is only a handle to the same rows.
        contain(&name, "dropping a storage", || drop(storage));
        sync.wait_for_progress(FIRST_ANSWER, || circuit.is_settled());
        Ok(Self {
            sync,
            circuit: Some(circuit),
        })
    }

    pub(crate) fn flush(&self, limit: Duration) -> bool {
        let is_settled = || {
            self.circuit
                .as_ref()
                .is_none_or(|circuit| circuit.is_settled())
        };
        self.sync.wait_for_progress(limit, is_settled)
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        if let Some(circuit) = self.circuit.take() {
            self.sync.leave(circuit);
        }
    }
}

struct Synchronizer {
    storage: Arc<dyn CircuitStorage>,
    sync: CircuitSync,
    circuits: Vec<Member>,
    next_refresh: Instant,
    outage: Option<Outage>,
}

/// Why a step came to no good end.
struct Failure {
    error: String,
    /// News came in all the same.
    has_news: bool,
}

struct Outage {
    error: String,
    pause: Duration,
    retry_at: Instant,
}

impl Synchronizer {
    fn new(storage: Arc<dyn CircuitStorage>, sync: CircuitSync) -> Self {
        Self {
            storage,
            sync,
            circuits: Vec::new(),
            next_refresh: sync::now(),
            outage: None,
        }
    }

    fn run(mut self) {
        CircuitSync::mark_this_thread();
        loop {
            let work = self.sync.wait_for_work(self.next_look());
            self.circuits
                .extend(work.joining.into_iter().map(Member::new));
            self.look();
            for circuit in work.leaving {
                self.circuits
                    .retain(|member| !Arc::ptr_eq(&member.circuit, &circuit));
                let name = Arc::clone(circuit.name());
                contain(name, "dropping a circuit's callbacks", || drop(circuit));
            }
            let trouble = self.outage.as_ref().map(|outage| outage.error.clone());
            if !self.sync.report(trouble, !self.circuits.is_empty()) {
                break;
            }
        }
        contain("of a storage", "dropping it", || drop(self.storage));
    }

    /// When there is something to do even if the signal is not raised.
    fn next_look(&self) -> Instant {
        let storage = self
            .outage
            .as_ref()
            .map_or(self.next_refresh, |outage| outage.retry_at);
        self.circuits
            .iter()
            .filter_map(|member| {
                let until = member.circuit.next_look()?;
                let look_at = member.circuit.clock().look_at(until);
                // The storage was asked just now and has not ended it: asking again at once is of no use.
                Some(if member.is_over && member.circuit.is_due() {
                    look_at.max(sync::now() + SECOND_LOOK)
                } else {
                    look_at
                })
            })
            .fold(storage, Instant::min)
    }

    fn look(&mut self) {
        let now = sync::now();
        if self
            .outage
            .as_ref()
            .is_some_and(|outage| now < outage.retry_at)
        {
            return self.go_on_alone();
        }
        let refresh = now >= self.next_refresh || self.outage.is_some();
        match self.step(refresh) {
            Ok(()) => self.outage_is_over(),
            Err(failure) => {
                self.outage_goes_on(failure);
                self.go_on_alone();
            }
        }
        if refresh {
            self.next_refresh = sync::now() + self.sync.refresh_interval();
        }
    }

    /// All that is to be done now. After the first write that fails there is no other, but news are still asked for.
    fn step(&mut self, refresh: bool) -> Result<(), Failure> {
        let mut news_wanted = refresh;
        for member in &mut self.circuits {
            // Another circuit of this process may have the same name.
            news_wanted |= member.is_unsettled();
            member.is_over = member.circuit.is_due();
            news_wanted |= member.circuit.settled() == NOTHING || member.is_over;
        }
        // In an outage a write would only take its time to fail.
        let asks_first = self.outage.is_some();
        if asks_first {
            self.load()?;
        }
        let written = self.write(|member, storage| {
            if member.is_unsettled() {
                member.write_state(storage)
            } else {
                Ok(())
            }
        });
        if news_wanted && !asks_first {
            self.load()?;
        }
        written?;
        self.write(|member, storage| {
            if member.is_over && member.circuit.is_due() && !member.is_unsettled() {
                member.end_isolation(storage)
            } else {
                Ok(())
            }
        })?;
        if refresh {
            self.write(Member::write_outcomes)?;
        }
        Ok(())
    }

    /// Lets each circuit write, up to the first error. The circuit behind that one is the first the next time.
    fn write(
        &mut self,
        mut write: impl FnMut(&mut Member, &dyn CircuitStorage) -> Result<(), StorageError>,
    ) -> Result<(), Failure> {
        for i in 0..self.circuits.len() {
            let member = &mut self.circuits[i];
            if let Err(error) = attempt(|| write(member, &*self.storage)) {
                self.circuits.rotate_left(i + 1);
                return Err(Failure {
                    error,
                    has_news: true,
                });
            }
        }
        Ok(())
    }

    fn load(&mut self) -> Result<(), Failure> {
        attempt(|| self.try_load()).map_err(|error| Failure {
            error,
            has_news: false,
        })
    }

    fn try_load(&mut self) -> Result<(), StorageError> {
        let names: Vec<Arc<str>> = self.circuits.iter().map(Member::name).collect();
        let names: Vec<&str> = names.iter().map(|name| &**name).collect();
        let rows = self.storage.load_many(&names)?;
        if rows.len() != names.len() {
            return Err(StorageError::new(format!(
                "asked for {} circuits, the storage answered for {}",
                names.len(),
                rows.len()
            )));
        }
        for (member, row) in self.circuits.iter_mut().zip(rows) {
            member.take(row);
        }
        Ok(())
    }

    /// Isolations end without the storage's consent.
    fn go_on_alone(&mut self) {
        for member in &self.circuits {
            if member.circuit.is_due() {
                member.circuit.half_open(member.circuit.generation());
            }
        }
    }

    fn outage_goes_on(&mut self, Failure { error, has_news }: Failure) {
        let interval = self.sync.refresh_interval();
        let pause = match &self.outage {
            Some(_) if has_news => interval,
            None => {
                note(|| {
                    log::warn!(
                        "the circuit storage fails, circuits go on with what this process knows: {error}"
                    );
                });
                interval
            }
            Some(outage) => (outage.pause * 2).min(LONGEST_PAUSE.max(interval)),
        };
        self.outage = Some(Outage {
            error,
            pause,
            retry_at: sync::now() + pause,
        });
    }

    fn outage_is_over(&mut self) {
        if self.outage.take().is_some() {
            note(|| log::info!("the circuit storage is back, circuits are in step with it again"));
        }
    }
}

/// Runs code of the storage's. An error is such too: what it says, and its end.
fn attempt<R>(body: impl FnOnce() -> Result<R, StorageError>) -> Result<R, String> {
    catch(|| body().map_err(|error| error.to_string())).unwrap_or_else(|payload| {
        let panic = format!("the storage panicked: {}", message(&*payload));
        discard(payload);
        Err(panic)
    })
}

/// The settled generation of a circuit of which the storage has not said anything yet.
const NOTHING: u64 = 0;
/// The generation in which a circuit begins.
const FIRST: u64 = 1;

/// A circuit with what the synchronizer knows about its row.
struct Member {
    circuit: Arc<Circuit>,
    /// The version of the row that was last written or taken over.
    seen: Option<u64>,
    /// The isolation was over before the storage was last asked for news.
    is_over: bool,
    /// This circuit's outcomes when they were last written, or taken over with the state.
    told: Vec<bool>,
}

impl Member {
    fn new(circuit: Arc<Circuit>) -> Self {
        Self {
            circuit,
            seen: None,
            is_over: false,
            told: Vec::new(),
        }
    }

    fn name(&self) -> Arc<str> {
        Arc::clone(self.circuit.name())
    }

    /// The generation from which news may be taken over.
    fn base(&self) -> u64 {
        match self.circuit.settled() {
            NOTHING => FIRST,
            settled => settled,
        }
    }

    fn is_unsettled(&self) -> bool {
        self.circuit.generation() != self.base()
    }

    fn guard(&self) -> WriteGuard {
        WriteGuard::UnlessOpen {
            now: self.circuit.clock().wall_now(),
        }
    }

    fn write_state(&mut self, storage: &dyn CircuitStorage) -> Result<(), StorageError> {
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
                self.seen = Some(version);
                self.told = record.outcomes;
                self.circuit.settle_generation(snapshot.generation);
            }
            WriteOutcome::Refused => self.give_way(storage, snapshot.generation)?,
        }
        Ok(())
    }

    /// A write was refused: what is stored holds here too. If that makes no sense, what is known here goes on.
    fn give_way(&mut self, storage: &dyn CircuitStorage, from: u64) -> Result<(), StorageError> {
        match storage.load(self.circuit.name())? {
            Some(row) => self.take_over(row, from),
            None if self.circuit.is_due() => {
                self.circuit.half_open(from);
            }
            None => {}
        }
        Ok(())
    }

    /// What the storage says in answer to a refresh.
    fn take(&mut self, row: Option<StoredCircuit>) {
        match row {
            Some(row) if Some(row.version) != self.seen => self.take_over(row, self.base()),
            _ if self.circuit.settled() == NOTHING => self.circuit.settle_generation(FIRST),
            _ => {}
        }
    }

    /// Takes a row over, unless the circuit has moved on since the generation `from`.
    fn take_over(&mut self, row: StoredCircuit, from: u64) {
        let StoredCircuit { record, version } = row;
        let is_first = self.circuit.settled() == NOTHING;
        let Some(generation) = self.circuit.adopt(self.adopted(&record), from) else {
            return;
        };
        if is_first && record.state == CircuitState::Closed {
            self.circuit.restore(&record.outcomes, generation);
        }
        if is_first || generation != from {
            self.told = self.circuit.snapshot().outcomes;
        }
        self.seen = Some(version);
        self.circuit.settle_generation(generation);
    }

    /// The isolation is over. A peer may have been faster, but that was looked for just now.
    fn end_isolation(&mut self, storage: &dyn CircuitStorage) -> Result<(), StorageError> {
        let from = self.circuit.settled();
        let record = CircuitRecord {
            state: CircuitState::HalfOpen,
            ..CircuitRecord::closed()
        };
        match storage.store(self.circuit.name(), &record, self.guard())? {
            WriteOutcome::Applied { version } => {
                self.seen = Some(version);
                self.told.clear();
                if let Some(generation) = self.circuit.half_open(from) {
                    self.circuit.settle_generation(generation);
                }
            }
            WriteOutcome::Refused => self.give_way(storage, from)?,
        }
        Ok(())
    }

    /// Outcomes since the last change of state, so that a process that starts later can go on with them.
    fn write_outcomes(&mut self, storage: &dyn CircuitStorage) -> Result<(), StorageError> {
        if self.circuit.is_spotless() && self.told.is_empty() {
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
                self.seen = Some(version);
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

    fn adopted(&self, record: &CircuitRecord) -> Adopted {
        match record.state {
            CircuitState::Closed => Adopted::Closed,
            CircuitState::HalfOpen => Adopted::HalfOpen {
                successes: record
                    .outcomes
                    .iter()
                    .filter(|succeeded| **succeeded)
                    .count(),
            },
            CircuitState::Open => {
                let (now, wall_now) = self.circuit.clock().both();
                let until = record.open_until.map(|until| {
                    let left = until.duration_since(wall_now).unwrap_or_default();
                    now + left.min(FOR_EVER)
                });
                Adopted::Open { until }
            }
        }
    }
}
