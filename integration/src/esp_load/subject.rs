//! Two nodes joined by a veth pair, and a tunnel between them made by whoever is measured.

use std::io::{BufRead, BufReader, Write};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::edge::{Binaries, Edge};
use crate::kernel;
use crate::lab::Lab;
use crate::node::Node;
use crate::one_wan::{self, Side, Text};
use crate::peers::{Connection, Secret, StrongSwan};
use crate::process::Process;

const KEY: &str = "the key of the measurement";

/// What carries the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// Two of our ipsecd, which seal themselves.
    Holdfast,
    /// Two of our ipsecd, which have the kernel seal.
    HoldfastKernel,
    /// Two charon with the kernel-libipsec plugin.
    StrongSwanLibipsec,
    /// Two boringtun-cli: WireGuard in user space.
    Boringtun,
    /// Nothing: the veth pair itself.
    Veth,
}

/// The two nodes and what runs in them.
#[derive(Debug)]
pub struct EspPair {
    /// One end; 10.1.0.1 lies behind it.
    pub left: Node,
    /// The other; 10.2.0.1.
    pub right: Node,
    ours: Vec<Edge>,
    _swans: Vec<StrongSwan>,
    _boringtuns: Vec<Process>,
}

impl Carrier {
    /// All of them, ours first.
    pub const ALL: [Self; 5] =
        [Self::Holdfast, Self::HoldfastKernel, Self::StrongSwanLibipsec, Self::Boringtun, Self::Veth];

    /// As it stands in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Holdfast => "holdfast",
            Self::HoldfastKernel => "holdfast-kernel",
            Self::StrongSwanLibipsec => "strongswan-libipsec",
            Self::Boringtun => "boringtun",
            Self::Veth => "veth",
        }
    }
}

impl EspPair {
    /// Builds the nodes and brings the tunnel up. `boringtun` is the program, where that is the carrier.
    pub fn build(lab: &Lab, carrier: Carrier, boringtun: Option<&Path>) -> Result<Self> {
        let (left, right) = (lab.node("left")?, lab.node("right")?);
        lab.join((&left, "wan1"), (&right, "wan1"))?;
        for (node, side) in [(&left, Side::Left), (&right, Side::Right)] {
            node.sysctl("net.ipv6.conf.default.accept_dad", "0")?;
            node.address("wan1", &format!("{}/29", side.wan_address()))?;
            node.address("lo", &format!("{}/24", side.inner()))?;
        }
        let mut pair = Self { left, right, ours: Vec::new(), _swans: Vec::new(), _boringtuns: Vec::new() };
        match carrier {
            Carrier::Holdfast => pair.start_ours(lab, "userspace")?,
            Carrier::HoldfastKernel => {
                kernel::load_ipsec();
                pair.start_ours(lab, "kernel")?;
            }
            Carrier::StrongSwanLibipsec => pair.start_strongswan(lab)?,
            Carrier::Boringtun => pair.start_boringtun(lab, boringtun.context("boringtun-cli is not there")?)?,
            Carrier::Veth => pair.route(|side| format!("via {}", side.other().wan_address()))?,
        }
        lab.wait_for("a packet through the tunnel", Duration::from_secs(20), || {
            pair.left.ping(Side::Right.inner(), 3).map(|()| true)
        })?;
        Ok(pair)
    }

    fn node(&self, side: Side) -> &Node {
        if side == Side::Left { &self.left } else { &self.right }
    }

    /// The ends, each with the address that the load is to come from or go to.
    pub fn ends(&self) -> [(&Node, IpAddr); 2] {
        [(&self.left, Side::Left.inner()), (&self.right, Side::Right.inner())]
    }

    /// Our ipsecd on the left; only where we are the carrier.
    pub fn edge(&self) -> Option<&Edge> {
        self.ours.first()
    }

    fn route(&self, way: impl Fn(Side) -> String) -> Result<()> {
        for side in [Side::Left, Side::Right] {
            let there = side.other().number();
            self.node(side).route(&format!("10.{there}.0.0/24 {} src {}", way(side), side.inner()))?;
        }
        Ok(())
    }

