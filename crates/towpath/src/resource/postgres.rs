//! A PostgreSQL database: connections to one, and a server of ours as data.

pub mod alive;
pub mod binaries;
pub mod cluster;
mod connector;
pub mod dump;
pub mod roles;
mod tls;

use std::time::Duration;

use postgres::{Client, Config, NoTls};
use tls::Tls;

/// Longest wait for a connection.
const CONNECTS: Duration = Duration::from_secs(10);

/// Opens a connection that says what it is for, so that a recovery finds the sessions that an agent before it has
/// left: `application_name` is `tow/PURPOSE`. Blocking, and not to be called on a thread of the event loop.
///
/// # Errors
/// When the URL is none, or the server cannot be reached or refuses.
pub fn connect(url: &str, purpose: &str) -> Result<Client, postgres::Error> {
    let mut config: Config = url.parse()?;
    config
        .application_name(&format!("tow/{purpose}"))
        .connect_timeout(CONNECTS);
    config.connect(NoTls)
}

/// What a URL means to us: where to, and whether by TLS.
#[derive(Clone)]
pub struct Target {
    config: Config,
    tls: Tls,
}

/// As [`connect`], for a target that was read.
///
/// # Errors
/// When the server cannot be reached or refuses; [`said`] tells why.
pub fn connect_to(mut target: Target, purpose: &str) -> Result<Client, postgres::Error> {
    target
        .config
        .application_name(&format!("tow/{purpose}"))
        .connect_timeout(CONNECTS)
        .ssl_mode(target.tls.mode);
    target.config.connect(target.tls.connector)
}

/// What a server says, in its words, or why there is no connection; the driver's own words do not hold it.
#[must_use]
pub fn said(error: &postgres::Error) -> String {
    match error.as_db_error() {
        Some(said) => said.message().to_owned(),
        None => tls::why(error).unwrap_or_else(|| error.to_string()),
    }
}

/// Parameters that PostgreSQL's own clients know and the driver does not, or that are read here.
const OWN: [&str; 6] = [
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "gssencmode",
    "sslnegotiation",
];

/// Parameters that they and the driver know.
const SHARED: [&str; 15] = [
    "user",
    "password",
    "dbname",
    "host",
    "hostaddr",
    "port",
    "options",
    "application_name",
    "connect_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "target_session_attrs",
    "channel_binding",
];

/// The URL without the parameters that `keep` does not have: those of an application's own driver.
fn with_parameters(url: &str, keep: impl Fn(&str) -> bool) -> String {
    let Some((place, query)) = url.split_once('?') else {
        return url.to_owned();
    };
    let kept: Vec<&str> = query
        .split('&')
        .filter(|pair| keep(pair.split('=').next().unwrap_or_default()))
        .collect();
    match kept.is_empty() {
        true => place.to_owned(),
        false => format!("{place}?{}", kept.join("&")),
    }
}

/// The same place, another database.
#[must_use]
pub fn with_database(url: &str, name: &str) -> String {
    let (place, query) = url.split_once('?').unwrap_or((url, ""));
    let (scheme, rest) = place.split_once("://").unwrap_or(("postgres", place));
    // After the last `@`: a password may hold a slash.
    let (user, host) = rest.rsplit_once('@').unwrap_or(("", rest));
    let host = host.split('/').next().unwrap_or_default();
    let user = match user.is_empty() {
        true => String::new(),
        false => format!("{user}@"),
    };
    let query = match query.is_empty() {
        true => String::new(),
        false => format!("?{query}"),
    };
    format!("{scheme}://{user}{host}/{name}{query}")
}

/// What a URL means, whatever it wants of TLS.
///
/// # Errors
/// What is wrong with it, without quoting it.
pub fn read(url: &str) -> Result<Config, String> {
    let known = with_parameters(url, |name| SHARED.contains(&name));
    known
        .parse::<Config>()
        .map_err(|_| "its URL is none of PostgreSQL".to_owned())
}

/// What a URL means to us. Blocking: it may name a file of certificates.
///
/// # Errors
/// What is wrong with it, without quoting it.
pub fn target(url: &str) -> Result<Target, String> {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let mut names = query
        .split('&')
        .map(|pair| pair.split('=').next().unwrap_or_default());
    // Programs decode them: `ssl%6Dode` would be read by one and not by the other.
    if names.any(|name| name.contains('%')) {
        return Err("the name of a parameter of its URL has a `%`".to_owned());
    }
    Ok(Target {
        config: read(url)?,
        tls: tls::read(url)?,
    })
}

