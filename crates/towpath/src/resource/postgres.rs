//! A PostgreSQL database.

use std::time::Duration;

use postgres::{Client, Config, NoTls};

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
