//! Two charts as one SVG: answers in time, and how long they took, over the load.

use std::error::Error;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::dependency::capacity;
use super::point::Point;
use super::ways::Way;

const SIZE: (u32, u32) = (960, 530);
const FONT: &str = "system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif";
/// Where the chart shows a latency that is none, since there was no answer; in milliseconds.
const NEVER: f64 = 4_000.0;
/// The one that everybody hides behind comes first, and is wider.
const DRAWN: [(Way, u32); 3] = [(Way::OnePool, 6), (Way::Plainly, 3), (Way::Bulkheads, 3)];

/// The colours of a light page, and of a dark one. The style sheet of the SVG exchanges them, so each must be used for one
/// thing only.
const TEXT: (RGBColor, &str) = (RGBColor(31, 35, 40), "#E6EDF3");
const SOFT: (RGBColor, &str) = (RGBColor(89, 99, 110), "#9AA4AF");
const GRID: (RGBColor, &str) = (RGBColor(216, 222, 228), "#30363D");
const BACK: (RGBColor, &str) = (RGBColor(255, 255, 254), "#12161C");

fn colour(way: Way) -> (RGBColor, &'static str) {
    match way {
        Way::Plainly => (RGBColor(168, 72, 11), "#F0985A"),
        Way::OnePool => (RGBColor(130, 80, 223), "#B794F6"),
        Way::Bulkheads => (RGBColor(11, 98, 196), "#58A6FF"),
    }
}

type Failure = Box<dyn Error>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

pub fn draw(points: &[Point], machine: &str) -> Result<String, Failure> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        root.fill(&BACK.0)?;
        let bold = (FONT, 17).into_font().style(FontStyle::Bold);
        root.draw(&Text::new(
            "Calls of a healthy dependency, while every fifth request calls one that hangs",
            (24, 20),
            bold.color(&TEXT.0),
        ))?;
        legend(&root)?;
        let (_, rest) = root.split_vertically(84);
        let (charts, foot) = rest.split_vertically(366);
        let (left, right) = charts.split_horizontally(SIZE.0 / 2);
        goodput(&left, points)?;
        latency(&right, points)?;
        let soft = (FONT, 12).into_font().color(&SOFT.0);
        for (line, y) in [
            (
                "In time: within 500 ms. Dashed: what the healthy dependency can serve, 8 calls of 20 ms at a time. Calls that a bulkhead refuses know it at once;",
                12,
            ),
            (
                "the chart to the right is of all others. Real threads: cargo run --release --bin overload -- --write, in examples/pictures.",
                30,
            ),
            (machine, 48),
        ] {
            foot.draw(&Text::new(line.to_owned(), (24, y), soft.clone()))?;
        }
        root.present()?;
    }
    Ok(with_dark_colours(&svg))
}

fn legend(root: &Area<'_>) -> Result<(), Failure> {
    let mut x = 24;
    for way in Way::ALL {
        let style = ShapeStyle::from(colour(way).0).stroke_width(3);
        root.draw(&PathElement::new([(x, 60), (x + 26, 60)], style))?;
        let font = (FONT, 14).into_font().color(&TEXT.0);
        let middle = font.pos(Pos::new(HPos::Left, VPos::Center));
        root.draw(&Text::new(way.name(), (x + 34, 60), middle))?;
        x += 60 + 7 * i32::try_from(way.name().len())?;
    }
    Ok(())
}

