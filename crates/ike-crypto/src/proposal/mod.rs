//! Offering and choosing algorithms (RFC 7296 §2.7, §3.3.6).
//!
//! One local proposal is one list per transform type, best first. The responder goes through its own proposals in
//! order and takes the first that any offered one satisfies; the initiator checks that the answer is one of the
//! combinations it offered, so that neither a confused nor a hostile responder can invent one.

mod text;

use std::fmt;

pub use self::text::ProposalTextError;
use ike_wire::{
    DhGroup, EsnMode, IkeSpi, Integrity, Proposal, ProtocolId, SecurityAssociation, Transform, TransformId,
};
use net_types::Spi;

use crate::{
    cipher::Ciphers,
    suite::{Additional, EspSuite, Group, IkeSuite, PrfAlgorithm},
};

/// What we accept for an IKE SA; each list is in order of preference and not empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IkeProposal {
    /// Ciphers, with the integrity algorithms that they need.
    pub ciphers: Ciphers,
    /// Pseudorandom functions.
    pub prfs: Vec<PrfAlgorithm>,
    /// Groups.
    pub groups: Vec<Group>,
    /// Key exchanges after the first one, all of them or no SA; who can do without them has another proposal behind.
    pub additional: Additional,
}

/// What we accept for a child SA.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EspProposal {
    /// Ciphers, with the integrity algorithms that they need, in order of preference.
    pub ciphers: Ciphers,
    /// Groups of a key exchange of its own, in order of preference; empty: the IKE SA's secret is enough.
    pub groups: Vec<Group>,
    /// Key exchanges after the first one; none without a group.
    pub additional: Additional,
    /// 64-bit sequence numbers.
    pub esn: EsnPolicy,
}

/// Whether a child SA has 64-bit sequence numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum EsnPolicy {
    /// If the peer can.
    #[default]
    Prefer,
    /// Or no child SA.
    Require,
    /// Not at all.
    Never,
}

impl Default for IkeProposal {
    /// Everything spoken here but what is only for older peers.
    fn default() -> Self {
        Self {
            ciphers: Ciphers::default(),
            prfs: PrfAlgorithm::ALL.to_vec(),
            groups: Group::DEFAULT.to_vec(),
            additional: Additional::NONE,
        }
    }
}

impl Default for EspProposal {
    /// Every combined-mode cipher, with a key exchange at each rekey.
    fn default() -> Self {
        Self {
            ciphers: Ciphers::default(),
            groups: Group::DEFAULT.to_vec(),
            additional: Additional::NONE,
            esn: EsnPolicy::Prefer,
        }
    }
}

/// A choice: the algorithms, and the proposal that says so on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen<Suite> {
    /// The algorithms.
    pub suite: Suite,
    /// The proposal chosen, with the peer's SPI; as an answer it goes out with our own SPI in its place.
    pub proposal: Proposal,
}

impl<Suite> Chosen<Suite> {
    /// The SA payload that answers an offer, carrying our SPI (none in IKE_SA_INIT).
    pub fn answer(&self, spi: impl Into<Vec<u8>>) -> SecurityAssociation {
        SecurityAssociation { proposals: vec![Proposal { spi: spi.into(), ..self.proposal.clone() }] }
    }
}

/// Nothing in an offer, or in an answer, is acceptable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoProposal {
    /// NO_PROPOSAL_CHOSEN is due.
    #[error("no common proposal: the peer offers {offered}; we accept {accepted}")]
    Unacceptable {
        /// What was offered.
        offered: String,
        /// What would have done.
        accepted: String,
    },
    /// The answer is not one of the combinations offered, or not a single one (RFC 7296 §2.7).
    #[error("the peer chose {chosen}, which was not offered")]
    NotOffered {
        /// The answer.
        chosen: String,
    },
}

/// Offers for an IKE SA, one per local proposal; `spi` is set when an IKE SA is rekeyed.
pub fn offer_ike(local: &[IkeProposal], spi: Option<IkeSpi>) -> SecurityAssociation {
    let spi = spi.map_or_else(Vec::new, |spi| spi.to_bytes().to_vec());
    numbered(local.iter().map(IkeProposal::transforms), ProtocolId::Ike, &spi)
}

