//! Policies: which packets, of an xfrm interface or of the machine, are sealed by which association, and which are let in.

use std::net::IpAddr;

use net_types::{Prefix, Spi};
use zerocopy::FromBytes;

use crate::{
    Mode,
    layout::{
        Address, IPPROTO_ESP, RawId, RawPolicy, RawPolicyId, RawSelector, RawTemplate, attribute, family_of, kind,
    },
    message::{Message, Received, flag, number},
};

/// A block of ports that differ in low bits only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ports {
    /// The first.
    pub first: u16,
    /// Bits that have to be as in the first.
    pub mask: u16,
}

impl Ports {
    /// All of them.
    pub const ANY: Self = Self { first: 0, mask: 0 };
}

/// Which packets a policy is for: inner ones, or in transport mode those that have one header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Selector {
    /// Their sources.
    pub source: Prefix,
    /// Their destinations, of the same family.
    pub destination: Prefix,
    /// Their transport protocol; 0 is any.
    pub protocol: u8,
    /// Their source ports.
    pub source_ports: Ports,
    /// Their destination ports.
    pub destination_ports: Ports,
}

impl Selector {
    /// Whatever goes between the two.
    pub fn between(source: Prefix, destination: Prefix) -> Self {
        Self { source, destination, protocol: 0, source_ports: Ports::ANY, destination_ports: Ports::ANY }
    }

    fn raw(&self) -> RawSelector {
        RawSelector {
            destination: Address::new(self.destination.address()),
            source: Address::new(self.source.address()),
            destination_port: self.destination_ports.first.into(),
            destination_port_mask: self.destination_ports.mask.into(),
            source_port: self.source_ports.first.into(),
            source_port_mask: self.source_ports.mask.into(),
            family: family_of(self.destination.address()),
            destination_bits: self.destination.bits(),
            source_bits: self.source.bits(),
            protocol: self.protocol,
            ..RawSelector::default()
        }
    }

    fn read(raw: &RawSelector) -> Option<Self> {
        let ports = |first: u16, mask: u16| Ports { first, mask };
        Some(Self {
            source: Prefix::new(raw.source.get(raw.family)?, raw.source_bits).ok()?,
            destination: Prefix::new(raw.destination.get(raw.family)?, raw.destination_bits).ok()?,
            protocol: raw.protocol,
            source_ports: ports(raw.source_port.get(), raw.source_port_mask.get()),
            destination_ports: ports(raw.destination_port.get(), raw.destination_port_mask.get()),
        })
    }
}

/// Which packets a policy looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PolicyDirection {
    /// Those that come out of an association and are for this machine.
    In = 0,
    /// Those that leave.
    Out = 1,
    /// Those that come out of an association and go on.
    Forward = 2,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is dropped.
    Block,
    /// It is sealed by an association of this kind, or has to come out of one.
    Protect(Template),
}

/// Which association. What is `None` may be any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Template {
    /// The outer source and destination.
    pub path: Option<(IpAddr, IpAddr)>,
    /// The number.
    pub spi: Option<Spi>,
    /// What ties it to the policy.
    pub reqid: u32,
    /// What of a packet it seals. In transport mode the selector names the addresses, and there is no path.
    pub mode: Mode,
}

/// `XFRM_POLICY_*`
const ALLOW: u8 = 0;
const BLOCK: u8 = 1;

/// A policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Which packets.
    pub selector: Selector,
    /// Which way.
    pub direction: PolicyDirection,
    /// Of which xfrm interface; 0 for packets of none.
    pub if_id: u32,
    /// The smaller number is asked first.
    pub priority: u32,
    /// What becomes of them.
    pub action: Action,
}

impl Policy {
    /// The message that puts the policy in, in the place of one with the same selector, direction and interface.
    pub fn replace(&self) -> Message {
        let mut message = self.message();
        if let Action::Protect(template) = self.action {
            message.attribute(attribute::TMPL, &template.raw(family_of(self.selector.destination.address())));
        }
        message.attribute(attribute::IF_ID, &self.if_id);
        message
    }

    fn message(&self) -> Message {
        let raw = RawPolicy {
            selector: self.selector.raw(),
            priority: self.priority,
            direction: self.direction as u8,
            action: if self.action == Action::Block { BLOCK } else { ALLOW },
            ..RawPolicy::default()
        };
        Message::new(kind::UPDATE_POLICY, flag::ACK, &raw)
    }

    /// The message that takes out the policy with this selector, direction and interface.
    pub fn delete(selector: &Selector, direction: PolicyDirection, if_id: u32) -> Message {
        let raw = RawPolicyId { selector: selector.raw(), direction: direction as u8, ..RawPolicyId::default() };
        let mut message = Message::new(kind::DELETE_POLICY, flag::ACK, &raw);
        message.attribute(attribute::IF_ID, &if_id);
        message
    }
}

impl Template {
    /// `inner` is the family where the template names no addresses.
    fn raw(&self, inner: u16) -> RawTemplate {
        let (source, destination) = self.path.unzip();
        let address = |address: Option<IpAddr>| address.map_or_else(Address::default, Address::new);
        RawTemplate {
            id: RawId {
                destination: address(destination),
                spi: self.spi.map_or(0, Spi::get).into(),
                protocol: IPPROTO_ESP,
                pad: [0; 3],
            },
            family: destination.map_or(inner, family_of),
            source: address(source),
            reqid: self.reqid,
            mode: self.mode.raw(),
            algorithms: [u32::MAX; 3],
            ..RawTemplate::default()
        }
    }

    fn read(raw: &RawTemplate) -> Option<Self> {
        let path = raw.source.get(raw.family).zip(raw.id.destination.get(raw.family));
        Some(Self {
            path: path.filter(|(source, destination)| !source.is_unspecified() && !destination.is_unspecified()),
            spi: Spi::try_from(raw.id.spi.get()).ok(),
            reqid: raw.reqid,
            mode: Mode::read(raw.mode)?,
        })
    }
}

/// The message that asks for all policies.
pub fn dump_policies() -> Message {
    Message::new(kind::GET_POLICY, flag::DUMP, &RawPolicyId::default())
}

/// A policy as the kernel tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyInfo(pub Policy);

impl PolicyInfo {
    /// Of an answer to [`dump_policies`]; `None` for those of sockets, and for those that let packets pass as they are,
    /// which are never ours.
    pub fn parse(received: Received<'_>) -> Option<Self> {
        if received.kind != kind::NEW_POLICY {
            return None;
        }
        let (raw, attributes) = received.split::<RawPolicy>()?;
        let direction = match raw.direction {
            0 => PolicyDirection::In,
            1 => PolicyDirection::Out,
            2 => PolicyDirection::Forward,
            _ => return None,
        };
        let (mut if_id, mut template) = (0, None);
        for (kind, value) in attributes {
            match kind {
                attribute::IF_ID => if_id = number(value)?,
                attribute::TMPL => template = Some(RawTemplate::read_from_prefix(value).ok()?.0),
                _ => {}
            }
        }
        let action = match (raw.action, template) {
            (BLOCK, _) => Action::Block,
            (_, Some(template)) => Action::Protect(Template::read(&template)?),
            (_, None) => return None,
        };
        let selector = Selector::read(&raw.selector)?;
        Some(Self(Policy { selector, direction, if_id, priority: raw.priority, action }))
    }
}
