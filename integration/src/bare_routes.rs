//! The fastest way to put routes into the kernel: octets made beforehand, many in a send, one acknowledgement.
//!
//! What the forwarding table's engine is measured against; it writes its own octets (rtnetlink(7)).

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use net_types::Prefix;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

const NEW_ROUTE: u16 = 24;
const NEW_NEXTHOP: u16 = 104;
const DELETE_NEXTHOP: u16 = 105;
const REQUEST: u16 = 1;
const ACK: u16 = 4;
const REPLACE: u16 = 0x100;
const CREATE: u16 = 0x400;
/// A number that nobody else uses here.
const ID: u32 = 4242;
/// Messages in one send.
const BATCH: usize = 256;
/// Octets of a route's message.
const MESSAGE: usize = 44;

/// A route socket and a nexthop object.
pub struct BareWriter {
    socket: Socket,
    input: Vec<u8>,
}

impl BareWriter {
    /// Opens it; must be called in the namespace that is to be written. Routes will go to `gateway` on an interface.
    pub fn open(ifindex: u32, gateway: Ipv4Addr) -> Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        let mut writer = Self { socket, input: Vec::with_capacity(1 << 16) };
        let mut body = vec![2, 0, 201, 0, 0, 0, 0, 0]; // nhmsg: AF_INET, scope, protocol, flags
        attribute(1, &ID.to_ne_bytes(), &mut body);
        attribute(5, &ifindex.to_ne_bytes(), &mut body);
        attribute(6, &gateway.octets(), &mut body);
        writer.one(NEW_NEXTHOP, REQUEST | ACK | CREATE | REPLACE, &body)?;
        Ok(writer)
    }

    /// Writes a route for each prefix; says how long that took.
    pub fn write(&mut self, prefixes: &[Prefix]) -> Result<Duration> {
        let mut octets = Vec::with_capacity(prefixes.len() * MESSAGE);
        for (number, prefix) in prefixes.iter().enumerate() {
            let last = (number + 1) % BATCH == 0 || number + 1 == prefixes.len();
            let std::net::IpAddr::V4(address) = prefix.address() else { bail!("{prefix} is not IPv4") };
            // rtmsg: family, lengths, tos, table main, protocol, scope universe, unicast, flags
            let mut body = vec![2, prefix.bits(), 0, 0, 254, 201, 0, 1, 0, 0, 0, 0];
            attribute(1, &address.octets(), &mut body);
            attribute(30, &ID.to_ne_bytes(), &mut body);
            let flags = REQUEST | CREATE | REPLACE | if last { ACK } else { 0 };
            message(NEW_ROUTE, flags, number as u32, &body, &mut octets);
        }
        let started = Instant::now();
        for batch in octets.chunks(BATCH * MESSAGE) {
            self.socket.send(batch, 0)?;
            self.acknowledged()?;
        }
        Ok(started.elapsed())
    }

    /// Takes the nexthop object away, and the kernel all routes with it.
    pub fn clear(&mut self) -> Result<()> {
        let mut body = vec![0; 8];
        attribute(1, &ID.to_ne_bytes(), &mut body);
        self.one(DELETE_NEXTHOP, REQUEST | ACK, &body)
    }

    fn one(&mut self, kind: u16, flags: u16, body: &[u8]) -> Result<()> {
        let mut octets = Vec::new();
        message(kind, flags, 1, body, &mut octets);
        self.socket.send(&octets, 0)?;
        self.acknowledged()
    }

    fn acknowledged(&mut self) -> Result<()> {
        self.input.clear();
        self.socket.recv(&mut self.input, 0)?;
        let error = self.input.get(16..20).and_then(|octets| octets.try_into().ok()).map(i32::from_ne_bytes);
        ensure!(error == Some(0), "the kernel refused a route: {error:?}");
        Ok(())
    }
}

fn attribute(kind: u16, value: &[u8], out: &mut Vec<u8>) {
    out.extend((value.len() as u16 + 4).to_ne_bytes());
    out.extend(kind.to_ne_bytes());
    out.extend(value);
}

fn message(kind: u16, flags: u16, sequence: u32, body: &[u8], out: &mut Vec<u8>) {
    out.extend((body.len() as u32 + 16).to_ne_bytes());
    out.extend(kind.to_ne_bytes());
    out.extend(flags.to_ne_bytes());
    out.extend(sequence.to_ne_bytes());
    out.extend([0; 4]);
    out.extend(body);
}
