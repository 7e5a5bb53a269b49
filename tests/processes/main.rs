//! Processes of their own.

#[path = "../support/mod.rs"]
mod support;

mod build_failure;
mod suspension;
