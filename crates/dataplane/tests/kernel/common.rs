//! Two sites, each a network namespace with the kernel's packet path, and a veth pair as the Internet between them.

use std::{
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    process::Command,
    sync::Arc,
    time::Duration,
};

use dataplane::{
    Datapath, Datapaths, Dataplane, DataplaneError, Event, Gre, KernelInterface, Limits, NewInbound, NewOutbound,
    PacketPolicy, Sink, TunnelSpec, TunnelStats, WanSpec,
};
use sys::netns::NetNs;

#[path = "../support/mod.rs"]
mod support;

pub(crate) use support::*;

/// Of the link.
const MARK: u32 = 0x4846_0001;

/// A site with either path, whose tunnels are the kernel's.
pub(crate) type Site = support::Site<Datapaths>;

fn datapaths(sink: &Arc<Recorder>, keeper: Option<&std::path::Path>) -> Datapaths {
    Datapaths::new(Arc::clone(sink) as Arc<dyn Sink>, keeper.map(door))
}

/// A site between two processes.
pub(crate) struct Orphan {
    ns: NetNs,
    number: u8,
}

/// What traffic needs of a site.
pub(crate) trait Place {
    fn ns(&self) -> &NetNs;
    fn number(&self) -> u8;
    fn inner(&self, v6: bool) -> IpAddr {
        if v6 {
            [0xfd00, 0, 0, 0, 0, 0, 0, u16::from(self.number())].into()
        } else {
            [169, 254, 1, self.number()].into()
        }
    }
    fn socket(&self, v6: bool) -> UdpSocket {
        let address = self.inner(v6);
        let socket = self.ns().run(|| UdpSocket::bind((address, 0)).unwrap());
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket
    }
}

impl Place for Site {
    fn ns(&self) -> &NetNs {
        &self.ns
    }
    fn number(&self) -> u8 {
        self.number
    }
}

impl Place for Orphan {
    fn ns(&self) -> &NetNs {
        &self.ns
    }
    fn number(&self) -> u8 {
        self.number
    }
}

impl Orphan {
    pub(crate) fn with_process(self, keeper: Option<&std::path::Path>) -> Site {
        let site = self.with_bare_process(keeper);
        site.add_tunnel("tun1").unwrap();
        site
    }

    /// A process that has the link and no tunnel yet.
    pub(crate) fn with_bare_process(self, keeper: Option<&std::path::Path>) -> Site {
        let sink = Arc::new(Recorder::default());
        let site = Site { path: datapaths(&sink, keeper), ns: self.ns, sink, number: self.number };
        site.open_wan();
        site
    }
}

impl Site {
    pub(crate) fn without_process(self) -> Orphan {
        Orphan { ns: self.ns, number: self.number } // the path is dropped
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.sink.events.lock().unwrap().clone()
    }

    fn open_wan(&self) {
        let spec = WanSpec { name: wan(), interface: "wan0".parse().unwrap(), mark: MARK, kernel_esp: true };
        self.ns.run(|| self.path.add_wan(spec).unwrap());
    }

    pub(crate) fn add_tunnel(&self, name: &str) -> Result<(), DataplaneError> {
        self.add(name, PacketPolicy::default(), KernelInterface::Xfrm { pin: None })
    }

    /// A GRE interface to the other site, from this address of ours.
    pub(crate) fn add_gre(
        &self,
        local: Option<IpAddr>,
        remote: IpAddr,
        policy: PacketPolicy,
    ) -> Result<(), DataplaneError> {
        let gre = Gre { remote, key: Some(7), local, link: None, mark: MARK };
        self.add("tun1", policy, KernelInterface::Gre(gre))
    }

    fn add(&self, name: &str, policy: PacketPolicy, interface: KernelInterface) -> Result<(), DataplaneError> {
        let datapath = Datapath::Kernel { interface, offload: None };
        self.ns.run(|| self.path.add_tunnel(TunnelSpec { name: name.parse().unwrap(), mtu: 1400, policy, datapath }))
    }

    pub(crate) fn address_tunnel(&self) {
        self.ip("link set tun1 mtu 1400 up");
        self.ip(&format!("addr add {}/30 dev tun1", self.inner(false)));
        self.ip(&format!("addr add {}/64 dev tun1 nodad", self.inner(true)));
    }

    pub(crate) fn stats(&self) -> TunnelStats {
        self.ns.run(|| self.path.stats().tunnels.remove(0))
    }

    /// IPv4 packets that came, whatever became of them.
    pub(crate) fn packets_that_came(&self) -> u64 {
        let text = self.ns.run(|| std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap());
        let values = text.lines().filter_map(|line| line.strip_prefix("Ip: ")).nth(1).unwrap();
        values.split(' ').nth(2).unwrap().parse().unwrap() // InReceives
    }
}

/// Site 1 and site 2 with open links and tunnel interfaces, and no association. `None` where the kernel cannot.
pub(crate) fn pair(keeper: Option<&std::path::Path>) -> Option<(Site, Site)> {
    let (a, b) = joined(keeper)?;
    for site in [&a, &b] {
        site.add_tunnel("tun1").unwrap();
        site.address_tunnel();
    }
    Some((a, b))
}

/// The same with GRE interfaces.
pub(crate) fn gre_pair(keeper: Option<&std::path::Path>) -> Option<(Site, Site)> {
    let (a, b) = joined(keeper)?;
    for (site, other) in [(&a, &b), (&b, &a)] {
        site.add_gre(Some(site.outer()), other.outer(), PacketPolicy::default()).unwrap();
        site.address_tunnel();
    }
    Some((a, b))
}

