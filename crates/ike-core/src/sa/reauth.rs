//! Proving anew who the two sides are, without a gap: a second IKE SA with its own pair, then an end to the first
//! (RFC 7296 §2.8.3), in the time that the called side may set (RFC 4478).
//!
//! A rekey carries an authentication on; this ends one. The side that called does it, so that both sides agree on who does.

use std::time::{Duration, Instant};

use ike_wire::{NotifyType, Payload, find_notify};

use super::{Cx, IkeSa, News, Stage, channel::notify};
use crate::{config::ConnectionConfig, event::DownCause};

/// Longer lifetimes than this are as good as none.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 86_400);
/// How long before the peer's deadline we begin, at most.
const AHEAD: Duration = Duration::from_secs(60);
/// How much longer than it was told the peer may take.
const LENIENCE: Duration = Duration::from_secs(30);
/// Pause before a reauthentication that failed is tried again, beside the time of one attempt.
const TRY_AGAIN: Duration = Duration::from_secs(30);

/// When the side that called authenticates anew: at its own age, or before the time that the other side told.
pub(super) fn due_at(cx: &mut Cx<'_>, config: &ConnectionConfig, answer: &[Payload]) -> Option<Instant> {
    let told = find_notify(answer, NotifyType::AuthLifetime)
        .and_then(|notify| <[u8; 4]>::try_from(&notify.data[..]).ok())
        .map(|seconds| Duration::from_secs(u32::from_be_bytes(seconds).into()))
        .map(|told| told.saturating_sub((told / 10).min(AHEAD)).max(Duration::from_secs(1)));
    // As with rekeys, not all SAs at once.
    let own = config.reauth.map(|age| age.saturating_sub(cx.up_to(age / 10)));
    own.into_iter().chain(told).min().map(|age| cx.now + age.min(LONGEST))
}

/// By when the side that called has to have done so, if we are the other.
pub(super) fn expected_by(now: Instant, config: &ConnectionConfig) -> Option<Instant> {
    config.reauth.map(|age| now + age.min(LONGEST) + LENIENCE)
}

/// What the called side tells of that (RFC 4478 §3).
pub(super) fn lifetime_payload(config: &ConnectionConfig) -> Option<Payload> {
    let seconds = u32::try_from(config.reauth?.as_secs()).unwrap_or(u32::MAX);
    Some(notify(NotifyType::AuthLifetime, seconds.to_be_bytes()))
}

impl IkeSa {
    /// Made to authenticate anew.
    pub(crate) fn renewing(mut self) -> Self {
        self.renews = true;
        self
    }

    /// Whether it was made for that, and has not done it yet.
    pub(crate) fn renews(&self) -> bool {
        self.renews
    }

    /// It has done it, and is one like any other; gives its SPIs.
    pub(crate) fn take_renewal(&mut self) -> (u64, u64) {
        self.renews = false;
        self.spis()
    }

    /// Whether it is in use and began with a call of ours.
    pub(crate) fn is_called_by_us(&self) -> bool {
        self.established().is_some_and(|established| !established.peer_called)
    }

    /// The time of this authentication is over.
    pub(super) fn reauth_due(&mut self, cx: &mut Cx<'_>) {
        let Stage::Established(established) = &mut self.stage else { return };
        if established.peer_called {
            return self.close(cx, DownCause::ReauthMissed);
        }
        established.reauth_at = Some(cx.now + established.config.retry.attempt + TRY_AGAIN);
        cx.news.push(News::Reauthenticate);
    }
}
