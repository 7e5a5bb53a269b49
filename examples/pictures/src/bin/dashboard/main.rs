//! Several bulkheads under a load, live in the terminal. Keys make a dependency slow, hang, fail and recover: watch its workers,
//! queue, refusals, latency and circuit, and that the other dependencies do not mind.
//!
//! ```text
//! cargo run --release --bin dashboard
//! cargo run --release --bin dashboard -- --frames 20   # no terminal: so many frames of a script, and the last one as text
//! ```

mod dependency;
mod keys;
mod recent;
mod view;
mod world;

use std::error::Error;
use std::thread;
use std::time::{Duration, Instant};

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind};

use keys::{Action, action_of};
use world::World;

const FRAME: Duration = Duration::from_millis(100);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => interactive(),
        ["--frames", frames] => headless(frames.parse()?),
        _ => Err("it takes --frames and a number, or nothing".into()),
    }
}

fn interactive() -> Result<(), Box<dyn Error>> {
    let mut world = World::new()?;
    // It restores the terminal, also after a panic.
    ratatui::run(|terminal| -> Result<(), Box<dyn Error>> {
        let mut next = Instant::now();
        loop {
            world.look();
            terminal.draw(|frame| view::draw(frame, &world))?;
            next += FRAME;
            while event::poll(next.saturating_duration_since(Instant::now()))? {
                let Event::Key(key) = event::read()? else {
                    continue;
                };
                if key.kind != KeyEventKind::Press {
                    continue;
                }
                match action_of(key.code, key.modifiers) {
                    Some(Action::Quit) => return Ok(()),
                    Some(action) => world.act(action),
                    None => {}
                }
            }
            // After a pause of the whole process there is nothing to catch up with.
            next = next.max(Instant::now());
        }
    })
}

/// What is pressed before which frame: one dependency after the other gets into trouble, and the first recovers.
const SCRIPT: [(usize, KeyCode); 9] = [
    (2, KeyCode::Char('h')),
    (4, KeyCode::Down),
    (5, KeyCode::Char('s')),
    (6, KeyCode::Down),
    (7, KeyCode::Char('k')),
    (8, KeyCode::Char('+')),
    (9, KeyCode::Char('1')),
    (12, KeyCode::Char('b')),
    (13, KeyCode::Char(']')),
];

fn headless(frames: usize) -> Result<(), Box<dyn Error>> {
    let mut world = World::new()?;
    let mut terminal = Terminal::new(TestBackend::new(100, 30))?;
    for frame in 1..=frames {
        for (at, key) in SCRIPT {
            if let Some(action) = action_of(key, event::KeyModifiers::NONE).filter(|_| at == frame)
            {
                world.act(action);
            }
        }
        world.look();
        terminal.draw(|frame| view::draw(frame, &world))?;
        thread::sleep(FRAME);
    }
    println!("{}", terminal.backend());
    Ok(())
}
