//! Tests that run again in a child process, which has a limit, is suspended or dies.

#![cfg(target_os = "linux")]
#![expect(unreachable_pub, reason = "a test binary has no users")]

#[path = "../support/mod.rs"]
mod support;

mod build_failure;
mod end_of_main;
mod helpers;
mod refused_threads;
mod stack_overflow;
mod suspension;
