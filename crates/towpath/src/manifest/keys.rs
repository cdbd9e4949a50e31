//! Every key of `tow.toml`; those of a service, of a load and of the gateway have files of their own.

use super::edge::EDGE;
use super::form::Form;
use super::load::{REHEARSE, TRAFFIC};
use super::service::{EVERY, SERVICE, TIMEOUT};
use super::shape::{Field, Keys, Shape};

pub(super) const fn field(name: &'static str, shape: Shape, about: &'static str) -> Field {
    Field::new(name, shape, about)
}

pub(super) const fn text(form: Form) -> Shape {
    Shape::Text(form)
}

pub(super) const fn list(of: &'static Shape) -> Shape {
    Shape::List {
        of,
        single: false,
        distinct: true,
    }
}

pub(super) const fn counter() -> Shape {
    Shape::Integer { min: 1, max: 1000 }
}

pub(super) const fn keys(fields: &'static [Field]) -> Keys {
    Keys {
        fields,
        one_of: &[],
    }
}

/// The whole file.
pub static ROOT: Shape = Shape::Table(&keys(&[
    field("app", text(Form::Name), "name of the application").required(),
    field(
        "promote",
        list(&Shape::Text(Form::Name)),
        "the way a release goes, first environment first",
    ),
    field(
        "window",
        text(Form::Duration),
        "how long the old version stays warm after a switch",
    ),
    field(
        "keep",
        Shape::Integer { min: 1, max: 1000 },
        "releases whose builds, artifacts and backups are kept",
    ),
    field("services", SERVICES, "what runs"),
    field(
        "resources",
        RESOURCES,
        "what the services need and do not run themselves",
    ),
    field(
        "variables",
        VARIABLES,
        "typed values, given to services and referenced as `${NAME}` in `env`",
    ),
    field("edge", EDGE, "what the gateway does by itself"),
    field(
        "secrets",
        SECRETS,
        "how values that are never shown are made and rotated",
    ),
    field("checks", Shape::Open, "checks after a deployment").later(),
    field("traffic", TRAFFIC, "the load of a rehearsal"),
    field("rehearse", REHEARSE, "what a rehearsal deploys"),
    field(
        "health",
        HEALTH,
        "paths where the gateway says how the environment is",
    ),
    field(
        "environments",
        Shape::Map {
            names: Form::Name,
            of: &ENVIRONMENT,
        },
        "what differs from place to place",
    ),
]));

/// What stands under `[environments.NAME]`.
pub static ENVIRONMENT: Shape = Shape::Table(&keys(&[
    field("listen", text(Form::Listen), "address of the gateway"),
    field(
        "domain",
        text(Form::Host),
        "host name that the routes answer to",
    ),
    field(
        "listen_tls",
        text(Form::Listen),
        "address of the gateway for https",
    ),
    field(
        "tls",
        Shape::Choice {
            now: &["acme", "files", "off"],
            later: &[],
        },
        "where the certificates come from",
    ),
    field("acme", ACME, "who issues the certificates"),
    field(
        "trust",
        list(&Shape::Text(Form::Network)),
        "networks of proxies that are believed",
    ),
    field(
        "server",
        text(Form::Server),
        "machine that it runs on, for ssh",
    ),
    field(
        "window",
        text(Form::Duration),
        "how long the old version stays warm after a switch",
    ),
    field(
        "keep",
        Shape::Integer { min: 1, max: 1000 },
        "releases whose builds, artifacts and backups are kept",
    ),
    field("services", SERVICES, "what differs in the services"),
    field("resources", RESOURCES, "what differs in the resources"),
    field("variables", VARIABLES, "what differs in the variables"),
    field("edge", EDGE, "what differs in what the gateway does"),
    field("secrets", SECRETS, "what differs in the secrets"),
    field("checks", Shape::Open, "what differs in the checks").later(),
    field("traffic", TRAFFIC, "what differs in the load"),
    field("rehearse", REHEARSE, "what differs in the rehearsal"),
    field(
        "health",
        HEALTH,
        "paths where the gateway says how the environment is",
    ),
    field(
        "metrics",
        text(Form::Listen),
        "address where the agent gives the metrics",
    ),
]));

const HEALTH: Shape = Shape::Table(&keys(&[
    field(
        "live",
        text(Form::Route),
        "answered with 200 as long as the gateway lives",
    ),
    field(
        "ready",
        text(Form::Route),
        "answered with how everything is, and 503 where something critical fails",
    ),
    field(
        "errors",
        Shape::Bool,
        "whether that answer holds the errors",
    ),
]));

const ACME: Shape = Shape::Table(&keys(&[
    field(
        "directory",
        text(Form::Secure),
        "URL of the issuer's directory",
    ),
    field(
        "ca",
        text(Form::Absolute),
        "who signs for that URL, a PEM file on the machine",
    ),
    field(
        "contact",
        text(Form::Filled),
        "mail address for the issuer's warnings",
    ),
]));

