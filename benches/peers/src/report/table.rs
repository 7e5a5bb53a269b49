//! Markdown.

use std::fmt::Write;

use bulkman_peers::candidate::Work;
use bulkman_peers::candidates::UNBOUNDED;
use bulkman_peers::place::Place;

use super::{Report, Row, Section, time};

/// From this spread on a median stands for little.
const WIDE: f64 = 15.0;

impl Section {
    fn title(&self) -> String {
        match self.work {
            Work::OneByOne => format!("execute and wait, {}", self.place),
            Work::Batch => format!("50,000 handles, {}", self.place),
            Work::NowAndThen => "now and then, busy cores".to_owned(),
            Work::Refused => "refused".to_owned(),
        }
    }
}

impl Report {
    /// A table for each kind of work: medians, spread, ratios.
    pub fn full(&self) -> String {
        let mut out = format!(
            "Medians of {} alternating rounds. {}.\n",
            self.rounds, self.machine
        );
        for section in &self.sections {
            let _ = write!(
                out,
                "\n{}\n\n| | a call | middle half | times bulkman's |\n|---|--:|--:|--:|\n",
                section.title()
            );
            for row in &section.rows {
                let _ = writeln!(out, "{}", full_row(section, row));
            }
        }
        let _ = writeln!(out, "\n{}", self.memory());
        out
    }

    /// Blocks and bytes a call.
    fn memory(&self) -> String {
        let allocations = match &self.allocations {
            Ok(allocations) => allocations,
            Err(why) => return why.clone(),
        };
        let mut out = "allocated for a call\n\n| | blocks | bytes |\n|---|--:|--:|\n".to_owned();
        for (name, blocks, bytes) in &allocations.0 {
            let _ = writeln!(out, "| {name} | {blocks:.2} | {bytes} |");
        }
        out
    }

    /// The README's table: a line for each pool, a column for each kind of work that people ask about.
    pub fn short(&self) -> String {
        let sections: Vec<_> = self.sections.iter().filter(|s| s.is_in_short()).collect();
        let titles: Vec<_> = sections.iter().map(|s| s.title()).collect();
        let mut out = format!("| | {} |\n|---|", titles.join(" | "));
        out.push_str(&"--:|".repeat(titles.len()));
        out.push('\n');
        let mut names = Vec::new();
        for row in sections.iter().flat_map(|section| &section.rows) {
            if !row.is_limit() && !names.contains(&row.name) {
                names.push(row.name);
            }
        }
        for name in names {
            let cells: Vec<_> = sections.iter().map(|s| s.cell(name)).collect();
            let _ = writeln!(out, "| {name} | {} |", cells.join(" | "));
        }
        let best = sections.iter().map(|section| {
            let ratio = section.best_peer();
            ratio.map_or(String::new(), |ratio| format!("**{ratio:.2}**"))
        });
        let best: Vec<_> = best.collect();
        let _ = writeln!(out, "| **best other ÷ bulkman** | {} |\n", best.join(" | "));
        let _ = writeln!(out, "{}", self.legend());
        out
    }

    fn legend(&self) -> String {
        let mut notes = vec![
            format!(
                "Time of one call, median of {} rounds; ~ where the middle half of them is not within {WIDE:.0} % of it.",
                self.rounds
            ),
            "Python makes 5,000 calls in place of 50,000.".to_owned(),
        ];
        for row in self.sections.iter().flat_map(|section| &section.rows) {
            let note = match &row.times {
                Ok(_) => continue,
                Err(why) if why == UNBOUNDED => {
                    "never: without a bound a pool takes every call.".to_owned()
                }
                Err(why) => format!("{}: not measured, {why}.", row.name),
            };
            if !notes.contains(&note) {
                notes.push(note);
            }
        }
        format!(
            "{}\n\n{}.\n{}.\nWritten by `cargo run --release -- --write` in `benches/peers`.",
            notes.join(" "),
            self.machine,
            versions(),
        )
    }
}

/// What was compared, as the lock file has it.
fn versions() -> String {
    let lock = include_str!("../../Cargo.lock");
    let version = |name: &str| {
        let entry = format!("name = \"{name}\"\nversion = \"");
        let (_, rest) = lock.split_once(&entry).expect("it is compared");
        format!("{name} {}", rest.split('"').next().unwrap_or_default())
    };
    let names = [
        "bulkman",
        "crossbeam-channel",
        "oneshot",
        "rayon",
        "rusty_pool",
        "threadpool",
        "tokio",
    ];
    names.map(version).join(", ")
}

impl Section {
    fn is_in_short(&self) -> bool {
        match self.work {
            Work::OneByOne => self.place != Place::scheduler().name,
            Work::Batch => ![Place::scheduler().name, Place::one_core().name].contains(&self.place),
            Work::NowAndThen => false,
            Work::Refused => true,
        }
    }

    fn cell(&self, name: &str) -> String {
        let row = self.rows.iter().find(|row| row.name == name);
        match row.map(|row| (row.measured(), &row.times)) {
            Some((Some(times), _)) => {
                let about = if times.spread() > WIDE { "~" } else { "" };
                format!("{about}{}", time(times.median()))
            }
            Some((None, Err(why))) if why == UNBOUNDED => "never".to_owned(),
            Some(_) => "not measured".to_owned(),
            None => String::new(),
        }
    }
}

fn full_row(section: &Section, row: &Row) -> String {
    match (row.measured(), &row.times) {
        (Some(times), _) => {
            let (low, high) = times.quartiles();
            let ratio = section.ratio(row);
            let ratio = ratio.map_or(String::new(), |ratio| format!("{ratio:.2}"));
            let middle = format!("{} to {}", time(low), time(high));
            let median = time(times.median());
            format!("| {} | {median} | {middle} | {ratio} |", row.name)
        }
        (None, Err(why)) => format!("| {} | {why} | | |", row.name),
        (None, Ok(_)) => unreachable!("there are times, or a reason"),
    }
}
