//! Every route there is, and whom it is for.

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Who answers.
    Hello,
    /// What the environment is.
    Status,
    /// How it is, part by part.
    Health,
    /// What is counted.
    Metrics,
    /// Begin a run.
    Begin,
    /// Follow a run.
    Rows,
    /// Have the run under way go back.
    Cancel,
    /// Remove what no release needs any more.
    Collect,
    /// How the schemas stand.
    Schemas,
    /// List releases.
    Releases,
    /// One release, with its signed record.
    Release,
    /// Take a release of another environment in.
    Accept,
    /// Whether a blob is here, or how much of it.
    LookForBlob,
    /// Give a blob.
    SendBlob,
    /// Take a blob.
    ReceiveBlob,
    /// Logs of services.
    Logs,
    /// End the agent.
    Exit,
    /// Become another build.
    Upgrade,
    /// Who reads this environment's secrets here, and which it has.
    Secrets,
    /// Take the environment's secrets, encrypted.
    TakeSecrets,
    /// Who was given which.
    Audit,
    /// Which instance that runs has which.
    Holders,
    /// Who connects to a database.
    Login,
    /// Rotate that.
    MoveLogin,
    /// What is applied and live.
    Drift,
    /// Put maintenance in force, or end it.
    Maintenance,
}

/// Method, path and action; `*` stands for one part of a path.
pub const ROUTES: &[(&str, &str, Action)] = &[
    ("GET", "/v1/hello", Action::Hello),
    ("GET", "/v1/status", Action::Status),
    ("GET", "/v1/health", Action::Health),
    ("GET", "/v1/metrics", Action::Metrics),
    ("POST", "/v1/runs", Action::Begin),
    ("GET", "/v1/runs/*/rows", Action::Rows),
    ("POST", "/v1/cancel", Action::Cancel),
    ("POST", "/v1/gc", Action::Collect),
    ("POST", "/v1/schemas", Action::Schemas),
    ("GET", "/v1/releases", Action::Releases),
    ("GET", "/v1/releases/*", Action::Release),
    ("POST", "/v1/releases", Action::Accept),
    ("HEAD", "/v1/blobs/*", Action::LookForBlob),
    ("GET", "/v1/blobs/*", Action::SendBlob),
    ("PUT", "/v1/blobs/*", Action::ReceiveBlob),
    ("GET", "/v1/logs", Action::Logs),
    ("POST", "/v1/exit", Action::Exit),
    ("POST", "/v1/upgrade", Action::Upgrade),
    ("GET", "/v1/secrets", Action::Secrets),
    ("POST", "/v1/secrets", Action::TakeSecrets),
    ("GET", "/v1/secrets/audit", Action::Audit),
    ("GET", "/v1/secrets/holders", Action::Holders),
    ("GET", "/v1/logins/*", Action::Login),
    ("POST", "/v1/logins/*", Action::MoveLogin),
    ("GET", "/v1/drift", Action::Drift),
    ("POST", "/v1/maintenance", Action::Maintenance),
];

/// The action of a request, and the part of its path that `*` stands for.
pub(super) fn find<'a>(method: &str, path: &'a str) -> Option<(Action, &'a str)> {
    let fits = |pattern: &str| {
        let mut variable = "";
        let (mut left, mut right) = (pattern.split('/'), path.split('/'));
        loop {
            match (left.next(), right.next()) {
                (None, None) => return Some(variable),
                (Some("*"), Some(part)) if !part.is_empty() => variable = part,
                (Some(left), Some(right)) if left == right => {}
                _ => return None,
            }
        }
    };
    ROUTES
        .iter()
        .filter(|route| route.0 == method)
        .find_map(|route| Some((route.2, fits(route.1)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_found_by_its_own_path_and_no_other() {
        for (method, pattern, action) in ROUTES {
            let path = pattern.replace('*', "x7");
            let part = if path == *pattern { "" } else { "x7" };
            assert_eq!(find(method, &path), Some((*action, part)), "{path}");
            assert_eq!(find("TRACE", &path), None);
            assert_eq!(find(method, &format!("{path}/")), None);
            assert_eq!(find(method, &format!("/{path}")), None);
        }
    }
}
