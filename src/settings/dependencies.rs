//! Dependencies from settings.

use std::sync::Arc;

use super::loader::Settings;
use crate::dependency::{Dependencies, DependenciesBuilder, DependencyError, Place};

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

impl DependenciesBuilder {
    /// As [`Dependencies::from_settings`], with the collaborators of this builder. The defaults are those of the settings.
    ///
    /// # Errors
    ///
    /// As [`Dependencies::register_with`]. None is registered then, and no thread is left behind.
    pub fn build_from_settings(self, settings: &Settings) -> Result<Dependencies, DependencyError> {
        let content = Arc::clone(settings.content());
        let origins = Box::new(move |place: &Place<'_>| {
            let origin = content.origins.of_place(place)?;
            Some(origin.to_string().into())
        });
        let dependencies = self
            .defaults(settings.defaults().clone())
            .origins(origins)
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
