//! What is said of a project: where, what, and what to type.

use std::fmt;

use serde::Serialize;

/// A place in a file of the project.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Place {
    /// The file, from the project's folder.
    pub file: String,
    /// The line, from 1; 0 means the whole file.
    pub line: usize,
}

impl Place {
    /// A line of a file.
    pub fn new(file: &str, line: usize) -> Self {
        Self {
            file: file.to_owned(),
            line,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{}:{line}", self.file),
        }
    }
}

/// One thing that is said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// A stable word for what kind of thing it is.
    pub code: &'static str,
    /// Where it was read.
    pub place: Option<Place>,
    /// What there is to say; never the value of a secret.
    pub text: String,
    /// What to type, or to do.
    pub help: Option<String>,
}

impl Finding {
    /// Something about a place.
    pub fn at(code: &'static str, place: &Place, text: impl Into<String>) -> Self {
        Self {
            place: Some(place.clone()),
            ..Self::general(code, text)
        }
    }

    /// Something about the whole.
    pub fn general(code: &'static str, text: impl Into<String>) -> Self {
        Self {
            code,
            place: None,
            text: text.into(),
            help: None,
        }
    }

    /// What comes from a file may hold control characters.
    pub fn clean(&mut self) {
        let file = self.place.as_mut().map(|place| &mut place.file);
        for text in file
            .into_iter()
            .chain([&mut self.text])
            .chain(&mut self.help)
        {
            if text.contains(char::is_control) {
                *text = text.replace(char::is_control, "\u{fffd}");
            }
        }
    }

    /// Says what to type, or to do.
    #[must_use]
    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.help = Some(text.into());
        self
    }
}

/// What there is to say of a project, in the order that it was found in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Findings {
    /// What the manifest holds, and what it was taken from.
    pub written: Vec<Finding>,
    /// What was read and is not in the manifest, and why.
    pub not_carried_over: Vec<Finding>,
    /// What nobody but the user can say.
    pub yours_to_decide: Vec<Finding>,
    /// What is wrong in the files that were read.
    pub wrong: Vec<Finding>,
}

impl Findings {
    /// What the manifest has from a place.
    pub fn write(&mut self, place: &Place, text: impl Into<String>) {
        self.written.push(Finding::at("written", place, text));
    }

    /// What is left where it is.
    pub fn leave(&mut self, place: &Place, text: impl Into<String>) {
        self.not_carried_over
            .push(Finding::at("not-carried-over", place, text));
    }

    /// What somebody has to decide, and what to type then.
    pub fn decide(&mut self, place: &Place, text: impl Into<String>, help: impl Into<String>) {
        self.yours_to_decide
            .push(Finding::at("yours-to-decide", place, text).help(help));
    }

    /// What is wrong at a place, and what would be right.
    pub fn fault(
        &mut self,
        code: &'static str,
        place: &Place,
        text: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.wrong.push(Finding::at(code, place, text).help(help));
    }

    /// Adds those of another source.
    pub fn append(&mut self, other: Findings) {
        self.written.extend(other.written);
        self.not_carried_over.extend(other.not_carried_over);
        self.yours_to_decide.extend(other.yours_to_decide);
        self.wrong.extend(other.wrong);
    }

    /// All lists.
    pub fn lists(&mut self) -> [&mut Vec<Finding>; 4] {
        [
            &mut self.written,
            &mut self.not_carried_over,
            &mut self.yours_to_decide,
            &mut self.wrong,
        ]
    }

    /// Says nothing twice, and nothing that would drive a terminal.
    pub fn tidy(&mut self) {
        for list in self.lists() {
            list.iter_mut().for_each(Finding::clean);
            let mut seen: Vec<Finding> = Vec::new();
            list.retain(|finding| {
                let is_new = !seen.contains(finding);
                if is_new {
                    seen.push(finding.clone());
                }
                is_new
            });
        }
    }
}
