//! YAML as a tree that knows its lines. Anchors are followed within a budget: a few lines of them can stand for
//! billions of values.

use std::collections::{BTreeMap, BTreeSet};

use saphyr_parser::{Event, Parser, ScalarStyle};

/// Values that a file may stand for, once its anchors are followed.
const MOST_NODES: usize = 50_000;

/// Deepest nesting.
const DEEPEST: usize = 64;

/// A value, and the line that it begins on.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Line, from 1.
    pub line: usize,
    /// What it is.
    pub kind: Kind,
    size: usize,
}

/// What a value is.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// Nothing.
    Null,
    /// A scalar, as written: texts, numbers and the rest.
    Text(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in its order.
    Map(Vec<(Key, Node)>),
}

/// A key, and its line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The key.
    pub text: String,
    /// Line, from 1.
    pub line: usize,
}

/// What a file holds.
#[derive(Debug)]
pub struct Document {
    /// Its first document.
    pub root: Node,
    /// The line that a second one begins on.
    pub more: Option<usize>,
}

/// What is wrong with a file, and its line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong.
    pub text: String,
}

impl Node {
    /// A value on a line.
    pub fn new(line: usize, kind: Kind) -> Self {
        Self {
            line,
            kind,
            size: 1,
        }
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Node> {
        let entry = self.entries().iter().rev().find(|(at, _)| at.text == key);
        entry.map(|(_, value)| value)
    }

    /// The value at the end of several keys.
    pub fn at(&self, keys: &[&str]) -> Option<&Node> {
        keys.iter().try_fold(self, |node, key| node.get(key))
    }

    /// The entries of a mapping; of anything else there are none.
    pub fn entries(&self) -> &[(Key, Node)] {
        match &self.kind {
            Kind::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The items of a sequence; of anything else there are none.
    pub fn items(&self) -> &[Node] {
        match &self.kind {
            Kind::List(items) => items,
            _ => &[],
        }
    }

    /// A scalar.
    pub fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A scalar below a key.
    pub fn text_of(&self, key: &str) -> Option<&str> {
        self.get(key)?.text()
    }

    /// The scalars of a sequence, or a lone one, with their lines.
    pub fn texts(&self) -> Vec<(&str, usize)> {
        let lone = std::slice::from_ref(self);
        let items = match &self.kind {
            Kind::List(items) => items.as_slice(),
            _ => lone,
        };
        let texts = items.iter();
        texts
            .filter_map(|item| Some((item.text()?, item.line)))
            .collect()
    }

    /// Whether it is a scalar that means yes.
    pub fn is_true(&self) -> bool {
        matches!(self.text(), Some("true" | "True" | "yes" | "on"))
    }

    /// Whether it is a scalar that means no.
    pub fn is_false(&self) -> bool {
        matches!(self.text(), Some("false" | "False" | "no" | "off"))
    }
}

/// What is begun and not ended.
struct Open {
    node: Node,
    anchor: usize,
    key: Option<Key>,
    keys: BTreeSet<String>,
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: BTreeMap<usize, Node>,
    nodes: usize,
    root: Option<Node>,
}

/// The first document of a file.
///
/// # Errors
/// What is no YAML, what is nested too deep, what stands for too much, and a key that stands twice in a mapping.
pub fn parse(text: &str) -> Result<Document, Fault> {
    let mut builder = Builder::default();
    let mut more = None;
    let mut is_over = false;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| Fault {
            line: error.marker().line(),
            text: format!("is no YAML: {}", error.info()),
        })?;
        let line = span.start.line();
        if is_over {
            more = matches!(event, Event::DocumentStart(_)).then_some(line);
            break;
        }
        is_over = matches!(event, Event::DocumentEnd);
        builder
            .take(event, line)
            .map_err(|text| Fault { line, text })?;
    }
    let root = builder.root.unwrap_or(Node::new(1, Kind::Null));
    Ok(Document { root, more })
}

impl Builder {
    fn take(&mut self, event: Event<'_>, line: usize) -> Result<(), String> {
        let node = |kind| Node {
            line,
            kind,
            size: 1,
        };
        match event {
            Event::Scalar(text, style, anchor, _) => {
                let is_null = matches!(style, ScalarStyle::Plain)
                    && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                let kind = match is_null {
                    true => Kind::Null,
                    false => Kind::Text(text.into_owned()),
                };
                self.put(node(kind), anchor)
            }
            Event::SequenceStart(anchor, _) => self.begin(node(Kind::List(Vec::new())), anchor),
            Event::MappingStart(anchor, _) => self.begin(node(Kind::Map(Vec::new())), anchor),
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(open) => self.put(merged(open.node), open.anchor),
                None => Ok(()),
            },
            Event::Alias(anchor) => {
                let known = self.anchors.get(&anchor);
                let found = known.ok_or("refers to an anchor that is not complete")?;
                if self.nodes + found.size > MOST_NODES {
                    return Err(too_much());
                }
                let found = found.clone();
                self.put(found, 0)
            }
            _ => Ok(()),
        }
    }

