//! What two OPENs settle (RFC 4271 §4.2, §6.2; RFC 5492; RFC 4760 §8; RFC 4724 §3).

use std::{fmt, time::Duration};

use bgp_wire::{
    Capability, FamilySet, LongLivedFamily, Negotiated, Notification, Open, PeerKind, Role,
    notification::{NotificationCode, OpenCode},
};
use net_types::{Asn, Family, RouterId};

use super::{LocalRole, RemoteAs, SessionConfig};

/// The terms of an agreed session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How messages are read and written from now on.
    pub negotiated: Negotiated,
    /// The lesser of both hold times; zero means that the session never times out.
    pub hold_time: Duration,
    /// The longest time between our keepalives; zero with a hold time of zero.
    pub keepalive: Duration,
    /// The neighbor may be asked for its routes again (RFC 2918).
    pub route_refresh: bool,
    /// Refreshes are demarcated (RFC 7313).
    pub enhanced_route_refresh: bool,
    /// Families of which the neighbor asks us to keep routes back (RFC 5291).
    pub filters_in: FamilySet,
    /// Families of which we may ask it to.
    pub filters_out: FamilySet,
    /// What happens to the neighbor's routes when the session ends.
    pub restart: Option<RestartTerms>,
    /// The neighbor's OPEN: its AS, identifier and capabilities.
    pub peer_open: Open,
    /// What we sent.
    pub local_open: Open,
}

/// Graceful restart, where both sides speak it (RFC 4724 §4.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestartTerms {
    /// The families whose routes are kept while the neighbor is away.
    pub families: FamilySet,
    /// The families that it says it kept forwarding through its last restart (F bit).
    pub preserved: FamilySet,
    /// How long to wait for it.
    pub restart_time: Duration,
    /// How long its routes of a family may be used after that, indexed by `Family as usize`, where both sides speak
    /// long-lived graceful restart (RFC 9494 §4.2); zero is not at all.
    pub long_lived: [Duration; Family::COUNT],
    /// It has just restarted, and does not wait for our End-of-RIB (R bit).
    pub restarting: bool,
    /// NOTIFICATIONs other than hard resets are restarts too (RFC 8538): both sides set the N bit.
    pub notification: bool,
}

impl Terms {
    /// Whether the neighbor is in our AS.
    pub fn peer_kind(&self) -> PeerKind {
        self.negotiated.peer_kind
    }

    /// The families that the neighbor speaks long-lived graceful restart for (RFC 9494 §3.1).
    pub fn long_lived(&self) -> FamilySet {
        let listed = self.peer_open.long_lived().into_iter().flatten();
        listed.filter_map(LongLivedFamily::family).collect::<FamilySet>().intersection(self.negotiated.families)
    }

    /// Those of them whose forwarding state it says that it kept (F bit).
    pub fn long_lived_preserved(&self) -> FamilySet {
        let listed = self.peer_open.long_lived().into_iter().flatten().filter(|listed| listed.forwarding_preserved);
        listed.filter_map(LongLivedFamily::family).collect::<FamilySet>().intersection(self.long_lived())
    }
}

/// Why an OPEN that can be read is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenRefusal {
    /// The neighbor is in another AS than configured.
    #[error("OPEN announced AS{found}, configuration says {expected}; check \"remote-as\" on both sides")]
    PeerAs {
        /// What the OPEN says.
        found: Asn,
        /// What the configuration says.
        expected: RemoteAs,
    },
    /// The neighbor is in an AS that is not of our confederation.
    #[error(
        "OPEN announced AS{0}, which is not of our confederation; say \"remote-as {0}\", or add it to \"bgp confederation peers\""
    )]
    NotAMember(Asn),
    /// The neighbor's role does not go with ours.
    #[error("OPEN says that the neighbor is {found}, but as {ours} we need {needed}; check \"local-role\" on both sides", found = RoleName(*.found), needed = ours.counterpart())]
    Role {
        /// What we are.
        ours: Role,
        /// What the OPEN says, by number.
        found: u8,
    },
    /// The neighbor says nothing of its role, or several things.
    #[error("OPEN has {found} BGP roles, and as {ours} we need one; configure \"{}\" there, or leave \"strict-mode\" out here", ours.counterpart())]
    Roles {
        /// What we are.
        ours: Role,
        /// How many the OPEN has.
        found: usize,
    },
    /// The neighbor does not offer what we do.
    #[error(
        "OPEN offers {theirs:?} and {unknown} capabilities that are not known, configuration {ours:?}; \"strict-capability-match\" wants the same"
    )]
    NotStrict {
        /// The families that the neighbor carries, of what we know.
        theirs: FamilySet,
        /// What we carry.
        ours: FamilySet,
        /// Capabilities and families that we do not know.
        unknown: usize,
    },
    /// An internal neighbor has our identifier.
    #[error("OPEN carries our own BGP identifier {0}; set \"bgp router-id\" on one side")]
    OwnIdentifier(RouterId),
    /// The hold time is shorter than we accept.
    #[error("OPEN proposes a hold time of {found} s, configuration accepts {minimum} s or more")]
    HoldTime {
        /// What the OPEN says.
        found: u16,
        /// Least that we accept.
        minimum: u64,
    },
    /// There is no family that both sides carry.
    #[error("OPEN offers {theirs:?}, configuration activates {ours:?}: no address family in common")]
    NoFamily {
        /// What the neighbor carries, of what we know.
        theirs: FamilySet,
        /// What we carry.
        ours: FamilySet,
    },
}

