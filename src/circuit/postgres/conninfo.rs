//! Where the server is, from a connection string or the environment, in libpq's words.
//!
//! Both forms are taken apart here, by libpq's rules, so that a fleet may share one string. `tokio-postgres` is told what
//! it understands; the other options, TLS above all, are obeyed or refused.
//! No message repeats any part of a connection string but the names of options, since any part may be a password.

use std::collections::BTreeMap;
use std::str::FromStr;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, LoadBalanceHosts, SslMode};

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

/// libpq options that a TLS connector has to know, if there is one.
const CONNECTOR: &[&str] = &[
    "sslrootcert",
    "sslcert",
    "sslkey",
    "sslpassword",
    "sslcrl",
    "sslcrldir",
    "sslsni",
    "sslcertmode",
    "ssl_min_protocol_version",
    "ssl_max_protocol_version",
];

/// libpq options without a counterpart here that change nothing which matters.
const HARMLESS: &[&str] = &[
    "client_encoding",
    "fallback_application_name",
    "sslcompression",
];

/// libpq options without a counterpart here that must not be passed over.
const REFUSED: &[&str] = &[
    "service",
    "servicefile",
    "passfile",
    "requiressl",
    "requirepeer",
    "require_auth",
    "krbsrvname",
    "gsslib",
    "gssdelegation",
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
                    log::error!("{name} is ignored, since RC_DB_DSN is set: put it there");
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
            let value = String::from_utf8(value).map_err(|_| malformed())?;
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

#[derive(Default)]
struct Tls {
    mode: Option<SslMode>,
    needed_for: Option<String>,
    is_direct: bool,
}

impl Tls {
    fn needed_for(self) -> Result<Option<String>, StorageError> {
        match self.mode {
            Some(SslMode::Require) => Ok(self.needed_for),
            _ if self.is_direct => Err(StorageError::new(
                "sslnegotiation=direct needs sslmode=require or more",
            )),
            Some(SslMode::Disable) => Ok(None),
            _ => Ok(self.needed_for),
        }
    }

    /// Whether the option was one of those that are dealt with here.
    fn take(&mut self, option: &str, value: &str) -> Result<bool, StorageError> {
        match option {
            "sslmode" => {
                self.mode = Some(match value {
                    "disable" => SslMode::Disable,
                    "allow" | "prefer" => SslMode::Prefer,
                    "require" | "verify-ca" | "verify-full" => {
                        self.needed_for = Some(format!("sslmode={value}"));
                        SslMode::Require
                    }
                    _ => {
                        return Err(StorageError::new(
                            "sslmode must be disable, allow, prefer, require, verify-ca or verify-full",
                        ));
                    }
                });
            }
            "gssencmode" if value == "require" => {
                return Err(StorageError::new("gssencmode=require is not supported"));
            }
            "gssencmode" => {}
            "sslnegotiation" => {
                self.is_direct = value == "direct";
                return Ok(false);
            }
            _ if CONNECTOR.contains(&option) => {
                let needed_for = option.to_owned();
                self.needed_for.get_or_insert(needed_for);
            }
            _ if HARMLESS.contains(&option) => {}
            _ if REFUSED.contains(&option) => {
                return Err(StorageError::new(format!(
                    "the option {option} of the connection string is not supported"
                )));
            }
            _ if KNOWN.contains(&option) || option == "keepalives_count" => return Ok(false),
            _ => {
                return Err(StorageError::new(
                    "the connection string has an option that is not known",
                ));
            }
        }
        Ok(true)
    }
}

/// The name under which `tokio-postgres` knows an option.
fn own_name(option: &str) -> &str {
    match option {
        "keepalives_count" => "keepalives_retries",
        other => other,
    }
}

/// `[user[:password]@][host[:port],...][/dbname][?option=value&...]`, after the scheme.
fn options_of_url(url: &str) -> Result<Options, StorageError> {
    let mut options = Options::new();
    let mut add = |option: &str, value: &str| {
        let value = decoded(value)?;
        options.insert(option.to_owned(), value);
        Ok::<_, StorageError>(())
    };
    // An `@` after a slash belongs to what comes later.
    let credentials = match url.find(['@', '/']) {
        Some(at) if url[at..].starts_with('@') => Some(&url[..at]),
        _ => None,
    };
    let rest = credentials.map_or(url, |credentials| &url[credentials.len() + 1..]);
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    // Whatever comes of these, some of a password would be taken for a host or a database.
    if credentials.is_some_and(|credentials| credentials.contains('?')) || place.contains('@') {
        return Err(StorageError::new(
            "the URL of the circuit storage is not clear: write @ as %40, / as %2F and ? as %3F in its user and password",
        ));
    }
    if let Some(credentials) = credentials {
        let (user, password) = match credentials.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (credentials, None),
        };
        add("user", user)?;
        if let Some(password) = password {
            add("password", password)?;
        }
    }
    let (servers, database) = place.split_once('/').unwrap_or((place, ""));
    let servers = servers.split(',').map(host_and_port);
    let (hosts, ports): (Vec<_>, Vec<_>) =
        servers.collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
    add("host", &hosts.join(","))?;
    // Without any it is the default, and not one port for each host: `?port=` may follow.
    if ports.iter().any(|port| !port.is_empty()) {
        add("port", &ports.join(","))?;
    }
    add("dbname", database)?;
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (option, value) = parameter.split_once('=').ok_or_else(malformed)?;
        let option = String::from_utf8(decoded(option)?).map_err(|_| malformed())?;
        match (option.as_str(), value) {
            // From the days of other drivers; libpq knows it, too.
            ("ssl", "true") => add("sslmode", "require")?,
            _ => add(&option, value)?,
        }
    }
    Ok(options)
}

