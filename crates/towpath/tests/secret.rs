//! Encrypted values, who can open them, and what is found when somebody moves them about.
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use towpath::secret::keep::Keeper;
use towpath::secret::rotation::Given;
use towpath::secret::{Audit, Contact, Error, Event, File, Identity, Pin, Value, audit};

/// A folder of its own, removed with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path =
            std::env::temp_dir().join(format!("towpath-secret-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a folder");
        Folder(path)
    }

    fn identity(&self, name: &str) -> Identity {
        Identity::open(&self.0.join(name)).expect("an identity")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn value(text: &str) -> Value {
    Value::new(text.as_bytes().to_vec()).expect("a value")
}

/// A file that `ana` has begun, with two secrets of staging.
fn begun(ana: &Identity) -> File {
    let mut file = File::new("notes");
    file.admit("ana", &ana.contact(), "staging")
        .expect("a reader");
    for (key, text) in [("A", "the value of a"), ("B", "the value of b")] {
        file.set("staging", key, &value(text), 1, ana)
            .expect("a row");
    }
    file.sign("staging", ana).expect("a signature");
    file
}

#[test]
fn what_is_written_is_read_again_and_is_text_of_lines() {
    let folder = Folder::new("round");
    let ana = folder.identity("ana");
    let file = begun(&ana);
    let text = file.text().expect("a text");
    assert!(!text.contains("the value"), "{text}");
    assert_eq!(
        text.lines()
            .filter(|line| line.starts_with("A = {"))
            .count(),
        1
    );
    let again = File::parse(&text).expect("a file");
    assert_eq!(again, file);
    again.verify("staging").expect("as it was signed");
    let opened = again.open("staging", "B", &ana).expect("a value");
    assert_eq!(opened.reveal(), "the value of b");
    assert_eq!(format!("{opened:?}"), "a secret");
    // A parser's message must not show a line of it.
    let torn = text.replace("version = 1", "version = one");
    let said = File::parse(&torn).expect_err("a refusal").to_string();
    assert!(
        said.starts_with("tow.secrets.toml:") && !said.contains("value ="),
        "{said}"
    );
}

#[test]
fn a_value_opens_in_its_own_place_only() {
    let folder = Folder::new("place");
    let ana = folder.identity("ana");
    let file = begun(&ana);
    let swapped = |change: &dyn Fn(&mut File)| {
        let mut file = file.clone();
        change(&mut file);
        // Even by somebody who may sign.
        file.sign("staging", &ana).expect("a signature");
        file.verify("staging").expect("as it was signed");
        let environment = file
            .environments
            .keys()
            .next_back()
            .expect("an environment")
            .clone();
        let opened = file.open(&environment, "A", &ana);
        assert!(matches!(opened, Err(Error::Swapped(_))), "{opened:?}");
    };
    swapped(&|file| {
        let rows = &mut file.environments.get_mut("staging").expect("rows").rows;
        let b = rows["B"].clone();
        rows.insert("A".to_owned(), b);
    });
    swapped(&|file| {
        let rows = &mut file.environments.get_mut("staging").expect("rows").rows;
        rows.get_mut("A").expect("a row").version = 2;
    });
    swapped(&|file| file.project = "other".to_owned());
    swapped(&|file| {
        let copy = file.environments["staging"].clone();
        file.environments.insert("zone".to_owned(), copy);
    });
}

#[test]
fn only_readers_read_and_nobody_writes_what_they_could_not_read() {
    let folder = Folder::new("readers");
    let (ana, bob, eve) = (
        folder.identity("ana"),
        folder.identity("bob"),
        folder.identity("eve"),
    );
    let mut file = begun(&ana);
    assert!(matches!(
        file.open("staging", "A", &bob),
        Err(Error::Closed(_))
    ));
    let refused = file.set("staging", "A", &value("by a stranger"), 2, &bob);
    assert!(matches!(refused, Err(Error::Closed(_))), "{refused:?}");
    assert_eq!(file.row("staging", "A").expect("a row").version, 1);
    assert!(file.sign("staging", &bob).is_err());

    // One who only reads, and is known by the bare recipient.
    let contact = Contact::parse(&bob.contact().recipient).expect("a recipient");
    file.admit("bob", &contact, "staging").expect("a reader");
    file.seal_again("staging", &ana).expect("values");
    file.sign("staging", &ana).expect("a signature");
    assert_eq!(
        file.open("staging", "A", &bob).expect("a value").reveal(),
        "the value of a"
    );
    assert!(
        file.sign("staging", &bob).is_err(),
        "a reader without a key has signed"
    );
    assert!(
        file.admit("ana", &eve.contact(), "staging").is_err(),
        "a name was taken over"
    );
    assert!(Contact::parse("age1nonsense").is_none());
}

#[test]
fn a_file_of_before_and_one_by_a_stranger_are_refused() {
    let folder = Folder::new("pin");
    let (ana, eve) = (folder.identity("ana"), folder.identity("eve"));
    let first = begun(&ana);
    let mut second = first.clone();
    second
        .set("staging", "A", &value("another"), 2, &ana)
        .expect("a row");
    second.sign("staging", &ana).expect("a signature");
    let pin = Pin::next(None, &first, "staging").expect("a first look");
    let pin = Pin::next(Some(&pin), &second, "staging").expect("what follows");
    Pin::next(Some(&pin), &second, "staging").expect("the same again");
    assert!(
        Pin::next(Some(&pin), &first, "staging").is_err(),
        "set back"
    );

    // Another second one: of a branch that was not merged.
    let mut other = first.clone();
    other
        .set("staging", "B", &value("another"), 2, &ana)
        .expect("a row");
    other.sign("staging", &ana).expect("a signature");
    assert!(
        Pin::next(Some(&pin), &other, "staging").is_err(),
        "two of one generation"
    );

    // Somebody who can write to the repository makes himself a reader, and signs.
    let mut taken = second.clone();
    taken
        .admit("eve", &eve.contact(), "staging")
        .expect("a reader");
    taken.sign("staging", &eve).expect("a signature");
    taken.verify("staging").expect("right in itself");
    assert!(
        Pin::next(Some(&pin), &taken, "staging").is_err(),
        "signed by a stranger"
    );

    // An agent takes what follows, for its own environment, and nothing else.
    let keeper = Keeper::new(&folder.0);
    let none = Given::new();
    let part = second.part("staging").expect("a part");
    keeper
        .take(&part, "notes", "staging", &none)
        .expect("taken");
    assert!(keeper.take(&part, "notes", "production", &none).is_err());
    assert!(keeper.take(&part, "other", "staging", &none).is_err());
    assert!(
        keeper
            .take(
                &first.part("staging").expect("a part"),
                "notes",
                "staging",
                &none
            )
            .is_err()
    );
    assert!(
        keeper
            .take(
                &taken.part("staging").expect("a part"),
                "notes",
                "staging",
                &none
            )
            .is_err()
    );
    let lack = keeper
        .lacks("staging", &["A".to_owned(), "C".to_owned()])
        .expect("an answer");
    assert_eq!(
        (lack.closed, lack.missing),
        (vec!["A".to_owned()], vec!["C".to_owned()])
    );
}

#[test]
fn an_identity_is_its_owners_alone() {
    let folder = Folder::new("identity");
    let first = folder.identity("own").contact();
    assert_eq!(folder.identity("own").contact(), first, "made twice");
    let path = folder.0.join("own");
    let mode = |path: &PathBuf| {
        std::fs::metadata(path)
            .expect("a file")
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(mode(&path), 0o600);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).expect("a mode");
    assert!(Identity::open(&path).is_err(), "others could read it");
}

fn event(action: &str) -> Event {
    Event {
        seq: 0,
        at_ms: 1,
        actor: "ana".to_owned(),
        action: action.to_owned(),
        environment: "staging".to_owned(),
        keys: vec!["A 1".to_owned()],
        before: String::new(),
    }
}

#[test]
fn a_chain_survives_a_crash_at_every_byte_of_its_last_row() {
    let folder = Folder::new("chain");
    let ana = folder.identity("ana");
    let key = ana.contact().key.expect("a key");
    let path = folder.0.join("rows.audit");
    let chain = Audit::new(path.clone(), "test");
    for action in ["set", "get", "get"] {
        chain.add(event(action), &ana).expect("a row");
    }
    let whole = std::fs::read(&path).expect("rows");
    let head = std::fs::read(path.with_extension("head")).expect("a head");
    let text = String::from_utf8(whole.clone()).expect("text");
    let begin = text[..text.len() - 1].rfind('\n').expect("a row before") + 1;
    for end in begin..=whole.len() {
        std::fs::write(&path, &whole[..end]).expect("a torn file");
        std::fs::write(path.with_extension("head"), &head).expect("a head");
        let (rows, signed) = chain.read().expect("rows");
        let events = chain.verify(&rows, signed.as_ref(), &key, None);
        assert_eq!(events.expect("a whole chain").len(), 3, "cut at {end}");
        chain.add(event("set"), &ana).expect("a further row");
        let (rows, signed) = chain.read().expect("rows");
        let events = chain.verify(&rows, signed.as_ref(), &key, None);
        assert_eq!(events.expect("a whole chain").len(), 4, "cut at {end}");
    }
    // What was seen is remembered: rows and head of before do not follow it.
    let (_, later) = chain.read().expect("rows");
    std::fs::write(&path, &whole).expect("rows");
    std::fs::write(path.with_extension("head"), &head).expect("a head");
    let (rows, signed) = chain.read().expect("rows");
    chain
        .verify(&rows, signed.as_ref(), &key, None)
        .expect("whole in itself");
    let found = chain.verify(&rows, signed.as_ref(), &key, later.as_ref());
    assert!(matches!(found, Err(Error::Chain(_))), "{found:?}");
    let stranger = folder.identity("eve").contact().key.expect("a key");
    assert!(
        chain
            .verify(&rows, signed.as_ref(), &stranger, None)
            .is_err()
    );
}

/// Who is stopped in the middle of a rotation, and starts again, has what he had before: the other value may be what
/// nothing starts with.
#[test]
fn whoever_starts_again_in_a_rotation_has_what_he_had() {
    let folder = Folder::new("again");
    let keeper = Keeper::new(&folder.0);
    let agent = keeper.identity().expect("an identity");
    let mut file = begun(&agent);
    let key = || "A".to_owned();
    let take = |file: &mut File| {
        file.sign("staging", &agent).expect("a signature");
        let part = file.part("staging").expect("a part");
        let none = Given::new();
        keeper
            .take(&part, "notes", "staging", &none)
            .expect("taken");
    };
    // The value under its own name, and the one beside it.
    let gets = |whom: &str| {
        let env = keeper.hand_over(whom, &[key()]).expect("secrets").env;
        [env.get("A").cloned(), env.get("A_PREVIOUS").cloned()]
    };
    let both = |first: &str, then: &str| [Some(first.to_owned()), Some(then.to_owned())];
    let alone = |text: &str| [Some(text.to_owned()), None];
    let (old, new) = ("the value of a", "another");
    take(&mut file);
    assert_eq!(gets("first"), alone(old));

    file.rotate("staging", "A", &value(new), true, 2, &agent)
        .expect("a rotation");
    take(&mut file);
    assert_eq!(gets("first"), alone(old), "it had no other");
    assert_eq!(gets("second"), both(new, old));
    assert_eq!(gets("second"), both(new, old), "and again");

    // Turned back to, the old value has a third version, which nobody was given under that number.
    file.turn_round("staging", "A", true, &agent)
        .expect("the way back");
    take(&mut file);
    assert_eq!(gets("third"), both(old, new));
    assert_eq!(
        gets("first"),
        alone(old),
        "the same value by another number"
    );
    assert_eq!(gets("second"), both(new, old), "both, as it had them");

    // What the agent reads for itself is what is now, whatever it read before.
    keeper.note("second", &[key()]).expect("a note");
    let chain = audit::of_agent(&folder.0, "notes", "staging");
    let (rows, _) = chain.read().expect("a chain");
    assert_eq!(audit::given(&rows)["second"]["A"], 3);
    file.advance("staging", "A", None, 0);
    take(&mut file);
    assert_eq!(gets("second"), alone(old));
}

/// Of a value that is set anew the old one stays as long as what serves has it: nobody knows of the new one yet whether
/// anything starts with it.
#[test]
fn whoever_starts_again_after_a_value_was_set_has_what_he_had() {
    let folder = Folder::new("set");
    let keeper = Keeper::new(&folder.0);
    let agent = keeper.identity().expect("an identity");
    let mut file = begun(&agent);
    let mut take = |text: Option<&str>, in_use: u32| {
        if let Some(text) = text {
            file.set("staging", "A", &value(text), 2, &agent)
                .expect("a row");
        }
        file.sign("staging", &agent).expect("a signature");
        let part = file.part("staging").expect("a part");
        let in_use = Given::from([("A".to_owned(), in_use)]);
        keeper
            .take(&part, "notes", "staging", &in_use)
            .expect("taken");
    };
    let gets = |whom: &str| {
        let handed = keeper
            .hand_over(whom, &["A".to_owned(), "B".to_owned()])
            .expect("secrets");
        assert_eq!(handed.env["B"], "the value of b");
        let value = handed.env["A"].clone();
        assert!(handed.conceal.contains(&value));
        value
    };
    take(None, 1);
    assert_eq!(gets("first"), "the value of a");
    take(Some("second"), 1);
    assert_eq!(gets("first"), "the value of a");
    assert_eq!(gets("new"), "second");
    assert_eq!(gets("new"), "second");
    // What serves has the first value still, whatever was tried in between.
    take(Some("the third"), 1);
    assert_eq!(gets("first"), "the value of a");
    assert_eq!(gets("new"), "the third", "the second is nowhere");
    take(None, 1);
    assert_eq!(gets("first"), "the value of a", "said again");
    let before = folder.0.join("secrets.before.toml");
    let text = std::fs::read_to_string(&before).expect("what was replaced");
    assert!(!text.contains("the value"), "{text}");
    // The third serves: the way back to the first is a new one.
    take(Some("the fourth"), 3);
    assert_eq!(gets("new"), "the third");
    let file = folder.0.join("tow.secrets.toml");
    let text = std::fs::read_to_string(file).expect("what is here");
    assert!(text.contains("version = 4"), "{text}");
    take(None, 4);
    assert!(!before.exists(), "nobody has it");
}
