//! What the designs stand on: nodes that forward, and edge boxes on one Internet.

use anyhow::{Context, Result};

use crate::edge::{Binaries, Edge};
use crate::lab::Lab;
use crate::node::Node;
use crate::pki::{Authority, CredentialFiles, KeyKind, Validity};

/// A node that forwards whatever comes, by whichever way, and sends nobody elsewhere.
pub(super) fn router(lab: &Lab, name: &str) -> Result<Node> {
    let node = lab.node(name)?;
    for family in ["all", "default"] {
        node.sysctl(&format!("net.ipv4.conf.{family}.rp_filter"), "0")?;
        node.sysctl(&format!("net.ipv4.conf.{family}.send_redirects"), "0")?;
    }
    node.forward()?;
    Ok(node)
}

/// An Internet of one router, and the authority that all edge boxes on it trust.
pub(super) struct Ground<'a> {
    lab: &'a Lab,
    binaries: &'a Binaries,
    /// The Internet.
    pub(super) internet: Node,
    authority: Authority,
    configurations: &'a [(&'a str, &'a str)],
}

impl<'a> Ground<'a> {
    /// With the configurations of the edge boxes, by their names.
    pub(super) fn new(
        lab: &'a Lab,
        binaries: &'a Binaries,
        authority: &str,
        configurations: &'a [(&'a str, &'a str)],
    ) -> Result<Self> {
        let (internet, authority) = (router(lab, "inet")?, Authority::new(authority)?);
        Ok(Self { lab, binaries, internet, authority, configurations })
    }

    /// A machine of somebody else's with `wan0` on the Internet, its default route and its certificate.
    pub(super) fn foreign(&self, name: &str, address: &str, gateway: &str) -> Result<(Node, CredentialFiles)> {
        let node = router(self.lab, name)?;
        self.lab.join((&node, "wan0"), (&self.internet, name))?;
        self.internet.ip(&format!("address add {gateway}/30 dev {name}"))?;
        node.ip_batch(&format!("address add {address}/30 dev wan0\nroute add default via {gateway}"))?;
        let id = format!("{name}.example.net");
        let credential = self.authority.issue(&id, KeyKind::EcdsaP256, Validity::Current)?;
        Ok((node.clone(), credential.write(node.folder(), name, &self.authority)?))
    }

    /// An edge box with `wan0` on the Internet, its default route, its certificate and its configuration; nothing of ours
    /// runs yet.
    pub(super) fn edge(&self, name: &str, address: &str, gateway: &str) -> Result<Edge> {
        let (edge, _) = self.foreign(name, address, gateway)?;
        let text = self.configurations.iter().find(|(known, _)| *known == name).context("no such configuration")?.1;
        Edge::new(&edge, self.binaries, text)
    }
}
