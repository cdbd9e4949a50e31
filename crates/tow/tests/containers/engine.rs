//! An engine of its own for each test.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::machine::{is_alive, until, until_ok};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A `dockerd` with its own data, socket and containers; nothing of it is left when it is dropped.
pub struct Engine {
    dir: PathBuf,
    daemon: Option<Child>,
    bridge: bool,
}

impl Engine {
    /// One whose containers have a network of their own where they want one.
    pub fn with_bridge() -> Engine {
        Engine::start(true)
    }

    /// One beside it, for another machine's.
    pub fn plain() -> Engine {
        Engine::start(false)
    }

    fn start(bridge: bool) -> Engine {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("tow-engine-{}-{number}", std::process::id());
        let mut engine = Engine {
            dir: std::env::temp_dir().join(name),
            daemon: None,
            bridge,
        };
        fs::create_dir_all(&engine.dir).unwrap();
        engine.up();
        engine
    }

    /// Starts the daemon, and returns when it answers.
    pub fn up(&mut self) {
        let log = File::create(self.dir.join("log")).unwrap();
        let mut daemon = Command::new("/usr/sbin/dockerd");
        let place = |name: &str| self.dir.join(name);
        daemon.arg("--data-root").arg(place("data"));
        daemon.arg("--exec-root").arg(place("exec"));
        daemon.arg("--pidfile").arg(place("pid"));
        daemon.arg("--host").arg(self.host());
        if !self.bridge {
            daemon.args(["--bridge", "none", "--iptables=false"]);
        }
        daemon.stdin(Stdio::null()).stdout(log.try_clone().unwrap());
        self.daemon = Some(daemon.stderr(log).spawn().unwrap());
        let answers = || {
            let mut asked = self.command(&["ps", "--quiet"]);
            let asked = asked.stdout(Stdio::null()).stderr(Stdio::null());
            asked.status().unwrap().success().then_some(()).ok_or(())
        };
        // After a kill it first ends, one by one, what it had started before.
        let is_up = (0..4).any(|_| until_ok(answers).is_ok());
        let log = fs::read_to_string(self.dir.join("log")).unwrap();
        assert!(is_up, "the engine does not answer: {log}");
    }

    /// Kills the daemon where it stands; its containers live on.
    pub fn kill(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let helper = fs::read_to_string(self.dir.join("exec/containerd/containerd.pid"));
            daemon.kill().unwrap();
            daemon.wait().unwrap();
            // It dies with the daemon; one that is started meanwhile would take it for its own.
            let helper: u32 = helper.unwrap().trim().parse().unwrap();
            until("its helper is gone", || (!is_alive(helper)).then_some(()));
            // Where nobody reaps it, its number alone would be taken for it.
            fs::remove_file(self.dir.join("exec/containerd/containerd.pid")).unwrap();
        }
    }

    /// Where clients find it.
    pub fn host(&self) -> PathBuf {
        PathBuf::from(format!("unix://{}/sock", self.dir.display()))
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.args(arguments).env("DOCKER_HOST", self.host());
        command
    }

    /// What the engine says.
    pub fn ask(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Containers, running or not, by the instance they are of.
    pub fn containers(&self) -> Vec<String> {
        let format = "{{.Label \"towpath.instance\"}}";
        let said = self.ask(&["ps", "--all", "--format", format]);
        let mut names: Vec<String> = said.split_whitespace().map(str::to_owned).collect();
        names.sort();
        names
    }

    /// The engine's id of an instance's container.
    pub fn of(&self, instance: &str) -> String {
        let label = format!("label=towpath.instance={instance}");
        self.ask(&["ps", "--all", "--quiet", "--filter", &label])
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let listed = self.command(&["ps", "--all", "--quiet"]).output();
        let listed = listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        for id in listed.unwrap_or_default().split_whitespace() {
            let _ = self.command(&["rm", "--force", id]).output();
        }
        let Some(mut daemon) = self.daemon.take() else {
            return;
        };
        // Told to end, it ends what it has started; killed, it would leave that.
        let pid = i32::try_from(daemon.id()).unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = daemon.wait();
        // What the engine has mounted below its folder, it leaves mounted.
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
        for point in points.filter(|point| point.starts_with(&*self.dir.to_string_lossy())) {
            let _ = Command::new("umount").args(["--lazy", point]).status();
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}
