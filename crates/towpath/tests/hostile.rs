//! Manifests that nobody would write by hand: nothing panics, and every label lies inside the text.
use std::ops::Range;
use std::path::Path;

use towpath::config::{check_text, resolve};
use towpath::diagnostic::Report;
use towpath::manifest::{MAX_BYTES, Manifest};

fn flowscope() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/manifest");
    std::fs::read_to_string(folder.join("good-flowscope.toml")).expect("a readable manifest")
}

/// Puts a text through everything there is; the codes of what is wrong with it.
fn put_through(text: &str) -> Vec<String> {
    let report = check_text("tow.toml", text);
    assert_inside(&report, text);
    assert!(!report.render(false).contains('\u{1b}'));
    match Manifest::parse("tow.toml", text) {
        Err(refusal) => {
            assert!(!refusal.diagnostics.is_empty());
            assert_inside(&refusal, text);
        }
        Ok(manifest) => {
            for environment in manifest.environments() {
                let config = resolve(&manifest, environment);
                let wrong = config.map_or_else(|report| report.diagnostics, |_| Vec::new());
                for diagnostic in &wrong {
                    assert!(
                        report.diagnostics.contains(diagnostic),
                        "{diagnostic:?} is not in the check"
                    );
                }
            }
        }
    }
    report
        .diagnostics
        .iter()
        .map(|d| d.code.to_string())
        .collect()
}

fn assert_inside(report: &Report, text: &str) {
    for diagnostic in &report.diagnostics {
        assert!(!diagnostic.message.is_empty());
        for label in &diagnostic.labels {
            let Range { start, end } = label.span;
            assert!(
                text.get(start..end).is_some(),
                "{diagnostic:?} lies outside"
            );
        }
    }
}

#[test]
fn every_line_can_be_missing() {
    let whole = flowscope();
    let lines: Vec<&str> = whole.lines().collect();
    let mut refused = 0;
    for gone in 0..lines.len() {
        let kept = lines.iter().enumerate().filter(|(index, _)| *index != gone);
        let text: Vec<&str> = kept.map(|(_, line)| *line).collect();
        refused += usize::from(!put_through(&text.join("\n")).is_empty());
    }
    assert!(
        refused > lines.len() / 5,
        "only {refused} of {} refused",
        lines.len()
    );
}

#[test]
fn it_can_be_cut_anywhere() {
    let whole = flowscope();
    let places: Vec<usize> = (0..=whole.len())
        .filter(|at| whole.is_char_boundary(*at))
        .collect();
    for at in &places {
        put_through(&whole[..*at]);
    }
    for (index, start) in places.iter().enumerate().step_by(3) {
        let length = [1, 7, 60, 300][index % 4];
        if let Some(end) = places.get(index + length) {
            put_through(&format!("{}{}", &whole[..*start], &whole[*end..]));
        }
    }
}

/// Where each word of a text that may be a key, a name or a value stands.
fn words(text: &str) -> Vec<Range<usize>> {
    let mut words: Vec<Range<usize>> = Vec::new();
    for (at, letter) in text.char_indices() {
        if !letter.is_alphanumeric() && letter != '_' {
            continue;
        }
        match words.last_mut() {
            Some(word) if word.end == at => word.end = at + letter.len_utf8(),
            _ => words.push(at..at + letter.len_utf8()),
        }
    }
    words
}

#[test]
fn every_word_can_be_another() {
    let whole = flowscope();
    let others = [
        "",
        "x",
        "zzz",
        "x-y",
        "unset",
        "0",
        "-1",
        "1e999",
        "true",
        "[]",
        "{}",
        "\"\"",
        "\"\\u0000\"",
        "é💥",
        "${",
        "..",
        "\0",
    ];
    let mut refused = 0;
    let mut cases = 0;
    for (index, word) in words(&whole).into_iter().enumerate() {
        // Each word with a few, and each of them somewhere: all with all would take a minute.
        for other in others.iter().skip(index % 4).step_by(4) {
            let text = format!("{}{other}{}", &whole[..word.start], &whole[word.end..]);
            refused += usize::from(!put_through(&text).is_empty());
            cases += 1;
        }
    }
    assert!(refused * 2 > cases, "only {refused} of {cases} refused");
}

