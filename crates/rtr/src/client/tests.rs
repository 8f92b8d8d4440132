use proptest::prelude::*;

use super::*;

fn roa(text: &str, asn: u32) -> Roa {
    let prefix: net_types::Prefix = text.parse().unwrap();
    Roa::new(prefix, prefix.bits(), asn.try_into().ok()).unwrap()
}

fn bytes(pdus: &[Pdu]) -> Vec<u8> {
    pdus.iter().flat_map(|pdu| pdu.to_bytes(Version::V1)).collect()
}

fn announce(text: &str) -> Pdu {
    Pdu::Prefix { announce: true, roa: roa(text, 1) }
}

fn withdraw(text: &str) -> Pdu {
    Pdu::Prefix { announce: false, roa: roa(text, 1) }
}

fn response() -> Pdu {
    Pdu::CacheResponse { session: 5 }
}

fn end(serial: u32) -> Pdu {
    Pdu::EndOfData { session: 5, serial, intervals: Some([100, 10, 1000]) }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn sent(pdu: Pdu) -> Output {
    Output::Send(pdu.to_bytes(Version::V1))
}

/// A client that holds 10.0.0.0/8 and 11.0.0.0/8 as of serial 7.
fn synced(now: Instant) -> Client {
    let mut client = Client::new([None; 3]);
    assert_eq!(client.connected(now), [sent(Pdu::ResetQuery)]);
    let out = client.received(now, &bytes(&[response(), announce("10.0.0.0/8"), announce("11.0.0.0/8"), end(7)]));
    let announced = vec![roa("10.0.0.0/8", 1), roa("11.0.0.0/8", 1)];
    assert_eq!(out, [Output::Synced(RoaChanges { announced, withdrawn: vec![] })]);
    client
}

#[test]
fn a_notify_brings_the_difference() {
    let now = Instant::now();
    let mut client = synced(now);
    assert_eq!(client.received(now, &bytes(&[Pdu::SerialNotify { session: 5, serial: 7 }])), [], "nothing new");
    let query = sent(Pdu::SerialQuery { session: 5, serial: 7 });
    assert_eq!(client.received(now, &bytes(&[Pdu::SerialNotify { session: 5, serial: 8 }])), [query]);
    let out = client.received(now, &bytes(&[response(), withdraw("11.0.0.0/8"), announce("12.0.0.0/8"), end(8)]));
    let (announced, withdrawn) = (vec![roa("12.0.0.0/8", 1)], vec![roa("11.0.0.0/8", 1)]);
    assert_eq!(out, [Output::Synced(RoaChanges { announced, withdrawn })]);
    assert!(client.roas().iter().eq(&[roa("10.0.0.0/8", 1), roa("12.0.0.0/8", 1)]));
    assert_eq!(client.status().position, Some((5, 8)));
}

#[test]
fn a_notify_amid_an_answer_is_answered_after_it() {
    let now = Instant::now();
    let mut client = synced(now);
    client.received(now, &bytes(&[Pdu::SerialNotify { session: 5, serial: 8 }]));
    let out = client.received(now, &bytes(&[response(), Pdu::SerialNotify { session: 5, serial: 9 }, end(8)]));
    assert_eq!(out, [Output::Synced(RoaChanges::default()), sent(Pdu::SerialQuery { session: 5, serial: 8 })]);
}

#[test]
fn time_asks_again_gives_up_and_expires() {
    let start = Instant::now();
    let mut client = synced(start);
    assert_eq!(client.poll_timeout(), Some(start + seconds(100)));
    assert_eq!(client.timeout(start + seconds(99)), [], "early");
    let asked = start + seconds(100);
    assert_eq!(client.timeout(asked), [sent(Pdu::SerialQuery { session: 5, serial: 7 })]);
    assert_eq!(client.timeout(asked + ANSWER), [Output::Close(Closed::Silent)]);
    client.lost();
    assert!(client.is_synced() && client.roas().len() == 2, "a lost connection loses no payload");
    assert_eq!(client.poll_timeout(), Some(start + seconds(1000)));
    let out = client.timeout(start + seconds(1000));
    assert!(matches!(&out[..], [Output::Flushed(changes)] if changes.withdrawn.len() == 2), "{out:?}");
    assert!(!client.is_synced() && client.poll_timeout().is_none());
    assert_eq!(client.connected(start + seconds(1001)), [sent(Pdu::ResetQuery)]);
}

#[test]
fn after_a_lost_connection_only_the_difference_is_asked_for() {
    let now = Instant::now();
    let mut client = synced(now);
    client.lost();
    assert_eq!(client.connected(now), [sent(Pdu::SerialQuery { session: 5, serial: 7 })]);
    // The cache cannot tell: everything anew, and what we hold stays in force meanwhile.
    assert_eq!(client.received(now, &bytes(&[Pdu::CacheReset])), [sent(Pdu::ResetQuery)]);
    assert_eq!(client.roas().len(), 2);
    let out = client.received(now, &bytes(&[response(), announce("11.0.0.0/8"), end(1)]));
    let withdrawn = vec![roa("10.0.0.0/8", 1)];
    assert_eq!(out, [Output::Synced(RoaChanges { announced: vec![], withdrawn })]);
}

#[test]
fn a_cache_that_speaks_the_old_version_is_answered_in_it() {
    let now = Instant::now();
    let query = Output::Send(Pdu::ResetQuery.to_bytes(Version::V0));
    // It says so.
    let mut client = Client::new([None; 3]);
    client.connected(now);
    let report = Pdu::error_report(Version::V0, ErrorCode::UnsupportedVersion, &[], "");
    assert_eq!(client.received(now, &report), std::slice::from_ref(&query));
    let answer: Vec<u8> =
        [response(), announce("10.0.0.0/8"), Pdu::EndOfData { session: 5, serial: 1, intervals: None }]
            .iter()
            .flat_map(|pdu| pdu.to_bytes(Version::V0))
            .collect();
    assert!(matches!(&client.received(now, &answer)[..], [Output::Synced(_)]));
    assert_eq!(client.status().intervals, Intervals::default());
    // It hangs up.
    let mut client = Client::new([None; 3]);
    client.connected(now);
    client.lost();
    assert_eq!(client.connected(now), [query]);
    // It just answers.
    let mut client = Client::new([None; 3]);
    client.connected(now);
    assert!(matches!(&client.received(now, &answer)[..], [Output::Synced(_)]));
    assert_eq!(client.status().version, Version::V0);
}

#[test]
fn what_contradicts_itself_ends_the_connection_and_changes_nothing() {
    let now = Instant::now();
    for (pdus, code) in [
        (vec![response(), announce("10.0.0.0/8")], ErrorCode::DuplicateAnnouncement),
        (vec![response(), withdraw("12.0.0.0/8")], ErrorCode::WithdrawalOfUnknown),
        (vec![response(), withdraw("10.0.0.0/8"), withdraw("10.0.0.0/8")], ErrorCode::WithdrawalOfUnknown),
        (vec![end(8)], ErrorCode::InvalidRequest),
        (vec![Pdu::ResetQuery], ErrorCode::InvalidRequest),
    ] {
        let mut client = synced(now);
        client.timeout(now + seconds(100));
        let out = client.received(now, &bytes(&pdus));
        let told = |out: &Output| matches!(out, Output::Send(report) if matches!(Pdu::parse(report), Ok((_, Pdu::ErrorReport { code: told, .. })) if told == code));
        assert!(matches!(&out[..], [report, Output::Close(_)] if told(report)), "{pdus:?}: {out:?}");
        assert_eq!(client.roas().len(), 2, "{pdus:?}");
    }
}

#[test]
fn data_of_another_session_is_flushed() {
    let now = Instant::now();
    let mut client = synced(now);
    client.timeout(now + seconds(100));
    let out = client.received(now, &bytes(&[Pdu::CacheResponse { session: 6 }]));
    assert!(matches!(&out[..], [Output::Flushed(_), Output::Send(_), Output::Close(_)]), "{out:?}");
    assert!(client.roas().is_empty() && !client.is_synced());
}

#[test]
fn configured_intervals_precede_those_of_the_cache() {
    let now = Instant::now();
    let mut client = Client::new([Some(seconds(7)), None, None]);
    client.connected(now);
    client.received(now, &bytes(&[response(), end(1)]));
    let Intervals { refresh, retry, expire } = client.status().intervals;
    assert_eq!((refresh, retry, expire), (seconds(7), seconds(10), seconds(1000)));
    assert_eq!(Intervals::from_cache([0, u32::MAX, 0]).expire, seconds(7200), "no sooner than the next attempt");
}

fn any_pdu() -> impl Strategy<Value = Pdu> {
    let prefix = (any::<bool>(), 0u8..4)
        .prop_map(|(announce, n)| Pdu::Prefix { announce, roa: roa(&format!("{n}.0.0.0/8"), 1) });
    prop_oneof![
        8 => prefix,
        3 => Just(response()),
        3 => (0u32..4).prop_map(end),
        1 => (4u16..6, 0u32..4).prop_map(|(session, serial)| Pdu::SerialNotify { session, serial }),
        1 => Just(Pdu::CacheReset),
        1 => Just(Pdu::RouterKey),
    ]
}

proptest! {
    /// Whatever a cache says and however it is cut: what comes out adds up to what is held, and deadlines move on.
    #[test]
    fn changes_add_up_to_what_is_held(
        pdus in proptest::collection::vec(any_pdu(), 0..60),
        cut in 1usize..40,
    ) {
        let mut now = Instant::now();
        let (mut client, mut model) = (Client::new([None; 3]), BTreeSet::new());
        let mut outputs = client.connected(now);
        for chunk in bytes(&pdus).chunks(cut) {
            outputs.extend(client.received(now, chunk));
            if outputs.iter().any(|output| matches!(output, Output::Close(_))) {
                client.lost();
                outputs.retain(|output| !matches!(output, Output::Close(_)));
                outputs.extend(client.connected(now));
            }
        }
        for _ in 0..4 {
            let Some(at) = client.poll_timeout() else { break };
            now = at;
            outputs.extend(client.timeout(now));
            client.lost();
            prop_assert!(client.poll_timeout().is_none_or(|next| next > now));
        }
        for output in outputs {
            if let Output::Synced(changes) | Output::Flushed(changes) = output {
                changes.withdrawn.iter().for_each(|roa| assert!(model.remove(roa)));
                changes.announced.iter().for_each(|roa| assert!(model.insert(*roa)));
            }
        }
        prop_assert_eq!(&model, client.roas());
    }
}
