//! Reading an UPDATE, and surviving what can be survived (RFC 4271 §6.3, RFC 7606).

use net_types::{Afi, Family, Safi};

use super::{Announcement, AttrError, PathIds, Reach, Remedy, Survived, Update, UpdateError};
use crate::{
    Aggregator, AsPath, Attributes, Negotiated, NextHop, Origin, PeerKind,
    attr::{self, AsPathError, AttrCode, AttrFlags, Category, RawAttr, mp_reach::MpReach, mp_unreach::MpUnreach},
    cursor::Cursor,
    nlri,
};

/// Reads the body of an UPDATE.
pub(crate) fn parse(body: &[u8], negotiated: &Negotiated) -> Result<(Update, Vec<Survived>), UpdateError> {
    let mut cursor = Cursor::new(body);
    let withdrawn = section(&mut cursor, "withdrawn routes")?;
    let attributes = section(&mut cursor, "path attributes")?;
    let announced = cursor.rest();
    let carries_ipv4 = negotiated.families.contains(Family::Ipv4Unicast);

    let mut list = List::new(negotiated, !announced.is_empty());
    list.read(attributes)?;
    let mut update = Update::default();
    let (mut gone, mut plain) = (nlri::List::default(), nlri::List::default());
    if carries_ipv4 {
        let add_path = negotiated.add_path_in.contains(Family::Ipv4Unicast);
        gone = nlri::parse(Family::Ipv4Unicast, add_path, withdrawn).map_err(UpdateError::Withdrawn)?;
        plain = nlri::parse(Family::Ipv4Unicast, add_path, announced).map_err(UpdateError::Nlri)?;
    } else if !(withdrawn.is_empty() && announced.is_empty()) {
        list.foreign_routes |= !announced.is_empty();
        list.survive(AttrError::ForeignFamily { afi: Afi::Ipv4, safi: Safi::Unicast }, &[])?;
    }
    update.end_of_rib = match &list.withdrawn {
        _ if body == [0; 4] => Some(Family::Ipv4Unicast).filter(|_| carries_ipv4),
        Some((family, prefixes)) if prefixes.is_empty() && list.is_bare_unreach(withdrawn, announced) => Some(*family),
        _ => None,
    };
    if let Some((_, prefixes)) = list.withdrawn.take() {
        gone.append(prefixes);
    }
    list.conclude(update, gone, plain)
}

/// A part that starts with its length in two octets.
fn section<'a>(cursor: &mut Cursor<'a>, field: &'static str) -> Result<&'a [u8], UpdateError> {
    let found = cursor.u16().map(usize::from).unwrap_or(usize::MAX);
    let left = cursor.remaining();
    cursor.take(found).ok_or(UpdateError::Lengths { field, found, left })
}

/// One attribute as it stands in the list.
struct Item<'a> {
    flags: AttrFlags,
    code: AttrCode,
    body: &'a [u8],
    /// With flags, type and length.
    whole: &'a [u8],
}

/// What has been read of the attribute list.
struct List<'a> {
    negotiated: &'a Negotiated,
    /// Routes stand after the list, so NEXT_HOP counts (RFC 4760 §3).
    plain_routes: bool,
    /// One bit for each type code.
    seen: [u64; 4],
    origin: Option<Origin>,
    as_path: Option<AsPath>,
    as4_path: Option<AsPath>,
    as4_aggregator: Option<Aggregator>,
    next_hop: Option<NextHop>,
    reached: Option<(Family, NextHop, nlri::List)>,
    withdrawn: Option<(Family, nlri::List)>,
    /// There were announcements that the session does not carry.
    foreign_routes: bool,
    /// The attributes that need nothing else to be complete.
    rest: Attributes,
    survived: Vec<Survived>,
    /// The first error that costs the routes, and its attribute.
    costly: Option<(AttrError, &'a [u8])>,
}

impl<'a> List<'a> {
    fn new(negotiated: &'a Negotiated, plain_routes: bool) -> Self {
        Self {
            negotiated,
            plain_routes,
            seen: [0; 4],
            origin: None,
            as_path: None,
            as4_path: None,
            as4_aggregator: None,
            next_hop: None,
            reached: None,
            withdrawn: None,
            foreign_routes: false,
            rest: Attributes::default(),
            survived: Vec::new(),
            costly: None,
        }
    }