const SERVICES: Shape = Shape::Map {
    names: Form::Name,
    of: &SERVICE,
};
const RESOURCES: Shape = Shape::Map {
    names: Form::Name,
    of: &RESOURCE,
};
const VARIABLES: Shape = Shape::Map {
    names: Form::Variable,
    of: &VARIABLE,
};
const SECRETS: Shape = Shape::Map {
    names: Form::Variable,
    of: &SECRET,
};
pub(super) const ENV: Shape = Shape::Map {
    names: Form::Variable,
    of: &Shape::Text(Form::Template),
};

pub(super) const PORT: Shape = Shape::Integer {
    min: 1,
    max: 65_535,
};

const LENGTH: Shape = Shape::Integer {
    min: 0,
    max: 1_000_000,
};

static VARIABLE: Shape = Shape::Short {
    key: "default",
    of: &Shape::Plain,
    table: &Shape::Table(&keys(&[
        field(
            "type",
            Shape::Choice {
                now: &[
                    "string", "integer", "number", "boolean", "duration", "size", "url", "enum",
                    "list",
                ],
                later: &[],
            },
            "what its value is",
        ),
        field("default", Shape::Plain, "its value"),
        field(
            "required",
            Shape::Bool,
            "whether every environment must have a value",
        ),
        field("description", text(Form::Filled), "what it is for"),
        field("min", Shape::Plain, "the least that its value may be"),
        field("max", Shape::Plain, "the most that its value may be"),
        field("min_length", LENGTH, "least characters, or items of a list"),
        field("max_length", LENGTH, "most characters, or items of a list"),
        field(
            "pattern",
            text(Form::Pattern),
            "regular expression that all of a string matches",
        ),
        field(
            "values",
            list(&Shape::Text(Form::Plain)),
            "what an enum may be",
        ),
    ])),
};

static SECRET: Shape = Shape::Table(&keys(&[
    field("description", text(Form::Filled), "what it is for"),
    field(
        "kind",
        Shape::Choice {
            now: &["plain", "jwt", "database"],
            later: &[],
        },
        "what it is: `jwt` is a key that tokens are signed with",
    ),
    field("resource", text(Form::Name), "whose password it is"),
    field(
        "rotate",
        text(Form::Duration),
        "age at which no promotion goes with it any more",
    ),
    field(
        "overlap",
        text(Form::Duration),
        "how long the old value stays good beside a new one",
    ),
    field(
        "interrupting",
        Shape::Bool,
        "whether services know one value only, so that a new one interrupts",
    ),
    field(
        "generate",
        Shape::Table(&Keys {
            fields: &[
                field(
                    "bytes",
                    Shape::Integer { min: 16, max: 1024 },
                    "random bytes, written in hexadecimal",
                ),
                field(
                    "length",
                    Shape::Integer { min: 16, max: 1024 },
                    "random letters and digits",
                ),
            ],
            one_of: &["bytes", "length"],
        }),
        "what a new value is made of",
    ),
]));

static RESOURCE: Shape = Shape::Table(&keys(&[
    field(
        "kind",
        Shape::Choice {
            now: &["sqlite", "postgres", "redis", "storage"],
            later: &["auth", "search"],
        },
        "what it is",
    )
    .required(),
    field(
        "migrate",
        MIGRATE,
        "folder of migrations, or how they are run",
    ),
    field(
        "version",
        Shape::Integer { min: 10, max: 99 },
        "major version of a PostgreSQL of ours",
    ),
    field("url", text(Form::Filled), "where it is, if it is not ours"),
    field(
        "direct_url",
        text(Form::Filled),
        "where it is, round a pooler",
    ),
    field(
        "file",
        text(Form::File),
        "name of a SQLite file, in a folder of its own",
    ),
    field(
        "backup",
        Shape::Choice {
            now: &["provider"],
            later: &[],
        },
        "who backs it up, if not Towpath",
    ),
    field(
        "alive",
        Shape::FalseOr(&STEADY),
        "how it is asked whether it answers",
    ),
]));

static STEADY: Shape = Shape::Table(&keys(&[
    field(
        "passes",
        counter(),
        "answers in a row that make it healthy again",
    ),
    field(
        "failures",
        counter(),
        "failures in a row that make it unhealthy",
    ),
    EVERY,
    TIMEOUT,
]));

const MIGRATE: Shape = Shape::Short {
    key: "folder",
    of: &Shape::Text(Form::Path),
    table: &Shape::Table(&Keys {
        fields: &[
            field("run", text(Form::Command), "command of a foreign migrator"),
            field(
                "on_start",
                Shape::Bool,
                "the application migrates itself at start",
            ),
            field(
                "service",
                text(Form::Name),
                "whose folder and environment the command gets",
            ),
            field(
                "rewrite",
                Shape::Bool,
                "the version before cannot work with what it leaves",
            ),
            field(
                "rehearse",
                Shape::Bool,
                "whether it is tried on a copy first",
            ),
        ],
        one_of: &["folder", "run", "on_start"],
    }),
};
