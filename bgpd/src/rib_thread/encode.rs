//! What a group of neighbors is owed, as messages: written once, shared by all that get them.

use bgp_core::{
    PeerId,
    adj_out::{Audience, GroupBatch, OutBatch, OutGroup, Withdrawn},
    rib::PathAttrs,
};
use bgp_wire::{Announcements, EmitError, LabelledPath, Negotiated, Nlri, Withdrawals, emit_end_of_rib};
use bytes::{Bytes, BytesMut};
use net_types::Family;

use crate::peer::Chunk;

/// Octets that a piece of work makes at most before the buffer has to grow.
const PIECE: usize = 64 * 1024;
/// Shorter parts are copied: a few octets shall not keep a whole piece in memory.
const SHORT: usize = 4096;

/// The messages of one batch, and whom each is for.
pub(super) struct Parts {
    octets: Bytes,
    /// Each ends where the next begins.
    parts: Vec<Part>,
    /// For every member that no part is for, or not for, by name.
    common: Vec<Chunk>,
    named: Vec<PeerId>,
    end_of_rib: (Vec<PeerId>, Bytes),
}

struct Part {
    audience: Audience,
    end: usize,
    messages: usize,
}

/// Writes messages behind each other.
struct Writer<'a> {
    family: Family,
    negotiated: &'a Negotiated,
    out: BytesMut,
}

impl Writer<'_> {
    /// Announces a group. Routes that the session cannot carry are given back, to be withdrawn instead (RFC 4271 §9.2).
    fn announce(&mut self, group: OutGroup) -> Result<usize, Withdrawn> {
        let OutGroup { attrs, prefixes, ids, labels } = group;
        let written = match (ids.is_empty(), labels.is_empty()) {
            (true, true) => self.messages(&attrs, prefixes.iter().copied()),
            (false, true) => self.messages(&attrs, prefixes.iter().copied().zip(ids.iter().copied())),
            (_, false) => {
                let ids = ids.iter().copied().chain(std::iter::repeat(0));
                let paths = prefixes.iter().copied().zip(ids).zip(labels);
                self.messages(&attrs, paths.map(|((prefix, id), labels)| LabelledPath { prefix, id, labels }))
            }
        };
        written.map_err(|error| {
            // A remote can cause this at will, hence not louder.
            tracing::debug!(count = prefixes.len(), %error, "routes not announced");
            Withdrawn { prefixes, ids }
        })
    }

    fn messages(&mut self, attrs: &PathAttrs, nlri: impl Iterator<Item: Nlri>) -> Result<usize, EmitError> {
        let mut messages = Announcements::new(&attrs.attributes, self.family, attrs.next_hop, nlri, self.negotiated)?;
        Ok(std::iter::from_fn(|| messages.write_next(&mut self.out).then_some(())).count())
    }

    fn withdraw(&mut self, withdrawn: Withdrawn) -> usize {
        let Withdrawn { prefixes, ids } = withdrawn;
        match ids.is_empty() {
            true => self.withdrawals(prefixes.into_iter()),
            false => self.withdrawals(prefixes.into_iter().zip(ids)),
        }
    }

    fn withdrawals(&mut self, nlri: impl Iterator<Item: Nlri>) -> usize {
        let mut messages = Withdrawals::new(self.family, nlri, self.negotiated);
        std::iter::from_fn(|| messages.write_next(&mut self.out).then_some(())).count()
    }
}

impl Parts {
    /// Writes a batch.
    pub(super) fn new(batch: GroupBatch, negotiated: &Negotiated) -> Self {
        let GroupBatch { family, announced, mut withdrawn, end_of_rib, .. } = batch;
        let mut writer = Writer { family, negotiated, out: BytesMut::with_capacity(PIECE) };
        let mut parts: Vec<Part> = Vec::new();
        let mut add = |audience: Audience, end: usize, messages: usize| match parts.last_mut() {
            Some(last) if last.audience == audience => {
                last.end = end;
                last.messages += messages;
            }
            _ if messages > 0 => parts.push(Part { audience, end, messages }),
            _ => {}
        };
        for (audience, group) in announced {
            match writer.announce(group) {
                Ok(messages) => add(audience, writer.out.len(), messages),
                Err(routes) => withdrawn.push((audience, routes)),
            }
        }
        for (audience, routes) in withdrawn {
            let messages = writer.withdraw(routes);
            add(audience, writer.out.len(), messages);
        }
        let named = parts.iter().flat_map(|part| match part.audience {
            Audience::Except(others) => others.into_iter().flatten().collect::<Vec<_>>(),
            Audience::Only(one) => vec![one],
        });
        let mut named: Vec<PeerId> = named.collect();
        named.sort_unstable();
        named.dedup();
        let octets = writer.out.freeze();
        let common = chunks(&octets, &parts, |audience| matches!(audience, Audience::Except(_)));
        Self { octets, parts, common, named, end_of_rib: (end_of_rib, emit_end_of_rib(family)) }
    }