    fn read(&mut self, list: &'a [u8]) -> Result<(), UpdateError> {
        let mut cursor = Cursor::new(list);
        while !cursor.is_empty() {
            let start = cursor.rest();
            // RFC 7606 §4: where the list ends too early, what was read before still counts.
            let item = match next_item(&mut cursor) {
                Ok(item) => item,
                Err(error) => return self.survive(error, start),
            };
            if self.mark(item.code) {
                let error = match item.code {
                    AttrCode::MpReach | AttrCode::MpUnreach => AttrError::RepeatedRoutes(item.code),
                    code => AttrError::Repeated(code),
                };
                self.survive(error, item.whole)?;
                continue;
            }
            if let Err(error) = self.item(&item) {
                self.survive(error, item.whole)?;
            }
        }
        Ok(())
    }

    /// Notes that `code` was there; says whether it had been already.
    fn mark(&mut self, code: AttrCode) -> bool {
        let code = code.code();
        let (word, bit) = (usize::from(code >> 6), 1u64 << (code & 63));
        let again = self.seen[word] & bit != 0;
        self.seen[word] |= bit;
        again
    }

    fn has_seen(&self, code: AttrCode) -> bool {
        let code = code.code();
        self.seen[usize::from(code >> 6)] & 1u64 << (code & 63) != 0
    }

    /// The list is MP_UNREACH_NLRI alone, in an UPDATE without other routes (RFC 4724 §2).
    fn is_bare_unreach(&self, withdrawn: &[u8], announced: &[u8]) -> bool {
        let count: u32 = self.seen.iter().map(|word| word.count_ones()).sum();
        count == 1 && withdrawn.is_empty() && announced.is_empty() && self.survived.is_empty()
    }

    fn item(&mut self, item: &Item<'a>) -> Result<(), AttrError> {
        let external = self.negotiated.peer_kind == PeerKind::External;
        let internal = self.negotiated.peer_kind == PeerKind::Internal;
        let four = self.negotiated.four_octet_as;
        let (code, body) = (item.code, item.body);
        // Whatever their content, these are dropped: before their flags could cost the routes.
        match code {
            AttrCode::LocalPref if external => return Err(AttrError::FromExternal(code)),
            // RFC 4456 §8: they mean something within the member AS.
            AttrCode::OriginatorId | AttrCode::ClusterList if !internal => {
                return Err(AttrError::FromExternal(code));
            }
            AttrCode::As4Path | AttrCode::As4Aggregator if four => return Err(AttrError::FromFourOctetSpeaker(code)),
            _ => {}
        }
        let flags = check_flags(item);
        match code {
            AttrCode::Origin => self.origin = Some(Origin::parse(body).map_err(AttrError::Origin)?),
            AttrCode::AsPath => self.as_path = Some(self.path(body).map_err(AttrError::AsPath)?),
            AttrCode::NextHop if self.plain_routes => {
                self.next_hop = Some(attr::next_hop::parse(body).map_err(AttrError::NextHop)?);
            }
            AttrCode::NextHop => {} // RFC 4760 §3: ignored where nothing uses it
            AttrCode::Med => self.rest.med = Some(attr::med::parse(body).map_err(AttrError::Med)?),
            AttrCode::LocalPref => {
                self.rest.local_pref = Some(attr::local_pref::parse(body).map_err(AttrError::LocalPref)?);
            }
            AttrCode::AtomicAggregate => {
                attr::atomic_aggregate::parse(body).map_err(AttrError::AtomicAggregate)?;
                self.rest.atomic_aggregate = true;
            }
            AttrCode::Aggregator => {
                self.rest.aggregator = Some(Aggregator::parse(body, four).map_err(AttrError::Aggregator)?);
            }
            AttrCode::Communities => {
                self.rest.communities = attr::communities::parse(body).map_err(AttrError::Communities)?;
            }
            AttrCode::OriginatorId => {
                self.rest.originator_id = Some(attr::originator_id::parse(body).map_err(AttrError::OriginatorId)?);
            }
            AttrCode::ClusterList => {
                self.rest.cluster_list = attr::cluster_list::parse(body).map_err(AttrError::ClusterList)?;
            }
            AttrCode::MpReach => self.mp_reach(body)?,
            AttrCode::MpUnreach => {
                match attr::mp_unreach::parse(body, self.negotiated).map_err(AttrError::MpUnreach)? {
                    MpUnreach::Known { family, list } => self.withdrawn = Some((family, list)),
                    MpUnreach::Foreign { afi, safi } => return Err(AttrError::ForeignFamily { afi, safi }),
                }
            }
            AttrCode::ExtCommunities => {
                self.rest.ext_communities = attr::ext_communities::parse(body).map_err(AttrError::ExtCommunities)?;
            }
            AttrCode::As4Path => self.as4_path = Some(AsPath::parse(body, true).map_err(AttrError::As4Path)?),
            AttrCode::As4Aggregator => {
                self.as4_aggregator = Some(Aggregator::parse(body, true).map_err(AttrError::As4Aggregator)?);
            }
            AttrCode::TunnelEncap => {
                self.rest.tunnel_encap = Some(attr::TunnelEncap::parse(body).map_err(AttrError::TunnelEncap)?);
            }
            AttrCode::LargeCommunities => {
                self.rest.large_communities =
                    attr::large_communities::parse(body).map_err(AttrError::LargeCommunities)?;
            }
            AttrCode::OnlyToCustomer => {
                self.rest.only_to_customer =
                    Some(attr::only_to_customer::parse(body).map_err(AttrError::OnlyToCustomer)?);
            }
            AttrCode::Other(code) => return self.unknown(code, item),
        }
        if item.flags.is_partial() {
            self.rest.partial.insert(code);
        }
        flags
    }

