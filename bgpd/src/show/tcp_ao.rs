//! TCP-AO in `show bgp neighbors`: which key signs, which one is asked for, and what the kernel counts. FRR has no words for it.

use std::fmt::Write as _;

use serde_json::Value;
use sys::tcp_ao::KeyInfo;

use super::{object, view::TcpAo};

/// The lines of one neighbor.
pub(super) fn text(ao: &TcpAo, out: &mut String) {
    let options = if ao.exclude_options { "without" } else { "with" };
    let _ = writeln!(out, "\n  TCP-AO: key chain {}, signed {options} other TCP options", ao.chain);
    let Some((info, keys)) = &ao.live else {
        for (number, send, receive, algorithm) in &ao.configured {
            let _ = writeln!(out, "    Key {number}: send-id {send}, recv-id {receive}, {algorithm}");
        }
        return;
    };
    let id = |id: Option<u8>| id.map_or_else(|| "none".to_owned(), |id| id.to_string());
    let _ = writeln!(out, "    Current send-id {}, next recv-id {}", id(info.current), id(info.next));
    for key in keys {
        let what = match configured(ao, key) {
            Some((number, algorithm)) => format!("Key {number}: {algorithm}"),
            None => "Key that is no longer in the chain".to_owned(),
        };
        let (send, receive, good, bad) = (key.send_id, key.receive_id, key.good, key.bad);
        let _ = writeln!(out, "    {what}, send-id {send}, recv-id {receive}: {good} segments good, {bad} bad");
    }
    let _ = writeln!(
        out,
        "    Segments: {} good, {} bad, {} without a known key, {} unsigned",
        info.good, info.bad, info.key_not_found, info.unsigned
    );
}

/// The same as JSON.
pub(super) fn json(ao: &TcpAo) -> Value {
    let mut out = object([("keyChain", ao.chain.as_str().into()), ("includeTcpOptions", (!ao.exclude_options).into())]);
    let named = |number: u8, send: u8, receive: u8, algorithm: String| {
        object([
            ("key", number.into()),
            ("sendId", send.into()),
            ("recvId", receive.into()),
            ("algorithm", algorithm.into()),
        ])
    };
    let Some((info, keys)) = &ao.live else {
        let keys = ao.configured.iter();
        let keys = keys.map(|(number, send, receive, how)| named(*number, *send, *receive, how.to_string()).into());
        out.insert("keys".into(), Value::Array(keys.collect()));
        return Value::Object(out);
    };
    out.extend(object([
        ("currentSendId", info.current.map_or(Value::Null, Into::into)),
        ("nextRecvId", info.next.map_or(Value::Null, Into::into)),
        ("segmentsGood", info.good.into()),
        ("segmentsBad", info.bad.into()),
        ("segmentsKeyNotFound", info.key_not_found.into()),
        ("segmentsUnsigned", info.unsigned.into()),
    ]));
    let keys = keys.iter().map(|key| {
        let mut one = match configured(ao, key) {
            Some((number, algorithm)) => named(number, key.send_id, key.receive_id, algorithm),
            None => object([
                ("sendId", key.send_id.into()),
                ("recvId", key.receive_id.into()),
                ("removedFromChain", true.into()),
            ]),
        };
        one.extend(object([
            ("current", key.is_current.into()),
            ("next", key.is_next.into()),
            ("segmentsGood", key.good.into()),
            ("segmentsBad", key.bad.into()),
        ]));
        Value::Object(one)
    });
    out.insert("keys".into(), Value::Array(keys.collect()));
    Value::Object(out)
}

/// Number and algorithm of a key that is in the chain.
fn configured(ao: &TcpAo, key: &KeyInfo) -> Option<(u8, String)> {
    let found = ao.configured.iter().find(|(_, send, receive, _)| (*send, *receive) == (key.send_id, key.receive_id));
    found.map(|(number, .., algorithm)| (*number, algorithm.to_string()))
}

#[cfg(test)]
mod tests {
    use config::model::AoAlgorithm;
    use sys::tcp_ao::Info;

    use super::*;

    #[test]
    fn a_key_that_has_left_the_chain_is_told_as_such() {
        let held = |id, current, good| KeyInfo {
            peers: "192.0.2.1/32".parse().unwrap(),
            send_id: id,
            receive_id: id,
            is_current: current,
            is_next: !current,
            good,
            bad: 0,
        };
        let info = Info { current: Some(1), next: Some(2), good: 9, bad: 1, key_not_found: 2, unsigned: 3 };
        let mut ao = TcpAo {
            chain: "CORE".parse().unwrap(),
            exclude_options: false,
            configured: vec![(2, 2, 2, AoAlgorithm::Aes128Cmac96)],
            live: Some((info, vec![held(1, true, 9), held(2, false, 0)])),
        };
        let mut out = String::new();
        text(&ao, &mut out);
        assert_eq!(
            out,
            "\n  TCP-AO: key chain CORE, signed with other TCP options\n    Current send-id 1, next recv-id 2\n    \
             Key that is no longer in the chain, send-id 1, recv-id 1: 9 segments good, 0 bad\n    \
             Key 2: aes-128-cmac-96, send-id 2, recv-id 2: 0 segments good, 0 bad\n    \
             Segments: 9 good, 1 bad, 2 without a known key, 3 unsigned\n"
        );
        let shown = json(&ao);
        assert_eq!(shown["keys"][0]["removedFromChain"], true);
        assert_eq!((&shown["keys"][1]["key"], &shown["currentSendId"]), (&2.into(), &1.into()));
        ao.live = None;
        assert_eq!(json(&ao)["keys"][0]["algorithm"], "aes-128-cmac-96");
    }
}
