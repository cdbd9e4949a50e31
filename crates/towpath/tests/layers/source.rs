//! Just enough of Rust's grammar to find the paths in a source.

/// A path that leaves its own place.
#[derive(Debug)]
pub struct Found {
    /// Line of the segment that says where it goes, from 1.
    pub line: usize,
    /// Where it goes.
    pub reach: Reach,
}

/// Where a path goes.
#[derive(Debug, PartialEq, Eq)]
pub enum Reach {
    /// Into this module of the crate's root.
    Module(String),
    /// To the root itself, and so to every module.
    Everything,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    /// `::`
    Then,
    Sign(char),
}

type Tokens = Vec<(usize, Token)>;

/// The module of a file, by its path below `src`; none for the root itself.
pub fn module(file: &str) -> Vec<String> {
    let path = file.trim_end_matches(".rs");
    let path = path.strip_suffix("/mod").unwrap_or(path);
    let segments = path.split('/').map(str::to_owned);
    segments.filter(|name| name != "lib").collect()
}

/// The modules that a source declares.
pub fn modules(text: &str) -> Vec<String> {
    let tokens = tokens(text);
    let declared = tokens.windows(2).filter_map(|pair| match pair {
        [(_, Token::Word(first)), (_, Token::Word(name))] if first == "mod" => Some(name.clone()),
        _ => None,
    });
    declared.collect()
}

/// Every word of a source with its line; comments and strings are left out.
pub fn words(text: &str) -> Vec<(usize, String)> {
    let words = tokens(text)
        .into_iter()
        .filter_map(|(line, token)| match token {
            Token::Word(word) => Some((line, word)),
            _ => None,
        });
    words.collect()
}

/// Every path of a source that starts with `crate`, `self` or `super` and comes to the crate's root; `module` is the
/// file's own.
pub fn paths(module: &[String], text: &str) -> Vec<Found> {
    let mut reader = Reader {
        tokens: tokens(text),
        at: 0,
        found: Vec::new(),
    };
    let mut module = module.to_vec();
    // For each open brace, whether it is that of a module.
    let mut braces = Vec::new();
    while let Some((_, token)) = reader.tokens.get(reader.at).cloned() {
        match token {
            Token::Word(word) if word == "mod" && reader.is_inline_module() => {
                module.extend(reader.word(1));
                braces.push(true);
                reader.at += 3;
            }
            Token::Word(word) if reader.starts_path(&word) => reader.path(&module, false),
            Token::Sign('{') => {
                braces.push(false);
                reader.at += 1;
            }
            Token::Sign('}') => {
                if braces.pop() == Some(true) {
                    module.pop();
                }
                reader.at += 1;
            }
            _ => reader.at += 1,
        }
    }
    reader.found
}

struct Reader {
    tokens: Tokens,
    at: usize,
    found: Vec<Found>,
}

impl Reader {
    fn token(&self, ahead: usize) -> Option<&Token> {
        self.tokens.get(self.at + ahead).map(|(_, token)| token)
    }

    fn word(&self, ahead: usize) -> Option<String> {
        match self.token(ahead) {
            Some(Token::Word(word)) => Some(word.clone()),
            _ => None,
        }
    }

    fn line(&self) -> usize {
        self.tokens.get(self.at).map_or(0, |(line, _)| *line)
    }

    fn is_inline_module(&self) -> bool {
        self.word(1).is_some() && self.token(2) == Some(&Token::Sign('{'))
    }

    /// `pub(crate)` and the receiver `self` are no paths; `crate as name` is one.
    fn starts_path(&self, word: &str) -> bool {
        let follows = match self.token(1) {
            Some(Token::Then) => true,
            Some(Token::Word(next)) => next == "as" && word != "self",
            _ => false,
        };
        matches!(word, "crate" | "self" | "super") && follows
    }

    /// Reads one path from `here` on, and every path of its braces; `inside` braces a name starts from `here`.
    fn path(&mut self, here: &[String], inside: bool) {
        let mut place = here.to_vec();
        let mut first = !inside;
        loop {
            match self.token(0).cloned() {
                Some(Token::Word(word)) => match word.as_str() {
                    "crate" => place.clear(),
                    "self" => {}
                    "super" => drop(place.pop()),
                    _ if place.is_empty() => return self.arrive(Reach::Module(word)),
                    // Inside a module already: where it goes from there is that module's own affair.
                    _ => place.push(word),
                },
                Some(Token::Sign('{')) if !first => return self.group(&place),
                Some(Token::Sign('*')) if place.is_empty() => {
                    return self.arrive(Reach::Everything);
                }
                _ => return,
            }
            first = false;
            self.at += 1;
            if self.token(0) != Some(&Token::Then) {
                let renamed = self.word(0).as_deref() == Some("as");
                if place.is_empty() && (inside || renamed) {
                    self.at -= 1;
                    self.arrive(Reach::Everything);
                }
                return;
            }
            self.at += 1;
        }
    }

