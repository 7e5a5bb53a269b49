//! What an option of libpq's means here: TLS for the connector, nothing, an error, or an option of `tokio-postgres`.

use tokio_postgres::config::SslMode;

use super::super::super::storage::StorageError;
use super::KNOWN;

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
pub(super) const HARMLESS: &[&str] = &[
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

#[derive(Default)]
pub(super) struct Tls {
    pub(super) mode: Option<SslMode>,
    needed_for: Option<String>,
    is_direct: bool,
}

impl Tls {
    pub(super) fn needed_for(self) -> Result<Option<String>, StorageError> {
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
    pub(super) fn take(&mut self, option: &str, value: &str) -> Result<bool, StorageError> {
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