    fn start_ours(&mut self, lab: &Lab, datapath: &str) -> Result<()> {
        let binaries = Binaries::find()?;
        for side in [Side::Left, Side::Right] {
            let node = self.node(side).clone();
            one_wan::write_psk(&node, KEY)?;
            // The link is the peer's own: what stands in for a gateway is never used.
            let text =
                Text::new(side).datapath(datapath).psk().tunnel(&format!("ip address 169.254.1.{}/30", side.number()));
            let text = text.proposal("aes128gcm16-prfsha256-ecp256", "aes128gcm16").to_string();
            let gateway = text.lines().find(|line| line.starts_with(" gateway ")).context("no gateway")?;
            let text = text.replace(gateway, &format!(" gateway {}", side.other().wan_address()));
            let mut edge = Edge::new(&node, &binaries, &text)?;
            edge.start_ipsecd()?;
            self.ours.push(edge);
        }
        for edge in &mut self.ours {
            one_wan::wait_up(lab, edge)?;
        }
        self.route(|_| "dev tun1".to_owned())
    }

    fn start_strongswan(&mut self, lab: &Lab) -> Result<()> {
        for side in [Side::Left, Side::Right] {
            let connection = Connection {
                local: side.wan_address().to_owned(),
                remote: side.other().wan_address().to_owned(),
                local_id: side.id().to_owned(),
                remote_id: side.other().id().to_owned(),
                selectors: (format!("10.{}.0.0/24", side.number()), format!("10.{}.0.0/24", side.other().number())),
                ike: "aes128gcm16-prfsha256-ecp256".to_owned(),
                esp: "aes128gcm16".to_owned(),
                secret: Secret::Psk(KEY.to_owned()),
                more: String::new(),
                more_child: String::new(),
            };
            let swan = StrongSwan::start(self.node(side), &connection)?;
            self._swans.push(swan);
        }
        let left = self._swans.first().context("no charon")?;
        left.initiate()?;
        lab.wait_for("strongSwan's child", Duration::from_secs(20), || left.is_up())
    }

    fn start_boringtun(&mut self, lab: &Lab, program: &Path) -> Result<()> {
        let program = program.to_str().context("a path that is not UTF-8")?.to_owned();
        for side in [Side::Left, Side::Right] {
            let node = self.node(side).clone();
            // Its control sockets have a fixed place.
            let script = "mount -t tmpfs tmpfs /var/run && mkdir /var/run/wireguard && \
                          mount --bind \"$1\" /var/run/wireguard && exec \"$0\" --foreground \
                          --disable-drop-privileges wg0";
            let control = node.folder().join("wireguard");
            std::fs::create_dir_all(&control)?;
            let folder = control.to_str().context("a path that is not UTF-8")?;
            let argv = ["unshare", "--mount", "sh", "-c", script, &program, folder];
            self._boringtuns.push(node.spawn("boringtun", &argv)?);
            let socket = control.join("wg0.sock");
            lab.wait_for("boringtun's socket", Duration::from_secs(10), || Ok(socket.exists()))?;
            wireguard(&socket, side)?;
            node.ip("link set dev wg0 mtu 1420 up")?;
        }
        self.route(|_| "dev wg0".to_owned())
    }
}

/// Keys that protect nothing but this measurement: private, public.
fn wireguard_keys(side: Side) -> (&'static str, &'static str) {
    match side {
        Side::Left => (
            "78ca4223031f3c48e20465853c4b7ec06e0bf243fa837e1e3d25c2db4b1d585f",
            "f539359500f995476972a3272dcad622f9ffe3bdb1f3a37e8dc2496232712f29",
        ),
        Side::Right => (
            "880aa1946666e981d883f4e97683703f8174ed0b0d3c50577b5fde96cd61097c",
            "27c22e90e4b8b3fd1b6e5b90f544f502b07617c1b85515a3191d69a4c9c74108",
        ),
    }
}

/// Says over WireGuard's configuration protocol who we are and who the peer is.
fn wireguard(socket: &Path, side: Side) -> Result<()> {
    let (private, peer) = (wireguard_keys(side).0, wireguard_keys(side.other()).1);
    let mut stream = UnixStream::connect(socket)?;
    let (endpoint, inner) = (side.other().wan_address(), side.other().number());
    let text = format!(
        "set=1\nprivate_key={private}\nlisten_port=51820\npublic_key={peer}\nendpoint={endpoint}:51820\n\
         allowed_ip=10.{inner}.0.0/24\n\n"
    );
    stream.write_all(text.as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    ensure!(answer.trim() == "errno=0", "boringtun refused its configuration: {answer}");
    Ok(())
}
