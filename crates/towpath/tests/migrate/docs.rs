//! The examples of `docs/migrations.md` do what it says of them.

use std::path::Path;

use towpath::migrate::Engine;

use crate::database::Database;

/// The blocks marked `sql`: the file that each is, and its text.
fn examples(text: &str) -> Vec<(String, String)> {
    let blocks = text.split("```sql\n").skip(1);
    let blocks = blocks.map(|rest| rest.split("```").next().unwrap());
    blocks
        .map(|block| {
            let (first, rest) = block.split_once('\n').unwrap();
            (
                first.strip_prefix("-- file: ").unwrap().to_owned(),
                rest.to_owned(),
            )
        })
        .collect()
}

#[test]
fn every_example_is_applied_or_refused_as_it_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/migrations.md");
    let examples = examples(&std::fs::read_to_string(path).unwrap());
    let database = Database::of(Engine::Sqlite).unwrap();
    let (mut applied, mut refused) = (0, 0);
    for (file, text) in examples {
        database.write(&[(file.as_str(), text.as_str())]);
        match text
            .lines()
            .find_map(|line| line.strip_prefix("-- refused: "))
        {
            Some(says) => {
                let shown = database.up().unwrap_err().diagnostic("db").render(false);
                assert!(shown.contains(says), "{shown}");
                refused += 1;
            }
            None => {
                applied += database
                    .up()
                    .unwrap_or_else(|error| panic!("{file}: {error}"))
                    .len()
            }
        }
    }
    assert_eq!((applied, refused), (4, 1));
}
