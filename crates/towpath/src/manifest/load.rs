//! The keys of a load, and of the rehearsal that is made under it.

use super::form::Form;
use super::keys::{field, keys, text};
use super::shape::{Keys, Shape};

const STATUSES: Shape = Shape::List {
    of: &Shape::Integer { min: 100, max: 599 },
    single: true,
    distinct: true,
};
const WEIGHT: Shape = Shape::Integer {
    min: 1,
    max: 1_000_000,
};

/// `traffic`.
pub const TRAFFIC: Shape = Shape::Table(&TRAFFIC_KEYS);

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

/// `rehearse`.
pub const REHEARSE: Shape = Shape::Table(&keys(&[
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
