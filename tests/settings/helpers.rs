//! What the tests of settings share.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use bulkman::settings::{Format, Settings, SettingsError};

/// Settings in TOML, whatever the environment of the tests has.
pub(crate) fn toml(text: &str) -> Result<Settings, SettingsError> {
    Settings::from_text(text, Format::Toml)
        .without_variables()
        .load()
}

/// The problems of settings, each as a line.
pub(crate) fn problems(result: Result<Settings, SettingsError>) -> Vec<String> {
    match result {
        Err(SettingsError::Invalid { problems }) => {
            assert!(!problems.is_empty());
            problems.iter().map(ToString::to_string).collect()
        }
        other => panic!("{other:?}"),
    }
}

/// The one problem of settings.
pub(crate) fn problem(result: Result<Settings, SettingsError>) -> String {
    let mut problems = problems(result);
    assert_eq!(problems.len(), 1, "{problems:#?}");
    problems.remove(0)
}

/// A folder of its own, which is removed in the end.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("settings-{}-{number}", std::process::id());
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _best_effort = fs::remove_dir_all(&self.0);
    }
}
