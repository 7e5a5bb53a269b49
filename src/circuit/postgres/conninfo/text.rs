//! The two forms of a connection string, taken apart by libpq's rules.

use super::super::super::storage::StorageError;
use super::Options;

/// `[user[:password]@][host[:port],...][/dbname][?option=value&...]`, after the scheme.
pub(super) fn options_of_url(url: &str) -> Result<Options, StorageError> {
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

pub(super) fn options_of_pairs(text: &str) -> Result<Options, StorageError> {
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

pub(super) fn malformed() -> StorageError {
    StorageError::new("the connection string of the circuit storage is malformed")
}
