//! The keys of what the gateway does by itself, and the form of a rate.

use std::time::Duration;

use super::form::{self, Form};
use super::keys::{field, keys, list, text};
use super::shape::{Keys, Shape};

/// `edge`.
pub const EDGE: Shape = Shape::Table(&keys(&[
    field(
        "limit",
        Shape::FalseOr(&LIMIT),
        "how many requests a client may make",
    ),
    field("cors", CORS, "which other origins may read answers"),
    field(
        "headers",
        Shape::FalseOr(&HEADERS),
        "headers of answers that do not have them",
    ),
    field(
        "request_id",
        Shape::Bool,
        "whether each request has an `X-Request-Id`",
    ),
    field(
        "cache",
        text(Form::Size),
        "what the answers that routes keep may take together",
    ),
    field(
        "maintenance",
        MAINTENANCE,
        "what is served all the same during maintenance",
    ),
]));

/// How many requests a client may make.
pub const LIMIT: Shape = Shape::Short {
    key: "window",
    of: &Shape::Text(Form::Rate),
    table: &Shape::Table(&Keys {
        fields: &[
            field(
                "window",
                text(Form::Rate),
                "so many in a window, from the first one",
            ),
            field("rate", text(Form::Rate), "so many, evenly"),
            field(
                "burst",
                Shape::Integer {
                    min: 1,
                    max: 1_000_000,
                },
                "how many of `rate` may come at once",
            ),
        ],
        one_of: &["window", "rate"],
    }),
};

/// Which answers of a route are kept.
pub const CACHE: Shape = Shape::Short {
    key: "ttl",
    of: &Shape::Text(Form::Duration),
    table: &Shape::Table(&keys(&[
        field(
            "ttl",
            text(Form::Duration),
            "how long an answer is given again",
        )
        .required(),
        field("max", text(Form::Size), "longest body that is kept"),
    ])),
};

const CORS: Shape = Shape::Table(&keys(&[
    field(
        "origins",
        list(&Shape::Text(Form::Origin)),
        "origins whose pages may read answers",
    )
    .required(),
    field(
        "credentials",
        Shape::Bool,
        "whether their requests may carry cookies",
    ),
    field(
        "methods",
        list(&Shape::Text(Form::Token)),
        "methods that they may use",
    ),
    field(
        "headers",
        list(&Shape::Text(Form::Token)),
        "headers that their requests may have",
    ),
    field(
        "expose",
        list(&Shape::Text(Form::Token)),
        "headers of the answer that they may read",
    ),
    field(
        "max_age",
        text(Form::Duration),
        "how long a browser remembers what it may ask",
    ),
]));

const HEADERS: Shape = Shape::Table(&keys(&[
    field(
        "hsts",
        Shape::FalseOr(&HEADER),
        "`Strict-Transport-Security`, over https only",
    ),
    field("csp", Shape::FalseOr(&HEADER), "`Content-Security-Policy`"),
    field(
        "nosniff",
        Shape::Bool,
        "whether there is `X-Content-Type-Options: nosniff`",
    ),
    field("frame", Shape::FalseOr(&FRAME), "`X-Frame-Options`"),
    field("referrer", Shape::FalseOr(&HEADER), "`Referrer-Policy`"),
]));

const HEADER: Shape = Shape::Text(Form::Header);

const FRAME: Shape = Shape::Choice {
    now: &["DENY", "SAMEORIGIN"],
    later: &[],
};

const MAINTENANCE: Shape = Shape::Table(&keys(&[
    field(
        "paths",
        list(&Shape::Text(Form::Route)),
        "paths that are served all the same",
    ),
    field(
        "allow",
        list(&Shape::Text(Form::Network)),
        "networks of clients that are served all the same",
    ),
]));

/// Requests in a time, as typed: `1000 in 15m`.
pub fn rate(text: &str) -> Option<(u32, Duration)> {
    let (number, time) = text.split_once(" in ")?;
    let digits = number.chars().all(|letter| letter.is_ascii_digit());
    let number: u32 = number.parse().ok().filter(|number| digits && *number > 0)?;
    let time = form::duration(time).filter(|time| !time.is_zero())?;
    Some((number, time))
}

/// The name of a header or of a method (RFC 9110, 5.6.2).
pub fn is_token(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    (1..=100).contains(&text.len()) && text.bytes().all(fits)
}

/// What may stand behind the name of a header.
pub fn is_header(text: &str) -> bool {
    let fits = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
    text.trim() == text && (1..=8192).contains(&text.len()) && text.bytes().all(fits)
}

/// An origin as browsers send it, or all of them.
pub fn is_origin(text: &str) -> bool {
    text == "*" || towpath_gateway::is_origin(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        let minutes = Duration::from_secs(900);
        assert_eq!(rate("1000 in 15m"), Some((1000, minutes)));
        assert_eq!(rate("1 in 100ms"), Some((1, Duration::from_millis(100))));
        for bad in [
            "",
            "1000",
            "1000/15m",
            "0 in 1s",
            "+1 in 1s",
            "1 in 0s",
            "1 in 15",
            "-1 in 1s",
            "1.5 in 1s",
            "99999999999 in 1s",
            "1 in 400d",
            "1  in 1s",
        ] {
            assert_eq!(rate(bad), None, "{bad}");
        }
    }

    #[test]
    fn headers() {
        assert!(is_header("default-src 'self'; img-src *"));
        for bad in ["", " a", "a\r\nSet-Cookie: b", "a\tb", "\u{e9}"] {
            assert!(!is_header(bad), "{bad:?}");
        }
        assert!(is_token("X-Request-Id"));
        for bad in ["", "a b", "a:", "a,b", "*a\n"] {
            assert!(!is_token(bad), "{bad:?}");
        }
    }
}
