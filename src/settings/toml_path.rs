//! The path of keys to a key that the TOML parser has refused. There is no tree then to look it up in.

use toml::de::DeTable;

use super::node::MAX_DEPTH;

/// The keys to the one that begins at this byte, itself the last. `None` if there is none, or if what is before it is no
/// TOML.
pub(super) fn keys_to(text: &str, start: usize) -> Option<Vec<String>> {
    let mut scanner = Scanner {
        text,
        at: 0,
        start,
        path: Vec::new(),
        depth: 0,
    };
    match scanner.document() {
        Err(Stop::Found) => Some(scanner.path),
        _ => None,
    }
}

enum Stop {
    /// The path is that to the key.
    Found,
    /// The text is no TOML, or the key would have come before.
    Lost,
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
    /// Where the key begins.
    start: usize,
    /// The keys around what is read.
    path: Vec<String>,
    depth: usize,
}

impl Scanner<'_> {
    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn takes(&mut self, what: &str) -> bool {
        let is_there = self.rest().starts_with(what);
        if is_there {
            self.at += what.len();
        }
        is_there
    }

    fn skip_while(&mut self, skipped: impl Fn(char) -> bool) {
        let rest = self.rest();
        let end = rest.find(|c| !skipped(c)).unwrap_or(rest.len());
        self.at += end;
    }

    fn skip_blanks_in_line(&mut self) {
        self.skip_while(|c| c == ' ' || c == '\t');
    }

    /// Blanks, ends of lines, comments, and what else may stand there.
    fn skip_blanks_and(&mut self, separator: &str) {
        loop {
            self.skip_while(|c| " \t\r\n".contains(c) || separator.contains(c));
            if !self.rest().starts_with('#') {
                return;
            }
            self.skip_while(|c| c != '\n');
        }
    }

    fn document(&mut self) -> Result<(), Stop> {
        loop {
            self.skip_blanks_and("");
            if self.at > self.start || self.rest().is_empty() {
                return Err(Stop::Lost);
            }
            if self.takes("[") {
                let _of_many = self.takes("[");
                self.path.clear();
                self.keys()?;
                self.skip_while(|c| c == ']');
            } else {
                self.key_and_value()?;
            }
        }
    }

    /// Leaves the path as it was.
    fn key_and_value(&mut self) -> Result<(), Stop> {
        let outer = self.path.len();
        self.keys()?;
        if !self.takes("=") {
            return Err(Stop::Lost);
        }
        self.value()?;
        self.path.truncate(outer);
        Ok(())
    }

    /// Keys with points between them, which are put at the end of the path.
    fn keys(&mut self) -> Result<(), Stop> {
        loop {
            self.skip_blanks_in_line();
            let start = self.at;
            if self.rest().starts_with(['"', '\'']) {
                self.string()?;
                self.path.push(unquoted(&self.text[start..self.at]));
            } else {
                self.skip_while(|c| c.is_alphanumeric() || c == '_' || c == '-');
                self.path.push(self.text[start..self.at].to_owned());
            }
            match start {
                _ if start == self.at => return Err(Stop::Lost),
                _ if start == self.start => return Err(Stop::Found),
                _ => self.skip_blanks_in_line(),
            }
            if !self.takes(".") {
                return Ok(());
            }
        }
    }

    fn value(&mut self) -> Result<(), Stop> {
        self.skip_blanks_in_line();
        let end = match self.rest().chars().next() {
            Some('"' | '\'') => return self.string(),
            Some('[') => "]",
            Some('{') => "}",
            _ => {
                self.skip_while(|c| !",]}#\r\n".contains(c));
                return Ok(());
            }
        };
        self.at += 1;
        self.depth += 1;
        if self.depth > 2 * MAX_DEPTH {
            return Err(Stop::Lost);
        }
        loop {
            self.skip_blanks_and(",");
            if self.takes(end) {
                self.depth -= 1;
                return Ok(());
            }
            let before = self.at;
            match end {
                "]" => self.value()?,
                _ => self.key_and_value()?,
            }
            if self.at == before {
                return Err(Stop::Lost);
            }
        }
    }

    fn string(&mut self) -> Result<(), Stop> {
        let Some(end) = ["\"\"\"", "'''", "\"", "'"]
            .into_iter()
            .find(|quotes| self.takes(quotes))
        else {
            return Err(Stop::Lost);
        };
        loop {
            if self.takes(end) {
                // Quotes directly before the three belong to the text.
                if end.len() == 3 {
                    let _one = self.takes(&end[..1]);
                    let _another = self.takes(&end[..1]);
                }
                return Ok(());
            }
            let mut rest = self.rest().chars();
            let Some(c) = rest.next() else {
                return Err(Stop::Lost);
            };
            let escaped = rest.next().filter(|_| c == '\\' && end.starts_with('"'));
            self.at += c.len_utf8() + escaped.map_or(0, char::len_utf8);
        }
    }
}

/// A key in quotes as the parser reads it.
fn unquoted(key: &str) -> String {
    let text = format!("{key} = 0");
    let table = DeTable::parse(&text).ok();
    let name = table.and_then(|table| {
        let name = table.get_ref().keys().next()?;
        Some(name.get_ref().to_string())
    });
    name.unwrap_or_else(|| key.to_owned())
}
