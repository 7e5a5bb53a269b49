//! The table and the chart, from the same rows.

use std::fmt::Write;

/// One candidate on one kind of work.
pub struct Row {
    work: &'static str,
    placement: &'static str,
    candidate: &'static str,
    /// Nanoseconds per call, one for each round, sorted.
    times: Vec<f64>,
}

impl Row {
    pub fn new(
        work: &'static str,
        placement: &'static str,
        candidate: &'static str,
        mut times: Vec<f64>,
    ) -> Self {
        times.sort_by(f64::total_cmp);
        Self {
            work,
            placement,
            candidate,
            times,
        }
    }

    fn at(&self, share: f64) -> f64 {
        self.times[((self.times.len() - 1) as f64 * share).round() as usize]
    }

    fn median(&self) -> f64 {
        self.at(0.5)
    }
}

/// Rows of the same work and placement.
fn groups(rows: &[Row]) -> Vec<&[Row]> {
    rows.chunk_by(|a, b| (a.work, a.placement) == (b.work, b.placement))
        .collect()
}

fn time(nanos: f64) -> String {
    if nanos < 1_000.0 {
        format!("{nanos:.0} ns")
    } else {
        format!("{:.2} µs", nanos / 1_000.0)
    }
}

fn machine() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1))
        .unwrap_or("unknown CPU");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{model}, {cores} cores")
}

/// Markdown: medians, the middle half of the rounds, and the ratio to bulkman's median.
pub fn table(rows: &[Row], rounds: usize) -> String {
    let mut out = format!("Medians of {rounds} alternating rounds on {}.\n", machine());
    for group in groups(rows) {
        let own = group[0].median();
        let _ = write!(
            out,
            "\n**{}, {}**\n\n| | a call | middle half | times bulkman's |\n|---|---|---|---|\n",
            group[0].work, group[0].placement
        );
        for row in group {
            let _ = writeln!(
                out,
                "| {} | {} | {} to {} | {:.2} |",
                row.candidate,
                time(row.median()),
                time(row.at(0.25)),
                time(row.at(0.75)),
                row.median() / own,
            );
        }
    }
    out
}

/// An SVG with one panel for each kind of work; bars are medians, on a logarithmic scale.
pub fn chart(rows: &[Row]) -> String {
    const WIDTH: f64 = 760.0;
    const LABELS: f64 = 220.0;
    const BAR: f64 = 18.0;
    let groups = groups(rows);
    let panel = |group: &[Row]| 44.0 + BAR * group.len() as f64;
    let height: f64 = groups.iter().map(|group| panel(group)).sum::<f64>() + 10.0;
    let longest = rows.iter().map(Row::median).fold(1.0, f64::max);
    let shortest = rows.iter().map(Row::median).fold(f64::MAX, f64::min) / 2.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    let mut y = 0.0;
    for group in groups {
        let _ = writeln!(
            out,
            "<text x=\"8\" y=\"{}\" font-weight=\"bold\">{}, {} (log scale)</text>",
            y + 26.0,
            group[0].work,
            group[0].placement
        );
        for (i, row) in group.iter().enumerate() {
            let top = y + 36.0 + BAR * i as f64;
            let share = (row.median() / shortest).ln() / (longest / shortest).ln();
            let length = (share * (WIDTH - LABELS - 80.0)).max(1.0);
            let colour = if i == 0 { "#2463a5" } else { "#b9c2cc" };
            let _ = writeln!(
                out,
                "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text><rect x=\"{LABELS}\" y=\"{top}\" width=\"{length:.1}\" height=\"{}\" fill=\"{colour}\"/><text x=\"{:.1}\" y=\"{}\">{}</text>",
                LABELS - 8.0,
                top + 12.0,
                row.candidate,
                BAR - 4.0,
                LABELS + length + 6.0,
                top + 12.0,
                time(row.median()),
            );
        }
        y += panel(group);
    }
    out.push_str("</svg>\n");
    out
}
