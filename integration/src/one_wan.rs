//! The smallest lab with a tunnel: two routers, one WAN between them.
//!
//! ```text
//! left ──── isp ──── right      198.51.100.2 and 198.51.100.6; behind them 10.1.0.0/24 and 10.2.0.0/24,
//!                               fd10:1::/64 and fd10:2::/64, each an address of the router's loopback
//! ```

use std::fmt::Write;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::Result;

use crate::capture::Clearness;
use crate::edge::Edge;
use crate::kernel;
use crate::lab::Lab;
use crate::node::Node;
use crate::pki;

/// The nodes of the lab.
#[derive(Clone, Debug)]
pub struct OneWan {
    /// 198.51.100.2.
    pub left: Node,
    /// The router between.
    pub isp: Node,
    /// 198.51.100.6.
    pub right: Node,
}

/// Which of the two routers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// `left`.
    Left,
    /// `right`.
    Right,
}

impl Side {
    /// The number in the side's own networks: 10.N.0.0/24.
    pub fn number(self) -> u8 {
        match self {
            Self::Left => 1,
            Self::Right => 2,
        }
    }

    /// The address on the WAN.
    pub fn wan_address(self) -> &'static str {
        match self {
            Self::Left => "198.51.100.2",
            Self::Right => "198.51.100.6",
        }
    }

    fn gateway(self) -> &'static str {
        match self {
            Self::Left => "198.51.100.1",
            Self::Right => "198.51.100.5",
        }
    }

    /// The IKE identity.
    pub fn id(self) -> &'static str {
        match self {
            Self::Left => "left.example.net",
            Self::Right => "right.example.net",
        }
    }

    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::Left => Self::Right,
            Self::Right => Self::Left,
        }
    }

    /// The router's address in its own network: 10.N.0.1.
    pub fn inner(self) -> IpAddr {
        IpAddr::from([10, self.number(), 0, 1])
    }

    /// The router's address in its own IPv6 network: fd10:N::1.
    pub fn inner_v6(self) -> IpAddr {
        IpAddr::from([0xfd10, u16::from(self.number()), 0, 0, 0, 0, 0, 1])
    }
}

impl OneWan {
    /// Builds the nodes and links.
    pub fn build(lab: &Lab) -> Result<Self> {
        let node = |name: &str| -> Result<Node> {
            let node = lab.node(name)?;
            node.sysctl("net.ipv6.conf.default.accept_dad", "0")?;
            node.forward()?;
            Ok(node)
        };
        let (left, isp, right) = (node("left")?, node("isp")?, node("right")?);
        lab.join((&left, "wan1"), (&isp, "to-left"))?;
        lab.join((&right, "wan1"), (&isp, "to-right"))?;
        isp.ip_batch("address add 198.51.100.1/30 dev to-left\naddress add 198.51.100.5/30 dev to-right")?;
        for (node, side) in [(&left, Side::Left), (&right, Side::Right)] {
            let (wan, gateway) = (side.wan_address(), side.gateway());
            node.ip_batch(&format!(
                "address add {}/24 dev lo\naddress add {}/64 dev lo nodad\naddress add {wan}/30 dev wan1\nroute add default via {gateway}",
                side.inner(),
                side.inner_v6()
            ))?;
        }
        Ok(Self { left, isp, right })
    }

    /// The node of a side.
    pub fn node(&self, side: Side) -> &Node {
        match side {
            Side::Left => &self.left,
            Side::Right => &self.right,
        }
    }

    /// What on the WAN counts as being in the clear.
    pub fn clearness(&self) -> Result<Clearness> {
        Ok(Clearness { transport: vec!["198.51.100.0/24".parse()?], secret: Vec::new() })
    }

    /// Pings from one router's own network to the other's, through whatever lies between.
    pub fn ping_through(&self, from: Side) -> Result<()> {
        let (source, destination) = (from.inner().to_string(), from.other().inner().to_string());
        self.node(from)
            .run(&["ping", "-n", "-q", "-c", "3", "-i", "0.2", "-W", "2", "-I", &source, &destination])
            .map(drop)
    }
}

