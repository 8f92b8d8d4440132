//! A LAN: a switch in a node of its own, to which machines are plugged in.

use anyhow::Result;

use crate::lab::Lab;
use crate::node::Node;

const BRIDGE: &str = "switch0";

/// A switch.
#[derive(Debug)]
pub struct Lan<'lab> {
    lab: &'lab Lab,
    /// The switch's own namespace; a port is called as the node at its other end.
    pub switch: Node,
}

impl<'lab> Lan<'lab> {
    /// A switch without a machine.
    pub fn new(lab: &'lab Lab, name: &str) -> Result<Self> {
        let switch = lab.node(name)?;
        switch.ip(&format!("link add {BRIDGE} type bridge"))?;
        switch.set_link(BRIDGE, true)?;
        Ok(Self { lab, switch })
    }

    /// Plugs a machine in, by this interface of its own and with this address.
    pub fn plug(&self, node: &Node, interface: &str, address: &str) -> Result<()> {
        self.lab.join((node, interface), (&self.switch, node.name()))?;
        self.switch.ip(&format!("link set dev {} master {BRIDGE}", node.name()))?;
        node.address(interface, address)
    }

    /// Pulls a machine's cable, or puts it back.
    pub fn set_cable(&self, node: &Node, plugged: bool) -> Result<()> {
        self.switch.set_link(node.name(), plugged)
    }
}

/// The hardware address of an interface.
pub fn hardware_address(node: &Node, interface: &str) -> Result<String> {
    let links = node.run_json(&["ip", "-j", "link", "show", "dev", interface])?;
    Ok(links.pointer("/0/address").and_then(|address| address.as_str()).unwrap_or_default().to_owned())
}

/// Where `node` sends what is for `address` on the link, if it knows.
pub fn arp_entry(node: &Node, address: &str) -> Result<Option<String>> {
    let entries = node.run_json(&["ip", "-j", "neighbor", "show", address])?;
    Ok(entries.pointer("/0/lladdr").and_then(|address| address.as_str()).map(str::to_owned))
}
