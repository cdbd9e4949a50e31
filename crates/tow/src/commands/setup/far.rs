//! Commands on a server.

use std::process::{Output, Stdio};

use tokio::io::AsyncWriteExt;
use towpath::agent::api::Trouble;
use towpath::config::Server;
use towpath::diagnostic::Diagnostic;
use towpath::link::{Preface, Ssh};

use super::Sent;
use crate::out;

/// What ssh itself ends with.
const NO_LINK: i32 = 255;

/// What a command over there said.
pub struct Said {
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
    /// Exit code.
    pub code: Option<i32>,
}

/// A machine at the other end of ssh.
pub struct Far {
    ssh: Ssh,
}

impl Far {
    /// That machine.
    pub fn new(server: &Server) -> Far {
        Far {
            ssh: crate::link::ssh(server),
        }
    }

    /// Its name.
    pub fn server(&self) -> &Server {
        &self.ssh.server
    }

    /// Runs a command over there, with `input` on its standard input.
    pub async fn run(&self, remote: &str, input: Vec<u8>) -> Result<Said, Trouble> {
        let output = self
            .output(remote, input)
            .await
            .map_err(|error| self.no_ssh(&error))?;
        let said = Said {
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
            code: output.status.code(),
        };
        match said.code {
            Some(NO_LINK) if said.out.is_empty() => Err(self.unreachable(&said)),
            _ => Ok(said),
        }
    }

    async fn output(&self, remote: &str, input: Vec<u8>) -> std::io::Result<Output> {
        let mut child = self.ssh.command(remote).spawn()?;
        let stdin = child.stdin.take();
        let writes = tokio::spawn(async move {
            if let Some(mut stdin) = stdin {
                // Who does not read to the end says why by how it ends.
                let _ = stdin.write_all(&input).await;
                let _ = stdin.shutdown().await;
            }
        });
        let output = child.wait_with_output().await;
        writes.abort();
        output
    }

    /// Sends the program to where the set-up takes it from.
    pub async fn send(&self, sent: &Sent) -> Result<(), Trouble> {
        let digest = sent.program.digest;
        out::note(format!("  sending tow, {} KiB", sent.program.size / 1024));
        let remote = format!(
            "sh -c 'umask 077; cd; mkdir -p .cache/towpath && cat > .cache/towpath/tow-{digest}.part \
             && mv -f .cache/towpath/tow-{digest}.part .cache/towpath/tow-{digest}'"
        );
        let said = self.run(&remote, sent.bytes.clone()).await?;
        match said.code {
            Some(0) => Ok(()),
            _ => {
                let text = format!("the program did not arrive on {}", self.server());
                let diagnostic = Diagnostic::error("setup::not-sent", text);
                Err(Trouble {
                    exit: 1,
                    diagnostic: with(diagnostic, &said)
                        .note("nothing was installed")
                        .help("run the same command again"),
                })
            }
        }
    }

    /// Ends a connection that is shared with later commands.
    pub async fn end_shared(&self) {
        let Some(sockets) = &self.ssh.manner.sockets else {
            return;
        };
        let Server { user, host, port } = &self.ssh.server;
        let mut command = tokio::process::Command::new(&self.ssh.manner.program);
        let path = format!("ControlPath={}", sockets.join("%C").display());
        command.args(["-o", &path, "-O", "exit"]);
        if let Some(port) = port {
            command.arg("-p").arg(port.to_string());
        }
        if let Some(user) = user {
            command.arg("-l").arg(user);
        }
        command.args(["--", host]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // There may be none.
        let _ = command.status().await;
    }

    fn no_ssh(&self, error: &std::io::Error) -> Trouble {
        let program = self.ssh.manner.program.to_string_lossy();
        let text = format!("`{program}` cannot be started: {error}");
        Trouble {
            exit: 1,
            diagnostic: Diagnostic::error("setup::no-ssh", text)
                .help("install ssh (Debian: `apt-get install openssh-client`)"),
        }
    }

    fn unreachable(&self, said: &Said) -> Trouble {
        let text = format!("{} cannot be reached", self.server());
        Trouble {
            exit: 1,
            diagnostic: with(Diagnostic::error("setup::unreachable", text), said)
                .note("nothing was touched")
                .help("see that ssh comes in there by itself, and that its host key is known"),
        }
    }

    /// The answer is not that of the script.
    pub fn not_understood(&self, said: &Said) -> Trouble {
        if Preface::begins(&said.out) {
            let text = format!("the key for {} may only deploy", self.server());
            return Trouble {
                exit: 4,
                diagnostic: Diagnostic::error("agent::not-allowed", text)
                    .note("it runs no other program there; nothing was touched")
                    .help("have somebody do it who has the environment's own access"),
            };
        }
        let text = format!("what {} says of itself is not understood", self.server());
        Trouble {
            exit: 1,
            diagnostic: with(Diagnostic::error("setup::not-understood", text), said)
                .note("nothing was touched")
                .help("it has to have `sh`, and the login shell must run commands"),
        }
    }
}

fn with(diagnostic: Diagnostic, said: &Said) -> Diagnostic {
    match said.err.trim() {
        "" => diagnostic,
        text => diagnostic.note(text.to_owned()),
    }
}
