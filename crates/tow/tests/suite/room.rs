//! How much of the disk may be taken by what is sent.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::Arc;

use towpath::agent::{Client, ClientError, socket};
use towpath::id::Digest;

use crate::fixture::{Fixture, STAGING};
use crate::machine;

fn put(fixture: &Fixture, client: &Client, bytes: Vec<u8>) -> Result<u64, String> {
    let digest = Digest::of(&bytes);
    let put = client.put_blob(digest, bytes, Arc::new(|_, _| {}));
    fixture.run(put).map_err(|error: ClientError| {
        let trouble = error.into_trouble();
        format!("{} {}", trouble.exit, trouble.diagnostic.code)
    })
}

fn parts(fixture: &Fixture) -> usize {
    let parts = fixture.state(STAGING).join("blobs/partial");
    fs::read_dir(parts).map_or(0, |parts| parts.count())
}

#[test]
fn a_key_does_not_fill_the_disk_with_what_no_release_needs() {
    let fixture = Fixture::new();
    fixture.agent(STAGING);
    let socket = socket(&fixture.state(STAGING));
    let (key, operator) = (Client::with_key(&socket, "ci"), Client::new(socket));
    assert_eq!(put(&fixture, &key, vec![1; 1000]), Ok(1000));
    // As if it had sent that much: a file with nothing in it.
    let sent = Digest::of(b"sent").to_string();
    let sent = fixture.state(STAGING).join("blobs").join(sent);
    File::create(&sent).unwrap().set_len(5 << 30).unwrap();
    let refused = Err("4 transfer::too-much".to_owned());
    assert_eq!(put(&fixture, &key, vec![2; 1000]), refused);
    // It hears why also while it still has much to send.
    assert_eq!(put(&fixture, &key, vec![3; 16 << 20]), refused);
    assert_eq!(parts(&fixture), 0);
    assert_eq!(put(&fixture, &operator, vec![2; 1000]), Ok(1000));
    fs::remove_file(&sent).unwrap();
    assert_eq!(put(&fixture, &key, vec![4; 1000]), Ok(1000));
    fixture.down(STAGING);
}

/// A small disk under the states; unmounted when the test ends.
struct Disk(std::path::PathBuf);

impl Disk {
    fn new(at: std::path::PathBuf) -> Option<Disk> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=24m", "tmpfs"]);
        let mounted = mount.arg(&at).stderr(Stdio::null()).status();
        mounted
            .is_ok_and(|status| status.success())
            .then(|| Disk(at))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn whoever_sends_leaves_room_on_the_disk() {
    let fixture = Fixture::new();
    let Some(_disk) = Disk::new(fixture.dir.join("states")) else {
        println!("not root: no disk could be made");
        return;
    };
    fixture.agent(STAGING);
    let operator = Client::new(socket(&fixture.state(STAGING)));
    let refused = Err("1 transfer::no-room".to_owned());
    assert_eq!(put(&fixture, &operator, vec![1; 23 << 20]), refused);
    assert_eq!(parts(&fixture), 0);
    // Who does not say how much it is, is stopped on the way.
    let answer = undeclared(&fixture, 32);
    assert!(answer.contains("transfer::no-room"), "{answer}");
    assert_eq!(parts(&fixture), 0);
    assert_eq!(put(&fixture, &operator, vec![2; 4 << 20]), Ok(4 << 20));
    fixture.down(STAGING);
    machine::sweep(&fixture.dir.join("states"), &fixture.state(STAGING));
}

/// The answer to so many MiB in chunks.
fn undeclared(fixture: &Fixture, mib: usize) -> String {
    let digest = Digest::of(b"undeclared");
    let mut stream = UnixStream::connect(socket(&fixture.state(STAGING))).unwrap();
    let head = format!(
        "PUT /v1/blobs/{digest}?offset=0 HTTP/1.1\r\nhost: a\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let chunk = [b"100000\r\n", &vec![b'x'; 1 << 20][..], b"\r\n"].concat();
    for _ in 0..mib {
        // Who is not listened to any more may be cut off.
        if stream.write_all(&chunk).is_err() {
            break;
        }
    }
    let _ = stream.write_all(b"0\r\n\r\n");
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}