impl OpenRefusal {
    /// The NOTIFICATION that the neighbor gets.
    pub fn notification(&self) -> Notification {
        let (code, data) = match self {
            Self::PeerAs { .. } | Self::NotAMember(_) => (OpenCode::BadPeerAs, Vec::new()),
            Self::Role { .. } | Self::Roles { .. } => (OpenCode::RoleMismatch, Vec::new()), // RFC 9234 §4.2
            Self::OwnIdentifier(_) => (OpenCode::BadIdentifier, Vec::new()),
            Self::HoldTime { .. } => (OpenCode::UnacceptableHoldTime, Vec::new()),
            // RFC 5492 §5: the data lists what was missed.
            Self::NoFamily { ours, .. } | Self::NotStrict { ours, .. } => {
                let missed = ours.iter().flat_map(|family| {
                    let [high, low] = family.afi().code().to_be_bytes();
                    [1, 4, high, low, 0, family.safi().code()]
                });
                (OpenCode::UnsupportedCapability, missed.collect())
            }
        };
        Notification::new(NotificationCode::Open(code), data)
    }
}

/// A role by number.
struct RoleName(u8);

impl fmt::Display for RoleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Role::from_code(self.0) {
            Some(role) => role.fmt(f),
            None => write!(f, "role {}", self.0),
        }
    }
}

impl SessionConfig {
    /// Compares the neighbor's OPEN with ours.
    ///
    /// # Errors
    /// When they do not go together.
    pub fn agree(&self, theirs: &Open) -> Result<Terms, OpenRefusal> {
        let ours = self.open();
        if !self.remote_asn.accepts(theirs.asn, self.local_asn) {
            return Err(OpenRefusal::PeerAs { found: theirs.asn, expected: self.remote_asn });
        }
        let peer_kind = self.kind();
        if peer_kind == PeerKind::Confederation && !self.members.contains(&theirs.asn) {
            return Err(OpenRefusal::NotAMember(theirs.asn));
        }
        let internal = peer_kind == PeerKind::Internal;
        // RFC 6286 §2.2: identifiers need to differ within an AS only.
        if internal && theirs.router_id == self.router_id {
            return Err(OpenRefusal::OwnIdentifier(theirs.router_id));
        }
        let hold_seconds = ours.hold_seconds.min(theirs.hold_seconds);
        let hold_time = Duration::from_secs(hold_seconds.into());
        if !hold_time.is_zero() && hold_time < self.minimum_hold_time {
            return Err(OpenRefusal::HoldTime {
                found: theirs.hold_seconds,
                minimum: self.minimum_hold_time.as_secs(),
            });
        }
        self.agree_on_roles(theirs)?;
        if self.negotiation.strict {
            self.agree_strictly(theirs)?;
        }
        let as_configured = self.negotiation.silent || self.negotiation.override_families;
        let families = if as_configured { self.families } else { self.families.intersection(theirs.families()) };
        if families.is_empty() {
            return Err(OpenRefusal::NoFamily { theirs: theirs.families(), ours: self.families });
        }
        let both = |capability: &Capability| ours.has(capability) && theirs.has(capability);
        let refresh = both(&Capability::RouteRefresh);
        let filters = |one: FamilySet, other: FamilySet| match refresh {
            true => one.intersection(other).intersection(families),
            false => FamilySet::EMPTY,
        };
        let external = peer_kind == PeerKind::External;
        let enforce_first_as = (self.enforce_first_as && external).then_some(theirs.asn);
        Ok(Terms {
            negotiated: Negotiated {
                four_octet_as: ours.has_four_octet_as() && theirs.has_four_octet_as(),
                families,
                extended_message: both(&Capability::ExtendedMessage),
                peer_kind,
                enforce_first_as,
                over_ipv6: ours.over_ipv6().intersection(theirs.over_ipv6()).intersection(families),
                // RFC 7911 §4: one side has to send what the other takes.
                add_path_in: ours.receives_add_path().intersection(theirs.sends_add_path()).intersection(families),
                add_path_out: ours.sends_add_path().intersection(theirs.receives_add_path()).intersection(families),
                tunnel_marks: both(&Capability::TunnelMarks),
            },
            hold_time,
            keepalive: keepalive(self.keepalive, hold_time),
            route_refresh: refresh,
            enhanced_route_refresh: both(&Capability::EnhancedRouteRefresh),
            // RFC 5291 §6: they go in ROUTE-REFRESH, and one side has to send what the other takes.
            filters_in: filters(ours.receives_filters(), theirs.sends_filters()),
            filters_out: filters(ours.sends_filters(), theirs.receives_filters()),
            restart: self.restart_terms(families, theirs),
            peer_open: theirs.clone(),
            local_open: ours,
        })
    }

