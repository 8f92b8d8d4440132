//! Attributes as one run of octets, for whoever keeps hundreds of thousands of sets.
//!
//! The form is that of the wire with four-octet AS numbers, so equal sets are equal octets, and a set takes a fifth of
//! what the value takes. Nothing is lost on the way there and back, LOCAL_PREF that is absent included.

use super::{
    Aggregator, AsPath, AttrCode, AttrFlags, Attributes, Origin, RawAttr, TunnelEncap, communities, ext_communities,
    large_communities, only_to_customer,
};
use crate::cursor::Cursor;

impl Attributes {
    /// Appends the packed form to `out`.
    pub fn pack(&self, out: &mut Vec<u8>) {
        self.write(None, true, true, self.local_pref, out);
    }

    /// The attributes that [`pack`](Self::pack) wrote. Octets of any other origin give some value or other.
    pub fn unpack(packed: &[u8]) -> Self {
        let mut attributes = Self::default();
        let mut cursor = Cursor::new(packed);
        while let Some((flags, code, body)) = next(&mut cursor) {
            attributes.take_up(flags, code, body);
        }
        attributes
    }

    /// Puts one attribute of the packed form where it belongs.
    fn take_up(&mut self, flags: AttrFlags, code: AttrCode, body: &[u8]) {
        let number = || super::four_octets(body).ok();
        match code {
            AttrCode::Origin => self.origin = Origin::parse(body).unwrap_or_default(),
            AttrCode::AsPath => self.as_path = AsPath::parse(body, true).unwrap_or_default(),
            AttrCode::Med => self.med = number(),
            AttrCode::LocalPref => self.local_pref = number(),
            AttrCode::AtomicAggregate => self.atomic_aggregate = true,
            AttrCode::Aggregator => self.aggregator = Aggregator::parse(body, true).ok(),
            AttrCode::Communities => self.communities = communities::parse(body).unwrap_or_default(),
            AttrCode::OriginatorId => self.originator_id = number().map(Into::into),
            AttrCode::ClusterList => self.cluster_list = super::cluster_list::parse(body).unwrap_or_default(),
            AttrCode::ExtCommunities => self.ext_communities = ext_communities::parse(body).unwrap_or_default(),
            AttrCode::TunnelEncap => self.tunnel_encap = TunnelEncap::parse(body).ok(),
            AttrCode::LargeCommunities => self.large_communities = large_communities::parse(body).unwrap_or_default(),
            AttrCode::OnlyToCustomer => self.only_to_customer = only_to_customer::parse(body).ok(),
            AttrCode::Other(code) => {
                // One that is too long for a short length says so on the wire; that is no flag of its own.
                let flags = AttrFlags::new(flags.raw() & !AttrFlags::EXTENDED_LENGTH);
                self.unknown.push(RawAttr { flags, code, value: body.to_vec().into() });
            }
            // Never packed: next hops and routes stand beside the set, and AS numbers have four octets.
            AttrCode::NextHop
            | AttrCode::MpReach
            | AttrCode::MpUnreach
            | AttrCode::As4Path
            | AttrCode::As4Aggregator => return,
        }
        if flags.is_partial() {
            self.partial.insert(code);
        }
    }
}

fn next<'a>(cursor: &mut Cursor<'a>) -> Option<(AttrFlags, AttrCode, &'a [u8])> {
    let (flags, code) = (AttrFlags::new(cursor.u8()?), AttrCode::from(cursor.u8()?));
    let octets = if flags.is_extended() { usize::from(cursor.u16()?) } else { usize::from(cursor.u8()?) };
    Some((flags, code, cursor.take(octets)?))
}
