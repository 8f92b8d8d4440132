//! What can be wrong with an UPDATE, and what we owe the peer for it (RFC 7606).
//!
//! Departures: "AFI/SAFI disable" (RFC 7606 §2) is never chosen; where it is allowed, so is a session reset, and a reset
//! leaves nobody with half of a table.

use net_types::{Afi, Safi};

use crate::{
    NextHop, NlriError,
    attr::{
        AggregatorError, AsPathError, AttrCode, LengthError, MpReachError, MpUnreachError, NextHopError,
        OnlyToCustomerError, OriginError, TunnelEncapError,
    },
    notification::{Notification, NotificationCode, UpdateCode},
};

/// What follows from an error, mildest first (RFC 7606 §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Remedy {
    /// The attribute is dropped, the routes are used without it.
    DiscardAttribute,
    /// The routes are handled as if they had been withdrawn.
    TreatAsWithdraw,
    /// A NOTIFICATION ends the session.
    ResetSession,
}

/// What is wrong with one attribute.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttrError {
    /// The Optional or Transitive bit contradicts the type.
    #[error("{code} has flags {found:#04x} (RFC 7606 §3 c)")]
    Flags {
        /// Which attribute.
        code: AttrCode,
        /// Its flags octet.
        found: u8,
    },
    /// A well-known attribute is not there.
    #[error("{0} is missing (RFC 7606 §3 d)")]
    Missing(AttrCode),
    /// An attribute came again; the first one counts.
    #[error("{0} is there more than once (RFC 7606 §3 g)")]
    Repeated(AttrCode),
    /// MP_REACH_NLRI or MP_UNREACH_NLRI came again.
    #[error("{0} is there more than once, so routes would be lost (RFC 7606 §3 g)")]
    RepeatedRoutes(AttrCode),
    /// An attribute is longer than what is left of the list.
    #[error("the attribute list ends within {0} (RFC 7606 §4)")]
    Cut(AttrCode),
    /// What is left of the list is too short for the start of an attribute.
    #[error("{0} octets are left at the end of the attribute list, too few for an attribute (RFC 7606 §4)")]
    Tail(usize),
    /// A type that is declared well-known, and is not known.
    #[error("well-known attribute type {0} is not known (RFC 4271 §6.3)")]
    UnknownWellKnown(u8),
    /// It belongs within an AS, and an external peer sent it.
    #[error("{0} came from an external peer (RFC 7606 §7.5, §7.9, §7.10)")]
    FromExternal(AttrCode),
    /// AS4_PATH or AS4_AGGREGATOR from a peer that speaks four octets.
    #[error("{0} came from a peer that speaks four-octet AS numbers (RFC 6793 §4.1)")]
    FromFourOctetSpeaker(AttrCode),
    /// Routes of a family that the session does not carry.
    #[error("routes of AFI {} SAFI {}, which were not negotiated (RFC 4760 §8)", afi.code(), safi.code())]
    ForeignFamily {
        /// Address family.
        afi: Afi,
        /// Subsequent address family.
        safi: Safi,
    },
    /// ORIGIN.
    #[error("ORIGIN: {0}")]
    Origin(OriginError),
    /// AS_PATH.
    #[error("AS_PATH: {0}")]
    AsPath(AsPathError),
    /// NEXT_HOP.
    #[error("NEXT_HOP: {0}")]
    NextHop(NextHopError),
    /// MULTI_EXIT_DISC.
    #[error("MULTI_EXIT_DISC: {0} (RFC 7606 §7.4)")]
    Med(LengthError),
    /// LOCAL_PREF.
    #[error("LOCAL_PREF: {0} (RFC 7606 §7.5)")]
    LocalPref(LengthError),
    /// ATOMIC_AGGREGATE.
    #[error("ATOMIC_AGGREGATE: {0} (RFC 7606 §7.6)")]
    AtomicAggregate(LengthError),
    /// AGGREGATOR.
    #[error("AGGREGATOR: {0}")]
    Aggregator(AggregatorError),
    /// COMMUNITIES.
    #[error("COMMUNITIES: {0} (RFC 7606 §7.8)")]
    Communities(LengthError),
    /// ORIGINATOR_ID.
    #[error("ORIGINATOR_ID: {0} (RFC 7606 §7.9)")]
    OriginatorId(LengthError),
    /// CLUSTER_LIST.
    #[error("CLUSTER_LIST: {0} (RFC 7606 §7.10)")]
    ClusterList(LengthError),
    /// MP_REACH_NLRI, as far as its prefixes cannot be read.
    #[error("MP_REACH_NLRI: {0}")]
    MpReach(MpReachError),
    /// MP_REACH_NLRI with a next hop that cannot be one.
    #[error("MP_REACH_NLRI: next hop {0} is not the address of a host")]
    MpNextHop(NextHop),
    /// MP_UNREACH_NLRI.
    #[error("MP_UNREACH_NLRI: {0}")]
    MpUnreach(MpUnreachError),
    /// EXTENDED COMMUNITIES.
    #[error("EXTENDED COMMUNITIES: {0} (RFC 7606 §7.14)")]
    ExtCommunities(LengthError),
    /// AS4_PATH.
    #[error("AS4_PATH: {0} (RFC 6793 §6)")]
    As4Path(AsPathError),
    /// AS4_AGGREGATOR.
    #[error("AS4_AGGREGATOR: {0} (RFC 6793 §6)")]
    As4Aggregator(AggregatorError),
    /// TUNNEL_ENCAPSULATION.
    #[error("TUNNEL_ENCAPSULATION: {0}")]
    TunnelEncap(TunnelEncapError),
    /// LARGE_COMMUNITY.
    #[error("LARGE_COMMUNITY: {0} (RFC 8092 §5)")]
    LargeCommunities(LengthError),
    /// ONLY_TO_CUSTOMER.
    #[error("ONLY_TO_CUSTOMER: {0}")]
    OnlyToCustomer(OnlyToCustomerError),
}

