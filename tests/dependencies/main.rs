//! Dependencies: kinds and their presets, names, which level decides a setting, and calls.

#[path = "../support/mod.rs"]
mod support;

mod adaptive;
mod apply;
mod calls;
mod chaos;
mod collaborators;
mod explain;
mod health;
mod kinds;
mod names;
mod pipelines;
mod together;