/// Offers for a child SA that we receive on `spi`. Groups are left out of the first one, in IKE_AUTH, which has no
/// key exchange of its own (RFC 7296 §1.2).
pub fn offer_esp(local: &[EspProposal], spi: Spi, key_exchange: bool) -> SecurityAssociation {
    let spi = spi.get().to_be_bytes();
    numbered(local.iter().map(|proposal| proposal.transforms(key_exchange)), ProtocolId::Esp, &spi)
}

fn numbered(offers: impl Iterator<Item = Vec<Transform>>, protocol: ProtocolId, spi: &[u8]) -> SecurityAssociation {
    let proposal = |(number, transforms)| Proposal { number, protocol, spi: spi.to_vec(), transforms };
    SecurityAssociation { proposals: (1u8..=64).zip(offers).map(proposal).collect() }
}

/// Chooses from a peer's offer for an IKE SA. Where a group is ours to choose, the one of the peer's KE payload is
/// preferred, because any other costs a round trip (INVALID_KE_PAYLOAD).
pub fn choose_ike(
    local: &[IkeProposal],
    offer: &SecurityAssociation,
    ke: Option<DhGroup>,
) -> Result<Chosen<IkeSuite>, NoProposal> {
    first_match(local, offer, ProtocolId::Ike, |mine, theirs| mine.satisfied_by(theirs, ke))
        .ok_or_else(|| unacceptable(local, offer))
}

/// Chooses from a peer's offer for a child SA. `key_exchange` is false in IKE_AUTH, and `ke` is the group of the
/// peer's KE payload.
pub fn choose_esp(
    local: &[EspProposal],
    offer: &SecurityAssociation,
    key_exchange: bool,
    ke: Option<DhGroup>,
) -> Result<Chosen<EspSuite>, NoProposal> {
    first_match(local, offer, ProtocolId::Esp, |mine, theirs| mine.satisfied_by(theirs, key_exchange, ke))
        .ok_or_else(|| unacceptable(local, offer))
}

/// Checks the answer to [`offer_ike`].
pub fn accept_ike(local: &[IkeProposal], answer: &SecurityAssociation) -> Result<Chosen<IkeSuite>, NoProposal> {
    let (proposal, mine) = single_answer(local, answer, ProtocolId::Ike)?;
    mine.satisfied_by(proposal, None)
        .filter(|(_, echoed)| is_whole(proposal, echoed))
        .map(|(suite, _)| Chosen { suite, proposal: proposal.clone() })
        .ok_or_else(|| not_offered(answer))
}

/// Checks the answer to [`offer_esp`] made with the same arguments.
pub fn accept_esp(
    local: &[EspProposal],
    answer: &SecurityAssociation,
    key_exchange: bool,
) -> Result<Chosen<EspSuite>, NoProposal> {
    let (proposal, mine) = single_answer(local, answer, ProtocolId::Esp)?;
    mine.satisfied_by(proposal, key_exchange, None)
        .filter(|(_, echoed)| is_whole(proposal, echoed))
        .map(|(suite, _)| Chosen { suite, proposal: proposal.clone() })
        .ok_or_else(|| not_offered(answer))
}

/// The one proposal of an answer, and the local one with its number.
fn single_answer<'a, Local>(
    local: &'a [Local],
    answer: &'a SecurityAssociation,
    protocol: ProtocolId,
) -> Result<(&'a Proposal, &'a Local), NoProposal> {
    let [proposal] = answer.proposals.as_slice() else { return Err(not_offered(answer)) };
    usize::from(proposal.number)
        .checked_sub(1)
        .and_then(|at| local.get(at))
        .filter(|_| proposal.protocol == protocol)
        .map(|mine| (proposal, mine))
        .ok_or_else(|| not_offered(answer))
}

/// An answer has each transform once, and nothing that was not asked for.
fn is_whole(answer: &Proposal, echoed: &[Transform]) -> bool {
    answer.transforms.len() == echoed.len() && echoed.iter().all(|transform| answer.transforms.contains(transform))
}

