//! The `tow` command.

/// A packager may name the build.
const VERSION: &str = match option_env!("TOWPATH_BUILD") {
    Some(build) => build,
    None => env!("CARGO_PKG_VERSION"),
};

fn main() -> std::process::ExitCode {
    tow::main(VERSION)
}
