//! Outbound route filtering (RFC 5291) in `show bgp neighbors`, in FRR's layout.

use std::fmt::Write as _;

use bgp_core::policy::{Action, PrefixRule};
use net_types::Family;
use serde_json::{Map, Value};

use super::{
    family_name, object,
    view::{Capabilities, Mutual, Neighbor},
};

/// Type 64 (RFC 5292).
const ADDRESS_PREFIX: u8 = 64;

/// Who sends filters of a family and who takes them, if anybody does either.
fn modes(capabilities: &Capabilities, family: Family) -> Option<(Mutual, Mutual)> {
    let (send, receive) = capabilities.filters.get(&family).copied()?;
    let any = |mutual: Mutual| mutual.advertised || mutual.received;
    (any(send) || any(receive)).then_some((send, receive))
}

/// The lines of one family of a neighbor.
pub(super) fn text(neighbor: &Neighbor, family: Family, out: &mut String) {
    let Some((send, receive)) = modes(&neighbor.capabilities, family) else { return };
    let _ = writeln!(
        out,
        "  AF-dependant capabilities:\n    Outbound Route Filter (ORF) type ({ADDRESS_PREFIX}) Prefix-list:"
    );
    for (name, mode) in [("Send", send), ("Receive", receive)] {
        let said = [(mode.advertised, "advertised"), (mode.received, "received")];
        let said: Vec<&str> = said.into_iter().filter_map(|(is, word)| is.then_some(word)).collect();
        if !said.is_empty() {
            let _ = writeln!(out, "      {name}-mode: {}", said.join(", "));
        }
    }
}

/// `afDependentCap` of one family of a neighbor.
pub(super) fn json(neighbor: &Neighbor, family: Family) -> Option<Value> {
    let (send, receive) = modes(&neighbor.capabilities, family)?;
    let modes = [("sendMode", send.key()), ("recvMode", receive.key())];
    let modes: Map<String, Value> =
        modes.into_iter().filter_map(|(key, mode)| Some((key.to_owned(), mode?.into()))).collect();
    Some(Value::Object(object([("orfType", ADDRESS_PREFIX.into()), ("orfPrefixList", Value::Object(modes))])))
}

fn word(action: Action) -> &'static str {
    if action == Action::Permit { "permit" } else { "deny" }
}

/// `show bgp … neighbors X received prefix-filter`: what the neighbor asked us to keep back.
pub fn filter_text(family: Family, neighbor: &str, lines: &[PrefixRule]) -> String {
    let mut out = format!("Address Family: {}\n", family_name(family));
    if lines.is_empty() {
        out.push_str("No functional output\n");
        return out;
    }
    let kind = if family == Family::Ipv4Unicast { "ip" } else { "ipv6" };
    let _ = writeln!(out, "{kind} prefix-list {neighbor}: {} entries", lines.len());
    for line in lines {
        let _ = write!(out, "   seq {} {} {}", line.sequence, word(line.action), line.prefix);
        for (name, bits) in [("ge", line.ge), ("le", line.le)] {
            if let Some(bits) = bits {
                let _ = write!(out, " {name} {bits}");
            }
        }
        out.push('\n');
    }
    out
}

/// The same as JSON. FRR names each line after where it happens to be in memory; here they are a list.
pub fn filter_json(family: Family, neighbor: &str, lines: &[PrefixRule]) -> Value {
    let line = |line: &PrefixRule| {
        let mut out = object([
            ("seq", line.sequence.into()),
            ("seqPrefixListType", word(line.action).into()),
            ("prefix", line.prefix.to_string().into()),
        ]);
        for (name, bits) in [("ge", line.ge), ("le", line.le)] {
            out.extend(bits.map(|bits| (name.to_owned(), bits.into())));
        }
        Value::Object(out)
    };
    let list = object([
        ("prefixListCounter", lines.len().into()),
        ("prefixListName", neighbor.into()),
        ("entries", lines.iter().map(line).collect::<Vec<_>>().into()),
    ]);
    let key = if family == Family::Ipv4Unicast { "ipPrefixList" } else { "ipv6PrefixList" };
    Value::Object(object([(key, Value::Object(list))]))
}