/// An IPv6 address stands in brackets.
fn host_and_port(server: &str) -> Result<(&str, &str), StorageError> {
    let (host, port) = match server.strip_prefix('[') {
        Some(bracketed) => bracketed.split_once(']').ok_or_else(malformed)?,
        None => server.split_at(server.find(':').unwrap_or(server.len())),
    };
    match port.strip_prefix(':') {
        Some(port) => Ok((host, port)),
        None if port.is_empty() => Ok((host, "")),
        None => Err(malformed()),
    }
}

/// Without percent signs.
fn decoded(text: &str) -> Result<Vec<u8>, StorageError> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let digits = [bytes.next(), bytes.next()];
                let [Some(high), Some(low)] = digits.map(|digit| char::from(digit?).to_digit(16))
                else {
                    return Err(malformed());
                };
                (high * 16 + low) as u8
            }
            other => other,
        });
    }
    if decoded.contains(&0) {
        return Err(malformed());
    }
    Ok(decoded)
}

fn options_of_pairs(text: &str) -> Result<Options, StorageError> {
    let pairs = pairs(text)?.into_iter();
    Ok(pairs
        .map(|(option, value)| (option, value.into_bytes()))
        .collect())
}

/// What libpq takes for a space: a value may hold any other.
fn is_space(character: char) -> bool {
    character.is_ascii_whitespace() || character == '\x0b'
}

/// The pairs of `key = value`, where a value may stand in single quotes, and `\` takes the next character as it is.
fn pairs(text: &str) -> Result<Vec<(String, String)>, StorageError> {
    let mut pairs = Vec::new();
    let mut rest = text.trim_start_matches(is_space);
    while !rest.is_empty() {
        let (option, after) = rest.split_once('=').ok_or_else(malformed)?;
        let option = option.trim_end_matches(is_space);
        let after = after.trim_start_matches(is_space);
        let quoted = after.strip_prefix('\'');
        let mut value = String::new();
        let mut characters = quoted.unwrap_or(after).chars();
        loop {
            match characters.next() {
                Some('\\') => value.push(characters.next().ok_or_else(malformed)?),
                Some('\'') if quoted.is_some() => break,
                Some(space) if quoted.is_none() && is_space(space) => break,
                Some(other) => value.push(other),
                None if quoted.is_none() => break,
                None => return Err(malformed()),
            }
        }
        pairs.push((option.to_owned(), value));
        rest = characters.as_str().trim_start_matches(is_space);
    }
    Ok(pairs)
}

