//! What the keys do.

use ratatui::crossterm::event::{KeyCode, KeyModifiers};

use super::dependency::Mood;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Action {
    Select(usize),
    Up,
    Down,
    Become(Mood),
    MoreLoad,
    LessLoad,
    MoreWorkers,
    FewerWorkers,
    ResetCircuit,
    Quit,
}

/// As the last line shows them.
pub const HELP: &str = "↑↓ choose  s slow  h hang  k kill  b bring back  + - load  ] [ workers  c reset circuit  q quit";

pub fn action_of(key: KeyCode, modifiers: KeyModifiers) -> Option<Action> {
    Some(match key {
        KeyCode::Char('c') if modifiers.contains(KeyModifiers::CONTROL) => Action::Quit,
        KeyCode::Char('q') | KeyCode::Esc => Action::Quit,
        KeyCode::Char(digit @ '1'..='9') => Action::Select(digit as usize - '1' as usize),
        KeyCode::Up => Action::Up,
        KeyCode::Down => Action::Down,
        KeyCode::Char('s') => Action::Become(Mood::Slow),
        KeyCode::Char('h') => Action::Become(Mood::Hanging),
        KeyCode::Char('k') => Action::Become(Mood::Dead),
        KeyCode::Char('b') => Action::Become(Mood::Healthy),
        KeyCode::Char('+' | '=') => Action::MoreLoad,
        KeyCode::Char('-') => Action::LessLoad,
        KeyCode::Char(']') => Action::MoreWorkers,
        KeyCode::Char('[') => Action::FewerWorkers,
        KeyCode::Char('c') => Action::ResetCircuit,
        _ => return None,
    })
}