    fn begin(&mut self, node: Node, anchor: usize) -> Result<(), String> {
        if self.open.len() >= DEEPEST {
            return Err(format!("is nested more than {DEEPEST} deep"));
        }
        self.open.push(Open {
            node,
            anchor,
            key: None,
            keys: BTreeSet::new(),
        });
        Ok(())
    }

    fn put(&mut self, node: Node, anchor: usize) -> Result<(), String> {
        self.nodes += node.size;
        if self.nodes > MOST_NODES * 2 {
            return Err(too_much());
        }
        if anchor > 0 {
            self.nodes += node.size;
            self.anchors.insert(anchor, node.clone());
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        open.node.size += node.size;
        match &mut open.node.kind {
            Kind::List(items) => items.push(node),
            Kind::Map(entries) => match open.key.take() {
                Some(key) => entries.push((key, node)),
                None => {
                    let text = node.text().unwrap_or_default().to_owned();
                    // Merge keys may stand twice, and what is no text has no name.
                    let is_name = !text.is_empty() && text != "<<";
                    if is_name && !open.keys.insert(text.clone()) {
                        return Err(format!("has `{text}` twice in one mapping"));
                    }
                    open.key = Some(Key {
                        text,
                        line: node.line,
                    });
                }
            },
            _ => {}
        }
        Ok(())
    }
}

fn too_much() -> String {
    format!("stands for more than {MOST_NODES} values once its anchors are followed")
}

/// `<<: *base` brings the entries of another mapping that are not there.
fn merged(mut node: Node) -> Node {
    let Kind::Map(entries) = &mut node.kind else {
        return node;
    };
    let (merges, mut own): (Vec<_>, Vec<_>) = std::mem::take(entries)
        .into_iter()
        .partition(|(key, _)| key.text == "<<");
    for (_, from) in merges {
        let sources = match from.kind {
            Kind::List(items) => items,
            _ => vec![from],
        };
        for (key, value) in sources.iter().flat_map(Node::entries) {
            if !own.iter().any(|(known, _)| known.text == key.text) {
                own.push((key.clone(), value.clone()));
            }
        }
    }
    node.kind = Kind::Map(own);
    node
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_know_their_lines() {
        let node = parse("a:\n  - x\n  - {b: 1}\nc: |\n  d\n").unwrap().root;
        let a = node.get("a").unwrap();
        assert_eq!(a.items()[0].line, 2);
        assert_eq!(a.items()[1].text_of("b"), Some("1"));
        assert_eq!(node.text_of("c"), Some("d\n"));
        assert_eq!(node.entries()[1].0.line, 4);
    }

    #[test]
    fn merge_keys_bring_what_is_not_there() {
        let node = parse("x: &x {a: 1, b: 2}\ny:\n  <<: *x\n  b: 3\n")
            .unwrap()
            .root;
        let y = node.get("y").unwrap();
        assert_eq!((y.text_of("a"), y.text_of("b")), (Some("1"), Some("3")));
    }

    #[test]
    fn what_stands_twice_is_named() {
        let fault = parse("a: {b: 1}\nc: 2\na: 3\n").unwrap_err();
        assert_eq!(fault.line, 3);
        assert!(fault.text.contains("`a` twice"), "{fault:?}");
        assert!(parse("a: {b: 1}\nb: &x {c: 1}\nd:\n  <<: *x\n  c: 2\n").is_ok());
        assert_eq!(parse("a: 1\n---\nb: 2\n").unwrap().more, Some(2));
        assert_eq!(parse("---\na: 1\n...\n").unwrap().more, None);
    }

    #[test]
    fn a_bomb_does_not_go_off() {
        let mut text = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for at in 1..12 {
            let before = format!("*a{}", at - 1);
            let all = vec![before; 10].join(",");
            text += &format!("a{at}: &a{at} [{all}]\n");
        }
        let fault = parse(&text).unwrap_err();
        assert!(fault.text.contains("stands for more than"), "{fault:?}");
        let own = parse("a: &a [*a]\n").unwrap_err();
        assert!(own.text.contains("anchor"), "{own:?}");
    }

    #[test]
    fn what_is_deep_is_refused() {
        // The parser has a limit of its own for what stands in brackets.
        assert!(parse(&"[".repeat(100_000)).is_err());
        assert!(parse(&"[".repeat(65)).unwrap_err().text.contains("nested"));
        let block: String = (0..200)
            .map(|at| format!("{}a:\n", " ".repeat(at)))
            .collect();
        assert!(parse(&block).unwrap_err().text.contains("nested"));
    }
}
