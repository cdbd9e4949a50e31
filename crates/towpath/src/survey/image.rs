//! What a container image is, as far as its name tells.

use super::finding::{Findings, Place};
use super::sketch::Kind;

/// What an image is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Image {
    /// A database or a cache that can be a resource, with its major version.
    Store(Kind, Option<u32>),
    /// Something that keeps data, and that no resource stands for.
    Elsewhere(&'static str),
    /// What the gateway does.
    Proxy,
    /// Something to look with.
    Tool(&'static str),
    /// Anything else.
    Other,
}

/// Images that keep data or stand for something elsewhere, and what they are.
const ELSEWHERE: [(&str, &str); 40] = [
    ("mysql", "a MySQL"),
    ("mysql-server", "a MySQL"),
    ("mariadb", "a MariaDB"),
    ("percona", "a MySQL"),
    ("mongo", "a MongoDB"),
    ("mongodb", "a MongoDB"),
    ("rabbitmq", "a RabbitMQ"),
    ("kafka", "a Kafka"),
    ("cp-kafka", "a Kafka"),
    ("redpanda", "a Kafka"),
    ("zookeeper", "a ZooKeeper"),
    ("cp-zookeeper", "a ZooKeeper"),
    ("elasticsearch", "an Elasticsearch"),
    ("opensearch", "an OpenSearch"),
    ("minio", "an S3 store"),
    ("localstack", "a stand-in for AWS"),
    ("memcached", "a memcached"),
    ("nats", "a NATS"),
    ("cassandra", "a Cassandra"),
    ("scylla", "a Cassandra"),
    ("influxdb", "an InfluxDB"),
    ("clickhouse-server", "a ClickHouse"),
    ("clickhouse", "a ClickHouse"),
    ("couchdb", "a CouchDB"),
    ("neo4j", "a Neo4j"),
    ("meilisearch", "a search engine"),
    ("typesense", "a search engine"),
    ("solr", "a search engine"),
    ("vault", "a Vault"),
    ("consul", "a Consul"),
    ("etcd", "an etcd"),
    ("qdrant", "a vector database"),
    ("weaviate", "a vector database"),
    ("milvus", "a vector database"),
    ("chroma", "a vector database"),
    ("mailhog", "a mail server for tests"),
    ("mailpit", "a mail server for tests"),
    ("maildev", "a mail server for tests"),
    ("server", "a SQL Server"),
    ("keycloak", "a Keycloak"),
];

const PROXIES: [&str; 8] = [
    "traefik",
    "haproxy",
    "caddy",
    "nginx",
    "nginx-proxy",
    "envoy",
    "nginx-proxy-manager",
    "acme-companion",
];

const TOOLS: [(&str, &str); 18] = [
    ("adminer", "a tool to look into databases"),
    ("pgadmin4", "a tool to look into databases"),
    ("phpmyadmin", "a tool to look into databases"),
    ("mongo-express", "a tool to look into databases"),
    ("redis-commander", "a tool to look into caches"),
    ("redisinsight", "a tool to look into caches"),
    ("watchtower", "what replaces containers; `tow deploy` does"),
    ("autoheal", "what restarts containers; Towpath does"),
    ("portainer", "a tool to look at containers"),
    ("portainer-ce", "a tool to look at containers"),
    ("dozzle", "a tool to look at logs; `tow logs` does"),
    ("certbot", "what gets certificates; the gateway does"),
    ("docker-socket-proxy", "a way to the container engine"),
    ("ofelia", "what runs jobs; `role = \"job\"` does"),
    ("prometheus", "what watches; it stays where it is"),
    ("grafana", "what watches; it stays where it is"),
    ("loki", "what keeps logs; it stays where it is"),
    ("redis-exporter", "what watches; it stays where it is"),
];

/// What an image is, by its name.
pub fn classify(image: &str) -> Image {
    let (name, tag) = parts(image);
    let short = name.rsplit('/').next().unwrap_or_default();
    let is_postgres = matches!(
        short,
        "postgres"
            | "postgresql"
            | "postgis"
            | "pgvector"
            | "timescaledb"
            | "timescaledb-ha"
            | "postgresql-repmgr"
            | "pgvecto-rs"
            | "spilo"
    );
    if is_postgres {
        return Image::Store(Kind::Postgres, major(tag));
    }
    let is_redis = matches!(
        short,
        "redis"
            | "valkey"
            | "keydb"
            | "dragonfly"
            | "redis-stack"
            | "redis-stack-server"
            | "redismod"
    );
    if is_redis {
        return Image::Store(Kind::Redis, None);
    }
    let is_sql_server = short != "server" || name.contains("mssql");
    if let Some((_, what)) = ELSEWHERE
        .iter()
        .find(|(known, _)| *known == short && is_sql_server)
    {
        return Image::Elsewhere(what);
    }
    if PROXIES.contains(&short) {
        return Image::Proxy;
    }
    let tool = TOOLS.iter().find(|(known, _)| *known == short);
    tool.map_or(Image::Other, |(_, what)| Image::Tool(what))
}

/// The name and the tag of an image.
pub fn parts(image: &str) -> (&str, Option<&str>) {
    let image = image.split('@').next().unwrap_or_default();
    let slash = image.rfind('/').map_or(0, |at| at + 1);
    match image[slash..].split_once(':') {
        Some((name, tag)) => (&image[..slash + name.len()], Some(tag)),
        None => (image, None),
    }
}

/// `15-alpine`, `pg16`, `latest-pg15`, `0.8.0-pg17`.
fn major(tag: Option<&str>) -> Option<u32> {
    let tag = tag?;
    let after = tag.find("pg").map(|at| &tag[at + 2..]);
    let digits = |text: &str| {
        let end = text.find(|c: char| !c.is_ascii_digit());
        text[..end.unwrap_or(text.len())].parse().ok()
    };
    let found: Option<u32> = after.and_then(digits).or_else(|| digits(tag));
    found.filter(|version| (10..=99).contains(version))
}

/// Says where an image is whatever its name means on the day.
pub fn judge(findings: &mut Findings, place: &Place, image: &str) {
    let is_pinned = image.contains('@') || image.contains("${") || image.is_empty();
    let tag = parts(image).1;
    if is_pinned || image == "scratch" || tag.is_some_and(|tag| tag != "latest") {
        return;
    }
    findings.fault(
        "latest-tag",
        place,
        format!("`{image}` means another image from one day to the next"),
        "name a version: `image:1.2`",
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_by_their_names() {
        let postgres = |version| Image::Store(Kind::Postgres, version);
        for (image, kind) in [
            ("postgres:15-alpine", postgres(Some(15))),
            ("docker.io/bitnami/postgresql", postgres(None)),
            ("pgvector/pgvector:0.8.0-pg17", postgres(Some(17))),
            ("timescale/timescaledb:latest-pg16", postgres(Some(16))),
            ("valkey/valkey:8", Image::Store(Kind::Redis, None)),
            ("localhost:5000/team/web", Image::Other),
            ("nginx:1", Image::Proxy),
            ("mysql:8", Image::Elsewhere("a MySQL")),
            ("ghcr.io/us/server:1", Image::Other),
        ] {
            assert_eq!(classify(image), kind, "{image}");
        }
    }
}
