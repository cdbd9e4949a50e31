//! Commands that are started without a shell, as a line for one that starts the same.
//!
//! Such a command is a list of words, or a text that is split into them where its quotes say so. What a shell would
//! fill in stands in it to the letter; what is to come from the environment is [`marked`], and that alone is `$NAME`.

use super::command::{is_flag, is_shell};

const BEGIN: char = '\u{e000}';
const END: char = '\u{e001}';

/// Stands for a variable, until it is known what it stands in.
pub fn marked(name: &str) -> String {
    format!("{BEGIN}{name}{END}")
}

/// Words of a command.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Words {
    /// The words.
    pub words: Vec<String>,
    /// The text that they were, where it has what only a shell understands: `a && b`.
    pub script: Option<String>,
}

/// Why a command cannot be written as a line.
pub type Fault = &'static str;

/// The words of a text.
///
/// # Errors
/// A quote in it does not close.
pub fn split(text: &str) -> Result<Words, Fault> {
    let mut found = Words::default();
    let mut script = String::new();
    let mut is_script = false;
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut letters = text.trim().chars();
    while let Some(letter) = letters.next() {
        let is_fold = letter == '\n' && quote.is_none();
        script.push(if is_fold { ' ' } else { letter });
        match (quote, letter) {
            (Some(open), _) if letter == open => quote = None,
            (Some('"') | None, '\\') => {
                let next = letters.next().unwrap_or('\\');
                script.push(next);
                let stays = quote.is_some() && !"\"\\$`\n".contains(next);
                let word = word.get_or_insert_default();
                word.extend(stays.then_some('\\'));
                word.extend(Some(next).filter(|next| *next != '\n'));
            }
            (Some(_), _) => word.get_or_insert_default().push(letter),
            (None, '"' | '\'') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, _) if letter.is_whitespace() => found.words.extend(word.take()),
            (None, _) => {
                is_script |= ";&|<>".contains(letter);
                word.get_or_insert_default().push(letter);
            }
        }
    }
    if quote.is_some() {
        return Err("its quotes do not close");
    }
    found.words.extend(word);
    found.script = is_script.then_some(script);
    Ok(found)
}

/// One command of several lists of words: a program, and what it is given.
///
/// # Errors
/// There is no line that starts the same.
pub fn line(parts: &[Words]) -> Result<String, Fault> {
    let parts: Vec<_> = parts.iter().filter(|part| !part.words.is_empty()).collect();
    match parts.as_slice() {
        [
            Words {
                script: Some(text), ..
            },
        ] => return script(text),
        parts if parts.iter().all(|part| part.script.is_none()) => {
            let words: Vec<_> = parts.iter().flat_map(|part| &part.words).collect();
            return of_words(&words);
        }
        _ => {}
    }
    if parts
        .iter()
        .any(|part| part.words.iter().any(|word| is_shell(word)))
    {
        return Err("a shell is given less of it than it seems");
    }
    let lines: Result<Vec<_>, _> = parts.iter().map(|part| line_of(part)).collect();
    Ok(lines?.join(" "))
}

fn line_of(part: &Words) -> Result<String, Fault> {
    match &part.script {
        Some(text) => script(text),
        None => of_words(&part.words.iter().collect::<Vec<_>>()),
    }
}

fn of_words(words: &[&String]) -> Result<String, Fault> {
    match words {
        // `["sh", "-c", "line"]` is the line.
        [shell, flag, text] if is_shell(shell) && is_flag(flag) => {
            let options: String = flag.chars().filter(|c| "eux".contains(*c)).collect();
            match options.is_empty() {
                true => script(text),
                false => Ok(format!("set -{options}; {}", script(text)?)),
            }
        }
        _ => {
            let words: Vec<_> = words.iter().map(|word| quoted(word)).collect();
            Ok(words.join(" "))
        }
    }
}

/// What a shell is to read, with its variables.
fn script(text: &str) -> Result<String, Fault> {
    match is_marked_in_quotes(text) {
        true => Err("a variable stands in single quotes, where a shell fills in none"),
        false => Ok(filled(text.trim())),
    }
}

fn is_marked_in_quotes(text: &str) -> bool {
    let mut quote: Option<char> = None;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (Some('\''), BEGIN) => return true,
            (Some(open), _) if letter == open => quote = None,
            (Some('"') | None, '\\') => {
                letters.next();
            }
            (None, '"' | '\'') => quote = Some(letter),
            _ => {}
        }
    }
    false
}

/// Marks as a shell writes them: in braces where the name would go on behind it.
fn filled(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(BEGIN) {
        let (name, after) = after.split_once(END).unwrap_or((after, ""));
        let goes_on = after.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
        out += before;
        out += &match goes_on {
            true => format!("${{{name}}}"),
            false => format!("${name}"),
        };
        rest = after;
    }
    out + rest
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@,+%".contains(c);
    let is_plain = |c: char| plain(c) || c == BEGIN || c == END;
    if !word.is_empty() && word.chars().all(is_plain) {
        return filled(word);
    }
    if !word.contains(BEGIN) {
        return format!("'{}'", word.replace('\'', "'\\''"));
    }
    let mut out = String::new();
    for letter in word.chars() {
        out.extend("\"\\$`".contains(letter).then_some('\\'));
        out.push(letter);
    }
    format!("\"{}\"", filled(&out))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<String, Fault> {
        line(&[split(text)?])
    }

    #[test]
    fn a_text_becomes_the_line_that_starts_the_same() {
        for (text, expected) in [
            ("node  server.js\n --x", "node server.js --x"),
            ("sh -c \"set -e\necho 'a  b'\"\n", "set -e\necho 'a  b'"),
            (
                "bash -c \"w.py $0 $1\" one two",
                "bash -c 'w.py $0 $1' one two",
            ),
            ("sh -ec 'a; b'", "set -e; a; b"),
            ("x 'a b' \"it's\" '' $HOME", r"x 'a b' 'it'\''s' '' '$HOME'"),
            (r#"x a\ b "\"q\" \d""#, r#"x 'a b' '"q" \d'"#),
            ("a  &&\n b 'c\nd'", "a  &&  b 'c\nd'"),
        ] {
            assert_eq!(of(text).as_deref(), Ok(expected), "{text}");
        }
        assert!(of("sh -c \"x").is_err());
    }

    #[test]
    fn variables_are_filled_in_wherever_they_stand() {
        let it = marked("IT");
        for (text, expected) in [
            (format!("x {it} --a={it}b"), "x $IT --a=${IT}b"),
            (format!("x 'a {it} $c'"), "x \"a $IT \\$c\""),
            (format!("sh -c 'x \"{it}\"'"), "x \"$IT\""),
            (format!("a {it} | b"), "a $IT | b"),
        ] {
            assert_eq!(of(&text).as_deref(), Ok(expected));
        }
        assert!(of(&format!("sh -c \"x '{it}'\"")).is_err());
    }

    #[test]
    fn a_program_and_what_it_is_given_are_one_command() {
        let both = |one: &str, other: &str| line(&[split(one)?, split(other)?]);
        let expected = "exec python3 w.py".to_owned();
        assert_eq!(both("/bin/bash -c", "'exec python3 w.py'"), Ok(expected));
        assert_eq!(
            both("wait db --", "a && b").as_deref(),
            Ok("wait db -- a && b")
        );
        assert_eq!(both("sh -c", "a b").as_deref(), Ok("sh -c a b"));
        assert!(both("sh -c", "a && b").is_err());
    }
}
