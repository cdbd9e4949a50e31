//! The order in which services start: each after those it needs.

use std::collections::{BTreeMap, BTreeSet};

use super::service::Draft;
use crate::diagnostic::Diagnostic;

/// Walks the needs of services, in the order that they were declared in.
struct Walk<'a> {
    drafts: &'a BTreeMap<String, Draft>,
    order: Vec<String>,
    done: BTreeSet<&'a str>,
    trail: Vec<&'a str>,
    cycles: Vec<Diagnostic>,
}

/// The names in the order of their start, or every cycle that stands against one.
pub(super) fn order(
    drafts: &BTreeMap<String, Draft>,
    declared: &[&str],
) -> (Vec<String>, Vec<Diagnostic>) {
    let mut walk = Walk {
        drafts,
        order: Vec::new(),
        done: BTreeSet::new(),
        trail: Vec::new(),
        cycles: Vec::new(),
    };
    for name in declared {
        if let Some((name, _)) = drafts.get_key_value(*name) {
            walk.visit(name);
        }
    }
    (walk.order, walk.cycles)
}

impl<'a> Walk<'a> {
    fn visit(&mut self, name: &'a str) {
        if self.done.contains(name) {
            return;
        }
        if let Some(start) = self.trail.iter().position(|seen| *seen == name) {
            self.cycles.push(self.cycle(start));
            return;
        }
        self.trail.push(name);
        let drafts = self.drafts;
        for need in drafts
            .get(name)
            .into_iter()
            .flat_map(|draft| &draft.service.needs)
        {
            if let Some((need, _)) = drafts.get_key_value(need.as_str()) {
                self.visit(need);
            }
        }
        self.trail.pop();
        self.done.insert(name);
        self.order.push(name.to_owned());
    }

    fn cycle(&self, start: usize) -> Diagnostic {
        let ring = &self.trail[start..];
        let mut names: Vec<&str> = ring.to_vec();
        names.extend(ring.first());
        let message = format!(
            "services need each other in a circle: {}",
            names.join(" -> ")
        );
        let mut diagnostic = Diagnostic::error("config::cycle", message);
        // The place where the circle closes comes first.
        for (name, next) in names.iter().zip(names.iter().skip(1)).rev() {
            let span = self
                .drafts
                .get(*name)
                .and_then(|draft| draft.needs.get(*next));
            if let Some(span) = span {
                diagnostic = diagnostic.label(span.clone(), format!("`{name}` needs `{next}`"));
            }
        }
        diagnostic.help("none of them can start first: take one of these needs out")
    }
}
