//! Connection strings: what libpq reads in them, what is refused, and what no message may repeat.

use tokio_postgres::Config;
use tokio_postgres::config::SslMode;

use super::tls::HARMLESS;
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
    let text =
        "host=a,/b hostaddr=::1,::2 port=1,2 user=app password=p options='-c x=1' sslmode=disable";
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

#[test]
fn what_the_session_has_to_be_like() {
    let attributes = |text: &str| {
        let config = Conninfo::parse(text).expect(text).config;
        format!("{:?}", config.get_target_session_attrs())
    };
    for (text, expected) in [
        ("host=h", "Any"),
        ("host=h target_session_attrs=''", "Any"),
        ("host=a,b target_session_attrs=any", "Any"),
        ("host=a,b target_session_attrs=read-write", "ReadWrite"),
        (
            "postgres://a,b/db?target_session_attrs=primary",
            "ReadWrite",
        ),
    ] {
        assert_eq!(attributes(text), expected, "{text}");
    }
    for value in ["read-only", "standby", "prefer-standby"] {
        let refused = refusal(&format!("host=h target_session_attrs={value}"));
        assert!(refused.contains("takes no writes"), "{refused}");
    }
    let refused = refusal("host=h target_session_attrs=s3cret");
    assert!(refused.contains("read-write") && !refused.contains("s3cret"));
}
