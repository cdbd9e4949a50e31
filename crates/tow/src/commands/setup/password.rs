//! A line that is typed and not shown.

use std::io::{BufRead, IsTerminal, Write};

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

/// Asks for a password on the terminal; `None` where there is none.
pub fn ask(prompt: &str) -> Option<String> {
    let input = std::io::stdin();
    if !input.is_terminal() {
        return None;
    }
    let shown = tcgetattr(&input).ok()?;
    let mut hidden = shown.clone();
    hidden.local_modes -= LocalModes::ECHO;
    hidden.local_modes |= LocalModes::ECHONL;
    let _ = write!(std::io::stderr(), "{prompt}");
    tcsetattr(&input, OptionalActions::Flush, &hidden).ok()?;
    let mut line = String::new();
    let read = input.lock().read_line(&mut line);
    let _ = tcsetattr(&input, OptionalActions::Flush, &shown);
    read.ok()?;
    Some(line.trim_end_matches(['\r', '\n']).to_owned())
}