impl AttrError {
    /// What follows from it. Exhaustive, so that a new error has to choose.
    pub fn remedy(&self) -> Remedy {
        use Remedy::{DiscardAttribute, ResetSession, TreatAsWithdraw};
        match self {
            Self::Flags { .. } => TreatAsWithdraw,                           // RFC 7606 §3 c
            Self::Missing(_) => TreatAsWithdraw,                             // RFC 7606 §3 d
            Self::Repeated(_) => DiscardAttribute,                           // RFC 7606 §3 g
            Self::RepeatedRoutes(_) => ResetSession,                         // RFC 7606 §3 g
            Self::Cut(_) | Self::Tail(_) => TreatAsWithdraw,                 // RFC 7606 §4
            Self::UnknownWellKnown(_) => ResetSession,                       // RFC 4271 §6.3, not revised
            Self::FromExternal(_) => DiscardAttribute,                       // RFC 7606 §7.5, §7.9, §7.10
            Self::FromFourOctetSpeaker(_) => DiscardAttribute,               // RFC 6793 §4.1
            Self::ForeignFamily { .. } => DiscardAttribute,                  // RFC 4760 §6: routes to ignore
            Self::Origin(_) => TreatAsWithdraw,                              // RFC 7606 §7.1
            Self::AsPath(_) => TreatAsWithdraw,                              // RFC 7606 §7.2
            Self::NextHop(_) => TreatAsWithdraw,                             // RFC 7606 §7.3
            Self::Med(_) => TreatAsWithdraw,                                 // RFC 7606 §7.4
            Self::LocalPref(_) => TreatAsWithdraw,                           // RFC 7606 §7.5
            Self::AtomicAggregate(_) => DiscardAttribute,                    // RFC 7606 §7.6
            Self::Aggregator(_) => DiscardAttribute,                         // RFC 7606 §7.7
            Self::Communities(_) => TreatAsWithdraw,                         // RFC 7606 §7.8
            Self::OriginatorId(_) | Self::ClusterList(_) => TreatAsWithdraw, // RFC 7606 §7.9, §7.10
            Self::MpReach(_) | Self::MpUnreach(_) => ResetSession,           // RFC 7606 §7.11, §7.12, §5.3
            Self::MpNextHop(_) => TreatAsWithdraw,                           // RFC 4271 §6.3, as for NEXT_HOP
            Self::ExtCommunities(_) => TreatAsWithdraw,                      // RFC 7606 §7.14
            Self::As4Path(_) | Self::As4Aggregator(_) => DiscardAttribute,   // RFC 6793 §6
            Self::TunnelEncap(TunnelEncapError::Empty) => DiscardAttribute,  // RFC 9012 §13
            Self::TunnelEncap(_) => TreatAsWithdraw,                         // RFC 9012 §13
            Self::LargeCommunities(_) => TreatAsWithdraw,                    // RFC 8092 §5
            Self::OnlyToCustomer(_) => TreatAsWithdraw,                      // RFC 9234 §5
        }
    }

