//! The command line.

const USAGE: &str = "cargo run --release -- [ROUNDS] [--write]";

pub struct Arguments {
    pub rounds: usize,
    /// Whether the tables and the chart are written into their files.
    pub write: bool,
}

impl Arguments {
    /// Ends the program at once if they make no sense, and not after minutes of measuring.
    pub fn get() -> Self {
        Self::parse(std::env::args().skip(1)).unwrap_or_else(|why| {
            eprintln!("{why}\n{USAGE}");
            std::process::exit(2);
        })
    }

    fn parse(words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut arguments = Self {
            rounds: 25,
            write: false,
        };
        for word in words {
            if word == "--write" {
                arguments.write = true;
            } else {
                let rounds = word.parse().ok().filter(|&rounds| rounds >= 1);
                arguments.rounds = rounds.ok_or(format!("{word} is no number of rounds"))?;
            }
        }
        if arguments.write {
            crate::report::find_marks(crate::report::README)?;
            crate::report::find_marks(crate::report::DETAILS)?;
        }
        Ok(arguments)
    }
}