/// A URL for PostgreSQL's own programs without its password, and the password.
#[must_use]
pub fn without_password(url: &str) -> (String, Option<String>) {
    let password = read(url)
        .ok()
        .and_then(|config| Some(String::from_utf8_lossy(config.get_password()?).into_owned()));
    let is_known =
        |name: &str| name != "password" && (SHARED.contains(&name) || OWN.contains(&name));
    let url = with_parameters(url, is_known);
    let url = named_authorities(url);
    let (scheme, rest) = url.split_once("://").unwrap_or(("postgres", &url));
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let place = match place.rsplit_once('@') {
        Some((user, host)) => {
            let user = user.split(':').next().unwrap_or_default();
            format!("{user}@{host}")
        }
        None => place.to_owned(),
    };
    let query = match query.is_empty() {
        true => String::new(),
        false => format!("?{query}"),
    };
    (format!("{scheme}://{place}{query}"), password)
}

/// `system` is a word that only later clients know.
fn named_authorities(url: String) -> String {
    match (tls::parameter(&url, "sslrootcert"), tls::system()) {
        (Some("system"), Some(file)) => url.replace(
            "sslrootcert=system",
            &format!("sslrootcert={}", file.display()),
        ),
        _ => url,
    }
}

/// What makes a schema, a line each: what an extension brings is the extension's.
const SCHEMA: &str = "
WITH own AS (SELECT oid, nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'),
foreign_to AS (SELECT classid, objid FROM pg_depend WHERE deptype = 'e'),
rel AS (SELECT c.*, own.nspname FROM pg_class c JOIN own ON own.oid = c.relnamespace
    WHERE c.relname NOT LIKE 'towpath\\_%'
        AND NOT EXISTS (SELECT FROM foreign_to e WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid))
SELECT 'schema ' || quote_ident(nspname) FROM own WHERE nspname <> 'public'
UNION ALL SELECT 'extension ' || extname || ' ' || extversion FROM pg_extension WHERE extname <> 'plpgsql'
UNION ALL SELECT CASE relkind WHEN 'p' THEN 'partitioned table ' WHEN 'f' THEN 'foreign table ' WHEN 'S' THEN 'sequence ' ELSE 'table ' END
    || format('%I.%I', nspname, relname)
    || CASE WHEN relpersistence = 'u' THEN ' unlogged' ELSE '' END
    || CASE WHEN relrowsecurity THEN ' row level security' ELSE '' END
    || CASE WHEN relforcerowsecurity THEN ' forced' ELSE '' END
    FROM rel WHERE relkind IN ('r', 'p', 'f', 'S')
UNION ALL SELECT format('column %I.%I.%I %s', nspname, relname, attname, format_type(atttypid, atttypmod))
    || CASE WHEN attnotnull THEN ' NOT NULL' ELSE '' END
    || CASE attidentity WHEN 'a' THEN ' IDENTITY ALWAYS' WHEN 'd' THEN ' IDENTITY' ELSE '' END
    || coalesce(CASE attgenerated WHEN 's' THEN ' GENERATED ' ELSE ' DEFAULT ' END || pg_get_expr(adbin, adrelid), '')
    || CASE WHEN attcollation <> 0 AND attcollation <> t.typcollation THEN ' COLLATE ' || attcollation::regcollation ELSE '' END
    FROM rel JOIN pg_attribute a ON attrelid = rel.oid AND attnum > 0 AND NOT attisdropped
    JOIN pg_type t ON t.oid = a.atttypid
    LEFT JOIN pg_attrdef d ON d.adrelid = rel.oid AND d.adnum = a.attnum WHERE relkind IN ('r', 'p', 'f')
UNION ALL SELECT format('view %I.%I: ', nspname, relname) || pg_get_viewdef(oid) FROM rel WHERE relkind IN ('v', 'm')
UNION ALL SELECT 'index: ' || pg_get_indexdef(rel.oid) || CASE WHEN i.indisvalid THEN '' ELSE ' INVALID' END
    FROM rel JOIN pg_index i ON i.indexrelid = rel.oid WHERE relkind IN ('i', 'I') AND NOT EXISTS
        (SELECT FROM pg_class t WHERE t.oid = i.indrelid AND t.relname LIKE 'towpath\\_%')
UNION ALL SELECT format('constraint %I on %I.%I: ', conname, nspname, relname) || pg_get_constraintdef(c.oid)
    FROM pg_constraint c JOIN rel ON rel.oid = conrelid
UNION ALL SELECT 'trigger: ' || pg_get_triggerdef(t.oid) FROM pg_trigger t JOIN rel ON rel.oid = tgrelid WHERE NOT tgisinternal
UNION ALL SELECT format('policy %I on %I.%I %s %s for %s using %s check %s', polname, nspname, relname, polcmd, polpermissive,
        (SELECT string_agg(CASE r WHEN 0 THEN 'public' ELSE r::regrole::text END, ', ') FROM unnest(polroles) r),
        pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid))
    FROM pg_policy JOIN rel ON rel.oid = polrelid
