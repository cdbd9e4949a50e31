//! Who reads which environment.

use towpath::secret::Contact;

use super::super::Ending;
use super::store::{Store, own_identity};
use super::{agent_contact, begun, file, trouble};
use crate::cli::Cli;
use crate::cli::commands::{People, PeopleCommand};
use crate::place::App;
use crate::{out, render};

/// `tow secrets key`.
pub fn key() -> Ending {
    out::say(own_identity()?.contact());
    Ok(0)
}

/// `tow secrets people`.
pub async fn people(cli: &Cli, arguments: &People) -> Ending {
    match &arguments.command {
        None => list(cli),
        Some(PeopleCommand::Add {
            name,
            contact,
            environment,
        }) => add(cli, name, contact.as_deref(), environment).await,
        Some(PeopleCommand::Remove { name, environment }) => remove(cli, name, environment),
    }
}

fn list(cli: &Cli) -> Ending {
    let app = App::find(cli)?;
    let people = file(&app)?.map(|file| file.people).unwrap_or_default();
    let row = |(name, one): (&String, &towpath::secret::Person)| {
        let may = if one.key.is_some() {
            "reads and writes"
        } else {
            "reads"
        };
        vec![
            name.clone(),
            may.to_owned(),
            one.environments.join(", "),
            one.recipient.clone(),
        ]
    };
    let rows: Vec<_> = people.iter().map(row).collect();
    out::say(render::table(
        &["WHO", "", "ENVIRONMENTS", "RECIPIENT"],
        &rows,
    ));
    Ok(0)
}

async fn add(cli: &Cli, name: &str, contact: Option<&str>, environment: &str) -> Ending {
    let (place, mut store) = begun(cli, environment)?;
    match (name, contact) {
        ("agent", None) => store.admit_agent(&agent_contact(&place).await?)?,
        (_, None) => {
            let text = format!("what is to be encrypted to for `{name}`?");
            let help = "`tow secrets key` prints it, where they work; for a CI, any age recipient";
            return Err(trouble(2, "secret::contact", text, help));
        }
        (_, Some(contact)) => {
            let contact = Contact::parse(contact).ok_or_else(|| {
                let text = "that is no recipient".to_owned();
                trouble(
                    2,
                    "secret::contact",
                    text,
                    "`tow secrets key` prints one: `age1...`",
                )
            })?;
            if !towpath::manifest::form::is_name(name) || name == "agent" {
                let text = format!("`{name}` cannot name a reader");
                let help = "a name is up to 31 of `a-z`, `0-9` and `-`, and starts with a letter";
                return Err(trouble(2, "secret::name", text, help));
            }
            store.admit(name, &contact)?;
        }
    }
    store.save("admit", &[name.to_owned()])?;
    out::say(read_by(environment, &store));
    Ok(0)
}

fn read_by(environment: &str, store: &Store) -> String {
    format!("{environment} is read by {}", store.readers().join(", "))
}

fn remove(cli: &Cli, name: &str, environment: &str) -> Ending {
    let (_, mut store) = begun(cli, environment)?;
    store.expel(name)?;
    // Whoever takes himself out could sign nothing any more.
    store.save("expel", &[name.to_owned()])?;
    out::say(read_by(environment, &store));
    out::note(format!(
        "  what `{name}` could read until now they may still know: `tow secrets rotate NAME -e {environment}`"
    ));
    Ok(0)
}
