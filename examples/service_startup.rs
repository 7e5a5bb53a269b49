//! A service that starts: settings, dependencies, the wait for the one that nothing goes without, readiness, and the end.
//!
//! ```text
//! cargo run --features yaml --example service_startup
//! BULKMAN_EXTERNAL_DEPENDENCIES__USER_API__OPERATIONS__CHECK__TIMEOUT=300ms cargo run --features yaml --example service_startup
//! ```
//!
//! The servers and the clients are real, and local. `user_api` comes up later than the service; with the second command the
//! service gives up before. `tax_api` never comes up, and the service starts without it.

use std::error::Error;
use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use bulkman::policy::remaining;
use bulkman::settings::Settings;
use bulkman::{Dependencies, DependencyPipeline};
use tiny_http::{Response, Server};

const SETTINGS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/service_startup.yaml");
/// So much later than the service the user API comes up.
const LATER: Duration = Duration::from_millis(900);

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // With its place, if it is a slip in the file.
            eprintln!("the service does not start: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    let began = Instant::now();
    let say = |what: &str| println!("{:>5.1} s  {what}", began.elapsed().as_secs_f64());

    // 1. Settings: a slip ends the program here, and not at the first call.
    let settings = Settings::from_path(SETTINGS).load()?;
    // 2. Dependencies: all of them, or an error and no thread left behind.
    let dependencies = Arc::new(Dependencies::from_settings(&settings)?);
    let names = dependencies.names().join(", ");
    say(&format!("registered: {names}"));

    // 3. The page for the load balancer is there from now on, and says no.
    let is_ready = Arc::new(AtomicBool::new(false));
    let pages = Pages::open(&dependencies, &is_ready)?;
    say(&format!("GET /ready: {}", pages.ready()?));

    // 4. Wait for the dependency that every request needs: its operation `check` asks whether it answers.
    let users = free_address()?;
    let user_server = Arc::new(OnceLock::new());
    let answering = {
        let server = Arc::clone(&user_server);
        thread::spawn(move || {
            thread::sleep(LATER);
            if let Ok(started) = Server::http(users) {
                serve(server.get_or_init(|| started));
            }
        })
    };
    let api = Api::new(users);
    let check = dependencies.call("user_api")?.operation("check");
    let check: DependencyPipeline<ureq::Error> = check
        .pipeline()
        // A server that is not there yet says nothing about its circuit.
        .failure_if(|error| !matches!(error, ureq::Error::Io(_)))
        .build()?;
    let client = api.clone();
    let checked = check.execute(move || client.get());
    let attempts = checked.attempts;
    if let Err(error) = checked.into_result() {
        return Err(format!("`user_api` did not answer, {attempts} attempts: {error}").into());
    }
    say(&format!("user_api answers, at attempt {attempts}"));

    // 5. Ready, even if a dependency is down that requests can do without.
    is_ready.store(true, Ordering::Relaxed);
    say(&format!("GET /ready: {}", pages.ready()?));

    // 6. At work: one dependency is well, the other is not there.
    let call = dependencies.call("user_api")?.operation("get_user");
    let get_user: DependencyPipeline<ureq::Error> = call.pipeline().build()?;
    let get_tax: DependencyPipeline<ureq::Error> = dependencies.pipeline("tax_api")?.build()?;
    let nowhere = Api::new(free_address()?);
    let (mut users, mut taxes) = (0, 0);
    for _ in 0..20 {
        let (client, missing) = (api.clone(), nowhere.clone());
        users += u32::from(get_user.execute(move || client.get()).is_success());
        taxes += u32::from(get_tax.execute(move || missing.get()).is_success());
    }
    say(&format!("20 requests: {users} users, {taxes} taxes"));
    say(&format!("GET /ready: {}", pages.ready()?));
    if (users, taxes) != (20, 0) {
        return Err("unexpected: each request has its user and no tax".into());
    }

    // 7. The end: first no more traffic, then no more calls.
    is_ready.store(false, Ordering::Relaxed);
    say(&format!("GET /ready: {}", pages.ready()?));
    let reports = dependencies.shutdown_all(Duration::from_secs(5));
    let clean = reports.values().all(|report| report.is_clean());
    say(&format!("shut down, nothing left: {clean}"));
    pages.close();
    if let Some(server) = user_server.get() {
        server.unblock();
    }
    answering.join().map_err(|_| "the user API panicked")?;
    Ok(())
}

/// The service's own pages.
struct Pages {
    server: Arc<Server>,
    answering: thread::JoinHandle<()>,
}

impl Pages {
    fn open(dependencies: &Arc<Dependencies>, is_ready: &Arc<AtomicBool>) -> Result<Self, Failure> {
        let server = Arc::new(Server::http("127.0.0.1:0")?);
        let own = Arc::clone(&server);
        let (dependencies, is_ready) = (Arc::clone(dependencies), Arc::clone(is_ready));
        let answering = thread::spawn(move || {
            while let Ok(request) = own.recv() {
                let status = if is_ready.load(Ordering::Relaxed) {
                    200
                } else {
                    503
                };
                let text = dependencies.health().to_string();
                // A client that has gone away needs no answer.
                let _gone = request.respond(Response::from_string(text).with_status_code(status));
            }
        });
        Ok(Self { server, answering })
    }

    /// What a load balancer sees.
    fn ready(&self) -> Result<String, Failure> {
        let request = ureq::get(format!("http://{}/ready", self.server.server_addr())).config();
        let mut response = request
            .proxy(None)
            .http_status_as_error(false)
            .build()
            .call()?;
        let text = response.body_mut().read_to_string()?;
        Ok(format!("{} ({text})", response.status().as_u16()))
    }

    fn close(self) {
        self.server.unblock();
        let _ended = self.answering.join();
    }
}

/// A client of an API.
#[derive(Clone)]
struct Api {
    url: String,
    agent: ureq::Agent,
}

impl Api {
    fn new(address: SocketAddr) -> Self {
        let config = ureq::Agent::config_builder().proxy(None);
        Self {
            url: format!("http://{address}/"),
            agent: config.build().into(),
        }
    }

    /// It gives up when its caller does.
    fn get(&self) -> Result<String, ureq::Error> {
        let request = self.agent.get(&self.url).config();
        let request = request.timeout_global(remaining()).build();
        request.call()?.body_mut().read_to_string()
    }
}

fn serve(server: &Server) {
    while let Ok(request) = server.recv() {
        let _gone = request.respond(Response::from_string("Ada"));
    }
}

/// An address where nobody listens.
fn free_address() -> Result<SocketAddr, Failure> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
