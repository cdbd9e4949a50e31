//! What `needs` and `${...}` may refer to in one environment.

use std::collections::BTreeMap;

use super::sheet::{Reader, Sheet};
use super::template::{Piece, pieces};
use super::{Part, Template, Variable};
use crate::diagnostic::{Diagnostic, Span, closest};
use crate::manifest::value::Kind;

/// What instances and logs of our own are called.
const RESERVED: [(&str, &str); 2] = [
    ("gateway", "the gateway of every environment"),
    ("build", "builds, and their logs"),
];

/// Something with a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Named {
    /// A service that has a port.
    Web,
    /// A service that has none, or that only runs now and then.
    Worker,
    /// A resource of this kind.
    Resource(String),
}

impl Named {
    /// What `${name.attribute}` may ask of it.
    fn attributes(&self) -> &'static [&'static str] {
        match self {
            Named::Web => &["url", "host", "port"],
            Named::Worker => &[],
            Named::Resource(kind) if kind == "sqlite" => &["url", "path", "dir"],
            Named::Resource(kind) if kind == "storage" => &["path"],
            Named::Resource(kind) if kind == "postgres" => {
                &["url", "host", "port", "name", "user", "password"]
            }
            Named::Resource(_) => &["url", "host", "port"],
        }
    }

    /// The variable that needing it brings, with its attribute `url`.
    pub fn variable(&self, name: &str) -> Option<String> {
        match self {
            Named::Web => Some(format!("{}_URL", name.to_uppercase().replace('-', "_"))),
            Named::Worker => None,
            Named::Resource(kind) => match kind.as_str() {
                "sqlite" | "postgres" => Some("DATABASE_URL".to_owned()),
                "redis" => Some("REDIS_URL".to_owned()),
                _ => None,
            },
        }
    }
}

/// Every name of one environment.
pub(super) struct Names<'a> {
    sheet: &'a Sheet<'a>,
    /// Services and resources.
    pub named: BTreeMap<String, Named>,
    /// The variables, whether they have a value here or not.
    pub variables: &'a BTreeMap<String, Variable>,
}

impl<'a> Names<'a> {
    pub fn read(root: &Reader<'a>, variables: &'a BTreeMap<String, Variable>) -> Self {
        let mut names = Self {
            sheet: root.sheet,
            named: BTreeMap::new(),
            variables,
        };
        let mut places: BTreeMap<&str, Span> = BTreeMap::new();
        for (name, service) in root.at("services").entries() {
            let role = service.at("role").quiet_text();
            let named = match role {
                Some("worker" | "job") => Named::Worker,
                _ => Named::Web,
            };
            names.not_reserved(name, &service);
            places.insert(name, service.key.clone());
            names.named.insert(name.to_owned(), named);
        }
        for (name, resource) in root.at("resources").entries() {
            names.not_reserved(name, &resource);
            names.not_of_a_run(name, &resource);
            let kind = resource.at("kind").quiet_text();
            if let Some(service) = places.get(name) {
                names.taken(name, &resource, service.clone());
                continue;
            }
            let kind = kind.unwrap_or_default().to_owned();
            names.named.insert(name.to_owned(), Named::Resource(kind));
        }
        names
    }

    fn not_reserved(&self, name: &str, named: &Reader<'_>) {
        let Some((_, whose)) = RESERVED.iter().find(|(reserved, _)| *reserved == name) else {
            return;
        };
        let message = format!("`{}` has a name that Towpath uses itself", named.path);
        self.sheet.report(
            Diagnostic::error("config::reserved-name", message)
                .label(named.key.clone(), "reserved")
                .note(format!(
                    "`{name}` means {whose}: in `tow logs {name}`, in folders and in instances"
                ))
                .help("give it another name"),
        );
    }

    /// A resource that runs is an instance with its own name, and is told from those of services by that.
    fn not_of_a_run(&self, name: &str, resource: &Reader<'_>) {
        let is_run = |part: &str| {
            let number = part.strip_prefix('d').unwrap_or_default();
            !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
        };
        if let Some(run) = name.split('-').find(|part| is_run(part)) {
            let message = format!("`{}` is named like an instance", resource.path);
            self.sheet.report(
                Diagnostic::error("config::reserved-name", message)
                    .label(
                        resource.key.clone(),
                        format!("`{run}` is the name of a run"),
                    )
                    .help("give it another name"),
            );
        }
    }

    fn taken(&self, name: &str, resource: &Reader<'_>, service: Span) {
        let message = format!("`{name}` is a service and a resource");
        self.sheet.report(
            Diagnostic::error("config::duplicate-name", message)
                .label(resource.key.clone(), "the resource")
                .label(service, "the service")
                .help("give one of them another name: both are reached as `${name...}`"),
        );
    }

    /// Reports a name that nothing has.
    pub fn unknown(&self, place: &str, name: &str, span: Span) {
        let known: Vec<_> = self.named.keys().map(String::as_str).collect();
        let message = format!("`{place}` refers to `{name}`, which is no service and no resource");
        let diagnostic = Diagnostic::error("config::unknown-name", message)
            .label(span, "not known here")
            .note(known_names(&known))
            .maybe_help(closest(name, known).map(|name| format!("did you mean `{name}`?")));
        self.sheet.report(diagnostic);
    }

