//! Starting a child: nothing but the spec reaches it, and it dies with the shim.
use std::collections::BTreeMap;
use std::ffi::{CString, NulError};
use std::io::{self, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use rustix::io::FdFlags;
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use rustix::process::{Pid, Signal, getpid, getppid, set_parent_process_death_signal, setsid};

use crate::protocol::{MARK, Spec, User};
use crate::signals;
use crate::start::FIRST_LISTENER;
use crate::tree;

/// What a pipe for output holds; the largest that needs no privilege.
const PIPE_SIZE: usize = 1 << 20;
/// `LISTEN_PID=`, the digits of a pid, and the end.
const LISTEN_PID: &[u8] = b"LISTEN_PID=";
const LISTEN_PID_SIZE: usize = LISTEN_PID.len() + 11;

unsafe extern "C" {
    static mut environ: *const *const libc::c_char;
}

/// A child that runs, and the reading ends of its output.
pub(crate) struct Child {
    pub(crate) pid: u32,
    pub(crate) out: OwnedFd,
    pub(crate) err: OwnedFd,
}

/// Starts a child; returns when its program runs, or the reason why it does not.
pub(crate) fn spawn(spec: &Spec, argv: &[String], listeners: usize) -> Result<Child, String> {
    let (program, arguments) = argv.split_first().ok_or("argv is empty")?;
    let (out, child_out) = pipe().map_err(|error| format!("no pipe: {error}"))?;
    let (err, child_err) = pipe().map_err(|error| format!("no pipe: {error}"))?;
    let mut command = Command::new(program);
    command.args(arguments).current_dir(&spec.cwd);
    command
        .stdin(Stdio::null())
        .stdout(child_out)
        .stderr(child_err);
    if let Some(user) = spec.user {
        // Also drops the supplementary groups when the shim is root.
        command.uid(user.uid).gid(user.gid);
    }
    let mut environment = Environment::new(&spec.env, &spec.mark, listeners)
        .map_err(|_| "a variable holds a NUL byte".to_owned())?;
    let (shim, tag) = (getpid(), tree::tag(&spec.mark));
    // SAFETY: only system calls and writes to memory that was allocated before the fork.
    unsafe { command.pre_exec(move || prepare(shim, tag, listeners, &mut environment)) };
    let child = command
        .spawn()
        .map_err(|error| explain(spec, program, &error))?;
    Ok(Child {
        pid: child.id(),
        out,
        err,
    })
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    // A smaller pipe works too: the system's limit for this user may be reached.
    let _ = fcntl_setpipe_size(&read, PIPE_SIZE);
    rustix::io::ioctl_fionbio(&read, true)?;
    Ok((read, write))
}

/// A directory, a program and a user give the same errors; names all that it could be.
fn explain(spec: &Spec, program: &str, error: &io::Error) -> String {
    let cwd = spec.cwd.display();
    match spec.user {
        _ if !spec.cwd.is_dir() => format!("no working directory {cwd}: {error}"),
        Some(User { uid, gid }) => {
            format!("cannot run {program} in {cwd} as user {uid}, group {gid}: {error}")
        }
        None => format!("cannot run {program} in {cwd}: {error}"),
    }
}

/// In the child, before its program, after the change of user.
fn prepare(shim: Pid, tag: u64, listeners: usize, environment: &mut Environment) -> io::Result<()> {
    setsid()?;
    tree::set_real_time_limit(Some(tag));
    signals::reset()?;
    // A change of user clears it, so it comes after that; a shim that died before is seen below.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid() != Some(shim) {
        return Err(io::ErrorKind::BrokenPipe.into());
    }
    for fd in (FIRST_LISTENER..).take(listeners) {
        // SAFETY: the listeners are open on exactly these descriptors, in shim and child.
        let listener = unsafe { BorrowedFd::borrow_raw(fd) };
        rustix::io::fcntl_setfd(listener, FdFlags::empty())?;
    }
    environment.enter();
    Ok(())
}

/// The child's environment as `execve` wants it, built before the fork because nothing may be
/// allocated after it, and entered by hand because one variable is known only then.
struct Environment {
    /// Keeps what `pointers` points at.
    _variables: Vec<CString>,
    listen_pid: Option<Box<[u8; LISTEN_PID_SIZE]>>,
    /// Addresses, ended by 0.
    pointers: Vec<usize>,
}

impl Environment {
    fn new(env: &BTreeMap<String, String>, mark: &str, listeners: usize) -> Result<Self, NulError> {
        let mut env: BTreeMap<&str, &str> = env.iter().map(|(k, v)| (&**k, &**v)).collect();
        env.insert(MARK, mark);
        let count = listeners.to_string();
        let mut listen_pid = None;
        if listeners > 0 {
            env.insert("LISTEN_FDS", &count);
            env.remove("LISTEN_PID");
            listen_pid = Some(Box::new([0; LISTEN_PID_SIZE]));
        }
        let variable = |(name, value)| CString::new(format!("{name}={value}"));
        let variables = env
            .into_iter()
            .map(variable)
            .collect::<Result<Vec<_>, _>>()?;
        let mut pointers: Vec<usize> = variables.iter().map(|v| v.as_ptr() as usize).collect();
        pointers.extend(listen_pid.as_ref().map(|bytes| bytes.as_ptr() as usize));
        pointers.push(0);
        Ok(Self {
            _variables: variables,
            listen_pid,
            pointers,
        })
    }

    /// Makes it the environment of this process, which is the child.
    fn enter(&mut self) {
        if let Some(bytes) = &mut self.listen_pid {
            let mut rest = &mut bytes[..];
            // Formatting an integer allocates nothing, and it always fits.
            let _ = rest.write_all(LISTEN_PID);
            let _ = write!(rest, "{}", std::process::id());
        }
        // SAFETY: one thread after a fork; the addresses stay valid until the program runs.
        unsafe { environ = self.pointers.as_ptr().cast() };
    }
}