UNION ALL SELECT 'function: ' || CASE prokind WHEN 'a' THEN p.oid::regprocedure::text ELSE pg_get_functiondef(p.oid) END
    FROM pg_proc p JOIN own ON own.oid = pronamespace
    WHERE NOT EXISTS (SELECT FROM foreign_to e WHERE e.classid = 'pg_proc'::regclass AND e.objid = p.oid)
UNION ALL SELECT format('type %I.%I: ', nspname, typname) || coalesce((SELECT string_agg(quote_literal(enumlabel), ', ' ORDER BY enumsortorder)
        FROM pg_enum WHERE enumtypid = t.oid), format_type(typbasetype, typtypmod) || CASE WHEN typnotnull THEN ' NOT NULL' ELSE '' END, '')
    FROM pg_type t JOIN own ON own.oid = typnamespace WHERE typtype IN ('e', 'd', 'r')
        AND NOT EXISTS (SELECT FROM foreign_to e WHERE e.classid = 'pg_type'::regclass AND e.objid = t.oid)
ORDER BY 1";

/// The schema as lines, in a stable order, without what Towpath keeps there. Blocking.
///
/// # Errors
/// When the catalogs cannot be read.
pub fn schema(client: &mut Client) -> Result<Vec<String>, postgres::Error> {
    let rows = client.query(SCHEMA, &[])?;
    Ok(rows.into_iter().map(|row| row.get(0)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_at_the_same_place() {
        for (url, copy) in [
            ("postgres://a:b@h:1/d?x=y", "postgres://a:b@h:1/c?x=y"),
            ("postgres://a:b/d@h/d", "postgres://a:b/d@h/c"),
            ("postgres://h", "postgres://h/c"),
        ] {
            assert_eq!(with_database(url, "c"), copy);
        }
    }

    #[test]
    fn a_password_stays_out_of_what_programs_are_called_with() {
        for (url, place, password) in [
            (
                "postgres://a:b%40c@h:1/d",
                "postgres://a@h:1/d",
                Some("b@c"),
            ),
            (
                "postgres://h/d?sslmode=require&password=x&schema=public",
                "postgres://h/d?sslmode=require",
                Some("x"),
            ),
            ("postgres://a@h/d?schema=public", "postgres://a@h/d", None),
        ] {
            let (found, secret) = without_password(url);
            assert_eq!((found.as_str(), secret.as_deref()), (place, password));
        }
    }

    #[test]
    fn what_a_url_wants_of_tls_is_never_taken_for_less() {
        let mode = |parameters: &str| {
            let target = target(&format!("postgres://h/d?{parameters}"));
            target.map(|target| target.tls.mode)
        };
        use postgres::config::SslMode::{Disable, Prefer, Require};
        assert_eq!(mode("sslmode=disable&pgbouncer=true"), Ok(Disable));
        assert_eq!(mode("a=b"), Ok(Prefer));
        assert_eq!(mode("sslmode=prefer"), Ok(Prefer));
        assert_eq!(mode("sslmode=require"), Ok(Require));
        assert_eq!(mode("sslmode=disable&sslmode=require"), Ok(Require));
        for (parameters, part) in [
            ("ssl%6Dode=require", "has a `%`"),
            ("sslmode=Require", "is none of"),
            ("sslmode=", "is none of"),
            ("sslmode=verify-full", "has no `sslrootcert`"),
            ("sslmode=verify-ca", "has no `sslrootcert`"),
            ("sslmode=verify-full&sslrootcert=root.crt", "absolute path"),
            ("sslmode=verify-full&sslrootcert=/%2e", "plain characters"),
            (
                "sslmode=require&sslrootcert=/not/there",
                "/not/there: No such file",
            ),
            (
                "sslmode=require&sslrootcert=/dev/null",
                "/dev/null: it is not a file",
            ),
            (
                "sslmode=require&sslrootcert=/etc/passwd",
                "no certificate in it",
            ),
            ("sslmode=require&sslcert=/x", "`sslcert`"),
        ] {
            let said = mode(parameters);
            assert!(
                matches!(&said, Err(why) if why.contains(part)),
                "{parameters}: {said:?}"
            );
        }
    }
}