    /// The subcode to send where the session cannot go on (RFC 4271 §6.3).
    fn code(&self) -> UpdateCode {
        match self {
            Self::Flags { .. } => UpdateCode::AttributeFlags,
            Self::Missing(_) => UpdateCode::MissingWellKnown,
            Self::Repeated(_) | Self::RepeatedRoutes(_) => UpdateCode::MalformedAttributeList,
            Self::Cut(_) => UpdateCode::AttributeLength,
            Self::Tail(_) => UpdateCode::MalformedAttributeList,
            Self::UnknownWellKnown(_) => UpdateCode::UnrecognizedWellKnown,
            Self::Origin(OriginError::Value(_)) => UpdateCode::InvalidOrigin,
            Self::AsPath(_) | Self::As4Path(_) => UpdateCode::MalformedAsPath,
            Self::NextHop(NextHopError::NotAHost(_)) | Self::MpNextHop(_) => UpdateCode::InvalidNextHop,
            Self::Origin(OriginError::Length(_))
            | Self::NextHop(NextHopError::Length(_))
            | Self::Med(_)
            | Self::LocalPref(_)
            | Self::AtomicAggregate(_)
            | Self::OriginatorId(_)
            | Self::ClusterList(_) => UpdateCode::AttributeLength,
            Self::FromExternal(_)
            | Self::FromFourOctetSpeaker(_)
            | Self::ForeignFamily { .. }
            | Self::Aggregator(_)
            | Self::Communities(_)
            | Self::MpReach(_)
            | Self::MpUnreach(_)
            | Self::ExtCommunities(_)
            | Self::As4Aggregator(_)
            | Self::TunnelEncap(_)
            | Self::LargeCommunities(_)
            | Self::OnlyToCustomer(_) => UpdateCode::OptionalAttribute,
        }
    }
}

/// A mistake that did not end the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survived {
    /// The mistake.
    pub error: AttrError,
    /// What was done about it: never a reset.
    pub remedy: Remedy,
}

/// Why the session cannot go on after an UPDATE.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpdateError {
    /// A length field exceeds the message.
    #[error("the {field} take {found} octets where {left} are left (RFC 4271 §6.3)")]
    Lengths {
        /// Which part.
        field: &'static str,
        /// What its length field says.
        found: usize,
        /// Octets there are.
        left: usize,
    },
    /// The withdrawn routes cannot be read.
    #[error("withdrawn routes: {0}")]
    Withdrawn(NlriError),
    /// The announced routes cannot be read.
    #[error("announced routes: {0}")]
    Nlri(NlriError),
    /// An attribute error whose remedy is a reset.
    #[error("{error}")]
    Attribute {
        /// The error.
        error: AttrError,
        /// The attribute as it came.
        attribute: Vec<u8>,
    },
    /// An attribute error in an UPDATE without routes to withdraw: they may have been what was lost.
    #[error("{error}, and no announced routes were found to withdraw (RFC 7606 §5.2)")]
    NothingToWithdraw {
        /// The error.
        error: AttrError,
        /// The attribute as it came.
        attribute: Vec<u8>,
    },
}

impl UpdateError {
    /// The NOTIFICATION that the peer gets (RFC 4271 §6.3).
    pub fn notification(&self) -> Notification {
        let (code, data) = match self {
            Self::Lengths { .. } => (UpdateCode::MalformedAttributeList, Vec::new()),
            Self::Withdrawn(_) | Self::Nlri(_) => (UpdateCode::InvalidNetworkField, Vec::new()),
            Self::Attribute { error, attribute } | Self::NothingToWithdraw { error, attribute } => {
                let data = match error {
                    AttrError::Missing(code) => vec![code.code()],
                    AttrError::AsPath(_) | AttrError::RepeatedRoutes(_) => Vec::new(),
                    _ => attribute.clone(),
                };
                (error.code(), data)
            }
        };
        Notification::new(NotificationCode::Update(code), data)
    }
}
