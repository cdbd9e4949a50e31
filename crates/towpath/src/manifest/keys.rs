//! Every key of `tow.toml`.

use super::edge::{CACHE, EDGE, LIMIT};
use super::form::Form;
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

const fn counter() -> Shape {
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
const ENV: Shape = Shape::Map {
    names: Form::Variable,
    of: &Shape::Text(Form::Template),
};

const PORT: Shape = Shape::Integer {
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

static SERVICE: Shape = Shape::Table(&Keys {
    fields: &[
        field(
            "role",
            Shape::Choice {
                now: &["web", "worker", "job"],
                later: &[],
            },
            "`web` serves requests, `worker` none; a `job` runs when it is due",
        ),
        field("dir", text(Form::Path), "folder that its commands run in"),
        field("image", text(Form::Image), "container image that runs it"),
        field("dockerfile", text(Form::Path), "what builds its image"),
        field("port", PORT, "port that its container listens on"),
        field("build", text(Form::Command), "shell command that builds it"),
        field("build_env", ENV, "further environment of the build"),
        field(
            "cache",
            list(&Shape::Text(Form::Path)),
            "folders below `dir` kept between builds",
        ),
        field(
            "artifact",
            list(&Shape::Text(Form::Path)),
            "paths below `dir` that are carried to other environments",
        ),
        field("run", text(Form::Command), "shell command that runs it")
            .required_unless(&["image", "dockerfile"]),
        field(
            "dev",
            text(Form::Command),
            "instead of `run` in the source tree",
        ),
        field(
            "release",
            text(Form::Command),
            "shell command run once before a new version starts",
        ),
        field("schedule", text(Form::Schedule), "when a job is due"),
        field(
            "timeout",
            text(Form::Duration),
            "time that one run of a job may take",
        ),
        field("route", ROUTE, "the path that it serves").alias_of("routes"),
        field(
            "routes",
            Shape::List {
                of: &ROUTE,
                single: false,
                distinct: false,
            },
            "the paths that it serves",
        ),
        field("ready", READY, "when a started instance is ready"),
        field(
            "alive",
            Shape::FalseOr(&ALIVE),
            "whether it still works later on",
        ),
        field(
            "needs",
            list(&Shape::Text(Form::Name)),
            "services and resources that it needs",
        ),
        field(
            "optional",
            list(&Shape::Text(Form::Name)),
            "of its needs, those that it can do without for a while",
        ),
        field(
            "critical",
            Shape::Bool,
            "whether the environment is unhealthy without it",
        ),
        field("env", ENV, "environment variables"),
        field(
            "variables",
            list(&Shape::Text(Form::Variable)),
            "variables that it is given, by their own names",
        ),
        field(
            "secrets",
            list(&Shape::Text(Form::Variable)),
            "secrets that it is given, by their own names",
        ),
        field(
            "replicas",
            Shape::Integer { min: 1, max: 64 },
            "copies that run",
        ),
        field(
            "overlap",
            Shape::Bool,
            "whether old and new copies of a worker may run at once",
        ),
        field("restart", RESTART, "what happens when it ends by itself"),
        field("stop", STOP, "how it is ended"),
        field("log", LOG, "its log"),
    ],
    one_of: &["route", "routes"],
});

const ROUTE: Shape = Shape::Short {
    key: "path",
    of: &Shape::Text(Form::Route),
    table: &Shape::Table(&keys(&[
        field(
            "path",
            text(Form::Route),
            "prefix, matched at segment boundaries",
        )
        .required(),
        field(
            "host",
            text(Form::Host),
            "host name, if not that of the environment",
        ),
        field("strip", Shape::Bool, "whether the prefix is taken off"),
        field("stream", Shape::Bool, "whether its responses are streams"),
        field(
            "idempotency_key",
            Shape::Bool,
            "whether POST and PATCH with an `Idempotency-Key` may be repeated",
        ),
        field(
            "limit",
            Shape::FalseOr(&LIMIT),
            "how many requests a client may make on it",
        ),
        field(
            "cache",
            CACHE,
            "which answers are given again without asking it",
        ),
    ])),
};

const READY: Shape = Shape::Short {
    key: "http",
    of: &Shape::Text(Form::Target),
    table: &Shape::Table(&Keys {
        fields: &[
            field(
                "http",
                text(Form::Target),
                "GET of this path gives 2xx or 3xx",
            ),
            field("tcp", Shape::Bool, "its port accepts a connection"),
            field(
                "exec",
                text(Form::Command),
                "this shell command ends with 0",
            ),
            field(
                "log",
                text(Form::Filled),
                "a line of its output contains this",
            ),
            field(
                "stays",
                text(Form::Duration),
                "it still runs after this long",
            ),
            field("passes", counter(), "passes in a row"),
            field("within", text(Form::Duration), "time from start to ready"),
            field("every", text(Form::Duration), "time between two asks"),
            field(
                "timeout",
                text(Form::Duration),
                "time that one ask may take",
            ),
        ],
        one_of: PROBES,
    }),
};

const PROBES: &[&str] = &["http", "tcp", "exec", "log", "stays"];

static ALIVE: Shape = Shape::Short {
    key: "http",
    of: &Shape::Text(Form::Target),
    table: &Shape::Table(&Keys {
        fields: &[
            field(
                "http",
                text(Form::Target),
                "GET of this path gives 2xx or 3xx",
            ),
            field("tcp", Shape::Bool, "its port accepts a connection"),
            field(
                "exec",
                text(Form::Command),
                "this shell command ends with 0",
            ),
            field(
                "passes",
                counter(),
                "passes in a row that make it healthy again",
            ),
            field(
                "failures",
                counter(),
                "failures in a row that make it unhealthy",
            ),
            field("every", text(Form::Duration), "time between two asks"),
            field(
                "timeout",
                text(Form::Duration),
                "time that one ask may take",
            ),
        ],
        one_of: PROBES,
    }),
};

const POLICIES: Shape = Shape::Choice {
    now: &["never", "on-failure", "always"],
    later: &[],
};

const RESTART: Shape = Shape::Short {
    key: "policy",
    of: &POLICIES,
    table: &Shape::Table(&keys(&[
        field("policy", POLICIES, "which endings start it again"),
        field(
            "backoff",
            text(Form::Duration),
            "first pause, doubled each time",
        ),
        field("backoff_max", text(Form::Duration), "longest pause"),
        field(
            "limit",
            counter(),
            "starts within `within` after which it is given up",
        ),
        field(
            "within",
            text(Form::Duration),
            "the span that `limit` counts in",
        ),
    ])),
};

const STOP: Shape = Shape::Table(&keys(&[
    field(
        "signal",
        Shape::Choice {
            now: &[
                "TERM", "INT", "QUIT", "HUP", "USR1", "USR2", "WINCH", "KILL",
            ],
            later: &[],
        },
        "signal that asks it to end",
    ),
    field(
        "grace",
        text(Form::Duration),
        "time between that signal and SIGKILL",
    ),
]));

const LOG: Shape = Shape::Table(&keys(&[
    field("max", text(Form::Size), "size at which it rotates"),
    field(
        "keep",
        Shape::Integer { min: 0, max: 1000 },
        "rotated logs kept",
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
    field("every", text(Form::Duration), "time between two asks"),
    field(
        "timeout",
        text(Form::Duration),
        "time that one ask may take",
    ),
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

const STATUSES: Shape = Shape::List {
    of: &Shape::Integer { min: 100, max: 599 },
    single: true,
    distinct: true,
};
const WEIGHT: Shape = Shape::Integer {
    min: 1,
    max: 1_000_000,
};

const TRAFFIC: Shape = Shape::Table(&TRAFFIC_KEYS);

static TRAFFIC_KEYS: Keys = keys(&[
    field(
        "rate",
        Shape::Integer {
            min: 1,
            max: 100_000,
        },
        "requests a second, reads and writes together",
    ),
    field(
        "connections",
        Shape::Integer { min: 1, max: 4096 },
        "connections at once",
    ),
    field(
        "fresh",
        Shape::Share,
        "share of requests that open a connection of their own",
    ),
    field(
        "sign_in",
        SIGN_IN,
        "a request whose answer holds a bearer token",
    ),
    field(
        "requests",
        Shape::List {
            of: &REQUEST,
            single: false,
            distinct: false,
        },
        "the reads",
    ),
    field("write", WRITE, "the write that is counted and read back"),
    field(
        "zeros",
        Shape::List {
            of: &ZERO,
            single: false,
            distinct: false,
        },
        "numbers that must be 0 in the end",
    ),
]);

const SIGN_IN: Shape = Shape::Table(&keys(&[
    field("post", text(Form::Target), "POST path").required(),
    field("body", Shape::Json, "JSON body").required(),
    field(
        "token",
        text(Form::Pointer),
        "JSON pointer to the token in the answer",
    )
    .required(),
]));

static REQUEST: Shape = Shape::Short {
    key: "get",
    of: &Shape::Text(Form::Target),
    table: &Shape::Table(&keys(&[
        field("weight", WEIGHT, "relative frequency"),
        field("get", text(Form::Target), "GET path").required(),
        field("expect", STATUSES, "statuses that count as answered"),
    ])),
};

const WRITE: Shape = Shape::Table(&keys(&[
    field("weight", WEIGHT, "relative frequency"),
    field("post", text(Form::Target), "POST path").required(),
    field(
        "body",
        Shape::Json,
        "JSON body; `${id}` and `${n}` are replaced",
    )
    .required(),
    field("expect", STATUSES, "statuses that acknowledge it"),
    field(
        "read",
        text(Form::Target),
        "GET path with `${id}` that finds it again",
    )
    .required(),
    field(
        "count",
        text(Form::Pointer),
        "JSON pointer to the number of times it is there",
    ),
]));

static ZERO: Shape = Shape::Table(&keys(&[
    field("name", text(Form::Filled), "what is counted").required(),
    field("get", text(Form::Target), "GET path").required(),
    field(
        "value",
        text(Form::Pointer),
        "JSON pointer to the number that must be 0",
    )
    .required(),
    field("of", text(Form::Pointer), "JSON pointer to its denominator").required(),
]));

const REHEARSE: Shape = Shape::Table(&keys(&[
    field("first", VERSION, "the first version"),
    field(
        "next",
        VERSION,
        "the next, deployed under load and rolled back",
    )
    .required(),
    field("broken", VERSION, "one that never becomes ready").required(),
    field(
        "requests",
        Shape::Integer {
            min: 0,
            max: 1_000_000_000,
        },
        "requests at least",
    ),
    field(
        "writes",
        Shape::Integer {
            min: 0,
            max: 1_000_000_000,
        },
        "acknowledged writes at least",
    ),
    field(
        "without_postgres",
        Shape::Choice {
            now: &["sqlite"],
            later: &[],
        },
        "what a PostgreSQL is rehearsed as where the machine has none",
    ),
]));

const VERSION: Shape = Shape::Short {
    key: "head",
    of: &Shape::Choice {
        now: &["HEAD"],
        later: &[],
    },
    table: &Shape::Table(&Keys {
        fields: &[
            field("ref", text(Form::Ref), "a git ref"),
            field(
                "overlay",
                text(Form::Path),
                "a folder laid over the committed tree",
            ),
        ],
        one_of: &["head", "ref", "overlay"],
    }),
};
