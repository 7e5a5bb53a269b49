//! Rows of the table: read, written and removed.
//!
//! Every statement is an unnamed one, sent whole in one message. A pooler may hand each transaction to another session, and
//! a named statement stays in the session where it was prepared, for other clients to stumble over.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, GenericClient, IsolationLevel, Row, Transaction};

use super::super::state::CircuitState;
use super::super::storage::{CircuitRecord, StoredCircuit};

/// What the server has answered to a question for several circuits.
pub(super) struct Answer {
    /// In the order of the names.
    pub(super) circuits: Vec<Option<StoredCircuit>>,
    pub(super) clock: ServerClock,
}

/// The server's clock, and when it was read here.
#[derive(Clone, Copy, Debug)]
pub(super) struct ServerClock {
    read_at: Instant,
    time: SystemTime,
}

impl ServerClock {
    pub(super) fn now(self) -> SystemTime {
        self.time + self.read_at.elapsed()
    }
}

/// The rows of one namespace.
pub(super) struct Rows {
    pub(super) namespace: String,
}

impl Rows {
    pub(super) async fn read(
        &self,
        client: &impl GenericClient,
        circuits: &[&str],
    ) -> Result<Answer, Error> {
        // One row at least, for the clock.
        const READ: &str = "select clock_timestamp(), resource_key, state, failure_count,
                case when isfinite(open_until) then open_until end,
                coalesce(isfinite(open_until), true),
                execution_log,
                case when isfinite(updated_at) then updated_at end
             from (select 1) as always left join rc_circuit_breakers
                on namespace = $1 and resource_key = any ($2)";
        let asked_at = Instant::now();
        let rows = client
            .query_typed(
                READ,
                &[
                    (&self.namespace, Type::VARCHAR),
                    (&circuits, Type::VARCHAR_ARRAY),
                ],
            )
            .await?;
        let clock = ServerClock {
            read_at: asked_at + asked_at.elapsed() / 2,
            time: rows.first().expect("one at least").try_get(0)?,
        };
        let by_name: HashMap<&str, &Row> = rows
            .iter()
            .filter_map(|row| Some((row.try_get(1).ok()?, row)))
            .collect();
        let circuits = circuits
            .iter()
            .map(|circuit| by_name.get(circuit).copied().and_then(stored))
            .collect();
        Ok(Answer { circuits, clock })
    }

    /// Writes a row unless it is open after `now`; without `now`, always. A row in the version `except` is written over
    /// although it is open. Returns the new version; `None` if nothing was written.
    pub(super) async fn write(
        &self,
        client: &impl GenericClient,
        circuit: &str,
        record: &CircuitRecord,
        now: Option<SystemTime>,
        except: Option<u64>,
    ) -> Result<Option<u64>, Error> {
        const WRITE: &str = "insert into rc_circuit_breakers as stored
                (resource_key, namespace, state, failure_count, open_until, execution_log)
             values ($1, $2, $3, $4, $5, $6)
             on conflict (resource_key, namespace) do update set
                state = excluded.state, failure_count = excluded.failure_count,
                open_until = excluded.open_until, execution_log = excluded.execution_log,
                updated_at = current_timestamp
             where $7::timestamptz is null
                or not (stored.state = 'OPEN' and coalesce(stored.open_until > $7, false))
                or coalesce(stored.updated_at, 'epoch') = $8
             returning case when isfinite(updated_at) then updated_at end";
        let state = state_name(record.state);
        let failure_count = i32::try_from(record.failure_count).unwrap_or(i32::MAX);
        let open_until = record
            .open_until
            .filter(|_| record.state == CircuitState::Open)
            .map(storable);
        let now = now.map(storable);
        let except = except.map(time_of);
        let outcomes = Value::from(record.outcomes.clone());
        let written = client
            .query_typed_opt(
                WRITE,
                &[
                    (&circuit, Type::VARCHAR),
                    (&self.namespace, Type::VARCHAR),
                    (&state, Type::VARCHAR),
                    (&failure_count, Type::INT4),
                    (&open_until, Type::TIMESTAMPTZ),
                    (&outcomes, Type::JSONB),
                    (&now, Type::TIMESTAMPTZ),
                    (&except, Type::TIMESTAMPTZ),
                ],
            )
            .await?;
        let updated_at = written.map(|row| row.try_get(0)).transpose()?;
        Ok(updated_at.map(version_of))
    }

