//! `.env` and the examples of it: names, and values that are no secrets.

use std::collections::BTreeMap;

use super::finding::Findings;
use super::secret;
use super::sketch::Variable;
use super::tree::{File, Tree, join};

/// What examples of `.env` are called.
const EXAMPLES: [&str; 5] = [
    ".env.example",
    ".env.sample",
    ".env.template",
    "env.example",
    ".env.dist",
];

/// What a private key begins and ends with that stands there without quotes.
const KEY_BEGIN: &str = "-----BEGIN";
const KEY_END: &str = "-----END";

/// Every name and value of a file, if it is there.
pub fn values(tree: &Tree, path: &str) -> BTreeMap<String, String> {
    let file = tree.read(path);
    // What is wrong with it is said where its service is told of it.
    let variables = file.map(|file| variables(&file, &mut Findings::default()));
    let pairs = variables.unwrap_or_default().into_iter();
    pairs
        .filter_map(|one| Some((one.name, one.value?)))
        .collect()
}

/// The variables of a file, up to a value whose end is not to be found.
pub fn variables(file: &File, findings: &mut Findings) -> Vec<Variable> {
    let text = file.text.replace("\r\n", "\n");
    let mut found = Vec::new();
    let (mut rest, mut line) = (text.as_str(), 1);
    while !rest.is_empty() {
        let place = file.at(line);
        let Some((name, after)) = named(rest) else {
            rest = rest.split_once('\n').map_or("", |(_, rest)| rest);
            line += 1;
            continue;
        };
        let Some((value, end)) = valued(after) else {
            // Its lines may be a key: none of them may pass for a variable.
            findings.leave(
                &place,
                "the value that begins here does not end: nothing is read from here on",
            );
            break;
        };
        if crate::manifest::form::is_variable(name) {
            found.push(Variable::new(name, value.as_deref(), &place));
        }
        let taken = &rest[..rest.len() - end.len()];
        line += taken.matches('\n').count();
        rest = end;
    }
    found
}

/// The name that a line begins with, and all that stands behind its `=`, or its `: `.
fn named(text: &str) -> Option<(&str, &str)> {
    let line = text.lines().next()?;
    if line.trim_start().starts_with('#') {
        return None;
    }
    // A key that stands there alone, below its name perhaps.
    if line.trim_start().starts_with(KEY_BEGIN) {
        return Some(("", text));
    }
    let at = line.find('=').into_iter().chain(line.find(": ")).min()?;
    let name = line[..at].trim();
    let name = name.strip_prefix("export ").unwrap_or(name);
    Some((name.trim(), &text[at + 1..]))
}

/// The value that a text begins with, if it is one, and what stands from the next line on; `None` where it has no end.
fn valued(text: &str) -> Option<(Option<String>, &str)> {
    let text = text.trim_start_matches([' ', '\t']);
    if let Some(quote) = text.chars().next().filter(|c| "\"'`".contains(*c)) {
        let inside = &text[1..];
        let end = closing(inside, quote)?;
        let value = match quote {
            '"' => unescaped(&inside[..end]),
            _ => inside[..end].to_owned(),
        };
        let behind = inside[end + 1..].lines().next().unwrap_or_default().trim();
        // Each reader makes something else of `'a'b`.
        let is_whole = behind.is_empty() || behind.starts_with('#');
        return Some((is_whole.then_some(value), next_line(&inside[end..])));
    }
    if text.starts_with(KEY_BEGIN) {
        let end = text.find(KEY_END)?;
        let end = end + text[end..].find('\n').unwrap_or(text.len() - end);
        let key = text[..end].trim_end().to_owned();
        return Some((Some(key), next_line(&text[end..])));
    }
    let line = text.split('\n').next().unwrap_or_default();
    // An object of JSON over several lines has no quotes that would keep it together.
    let value = Some(uncommented(line)).filter(|value| !matches!(value.as_str(), "{" | "["));
    Some((value, next_line(text)))
}

fn next_line(text: &str) -> &str {
    text.split_once('\n').map_or("", |(_, rest)| rest)
}

/// Where a quote closes that has no backslash before it.
fn closing(text: &str, quote: char) -> Option<usize> {
    let mut is_escaped = false;
    for (at, letter) in text.char_indices() {
        if letter == quote && !is_escaped {
            return Some(at);
        }
        is_escaped = letter == '\\' && !is_escaped;
    }
    None
}

/// What stands between double quotes, as it is meant.
fn unescaped(text: &str) -> String {
    let mut out = String::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        if letter != '\\' {
            out.push(letter);
            continue;
        }
        match letters.next() {
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some(letter @ ('"' | '\\' | '$')) => out.push(letter),
            Some(letter) => out.extend(['\\', letter]),
            None => out.push('\\'),
        }
    }
    out
}

fn uncommented(value: &str) -> String {
    let value = value.trim();
    if value.starts_with('#') {
        return String::new();
    }
    let end = value.find(" #").unwrap_or(value.len());
    value[..end].trim_end().to_owned()
}