    /// Notes where the path goes, and leaves the rest of it, which may hold braces.
    fn arrive(&mut self, reach: Reach) {
        let line = self.line();
        self.found.push(Found { line, reach });
        self.at += 1;
        if self.token(0) == Some(&Token::Then) && self.token(1) == Some(&Token::Sign('{')) {
            self.at += 1;
            self.skip_group();
        }
    }

    fn group(&mut self, here: &[String]) {
        self.at += 1;
        loop {
            match self.token(0) {
                None => return,
                Some(Token::Sign('}')) => {
                    self.at += 1;
                    return;
                }
                Some(Token::Sign('{')) => self.group(here),
                Some(Token::Word(_) | Token::Sign('*')) => {
                    let before = self.at;
                    self.path(here, true);
                    self.at = self.at.max(before + 1);
                    self.skip_to_next();
                }
                Some(_) => self.at += 1,
            }
        }
    }

    /// On to the comma or the brace that ends an item of a group.
    fn skip_to_next(&mut self) {
        while let Some(token) = self.token(0) {
            match token {
                Token::Sign(',' | '}') => return,
                Token::Sign('{') => self.skip_group(),
                _ => self.at += 1,
            }
        }
    }

    fn skip_group(&mut self) {
        let mut open = 0;
        while let Some(token) = self.token(0).cloned() {
            self.at += 1;
            match token {
                Token::Sign('{') => open += 1,
                Token::Sign('}') => open -= 1,
                _ => {}
            }
            if open == 0 {
                return;
            }
        }
    }
}

fn tokens(text: &str) -> Tokens {
    let letters: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < letters.len() {
        let (end, token) = token(&letters, at);
        tokens.extend(token.map(|token| (line, token)));
        line += letters[at..end].iter().filter(|c| **c == '\n').count();
        at = end;
    }
    tokens
}

/// Where the token at a place ends, and what it is, if it is worth keeping.
fn token(letters: &[char], at: usize) -> (usize, Option<Token>) {
    let next = letters.get(at + 1).copied().unwrap_or(' ');
    match letters[at] {
        '/' if next == '/' => (find(letters, at, '\n'), None),
        '/' if next == '*' => (end_of_comment(letters, at), None),
        '"' => (end_of_string(letters, at + 1, 0, true), None),
        '\'' => (end_of_quote(letters, at), None),
        ':' if next == ':' => (at + 2, Some(Token::Then)),
        c if c.is_alphanumeric() || c == '_' => word(letters, at),
        c if c.is_whitespace() => (at + 1, None),
        c => (at + 1, Some(Token::Sign(c))),
    }
}

fn word(letters: &[char], at: usize) -> (usize, Option<Token>) {
    let rest = letters[at..].iter();
    let length = rest
        .take_while(|c| c.is_alphanumeric() || **c == '_')
        .count();
    let (end, word): (usize, String) = (at + length, letters[at..at + length].iter().collect());
    let hashes = letters[end..].iter().take_while(|c| **c == '#').count();
    let quoted = letters.get(end + hashes) == Some(&'"');
    match word.as_str() {
        "r" | "br" | "cr" if quoted => (
            end_of_string(letters, end + hashes + 1, hashes, false),
            None,
        ),
        "b" | "c" if quoted && hashes == 0 => (end_of_string(letters, end + 1, 0, true), None),
        _ => (end, Some(Token::Word(word))),
    }
}

fn find(letters: &[char], at: usize, wanted: char) -> usize {
    let found = letters[at..].iter().position(|c| *c == wanted);
    found.map_or(letters.len(), |found| at + found)
}

fn end_of_comment(letters: &[char], at: usize) -> usize {
    let (mut open, mut at) = (0, at);
    while at < letters.len() {
        match (letters[at], letters.get(at + 1)) {
            ('/', Some('*')) => (open, at) = (open + 1, at + 2),
            ('*', Some('/')) => (open, at) = (open - 1, at + 2),
            _ => at += 1,
        }
        if open == 0 {
            return at;
        }
    }
    at
}

/// After the quote that is followed by as many hashes as the string began with.
fn end_of_string(letters: &[char], at: usize, hashes: usize, escapes: bool) -> usize {
    let mut at = at;
    while at < letters.len() {
        let after = letters[at + 1..].iter().take(hashes);
        match letters[at] {
            '\\' if escapes => at += 1,
            '"' if after.filter(|c| **c == '#').count() == hashes => return at + 1 + hashes,
            _ => {}
        }
        at += 1;
    }
    letters.len()
}

/// A character, or else a lifetime, which has no second quote.
fn end_of_quote(letters: &[char], at: usize) -> usize {
    match (letters.get(at + 1), letters.get(at + 2)) {
        (Some('\\'), _) => find(letters, at + 3, '\'') + 1,
        (Some(_), Some('\'')) => at + 3,
        _ => at + 1,
    }
}