    /// What `member` gets.
    pub(super) fn of(&self, member: PeerId) -> Vec<Chunk> {
        let mut chunks = match self.named.binary_search(&member) {
            Ok(_) => chunks(&self.octets, &self.parts, |audience| audience.includes(member)),
            Err(_) => self.common.clone(),
        };
        if self.end_of_rib.0.contains(&member) {
            chunks.push(self.end_of_rib.1.clone().into());
        }
        chunks
    }
}

/// The parts that are wanted, neighbors together.
fn chunks(octets: &Bytes, parts: &[Part], wanted: impl Fn(&Audience) -> bool) -> Vec<Chunk> {
    let mut ranges: Vec<(std::ops::Range<usize>, usize)> = Vec::new();
    let mut start = 0;
    for part in parts {
        if wanted(&part.audience) {
            match ranges.last_mut() {
                Some((range, messages)) if range.end == start => {
                    range.end = part.end;
                    *messages += part.messages;
                }
                _ => ranges.push((start..part.end, part.messages)),
            }
        }
        start = part.end;
    }
    let chunk = |(range, messages): (std::ops::Range<usize>, usize)| {
        let octets = match range.len() {
            ..SHORT if range.len() < octets.len() => Bytes::copy_from_slice(&octets[range]),
            _ => octets.slice(range),
        };
        Chunk { octets, messages }
    };
    ranges.into_iter().map(chunk).collect()
}

/// What one neighbor lacks, as messages.
pub(super) fn batch(peer: PeerId, batch: OutBatch, negotiated: &Negotiated) -> Vec<Chunk> {
    let OutBatch { family, withdrawn, withdrawn_ids, announced, end_of_rib } = batch;
    let all = Audience::Except([None; 2]);
    let batch = GroupBatch {
        family,
        members: vec![peer],
        announced: announced.into_iter().map(|group| (all, group)).collect(),
        withdrawn: vec![(all, Withdrawn { prefixes: withdrawn, ids: withdrawn_ids })],
        end_of_rib: if end_of_rib { vec![peer] } else { Vec::new() },
    };
    Parts::new(batch, negotiated).of(peer)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bgp_wire::{Attributes, Message, NextHop, PeerKind, frame_length};

    use super::*;

    const A: PeerId = PeerId(1);
    const B: PeerId = PeerId(2);
    const C: PeerId = PeerId(3);

    fn group(text: &str, communities: usize) -> OutGroup {
        let attributes = Attributes { communities: vec![bgp_wire::Community(7); communities], ..Attributes::default() };
        let attrs = PathAttrs {
            attributes,
            next_hop: NextHop::V4([192, 0, 2, 1].into()),
            scope: 0,
            weight: 0,
            install: Default::default(),
        };
        OutGroup { attrs: Arc::new(attrs), prefixes: vec![text.parse().unwrap()], ids: Vec::new(), labels: Vec::new() }
    }

    fn read(chunks: &[Chunk]) -> Vec<String> {
        let negotiated = Negotiated::base(PeerKind::External);
        let mut heard = Vec::new();
        for chunk in chunks {
            let (mut rest, mut messages) = (&chunk.octets[..], 0);
            while let Some(length) = frame_length(rest, 4096).unwrap() {
                let Message::Update(update) = Message::parse(&rest[..length], &negotiated).unwrap().message else {
                    panic!("only UPDATEs are written")
                };
                heard.extend(update.withdrawn.iter().map(|prefix| format!("-{prefix}")));
                let announced = update.reach.into_iter().flat_map(|reach| reach.announced);
                heard.extend(announced.flat_map(|group| group.prefixes).map(|prefix| format!("+{prefix}")));
                heard.extend(update.end_of_rib.map(|_| ".".to_owned()));
                (rest, messages) = (&rest[length..], messages + 1);
            }
            assert_eq!(messages, chunk.messages);
        }
        heard
    }

    #[test]
    fn each_member_gets_the_parts_that_are_for_it() {
        let but = |peer| Audience::Except([Some(peer), None]);
        let batch = GroupBatch {
            family: Family::Ipv4Unicast,
            members: vec![A, B, C],
            announced: vec![
                (but(A), group("10.0.0.0/8", 1)),
                (but(A), group("10.1.0.0/16", 2)),
                (Audience::Only(B), group("10.2.0.0/16", 3)),
                (but(B), group("10.2.0.0/16", 4)),
                (but(A), group("10.3.0.0/16", 2000)), // more than a message holds
            ],
            withdrawn: vec![(but(B), Withdrawn { prefixes: vec!["10.4.0.0/16".parse().unwrap()], ids: Vec::new() })],
            end_of_rib: vec![B],
        };
        let parts = Parts::new(batch, &Negotiated::base(PeerKind::External));
        assert_eq!(read(&parts.of(A)), ["+10.2.0.0/16", "-10.4.0.0/16"]);
        assert_eq!(read(&parts.of(B)), ["+10.0.0.0/8", "+10.1.0.0/16", "+10.2.0.0/16", "-10.3.0.0/16", "."]);
        let all = ["+10.0.0.0/8", "+10.1.0.0/16", "+10.2.0.0/16", "-10.4.0.0/16", "-10.3.0.0/16"];
        assert_eq!(read(&parts.of(C)), all);
    }
}
