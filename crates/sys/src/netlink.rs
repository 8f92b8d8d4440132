//! Classic socket filters on netlink sockets.
#![allow(unsafe_code)]

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
};

/// Drops, in the kernel, notifications about changes that the socket with netlink address `port` made.
///
/// Every message of netlink starts with a header whose last word is the address of whoever caused it.
///
/// # Errors
/// When the kernel refuses the filter.
pub fn ignore_changes_by(socket: impl AsFd, port: u32) -> io::Result<()> {
    const PORT_OFFSET: u32 = 12; // offsetof(struct nlmsghdr, nlmsg_pid)
    // The load turns network into host order; the field is in host order already.
    ignore(socket, libc::BPF_W, PORT_OFFSET, port.to_be())
}

/// Drops, in the kernel, notifications about routes whose `rtm_protocol` is `protocol`, whoever changed them. For a
/// socket that listens to routes and nothing else.
///
/// # Errors
/// When the kernel refuses the filter.
pub fn ignore_routes_of(socket: impl AsFd, protocol: u8) -> io::Result<()> {
    const PROTOCOL_OFFSET: u32 = 16 + 5; // struct nlmsghdr, then offsetof(struct rtmsg, rtm_protocol)
    ignore(socket, libc::BPF_B, PROTOCOL_OFFSET, protocol.into())
}

/// Drops messages that have `value` in the field of that size at that place.
fn ignore(socket: impl AsFd, size: u32, offset: u32, value: u32) -> io::Result<()> {
    let statement = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut program = [
        statement(libc::BPF_LD | size | libc::BPF_ABS, 0, 0, offset),
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, value),
        statement(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
        statement(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: `filter` and the program that it points to outlive the call, the kernel copies both, and the length is
    // that of `filter`. The descriptor is open for as long as `socket` is borrowed.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const filter).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
