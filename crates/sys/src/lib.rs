//! The one crate with `unsafe`: what the kernel offers and no safe library wraps.
//!
//! Each module wraps one thing in a narrow safe API, and every `unsafe` block carries its argument. What rustix already
//! does safely (`rustix::net::sockopt`: TTL, TOS, MTU discovery, FREEBIND, TCP user timeout, forced buffer sizes) is
//! used from there and not repeated here. Nothing in this crate knows a protocol of ours.

pub mod alloc;
pub mod fds;
pub mod mmsg;
pub mod netlink;
pub mod netns;
pub mod packet;
pub mod process;
pub mod sched;
pub mod sockopt;
pub mod tcp_ao;
pub mod tun;

/// The calling thread's last system error as a [`std::io::Error`] when `result` is negative.
fn check(result: libc::c_int) -> std::io::Result<libc::c_int> {
    if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(result) }
}
