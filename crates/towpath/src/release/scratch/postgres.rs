//! Copies on PostgreSQL: a database of its own beside the one that is copied, on the same server.
//!
//! Made by a dump and a restore, which hold nobody up. On a server of ours it is the administrator's doing, and the copy
//! belongs to the application's role as the database does; elsewhere it takes a role that may make databases.

use std::path::PathBuf;
use std::time::Duration;

use postgres::Client;

use super::{Result, no_copy};
use crate::config::Resource;
use crate::diagnostic::Diagnostic;
use crate::id::InstanceId;
use crate::release::effect::backups::ends_well;
use crate::release::resources;
use crate::release::{World, database};
use crate::resource::Connection;
use crate::resource::postgres::roles::quoted;
use crate::resource::postgres::{dump, said, with_database};
use crate::resource::url::Attributes;

/// What the name of a copy ends with.
const SUFFIX: &str = "_rehearsal";

/// What the name of an empty database ends with, before a number of its own: several may be looked at at once.
const EMPTY: &str = "_empty_";

/// The lock under which empty databases are made, and those that are left are removed.
const MAKING: i64 = 0x746f_775f_656d_7074;

/// Largest database that is copied for nothing but a look at its migrations, bytes.
const LARGEST: i64 = 2 << 30;

/// Where a database is, and where its copy.
struct Place {
    /// As who may read everything.
    source: String,
    /// As who makes the copy, on a database that is neither.
    maker: String,
    /// The same, on the copy.
    filler: String,
    /// As services are told of the copy.
    copy: Attributes,
    /// The copy, and whom it belongs to.
    name: String,
    owner: String,
    /// What is copied.
    database: String,
    /// The comment on the copy that says whose it is, and without which none is dropped; on a server of ours every
    /// database is ours.
    mark: Option<String>,
}

/// No longer than the server takes.
fn beside(database: &str, suffix: &str) -> String {
    let kept: String = database.chars().take(63 - suffix.len()).collect();
    kept + suffix
}

fn place(world: &World, name: &str, resource: &Resource) -> Result<Place> {
    place_with(world, name, resource, SUFFIX)
}

fn place_with(world: &World, name: &str, resource: &Resource, suffix: &str) -> Result<Place> {
    let source = database::keeper(&world.state(), name, resource)?;
    let given = resources::attributes(&world.state(), name, resource)?;
    let part = |part: &str| given.get(part).cloned().unwrap_or_default();
    let copy_of = beside(&part("name"), suffix);
    let mut copy = given.clone();
    copy.insert("name", copy_of.clone());
    copy.insert("url", with_database(&part("url"), &copy_of));
    // Elsewhere nobody knows of another database that may be connected to.
    let maker = match resource.is_run() {
        true => with_database(&source, "postgres"),
        false => source.clone(),
    };
    Ok(Place {
        filler: with_database(&source, &copy_of),
        source,
        maker,
        copy,
        name: copy_of,
        // Of a server of ours the role that everything belongs to, whoever connects.
        owner: part(if resource.is_run() { "name" } else { "user" }),
        database: part("name"),
        mark: (!resource.is_run()).then(|| mark(world, "a copy")),
    })
}

fn mark(world: &World, what: &str) -> String {
    let (environment, state) = (&world.environment, world.state());
    format!(
        "{what} that Towpath made for {environment} in {}",
        state.display()
    )
}

fn client(name: &str, url: &str) -> Result<Client> {
    database::connect(name, url, "rehearse")
}

/// Why no copy of a database elsewhere can be made; `None` where one can. Blocking.
pub(in crate::release) fn stands_against(
    world: &World,
    name: &str,
    resource: &Resource,
) -> Result<Option<String>> {
    if resource.is_run() {
        return Ok(None);
    }
    let place = place(world, name, resource)?;
    let mut client = client(name, &place.maker)?;
    let asked =
        "SELECT rolcreatedb OR rolsuper, rolname::text FROM pg_roles WHERE rolname = current_user";
    let row = client.query_one(asked, &[]);
    let row = row.map_err(|error| no_copy(name, &said(&error)))?;
    let (may, role): (bool, String) = (row.get(0), row.get(1));
    if !may {
        let why = format!("the role `{role}` may not make databases there (`CREATEDB`)");
        return Ok(Some(why));
    }
    somebodys(name, &mut client, &place)
}