#[test]
fn every_key_that_is_misspelt_is_found() {
    let whole = flowscope();
    let known = [
        "build", "cache", "run", "route", "ready", "alive", "needs", "env", "role", "within",
        "grace", "rate", "write",
    ];
    for key in known {
        let misspelt = format!("{}q{}", &key[..1], &key[1..]);
        for place in words(&whole)
            .into_iter()
            .filter(|word| &whole[word.clone()] == key)
        {
            let after = whole[place.end..].trim_start();
            if !after.starts_with('=') {
                continue;
            }
            let text = format!("{}{misspelt}{}", &whole[..place.start], &whole[place.end..]);
            let report = check_text("tow.toml", &text);
            let unknown = report
                .diagnostics
                .iter()
                .find(|d| d.code == "manifest::unknown-key");
            let unknown = unknown.unwrap_or_else(|| panic!("{misspelt} was not found"));
            assert_eq!(
                unknown.labels[0].span,
                place.start..place.start + misspelt.len()
            );
            assert_eq!(unknown.help, Some(format!("did you mean `{key}`?")));
        }
    }
}

#[test]
fn deep_nesting_is_refused() {
    let dotted = vec!["a"; 79].join(".");
    let mut inline = "1".to_owned();
    for _ in 0..79 {
        inline = format!("{{ {dotted} = {inline} }}");
    }
    for text in [
        format!("[secrets]\nk = {inline}"),
        format!("[{dotted}]\nk = {inline}"),
        format!("[secrets.{}]\nk = 1", vec!["a"; 70].join(".")),
        format!("secrets = {}1{}", "[".repeat(100_000), "]".repeat(100_000)),
        format!("secrets = {}", "{a=".repeat(100_000)),
        format!("{}=1", vec!["a"; 100_000].join(".")),
    ] {
        assert!(!put_through(&text).is_empty());
    }
}

#[test]
fn large_files_are_refused_and_full_ones_are_not_slow() {
    let larger = "#".repeat(10 * MAX_BYTES);
    assert_eq!(put_through(&larger), ["manifest::too-large"]);
    let full = format!(
        "{}{}",
        flowscope(),
        "#".repeat(MAX_BYTES - flowscope().len())
    );
    assert_eq!(put_through(&full), [""; 0]);

    let unknown: String = (0..10_000).map(|index| format!("k{index} = 1\n")).collect();
    assert!(
        put_through(&unknown)
            .iter()
            .any(|code| code == "manifest::unknown-key")
    );
    let services: String = (0..2_000)
        .map(|index| format!("services.s{index}.run = 'a'\n"))
        .collect();
    assert!(
        put_through(&services)
            .iter()
            .any(|code| code == "manifest::too-many")
    );
    let needs: Vec<String> = (0..5_000).map(|index| format!("'n{index}'")).collect();
    let needs = format!(
        "app = 'a'\nservices.a = {{ run = 'a', needs = [{}] }}",
        needs.join(",")
    );
    assert!(
        put_through(&needs)
            .iter()
            .any(|code| code == "manifest::too-many")
    );
}

#[test]
fn line_ends_and_marks_of_other_editors_are_fine() {
    let windows = flowscope().replace('\n', "\r\n");
    assert_eq!(put_through(&windows), [""; 0]);
    assert_eq!(put_through(&format!("\u{feff}{}", flowscope())), [""; 0]);
    let wrong = windows.replace("alive =", "alvie =");
    let report = check_text("tow.toml", &wrong);
    assert_eq!(
        report.position(report.diagnostics[0].labels[0].span.start),
        (11, 1)
    );
    assert!(!report.render(false).contains('\r'));
}

#[test]
fn bytes_that_are_no_text_are_refused() {
    let codes = |bytes: &[u8]| {
        let report = Manifest::parse_bytes("tow.toml", bytes).expect_err("a refusal");
        report.render(false);
        report.diagnostics[0].code.clone()
    };
    assert_eq!(codes(b"app = \"caf\xe9\""), "manifest::not-utf8");
    assert_eq!(codes(b"app = \"a\"\0"), "manifest::syntax");
    assert_eq!(codes(&vec![0xff; 10 * MAX_BYTES]), "manifest::too-large");
    assert!(Manifest::parse_bytes("tow.toml", flowscope().as_bytes()).is_ok());
}

#[test]
fn what_a_file_says_does_not_drive_the_terminal() {
    let report = check_text("tow.toml", "\"\\u001b[2Jred\" = 1\napp = \"\\u001b[31m\"");
    assert!(!report.render(false).contains('\u{1b}'));
}
