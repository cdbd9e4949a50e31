//! Which other origins may read answers.
//!
//! A list of origins is only worth something when nobody else says otherwise, so what an instance says of it is taken
//! off. A preflight is answered here, and no instance sees it.

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Uri};

use crate::api;

/// Everything that an answer says of other origins.
const SAID: [HeaderName; 6] = [
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    header::ACCESS_CONTROL_ALLOW_METHODS,
    header::ACCESS_CONTROL_ALLOW_HEADERS,
    header::ACCESS_CONTROL_EXPOSE_HEADERS,
    header::ACCESS_CONTROL_MAX_AGE,
];

#[derive(Debug)]
pub(crate) struct Cors {
    origins: Origins,
    credentials: bool,
    methods: HeaderValue,
    headers: HeaderValue,
    expose: Option<HeaderValue>,
    max_age: HeaderValue,
}

#[derive(Debug)]
enum Origins {
    Any,
    These(Vec<String>),
}

impl Cors {
    /// Or what is wrong with it.
    pub(crate) fn new(source: &api::Cors) -> Result<Self, String> {
        let any = source.origins.iter().any(|origin| origin == "*");
        if any && source.credentials {
            return Err("`*` with credentials would let every site act as the user".to_owned());
        }
        if any && source.origins.len() > 1 {
            return Err("`*` stands alone".to_owned());
        }
        let bad = source.origins.iter().find(|one| !is_origin(one));
        if let Some(bad) = bad.filter(|_| !any) {
            return Err(format!("{bad:?} is no origin"));
        }
        Ok(Self {
            origins: match any {
                true => Origins::Any,
                false => Origins::These(source.origins.clone()),
            },
            credentials: source.credentials,
            methods: list(&source.methods)?,
            headers: list(&source.headers)?,
            expose: match source.expose.is_empty() {
                true => None,
                false => Some(list(&source.expose)?),
            },
            max_age: HeaderValue::from(source.max_age_s),
        })
    }

    /// Whether a page of this origin may read answers.
    pub(crate) fn allows(&self, origin: &HeaderValue) -> bool {
        match &self.origins {
            Origins::Any => true,
            Origins::These(these) => these.iter().any(|one| origin == one.as_str()),
        }
    }

    /// Say in an answer who may read it; `preflight` is what the browser asked beforehand.
    pub(crate) fn dress(
        &self,
        headers: &mut HeaderMap,
        origin: Option<&HeaderValue>,
        preflight: bool,
    ) {
        for name in SAID {
            headers.remove(name);
        }
        // Also where nobody is allowed: a cache must not give this answer to somebody who is.
        if let Origins::These(_) = self.origins {
            vary(headers);
        }
        let Some(origin) = origin.filter(|origin| self.allows(origin)) else {
            return;
        };
        let allowed = match self.origins {
            Origins::Any => HeaderValue::from_static("*"),
            Origins::These(_) => origin.clone(),
        };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        if self.credentials {
            let yes = HeaderValue::from_static("true");
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
        }
        if preflight {
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, self.methods.clone());
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, self.headers.clone());
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, self.max_age.clone());
        } else if let Some(expose) = &self.expose {
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, expose.clone());
        }
    }
}

/// Whether a browser asks what it may ask.
pub(crate) fn is_preflight(parts: &Parts) -> bool {
    parts.method == Method::OPTIONS
        && parts.headers.contains_key(header::ORIGIN)
        && parts
            .headers
            .contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

fn vary(headers: &mut HeaderMap) {
    let named = |value: &HeaderValue| {
        let mut names = value.as_bytes().split(|byte| *byte == b',');
        names.any(|name| {
            let name = name.trim_ascii();
            name == b"*" || name.eq_ignore_ascii_case(b"origin")
        })
    };
    if !headers.get_all(header::VARY).iter().any(named) {
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
    }
}

fn list(words: &[String]) -> Result<HeaderValue, String> {
    let text = words.join(", ");
    HeaderValue::from_str(&text).map_err(|_| format!("{text:?} is no value of a header"))
}

/// Whether this is an origin as browsers send it: `https://app.example.com`, with a port where it is not the usual one.
#[must_use]
pub fn is_origin(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else {
        return false;
    };
    let usual = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return false,
    };
    let plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._:[]".contains(&byte);
    if rest.is_empty() || !rest.bytes().all(plain) {
        return false;
    }
    let parsed = text.parse::<Uri>().ok();
    let authority = parsed.as_ref().and_then(Uri::authority);
    let host = authority.map_or("", |authority| authority.host());
    let port = rest.strip_prefix(host).filter(|_| !host.is_empty());
    let is_port = |port: &str| {
        let number = port.parse::<u16>().ok().filter(|number| *number != usual);
        number.is_some_and(|number| number.to_string() == port)
    };
    port.is_some_and(|port| port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_as_browsers_send_them() {
        for good in [
            "https://app.example.com",
            "http://localhost:3000",
            "http://127.0.0.1:8080",
            "http://[::1]:3000",
        ] {
            assert!(is_origin(good), "{good}");
        }
        for bad in [
            "",
            "*",
            "null",
            "app.example.com",
            "https://",
            "https://app.example.com/",
            "https://App.example.com",
            "https://app.example.com:443",
            "http://app.example.com:80",
            "https://a.example.com:",
            "https://*.example.com",
            "https://u@example.com",
            "ftp://example.com",
            "https://a b",
            "https://a:99999",
        ] {
            assert!(!is_origin(bad), "{bad}");
        }
    }
}
