//! An SVG: a panel for each place, dots for medians, lines for the middle half, on a logarithmic scale.

use std::fmt::Write;

use bulkman_peers::candidate::Work;
use bulkman_peers::limit::{Looking, Parked, Small};
use bulkman_peers::pools::Pool;

use super::{Report, Row, Section, time};

const WIDTH: f64 = 960.0;
/// Where the candidates' names end, and the first column begins.
const NAMES: f64 = 232.0;
const COLUMN: f64 = 320.0;
const BETWEEN: f64 = 52.0;
const TOP: f64 = 100.0;
const LINE: f64 = 22.0;
/// Above the lines of a panel: its title and the limits' names.
const HEAD: f64 = 44.0;
/// Below them: the scale.
const FOOT: f64 = 36.0;

/// It brings its own background, for pages that are light and pages that are dark. No CSS variables: not every
/// renderer knows them.
const STYLE: &str = "
  text { paint-order: stroke; stroke: #ffffff; stroke-width: 4; stroke-linejoin: round }
  .back { fill: #ffffff } text { fill: #1f2328 } .soft { fill: #59636e } .bold { font-weight: 600 }
  .grid { stroke: #d8dee4 } .limit { stroke: #a8480b; stroke-dasharray: 4 3 } .limit-name { fill: #a8480b }
  .peer { fill: #6e7781; stroke: #6e7781 } .own { fill: #0b62c4; stroke: #0b62c4 } .own-name { fill: #0b62c4 }
  @media (prefers-color-scheme: dark) {
    .back { fill: #12161c } text { fill: #e6edf3; stroke: #12161c } .soft { fill: #9aa4af }
    .grid { stroke: #30363d } .limit { stroke: #f0985a } .limit-name { fill: #f0985a }
    .peer { fill: #9aa4af; stroke: #9aa4af } .own { fill: #58a6ff; stroke: #58a6ff } .own-name { fill: #58a6ff }
  }
";

/// A logarithmic axis over whole decades.
struct Axis {
    left: f64,
    low: f64,
    high: f64,
}

impl Axis {
    fn over<'a>(left: f64, sections: impl Iterator<Item = &'a Section>) -> Self {
        let rows = sections.flat_map(|section| &section.rows);
        let medians: Vec<_> = rows
            .filter_map(|row| Some(row.measured()?.median().log10()))
            .collect();
        let low = medians.iter().copied().fold(f64::MAX, f64::min).floor();
        // Room for the number beside the rightmost dot.
        let high = medians.iter().copied().fold(low, f64::max) + 0.6;
        Self { left, low, high }
    }

    fn x(&self, nanos: f64) -> f64 {
        let share = (nanos.log10() - self.low) / (self.high - self.low);
        self.left + COLUMN * share.clamp(0.0, 1.0)
    }

    fn decades(&self) -> impl Iterator<Item = f64> {
        (self.low as i32..=self.high as i32).map(|power| 10_f64.powi(power))
    }
}

impl Report {
    pub fn chart(&self) -> String {
        let columns = [
            (Work::OneByOne, "One call at a time: execute, then wait"),
            (Work::Batch, "50,000 calls, then wait for all of them"),
        ];
        let mut body = String::new();
        let mut bottom = TOP;
        for (i, (work, title)) in columns.into_iter().enumerate() {
            let sections = || {
                self.sections
                    .iter()
                    .filter(move |section| section.work == work)
            };
            let axis = Axis::over(NAMES + i as f64 * (COLUMN + BETWEEN), sections());
            text(&mut body, axis.left, TOP - 12.0, "bold", title);
            let mut top = TOP;
            for section in sections() {
                let rows: Vec<_> = section.rows.iter().filter(|row| !row.is_limit()).collect();
                if i == 0 {
                    names(&mut body, top, &rows);
                }
                panel(&mut body, &axis, top, section, &rows);
                top += HEAD + LINE * rows.len() as f64 + FOOT;
            }
            bottom = f64::max(bottom, top);
        }
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" font-family=\"system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif\" font-size=\"13\" role=\"img\">\n<title>Time of one call of a task that does nothing, bulkman beside other thread pools</title>\n<style>{STYLE}</style>\n<rect class=\"back\" width=\"100%\" height=\"100%\" rx=\"8\"/>\n",
            height = bottom + 54.0
        );
        let head = "<text x=\"24\" y=\"36\" class=\"bold\" font-size=\"17\">Time of one call whose task does nothing: less is better</text>\n";
        out.push_str(head);
        let how = format!(
            "Dot: median of {} alternating rounds. Bar: the middle half of them. Dashed: what the smallest program takes.",
            self.rounds
        );
        text(&mut out, 24.0, 58.0, "soft", &how);
        out.push_str(&body);
        let python = "Python makes 5,000 calls in place of 50,000.";
        for (i, foot) in [self.machine.as_str(), python].into_iter().enumerate() {
            text(
                &mut out,
                24.0,
                bottom + 14.0 + 20.0 * i as f64,
                "soft",
                foot,
            );
        }
        out.push_str("</svg>\n");
        out
    }
}

fn names(out: &mut String, top: f64, rows: &[&Row]) {
    for (i, row) in rows.iter().enumerate() {
        let class = if i == 0 { "own-name bold" } else { "" };
        let y = line(top, i) + 4.5;
        let x = NAMES - 14.0;
        let _ = writeln!(
            out,
            "<text x=\"{x}\" y=\"{y}\" class=\"{class}\" text-anchor=\"end\">{}</text>",
            row.name
        );
    }
}

fn line(top: f64, i: usize) -> f64 {
    top + HEAD + LINE * (i as f64 + 0.5)
}

fn panel(out: &mut String, axis: &Axis, top: f64, section: &Section, rows: &[&Row]) {
    let title = match section.place {
        "two cores" => "caller and workers on a core each",
        "one core" => "all threads on one core",
        _ => "left to the scheduler",
    };
    text(out, axis.left, top + 16.0, "soft", title);
    let (first, last) = (top + HEAD, top + HEAD + LINE * rows.len() as f64);
    for decade in axis.decades() {
        let x = axis.x(decade);
        vertical(out, "grid", x, first, last);
        let label = time(decade).replace(".00", "").replace(".0", "");
        let _ = writeln!(
            out,
            "<text x=\"{x:.1}\" y=\"{}\" class=\"soft\" font-size=\"11\" text-anchor=\"middle\">{label}</text>",
            last + 15.0
        );
    }
    // One call at a time the cell stands too close to the parked hand-off, and that to a yielding one; the table has
    // them all.
    let is_yielding = |row: &Row| row.name == Looking::YIELDING;
    let left_out: &[&str] = match section.work {
        Work::OneByOne if section.rows.iter().any(is_yielding) => &[Small::NAME, Parked::NAME],
        Work::OneByOne => &[Small::NAME],
        _ => &[],
    };
    let is_shown = |row: &&Row| row.is_limit() && !left_out.contains(&row.name);
    for row in section.rows.iter().filter(is_shown) {
        if let Some(times) = row.measured() {
            let x = axis.x(times.median());
            vertical(out, "limit", x, first - 4.0, last);
            let name = row.name.replace("limit: ", "");
            // Some 80 to each side have to stay within the picture's column.
            let x = x.clamp(axis.left + 50.0, axis.left + COLUMN - 60.0);
            let _ = writeln!(
                out,
                "<text x=\"{x:.1}\" y=\"{}\" class=\"limit-name\" font-size=\"11\" text-anchor=\"middle\">{name}, {}</text>",
                first - 8.0,
                time(times.median())
            );
        }
    }
    for (i, row) in rows.iter().enumerate() {
        dot(out, axis, line(top, i), i == 0, row);
    }
}

fn dot(out: &mut String, axis: &Axis, y: f64, own: bool, row: &Row) {
    let Some(times) = row.measured() else {
        text(out, axis.left + 4.0, y + 4.5, "soft", "not measured");
        return;
    };
    let (class, bold) = if own {
        ("own", "own-name bold")
    } else {
        ("peer", "")
    };
    let x = axis.x(times.median());
    let (low, high) = times.quartiles();
    let (low, high) = (axis.x(low), axis.x(high));
    let _ = writeln!(
        out,
        "<line x1=\"{low:.1}\" x2=\"{high:.1}\" y1=\"{y}\" y2=\"{y}\" class=\"{class}\" stroke-width=\"3\" stroke-opacity=\"0.5\"/><circle cx=\"{x:.1}\" cy=\"{y}\" r=\"5\" class=\"{class}\"/>"
    );
    // To the left of it where the picture ends.
    let right = high.max(x) + 10.0;
    if right + 52.0 < axis.left + COLUMN + 20.0 {
        text(out, right, y + 4.5, bold, &time(times.median()));
    } else {
        text(out, low - 66.0, y + 4.5, bold, &time(times.median()));
    }
}

fn vertical(out: &mut String, class: &str, x: f64, from: f64, to: f64) {
    let _ = writeln!(
        out,
        "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{from}\" y2=\"{to}\" class=\"{class}\"/>"
    );
}

fn text(out: &mut String, x: f64, y: f64, class: &str, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(
        out,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\">{text}</text>"
    );
}
