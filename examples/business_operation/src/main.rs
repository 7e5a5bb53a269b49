//! An order takes three dependencies: a price from SQLite, a tax rate over HTTP, and a place in PostgreSQL. A drill breaks one
//! after the other, and a table shows that the others notice nothing and that all comes back.
//!
//! ```text
//! tests/postgres/server with cargo run --manifest-path examples/business_operation/Cargo.toml
//! ```
//!
//! The servers and the clients are real, and local. The trouble is made by `Chaos`, in the place of a dependency. It takes
//! some ten seconds.

mod orders;
mod parts;
mod table;

use std::error::Error;
use std::thread;
use std::time::{Duration, Instant};

use orders::{Placed, Shop};
use parts::{Files, Orders, tax_server};
use table::{Row, Table};

type Fault = Box<dyn Error + Send + Sync>;

const ORDER_EVERY: Duration = Duration::from_millis(25);
const PHASE: Duration = Duration::from_millis(1_200);

/// One after the other: what the phase is called, and the dependency in trouble.
const PHASES: [(&str, Option<usize>); 7] = [
    ("all is well", None),
    ("the tax API fails", Some(0)),
    ("it comes back", None),
    ("PostgreSQL hangs", Some(1)),
    ("it comes back", None),
    ("SQLite fails", Some(2)),
    ("it comes back", None),
];

fn main() -> Result<(), Fault> {
    let Ok(dsn) = std::env::var("RC_DB_DSN") else {
        return Err(
            "needs a PostgreSQL server: run it as `tests/postgres/server with cargo run …`".into(),
        );
    };
    let files = Files::create()?;
    let server = tiny_http::Server::http("127.0.0.1:0")?;
    let url = format!("http://{}/tax", server.server_addr());
    let shop = Shop::open(&url, Orders::connect(&dsn)?, &files)?;
    let (table, numbers) = thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| tax_server(&server));
        }
        let drilled = drill(&shop);
        for _ in 0..4 {
            server.unblock();
        }
        drilled
    });
    print!("{table}");

    let kept = shop.deliver()?;
    let stored = shop.stored()?;
    println!(
        "\n{numbers} orders: {kept} of them were kept in SQLite while PostgreSQL was out of reach, and delivered afterwards."
    );
    println!("PostgreSQL has {stored} orders.");
    table.check()?;
    if stored != numbers {
        return Err(format!("{numbers} orders were taken, and {stored} are stored").into());
    }
    println!("Each was stored once, and no dependency made another one wait.");
    shop.close()
}

/// Orders at an even pace through all phases, and how many there were.
fn drill(shop: &Shop) -> (Table, u64) {
    let mut table = Table::default();
    let (mut number, mut before) = (0, None);
    for (phase, trouble) in PHASES {
        shop.switch(trouble);
        let until = Instant::now() + PHASE;
        let placed: Vec<Placed> = thread::scope(|scope| {
            let mut callers = Vec::new();
            // A caller each, so that one that waits holds up no other.
            while Instant::now() < until {
                number += 1;
                callers.push(scope.spawn(move || shop.place(number)));
                thread::sleep(ORDER_EVERY);
            }
            let placed = callers.into_iter().filter_map(|caller| caller.join().ok());
            placed.collect()
        });
        table
            .rows
            .push(Row::of(phase, trouble, before, &placed, shop));
        before = trouble;
    }
    shop.switch(None);
    (table, number)
}
