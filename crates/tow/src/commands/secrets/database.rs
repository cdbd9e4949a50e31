//! `tow secrets rotate` of the password of a database that Towpath runs. Two users connect in turn; where it stands is
//! what the environment's agent keeps of the resource, so nothing of it is in `tow.secrets.toml`.

use tokio::time::Instant;
use towpath::agent::api::{MoveLogin, Trouble};
use towpath::agent::{Client, ClientError};
use towpath::id::InstanceId;
use towpath::release::failpoint::{Point, reach};
use towpath::release::{LoginMove, LoginStatus};

use super::super::Ending;
use super::super::deploy::{Leaving, actor};
use super::replace::{
    ENDS, LOOKS, Replaced, in_use, may_begin, pause, replace, takes_faults, told,
};
use super::trouble;
use crate::cli::commands::Rotate;
use crate::place::Place;
use crate::{connect, out};

/// A rotation under way.
struct Rotating<'a> {
    place: &'a Place,
    arguments: &'a Rotate,
    /// The resource.
    resource: &'a str,
    client: Client,
}

/// Rotates the password of `resource`.
pub async fn rotate(place: &Place, arguments: &Rotate, resource: &str) -> Ending {
    if arguments.stdin {
        let text = format!("the password of `{resource}` is made by its agent");
        let help = "leave --stdin away: nobody has to know it";
        return Err(trouble(2, "secret::made", text, help));
    }
    let client = connect::existing(place).await?;
    let client = client.ok_or_else(|| not_deployed(place))?;
    let rotating = Rotating {
        place,
        arguments,
        resource,
        client,
    };
    let before = rotating.look().await?;
    match (&before.previous, arguments.undo) {
        (None, true) => return Err(rotating.nothing_to_undo()),
        (None, false) => rotating.begin().await?,
        (Some(old), false) => out::note(format!(
            "  {resource} is being rotated: going on, `{old}` is to go"
        )),
        (Some(old), true) if before.back => out::note(format!(
            "  {resource} goes back to `{}` already: going on, `{old}` is to go",
            before.user
        )),
        (Some(old), true) => {
            reach("rotate", "undo", Point::Before);
            rotating.go(LoginMove::TurnRound).await?;
            reach("rotate", "undo", Point::After);
            out::say(format!("{resource}: `{old}` connects again"));
        }
    }
    rotating.go_on().await
}

fn not_deployed(place: &Place) -> Trouble {
    let text = format!("nothing was deployed to {} yet", place.environment);
    let help = "its first deployment makes the password";
    trouble(3, "secret::missing", text, help)
}

/// How it stands with the users of a database.
pub async fn look(client: &Client, resource: &str) -> Result<LoginStatus, Trouble> {
    let status = client.get(&format!("/v1/logins/{resource}")).await;
    status.map_err(ClientError::into_trouble)
}

impl Rotating<'_> {
    async fn look(&self) -> Result<LoginStatus, Trouble> {
        look(&self.client, self.resource).await
    }

    async fn go(&self, step: LoginMove) -> Result<(), Trouble> {
        let asked = MoveLogin {
            step,
            actor: actor(),
        };
        let path = format!("/v1/logins/{}", self.resource);
        let moved = self.client.post::<()>(&path, &asked).await;
        moved.map_err(ClientError::into_trouble)
    }

    async fn begin(&self) -> Result<(), Trouble> {
        may_begin(self.place, self.arguments, &told(&self.client).await?)?;
        if self.arguments.sabotage.is_some() {
            takes_faults(&self.client).await?;
        }
        reach("rotate", "begin", Point::Before);
        self.go(LoginMove::Begin).await?;
        reach("rotate", "begin", Point::After);
        let now = self.look().await?;
        out::say(format!(
            "{}: `{}` is let in beside `{}`",
            self.resource,
            now.user,
            now.previous.unwrap_or_default()
        ));
        match self.arguments.sabotage {
            Some(_) => self.go(LoginMove::EndEarly).await,
            None => Ok(()),
        }
    }

    /// Until the user before is shut out.
    async fn go_on(&self) -> Ending {
        let (mut restarted, mut deadline) = (false, None);
        let mut leaving = Leaving::listen();
        loop {
            let now = self.look().await?;
            let Some(old) = &now.previous else {
                return Ok(0);
            };
            let behind: Vec<&InstanceId> = now.behind.iter().collect();
            if behind.is_empty() && now.sessions == 0 {
                reach("rotate", "end", Point::Before);
                self.go(LoginMove::End).await?;
                reach("rotate", "end", Point::After);
                out::say(format!(
                    "{}: nobody uses `{old}` any more; it is shut out, and its password gone",
                    self.resource
                ));
                continue;
            }
            if !restarted && !behind.is_empty() {
                restarted = true;
                let replaced = replace(self.place, &self.client, self.arguments, &behind).await?;
                match replaced {
                    Replaced::Run(0) | Replaced::Left => continue,
                    Replaced::Run(code) => return Ok(self.stopped(code)),
                }
            }
            if Instant::now() > *deadline.get_or_insert_with(|| Instant::now() + ENDS) {
                return Err(in_use(&who(old, &now)));
            }
            let (name, environment) = (&self.arguments.name, &self.place.environment);
            pause(&mut leaving, name, environment, LOOKS).await?;
        }
    }

    fn stopped(&self, code: u8) -> u8 {
        let (name, environment) = (&self.arguments.name, &self.place.environment);
        out::note(format!(
            "  both users can connect: `tow secrets rotate {name} -e {environment}` goes on, with --undo it goes back"
        ));
        code
    }

    fn nothing_to_undo(&self) -> Trouble {
        let text = format!("`{}` is not being rotated", self.resource);
        let help = "once the user before is shut out there is no way back: rotate again";
        trouble(3, "secret::not-rotating", text, help)
    }
}

fn who(old: &str, status: &LoginStatus) -> String {
    let ids: Vec<_> = status.behind.iter().map(ToString::to_string).collect();
    match ids.is_empty() {
        true => format!(
            "somebody who connects as `{old}` ({} sessions)",
            status.sessions
        ),
        false => ids.join(", "),
    }
}
