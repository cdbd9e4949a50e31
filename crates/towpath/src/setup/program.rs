//! What a program needs of the machine it is to run on, read from its own file.

use std::fmt;

use crate::id::Digest;

/// A kind of processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arch {
    /// 64-bit x86.
    X86_64,
    /// 64-bit ARM.
    Aarch64,
    /// 64-bit RISC-V.
    Riscv64,
}

impl Arch {
    /// From what `uname -m` says.
    #[must_use]
    pub fn of_machine(text: &str) -> Option<Arch> {
        match text {
            "x86_64" | "amd64" => Some(Arch::X86_64),
            "aarch64" | "arm64" => Some(Arch::Aarch64),
            "riscv64" => Some(Arch::Riscv64),
            _ => None,
        }
    }

    fn of_elf(machine: u64) -> Option<Arch> {
        match machine {
            62 => Some(Arch::X86_64),
            183 => Some(Arch::Aarch64),
            243 => Some(Arch::Riscv64),
            _ => None,
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Arch::X86_64 => "x86_64",
            Arch::Aarch64 => "aarch64",
            Arch::Riscv64 => "riscv64",
        })
    }
}

/// A C library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Libc {
    /// None: the program brings all it needs.
    Static,
    /// The GNU C library, of this version or later.
    Gnu(u32, u32),
    /// musl.
    Musl,
}

impl fmt::Display for Libc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Libc::Static => f.write_str("no C library"),
            Libc::Gnu(major, minor) => write!(f, "glibc {major}.{minor}"),
            Libc::Musl => f.write_str("musl"),
        }
    }
}

impl Libc {
    /// From `2.36`, or the words that a machine has for it.
    #[must_use]
    pub fn gnu(text: &str) -> Option<Libc> {
        let (major, minor) = text.split_once('.')?;
        let minor: String = minor.chars().take_while(char::is_ascii_digit).collect();
        Some(Libc::Gnu(major.parse().ok()?, minor.parse().ok()?))
    }

    /// Whether a program that needs this runs where `there` is.
    #[must_use]
    pub fn runs_on(self, there: Option<Libc>) -> bool {
        match (self, there) {
            (Libc::Static, _) | (Libc::Musl, Some(Libc::Musl)) => true,
            (Libc::Gnu(major, minor), Some(Libc::Gnu(has, has_minor))) => {
                (has, has_minor) >= (major, minor)
            }
            _ => false,
        }
    }
}

/// A program that is to be brought to a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Of its bytes.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
    /// The processor that it is for.
    pub arch: Arch,
    /// What it needs of the machine.
    pub libc: Libc,
}

impl Program {
    /// Reads what a program is; `None` when it is none for Linux on a processor of [`Arch`].
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Program> {
        let elf = Elf::read(bytes)?;
        Some(Program {
            digest: Digest::of(bytes),
            size: bytes.len() as u64,
            arch: Arch::of_elf(elf.number(18, 2)?)?,
            libc: elf.libc()?,
        })
    }
}

// elf(5); every place is checked, since the file may be any.
const INTERPRETER: u64 = 3;
const LOAD: u64 = 1;
const DYNAMIC: u64 = 2;
const STRINGS: u64 = 5;
const NEEDS: u64 = 0x6fff_fffe;

/// A 64-bit, little-endian ELF file.
struct Elf<'a>(&'a [u8]);

