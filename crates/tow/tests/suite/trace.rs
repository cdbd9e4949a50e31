//! Where a secret has left a trace: in files, arguments and environments.

use std::fs;
use std::path::Path;
use std::process::Command;

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

pub fn base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let number = group.iter().enumerate().fold(0u32, |sum, (at, byte)| {
            sum | u32::from(*byte) << (16 - 8 * at)
        });
        for digit in 0..=group.len() {
            let index = (number >> (18 - 6 * digit)) & 63;
            text.push(BASE64[index as usize].into());
        }
    }
    text
}

/// What gives the secret away, as others would write it.
pub fn traces(secret: &str) -> Vec<Vec<u8>> {
    let mut traces = vec![secret.to_owned(), base64(secret.as_bytes())];
    let quoted: String = secret
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect();
    traces.push(quoted);
    // In the middle of something longer: without the digits that its neighbours share.
    let inner = |before: &str, from: usize| {
        let text = base64(format!("{before}{secret}").as_bytes());
        text[from..text.len() - 3].to_owned()
    };
    traces.extend([inner("me:", 4), inner("m:", 3), inner("a", 2)]);
    traces.into_iter().map(String::into_bytes).collect()
}

/// Whether one of the traces is in it.
pub fn holds(bytes: &[u8], traces: &[Vec<u8>]) -> bool {
    traces
        .iter()
        .any(|trace| bytes.windows(trace.len()).any(|part| part == trace))
}

/// Every file below `folder` that holds a trace; what is compressed is looked into.
pub fn files(folder: &Path, traces: &[Vec<u8>], found: &mut Vec<String>) -> u32 {
    let mut looked_at = 0;
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let kind = entry.file_type();
        if kind.is_ok_and(|kind| kind.is_dir()) {
            looked_at += files(&path, traces, found);
            continue;
        }
        let Ok(bytes) = fs::read(&path) else { continue };
        looked_at += 1;
        let plain = match bytes.starts_with(&[0x1f, 0x8b]) {
            true => {
                Command::new("gzip")
                    .arg("-dc")
                    .arg(&path)
                    .output()
                    .unwrap()
                    .stdout
            }
            false => Vec::new(),
        };
        if holds(&bytes, traces) || holds(&plain, traces) {
            found.push(path.display().to_string());
        }
    }
    looked_at
}

/// Every process of the machine that holds a trace in its arguments, or in its environment though it is no `allowed`.
pub fn processes(traces: &[Vec<u8>], allowed: &[u32], found: &mut Vec<String>) -> u32 {
    let mut allowing = 0;
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Ok(pid) = name.parse::<u32>() else {
            continue;
        };
        let read = |file: &str| fs::read(entry.path().join(file)).unwrap_or_default();
        if holds(&read("cmdline"), traces) {
            found.push(format!("arguments of {pid}"));
        }
        if holds(&read("environ"), traces) {
            match allowed.contains(&pid) {
                true => allowing += 1,
                false => found.push(format!("environment of {pid}")),
            }
        }
    }
    allowing
}
