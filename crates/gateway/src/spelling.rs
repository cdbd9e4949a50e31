//! One spelling of all the paths that an application may take for the same.
//!
//! Routes are matched as they are written. Applications read more leniently, each in its own way: escapes are undone
//! before routing, letters have no case, `//` is `/`, what follows a `;` is no part of a name. Whoever counts requests
//! has to assume all of it.

/// A path with its escapes undone once, its letters small, `.`, `..` and empty segments resolved, and nothing behind a
/// `;` in any of them. `/` is empty here.
pub(crate) fn plain(path: &str) -> Vec<u8> {
    let mut text = unescaped(path.as_bytes());
    text.make_ascii_lowercase();
    let mut plain = Vec::with_capacity(text.len());
    for segment in text.split(|byte| matches!(byte, b'/' | b'\\')) {
        let name = segment.split(|byte| *byte == b';').next();
        match name.unwrap_or_default() {
            b"" | b"." => {}
            b".." => {
                let parent = plain.iter().rposition(|byte| *byte == b'/');
                plain.truncate(parent.unwrap_or_default());
            }
            name => {
                plain.push(b'/');
                plain.extend_from_slice(name);
            }
        }
    }
    plain
}

fn unescaped(path: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&first, behind)) = rest.split_first() {
        let escape = (first == b'%').then(|| byte_of(behind)).flatten();
        text.push(escape.unwrap_or(first));
        rest = if escape.is_some() {
            &behind[2..]
        } else {
            behind
        };
    }
    text
}

/// The byte that two digits at the beginning stand for.
fn byte_of(text: &[u8]) -> Option<u8> {
    let digit = |at: usize| char::from(*text.get(at)?).to_digit(16);
    u8::try_from(digit(0)? * 16 + digit(1)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_taken_for_the_same_is_spelled_the_same() {
        for (path, wanted) in [
            ("/", ""),
            ("", ""),
            ("/sign-in", "/sign-in"),
            ("/Sign-In/", "/sign-in"),
            ("/%73ign%2Din", "/sign-in"),
            ("//sign-in//x/.", "/sign-in/x"),
            ("/x/../sign-in", "/sign-in"),
            ("/../../sign-in", "/sign-in"),
            ("/a/b/%2e%2E%2fsign-in", "/a/sign-in"),
            ("/a\\..%5csign-in;v=1/;/x", "/sign-in/x"),
            ("/a/..;b=/sign-in", "/sign-in"),
            // Once, and no more; and what is no escape stays.
            ("/%2573", "/%73"),
            ("/100%", "/100%"),
            ("/%zz%4", "/%zz%4"),
            ("/..a/...", "/..a/..."),
        ] {
            let plain = plain(path);
            assert_eq!(String::from_utf8_lossy(&plain), wanted, "{path}");
        }
        assert_eq!(plain("/%ff%00"), b"/\xff\0");
    }
}