/// That a database with the name of the copy is there, and is somebody else's; `None` where it may be dropped.
fn somebodys(name: &str, client: &mut Client, place: &Place) -> Result<Option<String>> {
    let Some(mark) = &place.mark else {
        return Ok(None);
    };
    let asked = "SELECT coalesce(shobj_description(oid, 'pg_database'), '') FROM pg_database WHERE datname = $1";
    let found = client.query_opt(asked, &[&place.name]);
    let found = found.map_err(|error| no_copy(name, &said(&error)))?;
    let is_other = found.is_some_and(|row| row.get::<_, String>(0) != *mark);
    Ok(is_other.then(|| {
        format!(
            "the database `{}` is there, and no comment on it says that it is a copy of ours",
            place.name
        )
    }))
}

/// Why none is made for a look at migrations; `None` where one is. Blocking.
pub(in crate::release) fn is_not_worth_it(
    world: &World,
    name: &str,
    resource: &Resource,
) -> Result<Option<String>> {
    if let Some(why) = stands_against(world, name, resource)? {
        return Ok(Some(why));
    }
    let mut client = client(name, &place(world, name, resource)?.source)?;
    let row = client.query_one("SELECT pg_database_size(current_database())", &[]);
    let size: i64 = row.map_err(|error| no_copy(name, &said(&error)))?.get(0);
    let gib = |bytes: i64| bytes as f64 / f64::from(1 << 30);
    Ok((size > LARGEST).then(|| {
        let (size, largest) = (gib(size), gib(LARGEST));
        format!("it has {size:.1} GiB, and up to {largest:.0} are copied for that")
    }))
}

/// A database with nothing in it, that goes with its value.
pub(in crate::release) struct Empty {
    /// Connected as the application is.
    pub db: Connection,
    _database: Doomed,
}

impl Empty {
    /// On the server of a database. Blocking.
    pub(in crate::release) fn beside(
        world: &World,
        name: &str,
        resource: &Resource,
    ) -> Result<Empty> {
        let mut place = place_with(world, name, resource, &(EMPTY.to_owned() + &number()))?;
        let mark = mark(world, "an empty database");
        place.mark = Some(mark.clone());
        let mut maker = client(name, &place.maker)?;
        let wrong = |error: postgres::Error| no_copy(name, &said(&error));
        // Nobody takes for left what is just being made, and has no session yet.
        maker
            .batch_execute("SET lock_timeout = '10s'")
            .map_err(wrong)?;
        let lock = "SELECT pg_advisory_lock($1)";
        maker.execute(lock, &[&MAKING]).map_err(wrong)?;
        remove_left(&mut maker, &mark).map_err(wrong)?;
        // Before it is made: it does not stay either where it cannot be opened.
        let mut database = Doomed {
            maker,
            name: place.name.clone(),
        };
        make(name, &place, resource.is_run())?;
        let db = Connection::Postgres(client(name, &place.copy["url"])?);
        let unlock = "SELECT pg_advisory_unlock($1)";
        let unlocked = database.maker.execute(unlock, &[&MAKING]);
        unlocked.map_err(wrong)?;
        Ok(Empty {
            db,
            _database: database,
        })
    }
}

/// A database that goes with this value, if it is there by then.
struct Doomed {
    maker: Client,
    name: String,
}

/// Eight digits, by chance.
fn number() -> String {
    let mut bytes = [0; 4];
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    format!("{:08x}", u32::from_ne_bytes(bytes))
}

/// What an agent that was killed has left: it is ours, and nobody is connected to it.
fn remove_left(maker: &mut Client, mark: &str) -> std::result::Result<(), postgres::Error> {
    let left = "SELECT d.datname::text FROM pg_database d WHERE shobj_description(d.oid, 'pg_database') = $1
        AND NOT EXISTS (SELECT 1 FROM pg_stat_activity a WHERE a.datid = d.oid)";
    for row in maker.query(left, &[&mark])? {
        drop_copy(maker, row.get(0))?;
    }
    Ok(())
}

impl Drop for Doomed {
    fn drop(&mut self) {
        let _ = drop_copy(&mut self.maker, &self.name);
    }
}

pub(super) async fn copy(world: &World, name: &str, resource: &Resource) -> Result<Attributes> {
    let place = tokio::task::block_in_place(|| {
        let place = place(world, name, resource)?;
        make(name, &place, resource.is_run())?;
        Ok::<_, Diagnostic>(place)
    })?;
    let file = dump_file(world, name);
    let filled = fill(world, name, &place, &file).await;
    let removed = std::fs::remove_file(&file);
    filled?;
    removed.map_err(|error| no_copy(name, &error))?;
    Ok(place.copy)
}

/// Among the backups, where nobody else looks.
fn dump_file(world: &World, name: &str) -> PathBuf {
    let folder = world.state().join("backups");
    folder.join(format!("rehearsal-{name}.dump"))
}

