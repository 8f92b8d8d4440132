//! TUN devices: layer-3 interfaces whose packets are read and written through a file descriptor.
//!
//! A device opened here is always `IFF_NO_PI`: one read gives one IP packet, one write takes one (preceded by a
//! virtio-net header when asked for). Descriptors are non-blocking and close on exec.
#![allow(unsafe_code)]

use std::{
    ffi::c_ulong,
    io::{self, IoSlice},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use net_types::IfName;
use rustix::fs::{Mode, OFlags};

/// How a device is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TunOptions {
    /// Each packet is preceded by a `virtio_net_hdr`, which is what segmentation offload needs.
    pub vnet_header: bool,
    /// Several descriptors may be attached, each a queue of its own.
    pub multi_queue: bool,
}

/// Which unsegmented packets the reader of a device takes (`TUNSETOFFLOAD`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// Packets whose transport checksum is still to be completed. Everything else needs it.
    pub checksum: bool,
    /// TCP segments of IPv4 and IPv6, up to 64 KiB.
    pub tcp_segmentation: bool,
    /// UDP datagrams to be cut into equal ones, IPv4 and IPv6 (Linux 6.2).
    pub udp_segmentation: bool,
}

/// One queue of a TUN device. The device lives as long as one of its descriptors does, or longer when persistent.
#[derive(Debug)]
pub struct Tun {
    fd: OwnedFd,
    name: IfName,
    vnet_header: bool,
}

/// Octets of the `virtio_net_hdr` before each packet: its oldest form, which is also the kernel's default.
pub const VNET_HEADER_LEN: usize = 10;

