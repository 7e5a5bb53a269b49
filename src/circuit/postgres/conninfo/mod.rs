//! Where the server is, from a connection string or the environment, in libpq's words.
//!
//! `text` takes both forms apart by libpq's rules, so that a fleet may share one string. `tokio-postgres` is told what it
//! understands; the other options, TLS above all, are obeyed or refused (`tls`). No message repeats any part of a
//! connection string but the names of options, since any part may be a password.

use std::collections::BTreeMap;
use std::str::FromStr;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, LoadBalanceHosts, SslMode};

#[cfg(test)]
mod tests;
mod text;
mod tls;

use self::text::{malformed, options_of_pairs, options_of_url};
use self::tls::Tls;
use super::super::storage::StorageError;

/// Options that `tokio-postgres` knows under the same name.
const KNOWN: &[&str] = &[
    "user",
    "password",
    "dbname",
    "options",
    "application_name",
    "host",
    "hostaddr",
    "port",
    "connect_timeout",
    "tcp_user_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "target_session_attrs",
    "channel_binding",
    "load_balance_hosts",
];

/// Options and their values as they are meant. Of one that is given twice the last holds.
type Options = BTreeMap<String, Vec<u8>>;

#[derive(Debug)]
pub(super) struct Conninfo {
    /// With all hosts.
    pub(super) config: Config,
    /// With one host each, in the order in which they are tried.
    pub(super) servers: Vec<Config>,
    /// What needs a TLS connector, in words; `None` if nothing does.
    pub(super) needs_tls: Option<String>,
}

impl Conninfo {
    /// From a connection string in either of libpq's forms: a URL, or `key=value` pairs.
    pub(super) fn parse(text: &str) -> Result<Self, StorageError> {
        let url = ["postgres://", "postgresql://"]
            .iter()
            .find_map(|scheme| text.strip_prefix(scheme));
        Self::new(match url {
            Some(url) => options_of_url(url)?,
            None => options_of_pairs(text)?,
        })
    }

    /// From the environment, with the variables of Python's resilient-circuit; `None` if they name no server.
    pub(super) fn from_env(
        variable: impl Fn(&str) -> Result<Option<String>, StorageError>,
    ) -> Result<Option<Self>, StorageError> {
        const TLS: [(&str, &str); 4] = [
            ("RC_DB_SSLMODE", "sslmode"),
            ("RC_DB_SSLROOTCERT", "sslrootcert"),
            ("RC_DB_SSLCERT", "sslcert"),
            ("RC_DB_SSLKEY", "sslkey"),
        ];
        let variable = |name: &str| Ok(variable(name)?.filter(|value| !value.is_empty()));
        if let Some(text) = variable("RC_DB_DSN")? {
            for (name, _) in TLS {
                if variable(name)?.is_some() {
                    log::error!(target: "bulkman::circuit", "{name} is ignored, since RC_DB_DSN is set: put it there");
                }
            }
            return Self::parse(&text).map(Some);
        }
        let (Some(host), Some(password)) = (variable("RC_DB_HOST")?, variable("RC_DB_PASSWORD")?)
        else {
            return Ok(None);
        };
        let port = variable("RC_DB_PORT")?.unwrap_or_else(|| "5432".to_owned());
        let is_number = |port: &str| port.is_empty() || port.parse::<u16>().is_ok();
        if !port.trim().split(',').all(is_number) {
            return Err(StorageError::new("RC_DB_PORT is not a port number"));
        }
        let or = |value: Option<String>, default: &str| value.unwrap_or_else(|| default.to_owned());
        let mut options = vec![
            ("host", host),
            ("port", port.trim().to_owned()),
            ("user", or(variable("RC_DB_USER")?, "postgres")),
            ("password", password),
            (
                "dbname",
                or(variable("RC_DB_NAME")?, "resilient_circuit_db"),
            ),
        ];
        for (name, option) in TLS {
            options.extend(variable(name)?.map(|value| (option, value)));
        }
        let options = options
            .into_iter()
            .map(|(option, value)| (option.to_owned(), value.into_bytes()));
        Self::new(options.collect()).map(Some)
    }