    /// AS_PATH, with the checks that depend on who sent it.
    fn path(&self, body: &[u8]) -> Result<AsPath, AsPathError> {
        let path = AsPath::parse(body, self.negotiated.four_octet_as)?;
        // RFC 5065 §5: what comes from another member AS starts with the member ASes that it passed.
        let starts_confed = || path.segments().first().is_some_and(|s| s.kind == attr::SegmentKind::ConfedSequence);
        if self.negotiated.peer_kind == PeerKind::Confederation && !starts_confed() {
            return Err(AsPathError::NoConfed);
        }
        if self.negotiated.peer_kind == PeerKind::External {
            if path.segments().iter().any(|segment| segment.kind.is_confed()) {
                return Err(AsPathError::Confed); // RFC 5065 §5
            }
            // RFC 4271 §6.3. A two-octet peer with a wide AS is behind AS_TRANS until AS4_PATH is merged in.
            if let Some(expected) = self.negotiated.enforce_first_as {
                let found = path.first();
                let narrowed = !self.negotiated.four_octet_as && found == Some(net_types::Asn::TRANS);
                if found != Some(expected) && !narrowed {
                    return Err(AsPathError::FirstAs { found, expected });
                }
            }
        }
        Ok(path)
    }

    fn mp_reach(&mut self, body: &[u8]) -> Result<(), AttrError> {
        match attr::mp_reach::parse(body, self.negotiated).map_err(AttrError::MpReach)? {
            MpReach::Known { family, next_hop, list } => {
                self.reached = Some((family, next_hop, list));
                if next_hop.is_host() { Ok(()) } else { Err(AttrError::MpNextHop(next_hop)) }
            }
            MpReach::Foreign { afi, safi } => {
                self.foreign_routes = true;
                Err(AttrError::ForeignFamily { afi, safi })
            }
        }
    }

    /// RFC 4271 §5, §6.3: optional transitive ones are carried on as partial, other optional ones are dropped quietly.
    fn unknown(&mut self, code: u8, item: &Item<'a>) -> Result<(), AttrError> {
        if !item.flags.is_optional() {
            return Err(AttrError::UnknownWellKnown(code));
        }
        if item.flags.is_transitive() {
            let kept = item.flags.raw() & !AttrFlags::EXTENDED_LENGTH | AttrFlags::PARTIAL;
            let value = item.body.to_vec().into();
            self.rest.unknown.push(RawAttr { flags: AttrFlags::new(kept), code, value });
        }
        Ok(())
    }

    /// Notes an error; gives it back as the session's end where its remedy is a reset.
    fn survive(&mut self, error: AttrError, attribute: &'a [u8]) -> Result<(), UpdateError> {
        let remedy = error.remedy();
        match remedy {
            Remedy::ResetSession => return Err(UpdateError::Attribute { error, attribute: attribute.to_vec() }),
            Remedy::TreatAsWithdraw if self.costly.is_none() => self.costly = Some((error.clone(), attribute)),
            Remedy::TreatAsWithdraw | Remedy::DiscardAttribute => {}
        }
        self.survived.push(Survived { error, remedy });
        Ok(())
    }