impl Tun {
    /// Creates the device `name`, or attaches to it when it exists.
    ///
    /// # Errors
    /// `EPERM` without CAP_NET_ADMIN, `EBUSY` when another process holds the device's only queue, `EINVAL` when the
    /// device exists with other options.
    pub fn open(name: &IfName, options: TunOptions) -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fd = rustix::fs::open("/dev/net/tun", flags, Mode::empty())?;
        let mut request = request(name);
        let mut bits = libc::IFF_TUN | libc::IFF_NO_PI;
        if options.vnet_header {
            bits |= libc::IFF_VNET_HDR;
        }
        if options.multi_queue {
            bits |= libc::IFF_MULTI_QUEUE;
        }
        // All flags used lie in the low 16 bits, of which the field is made.
        request.ifr_ifru.ifru_flags = bits as libc::c_short;
        // SAFETY: TUNSETIFF reads and writes one `ifreq`; `request` is one, initialised and exclusively borrowed.
        crate::check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETIFF, &raw mut request) })?;
        Self { fd, name: name.clone(), vnet_header: options.vnet_header }.with_header_len()
    }

    /// Takes over a descriptor that another process opened (see [`crate::fds`]), after asking the kernel which device it
    /// belongs to.
    ///
    /// # Errors
    /// When the descriptor is not an attached TUN queue, or is a TAP device.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        // SAFETY: all-zero is a valid `ifreq`, a plain C structure of integers.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        // SAFETY: TUNGETIFF writes one `ifreq`; `request` is one and exclusively borrowed.
        crate::check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNGETIFF, &raw mut request) })?;
        // SAFETY: the kernel filled in the flags member; any bit pattern is a valid integer.
        let flags = libc::c_int::from(unsafe { request.ifr_ifru.ifru_flags });
        if flags & libc::IFF_TUN == 0 || flags & libc::IFF_NO_PI == 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the descriptor is not a TUN queue without packet information",
            ));
        }
        let name: Vec<u8> = request.ifr_name.iter().take_while(|c| **c != 0).map(|c| c.cast_unsigned()).collect();
        let name = String::from_utf8_lossy(&name)
            .parse()
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("device name: {error}")))?;
        Self { fd, name, vnet_header: flags & libc::IFF_VNET_HDR != 0 }.with_header_len()
    }

    /// Sees to it that the header has the length that we read and write; another owner of the device may have changed it.
    fn with_header_len(self) -> io::Result<Self> {
        if self.vnet_header {
            let length = VNET_HEADER_LEN as libc::c_int;
            // SAFETY: TUNSETVNETHDRSZ reads one int through the pointer, which is to a live local.
            crate::check(unsafe { libc::ioctl(self.fd.as_raw_fd(), libc::TUNSETVNETHDRSZ, &raw const length) })?;
        }
        Ok(self)
    }

    /// Whether a [`VNET_HEADER_LEN`] octets long header stands before each packet.
    pub fn has_vnet_header(&self) -> bool {
        self.vnet_header
    }

    /// The interface that this is a queue of.
    pub fn name(&self) -> &IfName {
        &self.name
    }

    /// Whether the device stays when its last descriptor closes. It then loses carrier all the same.
    ///
    /// # Errors
    /// As the kernel reports them.
    pub fn set_persistent(&self, persistent: bool) -> io::Result<()> {
        // SAFETY: TUNSETPERSIST takes an integer by value.
        crate::check(unsafe { libc::ioctl(self.fd.as_raw_fd(), libc::TUNSETPERSIST, c_ulong::from(persistent)) })?;
        Ok(())
    }

    /// Declares what the reader takes unsegmented; a device-wide setting.
    ///
    /// # Errors
    /// `EINVAL` when the kernel lacks one of them (UDP before Linux 6.2): ask for less.
    pub fn set_offload(&self, offload: Offload) -> io::Result<()> {
        let mut bits = 0;
        if offload.checksum {
            bits |= libc::TUN_F_CSUM;
        }
        if offload.tcp_segmentation {
            bits |= libc::TUN_F_TSO4 | libc::TUN_F_TSO6;
        }
        if offload.udp_segmentation {
            bits |= libc::TUN_F_USO4 | libc::TUN_F_USO6;
        }
        // SAFETY: TUNSETOFFLOAD takes an integer by value.
        crate::check(unsafe { libc::ioctl(self.fd.as_raw_fd(), libc::TUNSETOFFLOAD, c_ulong::from(bits)) })?;
        Ok(())
    }

    /// Reads one packet; `WouldBlock` when none waits.
    ///
    /// # Errors
    /// As the kernel reports them; `EIO` while the interface is down.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(&self.fd, buffer)?)
    }

    /// Hands one packet to the kernel as if it had arrived on the interface.
    ///
    /// # Errors
    /// As the kernel reports them; `EIO` while the interface is down.
    pub fn write(&self, packet: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(&self.fd, packet)?)
    }

    /// As [`Self::write`], of one packet in parts; at most 1024 of them.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn write_parts(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(rustix::io::writev(&self.fd, parts)?)
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// An `ifreq` that names `name` and is zero elsewhere.
fn request(name: &IfName) -> libc::ifreq {
    // SAFETY: all-zero is a valid `ifreq`, a plain C structure of integers.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // `IfName` has at most 15 octets, so that the terminating zero stays.
    for (slot, octet) in request.ifr_name.iter_mut().zip(name.as_str().bytes()) {
        *slot = octet.cast_signed();
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netns::NetNs;

    fn name(text: &str) -> IfName {
        text.parse().unwrap()
    }

    /// Waits until the device is gone: a child that another test starts holds every descriptor for as long as it takes to
    /// begin its program.
    fn wait_until_gone(device: &str) {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while index(device).is_some() {
            assert!(std::time::Instant::now() < deadline, "{device} is still there");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_device_is_created_and_goes_with_its_descriptor() {
        let ns = NetNs::new().unwrap();
        ns.run(|| {
            let tun = Tun::open(&name("t0"), TunOptions::default()).unwrap();
            assert!(index("t0").is_some());
            assert_eq!(tun.read(&mut [0; 64]).unwrap_err().raw_os_error(), Some(libc::EAGAIN));
            drop(tun);
            wait_until_gone("t0");
        });
    }

    #[test]
    fn a_persistent_device_outlives_its_descriptor_and_can_be_attached_again() {
        let ns = NetNs::new().unwrap();
        ns.run(|| {
            let tun = Tun::open(&name("t0"), TunOptions::default()).unwrap();
            tun.set_persistent(true).unwrap();
            let first = index("t0").unwrap();
            drop(tun);
            assert_eq!(index("t0"), Some(first));
            let again = Tun::open(&name("t0"), TunOptions::default()).unwrap();
            assert_eq!(Tun::open(&name("t0"), TunOptions::default()).unwrap_err().raw_os_error(), Some(libc::EBUSY));
            again.set_persistent(false).unwrap();
            drop(again);
            wait_until_gone("t0");
        });
    }

    #[test]
    fn a_foreign_descriptor_is_recognised_or_refused() {
        let ns = NetNs::new().unwrap();
        ns.run(|| {
            let tun = Tun::open(&name("t0"), TunOptions::default()).unwrap();
            let copy = tun.as_fd().try_clone_to_owned().unwrap();
            assert_eq!(Tun::from_fd(copy).unwrap().name(), &name("t0"));
            let file = std::fs::File::open("/dev/null").unwrap();
            assert!(Tun::from_fd(file.into()).is_err());
        });
    }

    #[test]
    fn offload_and_queues_are_accepted() {
        let ns = NetNs::new().unwrap();
        ns.run(|| {
            let options = TunOptions { vnet_header: true, multi_queue: true };
            let first = Tun::open(&name("t0"), options).unwrap();
            let _second = Tun::open(&name("t0"), options).unwrap();
            first.set_offload(Offload { checksum: true, tcp_segmentation: true, udp_segmentation: false }).unwrap();
            first.set_offload(Offload::default()).unwrap();
        });
    }

    fn index(name: &str) -> Option<u32> {
        let socket =
            std::net::UdpSocket::bind("127.0.0.1:0").or_else(|_| std::net::UdpSocket::bind("0.0.0.0:0")).unwrap();
        rustix::net::netdevice::name_to_index(&socket, name).ok()
    }
}
