//! What we remember about a request of ours until its answer comes, and what waits to become one.

use std::sync::Arc;

use ike_crypto::DhKey;
use ike_wire::{ExchangeType, IkeSpi};
use net_types::Spi;

use super::follow_up::{FollowUp, Offer};
use crate::io::Path;

/// A request on the way.
#[derive(Debug)]
pub(crate) enum Exchange {
    /// IKE_INTERMEDIATE; what goes with it is in the stage.
    Intermediate,
    /// IKE_AUTH; what goes with it is in the stage.
    Auth,
    /// An INFORMATIONAL request that is empty, or has something to tell.
    Liveness,
    /// UPDATE_SA_ADDRESSES, first sent by this path (RFC 4555).
    Update(Box<Path>),
    /// COOKIE2, which has to come back (RFC 4555 §3.7).
    Verify(Vec<u8>),
    /// Closing the IKE SA.
    DeleteIke,
    /// Closing these child SAs, by inbound SPI.
    DeleteChildren(Vec<Spi>),
    /// Telling the responder that we do not accept its identity (RFC 7296 §2.21.2).
    Refusal,
    /// Replacing the IKE SA.
    RekeyIke(Box<IkeOffer>),
    /// A new child SA, or one in place of another.
    Child(Box<ChildOffer>),
    /// An additional key exchange of one of these two.
    FollowUp(Box<FollowUp>),
}

/// Our half of a new IKE SA.
#[derive(Debug)]
pub(crate) struct IkeOffer {
    pub(crate) spi: IkeSpi,
    pub(crate) nonce: Vec<u8>,
    pub(crate) key: DhKey,
    /// The IKE SA that the peer's own rekey made meanwhile (RFC 7296 §2.8.1).
    pub(crate) rival: Option<Rival<IkeSpi>>,
}

/// Our half of a new pair of child SAs.
#[derive(Debug)]
pub(crate) struct ChildOffer {
    pub(crate) spi_in: Spi,
    pub(crate) nonce: Vec<u8>,
    pub(crate) key: Option<DhKey>,
    pub(crate) replaces: Option<Spi>,
    /// The pair that the peer's own rekey of the same one made meanwhile.
    pub(crate) rival: Option<Rival<Spi>>,
    /// What the peer has deleted meanwhile and we have not heard of: it may be the other half of this pair, made and
    /// deleted before its answer came.
    pub(crate) deleted: Vec<u32>,
}

impl ChildOffer {
    /// The one that goes with IKE_AUTH: its nonces are those of IKE_SA_INIT, and it has no key exchange (RFC 7296 §1.2).
    pub(crate) fn first(spi_in: Spi) -> Self {
        Self { spi_in, nonce: Vec::new(), key: None, replaces: None, rival: None, deleted: Vec::new() }
    }

    /// Most deletions that are remembered: a peer makes one pair for a request.
    const DELETED: usize = 4;

    /// The peer deletes a pair that we do not know.
    pub(crate) fn note_deleted(&mut self, spi_out: u32) {
        if self.deleted.len() < Self::DELETED {
            self.deleted.push(spi_out);
        }
    }
}

/// An SA that came out of the peer's rekey while ours was on the way.
#[derive(Debug)]
pub(crate) struct Rival<S> {
    pub(crate) spi: S,
    pub(crate) lowest_nonce: Arc<[u8]>,
}

impl<S> Rival<S> {
    /// RFC 7296 §2.8.1: the SA made with the lowest of the four nonces is closed by its creator. True if that is ours.
    pub(crate) fn wins(&self, our_lowest: &[u8]) -> bool {
        our_lowest < &self.lowest_nonce[..]
    }
}

/// The lower of two nonces, octet by octet.
pub(crate) fn lowest<'a>(one: &'a [u8], other: &'a [u8]) -> &'a [u8] {
    one.min(other)
}

/// Something to ask the peer when the window is free.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// Replace the IKE SA.
    RekeyIke {
        /// The group to use, if the peer has named one.
        group: Option<ike_crypto::Group>,
    },
    /// Make a child SA, perhaps in place of another.
    Child {
        /// The one to replace, by its inbound SPI.
        replaces: Option<Spi>,
        /// The group to use, if the peer has named one.
        group: Option<ike_crypto::Group>,
    },
    /// Close child SAs, by inbound SPI.
    DeleteChild(Spi),
    /// Ask for a sign of life.
    Liveness,
    /// Tell the peer of the path in use, or of our addresses (RFC 4555).
    Move,
    /// See whether the peer can be reached where it says that it is (RFC 4555 §3.7).
    Verify,
    /// Give the peer our token for this SA (RFC 6290 §4.3).
    CrashToken,
}

impl Exchange {
    /// The pair that it makes, at once or at the end of its follow-ups.
    pub(crate) fn child(&self) -> Option<&ChildOffer> {
        match self {
            Self::Child(offer) => Some(offer),
            Self::FollowUp(follow_up) => match &follow_up.offer {
                Offer::Child(offer) => Some(offer),
                Offer::Ike(_) => None,
            },
            _ => None,
        }
    }

    /// As [`Exchange::child`].
    pub(crate) fn child_mut(&mut self) -> Option<&mut ChildOffer> {
        match self {
            Self::Child(offer) => Some(offer),
            Self::FollowUp(follow_up) => match &mut follow_up.offer {
                Offer::Child(offer) => Some(offer),
                Offer::Ike(_) => None,
            },
            _ => None,
        }
    }

    /// The IKE SA that it makes, at once or at the end of its follow-ups.
    pub(crate) fn ike(&self) -> Option<&IkeOffer> {
        match self {
            Self::RekeyIke(offer) => Some(offer),
            Self::FollowUp(follow_up) => match &follow_up.offer {
                Offer::Ike(offer) => Some(offer),
                Offer::Child(_) => None,
            },
            _ => None,
        }
    }

    /// As [`Exchange::ike`].
    pub(crate) fn ike_mut(&mut self) -> Option<&mut IkeOffer> {
        match self {
            Self::RekeyIke(offer) => Some(offer),
            Self::FollowUp(follow_up) => match &mut follow_up.offer {
                Offer::Ike(offer) => Some(offer),
                Offer::Child(_) => None,
            },
            _ => None,
        }
    }

    /// The IKE SA that the peer's rekey made, while this one makes another.
    pub(crate) fn into_ike_rival(self) -> Option<Rival<IkeSpi>> {
        match self {
            Self::RekeyIke(offer) => offer.rival,
            Self::FollowUp(follow_up) => match follow_up.offer {
                Offer::Ike(offer) => offer.rival,
                Offer::Child(_) => None,
            },
            _ => None,
        }
    }

    /// The exchange type that its header has.
    pub(crate) fn exchange_type(&self) -> ExchangeType {
        match self {
            Self::Intermediate => ExchangeType::IkeIntermediate,
            Self::Auth => ExchangeType::IkeAuth,
            Self::FollowUp(_) => ExchangeType::IkeFollowupKe,
            Self::Liveness
            | Self::Update(_)
            | Self::Verify(_)
            | Self::DeleteIke
            | Self::DeleteChildren(_)
            | Self::Refusal => ExchangeType::Informational,
            Self::RekeyIke(_) | Self::Child(_) => ExchangeType::CreateChildSa,
        }
    }
}
