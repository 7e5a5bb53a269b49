//! What a run found, and the three ways to show it: all tables, the README's table, the chart.

mod chart;
pub mod machine;
mod table;

use bulkman_peers::candidate::Work;
use bulkman_peers::limit::{Looking, Parked, Small};
use bulkman_peers::pools::Pool;

/// A whole run.
pub struct Report {
    pub rounds: usize,
    pub machine: String,
    pub sections: Vec<Section>,
    pub allocations: Result<Allocations, String>,
}

/// One kind of work in one place. bulkman's row is the first.
pub struct Section {
    pub work: Work,
    pub place: &'static str,
    pub rows: Vec<Row>,
}

/// One candidate.
pub struct Row {
    pub name: &'static str,
    /// Nanoseconds a call, one for each round, sorted; or why there are none.
    times: Result<Vec<f64>, String>,
}

impl Row {
    pub fn new(name: &'static str, times: Result<Vec<f64>, String>) -> Self {
        let times = times.map(|mut times| {
            times.sort_by(f64::total_cmp);
            times
        });
        Self { name, times }
    }

    fn measured(&self) -> Option<Measured<'_>> {
        self.times.as_deref().ok().map(Measured)
    }

    /// Whether this is no pool but what the machine allows.
    fn is_limit(&self) -> bool {
        let limits = [
            Small::NAME,
            Parked::NAME,
            Looking::WITHOUT_A_PAUSE,
            Looking::YIELDING,
        ];
        limits.contains(&self.name)
    }
}

/// Times of a candidate, sorted.
#[derive(Clone, Copy)]
struct Measured<'a>(&'a [f64]);

impl Measured<'_> {
    fn at(self, share: f64) -> f64 {
        self.0[((self.0.len() - 1) as f64 * share).round() as usize]
    }

    fn median(self) -> f64 {
        self.at(0.5)
    }

    /// The middle half of the rounds.
    fn quartiles(self) -> (f64, f64) {
        (self.at(0.25), self.at(0.75))
    }

    /// How far the middle half reaches from the median, in percent of that.
    fn spread(self) -> f64 {
        let (low, high) = self.quartiles();
        let far = f64::max(high - self.median(), self.median() - low);
        far / self.median() * 100.0
    }
}

impl Section {
    /// How long a row's median is, in medians of bulkman's.
    fn ratio(&self, row: &Row) -> Option<f64> {
        let own = self.rows.first()?.measured()?.median();
        Some(row.measured()?.median() / own)
    }

    /// The shortest median of the other pools, in medians of bulkman's.
    fn best_peer(&self) -> Option<f64> {
        let peers = self.rows.iter().skip(1).filter(|row| !row.is_limit());
        peers
            .filter_map(|row| self.ratio(row))
            .min_by(f64::total_cmp)
    }
}

/// Blocks and bytes a call, by name.
pub struct Allocations(Vec<(String, f64, u64)>);

impl Allocations {
    pub fn parse(lines: &str) -> Option<Self> {
        let line = |line: &str| {
            let mut fields = line.split('\t');
            let name = fields.next()?.to_owned();
            let blocks = fields.next()?.parse().ok()?;
            Some((name, blocks, fields.next()?.parse().ok()?))
        };
        let all: Option<Vec<_>> = lines.lines().map(line).collect();
        all.filter(|all| !all.is_empty()).map(Self)
    }
}

fn time(nanos: f64) -> String {
    match nanos {
        ..10.0 => format!("{nanos:.1} ns"),
        ..1_000.0 => format!("{nanos:.0} ns"),
        ..10_000.0 => format!("{:.2} µs", nanos / 1e3),
        ..1_000_000.0 => format!("{:.1} µs", nanos / 1e3),
        _ => format!("{:.1} ms", nanos / 1e6),
    }
}

/// Has the short table.
pub const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md");
/// Has all tables.
pub const DETAILS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
pub const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../chart.svg");

const BEGIN: &str = "<!-- speed: begin; benches/peers writes what stands here -->";
const END: &str = "<!-- speed: end -->";

/// The text before, between and after the marks.
fn split(text: &str) -> Option<(&str, &str)> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some((before, after))
}

/// Whether a file has a place for a table.
pub fn find_marks(path: &str) -> Result<(), String> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|error| format!("{path}: {error}"))?;
    let found = split(&text).map(drop);
    found.ok_or(format!("{path}: no lines {BEGIN} and {END}"))
}

/// Replaces what stands between the marks.
pub fn write_into(path: &str, table: &str) {
    let text = std::fs::read_to_string(path).expect("the file could be read before");
    let (before, after) = split(&text).expect("the marks were there before");
    let text = format!("{before}{BEGIN}\n\n{}\n\n{END}{after}", table.trim_end());
    std::fs::write(path, text).expect("the file can be written");
}
