//! The keys of a service.

use super::edge::{CACHE, LIMIT};
use super::form::Form;
use super::keys::{ENV, PORT, counter, field, keys, list, text};
use super::shape::{Field, Keys, Shape};

/// What stands under `services.NAME`.
pub static SERVICE: Shape = Shape::Table(&Keys {
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

const HTTP: Field = field(
    "http",
    text(Form::Target),
    "GET of this path gives 2xx or 3xx",
);
const TCP: Field = field("tcp", Shape::Bool, "its port accepts a connection");
const EXEC: Field = field(
    "exec",
    text(Form::Command),
    "this shell command ends with 0",
);
pub(super) const EVERY: Field = field("every", text(Form::Duration), "time between two asks");
pub(super) const TIMEOUT: Field = field(
    "timeout",
    text(Form::Duration),
    "time that one ask may take",
);

const READY: Shape = Shape::Short {
    key: "http",
    of: &Shape::Text(Form::Target),
    table: &Shape::Table(&Keys {
        fields: &[
            HTTP,
            TCP,
            EXEC,
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
            EVERY,
            TIMEOUT,
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
            HTTP,
            TCP,
            EXEC,
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
            EVERY,
            TIMEOUT,
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
