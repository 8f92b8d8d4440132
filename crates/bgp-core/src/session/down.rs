//! Why a session ended, and what that means for the neighbor's routes.

use std::{fmt, time::Duration};

use bgp_wire::{
    FamilySet, MessageError, Notification,
    notification::{CeaseCode, NotificationCode},
};
use net_types::Family;

use super::{OpenRefusal, Phase, Terms};

/// Why a session, or an attempt at one, ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DownReason {
    /// We were told to stop, and said this to the neighbor.
    Stopped(Notification),
    /// We were told to start over, and said this to the neighbor.
    Reset(Notification),
    /// We go, and are expected back.
    Left,
    /// BFD lost the neighbor (RFC 9384).
    BfdDown,
    /// The link or the tunnel to the neighbor is gone.
    PathLost,
    /// The neighbor was silent for the hold time.
    HoldExpired,
    /// The neighbor did not take our messages for the send hold time (RFC 9687).
    SendHoldExpired,
    /// The neighbor ended it.
    Received(Notification),
    /// A message could not be read.
    Malformed(MessageError),
    /// The OPEN did not fit the configuration.
    Refused(OpenRefusal),
    /// A message that does not belong to this phase (RFC 6608).
    Unexpected {
        /// The phase it came in.
        phase: Phase,
        /// What it was.
        message: bgp_wire::MessageType,
    },
    /// The connection was closed or reset without a word.
    TransportLost,
    /// The neighbor restarted and connected anew (RFC 4724 §4.2).
    Reconnected,
}

impl DownReason {
    /// The NOTIFICATION that we send, if any.
    pub fn notification(&self) -> Option<Notification> {
        match self {
            Self::Stopped(notification) | Self::Reset(notification) => Some(notification.clone()),
            Self::BfdDown => Some(Notification::cease(CeaseCode::BfdDown)),
            Self::HoldExpired => Some(Notification::new(NotificationCode::HoldTimerExpired, Vec::new())),
            Self::SendHoldExpired => Some(Notification::new(NotificationCode::SendHoldTimerExpired, Vec::new())),
            Self::Malformed(error) => error.notification(),
            Self::Refused(refusal) => Some(refusal.notification()),
            // RFC 6608 §4: the data is the type of the message.
            Self::Unexpected { phase, message } => {
                Some(Notification::new(NotificationCode::Fsm(phase.fsm_code()), vec![*message as u8]))
            }
            // There is no way for it, or it would undo what it says (RFC 4724 §4.2).
            Self::PathLost | Self::Left => None,
            Self::Received(_) | Self::TransportLost | Self::Reconnected => None,
        }
    }

    /// Whether an operator wanted it, at either end: no oscillation that should be damped.
    pub(super) fn is_ordered(&self) -> bool {
        match self {
            Self::Stopped(_) | Self::Reset(_) | Self::Left => true,
            Self::Received(notification) => matches!(
                notification.code(),
                NotificationCode::Cease(
                    CeaseCode::AdministrativeShutdown
                        | CeaseCode::AdministrativeReset
                        | CeaseCode::PeerDeconfigured
                        | CeaseCode::OtherConfigurationChange
                        | CeaseCode::HardReset
                )
            ),
            _ => false,
        }
    }

    /// What is kept of the neighbor's routes (RFC 4724 §4.2, RFC 8538 §4).
    pub(super) fn retain(&self, terms: &Terms) -> Option<Retain> {
        let restart = terms.restart.as_ref()?;
        let is_hard =
            |notification: &Notification| notification.code() == NotificationCode::Cease(CeaseCode::HardReset);
        let kept = match self {
            Self::TransportLost | Self::Reconnected => true,
            // RFC 8538 §4: with the N bit on both sides, these are restarts too.
            Self::Received(notification) | Self::Reset(notification) => restart.notification && !is_hard(notification),
            Self::HoldExpired | Self::SendHoldExpired | Self::BfdDown | Self::PathLost => restart.notification,
            Self::Malformed(_) | Self::Unexpected { .. } => restart.notification,
            Self::Stopped(_) | Self::Left | Self::Refused(_) => false,
        };
        let long_lived = restart.long_lived;
        let something = !restart.families.is_empty() || long_lived.iter().any(|time| !time.is_zero());
        (kept && something).then_some(Retain {
            families: restart.families,
            restart_time: restart.restart_time,
            long_lived,
        })
    }
}

impl fmt::Display for DownReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped(notification) => write!(f, "stopped by us: {notification}"),
            Self::Reset(notification) => write!(f, "reset by us: {notification}"),
            Self::Left => f.write_str("we go, and are expected back"),
            Self::BfdDown => f.write_str("BFD down"),
            Self::PathLost => f.write_str("the link or tunnel to the neighbor went down"),
            Self::HoldExpired => f.write_str("hold timer expired"),
            Self::SendHoldExpired => f.write_str("send hold timer expired: the neighbor does not read"),
            Self::Received(notification) => write!(f, "NOTIFICATION received: {notification}"),
            Self::Malformed(error) => write!(f, "malformed message: {error}"),
            Self::Refused(refusal) => write!(f, "{refusal}"),
            Self::Unexpected { phase, message } => write!(f, "unexpected {message:?} message in {phase}"),
            Self::TransportLost => f.write_str("connection lost"),
            Self::Reconnected => f.write_str("the neighbor restarted and connected anew"),
        }
    }
}

/// Routes that outlive their session for a while (RFC 4724 §4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retain {
    /// The families whose routes are kept as stale.
    pub families: FamilySet,
    /// How long to wait for the neighbor to come back.
    pub restart_time: Duration,
    /// How long those of a family may be used after that, indexed by `Family as usize` (RFC 9494); zero is not at all.
    pub long_lived: [Duration; Family::COUNT],
}

impl Retain {
    /// After this time nothing is left of them, whatever becomes of the neighbor.
    pub fn longest(&self) -> Duration {
        self.restart_time + self.long_lived.into_iter().max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_may_be_used_for_the_restart_time_and_the_longest_of_the_long_times_after_it() {
        let seconds = Duration::from_secs;
        let retain =
            Retain { families: FamilySet::EMPTY, restart_time: seconds(5), long_lived: [20, 30, 0, 0].map(seconds) };
        assert_eq!(retain.longest(), seconds(35));
    }
}
