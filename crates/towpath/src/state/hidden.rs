//! A state beside a manifest lies in somebody's repository, and holds keys: git is told to leave all of it out.

use std::io::Write;
use std::path::Path;

/// What the folder of a state beside a manifest is called.
const BESIDE: &str = ".tow";

/// Tells git, where `dir` is such a folder and says nothing to it yet.
pub(super) fn hide(dir: &Path) {
    let is_beside = dir.ends_with(BESIDE)
        && dir
            .parent()
            .is_some_and(|above| above.join("tow.toml").is_file());
    if !is_beside {
        return;
    }
    let file = std::fs::File::options()
        .write(true)
        .create_new(true)
        .open(dir.join(".gitignore"));
    // On a full disk the state matters more; the next one who opens it writes this.
    let _ = file.and_then(|mut file| file.write_all(b"*\n"));
}

#[cfg(test)]
mod tests {
    use std::fs;

    use crate::clock::Clock;
    use crate::state::Store;

    #[test]
    fn a_state_beside_a_manifest_is_hidden_from_git_and_no_other_is() {
        let name = format!("towpath-hidden-{}", std::process::id());
        let root = std::env::temp_dir().join(name);
        let open = |dir: &str| drop(Store::open(&root.join(dir), Clock::system()).unwrap());
        let said = |dir: &str| fs::read_to_string(root.join(dir).join(".gitignore")).ok();
        open("alone/.tow");
        assert_eq!(said("alone/.tow"), None, "there is no manifest");
        fs::create_dir_all(root.join("app")).unwrap();
        fs::write(root.join("app/tow.toml"), "").unwrap();
        open("app/.tow");
        assert_eq!(said("app/.tow").as_deref(), Some("*\n"));
        assert_eq!(said("app"), None);
        open("app/staging");
        assert_eq!(said("app/staging"), None, "that is not ours to hide");
        fs::write(root.join("app/.tow/.gitignore"), "run\n").unwrap();
        open("app/.tow");
        assert_eq!(said("app/.tow").as_deref(), Some("run\n"), "it is theirs");
        fs::remove_dir_all(&root).unwrap();
    }
}
