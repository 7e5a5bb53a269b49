//! The table, as Python's resilient-circuit makes it and looks at it. All statements are unnamed ones, as in `rows.rs`.

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, GenericClient};

/// What the table must have for the breakers to work.
const COLUMNS: [(&str, &str); 7] = [
    ("resource_key", "character varying"),
    ("namespace", "character varying"),
    ("state", "character varying"),
    ("failure_count", "integer"),
    ("open_until", "timestamp with time zone"),
    ("execution_log", "jsonb"),
    ("updated_at", "timestamp with time zone"),
];

const PRIVILEGES: [&str; 3] = ["SELECT", "INSERT", "UPDATE"];

/// Everybody who makes the table takes this lock first, Python too.
const LOCK: &str = "select pg_advisory_xact_lock(hashtextextended('rc_circuit_breakers', 0))";

const TABLE: &str = "
create table if not exists public.rc_circuit_breakers (
    resource_key varchar(255) not null,
    state varchar(50) not null,
    failure_count integer not null default 0,
    open_until timestamptz,
    execution_log jsonb,
    created_at timestamptz default now(),
    updated_at timestamptz default now(),
    namespace varchar(255) not null default 'default',
    primary key (resource_key, namespace)
);
create index if not exists idx_rc_circuit_breakers_state
    on public.rc_circuit_breakers (state);
create index if not exists idx_rc_circuit_breakers_open_until
    on public.rc_circuit_breakers (open_until) where open_until is not null;
create index if not exists idx_rc_circuit_breakers_key_state
    on public.rc_circuit_breakers (resource_key, state);
create index if not exists idx_rc_circuit_breakers_state_updated
    on public.rc_circuit_breakers (state, updated_at desc);
create index if not exists idx_rc_circuit_breakers_namespace
    on public.rc_circuit_breakers (namespace);
create index if not exists idx_rc_circuit_breakers_key_namespace
    on public.rc_circuit_breakers (resource_key, namespace);
create or replace function public.update_rc_circuit_breakers_updated_at_column() returns trigger
    language plpgsql set search_path = public
    as 'begin new.updated_at = now(); return new; end';
drop trigger if exists update_rc_circuit_breakers_updated_at on public.rc_circuit_breakers;
create trigger update_rc_circuit_breakers_updated_at
    before update on public.rc_circuit_breakers
    for each row when (old is distinct from new)
    execute function public.update_rc_circuit_breakers_updated_at_column();
";

/// What stands in the way of using the table; empty if nothing does.
pub(super) async fn problems(client: &impl GenericClient) -> Result<Vec<String>, Error> {
    let table = client
        .query_typed_one(
            "select to_regclass('public.rc_circuit_breakers') is not null,
                    to_regclass('rc_circuit_breakers') is not distinct from to_regclass('public.rc_circuit_breakers'),
                    current_user::text, current_database()::text",
            &[],
        )
        .await?;
    let (exists, is_found): (bool, bool) = (table.get(0), table.get(1));
    let (role, database): (String, String) = (table.get(2), table.get(3));
    if !exists {
        return Ok(vec![format!(
            "database {database} has no table public.rc_circuit_breakers"
        )]);
    }
    let mut problems = Vec::new();
    if !is_found {
        problems.push(format!(
            "the search_path of role {role} does not lead to public.rc_circuit_breakers"
        ));
    }
    let columns = client
        .query_typed(
            "select attname::text, format_type(atttypid, null) from pg_attribute
             where attrelid = to_regclass('public.rc_circuit_breakers') and attnum > 0 and not attisdropped",
            &[],
        )
        .await?;
    for (column, wanted) in COLUMNS {
        let found = columns.iter().find(|row| row.get::<_, &str>(0) == column);
        match found.map(|row| row.get::<_, String>(1)) {
            None => problems.push(format!("column {column} is missing")),
            Some(found) if found != wanted => {
                problems.push(format!("column {column} is {found}, not {wanted}"));
            }
            Some(_) => {}
        }
    }
    let key: Vec<String> = client
        .query_typed(
            "select attname::text from pg_index join pg_attribute
                 on attrelid = indrelid and attnum = any (indkey)
             where indrelid = to_regclass('public.rc_circuit_breakers') and indisprimary
             order by attname",
            &[],
        )
        .await?
        .iter()
        .map(|row| row.get(0))
        .collect();
    if key != ["namespace", "resource_key"] {
        problems.push(format!(
            "the primary key is ({}), not (resource_key, namespace)",
            key.join(", ")
        ));
    }
    for privilege in PRIVILEGES {
        let may: bool = client
            .query_typed_one(
                "select has_table_privilege('public.rc_circuit_breakers', $1)",
                &[(&privilege, Type::TEXT)],
            )
            .await?
            .get(0);
        if !may {
            problems.push(format!("role {role} may not {privilege} there"));
        }
    }
    Ok(problems)
}

/// Why nothing can be written at all. A table that is there can still be read.
pub(super) async fn read_only(client: &impl GenericClient) -> Result<Option<String>, Error> {
    let setting = client
        .query_typed_one(
            "select current_setting('transaction_read_only') = 'on'",
            &[],
        )
        .await?;
    Ok(setting
        .get::<_, bool>(0)
        .then(|| "this server, or the role's settings, let nothing be written".to_owned()))
}

/// Makes the table with its indexes and its trigger, unless there is a usable one.
pub(super) async fn ensure(client: &mut Client) -> Result<(), Error> {
    if problems(client).await?.is_empty() {
        return Ok(());
    }
    let transaction = client.transaction().await?;
    transaction.batch_execute(LOCK).await?;
    if !problems(&transaction).await?.is_empty() {
        transaction.batch_execute(TABLE).await?;
    }
    transaction.commit().await
}
