//! `.env.example`: every name, what it is, and what it is on this machine; never a secret.

use std::collections::BTreeMap;

use super::{Item, quoted};

pub(super) fn render(items: &[Item], given: &BTreeMap<String, String>) -> String {
    let mut text = String::from(
        "# Written by `tow config render --format env-example`: change `tow.toml` instead.\n",
    );
    for item in items {
        let optional = if item.always { "" } else { "; may be left out" };
        text += &format!("\n# {}{optional}\n", item.comment());
        let value = item.local.as_deref().unwrap_or_default();
        text += &format!("{}={}\n", item.name, bare(value));
    }
    if !given.is_empty() {
        text += "\n# Given by Towpath where it runs the services:\n";
    }
    for (name, what) in given {
        text += &format!("# {name}: {}\n", what.replace('\n', " "));
    }
    text
}

/// Without quotes where every reader of such files takes it the same way.
fn bare(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:,@+%=".contains(c);
    match value.chars().all(plain) {
        true => value.to_owned(),
        false => quoted(value),
    }
}