fn goodput(area: &Area<'_>, points: &[Point]) -> Result<(), Failure> {
    let highest = capacity() * 1.25;
    let mut chart = ChartBuilder::on(area)
        .margin_left(24)
        .margin_right(24)
        .x_label_area_size(44)
        .y_label_area_size(48)
        .caption(
            "Answers in time, a second: more is better",
            (FONT, 14).into_font().color(&TEXT.0),
        )
        .build_cartesian_2d(0.0..3.1, 0.0..highest)?;
    let soft = (FONT, 12).into_font().color(&SOFT.0);
    chart
        .configure_mesh()
        .bold_line_style(GRID.0)
        .light_line_style(TRANSPARENT)
        .axis_style(GRID.0)
        .label_style(soft.clone())
        .x_labels(7)
        .y_labels(6)
        .x_label_formatter(&|load| format!("{load}×"))
        .y_label_formatter(&|calls| format!("{calls:.0}"))
        .x_desc("load, in multiples of what the healthy dependency serves")
        .draw()?;
    let ideal = [(0.0, 0.0), (1.0, capacity()), (3.1, capacity())];
    chart.draw_series(DashedLineSeries::new(ideal, 4, 4, SOFT.0.into()))?;
    for (way, width) in DRAWN {
        let of_way = of(points, way).map(|point| (point.load, point.in_time));
        let style = ShapeStyle::from(colour(way).0).filled().stroke_width(width);
        chart.draw_series(LineSeries::new(of_way, style).point_size(4))?;
    }
    Ok(())
}

fn latency(area: &Area<'_>, points: &[Point]) -> Result<(), Failure> {
    let mut chart = ChartBuilder::on(area)
        .margin_left(24)
        .margin_right(24)
        .x_label_area_size(44)
        .y_label_area_size(48)
        .caption(
            "99 of 100 values come within: less is better",
            (FONT, 14).into_font().color(&TEXT.0),
        )
        .build_cartesian_2d(0.0..3.1, (10.0..1.5 * NEVER).log_scale())?;
    let soft = (FONT, 12).into_font().color(&SOFT.0);
    chart
        .configure_mesh()
        .bold_line_style(GRID.0)
        .light_line_style(TRANSPARENT)
        .axis_style(GRID.0)
        .label_style(soft)
        .x_labels(7)
        .y_labels(4)
        .x_label_formatter(&|load| format!("{load}×"))
        .y_label_formatter(&|millis| match *millis {
            millis if millis >= 1_000.0 => format!("{} s", millis / 1_000.0),
            millis => format!("{millis} ms"),
        })
        .x_desc("load, in multiples of what the healthy dependency serves")
        .draw()?;
    for (way, width) in DRAWN {
        let of_way = of(points, way).map(|point| {
            let p99 = point.p99.map_or(NEVER, |time| time.as_secs_f64() * 1_000.0);
            (point.load, p99.clamp(10.0, NEVER))
        });
        let style = ShapeStyle::from(colour(way).0).filled().stroke_width(width);
        chart.draw_series(LineSeries::new(of_way, style).point_size(4))?;
    }
    let soft = (FONT, 12).into_font().color(&SOFT.0);
    let below = soft.pos(Pos::new(HPos::Right, VPos::Top));
    let never = Text::new(
        "no answer in the time of the measurement",
        (3.0, NEVER * 0.78),
        below,
    );
    chart.draw_series([never])?;
    Ok(())
}

fn of(points: &[Point], way: Way) -> impl Iterator<Item = &Point> + Clone {
    points.iter().filter(move |point| point.way == way)
}

/// Adds a style sheet that exchanges the colours on a dark page.
fn with_dark_colours(svg: &str) -> String {
    let own = Way::ALL.map(colour);
    let rules: String = [TEXT, SOFT, GRID, BACK]
        .into_iter()
        .chain(own)
        .map(|(RGBColor(red, green, blue), dark)| {
            let light = format!("#{red:02X}{green:02X}{blue:02X}");
            format!(
                "[fill=\"{light}\"] {{ fill: {dark} }} [stroke=\"{light}\"] {{ stroke: {dark} }}\n"
            )
        })
        .collect();
    let style = format!("<style>@media (prefers-color-scheme: dark) {{\n{rules}}}</style>\n");
    match svg.find('>') {
        Some(end) => format!("{}\n{style}{}", &svg[..=end], &svg[end + 1..]),
        None => svg.to_owned(),
    }
}
