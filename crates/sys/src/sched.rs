//! Scheduling of the calling thread: detection and packet threads must not wait behind bulk work.
#![allow(unsafe_code)]

use std::io;

/// Runs the calling thread under SCHED_FIFO at `priority` (1 lowest, 99 highest). Its children start as ordinary
/// threads.
///
/// Only for threads that work briefly and then sleep, such as BFD's: one that spins would starve everything else on
/// its core.
///
/// # Errors
/// `EPERM` without CAP_SYS_NICE or a real-time limit; `EINVAL` for a priority out of range.
pub fn set_fifo(priority: u8) -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: libc::c_int::from(priority) };
    // SAFETY: the pointer is to a live, initialised `sched_param`; pid 0 names the calling thread.
    crate::check(unsafe {
        libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &raw const parameters)
    })?;
    Ok(())
}

/// Sets the nice value of the calling thread (on Linux it is the thread's own): -20 first, 19 last.
///
/// # Errors
/// `EACCES` when lowering it without CAP_SYS_NICE.
pub fn set_nice(nice: i8) -> io::Result<()> {
    rustix::process::setpriority_process(None, i32::from(nice))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fifo_is_set_for_this_thread_alone() {
        let policy = std::thread::spawn(|| {
            set_fifo(1).unwrap();
            // SAFETY: takes a thread id by value; 0 is the caller.
            unsafe { libc::sched_getscheduler(0) }
        });
        assert_eq!(policy.join().unwrap() & !libc::SCHED_RESET_ON_FORK, libc::SCHED_FIFO);
        // SAFETY: as above.
        assert_eq!(unsafe { libc::sched_getscheduler(0) }, libc::SCHED_OTHER);
    }

    #[test]
    fn priorities_out_of_range_are_refused() {
        assert_eq!(set_fifo(0).unwrap_err().raw_os_error(), Some(libc::EINVAL));
        assert_eq!(set_fifo(100).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    }

    #[test]
    fn nice_is_the_threads_own() {
        let inside = std::thread::spawn(|| {
            set_nice(5).unwrap();
            rustix::process::getpriority_process(None).unwrap()
        });
        assert_eq!(inside.join().unwrap(), 5);
        assert_ne!(rustix::process::getpriority_process(None).unwrap(), 5);
    }
}
