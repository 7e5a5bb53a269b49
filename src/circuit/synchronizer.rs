//! Keeps shared circuits in step with their storage, on a thread of its own. The rules for each circuit:
//!
//! - A change of state made here is *unsettled* until the storage has it, or has answered with a peer's open circuit,
//!   which then holds here too. Unsettled changes are written first, and at once.
//! - A circuit takes news from the storage only when it is settled. So a change whose write failed is never undone by
//!   a row of before; it is written when the storage is back. `shared_circuit.rs` says what is news.
//! - An open circuit goes half-open when its time is over: news first, since a peer may have been faster, then one
//!   guarded write. If that is refused, a peer has opened the circuit again. If there is no answer, it goes half-open
//!   here; if the storage just hangs, a call moves it in the end.
//! - Outcomes of a circuit whose state does not change are written with the refresh.
//!
//! When the storage fails, circuits go on with what this process knows, and the synchronizer tries again after pauses
//! that double up to [`LONGEST_PAUSE`]. A connection attempt every one or two seconds is cheap for a process and for a
//! server that is just coming up, and it bounds how late the news after an outage are: the first operation that gets
//! through asks for them.
//!
//! When the storage fails for one circuit (its row is locked, say) and the error does not say so, the synchronizer still
//! asks for news, after pauses that do not grow, and lets another circuit write first the next time. When the error does
//! say so ([`StorageError::of_circuit`]), only that circuit is left out, and tried again after pauses that double.
//!
//! The log has one line when the storage goes and one when it is back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::jitter::Jitter;
use super::local_circuit::LocalCircuit;
use super::members::{CircuitSync, Report};
use super::shared_circuit::SharedCircuit;
use super::skew::SkewWatch;
use super::storage::{CircuitStorage, StorageError};
use crate::error::BuildError;
use crate::panic::{catch, contain, discard, message, note};
use crate::sync;
use crate::text::OneLine;

/// How long building a breaker waits for what its storage knows.
const FIRST_ANSWER: Duration = Duration::from_secs(2);
/// The pause before the storage is asked again for the end of an isolation, after it has refused and yet holds no
/// circuit that is open longer: it goes by another clock.
const SECOND_LOOK: Duration = Duration::from_millis(50);
/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// The least share of a refresh interval, and of a pause in an outage, that chance leaves of it.
const REFRESH_SHARE: f64 = 0.8;
const PAUSE_SHARE: f64 = 0.5;

/// A circuit's place with the synchronizer of its storage. Dropping it gives the place up.
pub(crate) struct Attachment {
    sync: CircuitSync,
    /// `None` only while it is dropped.
    circuit: Option<Arc<LocalCircuit>>,
}

