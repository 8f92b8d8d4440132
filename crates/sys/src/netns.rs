//! Network namespaces: a thread of its own inside one, for tests and for daemons that are told to live in one.
#![allow(unsafe_code)]

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    thread,
};

use rustix::{
    fs::{Mode, OFlags},
    thread::{LinkNameSpaceType, UnshareFlags},
};

/// A handle to a network namespace; the namespace lives at least as long as the handle.
#[derive(Debug)]
pub struct NetNs(OwnedFd);

impl NetNs {
    /// A fresh namespace with a loopback interface that is down.
    ///
    /// # Errors
    /// `EPERM` without CAP_SYS_ADMIN.
    pub fn new() -> io::Result<Self> {
        // `unshare` changes the calling thread: a thread of its own keeps the caller where it is.
        thread::Builder::new()
            .name("netns".into())
            .spawn(|| {
                unshare_current_thread()?;
                Self::current()
            })?
            .join()
            .map_err(|_| io::Error::other("the thread that makes the namespace panicked"))?
    }

    /// The namespace of the calling thread.
    ///
    /// # Errors
    /// When `/proc` is not mounted.
    pub fn current() -> io::Result<Self> {
        Self::open(Path::new("/proc/thread-self/ns/net"))
    }

    /// A namespace by path, such as `/run/netns/site-a`.
    ///
    /// # Errors
    /// As `open` reports them.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?))
    }

    /// Moves the calling thread, and it alone, into this namespace. Threads that it starts later begin there.
    ///
    /// # Errors
    /// `EPERM` without CAP_SYS_ADMIN.
    pub fn enter(&self) -> io::Result<()> {
        rustix::thread::move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network))?;
        Ok(())
    }

    /// Runs `work` on a new thread inside the namespace and waits for it; a panic there is a panic here.
    ///
    /// # Panics
    /// When the thread cannot be started or moved, or `work` panics.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let worker = scope.spawn(|| {
                self.enter().expect("entering a network namespace needs CAP_SYS_ADMIN");
                work()
            });
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Moves the calling thread into a new network namespace.
///
/// # Errors
/// `EPERM` without CAP_SYS_ADMIN.
pub fn unshare_current_thread() -> io::Result<()> {
    // SAFETY: the call is unsafe for the sake of CLONE_FILES, which would give threads differing descriptor tables;
    // NEWNET alone changes only which network stack later sockets of this thread belong to.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET)? };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> String {
        std::fs::read_link("/proc/thread-self/ns/net").unwrap().display().to_string()
    }

    #[test]
    fn work_runs_inside_and_the_caller_stays_outside() {
        let before = identity();
        let ns = NetNs::new().unwrap();
        let inside = ns.run(identity);
        assert_ne!(inside, before);
        assert_eq!(ns.run(identity), inside);
        assert_eq!(identity(), before);
    }

    #[test]
    fn two_namespaces_differ() {
        assert_ne!(NetNs::new().unwrap().run(identity), NetNs::new().unwrap().run(identity));
    }
}
