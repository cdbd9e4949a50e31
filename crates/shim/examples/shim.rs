//! A shim as a program of its own: `shim DIR`. The tests run it.
use std::path::PathBuf;

fn main() -> Result<(), towpath_shim::Error> {
    let dir = std::env::args_os().nth(1).map(PathBuf::from);
    towpath_shim::run(&dir.unwrap_or_default())
}
