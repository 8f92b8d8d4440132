//! A table of nftables that fits the MSS of TCP to the interfaces that it knows (`NETLINK_NETFILTER`).
//!
//! The kernel's IPsec leaves the packets inside as they are, and there is no route attribute that reaches connections which
//! are only passed on. So there is a table of our own beside whatever else the machine filters with. As `nft` shows it:
//!
//! ```text
//! table inet holdfast {
//!     flags owner
//!     map mss4 { type iface_index : integer; elements = { "tun1" : 1360 } }
//!     map mss6 { type iface_index : integer; elements = { "tun1" : 1340 } }
//!     chain forward {
//!         type filter hook forward priority mangle; policy accept;
//!         meta l4proto tcp tcp flags syn jump syn
//!     }
//!     chain syn {
//!         meta nfproto ipv4 tcp option maxseg size set oif map @mss4
//!         ...
//!     }
//! }
//! ```
//!
//! The table belongs to the socket that made it (`NFT_TABLE_F_OWNER`, Linux 5.12): the kernel removes it when that is closed,
//! whatever became of the process, and nobody else's `flush ruleset` takes it away. The kernel never raises an MSS.
//!
//! Layouts and numbers are those of linux/netfilter/nf_tables.h and nfnetlink.h; numbers are in network order there.

use crate::message::{Message, flag, nested};

/// The netlink protocol of these messages (`NETLINK_NETFILTER`).
pub const NETLINK_NETFILTER: isize = 12;

/// `NFNL_SUBSYS_NFTABLES`
const SUBSYSTEM: u8 = 10;
/// `NFNL_MSG_BATCH_*`
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
/// `NFPROTO_*`
const UNSPECIFIED: u8 = 0;
const INET: u8 = 1;
const IPV4: u8 = 2;
const IPV6: u8 = 10;

/// `NFT_MSG_*`
mod kind {
    pub(super) const NEW_TABLE: u8 = 0;
    pub(super) const NEW_CHAIN: u8 = 3;
    pub(super) const NEW_RULE: u8 = 6;
    pub(super) const NEW_SET: u8 = 9;
    pub(super) const NEW_ELEMENT: u8 = 12;
    pub(super) const DELETE_ELEMENT: u8 = 14;
}

const TABLE: &str = "holdfast";
const MAP_V4: &str = "mss4";
const MAP_V6: &str = "mss6";
/// Where every packet that is passed on comes by.
const FORWARD: &str = "forward";
/// Where those go that open a connection.
const SYN: &str = "syn";

/// `NFT_TABLE_F_OWNER`
const OWNER: u32 = 2;
/// `NF_INET_FORWARD`
const HOOK_FORWARD: u32 = 2;
/// `NF_IP_PRI_MANGLE`: before whoever filters.
const PRIORITY: i32 = -150;
/// `NFTA_LIST_ELEM`
const ITEM: u16 = 1;
/// `NFTA_DATA_VALUE` and `NFTA_DATA_VERDICT`
const VALUE: u16 = 1;
const VERDICT: u16 = 2;
/// `NFT_REG_VERDICT` and `NFT_REG_1`
const REGISTER_OF_VERDICTS: u32 = 0;
const REGISTER: u32 = 1;
/// `NFT_META_*`. The last is the interface that a packet of a VRF came by; [`CAME_BY`] is the VRF's then.
const CAME_BY: u32 = 4;
const LEAVES_BY: u32 = 5;
const FAMILY: u32 = 15;
const PROTOCOL: u32 = 16;
const CAME_BY_IN_VRF: u32 = 33;

/// The message that opens a transaction: all that follow up to [`end_batch`], in one send, are done or none is.
pub fn begin_batch() -> Message {
    batch(BATCH_BEGIN)
}

/// The message that closes a transaction.
pub fn end_batch() -> Message {
    batch(BATCH_END)
}

fn batch(kind: u16) -> Message {
    // struct nfgenmsg: family, version, and the subsystem where others have a resource.
    Message::new(kind, 0, &[UNSPECIFIED, 0, 0, SUBSYSTEM])
}

/// The messages that make the table, for one transaction. The kernel refuses with `EEXIST` if there is one of that name.
pub fn create_mss_table() -> Vec<Message> {
    let mut table = request(kind::NEW_TABLE, flag::CREATE | flag::EXCL);
    table.attribute_of(1, &[&name(TABLE)]); // NFTA_TABLE_NAME
    table.attribute(2, &OWNER.to_be_bytes()); // NFTA_TABLE_FLAGS
    let mut messages = vec![table, map(MAP_V4, 1), map(MAP_V6, 2)];

    let mut forward = chain(FORWARD);
    let hook = [nested(1, &HOOK_FORWARD.to_be_bytes()), nested(2, &PRIORITY.to_be_bytes())].concat();
    forward.attribute(NESTED | 4, hook.as_slice()); // NFTA_CHAIN_HOOK: number, priority
    forward.attribute_of(7, &[&name("filter")]); // NFTA_CHAIN_TYPE
    messages.extend([forward, chain(SYN)]);

    const TCP: u8 = 6;
    const FLAG_SYN: u8 = 2;
    let opens = [load(PROTOCOL), compare(Comparison::Equal, &[TCP]), flags_of_tcp(FLAG_SYN), jump(SYN)];
    messages.push(rule(FORWARD, &opens));
    for (family, map) in [(IPV4, MAP_V4), (IPV6, MAP_V6)] {
        for interface in [LEAVES_BY, CAME_BY, CAME_BY_IN_VRF] {
            let of_family = compare(Comparison::Equal, &[family]);
            messages.push(rule(SYN, &[load(FAMILY), of_family, load(interface), look_up(map), set_mss()]));
        }
    }
    messages
}