impl<'a> Elf<'a> {
    fn read(bytes: &'a [u8]) -> Option<Elf<'a>> {
        bytes.starts_with(b"\x7fELF\x02\x01").then_some(Elf(bytes))
    }

    fn number(&self, at: u64, size: usize) -> Option<u64> {
        let at = usize::try_from(at).ok()?;
        let bytes = self.0.get(at..at.checked_add(size)?)?;
        let number = bytes.iter().rev();
        Some(number.fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    }

    fn text(&self, at: u64) -> Option<&'a str> {
        let rest = self.0.get(usize::try_from(at).ok()?..)?;
        let end = rest.iter().position(|byte| *byte == 0)?;
        std::str::from_utf8(&rest[..end]).ok()
    }

    /// `(kind, offset, address, size)` of each segment.
    fn segments(&self) -> Option<Vec<(u64, u64, u64, u64)>> {
        let (first, size, count) = (
            self.number(32, 8)?,
            self.number(54, 2)?,
            self.number(56, 2)?,
        );
        let segment = |at: u64| {
            Some((
                self.number(at, 4)?,
                self.number(at.checked_add(8)?, 8)?,
                self.number(at.checked_add(16)?, 8)?,
                self.number(at.checked_add(32)?, 8)?,
            ))
        };
        (0..count)
            .map(|index| segment(first.checked_add(index * size)?))
            .collect()
    }

    fn libc(&self) -> Option<Libc> {
        let segments = self.segments()?;
        let of_kind = |kind| segments.iter().find(move |segment| segment.0 == kind);
        let Some(interpreter) = of_kind(INTERPRETER) else {
            return Some(Libc::Static);
        };
        if self.text(interpreter.1)?.contains("musl") {
            return Some(Libc::Musl);
        }
        let dynamic = of_kind(DYNAMIC)?;
        let entries = (0..dynamic.3 / 16).map_while(|index| {
            let at = dynamic.1.checked_add(index * 16)?;
            Some((self.number(at, 8)?, self.number(at.checked_add(8)?, 8)?))
        });
        let entries: Vec<_> = entries.take_while(|(tag, _)| *tag != 0).collect();
        let place = |tag| {
            let address = entries.iter().find(|entry| entry.0 == tag)?.1;
            let loads = segments.iter().filter(|segment| segment.0 == LOAD);
            let mut offsets = loads.filter_map(|(_, offset, start, size)| {
                let inside = address.checked_sub(*start).filter(|inside| inside < size)?;
                offset.checked_add(inside)
            });
            offsets.next()
        };
        let versions = self.versions(place(NEEDS)?, place(STRINGS)?)?;
        versions
            .into_iter()
            .max()
            .map(|(major, minor)| Libc::Gnu(major, minor))
    }

    /// The versions of glibc that symbols are needed of.
    fn versions(&self, needs: u64, strings: u64) -> Option<Vec<(u32, u32)>> {
        let (mut found, mut file) = (Vec::new(), needs);
        loop {
            let mut version = file.checked_add(self.number(file.checked_add(8)?, 4)?)?;
            for _ in 0..self.number(file.checked_add(2)?, 2)? {
                let name = self.number(version.checked_add(8)?, 4)?;
                let name = self.text(strings.checked_add(name)?)?;
                if let Some(Libc::Gnu(major, minor)) =
                    name.strip_prefix("GLIBC_").and_then(Libc::gnu)
                {
                    found.push((major, minor));
                }
                version = version.checked_add(self.number(version.checked_add(12)?, 4)?)?;
            }
            match self.number(file.checked_add(12)?, 4)? {
                0 => return Some(found),
                // It only goes on, so a file that leads in a circle is none.
                next => file = file.checked_add(next)?,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Libc, Program};

    #[test]
    fn this_very_program_is_read() {
        let own = std::fs::read("/proc/self/exe").expect("a program");
        let program = Program::read(&own).expect("an ELF file");
        assert_eq!(program.arch.to_string(), std::env::consts::ARCH);
        assert_eq!(program.size, own.len() as u64);
        #[cfg(target_env = "gnu")]
        assert!(
            matches!(program.libc, Libc::Gnu(2, minor) if minor >= 17),
            "{}",
            program.libc
        );
    }

    #[test]
    fn what_is_cut_or_changed_is_refused_or_read_and_never_more() {
        let own = std::fs::read("/proc/self/exe").expect("a program");
        for end in (0..4096).chain((4096..own.len()).step_by(own.len() / 50)) {
            let _ = Program::read(&own[..end]);
        }
        let mut changed = own[..own.len().min(8 << 20)].to_vec();
        for at in 0..1200 {
            let before = changed[at];
            for byte in [0, 0xff, before.wrapping_add(1)] {
                changed[at] = byte;
                let _ = super::Elf::read(&changed).and_then(|elf| elf.libc());
            }
            changed[at] = before;
        }
        assert!(Program::read(b"#!/bin/sh\n").is_none());
        assert!(Program::read(b"\x7fELF\x01\x01").is_none(), "32 bits");
    }

    #[test]
    fn a_program_runs_where_its_library_is_no_older() {
        let old = Libc::gnu("2.28");
        assert_eq!(Libc::gnu("2.36-9+deb12u1"), Some(Libc::Gnu(2, 36)));
        assert!(Libc::Gnu(2, 28).runs_on(old) && Libc::Gnu(2, 9).runs_on(old));
        assert!(!Libc::Gnu(2, 29).runs_on(old), "numbers, not text");
        assert!(!Libc::Gnu(2, 17).runs_on(Some(Libc::Musl)));
        assert!(!Libc::Gnu(2, 17).runs_on(None) && Libc::Static.runs_on(None));
        assert!(!Libc::Musl.runs_on(old));
        assert_eq!(Libc::gnu("many"), None);
    }
}