    /// RFC 9234 §4.2.
    fn agree_on_roles(&self, theirs: &Open) -> Result<(), OpenRefusal> {
        let Some(LocalRole { role: ours, strict }) = self.role else { return Ok(()) };
        let mut said: Vec<u8> = theirs.roles().collect();
        said.dedup();
        match said[..] {
            [] if !strict => Ok(()),
            [found] if Role::from_code(found) == Some(ours.counterpart()) => Ok(()),
            [found] => Err(OpenRefusal::Role { ours, found }),
            _ => Err(OpenRefusal::Roles { ours, found: said.len() }),
        }
    }

    fn agree_strictly(&self, theirs: &Open) -> Result<(), OpenRefusal> {
        let unknown = |capability: &&Capability| matches!(capability, Capability::Unknown { .. });
        let foreign = theirs.multiprotocol().filter(|(afi, safi)| Family::from_codes(*afi, *safi).is_none());
        let unknown = theirs.capabilities.iter().filter(unknown).count() + foreign.count();
        if theirs.families() == self.families && unknown == 0 {
            return Ok(());
        }
        Err(OpenRefusal::NotStrict { theirs: theirs.families(), ours: self.families, unknown })
    }

    /// RFC 4724 §4.2: routes are kept of the families that the neighbor lists, if we announced the capability too.
    fn restart_terms(&self, negotiated: FamilySet, open: &Open) -> Option<RestartTerms> {
        let (ours, theirs) = (self.graceful_restart.as_ref()?, open.graceful_restart()?);
        let mut long_lived = [Duration::ZERO; Family::COUNT];
        for listed in open.long_lived().into_iter().flatten().filter(|_| self.long_lived.is_some()) {
            if let Some(family) = listed.family().filter(|family| negotiated.contains(*family)) {
                long_lived[family as usize] = Duration::from_secs(listed.stale_seconds.into());
            }
        }
        let families: FamilySet = theirs.families.iter().filter_map(|listed| listed.family()).collect();
        let preserved: FamilySet = theirs
            .families
            .iter()
            .filter(|listed| listed.forwarding_preserved)
            .filter_map(|listed| listed.family())
            .collect();
        Some(RestartTerms {
            families: families.intersection(negotiated),
            preserved: preserved.intersection(negotiated),
            long_lived,
            restart_time: Duration::from_secs(theirs.restart_seconds.into()),
            restarting: theirs.restarting,
            notification: ours.notification && theirs.notification,
        })
    }
}

/// RFC 4271 §4.4: a third of the hold time at most, and not more than one a second.
fn keepalive(configured: Duration, hold_time: Duration) -> Duration {
    if hold_time.is_zero() {
        return Duration::ZERO;
    }
    configured.min(hold_time / 3).max(Duration::from_secs(1))
}
