//! Where the server is, from a connection string or the environment, in libpq's words.
//!
//! `tokio-postgres` understands most of them. The others, TLS above all, are taken out here and are obeyed or refused.
//! No message repeats any part of a connection string but the names of options, since any part may be a password.

use std::str::FromStr;

use tokio_postgres::Config;
use tokio_postgres::config::SslMode;

use super::super::storage::StorageError;

/// Options that `tokio-postgres` knows under the same name.
const KNOWN: &[&str] = &[
    "user",
    "password",
    "dbname",
    "options",
    "application_name",
    "sslnegotiation",
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

#[derive(Debug)]
pub(super) struct Conninfo {
    pub(super) config: Config,
    /// What needs a TLS connector, in words; `None` if nothing does.
    pub(super) needs_tls: Option<String>,
}

impl Conninfo {
    /// From a connection string in either of libpq's forms: a URL, or `key=value` pairs.
    pub(super) fn parse(text: &str) -> Result<Self, StorageError> {
        let mut tls = Tls::default();
        let is_url = text.starts_with("postgres://") || text.starts_with("postgresql://");
        let rest = if is_url {
            without_foreign_parameters(text, &mut tls)?
        } else {
            without_foreign_pairs(text, &mut tls)?
        };
        // Its message may quote what it stumbled over.
        let config = Config::from_str(&rest).map_err(|_| {
            StorageError::new("the connection string of the circuit storage is malformed, or one of its values is")
        })?;
        Ok(Self::new(config, tls))
    }

    /// From the environment, with the variables of Python's resilient-circuit; `None` if they name no server.
    pub(super) fn from_env(
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, StorageError> {
        const TLS: [(&str, &str); 4] = [
            ("RC_DB_SSLMODE", "sslmode"),
            ("RC_DB_SSLROOTCERT", "sslrootcert"),
            ("RC_DB_SSLCERT", "sslcert"),
            ("RC_DB_SSLKEY", "sslkey"),
        ];
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        if let Some(text) = variable("RC_DB_DSN") {
            for (name, _) in TLS {
                if variable(name).is_some() {
                    log::error!("{name} is ignored, since RC_DB_DSN is set: put it there");
                }
            }
            return Self::parse(&text).map(Some);
        }
        let (Some(host), Some(password)) = (variable("RC_DB_HOST"), variable("RC_DB_PASSWORD"))
        else {
            return Ok(None);
        };
        let mut config = Config::new();
        config.host(&host).password(password);
        config.user(variable("RC_DB_USER").as_deref().unwrap_or("postgres"));
        config.dbname(
            variable("RC_DB_NAME")
                .as_deref()
                .unwrap_or("resilient_circuit_db"),
        );
        config.port(match variable("RC_DB_PORT") {
            None => 5432,
            Some(port) => port
                .trim()
                .parse()
                .map_err(|_| StorageError::new("RC_DB_PORT is not a port number"))?,
        });
        let mut tls = Tls::default();
        for (name, option) in TLS {
            if let Some(value) = variable(name) {
                tls.take(option, &value)?;
            }
        }
        Ok(Some(Self::new(config, tls)))
    }

    fn new(mut config: Config, tls: Tls) -> Self {
        if let Some(mode) = tls.mode {
            config.ssl_mode(mode);
        }
        if config.get_application_name().is_none() {
            config.application_name("bulkman");
        }
        Self {
            config,
            needs_tls: tls.needed_for,
        }
    }
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
}

impl Tls {
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

fn without_foreign_parameters(url: &str, tls: &mut Tls) -> Result<String, StorageError> {
    let Some((server, query)) = url.split_once('?') else {
        return Ok(url.to_owned());
    };
    let mut kept = Vec::new();
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (option, value) = parameter.split_once('=').ok_or_else(malformed)?;
        // The values that matter here need no escapes.
        if !tls.take(option, value)? {
            kept.push(format!("{}={value}", own_name(option)));
        }
    }
    Ok(if kept.is_empty() {
        server.to_owned()
    } else {
        format!("{server}?{}", kept.join("&"))
    })
}

fn without_foreign_pairs(text: &str, tls: &mut Tls) -> Result<String, StorageError> {
    let mut kept = String::new();
    for (option, value) in pairs(text)? {
        if !tls.take(&option, &value)? {
            let value = value.replace('\\', r"\\").replace('\'', r"\'");
            kept += &format!("{}='{value}' ", own_name(&option));
        }
    }
    Ok(kept)
}

/// The pairs of `key = value`, where a value may stand in single quotes, and `\` takes the next character as it is.
fn pairs(text: &str) -> Result<Vec<(String, String)>, StorageError> {
    let mut pairs = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (option, after) = rest.split_once('=').ok_or_else(malformed)?;
        let option = option.trim_end();
        if option.is_empty() || option.contains(char::is_whitespace) {
            return Err(malformed());
        }
        let after = after.trim_start();
        let quoted = after.strip_prefix('\'');
        let mut value = String::new();
        let mut characters = quoted.unwrap_or(after).chars();
        let mut closed = quoted.is_none();
        loop {
            let before = characters.as_str();
            match characters.next() {
                Some('\\') => value.push(characters.next().ok_or_else(malformed)?),
                Some('\'') if quoted.is_some() => {
                    closed = true;
                    break;
                }
                Some(space) if quoted.is_none() && space.is_whitespace() => break,
                Some(other) => value.push(other),
                None => {
                    debug_assert!(before.is_empty());
                    break;
                }
            }
        }
        if !closed {
            return Err(malformed());
        }
        pairs.push((option.to_owned(), value));
        rest = characters.as_str().trim_start();
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
        ] {
            let conninfo = Conninfo::parse(text).expect(text);
            assert_eq!(conninfo.needs_tls.as_deref(), Some(needed_for), "{text}");
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
            "s3cret",
        ] {
            assert!(
                !refusal(text).contains("s3cret"),
                "{text}: {}",
                refusal(text)
            );
        }
        assert!(refusal("host=h service=prod").contains("service"));
    }

    #[test]
    fn the_environment() {
        let from = |variables: &[(&str, &str)]| {
            Conninfo::from_env(|name| {
                let found = variables.iter().find(|(key, _)| *key == name);
                found.map(|(_, value)| (*value).to_owned())
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
