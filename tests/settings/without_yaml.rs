//! YAML, where the feature is missing.

use bulkman::settings::{Format, Settings, SettingsError};

#[test]
fn yaml_is_an_error_that_names_the_feature() {
    let error = Settings::from_text("resilience:\n", Format::Yaml)
        .without_variables()
        .load()
        .unwrap_err();
    assert!(matches!(error, SettingsError::YamlNotBuilt { .. }));
    assert_eq!(
        error.to_string(),
        "settings text are YAML, which needs bulkman's feature `yaml`"
    );
}
