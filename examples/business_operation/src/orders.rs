//! The shop: one operation over three dependencies, each with the policies that its settings name.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bulkman::policy::{Chaos, Fallback, Only, PipelineResult};
use bulkman::settings::Settings;
use bulkman::{Dependencies, DependencyPipeline};

use crate::Fault;
use crate::parts::{Files, Orders, TaxApi};

const SETTINGS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/settings.yaml");

/// Their names in the settings, in the order in which they get into trouble.
pub const DEPENDENCIES: [&str; 3] = ["tax_api", "orders_db", "local_db"];

pub struct Shop {
    dependencies: Dependencies,
    tax: DependencyPipeline<Fault, Only<u32>>,
    price: DependencyPipeline<Fault, Only<u32>>,
    keep: DependencyPipeline<Fault>,
    store: DependencyPipeline<Fault>,
    chaos: [Chaos<Fault>; 3],
    tax_api: Arc<TaxApi>,
    orders: Arc<Orders>,
    files: Files,
}

/// What became of an order, and of each of its calls.
pub struct Placed {
    pub took: Duration,
    pub outcome: Outcome,
    /// In the order of [`DEPENDENCIES`].
    pub calls: [CallOf; 3],
}

#[derive(Clone, Copy, PartialEq)]
pub enum Outcome {
    Stored,
    Kept,
    Lost,
}

/// One call of a dependency.
#[derive(Clone, Copy, Default)]
pub struct CallOf {
    pub has_answer: bool,
    pub is_cached: bool,
    pub attempts: u32,
    pub took: Duration,
}

impl CallOf {
    fn new<T>(result: &PipelineResult<T, Fault>) -> Self {
        Self {
            has_answer: result.is_success() && result.fell_back_from.is_none(),
            is_cached: result.fell_back_from.is_some(),
            attempts: result.attempts,
            took: result.elapsed,
        }
    }
}

impl Shop {
    pub fn open(url: &str, orders: Orders, files: &Files) -> Result<Self, Fault> {
        let settings = Settings::from_path(SETTINGS).load()?;
        let dependencies = Dependencies::from_settings(&settings)?;
        let down =
            |error: &'static str| Chaos::new().errors(1.0, move || io::Error::other(error).into());
        let chaos = [
            down("the tax API is down"),
            Chaos::new().latency(1.0, Duration::from_secs(60)),
            down("the disk is full"),
        ];
        let cached = || Fallback::last_good(Duration::from_secs(300));
        let local = |operation| {
            dependencies
                .call("local_db")
                .map(|call| call.operation(operation))
        };
        Ok(Self {
            tax: dependencies
                .pipeline("tax_api")?
                .fallback(cached())
                .chaos(chaos[0].clone())
                .build()?,
            store: dependencies
                .pipeline("orders_db")?
                .chaos(chaos[1].clone())
                .build()?,
            price: local("price")?
                .pipeline()
                .fallback(cached())
                .chaos(chaos[2].clone())
                .build()?,
            keep: local("keep")?.pipeline().chaos(chaos[2].clone()).build()?,
            dependencies,
            chaos,
            tax_api: Arc::new(TaxApi::new(url)),
            orders: Arc::new(orders),
            files: files.clone(),
        })
    }

    /// The operation. It goes on without whatever it can do without.
    pub fn place(&self, number: u64) -> Placed {
        let began = Instant::now();
        let files = self.files.clone();
        let price = self.price.execute(move || files.price());
        let api = Arc::clone(&self.tax_api);
        let tax = self.tax.execute(move || api.rate());
        let mut calls = [CallOf::new(&tax), CallOf::default(), CallOf::new(&price)];
        let (Some(price), Some(tax)) = (price.value().copied(), tax.value().copied()) else {
            return Placed {
                took: began.elapsed(),
                outcome: Outcome::Lost,
                calls,
            };
        };
        let total = price + price * tax / 100;
        let orders = Arc::clone(&self.orders);
        let stored = self.store.execute(move || orders.store(number, total));
        calls[1] = CallOf::new(&stored);
        let outcome = if stored.is_success() {
            Outcome::Stored
        } else {
            let files = self.files.clone();
            match self.keep.execute(move || files.keep(number, total)) {
                kept if kept.is_success() => Outcome::Kept,
                _ => Outcome::Lost,
            }
        };
        Placed {
            took: began.elapsed(),
            outcome,
            calls,
        }
    }

    /// Stores what was kept, and tells how much it was.
    pub fn deliver(&self) -> Result<usize, Fault> {
        let kept = self.files.kept()?;
        for &(number, total) in &kept {
            let orders = Arc::clone(&self.orders);
            let stored = self.store.execute(move || orders.store(number, total));
            stored.into_result().map_err(|error| error.to_string())?;
        }
        Ok(kept.len())
    }

    /// How many orders PostgreSQL has.
    pub fn stored(&self) -> Result<u64, Fault> {
        self.orders.count()
    }

    /// Lets one dependency be in trouble, and no other.
    pub fn switch(&self, trouble: Option<usize>) {
        for (place, chaos) in self.chaos.iter().enumerate() {
            if trouble == Some(place) {
                chaos.switch_on();
            } else {
                chaos.switch_off();
            }
        }
    }

    pub fn circuit(&self, dependency: usize) -> String {
        let bulkhead = self.dependencies.bulkhead(DEPENDENCIES[dependency]);
        bulkhead.map_or_else(
            |error| error.to_string(),
            |bulkhead| bulkhead.state().to_string(),
        )
    }

    pub fn close(self) -> Result<(), Fault> {
        let reports = self.dependencies.shutdown_all(Duration::from_secs(2));
        match reports.values().all(|report| report.is_clean()) {
            true => Ok(()),
            false => Err("calls were still running".into()),
        }
    }
}
