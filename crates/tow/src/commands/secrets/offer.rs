//! What a dry run brings along, so that it plans with what the real run would be sent first.

use towpath::agent::api::{Trouble, What};
use towpath::secret::File;

use super::failed;
use crate::place::Place;

/// The environment's part of the file, for a dry run of something that starts services; its agent keeps nothing of it.
pub fn offer(place: &Place, what: &What) -> Result<Option<String>, Trouble> {
    if matches!(what, What::Down | What::Migrate { .. }) {
        return Ok(None);
    }
    let file = File::of(&place.app.root, &place.app.name).map_err(|error| failed(&error))?;
    let part = file.and_then(|file| file.part(&place.environment));
    let text = part.map(|part| part.text()).transpose();
    text.map_err(|error| failed(&error))
}