    /// Begins a transaction that waits for every other one of this kind on the circuit, even if it has no row yet. The
    /// lock is the one that Python takes.
    pub(super) async fn lock<'a>(
        &self,
        client: &'a mut Client,
        circuit: &str,
    ) -> Result<Transaction<'a>, Error> {
        const LOCK: &str = "select pg_advisory_xact_lock(hashtextextended($1 || '|' || $2, 0))";
        const ROW: &str = "select 1 from rc_circuit_breakers
             where resource_key = $1 and namespace = $2 for update";
        let (namespace, circuit) = (
            (&self.namespace as _, Type::TEXT),
            (&circuit as _, Type::TEXT),
        );
        // What others have written is to be seen when the lock is had, whatever the default here.
        let transaction = client
            .build_transaction()
            .isolation_level(IsolationLevel::ReadCommitted)
            .start()
            .await?;
        transaction
            .query_typed(LOCK, &[namespace.clone(), circuit.clone()])
            .await?;
        transaction.query_typed(ROW, &[circuit, namespace]).await?;
        Ok(transaction)
    }

    pub(super) async fn remove(
        &self,
        client: &impl GenericClient,
        circuit: &str,
    ) -> Result<bool, Error> {
        const REMOVE: &str = "delete from rc_circuit_breakers
             where resource_key = $1 and namespace = $2 returning 1";
        let removed = client
            .query_typed(
                REMOVE,
                &[(&circuit, Type::VARCHAR), (&self.namespace, Type::VARCHAR)],
            )
            .await?;
        Ok(!removed.is_empty())
    }
}

/// Fails if the database cannot hold a text.
pub(super) async fn try_text(client: &impl GenericClient, text: &str) -> Result<(), Error> {
    let text = (&text as _, Type::VARCHAR);
    client.query_typed("select $1", &[text]).await.map(drop)
}

fn stored(row: &Row) -> Option<StoredCircuit> {
    let state = match row.try_get(2).ok()? {
        "CLOSED" => CircuitState::Closed,
        "OPEN" => CircuitState::Open,
        "HALF_OPEN" => CircuitState::HalfOpen,
        _ => return None,
    };
    let failure_count: i32 = row.try_get(3).ok()?;
    let open_until: Option<SystemTime> = row.try_get(4).ok()?;
    let is_finite: bool = row.try_get(5).ok()?;
    if !is_finite {
        return None;
    }
    let log: Option<Value> = row.try_get(6).ok()?;
    let outcomes = log.as_ref().and_then(Value::as_array);
    let record = CircuitRecord {
        state,
        failure_count: u32::try_from(failure_count).unwrap_or_default(),
        open_until: open_until.filter(|_| state == CircuitState::Open),
        outcomes: outcomes
            .map(|outcomes| outcomes.iter().filter_map(Value::as_bool).collect())
            .unwrap_or_default(),
    };
    let updated_at: Option<SystemTime> = row.try_get(7).ok()?;
    Some(StoredCircuit::new(record, version_of(updated_at)))
}

/// The time of a write by the server's clock is the version of a row. So versions keep their order over a failover, which
/// transaction numbers do not.
fn version_of(updated_at: Option<SystemTime>) -> u64 {
    let since = updated_at.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
    since.map_or(0, |since| {
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    })
}

fn time_of(version: u64) -> SystemTime {
    storable(SystemTime::UNIX_EPOCH + Duration::from_micros(version).min(LAST))
}

fn state_name(state: CircuitState) -> &'static str {
    match state {
        CircuitState::Closed => "CLOSED",
        CircuitState::Open => "OPEN",
        CircuitState::HalfOpen => "HALF_OPEN",
    }
}

/// The last time that all who share the table can read, since 1970: Python has none after the year 9999, in any time zone.
const LAST: Duration = Duration::from_secs(253_402_128_000);

fn storable(time: SystemTime) -> SystemTime {
    time.clamp(SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH + LAST)
}