/// Both sites with open links.
pub(crate) fn joined(keeper: Option<&std::path::Path>) -> Option<(Site, Site)> {
    let site = |number, keeper| {
        let sink = Arc::new(Recorder::default());
        Site { ns: NetNs::new().unwrap(), path: datapaths(&sink, keeper), sink, number }
    };
    let (a, b) = (site(1, keeper), site(2, None));
    if let Err(why) = a.ns.run(|| a.path.kernel_support().clone()) {
        assert!(std::env::var_os("HOLDFAST_KERNEL_FEATURES").is_none(), "{why}");
        eprintln!("not run: {why}");
        return None;
    }
    join(&a.ns, &b.ns, "wan0");
    for site in [&a, &b] {
        site.ip("link set lo up");
        site.ip(&format!("addr add {}/24 dev wan0", site.outer()));
        site.ip("link set wan0 up");
    }
    for site in [&a, &b] {
        site.open_wan();
    }
    Some((a, b))
}

/// Accepts at `to` what `from` seals under `seed`.
pub(crate) fn accept(from: &Site, to: &Site, raw_spi: u32, seed: u8) {
    accept_with(from, to, raw_spi, seed, true);
}

fn accept_with(from: &Site, to: &Site, raw_spi: u32, seed: u8, esn: bool) {
    let sa = NewInbound { esn, ..inbound(raw_spi, seed, to.path_to(from)) };
    to.path.add_inbound(&tunnel(), sa).unwrap();
}

pub(crate) fn send_by(from: &Site, to: &Site, raw_spi: u32, seed: u8, limits: Limits, port: u16) {
    send_with(from, to, raw_spi, seed, limits, port, true);
}

fn send_with(from: &Site, to: &Site, raw_spi: u32, seed: u8, limits: Limits, port: u16, esn: bool) {
    let mut path = from.path_to(to);
    path.local.set_port(port);
    let sa = NewOutbound { esn, limits, ..outbound(raw_spi, seed, path) };
    from.path.add_outbound(&tunnel(), sa).unwrap();
}

/// Associations in both directions: 0x1000 and 0x2000 plus the generation.
pub(crate) fn associate(a: &Site, b: &Site, generation: u8) {
    associate_with(a, b, generation, true);
}

/// As [`associate`], with extended numbers or without.
pub(crate) fn associate_with(a: &Site, b: &Site, generation: u8, esn: bool) {
    let (there, back) = (0x1000 + u32::from(generation), 0x2000 + u32::from(generation));
    accept_with(a, b, there, generation, esn);
    accept_with(b, a, back, generation | 0x80, esn);
    send_with(a, b, there, generation, Limits::default(), 4500, esn);
    send_with(b, a, back, generation | 0x80, Limits::default(), 4500, esn);
}

/// Sends so many datagrams and says how many came.
pub(crate) fn exchange(from: &impl Place, to: &impl Place, v6: bool, count: usize) -> usize {
    let (sender, receiver) = (from.socket(v6), to.socket(v6));
    let address = receiver.local_addr().unwrap();
    let mut buffer = [0; 64];
    let received = (0..count).filter(|number| {
        sender.send_to(&number.to_be_bytes(), address).unwrap();
        receiver.recv_from(&mut buffer).is_ok_and(|(length, source)| {
            buffer[..length] == number.to_be_bytes() && source == sender.local_addr().unwrap()
        })
    });
    received.count()
}

/// Sends so many datagrams that nobody waits for.
pub(crate) fn send(from: &Site, to: &Site, count: usize) {
    let (sender, address) = (from.socket(false), SocketAddr::new(to.inner(false), 9));
    for _ in 0..count {
        let _blocked = sender.send_to(b"nobody waits for this", address);
    }
}

/// A host behind a site, on an Ethernet.
pub(crate) struct Host(NetNs);

impl Site {
    pub(crate) fn host(&self) -> Host {
        let host = NetNs::new().unwrap();
        join(&self.ns, &host, "lan0");
        let (v4, v6) = (format!("10.{}.0", self.number), format!("fd10:{}::", self.number));
        for (ns, last) in [(&self.ns, 1), (&host, 2)] {
            run(ns, "ip", "link set lo up");
            run(ns, "ip", &format!("addr add {v4}.{last}/24 dev lan0"));
            run(ns, "ip", &format!("addr add {v6}{last}/64 dev lan0 nodad"));
            run(ns, "ip", "link set lan0 up");
        }
        run(&host, "ip", &format!("route add default via {v4}.1"));
        run(&host, "ip", &format!("-6 route add default via {v6}1"));
        // Their option would take 12 octets of each segment.
        host.run(|| std::fs::write("/proc/sys/net/ipv4/tcp_timestamps", "0").unwrap());
        self.ns.run(|| {
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
            std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
        });
        Host(host)
    }
}

/// The largest segments that a connection from a host to a site has, as each end's kernel sees it: the host's, the site's.
pub(crate) fn segments(host: &Host, to: &Site, v6: bool) -> (u32, u32) {
    let address = to.inner(v6);
    let listener = to.ns.run(|| TcpListener::bind((address, 0)).unwrap());
    let near = host.0.run(|| TcpStream::connect(listener.local_addr().unwrap()).unwrap());
    let (far, _) = listener.accept().unwrap();
    let mss = |ns: &NetNs, socket: &TcpStream| -> u32 {
        let shown = run(ns, "ss", &format!("-tinH sport = :{}", socket.local_addr().unwrap().port()));
        let value = shown.split_whitespace().find_map(|word| word.strip_prefix("mss:")).expect("an MSS");
        value.parse().unwrap()
    };
    (mss(&host.0, &near), mss(&to.ns, &far))
}

/// The ruleset of the namespace that this runs in.
pub(crate) fn nftables() -> String {
    let output = Command::new("nft").args(["list", "ruleset"]).output().unwrap();
    assert!(output.status.success(), "nft: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
