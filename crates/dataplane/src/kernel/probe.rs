//! What this machine's kernel can do, found out by asking for it: the names of modules and of versions promise little.

use esp::Cipher;
use net_types::Spi;
use rustix::io::Errno;
use xfrm::{Direction, Lifetimes, Mode, NETLINK_XFRM, OuterHeader, Replay, Sa, SaId};

use super::{
    algorithms,
    socket::{Netlink, NetlinkError},
};

/// What the kernel can do.
#[derive(Clone, Debug)]
pub struct Support {
    /// The ciphers that it has.
    pub ciphers: Vec<Cipher>,
    /// Whether it knows of directions ([`xfrm::Sa::directed`]).
    pub(super) directed: bool,
}

impl Support {
    /// As if the kernel had these ciphers, for tests of who chooses what.
    pub fn of_ciphers(ciphers: Vec<Cipher>) -> Self {
        Self { ciphers, directed: true }
    }
}

/// Documentation addresses (RFC 5737): no packet is ever for them.
const NOBODY: ([u8; 4], [u8; 4]) = ([192, 0, 2, 1], [192, 0, 2, 2]);
/// A number and a name that no tunnel has.
const PROBE_IF_ID: u32 = 0x4846_ffff;
const PROBE_NAME: &str = "hf-xfrm-probe";
/// `NETLINK_ROUTE`
pub(super) const NETLINK_ROUTE: isize = 0;

/// Asks the kernel. What is put in for that is taken out again.
///
/// # Errors
/// What it lacks, for people.
pub(crate) fn probe() -> Result<Support, String> {
    let mut socket = Netlink::open(NETLINK_XFRM).map_err(|error| format!("the kernel has no IPsec (XFRM): {error}"))?;
    let directed = match attempt(&mut socket, Cipher::Aes128Gcm16, true) {
        Ok(()) => true,
        Err(error) if error.is(Errno::INVAL) => false,
        Err(error) if error.is(Errno::PERM) => return Err(format!("XFRM is not allowed here: {error}")),
        Err(error) if error.is(Errno::PROTONOSUPPORT) => return Err(format!("the kernel has no ESP: {error}")),
        Err(_) => true, // it may lack this cipher alone
    };
    let mut refusal = None;
    let mut ciphers = Vec::new();
    for cipher in algorithms::all() {
        match attempt(&mut socket, cipher, directed) {
            Ok(()) => ciphers.push(cipher),
            Err(error) => refusal = refusal.or(Some(format!("{cipher}: {error}"))),
        }
    }
    if ciphers.is_empty() {
        return Err(format!("the kernel has no ESP or none of its ciphers ({})", refusal.unwrap_or_default()));
    }
    interfaces().map_err(|error| format!("the kernel has no xfrm interfaces: {error}"))?;
    Ok(Support { ciphers, directed })
}

fn attempt(socket: &mut Netlink, cipher: Cipher, directed: bool) -> Result<(), NetlinkError> {
    // A key of zeros, which seals nothing.
    let octets = vec![0; cipher.keymat_len()];
    let spi = 0x4846_0000 + std::process::id() % 0x1_0000; // another daemon may ask at the same time
    let id = SaId { destination: NOBODY.1.into(), spi: Spi::try_from(spi).expect("greater than 255") };
    let sa = Sa {
        id,
        source: NOBODY.0.into(),
        direction: Direction::Outbound,
        mode: Mode::Tunnel,
        reqid: PROBE_IF_ID,
        if_id: PROBE_IF_ID,
        algorithms: algorithms::of(cipher, &octets),
        esn: true,
        replay_window: 0,
        replay: Replay::default(),
        encapsulation: Some(xfrm::Encapsulation { source_port: 4500, destination_port: 4500 }),
        output_mark: Some(1),
        lifetimes: Lifetimes::default(),
        outer: OuterHeader::default(),
        offload: None,
        directed,
    };
    socket.request(sa.add())?;
    socket.request(xfrm::delete_sa(id))
}

fn interfaces() -> Result<(), NetlinkError> {
    let mut socket = Netlink::open(NETLINK_ROUTE)?;
    match socket.request(xfrm::create_interface(PROBE_NAME, PROBE_IF_ID, 0)) {
        Err(error) if !error.is(Errno::EXIST) => return Err(error), // what an earlier probe left is as good
        _ => {}
    }
    let found = socket.ask(xfrm::query_link(PROBE_NAME), xfrm::Interface::parse)?;
    found.map_or(Ok(()), |found| socket.request(xfrm::delete_link(found.ifindex)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever the machine has, the answer is one, and nothing stays.
    #[test]
    fn the_probe_leaves_nothing_behind() {
        sys::netns::NetNs::new().unwrap().run(|| {
            let outcome = probe();
            match &outcome {
                Ok(support) => assert!(!support.ciphers.is_empty()),
                Err(why) => assert!(why.contains("kernel") || why.contains("not allowed"), "{why}"),
            }
            let mut routes = Netlink::open(NETLINK_ROUTE).unwrap();
            let gone = routes.ask(xfrm::query_link(PROBE_NAME), xfrm::Interface::parse);
            assert!(gone.is_err_and(|error| error.is(Errno::NODEV)));
            if let Ok(mut socket) = Netlink::open(NETLINK_XFRM) {
                let left = socket.dump(xfrm::dump_sas(), xfrm::SaInfo::parse);
                assert!(left.is_err() || left.unwrap().is_empty());
            }
        });
    }
}
