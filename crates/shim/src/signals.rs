//! Signals as descriptors, and the CPU time of reaped children: what rustix leaves to libc.
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr;

/// Signals of the shim itself.
pub(crate) struct Signals {
    pub(crate) fd: OwnedFd,
}

impl Signals {
    /// Blocks SIGCHLD, SIGTERM and SIGINT and makes them readable; ignores SIGHUP, and SIGPIPE
    /// of clients that go away.
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: the set is initialized by sigemptyset before anything reads it; the descriptor is
        // new and owned by nobody else.
        unsafe {
            let mut set = MaybeUninit::uninit();
            libc::sigemptyset(set.as_mut_ptr());
            for signal in [libc::SIGCHLD, libc::SIGTERM, libc::SIGINT] {
                libc::sigaddset(set.as_mut_ptr(), signal);
            }
            check(libc::sigprocmask(
                libc::SIG_SETMASK,
                set.as_ptr(),
                ptr::null_mut(),
            ))?;
            libc::signal(libc::SIGHUP, libc::SIG_IGN);
            libc::signal(libc::SIGPIPE, libc::SIG_IGN);
            let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
            let fd = check(libc::signalfd(-1, set.as_ptr(), flags))?;
            Ok(Self {
                fd: OwnedFd::from_raw_fd(fd),
            })
        }
    }

    /// Takes what has arrived; true if the shim was told to stop.
    pub(crate) fn told_to_stop(&self) -> bool {
        const SIZE: usize = size_of::<libc::signalfd_siginfo>();
        let mut told = false;
        let mut buffer = [0u8; SIZE];
        while let Ok(SIZE) = rustix::io::read(&self.fd, &mut buffer) {
            // The signal's number is the first field.
            let number = u32::from_ne_bytes([buffer[0], buffer[1], buffer[2], buffer[3]]);
            told |= number != libc::SIGCHLD as u32;
        }
        told
    }
}

/// Gives a process back the state every program expects: default dispositions, nothing blocked.
/// Calls only what is allowed between fork and exec.
pub(crate) fn reset() -> io::Result<()> {
    // The kernel's own structure, all of it zero: default disposition, no flags. The C library's
    // call will not touch the two signals it uses itself, and those may be inherited as ignored.
    let default = [0u64; 4];
    // SAFETY: plain system calls on values of this frame. Numbers that cannot be set are refused
    // without effect.
    unsafe {
        for signal in 1..=64 {
            let (call, old) = (libc::SYS_rt_sigaction, ptr::null_mut::<u64>());
            libc::syscall(call, signal, default.as_ptr(), old, size_of::<u64>());
        }
        let mut set = MaybeUninit::uninit();
        libc::sigemptyset(set.as_mut_ptr());
        check(libc::sigprocmask(
            libc::SIG_SETMASK,
            set.as_ptr(),
            ptr::null_mut(),
        ))?;
    }
    Ok(())
}

/// CPU time of the children that were reaped, and of those they reaped, milliseconds.
pub(crate) fn reaped_cpu_ms() -> u64 {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: getrusage fills the structure, which is valid when all zero as well.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_CHILDREN, usage.as_mut_ptr());
        usage.assume_init()
    };
    let ms = |time: libc::timeval| time.tv_sec as u64 * 1000 + time.tv_usec as u64 / 1000;
    ms(usage.ru_utime) + ms(usage.ru_stime)
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}