fn malformed() -> StorageError {
    StorageError::new("the connection string of the circuit storage is malformed")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(config: &Config) -> String {
        format!("{:?}", config.get_hosts())
    }

    fn refusal(text: &str) -> String {
        Conninfo::parse(text).expect_err(text).to_string()
    }

    #[test]
    fn both_forms_say_the_same() {
        for text in [
            "host=db.example port=6432 user=app password=s3cret dbname=circuits sslmode=disable",
            "host = 'db.example'  port='6432' user=app password = 's3cret' dbname=circuits gssencmode=disable",
            "postgresql://app:s3cret@db.example:6432/circuits?sslmode=disable&keepalives_count=3",
            "postgres://app:s3cret@db.example:6432/circuits",
        ] {
            let conninfo = Conninfo::parse(text).expect(text);
            assert_eq!(host(&conninfo.config), r#"[Tcp("db.example")]"#, "{text}");
            assert_eq!(conninfo.config.get_ports(), [6432]);
            assert_eq!(conninfo.config.get_user(), Some("app"));
            assert_eq!(conninfo.config.get_password(), Some(&b"s3cret"[..]));
            assert_eq!(conninfo.config.get_dbname(), Some("circuits"));
            assert_eq!(conninfo.config.get_application_name(), Some("bulkman"));
            assert_eq!(conninfo.needs_tls, None, "{text}");
        }
    }

    #[test]
    fn quotes_and_escapes() {
        let conninfo = Conninfo::parse(r"host=h password='it''");
        assert!(conninfo.is_err());
        for (text, password) in [
            (r"host=h password='a b\'c\\d'", r"a b'c\d"),
            (r"host=h password=a\ b", "a b"),
            (r"host=h password=''", ""),
            ("host=h password=it's user=app", "it's"),
        ] {
            let conninfo = Conninfo::parse(text).expect(text);
            assert_eq!(
                conninfo.config.get_password(),
                Some(password.as_bytes()),
                "{text}"
            );
        }
    }

    #[test]
    fn tls_is_never_dropped_in_silence() {
        for (text, needed_for) in [
            ("host=h sslmode=require", "sslmode=require"),
            (
                "host=h sslmode=verify-full sslrootcert=/ca.pem",
                "sslmode=verify-full",
            ),
            ("postgres://h/?sslmode=verify-ca", "sslmode=verify-ca"),
            ("host=h sslcert=/c.pem", "sslcert"),
            ("postgres://h/?sslmode=%72equire", "sslmode=require"),
            ("postgres://h/?ssl%6dode=require", "sslmode=require"),
            ("postgres://h/?ssl=true", "sslmode=require"),
            ("host=h sslmode=disable sslmode=require", "sslmode=require"),
            (
                "host=h sslmode=require sslnegotiation=direct",
                "sslmode=require",
            ),
        ] {
            let conninfo = Conninfo::parse(text).expect(text);
            assert_eq!(conninfo.needs_tls.as_deref(), Some(needed_for), "{text}");
        }
        for text in [
            "postgres://h/?gssencmode=%72equire",
            "host=h sslnegotiation=direct",
            "host=h sslnegotiation=direct sslmode=prefer",
            "host=h sslnegotiation=direct sslmode=disable",
        ] {
            refusal(text);
        }
        for text in [
            "host=h sslmode=require sslmode=disable",
            "host=h sslmode=disable sslrootcert=/ca.pem",
        ] {
            let conninfo = Conninfo::parse(text).expect(text);
            assert_eq!(conninfo.needs_tls, None, "{text}");
            assert_eq!(conninfo.config.get_ssl_mode(), SslMode::Disable);
        }
        for text in ["host=h", "host=h sslmode=allow", "host=h sslmode=prefer"] {
            let conninfo = Conninfo::parse(text).expect(text);
            assert_eq!(conninfo.needs_tls, None, "{text}");
            assert_eq!(conninfo.config.get_ssl_mode(), SslMode::Prefer, "{text}");
        }
    }

    #[test]
    fn what_changes_nothing_is_passed_over() {
        let without = Conninfo::parse("host=h").unwrap().config;
        for option in HARMLESS {
            let with = Conninfo::parse(&format!("host=h {option}=x")).expect(option);
            assert_eq!(with.config, without, "{option}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_without_quoting_it() {
        for text in [
            "host=h service=prod",
            "host=h gssencmode=require",
            "host=h sslmode=s3cret",
            "host=h password=s3 s3cret",
            "host=h password=s3 s3cret=1",
            "host=h password='s3cret",
            "host=h port=s3cret",
            "postgres://app:s3cret@h:notaport/db",
            "postgres://app@h/db?s3cret=1",
            "postgres://app@h/db?s3cret",
            "host=h s3cret =1",
            "='s3cret' host=h",
            "host=h host s3cret=1",
            "s3cret",
        ] {
            assert!(
                !refusal(text).contains("s3cret"),
                "{text}: {}",
                refusal(text)
            );
        }
        assert!(refusal("host=h service=prod").contains("service"));
        assert!(refusal("host=h s3cret=1").contains("an option that is not known"));
    }

    #[test]
    fn what_libpq_reads_in_a_string() {
        // Host, port, user, password, database.
        for (text, expected) in [
            (
                "postgresql://db.example/circuits?user=app&password=p@ss",
                r#"[Tcp("db.example")] [] app p@ss circuits"#,
            ),
            (
                "postgres://app:s%3Fc%40r%2Ft@h/d%62",
                r#"[Tcp("h")] [] app s?c@r/t db"#,
            ),
            (
                "postgres://app:a%20b:c&d@h/db",
                r#"[Tcp("h")] [] app a b:c&d db"#,
            ),
            (
                "postgres://app:p@[::1]:6432/db",
                r#"[Tcp("::1")] [6432] app p db"#,
            ),
            ("postgres://app:p@[::1]/db", r#"[Tcp("::1")] [] app p db"#),
            (
                "postgres://app:p@a:1,b,[::2]:3/db",
                r#"[Tcp("a"), Tcp("b"), Tcp("::2")] [1, 5432, 3] app p db"#,
            ),
            (
                "postgres://app:p@%2Fvar%2Frun/db",
                r#"[Unix("/var/run")] [] app p db"#,
            ),
            (
                "postgres:///db?host=/var/run&user=app&password=p",
                r#"[Unix("/var/run")] [] app p db"#,
            ),
            // The port of the query is that of the host before it.
            (
                "postgres://app:p@h/db?port=6432",
                r#"[Tcp("h")] [6432] app p db"#,
            ),
            // The last one holds.
            (
                "postgres://app:p@a:1/db?host=b&port=2&dbname=other",
                r#"[Tcp("b")] [2] app p other"#,
            ),
            (
                "host=a host=b port=1 port=2 user=app password=x password=p dbname=db",
                r#"[Tcp("b")] [2] app p db"#,
            ),
            (
                "host=a port='' user=app password=p dbname=db options=''",
                r#"[Tcp("a")] [] app p db"#,
            ),
            (
                "host=::1,b port=1,2 user=app password=p\u{a0}w\u{3000} dbname=d\u{fc}",
                "[Tcp(\"::1\"), Tcp(\"b\")] [1, 2] app p\u{a0}w\u{3000} d\u{fc}",
            ),
            (
                "host=h\x0buser=app\tpassword='p ?&@/=#'\ndbname=db",
                r#"[Tcp("h")] [] app p ?&@/=# db"#,
            ),
        ] {
            let config = Conninfo::parse(text).expect(text).config;
            let read = format!(
                "{} {:?} {} {} {}",
                host(&config),
                config.get_ports(),
                config.get_user().unwrap_or_default(),
                String::from_utf8_lossy(config.get_password().unwrap_or_default()),
                config.get_dbname().unwrap_or_default(),
            );
            assert_eq!(read, expected, "{text}");
        }
        let text = "host=a,/b hostaddr=::1,::2 port=1,2 user=app password=p options='-c x=1' sslmode=disable";
        let servers = Conninfo::parse(text).unwrap().servers;
        for (server, text) in servers.iter().zip([
            "host=a hostaddr=::1 port=1 user=app password=p options='-c x=1' sslmode=disable",
            "host=/b hostaddr=::2 port=2 user=app password=p options='-c x=1' sslmode=disable",
        ]) {
            assert_eq!(*server, Conninfo::parse(text).unwrap().config);
        }
        assert_eq!(servers.len(), 2);
        let one_port = Conninfo::parse("host=a,b port=1").unwrap().servers;
        for (server, text) in one_port.iter().zip(["host=a port=1", "host=b port=1"]) {
            assert_eq!(*server, Conninfo::parse(text).unwrap().config);
        }
        assert_eq!(one_port.len(), 2);
        let bytes = Conninfo::parse("postgres://app:%FF%fe@h/db").unwrap();
        assert_eq!(bytes.config.get_password(), Some(&[0xff, 0xfe][..]));
    }

    #[test]
    fn a_string_that_can_be_taken_in_two_ways_is_refused() {
        for text in [
            "postgres://app:pass@word@h/db",
            "postgres://app:12/34@h/db",
            "postgres://app:12?34@h/db",
            "postgres://h?user=app&password=p@ss",
            "postgres://app@h/db%",
            "postgres://app@h/db%4",
            "postgres://app@h/db%zz",
            "postgres://app@h/db%+4",
            "postgres://app:%00@h/db",
            "postgres://app@[::1/db",
            "postgres://app@[::1]x/db",
            "postgres://app@h:1:2/db",
            "POSTGRES://app@h/db",
            "postgres://app@/db",
            "postgres://",
            "",
            "user=app",
            "host=",
            "host=a,,b",
            "host=a,b port=1,2,3",
            "host=a,b hostaddr=127.0.0.1",
        ] {
            let refused = refusal(text);
            assert!(
                !refused.contains("pass@") && !refused.contains("34"),
                "{refused}"
            );
        }
    }

    /// No text makes it panic, and what it says has no part of it.
    #[test]
    fn any_text() {
        const PARTS: &[&str] = &[
            "postgres://",
            "postgresql://",
            "host",
            "=",
            "'",
            "\\",
            " ",
            "@",
            ":",
            "/",
            "?",
            "&",
            "%",
            "%4",
            "%41",
            "[",
            "]",
            ",",
            "sslmode",
            "require",
            "password",
            "s3cret",
            "port",
            "1",
            "\u{a0}",
            "名",
            "\0",
            "options",
            "ssl",
            "hostaddr",
            "sslnegotiation",
            "direct",
        ];
        let mut random = 88_172_645_463_325_252_u64;
        for _ in 0..50_000 {
            let mut text = String::new();
            loop {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                if random % 12 == 0 {
                    break;
                }
                text += PARTS[(random >> 32) as usize % PARTS.len()];
            }
            if let Err(error) = Conninfo::parse(&text) {
                assert!(!error.to_string().contains("s3cret"), "{text:?}: {error}");
            }
        }
    }

    #[test]
    fn the_environment() {
        let from = |variables: &[(&str, &str)]| {
            Conninfo::from_env(|name| {
                let found = variables.iter().find(|(key, _)| *key == name);
                Ok(found.map(|(_, value)| (*value).to_owned()))
            })
        };
        assert!(from(&[]).unwrap().is_none());
        assert!(from(&[("RC_DB_HOST", "h")]).unwrap().is_none());
        assert!(
            from(&[("RC_DB_HOST", "h"), ("RC_DB_PASSWORD", "")])
                .unwrap()
                .is_none()
        );

        let discrete = from(&[("RC_DB_HOST", "h"), ("RC_DB_PASSWORD", "with space")]);
        let config = discrete.unwrap().unwrap().config;
        assert_eq!(config.get_password(), Some(&b"with space"[..]));
        assert_eq!(config.get_ports(), [5432]);
        assert_eq!(config.get_user(), Some("postgres"));
        assert_eq!(config.get_dbname(), Some("resilient_circuit_db"));

        let dsn = from(&[
            ("RC_DB_DSN", "host=other user=u"),
            ("RC_DB_HOST", "h"),
            ("RC_DB_PASSWORD", "p"),
            ("RC_DB_SSLMODE", "verify-full"),
        ]);
        let dsn = dsn.unwrap().unwrap();
        assert_eq!(host(&dsn.config), r#"[Tcp("other")]"#);
        assert_eq!(dsn.needs_tls, None, "ignored, as in Python");

        let tls = from(&[
            ("RC_DB_HOST", "h"),
            ("RC_DB_PASSWORD", "p"),
            ("RC_DB_SSLMODE", "verify-full"),
        ]);
        assert!(tls.unwrap().unwrap().needs_tls.is_some());
        assert!(
            from(&[
                ("RC_DB_HOST", "h"),
                ("RC_DB_PASSWORD", "p"),
                ("RC_DB_PORT", "x")
            ])
            .is_err()
        );
    }

    #[test]
    fn flags() {
        for value in ["1", "true", " YES ", "On"] {
            assert!(is_set(Some(value.to_owned())), "{value}");
        }
        for value in ["", "0", "y", "t", "false", "enabled"] {
            assert!(!is_set(Some(value.to_owned())), "{value}");
        }
        assert!(!is_set(None));
    }
}
