//! Services that need each other in a circle: none could start first.

use super::draft::{Draft, Service};
use super::finding::Findings;

/// The services that a value refers to.
pub fn referred(value: &str) -> Vec<&str> {
    let after = value.split("${").skip(1);
    after
        .filter_map(|inside| inside.split('}').next()?.split_once('.'))
        .map(|(name, _)| name)
        .collect()
}

/// Whether one service reaches another by what it needs.
fn reaches(services: &[Service], from: &str, to: &str, seen: &mut Vec<String>) -> bool {
    if from == to {
        return true;
    }
    if seen.iter().any(|known| known == from) {
        return false;
    }
    seen.push(from.to_owned());
    let Some(service) = services.iter().find(|one| one.name == from) else {
        return false;
    };
    let referred: Vec<&str> = service
        .env
        .iter()
        .flat_map(|(_, value)| referred(value))
        .collect();
    let next = service.needs.iter().map(String::as_str).chain(referred);
    next.into_iter()
        .any(|next| reaches(services, next, to, seen))
}

/// What would close a circle is taken out: an address before a need, for a need says what starts first.
pub fn cycles(draft: &mut Draft, findings: &mut Findings) {
    let is_circle = |services: &[Service], at: usize, next: &str| {
        reaches(services, next, &services[at].name, &mut Vec::new())
    };
    for at in 0..draft.services.len() {
        let mut env = draft.services[at].env.clone();
        env.retain(|(name, value)| {
            let closes = referred(value).into_iter().any(|next| is_circle(&draft.services, at, next));
            if closes {
                let service = &draft.services[at];
                let others: Vec<_> = referred(value).into_iter().map(|name| format!("`{name}`")).collect();
                findings.decide(
                    &service.place,
                    format!("`{name}` of `{}` leads back to {}, which needs `{}`: neither could start first", service.name, others.join(", "), service.name),
                    format!("services.{}.env.{name} = \"https://...\", the address that people know", service.name),
                );
            }
            !closes
        });
        draft.services[at].env = env;
    }
    for at in 0..draft.services.len() {
        let mut needs = draft.services[at].needs.clone();
        needs.retain(|next| {
            let closes = is_circle(&draft.services, at, next);
            if closes {
                let service = &draft.services[at];
                findings.leave(
                    &service.place,
                    format!(
                        "that `{}` needs `{next}`: `{next}` needs it too",
                        service.name
                    ),
                );
            }
            !closes
        });
        draft.services[at].needs = needs;
    }
}
