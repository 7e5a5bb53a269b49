//! Dependencies from settings.

use std::sync::Arc;

use super::loader::Settings;
use crate::dependency::{
    Dependencies, DependenciesBuilder, DependencyChange, DependencyError, Origins, Place, Rules,
};

impl Dependencies {
    /// Registers every dependency of the settings. [`explain`](Self::explain) then also shows the file and line of each
    /// value.
    ///
    /// # Errors
    ///
    /// As [`register_with`](Self::register_with). None is registered then, and no thread is left behind.
    pub fn from_settings(settings: &Settings) -> Result<Self, DependencyError> {
        Self::builder().build_from_settings(settings)
    }
}

impl Dependencies {
    /// Gives the dependencies the settings of a file that was loaded anew, and tells what it has changed. Otherwise as
    /// [`apply_config`](Self::apply_config).
    ///
    /// ```
    /// use bulkman::Dependencies;
    /// use bulkman::settings::{Format, Settings};
    ///
    /// let load = |timeout: &str| {
    ///     let text = format!("[external_dependencies.users]\nkind = \"database\"\ntimeout = \"{timeout}\"");
    ///     Settings::from_text(text, Format::Toml).without_variables().load()
    /// };
    /// let dependencies = Dependencies::from_settings(&load("2s")?)?;
    /// for change in dependencies.apply(&load("500ms")?)? {
    ///     println!("{change}"); // dependency `users`: timeout goes from 2s to 500ms
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`apply_config`](Self::apply_config). Then everything is as it was.
    pub fn apply(&self, settings: &Settings) -> Result<Vec<DependencyChange>, DependencyError> {
        let rules = Rules::with_origins(settings.defaults().clone(), origins_of(settings));
        self.apply_rules(rules, settings.dependencies().clone())
    }
}

/// Tells where each setting stands.
fn origins_of(settings: &Settings) -> Origins {
    let content = Arc::clone(settings.content());
    Box::new(move |place: &Place<'_>| {
        let origin = content.origins.of_place(place)?;
        Some(origin.to_string().into())
    })
}

impl DependenciesBuilder {
    /// As [`Dependencies::from_settings`], with the collaborators of this builder. The defaults are those of the settings.
    ///
    /// # Errors
    ///
    /// As [`Dependencies::register_with`]. None is registered then, and no thread is left behind.
    pub fn build_from_settings(self, settings: &Settings) -> Result<Dependencies, DependencyError> {
        let dependencies = self
            .defaults(settings.defaults().clone())
            .origins(origins_of(settings))
            .build();
        for (name, config) in settings.dependencies() {
            if let Err(error) = dependencies.register_with(name, config.clone()) {
                // The registry may be somebody else's too.
                for name in dependencies.names() {
                    drop(dependencies.remove(&name));
                }
                return Err(error);
            }
        }
        Ok(dependencies)
    }
}
