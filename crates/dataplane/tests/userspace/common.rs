//! Two sites, each a network namespace with a packet path of its own, and a veth pair as the Internet between them.

use std::{
    io::ErrorKind,
    net::{IpAddr, UdpSocket},
    sync::Arc,
    time::{Duration, Instant},
};

use dataplane::{
    Datapath, Dataplane, DataplaneError, Limits, NewInbound, NewOutbound, PacketPolicy, Sink, Stats, TunnelSpec,
    TunnelStats, Userspace, WanSpec, WanStats,
};
use esp::Selectors;
use sys::netns::NetNs;

#[path = "../support/mod.rs"]
mod support;

pub(crate) use support::*;

/// A site with user space's path.
pub(crate) type Site = support::Site<Userspace>;

impl Site {
    /// Inner address of the tunnel interface.
    pub(crate) fn inner(&self) -> IpAddr {
        [169, 254, 1, self.number].into()
    }

    pub(crate) fn socket(&self, address: IpAddr) -> UdpSocket {
        let socket = self.ns.run(|| UdpSocket::bind((address, 0)).unwrap());
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }

    pub(crate) fn open_tunnel(&self, mtu: u16) {
        self.ns.run(|| {
            self.path
                .add_tunnel(TunnelSpec {
                    name: tunnel(),
                    mtu,
                    policy: PacketPolicy::default(),
                    datapath: Datapath::Userspace,
                })
                .unwrap()
        });
        self.ip(&format!("link set tun1 mtu {mtu} up"));
    }

    pub(crate) fn stats(&self) -> Stats {
        self.path.stats()
    }

    pub(crate) fn tunnel_stats(&self) -> TunnelStats {
        self.stats().tunnels.remove(0)
    }

    pub(crate) fn wan_stats(&self) -> WanStats {
        self.stats().wans.remove(0)
    }
}

fn site(number: u8, keeper: Option<&std::path::Path>) -> Site {
    let ns = NetNs::new().unwrap();
    let sink = Arc::new(Recorder::default());
    let keeper = keeper.map(door);
    let path = Userspace::new(Arc::clone(&sink) as Arc<dyn Sink>, keeper);
    Site { ns, path, sink, number }
}

/// Site 1 and site 2 with open links and tunnel interfaces, and no association.
pub(crate) fn pair(mtu: u16, keeper: Option<&std::path::Path>) -> (Site, Site) {
    let (a, b) = (site(1, keeper), site(2, None));
    join(&a.ns, &b.ns, "wan0");
    for site in [&a, &b] {
        site.ip("link set lo up");
        site.ip(&format!("addr add {}/24 dev wan0", site.outer()));
        site.ip(&format!("addr add 2001:db8::{}/64 dev wan0 nodad", site.number));
        site.ip("link set wan0 up");
    }
    for site in [&a, &b] {
        open_wan(site);
        site.open_tunnel(mtu);
        site.ip(&format!("addr add {}/30 dev tun1", site.inner()));
        site.ip(&format!("addr add fd00::{}/64 dev tun1 nodad", site.number));
    }
    (a, b)
}

pub(crate) fn open_wan(site: &Site) {
    let spec = WanSpec { name: wan(), interface: "wan0".parse().unwrap(), mark: 0x4801, kernel_esp: false };
    // A child of another test's that has not begun its program yet holds a copy of every socket, of closed ones too.
    wait_for("the ports are free", || match site.ns.run(|| site.path.add_wan(spec.clone())) {
        Ok(()) => true,
        Err(DataplaneError::Wan { error, .. }) if error.kind() == ErrorKind::AddrInUse => false,
        Err(error) => panic!("{error}"),
    });
}

/// Accepts at `to` what `from` seals under `seed`.
pub(crate) fn accept(from: &Site, to: &Site, raw_spi: u32, seed: u8, selectors: Selectors) {
    let sa = NewInbound { selectors, ..inbound(raw_spi, seed, to.path_to(from)) };
    to.path.add_inbound(&tunnel(), sa).unwrap();
}

pub(crate) fn send_by(from: &Site, to: &Site, raw_spi: u32, seed: u8, limits: Limits) {
    let sa = NewOutbound { limits, ..outbound(raw_spi, seed, from.path_to(to)) };
    from.path.add_outbound(&tunnel(), sa).unwrap();
}

/// Associations in both directions.
pub(crate) fn associate(a: &Site, b: &Site, generation: u8) {
    let (there, back) = (0x1000 + u32::from(generation), 0x2000 + u32::from(generation));
    accept(a, b, there, generation, Selectors::any());
    accept(b, a, back, generation | 0x80, Selectors::any());
    send_by(a, b, there, generation, Limits::default());
    send_by(b, a, back, generation | 0x80, Limits::default());
}

/// Sends a datagram and waits for it at the other end. UDP promises nothing (a neighbor may have to be found first, on a
/// machine that is busy): what has not come after a second is sent again, until patience ends. So copies of an earlier
/// datagram may still come, and are passed over.
pub(crate) fn crosses(near: &UdpSocket, far: &UdpSocket, payload: &[u8]) {
    let mut buffer = vec![0; payload.len() + 1];
    let deadline = Instant::now() + PATIENCE;
    far.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let (length, from) = loop {
        near.send_to(payload, far.local_addr().unwrap()).unwrap();
        match far.recv_from(&mut buffer) {
            Ok((length, _)) if buffer[..length] != *payload => assert!(Instant::now() < deadline, "only others arrive"),
            Ok(received) => break received,
            Err(error) => assert!(Instant::now() < deadline, "the datagram arrives: {error}"),
        }
    };
    far.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!((&buffer[..length], from), (payload, near.local_addr().unwrap()));
}
