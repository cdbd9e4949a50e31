//! The same program under the name of a later build: what a test upgrades to.

fn main() -> std::process::ExitCode {
    tow::main("next")
}
