//! The machine that it ran on, in one line.

use std::fs::read_to_string;
use std::process::Command;

/// Processor, cores, system, compiler, and what else the machine was doing.
pub fn describe() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let virtual_or_not = if cpu_info("flags").is_some_and(|flags| flags.contains("hypervisor")) {
        ", a virtual machine"
    } else {
        ""
    };
    let system = first_words(&output("uname", &["-sr"]), 2);
    // What follows the version is a distribution's own name for it.
    let system = system.split('-').next().unwrap_or_default();
    let rustc = first_words(&output("rustc", &["--version"]), 2);
    let load = read_to_string("/proc/loadavg").unwrap_or_default();
    let load = first_words(&load, 1);
    let busy = load.parse().is_ok_and(|load: f64| load > 0.3);
    if busy {
        eprintln!("this machine is not idle: its load is {load}");
    }
    let cpu = cpu_info("model name").unwrap_or("unknown CPU".to_owned());
    format!("{cpu}, {cores} cores{virtual_or_not}; {system}; {rustc}; load at the start {load}")
}

fn cpu_info(key: &str) -> Option<String> {
    let cpu = read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = cpu.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_once(": ").map(|(_, value)| value.to_owned())
}

fn output(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    output.map_or(String::new(), |output| {
        String::from_utf8_lossy(&output.stdout).into_owned()
    })
}

fn first_words(text: &str, count: usize) -> String {
    let words: Vec<_> = text.split_whitespace().take(count).collect();
    words.join(" ")
}
