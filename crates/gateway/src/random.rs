//! Randomness: a cheap sequence a thread for load balancing, and real entropy for tokens.

use std::cell::Cell;

thread_local! {
    static STATE: Cell<u64> = Cell::new(u64::from_le_bytes(entropy::<8>()) | 1);
}

/// The next number of this thread's xorshift sequence, in `0..below`; 0 when `below` is 0.
pub(crate) fn index(below: usize) -> usize {
    let next = STATE.with(|state| {
        let mut x = state.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        state.set(x);
        x
    });
    (next >> 16) as usize % below.max(1)
}

/// A token of 128 bits that cannot be guessed.
pub(crate) fn token() -> String {
    hex(&entropy::<16>())
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn entropy<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        let rest = &mut bytes[filled..];
        filled += rustix::rand::getrandom(rest, rustix::rand::GetRandomFlags::empty()).unwrap_or(0);
    }
    bytes
}

/// A number that nobody can guess.
pub(crate) fn number() -> u64 {
    u64::from_le_bytes(entropy())
}