    /// Puts routes and attributes together.
    fn conclude(
        mut self,
        mut update: Update,
        mut gone: nlri::List,
        plain: nlri::List,
    ) -> Result<(Update, Vec<Survived>), UpdateError> {
        let reached = self.reached.take().filter(|(_, _, list)| !list.is_empty());
        if !plain.is_empty() || reached.is_some() {
            self.check_mandatory(!plain.is_empty())?;
        } else if let Some((error, attribute)) = self.costly.take()
            && !self.foreign_routes
            && !self.is_only_unreach()
        {
            // RFC 7606 §5.2: the announced routes may be what the error made unreadable.
            return Err(UpdateError::NothingToWithdraw { error, attribute: attribute.to_vec() });
        }
        let (mut announced, mut ids) = (smallvec::SmallVec::new(), PathIds::default());
        if self.costly.is_some() {
            gone.append(plain);
            reached.into_iter().for_each(|(_, _, list)| gone.append(list));
        } else {
            let plain =
                self.next_hop.filter(|_| !plain.is_empty()).map(|next_hop| (Family::Ipv4Unicast, next_hop, plain));
            for (family, next_hop, list) in plain.into_iter().chain(reached) {
                announced.push(Announcement { family, next_hop, prefixes: list.prefixes });
                ids.announced.push(list.ids);
                ids.labels.push(list.labels);
            }
        }
        (update.withdrawn, ids.withdrawn) = (gone.prefixes, gone.ids);
        let beside = |ids: &PathIds| ids.announced.iter().any(|ids| !ids.is_empty());
        let labelled = |ids: &PathIds| ids.labels.iter().any(|labels| !labels.is_empty());
        if !ids.withdrawn.is_empty() || beside(&ids) || labelled(&ids) {
            update.path_ids = Some(Box::new(ids));
        }
        if !announced.is_empty() {
            update.reach = Some(Reach { attributes: self.attributes(), announced });
        }
        Ok((update, self.survived))
    }

    fn check_mandatory(&mut self, plain: bool) -> Result<(), UpdateError> {
        let internal = self.negotiated.peer_kind == PeerKind::Internal;
        let mandatory = [
            (AttrCode::Origin, true),
            (AttrCode::AsPath, true),
            (AttrCode::NextHop, plain),
            (AttrCode::LocalPref, internal), // RFC 4271 §5.1.5
        ];
        for (code, wanted) in mandatory {
            if wanted && !self.has_seen(code) {
                self.survive(AttrError::Missing(code), &[])?;
            }
        }
        Ok(())
    }

    fn is_only_unreach(&self) -> bool {
        let count: u32 = self.seen.iter().map(|word| word.count_ones()).sum();
        count == 1 && self.has_seen(AttrCode::MpUnreach) && self.survived.len() == 1
    }

    fn attributes(&mut self) -> Attributes {
        let mut attributes = std::mem::take(&mut self.rest);
        attributes.origin = self.origin.unwrap_or_default(); // present: a missing one costs the routes
        let narrow = self.as_path.take().unwrap_or_default();
        // RFC 6793 §4.2.3
        let (aggregator, path_counts) = attr::merge_aggregator(attributes.aggregator, self.as4_aggregator);
        attributes.aggregator = aggregator;
        attributes.as_path = match self.as4_path.take().filter(|_| path_counts) {
            Some(wide) => attr::merge_path(narrow, &wide),
            None => narrow,
        };
        attributes
    }
}

fn next_item<'a>(cursor: &mut Cursor<'a>) -> Result<Item<'a>, AttrError> {
    let start = cursor.rest();
    let (Some(flags), Some(code)) = (cursor.u8().map(AttrFlags::new), cursor.u8().map(AttrCode::from)) else {
        return Err(AttrError::Tail(start.len()));
    };
    let octets = if flags.is_extended() { cursor.u16().map(usize::from) } else { cursor.u8().map(usize::from) };
    let octets = octets.ok_or(AttrError::Tail(start.len()))?;
    let body = cursor.take(octets).ok_or(AttrError::Cut(code))?;
    let whole = start.get(..start.len() - cursor.remaining()).unwrap_or(start);
    Ok(Item { flags, code, body, whole })
}

/// RFC 7606 §3 c: only the Optional and Transitive bits are compared.
fn check_flags(item: &Item<'_>) -> Result<(), AttrError> {
    const COMPARED: u8 = AttrFlags::OPTIONAL | AttrFlags::TRANSITIVE;
    match item.code.category().map(Category::flags) {
        Some(wanted) if item.flags.raw() & COMPARED != wanted => {
            Err(AttrError::Flags { code: item.code, found: item.flags.raw() })
        }
        _ => Ok(()),
    }
}