/// The configuration of one of our edges in this lab.
#[derive(Clone, Debug)]
pub struct Text {
    side: Side,
    proposal: String,
    identity: String,
    tunnel: String,
    datapath: Option<String>,
    rest: String,
}

impl Text {
    /// A tunnel with everything but a way to authenticate.
    pub fn new(side: Side) -> Self {
        Self {
            side,
            proposal: " ike aes256gcm16-prfsha384-ecp384\n esp aes256gcm16\n".to_owned(),
            identity: format!(" id {}\n", side.id()),
            tunnel: format!(
                " remote {} id {}\n wan isp\n identity own\n proposal strong\n",
                side.other().wan_address(),
                side.other().id()
            ),
            datapath: kernel::datapath(),
            rest: String::new(),
        }
    }

    /// Another datapath than the one that labs are to have.
    pub fn datapath(mut self, datapath: &str) -> Self {
        self.datapath = Some(datapath.to_owned());
        self
    }

    /// Authenticates by the key in the file `psk`.
    pub fn psk(mut self) -> Self {
        self.identity.push_str(" pre-shared-key file /etc/holdfast/psk\n");
        self
    }

    /// Authenticates by the certificate in `own.pem`.
    pub fn certificate(mut self) -> Self {
        self.identity.push_str(
            " certificate /etc/holdfast/own.pem\n private-key /etc/holdfast/own.key\n trust-anchor /etc/holdfast/ca.pem\n",
        );
        self
    }

    /// Another set of algorithms: the lines of `ipsec proposal`.
    pub fn proposal(mut self, ike: &str, esp: &str) -> Self {
        self.proposal = format!(" ike {ike}\n esp {esp}\n");
        self
    }

    /// Another identity for ourselves.
    pub fn own_id(mut self, id: &str) -> Self {
        self.identity = self.identity.replace(self.side.id(), id);
        self
    }

    /// More lines for the identity.
    pub fn identity(mut self, lines: &str) -> Self {
        for line in lines.lines() {
            let _infallible = writeln!(self.identity, " {}", line.trim());
        }
        self
    }

    /// More lines for the tunnel.
    pub fn tunnel(mut self, lines: &str) -> Self {
        for line in lines.lines() {
            let _infallible = writeln!(self.tunnel, " {}", line.trim());
        }
        self
    }

    /// More sections.
    pub fn more(mut self, sections: &str) -> Self {
        self.rest.push_str(sections);
        self
    }
}

impl std::fmt::Display for Text {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { side, proposal, identity, tunnel, datapath, rest } = self;
        let gateway = side.gateway();
        let name = if *side == Side::Left { "left" } else { "right" };
        let datapath = datapath.as_ref().map_or_else(String::new, |path| format!("ipsec datapath {path}\n"));
        write!(
            out,
            "hostname {name}\n{datapath}wan isp\n interface wan1\n gateway {gateway}\nipsec proposal strong\n{proposal}\
             ipsec identity own\n{identity}ipsec tunnel tun1\n{tunnel}{rest}"
        )
    }
}

/// Writes the pre-shared key that [`Text::psk`] names.
pub fn write_psk(node: &Node, key: &str) -> Result<()> {
    pki::write_secret(&node.folder().join("psk"), &format!("{key}\n"))
}

/// Waits until a tunnel of an edge is up.
pub fn wait_up(lab: &Lab, edge: &mut Edge) -> Result<()> {
    lab.wait_for(&format!("tun1 at {}", edge.node.name()), Duration::from_secs(30), || {
        edge.must_run()?;
        Ok(edge.tunnel_state("tun1")?.starts_with("up"))
    })?;
    edge.must_have_the_labs_datapath("tun1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_is_a_configuration() {
        for side in [Side::Left, Side::Right] {
            let plain =
                Text::new(side).tunnel("local-ts 10.1.0.0/24\ninitiate never").tunnel("dpd interval 1 timeout 4");
            for text in [plain.clone().psk(), plain.certificate().own_id("another.example.net")] {
                let text = text.proposal("aes128gcm16-prfsha256-ecp256", "aes128gcm16").to_string();
                assert!(config::parse(&text).is_ok_and(|parsed| parsed.warnings.0.is_empty()), "{text}");
            }
        }
    }
}