    fn new(options: Options) -> Result<Self, StorageError> {
        let mut tls = Tls::default();
        let mut password = None;
        let (mut kept, mut hosts) = (String::new(), String::new());
        for (option, value) in options {
            if option == "password" {
                password = Some(value);
                continue;
            }
            let mut value = String::from_utf8(value).map_err(|_| malformed())?;
            if option == "target_session_attrs" {
                value = session(&value)?.to_owned();
            }
            // An empty value means the default.
            if !tls.take(&option, &value)? && !value.is_empty() {
                let value = value.replace('\\', r"\\").replace('\'', r"\'");
                let to = if ["host", "hostaddr", "port"].contains(&option.as_str()) {
                    &mut hosts
                } else {
                    &mut kept
                };
                *to += &format!("{}='{value}' ", own_name(&option));
            }
        }
        let config = |text: &str| {
            // Its message may quote what it stumbled over.
            let mut config = Config::from_str(text).map_err(|_| {
                StorageError::new("the connection string of the circuit storage is malformed, or one of its values is")
            })?;
            if let Some(password) = &password {
                config.password(password);
            }
            config.ssl_mode(tls.mode.unwrap_or(SslMode::Prefer));
            if config.get_application_name().is_none() {
                config.application_name("bulkman");
            }
            Ok::<_, StorageError>(config)
        };
        let nowhere = config(&kept)?;
        let config = config(&(kept + &hosts))?;
        check_hosts(&config)?;
        Ok(Self {
            servers: servers(&config, &nowhere),
            needs_tls: tls.needed_for()?,
            config,
        })
    }
}

fn servers(config: &Config, nowhere: &Config) -> Vec<Config> {
    if config.get_load_balance_hosts() == LoadBalanceHosts::Random {
        return vec![config.clone()];
    }
    let (hosts, addresses) = (config.get_hosts(), config.get_hostaddrs());
    let server = |i: usize| {
        let mut server = nowhere.clone();
        match hosts.get(i) {
            Some(Host::Tcp(name)) => drop(server.host(name)),
            #[cfg(unix)]
            Some(Host::Unix(path)) => drop(server.host_path(path)),
            None => {}
        }
        if let Some(address) = addresses.get(i) {
            server.hostaddr(*address);
        }
        if let Some(port) = config.get_ports().get(i).or(config.get_ports().first()) {
            server.port(*port);
        }
        server
    };
    (0..hosts.len().max(addresses.len())).map(server).collect()
}

/// What else would only be found out by each attempt to connect.
fn check_hosts(config: &Config) -> Result<(), StorageError> {
    let (names, addresses) = (config.get_hosts(), config.get_hostaddrs());
    let hosts = names.len().max(addresses.len());
    let nameless = Host::Tcp(String::new());
    let problem = if hosts == 0 || names.contains(&nameless) {
        "names no host"
    } else if !names.is_empty() && !addresses.is_empty() && names.len() != addresses.len() {
        "has not as many hosts as addresses"
    } else if config.get_ports().len() > 1 && config.get_ports().len() != hosts {
        "has not as many ports as hosts"
    } else {
        return Ok(());
    };
    Err(StorageError::new(format!(
        "the connection string of the circuit storage {problem}"
    )))
}

/// Whether a flag is set, as Python's resilient-circuit reads it.
pub(super) fn is_set(value: Option<String>) -> bool {
    let value = value.unwrap_or_default().trim().to_ascii_lowercase();
    ["1", "true", "yes", "on"].contains(&value.as_str())
}

/// `target_session_attrs` in the words of `tokio-postgres`. Circuits have to be written.
fn session(value: &str) -> Result<&str, StorageError> {
    match value {
        "" | "any" => Ok("any"),
        "read-write" | "primary" => Ok("read-write"),
        "read-only" | "standby" | "prefer-standby" => Err(StorageError::new(
            "target_session_attrs wants a server that takes no writes, and circuits have to be written",
        )),
        _ => Err(StorageError::new(
            "target_session_attrs must be any, read-write or primary",
        )),
    }
}

/// The name under which `tokio-postgres` knows an option.
fn own_name(option: &str) -> &str {
    match option {
        "keepalives_count" => "keepalives_retries",
        other => other,
    }
}
