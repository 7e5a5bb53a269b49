//! Several policies around a call, as one.

mod adaptive;
mod building;
mod circuits;
mod deadlines;
mod helpers;
mod listeners;
mod model;
mod outcomes;
mod panics;
mod shutdown;
mod stats;
mod types;