    /// A template with its variables put in and its other references checked.
    pub fn template(&self, reader: &Reader<'_>) -> Option<Template> {
        let text = reader.quiet_text()?;
        let pieces = match pieces(text) {
            Ok(pieces) => pieces,
            Err(fault) => {
                self.malformed(reader, &fault);
                return None;
            }
        };
        let mut parts = Vec::new();
        for piece in pieces {
            match piece {
                Piece::Text(text) => push_text(&mut parts, &text),
                Piece::Variable(name) => push_text(&mut parts, self.variable(reader, &name)),
                Piece::Attribute { name, attribute } => {
                    self.check_attribute(reader, &name, &attribute);
                    parts.push(Part::Attribute { name, attribute });
                }
            }
        }
        let template = Template { parts };
        reader.note(format!("{:?}", template.to_string()));
        Some(template)
    }

    /// Reports a name of `variables` that is none.
    pub fn undeclared(&self, item: &Reader<'_>, name: &str) {
        let known: Vec<_> = self.variables.keys().map(String::as_str).collect();
        let message = format!("`{}` names `{name}`, which is no variable", item.path);
        let note = match known.is_empty() {
            true => "there are no variables".to_owned(),
            false => format!("there are {}", list(&known)),
        };
        let help = match closest(name, known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("declare it under `[variables]`: `{name} = \"...\"`"),
        };
        let diagnostic = Diagnostic::error("config::unknown-variable", message)
            .label(item.span(), "not declared")
            .note(note)
            .help(help);
        self.sheet.report(diagnostic);
    }

    fn variable(&self, reader: &Reader<'_>, name: &str) -> &str {
        let declared = self.variables.get(name);
        if let Some(value) = declared.and_then(|variable| variable.value.as_deref()) {
            return value;
        }
        // One that is required, or wrong, was reported where it stands.
        if declared.is_some_and(|variable| variable.required) || self.is_wrong(name) {
            return "";
        }
        let known = self.variables.keys().map(String::as_str);
        let message = format!(
            "`{}` refers to the variable `{name}`, which is not set",
            reader.path
        );
        let help = match closest(name, known) {
            _ if declared.is_some() => {
                "give it a default, or a value under `[environments.NAME.variables]`".to_owned()
            }
            Some(near) => format!("did you mean `{near}`?"),
            None if self.named.contains_key(name) => format!("did you mean `${{{name}.url}}`?"),
            None => {
                format!("set it under `[variables]`, or write `$${{{name}}}` for the text itself")
            }
        };
        let diagnostic = Diagnostic::error("config::unknown-variable", message)
            .label(reader.span(), format!("`${{{name}}}` is not set"))
            .help(help);
        self.sheet.report(diagnostic);
        ""
    }

    /// Whether a variable has a value that was refused.
    fn is_wrong(&self, name: &str) -> bool {
        let root = self.sheet.manifest;
        let here = root.environment(self.sheet.environment);
        let path = format!("variables.{name}.default");
        [Some(root.root()), here]
            .into_iter()
            .flatten()
            .any(|table| {
                let value = table.find(&path);
                value.is_some_and(|value| value.kind != Kind::Unset)
            })
    }

    fn check_attribute(&self, reader: &Reader<'_>, name: &str, attribute: &str) {
        let Some(named) = self.named.get(name) else {
            return self.unknown(&reader.path, name, reader.span());
        };
        let attributes = named.attributes();
        if attributes.contains(&attribute) {
            return;
        }
        let message = format!("`{name}` has no attribute `{attribute}`");
        let note = match attributes.is_empty() {
            true => format!("`{name}` is a worker: it has no port, and nothing to refer to"),
            false => format!("it has {}", list(attributes)),
        };
        let near = closest(attribute, attributes.iter().copied());
        let diagnostic = Diagnostic::error("config::unknown-attribute", message)
            .label(reader.span(), format!("`${{{name}.{attribute}}}`"))
            .note(note)
            .maybe_help(near.map(|near| format!("did you mean `${{{name}.{near}}}`?")));
        self.sheet.report(diagnostic);
    }

    fn malformed(&self, reader: &Reader<'_>, fault: &str) {
        let message = format!("`{}` holds a reference that is not understood", reader.path);
        let diagnostic = Diagnostic::error("config::bad-reference", message)
            .label(reader.span(), fault.to_owned())
            .note("references are `${name.attribute}` and `${VARIABLE}`; `$${` is a plain `${`");
        self.sheet.report(diagnostic);
    }
}

fn push_text(parts: &mut Vec<Part>, text: &str) {
    match parts.last_mut() {
        _ if text.is_empty() => {}
        Some(Part::Text(last)) => last.push_str(text),
        _ => parts.push(Part::Text(text.to_owned())),
    }
}

fn known_names(known: &[&str]) -> String {
    match known.is_empty() {
        true => "there are no services and no resources".to_owned(),
        false => format!("there are {}", list(known)),
    }
}

fn list(names: &[&str]) -> String {
    let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}
