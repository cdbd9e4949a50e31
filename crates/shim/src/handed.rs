//! What is handed over at the start and stands in no file: secrets, and what the log may not hold.
//!
//! It comes as one JSON value on standard input, from whoever starts the shim, before anything else happens. So it is
//! in no argument, no file and no environment but that of the child it is for.
use std::io::Read;
use std::path::Path;

use crate::protocol::{Handed, Spec};
use crate::start::Error;

/// More than the environment of a process can be.
const LARGEST: u64 = 16 << 20;

/// Reads it, where the spec says that it comes.
pub(crate) fn receive(spec: &Spec) -> Result<Handed, Error> {
    if !spec.handed {
        return Ok(Handed::default());
    }
    let mut text = Vec::new();
    std::io::stdin()
        .take(LARGEST)
        .read_to_end(&mut text)
        .map_err(Error::file(Path::new("standard input")))?;
    // Neither what came nor the parser's words about it: they could be a secret's.
    serde_json::from_slice(&text)
        .map_err(|_| Error::Spec("what was handed over is not whole".to_owned()))
}

/// Takes texts out of what goes into a log.
pub(crate) struct Conceal {
    /// Longest first, so that a part of one is not taken before the whole.
    needles: Vec<Vec<u8>>,
    /// Whether one begins with a byte.
    begins: [bool; 256],
}

const INSTEAD: &[u8] = b"[secret]";

impl Conceal {
    pub(crate) fn new(needles: Vec<String>) -> Self {
        let mut needles: Vec<Vec<u8>> = needles.into_iter().map(String::into_bytes).collect();
        needles.retain(|needle| !needle.is_empty());
        needles.sort_by_key(|needle| std::cmp::Reverse(needle.len()));
        let mut begins = [false; 256];
        for needle in &needles {
            begins[usize::from(needle[0])] = true;
        }
        Self { needles, begins }
    }

    /// Bytes at the end of an unfinished line that may be the beginning of one.
    pub(crate) fn hold(&self) -> usize {
        self.needles.first().map_or(0, |longest| longest.len() - 1)
    }

    pub(crate) fn conceal(&self, text: &mut Vec<u8>) {
        if self.needles.is_empty() {
            return;
        }
        let mut out = Vec::with_capacity(text.len());
        let mut rest = &text[..];
        while let Some(&byte) = rest.first() {
            let found = match self.begins[usize::from(byte)] {
                true => self.needles.iter().find(|needle| rest.starts_with(needle)),
                false => None,
            };
            let taken = found.map_or(1, Vec::len);
            out.extend_from_slice(if found.is_some() { INSTEAD } else { &rest[..1] });
            rest = &rest[taken..];
        }
        *text = out;
    }
}
