//! Names of other programs as names of a manifest.

use std::collections::{BTreeMap, BTreeSet};

use crate::manifest::form::is_name;

/// A service of this name.
pub fn service(name: &str) -> String {
    let plain = plain(name);
    match plain.as_str() {
        "gateway" | "build" => format!("{plain}-service"),
        _ => plain,
    }
}

/// A resource of this name: no part of it may look like the name of a run.
pub fn resource(name: &str) -> String {
    let name = service(name);
    let is_run = |part: &str| {
        let number = part.strip_prefix('d').unwrap_or_default();
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    };
    let parts = name.split('-').map(|part| match is_run(part) {
        true => format!("db{}", &part[1..]),
        false => part.to_owned(),
    });
    cut(&parts.collect::<Vec<_>>().join("-"))
}

/// Small letters, digits and `-`, beginning with a letter.
pub fn plain(name: &str) -> String {
    let name = name.rsplit('/').next().unwrap_or_default().to_lowercase();
    let mut plain = String::new();
    for letter in name.chars() {
        match letter {
            'a'..='z' | '0'..='9' => plain.push(letter),
            _ if plain.is_empty() || plain.ends_with('-') => {}
            _ => plain.push('-'),
        }
    }
    if plain.starts_with(|first: char| first.is_ascii_digit()) {
        plain.insert_str(0, "s-");
    }
    match plain.trim_end_matches('-') {
        "" => "app".to_owned(),
        plain => cut(plain),
    }
}

fn cut(name: &str) -> String {
    let end = name.len().min(31);
    name[..end].trim_end_matches('-').to_owned()
}

/// Names that were given, each once.
#[derive(Debug, Default)]
pub struct Given {
    taken: BTreeSet<String>,
    by: BTreeMap<String, String>,
}

impl Given {
    /// The name of what is called `original` elsewhere, different from all before.
    pub fn give(&mut self, original: &str, wanted: String) -> String {
        let mut name = wanted.clone();
        let mut number = 2;
        while self.taken.contains(&name) || !is_name(&name) {
            let end = format!("-{number}");
            let start = &wanted[..wanted.len().min(31 - end.len())];
            name = format!("{start}{end}");
            number += 1;
        }
        self.taken.insert(name.clone());
        self.by.insert(original.to_owned(), name.clone());
        name
    }

    /// Another word for something that has a name.
    pub fn also(&mut self, original: &str, name: &str) {
        let entry = self.by.entry(original.to_owned());
        entry.or_insert_with(|| name.to_owned());
    }

    /// The name that something was given.
    pub fn of(&self, original: &str) -> Option<&str> {
        self.by.get(original).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_manifest() {
        for (name, right) in [
            ("My_App.v2", "my-app-v2"),
            ("@scope/web", "web"),
            ("9lives", "s-9lives"),
            ("gateway", "gateway-service"),
            ("ÄÖ", "app"),
            ("--", "app"),
        ] {
            assert_eq!(service(name), right);
            assert!(is_name(right));
        }
        assert_eq!(resource("d1"), "db1");
        let long = "x".repeat(80);
        let mut given = Given::default();
        let names: BTreeSet<_> = (0..200)
            .map(|at| given.give(&at.to_string(), service(&long)))
            .collect();
        assert_eq!(names.len(), 200);
        assert!(names.iter().all(|name| is_name(name)));
    }
}