fn make(name: &str, place: &Place, is_ours: bool) -> Result<()> {
    let mut maker = client(name, &place.maker)?;
    if let Some(why) = somebodys(name, &mut maker, place)? {
        return Err(no_copy(name, &why));
    }
    drop_copy(&mut maker, &place.name).map_err(|error| no_copy(name, &said(&error)))?;
    let database = quoted(&place.name);
    let mut statements = vec![match is_ours {
        true => format!(
            "CREATE DATABASE {database} OWNER {} TEMPLATE template0",
            quoted(&place.owner)
        ),
        false => format!("CREATE DATABASE {database} TEMPLATE template0"),
    }];
    statements.extend(place.mark.as_ref().map(|mark| {
        let mark = mark.replace('\'', "''");
        format!("COMMENT ON DATABASE {database} IS '{mark}'")
    }));
    statements.push(format!("REVOKE ALL ON DATABASE {database} FROM PUBLIC"));
    for statement in statements {
        let done = maker.batch_execute(&statement);
        done.map_err(|error| no_copy(name, &said(&error)))?;
    }
    Ok(())
}

/// A session that has just been ended holds it for a moment.
fn drop_copy(maker: &mut Client, copy: &str) -> std::result::Result<(), postgres::Error> {
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1";
    let mut tries = 0;
    loop {
        maker.execute(end, &[&copy])?;
        match maker.batch_execute(&format!("DROP DATABASE IF EXISTS {}", quoted(copy))) {
            Err(_) if tries < 100 => tries += 1,
            done => return done,
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

async fn fill(world: &World, name: &str, place: &Place, file: &std::path::Path) -> Result<()> {
    let id = InstanceId(format!("{name}.copy"));
    let programs = tokio::task::block_in_place(|| database::programs(name, &place.source))?;
    let commands = [
        dump::dump(&programs.0, &place.source, file),
        dump::restore(&programs.1, &place.filler, file),
    ];
    for command in commands {
        let ended = ends_well(world, name, &id, command).await;
        ended.map_err(|why| {
            let told = no_copy(name, &why.text);
            why.tail.into_iter().fold(told, Diagnostic::note)
        })?;
    }
    Ok(())
}

/// What the name of a database ends with that a backup has taken the place of.
const LEFT: &str = "_left";

/// Puts the backup at `file` in the place of the database of a server of ours: filled beside it, then renamed. Begun and
/// broken off, it is gone on with.
pub(super) async fn put_back(
    world: &World,
    name: &str,
    resource: &Resource,
    file: &std::path::Path,
) -> Result<()> {
    let place = tokio::task::block_in_place(|| {
        let place = place(world, name, resource)?;
        if !is_half_renamed(name, &place)? {
            make(name, &place, true)?;
        }
        Ok::<_, Diagnostic>(place)
    })?;
    if !tokio::task::block_in_place(|| is_half_renamed(name, &place))? {
        let programs = tokio::task::block_in_place(|| database::programs(name, &place.maker))?;
        let restore = dump::restore(&programs.1, &place.filler, file);
        let id = InstanceId(format!("{name}.copy"));
        let ended = ends_well(world, name, &id, restore).await;
        ended.map_err(|why| {
            let told = no_copy(name, &why.text);
            why.tail.into_iter().fold(told, Diagnostic::note)
        })?;
    }
    tokio::task::block_in_place(|| {
        let mut maker = client(name, &place.maker)?;
        rename(&mut maker, &place).map_err(|error| no_copy(name, &said(&error)))
    })
}

/// Whether the database is out of the way already, and so what takes its place is whole.
fn is_half_renamed(name: &str, place: &Place) -> Result<bool> {
    let mut maker = client(name, &place.maker)?;
    let has = |maker: &mut Client, database: &str| {
        let found = maker.query_opt("SELECT 1 FROM pg_database WHERE datname = $1", &[&database]);
        found.map_err(|error| no_copy(name, &said(&error)))
    };
    let is_there = has(&mut maker, &place.database)?.is_some();
    Ok(!is_there && has(&mut maker, &place.name)?.is_some())
}

/// Whoever is connected is cut off, and finds the other when they connect again.
fn rename(maker: &mut Client, place: &Place) -> std::result::Result<(), postgres::Error> {
    let (live, copy) = (quoted(&place.database), quoted(&place.name));
    let left = quoted(&beside(&place.database, LEFT));
    let there = "SELECT 1 FROM pg_database WHERE datname = $1";
    if maker.query_opt(there, &[&place.database])?.is_some() {
        // While both are there: should this be broken off, nothing knows them but the one that goes.
        carry(maker, &place.database, &place.name)?;
        drop_copy(maker, &beside(&place.database, LEFT))?;
        maker.batch_execute(&format!("ALTER DATABASE {live} ALLOW_CONNECTIONS false"))?;
        move_away(maker, &place.database, &left)?;
    }
    maker.batch_execute(&format!("ALTER DATABASE {copy} RENAME TO {live}"))?;
    drop_copy(maker, &beside(&place.database, LEFT))
}

/// Settings that are lists of names: as one text they would be one name.
const LISTS: [&str; 4] = [
    "search_path",
    "temp_tablespaces",
    "local_preload_libraries",
    "session_preload_libraries",
];

/// What no dump has: the grants on a database as such, and its settings, of each role.
fn carry(maker: &mut Client, from: &str, to: &str) -> std::result::Result<(), postgres::Error> {
    let to = quoted(to);
    let grants = "SELECT a.privilege_type, a.is_grantable, r.rolname::text FROM pg_database d
        CROSS JOIN aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a LEFT JOIN pg_roles r ON r.oid = a.grantee
        WHERE d.datname = $1 AND (a.grantee = 0 OR r.oid IS NOT NULL)";
    for row in maker.query(grants, &[&from])? {
        let (right, may_grant): (String, bool) = (row.get(0), row.get(1));
        let whom = row.get::<_, Option<String>>(2);
        let whom = whom.map_or("PUBLIC".to_owned(), |role| quoted(&role));
        let option = if may_grant { " WITH GRANT OPTION" } else { "" };
        maker.batch_execute(&format!("GRANT {right} ON DATABASE {to} TO {whom}{option}"))?;
    }
    let settings = "SELECT split_part(one, '=', 1), substr(one, strpos(one, '=') + 1), r.rolname::text
        FROM pg_db_role_setting s CROSS JOIN unnest(s.setconfig) one LEFT JOIN pg_roles r ON r.oid = s.setrole
        WHERE s.setdatabase = (SELECT oid FROM pg_database WHERE datname = $1)";
    for row in maker.query(settings, &[&from])? {
        let (name, value): (String, String) = (row.get(0), row.get(1));
        let whose = match row.get::<_, Option<String>>(2) {
            Some(role) => format!("ROLE {} IN DATABASE {to}", quoted(&role)),
            None => format!("DATABASE {to}"),
        };
        let value = match LISTS.contains(&name.as_str()) {
            true => {
                let set = "SELECT set_config($1, $2, false)";
                maker.execute(set, &[&name, &value])?;
                "FROM CURRENT".to_owned()
            }
            false => format!("TO '{}'", value.replace('\'', "''")),
        };
        maker.batch_execute(&format!("ALTER {whose} SET {} {value}", quoted(&name)))?;
    }
    maker.batch_execute("RESET ALL")
}

fn move_away(
    maker: &mut Client,
    live: &str,
    left: &str,
) -> std::result::Result<(), postgres::Error> {
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1";
    let mut tries = 0;
    loop {
        maker.execute(end, &[&live])?;
        let renames = format!("ALTER DATABASE {} RENAME TO {left}", quoted(live));
        match maker.batch_execute(&renames) {
            Err(_) if tries < 100 => tries += 1,
            done => return done,
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Opens the copy as the application does. Blocking.
pub(super) fn open(world: &World, name: &str, resource: &Resource) -> Result<Connection> {
    let place = place(world, name, resource)?;
    client(name, &place.copy["url"]).map(Connection::Postgres)
}

/// Removes what there may be of copies of these. A server of ours that is down is no reason to stop: what it has is found
/// by the next that makes a copy.
pub(super) async fn remove(world: &World, names: &[(String, Resource)]) -> Result<()> {
    for (name, resource) in names {
        let id = InstanceId(format!("{name}.copy"));
        let stopped = world.supervisor.stop(&id, None).await;
        stopped.map_err(|error| no_copy(name, &error))?;
        let _ = std::fs::remove_file(dump_file(world, name));
        tokio::task::block_in_place(|| {
            let Ok(place) = place(world, name, resource) else {
                return Ok(());
            };
            let Ok(mut maker) = client(name, &place.maker) else {
                return Ok(());
            };
            if somebodys(name, &mut maker, &place)?.is_some() {
                return Ok(());
            }
            drop_copy(&mut maker, &place.name).map_err(|error| {
                let text = format!(
                    "the copy of `{name}` could not be removed: {}",
                    said(&error)
                );
                Diagnostic::error("rehearse::stays", text)
                    .note("the database itself is as it was")
                    .help(format!("drop the database `{}`", place.name))
            })
        })?;
    }
    Ok(())
}
