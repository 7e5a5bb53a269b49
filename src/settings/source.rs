//! The text of settings, from a regular file that is not too large, in UTF-8.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use super::error::SettingsError;
use super::node::{Node, Value};

/// How settings are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// [TOML](https://toml.io) 1.1. Files end in `.toml`.
    Toml,
    /// [YAML](https://yaml.org) 1.2, with the feature `yaml`. Files end in `.yaml` or `.yml`. There are aliases, but no tags
    /// and no merge keys.
    Yaml,
}

impl Format {
    pub(super) fn of(path: &Path) -> Result<Self, SettingsError> {
        let ending = path.extension().and_then(|ending| ending.to_str());
        match ending.map(str::to_ascii_lowercase).as_deref() {
            Some("toml") => Ok(Self::Toml),
            Some("yaml" | "yml") => Ok(Self::Yaml),
            _ => Err(SettingsError::UnknownFormat {
                path: path.to_owned(),
            }),
        }
    }
}

/// The text of a file.
pub(super) fn read(path: &Path, limit: u64) -> Result<String, SettingsError> {
    let unreadable = |source| SettingsError::Read {
        path: path.to_owned(),
        source,
    };
    // A pipe would have to be opened to be looked at, and that may wait for ever.
    let metadata = fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        let what = if metadata.is_dir() {
            "a folder"
        } else {
            "a device or a pipe"
        };
        return Err(SettingsError::NotAFile {
            path: path.to_owned(),
            what,
        });
    }
    let too_large = || SettingsError::TooLarge {
        path: path.to_owned(),
        limit,
    };
    if metadata.len() > limit {
        return Err(too_large());
    }
    // It may grow meanwhile, and files of some file systems do not tell their size.
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(limit.saturating_add(1)).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    if bytes.len() as u64 > limit {
        return Err(too_large());
    }
    String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        SettingsError::NotUtf8 {
            path: path.to_owned(),
            line: before.iter().filter(|byte| **byte == b'\n').count() + 1,
        }
    })
}

/// The tree of a text, which has at least one key.
pub(super) fn parse(text: &str, format: Format, path: &Arc<str>) -> Result<Node, SettingsError> {
    // Some editors begin a file with it.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let root = match format {
        Format::Toml => Some(super::toml::parse(text, path)?),
        #[cfg(feature = "yaml")]
        Format::Yaml => super::yaml::parse(text, path)?,
        #[cfg(not(feature = "yaml"))]
        Format::Yaml => {
            let path = Arc::clone(path);
            return Err(SettingsError::YamlNotBuilt { path });
        }
    };
    let is_empty = |root: &Node| match &root.value {
        Value::Map(map) => map.is_empty(),
        Value::Nothing => true,
        _ => false,
    };
    root.filter(|root| !is_empty(root))
        .ok_or_else(|| SettingsError::Empty {
            path: Arc::clone(path),
        })
}