fn first_match<Local, Suite>(
    local: &[Local],
    offer: &SecurityAssociation,
    protocol: ProtocolId,
    satisfied: impl Fn(&Local, &Proposal) -> Option<(Suite, Vec<Transform>)>,
) -> Option<Chosen<Suite>> {
    local.iter().find_map(|mine| {
        offer.proposals.iter().filter(|theirs| theirs.protocol == protocol).find_map(|theirs| {
            let (suite, transforms) = satisfied(mine, theirs)?;
            let Proposal { number, protocol, ref spi, .. } = *theirs;
            Some(Chosen { suite, proposal: Proposal { number, protocol, spi: spi.clone(), transforms } })
        })
    })
}

impl IkeProposal {
    /// Whether it could have led to an IKE SA with this suite.
    pub fn allows(&self, suite: IkeSuite) -> bool {
        self.ciphers.allow(suite.cipher)
            && self.prfs.contains(&suite.prf)
            && self.groups.contains(&suite.group)
            && self.additional == suite.additional
    }

    fn transforms(&self) -> Vec<Transform> {
        let ciphers = self.ciphers.transforms().into_iter();
        let prfs = self.prfs.iter().map(|prf| prf.transform());
        let groups = self.groups.iter().map(|group| group.transform());
        ciphers.chain(prfs).chain(groups).chain(self.additional.transforms()).collect()
    }

    /// The combination of `theirs` that we like best, as a suite and as the transforms to answer with.
    fn satisfied_by(&self, theirs: &Proposal, ke: Option<DhGroup>) -> Option<(IkeSuite, Vec<Transform>)> {
        let has = |wanted: &Transform| theirs.transforms.contains(wanted);
        let cipher = self.ciphers.pick(has)?;
        let prf = *self.prfs.iter().find(|prf| has(&prf.transform()))?;
        let group = pick_group(&self.groups, theirs, ke)?;
        let mut transforms = cipher.transforms();
        transforms.extend([prf.transform(), group.transform()]);
        let additional = self.additional;
        transforms
            .extend(additional.transforms().map(|wanted| has(&wanted).then_some(wanted)).collect::<Option<Vec<_>>>()?);
        transforms.extend(echoes(theirs, &transforms)?);
        Some((IkeSuite { cipher, prf, group, additional }, transforms))
    }
}

impl EspProposal {
    fn transforms(&self, key_exchange: bool) -> Vec<Transform> {
        let esn = match self.esn {
            EsnPolicy::Prefer => [Some(EsnMode::On), Some(EsnMode::Off)],
            EsnPolicy::Require => [Some(EsnMode::On), None],
            EsnPolicy::Never => [Some(EsnMode::Off), None],
        };
        let ciphers = self.ciphers.transforms().into_iter();
        let groups = self.groups.iter().map(|group| group.transform()).chain(self.additional.transforms());
        let groups = groups.filter(|_| key_exchange);
        let esn = esn.into_iter().flatten().map(|mode| Transform::new(TransformId::Esn(mode)));
        ciphers.chain(groups).chain(esn).collect()
    }

    fn satisfied_by(
        &self,
        theirs: &Proposal,
        key_exchange: bool,
        ke: Option<DhGroup>,
    ) -> Option<(EspSuite, Vec<Transform>)> {
        let has = |wanted: &Transform| theirs.transforms.contains(wanted);
        let cipher = self.ciphers.pick(has)?;
        let mut transforms = cipher.transforms();
        let group = if key_exchange && !self.groups.is_empty() {
            let group = pick_group(&self.groups, theirs, ke)?;
            transforms.push(group.transform());
            let wanted = self.additional.transforms().map(|wanted| has(&wanted).then_some(wanted));
            transforms.extend(wanted.collect::<Option<Vec<_>>>()?);
            Some(group)
        } else {
            // No key exchange: the peer must be content with none. In IKE_AUTH groups have no meaning (RFC 7296 §1.2).
            let none = Transform::new(TransformId::Dh(DhGroup::None));
            let offered = theirs.transforms.iter().any(|transform| matches!(transform.id, TransformId::Dh(_)));
            if has(&none) {
                transforms.push(none);
            } else if offered && key_exchange {
                return None;
            }
            None
        };
        let esn = self.pick_esn(theirs)?;
        if theirs.transforms.iter().any(|transform| matches!(transform.id, TransformId::Esn(_))) {
            transforms.push(Transform::new(TransformId::Esn(if esn { EsnMode::On } else { EsnMode::Off })));
        }
        let mut chosen = transforms.clone();
        chosen.push(Transform::new(TransformId::Dh(DhGroup::None)));
        if !key_exchange {
            // In IKE_AUTH key exchanges have no meaning, the additional ones no more than the first.
            let method = DhGroup::None;
            chosen.extend((1..=7).map(|number| Transform::new(TransformId::AdditionalKe { number, method })));
        }
        transforms.extend(echoes(theirs, &chosen)?);
        let additional = if group.is_some() { self.additional } else { Additional::NONE };
        Some((EspSuite { cipher, esn, group, additional }, transforms))
    }

