//! The picture: a box for each bulkhead.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bulkman::CircuitState;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line as Row, Span};
use ratatui::widgets::{Block, BorderType, Paragraph, Sparkline};

use super::dependency::Mood;
use super::keys::HELP;
use super::world::{Line, World};

pub fn draw(frame: &mut Frame<'_>, world: &World) {
    let [head, lines, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    let seconds = world.began.elapsed().as_secs();
    let title = Row::from(vec![
        " bulkman ".bold().reversed(),
        format!("  {} bulkheads, {seconds} s", world.lines.len()).into(),
    ]);
    frame.render_widget(title, head);
    let areas = Layout::vertical(world.lines.iter().map(|_| Constraint::Max(7))).split(lines);
    for (i, (line, area)) in world.lines.iter().zip(areas.iter()).enumerate() {
        draw_line(frame, line, *area, i, i == world.selected);
    }
    frame.render_widget(Row::from(HELP).dim(), foot);
}

fn draw_line(frame: &mut Frame<'_>, line: &Line, area: Rect, number: usize, is_selected: bool) {
    let mood = line.dependency.mood();
    let (border, colour) = if is_selected {
        (BorderType::Thick, Color::Cyan)
    } else {
        (BorderType::Rounded, Color::DarkGray)
    };
    let load = line.load.load(Ordering::Relaxed);
    let title = Row::from(vec![
        Span::from(format!(" {} {} ", number + 1, line.bulkhead.name())).bold(),
        Span::from(format!("is {mood} ")).fg(colour_of(mood)),
        Span::from(format!("· {load} calls/s ")),
    ]);
    let block = Block::bordered()
        .border_type(border)
        .border_style(Style::new().fg(colour))
        .title(title);
    let inside = block.inner(area);
    frame.render_widget(block, area);
    let [numbers, latency, rejected] = Layout::horizontal([
        Constraint::Min(56),
        Constraint::Fill(1),
        Constraint::Fill(1),
    ])
    .spacing(1)
    .areas(inside);
    frame.render_widget(Paragraph::new(rows(line)), numbers);
    let p99 = format!("p99 {}", shown(line.rates.p99));
    curve(
        frame,
        latency,
        &p99,
        &line.latency_curve,
        1_000,
        Color::Yellow,
    );
    let refused = format!("refused {:.0}/s", line.rates.rejected);
    curve(
        frame,
        rejected,
        &refused,
        &line.rejected_curve,
        100,
        Color::Magenta,
    );
}

fn rows(line: &Line) -> Vec<Row<'_>> {
    let stats = &line.stats;
    let bulkhead = &line.bulkhead;
    let rates = &line.rates;
    let (state, colour) = match stats.circuit_state {
        Some(CircuitState::Closed) => ("closed", Color::Green),
        Some(CircuitState::Open) => ("OPEN", Color::Red),
        Some(CircuitState::HalfOpen) => ("half-open", Color::Yellow),
        _ => ("none", Color::Gray),
    };
    let circuit = bulkhead.circuit_breaker().map(|circuit| circuit.stats());
    let about = circuit.map(|circuit| match circuit.retry_after {
        Some(after) if stats.circuit_state == Some(CircuitState::Open) => {
            format!(", {:.0} s to go", after.as_secs_f64().ceil())
        }
        _ if circuit.times_opened > 0 => format!(", opened {}×", circuit.times_opened),
        _ => String::new(),
    });
    vec![
        places(
            "workers",
            stats.active_tasks as usize,
            bulkhead.max_concurrent_calls(),
            Color::Blue,
        ),
        places(
            "queue",
            stats.queued_tasks as usize,
            bulkhead.max_queue_size(),
            Color::Cyan,
        ),
        Row::from(vec![
            Span::from(format!("{:9}", "circuit")),
            Span::from(state).fg(colour).bold(),
            Span::from(about.unwrap_or_default()),
        ]),
        Row::from(vec![
            Span::from(format!("{:9}", "calls/s")),
            Span::from(format!("{:.0} ok", rates.succeeded)).fg(Color::Green),
            Span::from(format!("  {:.0} failed", rates.failed))
                .fg(colour_if(rates.failed, Color::Red)),
            Span::from(format!("  {:.0} late", rates.timed_out))
                .fg(colour_if(rates.timed_out, Color::Yellow)),
            Span::from(format!("  {:.0} refused", rates.rejected))
                .fg(colour_if(rates.rejected, Color::Magenta)),
        ]),
        Row::from(format!(
            "{:9}p50 {}   p99 {}",
            "latency",
            shown(rates.median),
            shown(rates.p99)
        )),
    ]
}

/// A cell for each place, those that are taken filled.
fn places(name: &str, taken: usize, all: usize, colour: Color) -> Row<'static> {
    // After it was made smaller, more can be taken than there are.
    let over = taken.saturating_sub(all);
    let filled = "■".repeat(taken.min(all));
    let free = "□".repeat(all.saturating_sub(taken));
    Row::from(vec![
        Span::from(format!("{name:9}")),
        Span::from(filled).fg(colour),
        Span::from(free).fg(Color::DarkGray),
        Span::from("■".repeat(over)).fg(Color::Red),
        Span::from(format!(" {taken} of {all}")),
    ])
}

fn curve(
    frame: &mut Frame<'_>,
    area: Rect,
    name: &str,
    values: &VecDeque<u64>,
    highest: u64,
    colour: Color,
) {
    let [head, body] = Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(area);
    frame.render_widget(Row::from(name).dim(), head);
    let newest = values.len().saturating_sub(usize::from(body.width));
    let most = values.iter().copied().max().unwrap_or(0).max(highest);
    let line = Sparkline::default()
        .data(values.iter().skip(newest).copied())
        .max(most)
        .style(Style::new().fg(colour));
    frame.render_widget(line, body);
}

fn colour_of(mood: Mood) -> Color {
    match mood {
        Mood::Healthy => Color::Green,
        Mood::Slow => Color::Yellow,
        Mood::Hanging | Mood::Dead => Color::Red,
    }
}

fn colour_if(rate: f64, colour: Color) -> Color {
    if rate > 0.0 { colour } else { Color::DarkGray }
}

fn shown(time: Option<Duration>) -> String {
    time.map_or_else(|| "–".to_owned(), |time| format!("{} ms", time.as_millis()))
}
