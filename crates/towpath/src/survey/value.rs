//! Values that are filled in from elsewhere: `${NAME:-default}`, as compose and its kin write it.

use std::collections::BTreeMap;

/// A text, filled in.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Filled {
    /// The text; what nobody gives is empty in it.
    pub text: String,
    /// Names that nobody gives a value.
    pub missing: Vec<String>,
    /// Every name that it refers to.
    pub names: Vec<String>,
}

/// Fills a text in from some variables, and with the defaults that it names itself.
pub fn fill(text: &str, from: &BTreeMap<String, String>) -> Filled {
    let mut filled = Filled::default();
    filled.text = expand(text, from, &mut filled, 0);
    filled
}

fn expand(text: &str, from: &BTreeMap<String, String>, seen: &mut Filled, depth: usize) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(inside) = rest.strip_prefix('{') {
            let Some(end) = closing(inside) else {
                out.push('$');
                continue;
            };
            out.push_str(&braced(&inside[..end], from, seen, depth));
            rest = &inside[end + 1..];
        } else {
            let end = rest
                .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
                .unwrap_or(rest.len());
            match end {
                0 => out.push('$'),
                _ => out.push_str(&known(&rest[..end], from, seen).unwrap_or_default()),
            }
            rest = &rest[end..];
        }
    }
    out.push_str(rest);
    out
}

/// Where the brace that was opened closes.
fn closing(text: &str) -> Option<usize> {
    let mut open = 1;
    for (at, letter) in text.char_indices() {
        match letter {
            '{' => open += 1,
            '}' => open -= 1,
            _ => {}
        }
        if open == 0 {
            return Some(at);
        }
    }
    None
}

fn braced(
    inside: &str,
    from: &BTreeMap<String, String>,
    seen: &mut Filled,
    depth: usize,
) -> String {
    let end = inside.find([':', '-', '?', '+']).unwrap_or(inside.len());
    let (name, rest) = inside.split_at(end);
    let default = rest.strip_prefix(":-").or(rest.strip_prefix('-'));
    let missing = seen.missing.len();
    let value = known(name, from, seen).filter(|value| !(value.is_empty() && default.is_some()));
    match (value, default) {
        (Some(value), _) => value,
        (None, Some(default)) if depth < 8 => {
            seen.missing.truncate(missing);
            expand(default, from, seen, depth + 1)
        }
        _ => String::new(),
    }
}

fn known(name: &str, from: &BTreeMap<String, String>, seen: &mut Filled) -> Option<String> {
    seen.names.push(name.to_owned());
    let value = from.get(name).cloned();
    if value.is_none() {
        seen.missing.push(name.to_owned());
    }
    value
}

/// Scheme, host, port and the rest of a URL.
#[derive(Debug, PartialEq, Eq)]
pub struct Url<'a> {
    /// What stands before `://`.
    pub scheme: &'a str,
    /// The host.
    pub host: &'a str,
    /// The port, if it is given.
    pub port: Option<u16>,
    /// From the path on.
    pub rest: &'a str,
}

/// The parts of a text that is one URL of one host.
pub fn url(text: &str) -> Option<Url<'_>> {
    let (scheme, after) = text.split_once("://")?;
    let end = after.find(['/', '?', '#']);
    // A password may hold a slash; its end is the last `@` before the path then.
    let end = match after.rfind('@') {
        Some(at) if end.is_some_and(|end| end < at) => {
            after[at..].find(['/', '?', '#']).map(|end| at + end)
        }
        _ => end,
    };
    let (place, rest) = after.split_at(end.unwrap_or(after.len()));
    let place = place.rsplit_once('@').map_or(place, |(_, place)| place);
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok()),
        None => (place, None),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.+".contains(c);
    (scheme.chars().all(plain) && !scheme.is_empty() && host.chars().all(plain)).then_some(Url {
        scheme,
        host,
        port,
        rest,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_filled_in() {
        let from = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
        let filled = fill("${A}-$B-${C:-x${A}}-$$D-${E:?no}", &from);
        assert_eq!(filled.text, "1--x1-$D-");
        assert_eq!(filled.missing, ["B", "E"]);
        assert_eq!(fill("cost 5$ ${", &from).text, "cost 5$ ${");
    }

    #[test]
    fn urls_in_parts() {
        let found = url("postgresql://a:p/w@db:5432/x?y").unwrap();
        assert_eq!(
            (found.scheme, found.host, found.port, found.rest),
            ("postgresql", "db", Some(5432), "/x?y")
        );
        assert_eq!(url("redis://cache").unwrap().host, "cache");
        assert!(url("a b").is_none());
    }
}
