//! Values with references: `${name.attribute}`, `${VARIABLE}`; `$${` is a plain `${`.

/// A value with references, as typed: `http://${api.host}/x`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Its pieces in order.
    pub parts: Vec<Part>,
}

/// A piece of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Text.
    Text(String),
    /// `${name.attribute}` of a service or resource: `url`, `host`, `port`, `path`.
    Attribute {
        /// Service or resource.
        name: String,
        /// Attribute.
        attribute: String,
    },
}

/// A piece of a template as typed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Text(String),
    Attribute { name: String, attribute: String },
    Variable(String),
}

/// The pieces of a template, or what is wrong with it.
pub(super) fn pieces(text: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            plain.push_str(&rest[..at - 1]);
            plain.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        plain.push_str(&rest[..at]);
        let Some(end) = rest[at..].find('}') else {
            return Err("`${` is not closed".to_owned());
        };
        push_text(&mut pieces, &mut plain);
        pieces.push(reference(&rest[at + 2..at + end])?);
        rest = &rest[at + end + 1..];
    }
    plain.push_str(rest);
    push_text(&mut pieces, &mut plain);
    Ok(pieces)
}

fn push_text(pieces: &mut Vec<Piece>, plain: &mut String) {
    if !plain.is_empty() {
        pieces.push(Piece::Text(std::mem::take(plain)));
    }
}

fn reference(inside: &str) -> Result<Piece, String> {
    if inside.is_empty() || inside.contains(|c: char| c.is_whitespace() || "${".contains(c)) {
        return Err(format!("`${{{inside}}}` is no reference"));
    }
    Ok(match inside.split_once('.') {
        Some((name, attribute)) => Piece::Attribute {
            name: name.to_owned(),
            attribute: attribute.to_owned(),
        },
        None => Piece::Variable(inside.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Piece {
        Piece::Text(text.to_owned())
    }

    #[test]
    fn references_and_text() {
        let host = || Piece::Attribute {
            name: "api".into(),
            attribute: "host".into(),
        };
        let variable = Piece::Variable("A".into());
        assert_eq!(
            pieces("http://${api.host}/x ${A}"),
            Ok(vec![text("http://"), host(), text("/x "), variable])
        );
        assert_eq!(pieces("${api.host}$${A}"), Ok(vec![host(), text("${A}")]));
        assert_eq!(pieces("$HOME costs 5$"), Ok(vec![text("$HOME costs 5$")]));
    }

    #[test]
    fn faults() {
        for bad in ["${", "a ${api.url", "${}", "${ api.url }", "${${A}}"] {
            assert!(pieces(bad).is_err(), "{bad}");
        }
    }
}
