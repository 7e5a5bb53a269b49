//! Files that are none, or are not what they should be.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use bulkman::settings::{Format, Settings, SettingsError, SettingsLoader};

use super::helpers::{Folder, problem};

const GOOD: &str = "[external_dependencies.db]\nkind = \"database\"\n";

fn load(path: impl AsRef<Path>) -> Result<Settings, SettingsError> {
    Settings::from_path(path).without_variables().load()
}

#[test]
fn a_file_is_read_by_its_ending_or_as_told() {
    let folder = Folder::new();
    for name in ["settings.toml", "SETTINGS.TOML"] {
        let settings = load(folder.file(name, GOOD)).unwrap();
        assert!(settings.dependencies().contains_key("db"));
    }
    let path = folder.file("settings.conf", GOOD);
    let error = load(&path).unwrap_err();
    assert!(matches!(error, SettingsError::UnknownFormat { .. }));
    assert!(
        error.to_string().contains("`.toml`, `.yaml` or `.yml`"),
        "{error}"
    );
    let told = Settings::from_path(&path)
        .format(Format::Toml)
        .without_variables();
    assert!(told.load().is_ok());
    assert!(matches!(
        load(folder.file("settings", GOOD)),
        Err(SettingsError::UnknownFormat { .. })
    ));
}

#[test]
fn a_problem_names_the_file() {
    let folder = Folder::new();
    let path = folder.file("settings.toml", "[resilience]\nx = 1\n");
    let found = problem(load(&path));
    assert!(
        found.starts_with(&format!("{}:2:1: ", path.display())),
        "{found}"
    );
}

#[test]
fn a_missing_file() {
    let folder = Folder::new();
    let path = folder.path("missing.toml");
    let error = load(&path).unwrap_err();
    assert!(
        error.to_string().contains(&path.display().to_string()),
        "{error}"
    );
    let SettingsError::Read { source, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(source.kind(), io::ErrorKind::NotFound);
}

#[test]
fn an_empty_file_or_one_of_comments() {
    let folder = Folder::new();
    for content in ["", "\n\n", "# nothing yet\n", "\u{feff}"] {
        let path = folder.file("settings.toml", content);
        let error = load(&path).unwrap_err();
        assert!(
            matches!(error, SettingsError::Empty { .. }),
            "{content:?}: {error}"
        );
        assert_eq!(
            error.to_string(),
            format!("settings {} are empty", path.display())
        );
    }
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_settings() {
    let folder = Folder::new();
    let path = folder.file("settings.toml", format!("\u{feff}{GOOD}"));
    assert!(load(path).is_ok());
}

#[test]
fn a_folder() {
    let folder = Folder::new();
    let path = folder.path("settings.toml");
    std::fs::create_dir(&path).unwrap();
    let error = load(&path).unwrap_err();
    assert!(
        matches!(
            error,
            SettingsError::NotAFile {
                what: "a folder",
                ..
            }
        ),
        "{error}"
    );
}

#[cfg(unix)]
#[test]
fn a_device_that_never_ends() {
    let told = Settings::from_path("/dev/zero")
        .format(Format::Toml)
        .without_variables();
    let error = told.load().unwrap_err();
    assert!(matches!(error, SettingsError::NotAFile { .. }), "{error}");
}

#[test]
fn bytes_that_are_not_utf_8() {
    let folder = Folder::new();
    let path = folder.file("settings.toml", b"# one\n# two \xff\n");
    let error = load(&path).unwrap_err();
    assert!(
        matches!(error, SettingsError::NotUtf8 { line: 2, .. }),
        "{error}"
    );
    // As an editor on Windows may write it.
    let path = folder.file("settings.toml", b"\xff\xfe[\0r\0]\0");
    assert!(matches!(
        load(&path),
        Err(SettingsError::NotUtf8 { line: 1, .. })
    ));
}

#[test]
fn a_hundred_megabytes() {
    let folder = Folder::new();
    let path = folder.path("settings.toml");
    // A hole, which takes no place on the disk.
    File::create(&path).unwrap().set_len(100 << 20).unwrap();
    let error = load(&path).unwrap_err();
    assert!(
        matches!(
            error,
            SettingsError::TooLarge {
                limit: SettingsLoader::SIZE_LIMIT,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn the_limit_is_exact_and_can_be_another() {
    let folder = Folder::new();
    let path = folder.path("settings.toml");
    let mut file = File::create(&path).unwrap();
    write!(file, "{GOOD}").unwrap();
    let size = GOOD.len() as u64;
    let limited = |limit| {
        Settings::from_path(&path)
            .size_limit(limit)
            .without_variables()
            .load()
    };
    assert!(limited(size).is_ok());
    assert!(matches!(
        limited(size - 1),
        Err(SettingsError::TooLarge { .. })
    ));
    assert!(limited(u64::MAX).is_ok());
}

#[cfg(unix)]
#[test]
fn a_file_that_must_not_be_read() {
    use std::os::unix::fs::PermissionsExt;

    let folder = Folder::new();
    let path = folder.file("settings.toml", GOOD);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).unwrap();
    match load(&path) {
        Err(SettingsError::Read { source, .. }) => {
            assert_eq!(source.kind(), io::ErrorKind::PermissionDenied);
        }
        // To root nothing is forbidden.
        Ok(_) => assert!(File::open(&path).is_ok()),
        Err(other) => panic!("{other}"),
    }
}