    /// An offer without the transform means 32-bit numbers: peers from before it became mandatory.
    fn pick_esn(&self, theirs: &Proposal) -> Option<bool> {
        let offers = |mode| theirs.transforms.contains(&Transform::new(TransformId::Esn(mode)));
        let off = offers(EsnMode::Off)
            || !theirs.transforms.iter().any(|transform| matches!(transform.id, TransformId::Esn(_)));
        match self.esn {
            EsnPolicy::Prefer | EsnPolicy::Require if offers(EsnMode::On) => Some(true),
            EsnPolicy::Prefer | EsnPolicy::Never if off => Some(false),
            _ => None,
        }
    }
}

fn pick_group(mine: &[Group], theirs: &Proposal, ke: Option<DhGroup>) -> Option<Group> {
    let common = || mine.iter().copied().filter(|group| theirs.transforms.contains(&group.transform()));
    common().find(|group| Some(group.id()) == ke).or_else(|| common().next())
}

/// What an answer must repeat of the types that are not among the transforms `chosen`: exactly one transform of each type
/// offered (RFC 7296 §3.3.6). Every such type has to allow "none": integrity beside a combined-mode cipher, additional key
/// exchanges (RFC 9370 §2.2.1), and types we do not know.
fn echoes(theirs: &Proposal, chosen: &[Transform]) -> Option<Vec<Transform>> {
    let kind = |id: TransformId| id.codes().0;
    let mut echoed: Vec<Transform> = Vec::new();
    for Transform { id, .. } in &theirs.transforms {
        if chosen.iter().any(|transform| kind(transform.id) == kind(*id)) {
            continue;
        }
        let none = match *id {
            TransformId::Integrity(_) => TransformId::Integrity(Integrity::None),
            TransformId::AdditionalKe { number, .. } => TransformId::AdditionalKe { number, method: DhGroup::None },
            TransformId::Other { kind, .. } => TransformId::Other { kind, id: 0 },
            // PRF in an ESP proposal, ESN in an IKE one: types without a place there (RFC 7296 §3.3.2).
            TransformId::Encryption(_) | TransformId::Prf(_) | TransformId::Dh(_) | TransformId::Esn(_) => return None,
        };
        let none = Transform::new(none);
        if !echoed.contains(&none) {
            if !theirs.transforms.contains(&none) {
                return None;
            }
            echoed.push(none);
        }
    }
    Some(echoed)
}

fn unacceptable(local: &[impl fmt::Display], offer: &SecurityAssociation) -> NoProposal {
    NoProposal::Unacceptable { offered: listed(&offer.proposals), accepted: listed(local) }
}

fn not_offered(answer: &SecurityAssociation) -> NoProposal {
    NoProposal::NotOffered { chosen: listed(&answer.proposals) }
}

