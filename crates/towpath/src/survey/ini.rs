//! The files that Python's `configparser` reads, as far as supervisord uses them: sections, values that go on in
//! indented lines, comments.

/// A section: its name, its line, its values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// What stands between the brackets.
    pub name: String,
    /// Line, from 1.
    pub line: usize,
    /// Key, value and line of each entry.
    pub entries: Vec<(String, String, usize)>,
}

impl Section {
    /// The value of a key, and its line.
    pub fn get(&self, key: &str) -> Option<(&str, usize)> {
        let entry = self.entries.iter().rev().find(|(at, _, _)| at == key)?;
        Some((&entry.1, entry.2))
    }
}

/// The sections of a file.
///
/// # Errors
/// The line that is neither a section, a value, a comment nor blank, and what is wrong with it.
pub fn parse(text: &str) -> Result<Vec<Section>, (usize, String)> {
    let mut sections: Vec<Section> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let at = at + 1;
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with([';', '#']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[') {
            let name = name.split_once(']').map(|(name, _)| name.trim().to_owned());
            let name = name.ok_or((at, "begins a section that is not closed".to_owned()))?;
            sections.push(Section {
                name,
                line: at,
                entries: Vec::new(),
            });
            continue;
        }
        let Some(section) = sections.last_mut() else {
            return Err((at, "has a line before its first section".to_owned()));
        };
        let goes_on = line.starts_with([' ', '\t']);
        match section.entries.last_mut() {
            Some((_, value, _)) if goes_on => *value += &format!("\n{}", plain(trimmed)),
            _ => section.entries.push(entry(trimmed, at)?),
        }
    }
    Ok(sections)
}

fn entry(line: &str, at: usize) -> Result<(String, String, usize), (usize, String)> {
    let (key, value) = line
        .split_once(['=', ':'])
        .ok_or((at, "has a line that is no `key = value`".to_owned()))?;
    Ok((key.trim().to_lowercase(), plain(value), at))
}

/// A comment begins with a semicolon after a blank.
fn plain(value: &str) -> String {
    let end = value.find(" ;").or_else(|| value.find("\t;"));
    value[..end.unwrap_or(value.len())].trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_values_and_comments() {
        let text = "; c\n[program:a]\ncommand = x -y=1 ; why\nenvironment=\n  A=\"1\",\n  B=2\n";
        let sections = parse(text).unwrap();
        assert_eq!(sections[0].name, "program:a");
        assert_eq!(sections[0].get("command"), Some(("x -y=1", 3)));
        assert_eq!(sections[0].get("environment"), Some(("\nA=\"1\",\nB=2", 4)));
        assert_eq!(parse("a=1").unwrap_err().0, 1);
        assert_eq!(parse("[a]\nb").unwrap_err().0, 2);
    }
}
