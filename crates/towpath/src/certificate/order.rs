//! One order: from the issuer's question to the certificate.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use instant_acme::{
    Account, AuthorizationStatus, ChallengeType, Identifier, NewOrder, Order, OrderStatus,
};
use tokio::time::{sleep, timeout};
use towpath_gateway::api::Challenges;
use towpath_gateway::control::Client;

use super::{Error, account, said};
use crate::config::Acme;

/// Longest time for an order.
const ORDER: Duration = Duration::from_secs(120);
/// Pause between looks at it.
const LOOK: Duration = Duration::from_millis(500);

/// Gets a certificate for `host`, and returns chain and key as PEM text. The account is kept in `dir`.
///
/// # Errors
/// [`Error`]; the gateway answers no issuer any more then.
pub async fn issue(dir: &Path, acme: &Acme, host: &str, gateway: &Client) -> Result<String, Error> {
    let order = async {
        match attempt(dir, acme, host, gateway).await {
            // An issuer may lose its accounts; orders are all there was to them.
            Err(Failed::Account) => {
                account::forget(dir);
                attempt(dir, acme, host, gateway).await
            }
            other => other,
        }
    };
    let issued = timeout(ORDER, order).await;
    let _ = gateway.challenges(&Challenges::default()).await;
    match issued {
        Ok(Ok(pem)) => Ok(pem),
        Ok(Err(Failed::Account)) => Err(Error::Issuer("it does not know the account".to_owned())),
        Ok(Err(Failed::Other(error))) => Err(error),
        Err(_) => Err(Error::Late),
    }
}

/// How an order ends early.
enum Failed {
    /// The issuer does not know the account.
    Account,
    Other(Error),
}

impl<E: Into<Error>> From<E> for Failed {
    fn from(error: E) -> Failed {
        Failed::Other(error.into())
    }
}

async fn attempt(dir: &Path, acme: &Acme, host: &str, gateway: &Client) -> Result<String, Failed> {
    let account = account::open(dir, acme).await?;
    let mut order = begin(&account, host).await?;
    let answers = answer(&mut order, gateway).await?;
    until_ready(&mut order, &answers, gateway).await?;
    let key = order.finalize().await.map_err(Error::from)?;
    let chain = until_issued(&mut order).await?;
    // The chain comes first: a file that is cut off has no key.
    Ok(format!("{}\n{key}", chain.trim_end()))
}

async fn begin(account: &Account, host: &str) -> Result<Order, Failed> {
    let names = [Identifier::Dns(host.to_owned())];
    account
        .new_order(&NewOrder::new(&names))
        .await
        .map_err(|error| match &error {
            instant_acme::Error::Api(problem)
                if problem
                    .r#type
                    .as_ref()
                    .is_some_and(|kind| kind.ends_with(":accountDoesNotExist")) =>
            {
                Failed::Account
            }
            _ => Failed::Other(error.into()),
        })
}

/// Has the gateway answer what the issuer will ask, and tells the issuer to ask.
async fn answer(order: &mut Order, gateway: &Client) -> Result<Challenges, Error> {
    let mut challenges = Challenges {
        answers: BTreeMap::new(),
    };
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        if authorization.status == AuthorizationStatus::Valid {
            continue;
        }
        let challenge = authorization.challenge(ChallengeType::Http01);
        let mut challenge =
            challenge.ok_or_else(|| Error::Challenge("it does not ask over http".to_owned()))?;
        let text = challenge.key_authorization().as_str().to_owned();
        challenges.answers.insert(challenge.token.clone(), text);
        publish(&challenges, gateway).await?;
        challenge.set_ready().await?;
    }
    Ok(challenges)
}

async fn publish(challenges: &Challenges, gateway: &Client) -> Result<(), Error> {
    let put = gateway.challenges(challenges).await;
    put.map(drop)
        .map_err(|error| Error::Gateway(error.to_string()))
}

/// Waits until the issuer has asked. A gateway that was started again meanwhile is told the answers again.
async fn until_ready(
    order: &mut Order,
    challenges: &Challenges,
    gateway: &Client,
) -> Result<(), Error> {
    loop {
        match order.refresh().await?.status {
            OrderStatus::Ready | OrderStatus::Valid => return Ok(()),
            OrderStatus::Invalid => return Err(Error::Challenge(why(order).await)),
            OrderStatus::Pending | OrderStatus::Processing => {}
        }
        sleep(LOOK).await;
        let _ = publish(challenges, gateway).await;
    }
}

/// What the issuer has against the answers.
async fn why(order: &mut Order) -> String {
    let mut authorizations = order.authorizations();
    let mut all = Vec::new();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let Ok(state) = authorization.refresh().await else {
            continue;
        };
        all.extend(
            state
                .challenges
                .iter()
                .filter_map(|one| one.error.as_ref())
                .map(said),
        );
    }
    match all.is_empty() {
        true => "it does not say why".to_owned(),
        false => all.join("; "),
    }
}

async fn until_issued(order: &mut Order) -> Result<String, Error> {
    loop {
        match order.refresh().await?.status {
            OrderStatus::Invalid => {
                let error = order.state().error.as_ref();
                return Err(Error::Issuer(
                    error.map_or("the order is invalid".to_owned(), said),
                ));
            }
            OrderStatus::Valid => break,
            _ => sleep(LOOK).await,
        }
    }
    let chain = order.certificate().await?;
    chain.ok_or_else(|| Error::Issuer("it gave no certificate".to_owned()))
}