/// A few of them, so that a peer cannot fill the log.
fn listed(items: &[impl fmt::Display]) -> String {
    let mut text = items.iter().take(8).map(|item| item.to_string()).collect::<Vec<_>>().join(", ");
    if items.len() > 8 {
        text.push_str(", …");
    }
    match text.char_indices().nth(1000) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use super::*;
    use crate::cipher::{Aead, Cipher};

    fn ike(text: &str) -> IkeProposal {
        text.parse().unwrap()
    }

    fn esp(text: &str) -> EspProposal {
        text.parse().unwrap()
    }

    fn spi() -> Spi {
        Spi::try_from(0x00c0_ffee).unwrap()
    }

    #[test]
    fn proposals_read_back_as_they_print() {
        for text in [
            "aes256gcm16-prfsha384-ecp384",
            "chacha20poly1305-aes128gcm16-prfsha256-x25519-ecp256",
            "aes256-aes128-sha256-sha512-modp2048-ecp521",
            "aes192-sha384-prfsha512-modp3072",
            "aes256gcm16-prfsha384-x25519-ke1_mlkem768",
            "aes256gcm16-prfsha384-x25519-ke1_ecp384-ke3_mlkem1024",
        ] {
            assert_eq!(ike(text).to_string(), text);
        }
        for text in [
            "aes256gcm16",
            "chacha20poly1305-x25519-noesn",
            "aes128gcm16-ecp256-esn",
            "aes256-sha512-modp4096-noesn",
            "aes256gcm16-x25519-ke1_mlkem768-esn",
        ] {
            assert_eq!(esp(text).to_string(), text);
        }
        assert_eq!(ike("aes256-sha2_256-ecp521"), ike("aes256-sha256-prfsha256-ecp521"));
        assert_eq!(
            "aes256gcm16-modp1024-prfsha256".parse::<IkeProposal>().unwrap_err().to_string(),
            "unknown algorithm \"modp1024\", expected one of aes256gcm16, aes128gcm16, chacha20poly1305, aes256, aes192, \
             aes128, sha256, sha384, sha512, prfsha384, prfsha256, prfsha512, x25519, ecp384, ecp256, ecp521, modp4096, \
             modp3072, modp2048, ke1_mlkem768, ke1_mlkem1024; proposals look like aes256gcm16-prfsha384-ecp384 (IKE) or aes256gcm16-ecp384-esn (ESP)"
        );
        let refusal = |text: &str| text.parse::<IkeProposal>().unwrap_err().to_string();
        assert!(refusal("aes256gcm16-ecp384").contains("names no pseudorandom function"));
        assert!(refusal("aes256-modp2048").contains("names no integrity algorithm"));
        assert!(refusal("aes256gcm16-aes256-sha256-modp2048").contains("RFC 5282"));
        assert!(refusal("aes256gcm16-sha256-modp2048").contains("RFC 5282"));
        assert!(refusal("sha256-modp2048").contains("names no cipher"));
        for bad in [
            "mlkem768",
            "x25519-ke8_mlkem768",
            "x25519-ke0_mlkem768",
            "x25519-ke1_x25519",
            "x25519-ke1_mlkem768-ke2_mlkem768",
        ] {
            assert!(refusal(&format!("aes256gcm16-prfsha384-{bad}")).contains("unknown algorithm"), "{bad}");
        }
        assert!("aes256gcm16-ke1_mlkem768".parse::<EspProposal>().is_err());
        assert!("ecp384".parse::<EspProposal>().is_err());
    }

    #[test]
    fn the_responders_preference_decides_and_the_initiator_recognises_its_offer() {
        let initiator = [ike("aes128gcm16-aes256gcm16-prfsha256-prfsha384-x25519-ecp384")];
        let responder = [ike("chacha20poly1305-prfsha256-x25519"), ike("aes256gcm16-prfsha384-ecp384-x25519")];
        let offer = offer_ike(&initiator, None);
        let chosen = choose_ike(&responder, &offer, None).unwrap();
        assert_eq!(chosen.suite.to_string(), "aes256gcm16-prfsha384-ecp384");
        let saved_round_trip = choose_ike(&responder, &offer, Some(DhGroup::Curve25519)).unwrap();
        assert_eq!(saved_round_trip.suite.to_string(), "aes256gcm16-prfsha384-x25519");
        assert_eq!(accept_ike(&initiator, &chosen.answer([])).unwrap().suite, chosen.suite);
    }

    #[test]
    fn no_common_algorithm_is_refused_with_both_sides_named() {
        let offer = offer_ike(&[ike("aes128gcm16-prfsha256-x25519")], None);
        let error = choose_ike(&[ike("aes256gcm16-prfsha384-ecp384")], &offer, None).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no common proposal: the peer offers IKE:aesgcm16/128-prfsha256-x25519; we accept aes256gcm16-prfsha384-ecp384"
        );
    }

    #[test]
    fn answers_that_were_not_offered_are_refused() {
        let local = [ike("aes256gcm16-prfsha384-ecp384")];
        let good = choose_ike(&local, &offer_ike(&local, None), None).unwrap().answer([]);
        let refused = |change: &dyn Fn(&mut SecurityAssociation)| {
            let mut bad = good.clone();
            change(&mut bad);
            assert!(matches!(accept_ike(&local, &bad), Err(NoProposal::NotOffered { .. })), "{bad:?}");
        };
        assert!(accept_ike(&local, &good).is_ok());
        refused(&|bad| bad.proposals.push(good.proposals[0].clone()));
        refused(&|bad| bad.proposals[0].number = 2);
        refused(&|bad| bad.proposals[0].number = 0);
        refused(&|bad| bad.proposals[0].protocol = ProtocolId::Esp);
        refused(&|bad| bad.proposals[0].transforms[0].key_bits = Some(128));
        refused(&|bad| bad.proposals[0].transforms.push(Group::X25519.transform()));
        refused(&|bad| bad.proposals[0].transforms.push(Group::Ecp384.transform()));
        refused(&|bad| {
            bad.proposals[0].transforms.pop();
        });
    }

    #[test]
    fn cbc_is_chosen_with_its_integrity_algorithm_and_never_beside_none() {
        let local = [ike("aes256gcm16-prfsha384-ecp384"), ike("aes256-aes128-sha512-sha256-modp2048")];
        let offer = offer_ike(&[ike("aes128-aes256-sha256-modp2048-modp4096")], None);
        let chosen = choose_ike(&local, &offer, Some(DhGroup::Modp2048)).unwrap();
        assert_eq!(chosen.suite.to_string(), "aes256-sha256-prfsha256-modp2048");
        assert_eq!(chosen.proposal.to_string(), "IKE:aescbc/256-sha256-prfsha256-modp2048");
        assert!(local[1].allows(chosen.suite) && !local[0].allows(chosen.suite));
        let mut without = offer.clone();
        without.proposals[0].transforms.retain(|transform| !matches!(transform.id, TransformId::Integrity(_)));
        assert!(choose_ike(&local, &without, None).is_err(), "encryption alone");
        let child = offer_esp(&[esp("aes256-sha256-modp2048-noesn")], spi(), true);
        let mine = [esp("aes256-sha256-modp2048")];
        let chosen = choose_esp(&mine, &child, true, Some(DhGroup::Modp2048)).unwrap();
        assert_eq!(chosen.suite.to_string(), "aes256-sha256-modp2048-noesn");
        assert_eq!(accept_esp(&mine, &chosen.answer(*b"spi!"), true).unwrap().suite, chosen.suite);
        let mut stripped = chosen.answer(*b"spi!");
        stripped.proposals[0].transforms.retain(|transform| !matches!(transform.id, TransformId::Integrity(_)));
        assert!(accept_esp(&mine, &stripped, true).is_err(), "a responder cannot take the integrity out");
    }

    #[test]
    fn what_is_for_older_peers_is_not_offered_unless_named() {
        let offer = offer_ike(&[IkeProposal::default()], None).proposals[0].to_string();
        let child = offer_esp(&[EspProposal::default()], spi(), true).proposals[0].to_string();
        for word in ["aescbc", "sha256-128", "modp", "ecp521"] {
            assert!(!offer.contains(word) && !child.contains(word), "{offer} {child}");
        }
    }

    #[test]
    fn additional_key_exchanges_are_all_agreed_on_or_the_next_proposal_is_taken() {
        let hybrid = ike("aes256gcm16-prfsha384-x25519-ke1_mlkem768");
        let plain = ike("aes256gcm16-prfsha384-x25519");
        let both = [hybrid.clone(), plain.clone()];
        let choose = |mine: &[IkeProposal], theirs: &[IkeProposal]| {
            choose_ike(mine, &offer_ike(theirs, None), None).map(|chosen| chosen.suite.to_string()).ok()
        };
        assert_eq!(choose(&both, &both).as_deref(), Some("aes256gcm16-prfsha384-x25519-ke1_mlkem768"));
        assert_eq!(choose(&both, from_ref(&plain)).as_deref(), Some("aes256gcm16-prfsha384-x25519"));
        assert_eq!(choose(from_ref(&plain), &both).as_deref(), Some("aes256gcm16-prfsha384-x25519"));
        assert_eq!(choose(&[plain], from_ref(&hybrid)), None);
        let mine = [hybrid];
        let answer = choose_ike(&mine, &offer_ike(&mine, None), None).unwrap().answer([]);
        let mut stripped = answer.clone();
        stripped.proposals[0].transforms.pop();
        assert!(accept_ike(&mine, &answer).is_ok() && accept_ike(&mine, &stripped).is_err(), "no downgrade");
        let child = [esp("aes256gcm16-x25519-ke1_mlkem768")];
        let rekey = choose_esp(&child, &offer_esp(&child, spi(), true), true, None).unwrap();
        assert_eq!(rekey.suite.to_string(), "aes256gcm16-x25519-ke1_mlkem768-esn");
        let first = choose_esp(&child, &offer_esp(&child, spi(), true), false, None).unwrap();
        assert_eq!(first.suite.to_string(), "aes256gcm16-esn", "in IKE_AUTH they mean nothing");
    }

    #[test]
    fn forward_secrecy_of_a_child_is_asked_for_only_after_ike_auth() {
        let local = [esp("aes256gcm16-ecp384")];
        let first = offer_esp(&local, spi(), false);
        assert_eq!(first.proposals[0].to_string(), "ESP:aesgcm16/256-esn-noesn");
        assert_eq!(choose_esp(&local, &first, false, None).unwrap().suite.group, None);
        let rekey = offer_esp(&local, spi(), true);
        let chosen = choose_esp(&local, &rekey, true, None).unwrap();
        assert_eq!(
            chosen.suite,
            EspSuite {
                cipher: Cipher::Aead(Aead::Aes256Gcm16),
                esn: true,
                group: Some(Group::Ecp384),
                additional: Additional::NONE
            }
        );
        assert_eq!(accept_esp(&local, &chosen.answer(*b"spi!"), true).unwrap().suite, chosen.suite);
        assert!(choose_esp(&[esp("aes256gcm16")], &rekey, true, None).is_err(), "the peer insists on a group");
        assert!(choose_esp(&local, &first, true, None).is_err(), "and so do we");
    }

    #[test]
    fn esn_follows_policy() {
        let offer = |text: &str| offer_esp(&[esp(text)], spi(), false);
        let choose = |mine: &str, theirs: &str| {
            choose_esp(&[esp(mine)], &offer(theirs), false, None).map(|chosen| chosen.suite.esn).ok()
        };
        assert_eq!(choose("aes256gcm16", "aes256gcm16"), Some(true));
        assert_eq!(choose("aes256gcm16", "aes256gcm16-noesn"), Some(false));
        assert_eq!(choose("aes256gcm16-noesn", "aes256gcm16"), Some(false));
        assert_eq!(choose("aes256gcm16-esn", "aes256gcm16-noesn"), None);
        let mut old = offer("aes256gcm16-noesn");
        old.proposals[0].transforms.pop();
        let chosen = choose_esp(&[esp("aes256gcm16")], &old, false, None).unwrap();
        assert!(!chosen.suite.esn);
        assert_eq!(chosen.proposal.transforms, [Aead::Aes256Gcm16.transform()]);
    }

    #[test]
    fn types_we_do_not_choose_must_allow_none_and_are_echoed() {
        let local = [ike("aes256gcm16-prfsha384-ecp384")];
        let mut offer = offer_ike(&local, None);
        let additional = |id: u16| Transform::new(TransformId::AdditionalKe { number: 1, method: id.into() });
        offer.proposals[0].transforms.push(additional(36));
        assert!(choose_ike(&local, &offer, None).is_err());
        offer.proposals[0].transforms.push(additional(0));
        offer.proposals[0].transforms.push(Transform::new(TransformId::Integrity(Integrity::None)));
        let answer = choose_ike(&local, &offer, None).unwrap().proposal.transforms;
        assert_eq!(answer[3..], [additional(0), Transform::new(TransformId::Integrity(Integrity::None))]);
        offer.proposals[0].transforms.push(Transform::new(TransformId::Esn(EsnMode::Off)));
        assert!(choose_ike(&local, &offer, None).is_err());
    }

    #[test]
    fn unknown_attributes_make_a_transform_one_to_pass_over() {
        let local = [ike("aes256gcm16-prfsha384-ecp384")];
        let mut offer = offer_ike(&local, None);
        let value = ike_wire::payload::AttributeValue::Short(1);
        offer.proposals[0].transforms[0].unknown_attributes.push(ike_wire::payload::Attribute { kind: 99, value });
        assert!(choose_ike(&local, &offer, None).is_err());
    }
}