/// The messages that bound the MSS of what leaves and comes by an interface, in octets for each family; for one transaction.
/// The kernel refuses with `EEXIST` where there is another bound, which has to be [taken out](remove_mss) before.
pub fn add_mss(ifindex: u32, v4: u16, v6: u16) -> [Message; 2] {
    [(MAP_V4, v4), (MAP_V6, v6)].map(|(map, mss)| element(kind::NEW_ELEMENT, flag::CREATE, map, ifindex, Some(mss)))
}

/// The messages that take an interface's bounds out, for one transaction. The kernel refuses with `ENOENT` if there are none.
pub fn remove_mss(ifindex: u32) -> [Message; 2] {
    [MAP_V4, MAP_V6].map(|map| element(kind::DELETE_ELEMENT, 0, map, ifindex, None))
}

/// `NLA_F_NESTED`
const NESTED: u16 = 0x8000;

fn request(kind: u8, flags: u16) -> Message {
    let kind = u16::from(SUBSYSTEM) << 8 | u16::from(kind);
    Message::new(kind, flags | flag::ACK, &[INET, 0, 0, 0]) // struct nfgenmsg
}

fn name(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

fn map(map: &str, id: u32) -> Message {
    /// `NFT_SET_MAP`
    const IS_MAP: u32 = 8;
    // What `nft` shows them as; the kernel does not look.
    const IFACE_INDEX: u32 = 20;
    const INTEGER: u32 = 4;
    let mut message = request(kind::NEW_SET, flag::CREATE | flag::EXCL);
    message.attribute_of(1, &[&name(TABLE)]).attribute_of(2, &[&name(map)]); // NFTA_SET_TABLE, _NAME
    // NFTA_SET_FLAGS, _KEY_TYPE, _KEY_LEN, _DATA_TYPE, _DATA_LEN, _ID
    for (attribute, value) in [(3, IS_MAP), (4, IFACE_INDEX), (5, 4), (6, INTEGER), (7, 2), (10, id)] {
        message.attribute(attribute, &value.to_be_bytes());
    }
    message
}

fn chain(chain: &str) -> Message {
    let mut message = request(kind::NEW_CHAIN, flag::CREATE | flag::EXCL);
    message.attribute_of(1, &[&name(TABLE)]).attribute_of(3, &[&name(chain)]); // NFTA_CHAIN_TABLE, _NAME
    message
}

fn element(kind: u8, flags: u16, map: &str, ifindex: u32, mss: Option<u16>) -> Message {
    // NFTA_SET_ELEM_KEY, _DATA; an index is in the host's order, as the register holds it.
    let mut element = nested(NESTED | 1, &nested(VALUE, &ifindex.to_ne_bytes()));
    if let Some(mss) = mss {
        element.extend(nested(NESTED | 2, &nested(VALUE, &mss.to_be_bytes())));
    }
    let mut message = request(kind, flags);
    message.attribute_of(1, &[&name(TABLE)]).attribute_of(2, &[&name(map)]); // NFTA_SET_ELEM_LIST_TABLE, _SET
    message.attribute(NESTED | 3, nested(NESTED | ITEM, &element).as_slice()); // NFTA_SET_ELEM_LIST_ELEMENTS
    message
}

fn rule(chain: &str, expressions: &[Vec<u8>]) -> Message {
    let mut message = request(kind::NEW_RULE, flag::CREATE | APPEND);
    message.attribute_of(1, &[&name(TABLE)]).attribute_of(2, &[&name(chain)]); // NFTA_RULE_TABLE, _CHAIN
    message.attribute(NESTED | 4, expressions.concat().as_slice()); // NFTA_RULE_EXPRESSIONS
    message
}

/// `NLM_F_APPEND`
const APPEND: u16 = 0x800;

/// An expression: its name, and its attributes one after the other.
fn expression(kind: &str, attributes: &[Vec<u8>]) -> Vec<u8> {
    let parts = [nested(1, &name(kind)), nested(NESTED | 2, &attributes.concat())]; // NFTA_EXPR_NAME, _DATA
    nested(NESTED | ITEM, &parts.concat())
}

fn word(attribute: u16, value: u32) -> Vec<u8> {
    nested(attribute, &value.to_be_bytes())
}

fn data(attribute: u16, value: &[u8]) -> Vec<u8> {
    nested(NESTED | attribute, &nested(VALUE, value))
}

/// What is known about a packet beside its octets, into the register.
fn load(what: u32) -> Vec<u8> {
    expression("meta", &[word(1, REGISTER), word(2, what)]) // NFTA_META_DREG, _KEY
}

/// `NFT_CMP_*`
#[derive(Clone, Copy)]
enum Comparison {
    Equal = 0,
    Unequal = 1,
}

/// Ends the rule for packets for which it does not hold.
fn compare(how: Comparison, with: &[u8]) -> Vec<u8> {
    expression("cmp", &[word(1, REGISTER), word(2, how as u32), data(3, with)]) // NFTA_CMP_SREG, _OP, _DATA
}

/// Ends the rule for packets that have none of these flags in their TCP header.
fn flags_of_tcp(flags: u8) -> Vec<u8> {
    const TRANSPORT: u32 = 2;
    // NFTA_PAYLOAD_DREG, _BASE, _OFFSET, _LEN: the octet of flags.
    let octet = expression("payload", &[word(1, REGISTER), word(2, TRANSPORT), word(3, 13), word(4, 1)]);
    // NFTA_BITWISE_SREG, _DREG, _LEN, _MASK, _XOR
    let masked =
        expression("bitwise", &[word(1, REGISTER), word(2, REGISTER), word(3, 1), data(4, &[flags]), data(5, &[0])]);
    [octet, masked, compare(Comparison::Unequal, &[0])].concat()
}

fn jump(to: &str) -> Vec<u8> {
    const JUMP: i32 = -3;
    let verdict = [nested(1, &JUMP.to_be_bytes()), nested(2, &name(to))].concat(); // NFTA_VERDICT_CODE, _CHAIN
    let verdict = nested(NESTED | 2, &nested(NESTED | VERDICT, &verdict)); // NFTA_IMMEDIATE_DATA
    expression("immediate", &[word(1, REGISTER_OF_VERDICTS), verdict]) // NFTA_IMMEDIATE_DREG
}

/// What the map has for the register's value, into the register. Ends the rule where it has nothing.
fn look_up(map: &str) -> Vec<u8> {
    expression("lookup", &[nested(1, &name(map)), word(2, REGISTER), word(3, REGISTER)]) // NFTA_LOOKUP_SET, _SREG, _DREG
}

/// The register's value into the MSS option, if there is one that is greater.
fn set_mss() -> Vec<u8> {
    const MAXIMUM_SEGMENT_SIZE: u8 = 2;
    const TCP_OPTION: u32 = 1;
    // NFTA_EXTHDR_TYPE, _OFFSET, _LEN (of the value within the option), _OP, _SREG
    let option = [nested(2, &[MAXIMUM_SEGMENT_SIZE]), word(3, 2), word(4, 2), word(6, TCP_OPTION), word(7, REGISTER)];
    expression("exthdr", &option)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Attributes, Messages};

    fn attributes(message: &Message) -> Vec<(u16, Vec<u8>)> {
        let received = Messages::new(message.as_bytes()).next().unwrap().unwrap();
        let (_, attributes) = received.split::<u32>().unwrap();
        attributes.map(|(kind, value)| (kind, value.to_vec())).collect()
    }

    /// The names of a rule's expressions.
    fn expressions(message: &Message) -> Vec<String> {
        let all = attributes(message).into_iter().find(|(kind, _)| *kind == 4).unwrap().1;
        let of = |item: &[u8]| {
            let name = Attributes(item).next().unwrap().1;
            String::from_utf8(name.to_vec()).unwrap().trim_end_matches('\0').to_owned()
        };
        Attributes(&all).map(|(_, item)| of(item)).collect()
    }

    #[test]
    fn only_what_opens_a_connection_is_looked_up() {
        let messages = create_mss_table();
        let kinds: Vec<u8> = messages.iter().map(|message| message.as_bytes()[4]).collect();
        assert_eq!(kinds, [0, 9, 9, 3, 3, 6, 6, 6, 6, 6, 6, 6]);
        assert_eq!(expressions(&messages[5]), ["meta", "cmp", "payload", "bitwise", "cmp", "immediate"]);
        for rule in &messages[6..] {
            assert_eq!(expressions(rule), ["meta", "cmp", "meta", "lookup", "exthdr"]);
        }
    }

    #[test]
    fn an_element_has_its_index_in_the_hosts_order_and_its_mss_in_the_networks() {
        let [v4, v6] = add_mss(7, 1360, 1340);
        for (message, map, mss) in [(v4, "mss4\0", 1360u16), (v6, "mss6\0", 1340)] {
            let attributes = attributes(&message);
            assert_eq!(attributes[1], (2, map.as_bytes().to_vec()));
            let (_, item) = Attributes(&attributes[2].1).next().unwrap();
            let values: Vec<_> = Attributes(item).map(|(_, value)| Attributes(value).next().unwrap().1).collect();
            assert_eq!(values, [&7u32.to_ne_bytes()[..], &mss.to_be_bytes()]);
        }
    }
}
