//! Which keys prove an identity: with the postquantum preshared key in them, or without (RFC 8784 §3).

use ike_crypto::{AuthError, PpkKeys};
use ike_wire::{Authentication, NotifyType, Payload, find_notify};

use super::init::Handshake;
use crate::config::ConnectionConfig;

/// What a peer's proof is to be checked with.
pub(super) enum Proof {
    /// The keys as they are, and AUTH.
    Plain,
    /// Keys with the preshared one in them, and AUTH.
    Mixed(PpkKeys),
    /// The keys as they are, and the second proof that the peer made for those without the preshared one.
    Second(Vec<u8>),
}

impl Proof {
    /// The keys, if other than as they are.
    pub(super) fn keys(&self) -> Option<&PpkKeys> {
        match self {
            Self::Mixed(keys) => Some(keys),
            Self::Plain | Self::Second(_) => None,
        }
    }

    /// What stands in the place of AUTH, if anything: of the same method, without saying so (RFC 8784 §3).
    pub(super) fn without(&self, auth: &Authentication) -> Option<Authentication> {
        match self {
            Self::Second(data) => Some(Authentication { method: auth.method, data: data.clone() }),
            Self::Plain | Self::Mixed(_) => None,
        }
    }

    /// The keys that both sides go on with, if other than as they are.
    pub(super) fn into_keys(self) -> Option<PpkKeys> {
        match self {
            Self::Mixed(keys) => Some(keys),
            Self::Plain | Self::Second(_) => None,
        }
    }
}

fn mixed(config: &ConnectionConfig, handshake: &Handshake) -> Result<Option<PpkKeys>, AuthError> {
    let keys = config.ppk.as_ref().map(|ppk| handshake.channel.keys.with_ppk(ppk)).transpose();
    keys.map_err(|_| AuthError::Ppk("it cannot be mixed in"))
}

/// What we prove ourselves with as initiator.
pub(super) fn ours(config: &ConnectionConfig, handshake: &Handshake) -> Result<Option<PpkKeys>, AuthError> {
    match &config.ppk {
        Some(_) if handshake.use_ppk => mixed(config, handshake),
        Some(ppk) if ppk.is_required() => {
            Err(AuthError::Ppk("the peer does not use one; give it ours, or take \"required\" away here"))
        }
        _ => Ok(None),
    }
}

/// What the proof in `payloads` is to be checked with; `of_initiator` says whose it is.
pub(super) fn proof(
    config: &ConnectionConfig,
    handshake: &Handshake,
    of_initiator: bool,
    payloads: &[Payload],
) -> Result<Proof, AuthError> {
    let named = find_notify(payloads, NotifyType::PpkIdentity).filter(|_| handshake.use_ppk);
    let second = find_notify(payloads, NotifyType::NoPpkAuth).filter(|_| of_initiator);
    let required = config.ppk.as_ref().is_some_and(|ppk| ppk.is_required());
    let known = match (&config.ppk, named) {
        // A responder says that it used the key by an empty name.
        (Some(ppk), Some(named)) => !of_initiator || ppk.is_named(&named.data),
        _ => false,
    };
    match (known, named, second) {
        (true, ..) => Ok(mixed(config, handshake)?.map_or(Proof::Plain, Proof::Mixed)),
        (false, None, _) if required => {
            Err(AuthError::Ppk("the peer does not use one; give it ours, or take \"required\" away here"))
        }
        (false, None, _) => Ok(Proof::Plain),
        (false, Some(_), Some(second)) if !required => Ok(Proof::Second(second.data.clone())),
        (false, Some(_), _) => {
            Err(AuthError::Ppk("the peer uses one of another name than ours; compare \"ppk\" at both ends"))
        }
    }
}
