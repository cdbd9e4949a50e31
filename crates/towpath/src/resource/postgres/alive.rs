//! Whether a PostgreSQL answers: a connection of its own each time, and `SELECT 1`. Whoever drops the future has
//! nothing left open: there is no thread that would go on waiting for a server that hangs.

use tokio_postgres::config::Host;
use tokio_postgres::{Client, Config, Error, SimpleQueryMessage};

use super::tls::Tls;
use super::{Target, said, target};
use crate::resource::reach;

/// The purpose in the session's `application_name`.
const PURPOSE: &str = "tow/health";

/// Connections of others to the same database. What they do is not for everybody to see, and that they are there is.
const CONNECTIONS: &str = "SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
        AND coalesce(backend_type, 'client backend') = 'client backend'";

/// Who is to be asked, and how.
pub struct Question {
    config: Config,
    tls: Tls,
    place: String,
}

/// Reads a URL, and finds where that is. Blocking.
///
/// # Errors
/// What is wrong with it, without quoting it; or that it leads where nobody is to be asked.
pub fn question(url: &str) -> Result<Question, String> {
    let Target { config: read, tls } = target(url)?;
    let mut config = Config::new();
    config.application_name(PURPOSE).ssl_mode(tls.mode);
    if let Some(user) = read.get_user() {
        config.user(user);
    }
    if let Some(password) = read.get_password() {
        config.password(password);
    }
    if let Some(name) = read.get_dbname() {
        config.dbname(name);
    }
    if let Some(options) = read.get_options() {
        config.options(options);
    }
    config
        .target_session_attrs(read.get_target_session_attrs())
        .channel_binding(read.get_channel_binding());
    let place = places(&read, &mut config)?;
    Ok(Question { config, tls, place })
}

/// Gives `config` the addresses of every host, so that no name is looked up again; the first host in words.
fn places(read: &postgres::Config, config: &mut Config) -> Result<String, String> {
    let ports = read.get_ports();
    let mut shown = None;
    for (index, host) in read.get_hosts().iter().enumerate() {
        let port = ports.get(index).or(ports.first()).copied().unwrap_or(5432);
        match host {
            Host::Unix(path) => {
                shown.get_or_insert_with(|| path.display().to_string());
                config.host_path(path).port(port);
            }
            Host::Tcp(name) => {
                shown.get_or_insert_with(|| format!("{name}:{port}"));
                // Who names an address beside the host means that one.
                let given = read.get_hostaddrs().get(index);
                let asked = given.map_or_else(|| name.clone(), ToString::to_string);
                for found in reach::addresses(&asked, port)? {
                    config.host(name).hostaddr(found.ip()).port(port);
                }
            }
        }
    }
    shown.ok_or_else(|| "its URL names no host".to_owned())
}

/// Asks; how many other connections there are, where the server says so. It does not end by itself.
///
/// # Errors
/// What came instead of an answer, in the server's words where there are some.
pub async fn ask(question: Question) -> Result<Option<u64>, String> {
    let Question { config, tls, place } = question;
    let wrong = |error: &Error| format!("SELECT 1 at {place}: {}", said(error));
    let (client, connection) = match config.connect(tls.connector).await {
        Ok(connected) => connected,
        Err(error) => return Err(wrong(&error)),
    };
    let (asked, ended) = tokio::join!(select(client), connection);
    match (asked, ended) {
        (Ok(found), _) => found.ok_or_else(|| format!("SELECT 1 at {place}: the answer is not 1")),
        // The client only knows that there is no connection any more.
        (Err(closed), Err(error)) if closed.is_closed() => Err(wrong(&error)),
        (Err(error), _) => Err(wrong(&error)),
    }
}

/// `None` where the answer is another. The connection ends with the client, which is dropped here.
async fn select(client: Client) -> Result<Option<Option<u64>>, Error> {
    let answer = client.simple_query("SELECT 1").await?;
    if first(&answer) != Some("1") {
        return Ok(None);
    }
    // What stands between, a pooler for one, may not know it.
    let counted = client.simple_query(CONNECTIONS).await.ok();
    Ok(Some(counted.and_then(|rows| first(&rows)?.parse().ok())))
}

fn first(answer: &[SimpleQueryMessage]) -> Option<&str> {
    answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    })
}
