//! A tree that another user has built in, with everything that could lead root astray.
#![allow(missing_docs, clippy::print_stdout, clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{Mode, OFlags};
use towpath::build::{self, Cache, Error};
use towpath_shim::protocol::User;

/// A user that nobody is.
const BUILDER: User = User {
    uid: 61_998,
    gid: 61_998,
};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A folder with `builds/b`, the tree, and `root`, which is none of the builder's business.
struct Place(PathBuf);

impl Place {
    /// Nothing where this test cannot be another user.
    fn new() -> Option<Place> {
        if !rustix::process::geteuid().is_root() {
            println!("not root: what a build of another user leaves is left out");
            return None;
        }
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("towpath-builder-{}-{number}", std::process::id());
        let place = Place(std::env::temp_dir().join(name));
        fs::create_dir_all(place.tree().join("src")).unwrap();
        fs::create_dir_all(place.root()).unwrap();
        fs::set_permissions(place.root(), fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(place.root().join("secret"), "secret").unwrap();
        fs::write(place.tree().join("src/main"), "main").unwrap();
        Some(place)
    }

    fn given() -> Option<Place> {
        let place = Place::new()?;
        build::give(&place.tree(), BUILDER).unwrap();
        Some(place)
    }

    fn tree(&self) -> PathBuf {
        self.0.join("builds/b")
    }

    fn root(&self) -> PathBuf {
        self.0.join("root")
    }

    /// What the builder does in the tree.
    fn build(&self, line: &str) -> bool {
        let mut sh = Command::new("sh");
        sh.args(["-c", line]).current_dir("/").env("T", self.tree());
        sh.env("ROOT", self.root())
            .uid(BUILDER.uid)
            .gid(BUILDER.gid);
        sh.stderr(std::process::Stdio::null())
            .status()
            .unwrap()
            .success()
    }

    fn secret_is_untouched(&self) {
        let found = fs::symlink_metadata(self.root().join("secret")).unwrap();
        assert_eq!((found.uid(), found.mode() & 0o7777), (0, 0o644));
        assert_eq!(
            fs::read_to_string(self.root().join("secret")).unwrap(),
            "secret"
        );
        let names = fs::read_dir(self.root()).unwrap().count();
        assert_eq!(names, 1, "something was put beside it");
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = build::remove(&self.0);
    }
}

#[test]
fn whoever_builds_writes_while_it_builds_and_never_again() {
    let Some(place) = Place::new() else { return };
    assert!(!place.build("echo x >> $T/src/main"), "before it is given");
    build::give(&place.tree(), BUILDER).unwrap();
    let built = "cd $T && echo x >> src/main && mkdir -m 700 own && echo y > own/file \
        && chmod 600 own/file && cp /bin/sh own/sh && chmod 6777 own/sh";
    assert!(place.build(built));
    build::take(&place.tree(), BUILDER).unwrap();
    for attempt in [
        "echo x >> $T/src/main",
        "rm $T/src/main",
        "mv $T/own $T/other",
        "chmod 777 $T/own",
        "echo x > $T/own/new",
        "echo x >> $T/own/file",
    ] {
        assert!(!place.build(attempt), "{attempt}");
    }
    assert!(
        place.build("test \"$(cat $T/own/file)\" = y"),
        "it reads on"
    );
    let mode = |name: &str| fs::metadata(place.tree().join(name)).unwrap().mode() & 0o7777;
    assert_eq!(mode("own/sh") & 0o7022, 0);
    assert_eq!((mode("own/file"), mode("own")), (0o640, 0o750));
    // A crash repeats the step.
    build::take(&place.tree(), BUILDER).unwrap();
}

#[test]
fn links_pipes_and_names_elsewhere_lead_root_nowhere() {
    let Some(place) = Place::given() else { return };
    let planted = "cd $T && ln -s $ROOT out && ln -s $ROOT/secret file && mkfifo pipe \
        && echo 1 > one && ln one two && mkdir /tmp/kept-$$ && ln one /tmp/kept-$$/three \
        && echo /tmp/kept-$$ > where";
    assert!(place.build(planted));
    let kept = fs::read_to_string(place.tree().join("where")).unwrap();
    let third = Path::new(kept.trim()).join("three");
    build::take(&place.tree(), BUILDER).unwrap();
    place.secret_is_untouched();
    let own = |name: &str| fs::symlink_metadata(place.tree().join(name)).unwrap().uid();
    assert_eq!([own("out"), own("one"), own("two")], [0, 0, 0]);
    assert!(!place.tree().join("pipe").exists());
    // Its third name is still the builder's, and no way into the tree any more.
    fs::write(&third, "changed").unwrap();
    for name in ["one", "two"] {
        assert_eq!(fs::read_to_string(place.tree().join(name)).unwrap(), "1\n");
    }
    fs::remove_dir_all(kept.trim()).unwrap();
    let packed = build::pack(&place.tree(), &["out/secret".into()], Vec::new());
    assert!(matches!(packed, Err(Error::Hostile(_))), "{packed:?}");
    assert!(build::read(&place.tree(), Path::new("file"), 100).is_err());
}

#[test]
fn what_belongs_to_somebody_else_is_refused_and_stays_theirs() {
    let Some(place) = Place::given() else { return };
    // As where the kernel does not protect hard links; and a file of a third user.
    fs::hard_link(place.root().join("secret"), place.tree().join("hard")).unwrap();
    let taken = build::take(&place.tree(), BUILDER);
    assert!(matches!(taken, Err(Error::Hostile(_))), "{taken:?}");
    place.secret_is_untouched();
    fs::remove_file(place.tree().join("hard")).unwrap();
    fs::write(place.tree().join("third"), "").unwrap();
    chown(place.tree().join("third"), Some(61_997), None).unwrap();
    let taken = build::take(&place.tree(), BUILDER);
    assert!(matches!(taken, Err(Error::Hostile(_))), "{taken:?}");
    build::remove(&place.tree()).unwrap();
    place.secret_is_untouched();
}

#[test]
fn a_mark_that_a_build_makes_says_nothing_and_leads_nowhere() {
    let Some(place) = Place::given() else { return };
    let planted = "cd $T && touch .towpath-built && ln -s $ROOT/new .towpath-built.new";
    assert!(place.build(planted));
    assert!(!build::is_built(&place.tree()));
    build::take(&place.tree(), BUILDER).unwrap();
    assert!(!build::is_built(&place.tree()), "it was planted before");
    build::mark_built(&place.tree()).unwrap();
    assert!(build::is_built(&place.tree()));
    place.secret_is_untouched();
}

#[test]
fn folders_without_end_are_refused_and_removed() {
    let Some(place) = Place::given() else { return };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let mut folder = rustix::fs::open(place.tree(), flags, Mode::empty()).unwrap();
    for _ in 0..3_000 {
        rustix::fs::mkdirat(&folder, "d", Mode::RWXU).unwrap();
        folder = rustix::fs::openat(&folder, "d", flags, Mode::empty()).unwrap();
    }
    drop(folder);
    let taken = build::take(&place.tree(), BUILDER);
    assert!(matches!(taken, Err(Error::Hostile(_))), "{taken:?}");
    build::remove(&place.tree()).unwrap();
    assert!(!place.tree().exists());
    place.secret_is_untouched();
}

#[test]
fn a_cache_is_copied_with_the_rights_of_whoever_builds() {
    let Some(place) = Place::given() else { return };
    let state = place.0.clone();
    fs::create_dir(state.join("cache")).unwrap();
    chown(state.join("cache"), Some(BUILDER.uid), Some(BUILDER.gid)).unwrap();
    let cache = |folder: &str| {
        let tree = place.tree();
        Cache::new(
            &state,
            (&tree, Path::new(".")),
            Path::new(folder),
            Some(BUILDER),
        )
    };
    assert!(place.build("mkdir -p $T/deps && echo 1 > $T/deps/a"));
    cache("deps").store().unwrap();
    assert!(place.build("rm -r $T/deps"));
    cache("deps").restore().unwrap();
    let restored = fs::metadata(place.tree().join("deps/a")).unwrap();
    assert_eq!(restored.uid(), BUILDER.uid);
    // The way there leads to root: nothing of that is copied, and nothing made there.
    assert!(place.build("ln -s $ROOT $T/way"));
    symlink(place.root(), place.tree().join("again")).unwrap();
    for folder in ["again/.", "way/."] {
        let stored = cache(folder).store();
        assert!(
            stored.is_err(),
            "{folder} was copied with the rights of root"
        );
    }
    assert!(place.build("mkdir -p $T/p/q && echo 1 > $T/p/q/f"));
    cache("p/q").store().unwrap();
    assert!(place.build("rm -r $T/p && ln -s $ROOT $T/p"));
    assert!(cache("p/q").restore().is_err());
    place.secret_is_untouched();
}

#[test]
fn a_lock_file_that_is_none_is_not_waited_for() {
    let Some(place) = Place::given() else { return };
    assert!(place.build("mkfifo $T/Cargo.lock && ln -s /dev/zero $T/go.sum"));
    let tree = place.tree();
    let cache = Cache::new(
        &place.0,
        (&tree, Path::new(".")),
        Path::new("none"),
        Some(BUILDER),
    );
    cache.restore().unwrap();
}
