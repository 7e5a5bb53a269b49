//! Settings: what may stand in them, their layers, bad input, and dependencies from them.

#[path = "../support/mod.rs"]
mod support;

mod dependencies;
mod files;
mod helpers;
mod layers;
mod numbers;
mod problems;
mod serde_round_trip;
mod variables;
#[cfg(not(feature = "yaml"))]
mod without_yaml;
#[cfg(feature = "yaml")]
mod yaml;
