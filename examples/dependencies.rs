//! A shop and its dependencies, from the settings in `settings.yaml`: of two APIs one hangs, and the shop hardly notices.
//!
//! ```text
//! cargo run --features yaml --example dependencies
//! BULKMAN_EXTERNAL_DEPENDENCIES__TAX_API__TIMEOUT=50ms cargo run --features yaml --example dependencies
//! ```
//!
//! The HTTP server, the client and the file are real, and local.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use std::{env, process, thread};

use bulkman::settings::Settings;
use bulkman::{BulkheadError, Dependencies};
use tiny_http::{Response, Server};

const SETTINGS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/settings.yaml");
const ORDERS: usize = 40;

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    // A typo in the file or in a variable ends the program here, with the line, and not at the first call.
    let settings = Settings::from_path(SETTINGS)
        .environment("testing")
        .load()?;
    let dependencies = Dependencies::from_settings(&settings)?;
    println!("{}\n", dependencies.explain("tax_api", "get_rate")?);

    let journal = env::temp_dir().join(format!("bulkman-journal-{}", process::id()));
    let server = Server::http("127.0.0.1:0")?;
    let shop = Shop {
        url: format!("http://{}", server.server_addr()),
        agent: ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(1))) // the client's own, which ends the work
            .proxy(None)
            .build()
            .into(),
        journal: journal.clone(),
        dependencies,
    };
    File::create(&journal)?;
    let orders: Vec<Order> = thread::scope(|scope| {
        scope.spawn(|| serve(&server));
        let orders = (1..=ORDERS).map(|number| shop.order(number)).collect();
        server.unblock();
        orders
    });

    println!("{ORDERS} orders, and what became of their tax:");
    let mut taxes = BTreeMap::new();
    for order in &orders {
        *taxes.entry(order.tax.as_str()).or_insert(0) += 1;
    }
    for (tax, count) in taxes {
        println!("  {count:3} {tax}");
    }
    let stored = fs::read_to_string(&journal)?.lines().count();
    let slowest = orders.iter().map(|order| order.took).max();
    println!(
        "{stored} are in the journal; the slowest order took {:.0?}\n",
        slowest.unwrap_or_default()
    );
    println!("{}", shop.dependencies.health());
    for stats in shop.dependencies.stats() {
        println!("{stats}");
    }
    fs::remove_file(&journal)?;
    if stored != ORDERS {
        return Err("the API that hangs has cost an order".into());
    }
    // Waits for the calls that still hang: at the longest until their client gives up.
    let reports = shop.dependencies.shutdown_all(Duration::from_secs(5));
    println!(
        "all has ended: {}",
        reports.values().all(|report| report.is_clean())
    );
    Ok(())
}

struct Shop {
    dependencies: Dependencies,
    agent: ureq::Agent,
    url: String,
    journal: PathBuf,
}

struct Order {
    tax: String,
    took: Duration,
}

impl Shop {
    fn order(&self, number: usize) -> Order {
        let began = Instant::now();
        let user = self.get("user_api", "get_user", &format!("users/{number}"));
        let tax = match self.get("tax_api", "get_rate", "tax") {
            Ok(rate) => rate,
            Err(BulkheadError::Timeout { .. }) => "to be added later: no answer in time".to_owned(),
            Err(BulkheadError::CircuitOpen { .. }) => {
                "to be added later: not even asked".to_owned()
            }
            Err(error) => format!("to be added later: {error}"),
        };
        if let Ok(user) = user {
            let line = format!("order {number} of {user}: tax {tax}\n");
            if let Err(error) = self.store(line) {
                println!("order {number} is not stored: {error}");
            }
        }
        Order {
            tax,
            took: began.elapsed(),
        }
    }

    fn get(
        &self,
        api: &str,
        operation: &'static str,
        path: &str,
    ) -> Result<String, BulkheadError<Failure>> {
        let (agent, url) = (self.agent.clone(), format!("{}/{path}", self.url));
        let call = match self.dependencies.call(api) {
            Ok(call) => call.operation(operation),
            Err(unknown) => return Err(BulkheadError::Failed(unknown.into())),
        };
        call.execute(move || Ok(agent.get(&url).call()?.body_mut().read_to_string()?))
            .wait()
            .into_result()
    }

    fn store(&self, line: String) -> Result<(), Failure> {
        let path = self.journal.clone();
        let call = self.dependencies.call("journal")?.operation("append");
        let stored = call.execute(move || -> io::Result<()> {
            OpenOptions::new()
                .append(true)
                .open(path)?
                .write_all(line.as_bytes())
        });
        Ok(stored.wait().into_result()?)
    }
}

/// Answers for the users, and never for the tax.
fn serve(server: &Server) {
    let mut left_hanging = Vec::new();
    for request in server.incoming_requests() {
        if request.url() == "/tax" {
            left_hanging.push(request);
        } else {
            let user = request.url().replace("/users/", "user ");
            let _client_may_be_gone = request.respond(Response::from_string(user));
        }
    }
}
