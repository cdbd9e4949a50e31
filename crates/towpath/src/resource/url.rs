//! What services are told of where a resource is.

use std::collections::BTreeMap;

use super::kept::{Engine, Kept};

/// The attributes of a resource, by name: `url`, `host`, ... Some of them hold its password.
pub type Attributes = BTreeMap<&'static str, String>;

/// Of one that Towpath runs. Its names and passwords need no quoting.
#[must_use]
pub fn of_kept(kept: &Kept) -> Attributes {
    let (name, password, port) = (&kept.name, kept.password.reveal(), kept.port);
    let mut attributes = Attributes::from([
        ("host", "127.0.0.1".to_owned()),
        ("port", port.to_string()),
        ("password", password.to_owned()),
    ]);
    let url = match kept.engine {
        Engine::Postgres => {
            attributes.insert("name", name.clone());
            let user = kept.user();
            attributes.insert("user", user.to_owned());
            format!("postgres://{user}:{password}@127.0.0.1:{port}/{name}")
        }
        Engine::Redis => format!("redis://default:{password}@127.0.0.1:{port}"),
    };
    attributes.insert("url", url);
    attributes
}

/// Of one that is somewhere else; `None` when the URL is none.
#[must_use]
pub fn of_url(engine: Engine, url: &str) -> Option<Attributes> {
    match engine {
        Engine::Postgres => of_postgres(url),
        Engine::Redis => of_redis(url),
    }
}

fn of_postgres(url: &str) -> Option<Attributes> {
    let config: postgres::Config = super::postgres::read(url).ok()?;
    let host = match config.get_hosts().first()? {
        postgres::config::Host::Tcp(host) => host.clone(),
        postgres::config::Host::Unix(path) => path.display().to_string(),
    };
    let user = config.get_user().unwrap_or_default().to_owned();
    let name = config
        .get_dbname()
        .map_or_else(|| user.clone(), str::to_owned);
    let password = String::from_utf8_lossy(config.get_password().unwrap_or_default());
    Some(Attributes::from([
        ("url", url.to_owned()),
        ("host", host),
        (
            "port",
            config.get_ports().first().unwrap_or(&5432).to_string(),
        ),
        ("name", name),
        ("user", user),
        ("password", password.into_owned()),
    ]))
}

fn of_redis(url: &str) -> Option<Attributes> {
    let (_, rest) = url.split_once("://")?;
    let place = rest.split(['/', '?']).next()?;
    let host = place.rsplit_once('@').map_or(place, |(_, host)| host);
    let (host, port) = match host.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().ok()?),
        _ => (host, 6379u16),
    };
    (!host.is_empty()).then(|| {
        Attributes::from([
            ("url", url.to_owned()),
            ("host", host.trim_matches(['[', ']']).to_owned()),
            ("port", port.to_string()),
        ])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        let of = |engine, url| of_url(engine, url).unwrap();
        let db = of(
            Engine::Postgres,
            "postgres://ana:p%40ss@db.example.com:6000/shop?sslmode=require",
        );
        let part = |name| db[name].as_str();
        assert_eq!(
            [
                part("host"),
                part("port"),
                part("name"),
                part("user"),
                part("password")
            ],
            ["db.example.com", "6000", "shop", "ana", "p@ss"]
        );
        let cache = of(Engine::Redis, "redis://:x@[::1]:7000/2");
        assert_eq!(
            (cache["host"].as_str(), cache["port"].as_str()),
            ("::1", "7000")
        );
        let cache = of(Engine::Redis, "redis://cache");
        assert_eq!(
            (cache["host"].as_str(), cache["port"].as_str()),
            ("cache", "6379")
        );
        assert!(of_url(Engine::Postgres, "postgres://").is_none());
    }
}
