//! Keeping a process that holds keys to itself: no core dump, no debugger of the same user, no swap.
//!
//! Nothing unsafe here; it lives beside [`crate::sched`] because both are what a daemon does before it starts.

use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit};

/// Forbids core dumps and attaching to this process (`/proc/PID/mem`, ptrace) for users without CAP_SYS_PTRACE.
///
/// # Errors
/// As the kernel reports them; none is known in practice.
pub fn forbid_dumps() -> io::Result<()> {
    rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// Keeps every page of the process, present and future, out of swap.
///
/// # Errors
/// `ENOMEM` or `EPERM` when RLIMIT_MEMLOCK is too small and CAP_IPC_LOCK is absent.
pub fn lock_memory() -> io::Result<()> {
    rustix::mm::mlockall(rustix::mm::MlockAllFlags::CURRENT | rustix::mm::MlockAllFlags::FUTURE)?;
    Ok(())
}

/// Raises the soft limit of open files to the hard one.
///
/// # Errors
/// As the kernel reports them.
pub fn raise_open_files() -> io::Result<()> {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hardened_process_cannot_be_dumped() {
        forbid_dumps().unwrap();
        assert_eq!(rustix::process::dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
        assert_eq!(rustix::process::getrlimit(Resource::Core).current, Some(0));
    }

    #[test]
    fn the_file_limit_rises_to_the_hard_one() {
        raise_open_files().unwrap();
        let limit = rustix::process::getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }
}