impl Attachment {
    /// Waits for what the storage knows, but not for long.
    pub(crate) fn new(
        storage: Arc<dyn CircuitStorage>,
        circuit: Arc<LocalCircuit>,
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
            sync::spawn("bulkman-circuits".to_owned(), None, || synchronizer.run()).map(drop)
        };
        sync.join(&circuit, start)
            .map_err(|error| refused(StorageError::new(error)))?;
        // If a synchronizer ran already, this may be the last of a storage that is only a handle to the same rows.
        contain(&name, "dropping a storage", || drop(storage));
        sync.wait_for_progress(&name, FIRST_ANSWER, || circuit.is_settled());
        Ok(Self {
            sync,
            circuit: Some(circuit),
        })
    }

    pub(crate) fn flush(&self, limit: Duration) -> bool {
        let Some(circuit) = &self.circuit else {
            return true;
        };
        self.sync
            .wait_for_progress(circuit.name(), limit, || circuit.is_settled())
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
    circuits: Vec<SharedCircuit>,
    next_refresh: Instant,
    /// A change was written since the storage was last asked for news. Another circuit of this process may have the same name.
    has_written: bool,
    outage: Option<Outage>,
    skew: SkewWatch,
    jitter: Jitter,
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
            has_written: false,
            outage: None,
            skew: SkewWatch::default(),
            jitter: Jitter::new(),
        }
    }

    fn run(mut self) {
        CircuitSync::mark_this_thread();
        let cap = self.sync.max_adopted_isolation();
        loop {
            let work = self.sync.wait_for_work(self.next_look());
            let joining = work.joining.into_iter();
            self.circuits
                .extend(joining.map(|circuit| SharedCircuit::new(circuit, cap)));
            self.look();
            for circuit in work.leaving {
                self.drop_circuit(circuit);
            }
            if !self.sync.report(self.report(), !self.circuits.is_empty()) {
                break;
            }
            // After the report, so that no thread waits for a listener.
            let outage = self.outage.as_ref().map(|outage| outage.error.as_str());
            for member in &mut self.circuits {
                member.tell_of_trouble(outage);
            }
        }
        contain("of a storage", "dropping it", || drop(self.storage));
    }

    fn drop_circuit(&mut self, circuit: Arc<LocalCircuit>) {
        self.circuits
            .retain(|member| !Arc::ptr_eq(member.circuit(), &circuit));
        let name = Arc::clone(circuit.name());
        if self.circuits.iter().all(|member| *member.name() != name) {
            contain(&name, "releasing it in its storage", || {
                self.storage.release(&name);
            });
        }
        contain(&name, "dropping a circuit's callbacks", || drop(circuit));
    }

    fn report(&self) -> Report {
        let troubles = self.circuits.iter().filter_map(|member| {
            let trouble = member.trouble()?;
            Some((Arc::clone(member.name()), trouble.to_owned()))
        });
        Report {
            trouble: self.outage.as_ref().map(|outage| outage.error.clone()),
            troubles: troubles.collect(),
            clock_skew: self.skew.latest(),
        }
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
                let until = member.circuit().next_look()?;
                let look_at = member.circuit().clock().look_at(until);
                // The storage was asked just now and has not ended it: asking again at once is of no use.
                Some(if member.is_over() {
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
            let interval = self.sync.refresh_interval();
            self.next_refresh = sync::now() + self.jitter.shorten(interval, REFRESH_SHARE);
        }
    }

    /// All that is to be done now. After the first write that fails there is no other, but news are still asked for.
    fn step(&mut self, refresh: bool) -> Result<(), Failure> {
        // Also if a change came when the last look's news were on their way: it has raised the signal for this look.
        let mut news_wanted = refresh || self.has_written;
        for member in &mut self.circuits {
            member.note_end_of_isolation();
            if member.trouble().is_some() {
                member.go_on_alone();
            } else {
                news_wanted |= member.is_unsettled() || member.is_new() || member.is_over();
            }
        }
        // In an outage a write would only take its time to fail.
        let asks_first = self.outage.is_some();
        let written = if asks_first {
            Ok(())
        } else {
            self.write_changes()
        };
        if news_wanted {
            self.load(refresh)?;
        }
        written?;
        // In an outage, what has changed meanwhile; otherwise what the storage has lost.
        self.write_changes()?;
        self.write(|member, storage| {
            if member.is_over() && !member.is_unsettled() {
                member.end_isolation(storage)
            } else {
                Ok(())
            }
        })?;
        // After an outage a peer that has opened the circuit goes first: the storage may have lost its row.
        if refresh && !asks_first {
            self.write(SharedCircuit::write_outcomes)?;
        }
        for member in &mut self.circuits {
            member.end_trouble();
        }
        Ok(())
    }

    fn write_changes(&mut self) -> Result<(), Failure> {
        let mut has_written = false;
        let written = self.write(|member, storage| {
            if member.is_unsettled() {
                member.write_state(storage)?;
                has_written = true;
            }
            Ok(())
        });
        self.has_written |= has_written;
        written
    }

    /// Lets each circuit write, up to the first error of the storage. The circuit behind that one is the first the next
    /// time.
    fn write(
        &mut self,
        mut write: impl FnMut(&mut SharedCircuit, &dyn CircuitStorage) -> Result<(), StorageError>,
    ) -> Result<(), Failure> {
        let interval = self.sync.refresh_interval();
        for i in 0..self.circuits.len() {
            let member = &mut self.circuits[i];
            if !member.is_writable() {
                continue;
            }
            match attempt(|| write(member, &*self.storage)) {
                Ok(()) => {}
                Err(fault) if fault.is_of_circuit => member.fails(fault.error, interval),
                Err(fault) => {
                    self.circuits.rotate_left(i + 1);
                    return Err(Failure {
                        error: fault.error,
                        has_news: true,
                    });
                }
            }
        }
        Ok(())
    }

    /// Asks for news of all circuits. Those in trouble are asked for one by one, after their pause; so are all others if
    /// the storage has trouble with one of them and does not say with which.
    fn load(&mut self, refresh: bool) -> Result<(), Failure> {
        self.has_written = false;
        let has_trouble_with_one = match self.load_together() {
            Ok(()) => false,
            Err(fault) if fault.is_of_circuit => true,
            Err(fault) => return Err(fault.into()),
        };
        let interval = self.sync.refresh_interval();
        let now = sync::now();
        for member in &mut self.circuits {
            let is_asked_for = match member.trouble() {
                Some(_) => refresh && member.is_retried_at(now),
                None => has_trouble_with_one,
            };
            if !is_asked_for {
                continue;
            }
            let storage = &*self.storage;
            let loaded = attempt(|| Ok((storage.load(member.name())?, storage.clock())));
            match loaded {
                Ok((row, clock)) => {
                    member.take(row, clock);
                    member.is_readable_again();
                }
                Err(fault) if fault.is_of_circuit => {
                    member.fails(fault.error, interval);
                    member.go_on_alone();
                }
                Err(fault) => return Err(fault.into()),
            }
        }
        Ok(())
    }

    fn load_together(&mut self) -> Result<(), Fault> {
        let is_asked_for = |member: &&mut SharedCircuit| member.trouble().is_none();
        let members = self.circuits.iter_mut().filter(is_asked_for);
        let names: Vec<Arc<str>> = members.map(|member| Arc::clone(member.name())).collect();
        if names.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = names.iter().map(|name| &**name).collect();
        let (rows, clock) = attempt(|| {
            let rows = self.storage.load_many(&names)?;
            if rows.len() == names.len() {
                return Ok((rows, self.storage.clock()));
            }
            Err(StorageError::new(format!(
                "asked for {} circuits, the storage answered for {}",
                names.len(),
                rows.len()
            )))
        })?;
        if let Some(clock) = clock {
            self.skew.look(sync::wall_now(), clock);
        }
        let members = self.circuits.iter_mut().filter(is_asked_for);
        for (member, row) in members.zip(rows) {
            member.take(row, clock);
        }
        Ok(())
    }

    /// Isolations end without the storage's consent.
    fn go_on_alone(&self) {
        self.circuits.iter().for_each(SharedCircuit::go_on_alone);
    }

    fn outage_goes_on(&mut self, Failure { error, has_news }: Failure) {
        let shortest = self.sync.refresh_interval().min(LONGEST_PAUSE);
        let pause = match &self.outage {
            Some(_) if has_news => shortest,
            None => {
                note(|| {
                    log::warn!(
                        target: "bulkman::circuit", error = error.as_str();
                        "the circuit storage fails, circuits go on with what this process knows: {error}"
                    );
                });
                shortest
            }
            Some(outage) => (outage.pause * 2).min(LONGEST_PAUSE),
        };
        self.outage = Some(Outage {
            error,
            pause,
            retry_at: sync::now() + self.jitter.shorten(pause, PAUSE_SHARE),
        });
    }

    fn outage_is_over(&mut self) {
        if self.outage.take().is_some() {
            note(
                || log::info!(target: "bulkman::circuit", "the circuit storage is back, circuits are in step with it again"),
            );
        }
    }
}

/// An error of the storage's, or a panic.
struct Fault {
    error: String,
    is_of_circuit: bool,
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self {
            error: fault.error,
            has_news: false,
        }
    }
}

/// Runs code of the storage's. The text of an error, and its drop, are such code too.
fn attempt<R>(body: impl FnOnce() -> Result<R, StorageError>) -> Result<R, Fault> {
    let outcome = catch(|| {
        body().map_err(|error| Fault {
            error: OneLine(&error).to_string(),
            is_of_circuit: error.is_of_circuit(),
        })
    });
    outcome.unwrap_or_else(|payload| {
        let error = format!("the storage panicked: {}", OneLine(message(&*payload)));
        discard(payload);
        Err(Fault {
            error,
            is_of_circuit: false,
        })
    })
}
