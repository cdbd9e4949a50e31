//! What a dry run brings along, so that it plans with what the real run would be sent first.

use towpath::agent::api::{Trouble, What};

use super::{failed, file};
use crate::place::Place;

/// The environment's part of the file, for a dry run of something that starts services; its agent keeps nothing of it.
pub fn offer(place: &Place, what: &What) -> Result<Option<String>, Trouble> {
    if matches!(what, What::Down | What::Migrate { .. }) {
        return Ok(None);
    }
    part(place)
}

/// The environment's part of the file, as its agent takes it.
pub fn part(place: &Place) -> Result<Option<String>, Trouble> {
    let part = file(&place.app)?.and_then(|file| file.part(&place.environment));
    let text = part.map(|part| part.text()).transpose();
    text.map_err(|error| failed(&error))
}
