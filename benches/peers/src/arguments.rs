//! The command line.

use std::path::{Path, PathBuf};

const USAGE: &str = "cargo run --release -- [ROUNDS] [--readme FILE] [--chart FILE]";

pub struct Arguments {
    pub rounds: usize,
    /// A file with the two marks between which the table goes.
    pub readme: Option<PathBuf>,
    /// Where the SVG goes.
    pub chart: Option<PathBuf>,
}

impl Arguments {
    /// Ends the program at once if they make no sense, and not after minutes of measuring.
    pub fn get() -> Self {
        Self::parse(std::env::args().skip(1)).unwrap_or_else(|why| {
            eprintln!("{why}\n{USAGE}");
            std::process::exit(2);
        })
    }

    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut arguments = Self {
            rounds: 25,
            readme: None,
            chart: None,
        };
        while let Some(word) = words.next() {
            let mut file = || {
                let file = words.next().map(PathBuf::from);
                file.ok_or(format!("{word} wants a file"))
            };
            match word.as_str() {
                "--readme" => arguments.readme = Some(file()?),
                "--chart" => arguments.chart = Some(file()?),
                _ => {
                    let rounds = word.parse().ok().filter(|&rounds| rounds >= 1);
                    arguments.rounds = rounds.ok_or(format!("{word} is no number of rounds"))?;
                }
            }
        }
        if let Some(path) = &arguments.readme {
            crate::report::find_marks(path)?;
        }
        if let Some(path) = &arguments.chart {
            let folder = path.parent().filter(|folder| *folder != Path::new(""));
            if folder.is_some_and(|folder| !folder.is_dir()) {
                return Err(format!("there is no folder for {}", path.display()));
            }
        }
        Ok(arguments)
    }
}