/// What the files of a folder say its service is told: the example's values before those of one machine.
pub fn of(tree: &Tree, dir: &str, findings: &mut Findings) -> Vec<Variable> {
    let mut all: Vec<Variable> = Vec::new();
    if let Some(file) = tree.first(dir, &EXAMPLES).and_then(|path| tree.read(&path)) {
        all.extend(variables(&file, findings));
        for one in &all {
            let value = one.value.as_deref().unwrap_or_default();
            if secret::is_name(&one.name) && secret::is_common(value) {
                secret::known_default(findings, &one.place, &one.name);
            }
        }
    }
    let Some(file) = tree.read(&join(dir, ".env")) else {
        return all;
    };
    ignored(tree, &file, findings);
    for one in variables(&file, findings) {
        let value = one.value.as_deref().unwrap_or_default();
        if secret::is_name(&one.name) && secret::is_known(value) {
            secret::known_default(findings, &one.place, &one.name);
        }
        match all.iter_mut().find(|known| known.name == one.name) {
            Some(known) if known.value.as_deref() == Some("") => *known = one,
            Some(_) => {}
            None => all.push(one),
        }
    }
    all
}

fn ignored(tree: &Tree, file: &File, findings: &mut Findings) {
    if !tree.is_dir(".git") {
        return;
    }
    let dirs = [".", file.dir()];
    let texts = dirs
        .iter()
        .filter_map(|dir| tree.read(&join(dir, ".gitignore")));
    let matches = |line: &str| {
        let line = line
            .trim()
            .trim_start_matches('/')
            .trim_start_matches("**/");
        matches!(line, ".env" | ".env*" | "*.env" | ".env.*" | ".*") || line == file.path
    };
    let is_ignored = texts.into_iter().any(|text| text.text.lines().any(matches));
    if !is_ignored {
        findings.fault(
            "env-not-ignored",
            &file.at(0),
            "git does not ignore it: the next `git add` takes its values in",
            "echo .env >> .gitignore",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Name, value and line of each, and the lines that something is said of.
    fn read(text: &str) -> (Vec<(String, String, usize)>, Vec<usize>) {
        let file = File {
            path: ".env".to_owned(),
            text: text.to_owned(),
        };
        let mut findings = Findings::default();
        let found = variables(&file, &mut findings).into_iter();
        let found = found.map(|one| (one.name, one.value.unwrap_or_default(), one.place.line));
        let said = findings.not_carried_over.into_iter();
        let said = said.map(|one| one.place.map_or(0, |place| place.line));
        (found.collect(), said.collect())
    }

    fn own(name: &str, value: &str, line: usize) -> (String, String, usize) {
        (name.to_owned(), value.to_owned(), line)
    }

    #[test]
    fn values_over_several_lines_come_out_whole() {
        let text =
            "A=\"l1\nB=l2\" # why\nC='x\n\n# y=\"'\nexport D=`\nE=1\n`\r\nF: \"1\n2\"\nlast=3";
        let (found, said) = read(text);
        let expected = [
            own("A", "l1\nB=l2", 1),
            own("C", "x\n\n# y=\"", 3),
            own("D", "\nE=1\n", 6),
            own("F", "1\n2", 9),
            own("last", "3", 11),
        ];
        assert_eq!((found.as_slice(), said.len()), (expected.as_slice(), 0));
    }

    #[test]
    fn what_stands_in_quotes_is_taken_as_it_is_meant() {
        let (found, _) = read("A=\"a\\nb \\\"c\\\" \\d\"\nB='a\\nb'\nC=it's # x\n# D=\"\nE=#");
        let expected = [
            own("A", "a\nb \"c\" \\d", 1),
            own("B", "a\\nb", 2),
            own("C", "it's", 3),
            own("E", "", 5),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_no_value_is_none() {
        let file = File {
            path: ".env".to_owned(),
            text: "A='it''s'\nB={\n  \"x\": \"y\",\n}\nC='d' # e\n".to_owned(),
        };
        let found = variables(&file, &mut Findings::default());
        let found: Vec<_> = found
            .iter()
            .map(|one| (one.name.as_str(), one.value.as_deref()))
            .collect();
        assert_eq!(found, [("A", None), ("B", None), ("C", Some("d"))]);
    }

    #[test]
    fn a_value_without_end_ends_the_file() {
        for open in [
            "\"-----BEGIN EC PRIVATE KEY-----",
            "'x",
            "`",
            "-----BEGIN PRIVATE KEY-----",
        ] {
            let (found, said) = read(&format!("A=1\nodd.name={open}\nMHcCAQEE==\nB=2\n"));
            assert_eq!((found, said), (vec![own("A", "1", 1)], vec![2]), "{open}");
        }
    }

    #[test]
    fn lines_of_a_key_are_no_variables() {
        let key = "-----BEGIN PRIVATE KEY-----\nMHcCAQEE==\n-----END PRIVATE KEY-----";
        let (found, _) = read(&format!("K={key}\nA=1\nL=\"{key}\n\"\nM=\n  {key}\nN=2"));
        let whole = format!("{key}\n");
        let expected = [
            own("K", key, 1),
            own("A", "1", 4),
            own("L", &whole, 5),
            own("M", "", 9),
            own("N", "2", 13),
        ];
        assert_eq!(found, expected);
    }
}
