//! What becomes known of certificates while a handshake waits for it, or later.

use super::Waiting;
use crate::{
    event::{DownCause, Event, Refusal},
    sa::{Cx, IkeSa, Stage},
};

impl IkeSa {
    /// More is known of who was revoked: what waited for it is looked at again.
    pub(crate) fn revocations_changed(&mut self, cx: &mut Cx<'_>) {
        match &mut self.stage {
            Stage::Proving(proving) => {
                if let Some(Waiting { header, payloads, .. }) = proving.waiting.take() {
                    self.responder_shown(cx, &header, payloads);
                }
            }
            Stage::HalfOpen(half_open) => {
                if let Some(Waiting { header, payloads, .. }) = half_open.waiting.take() {
                    self.caller_shown(cx, &header, payloads);
                }
            }
            _ => {}
        }
    }

    /// Whether the peer would be accepted still: closes the SA if not.
    pub(crate) fn check_peer_again(&mut self, cx: &mut Cx<'_>) {
        let Stage::Established(established) = &self.stage else { return };
        let (config, peer) = (&established.config, &established.peer);
        if config.remote_credential.policy().is_none() != peer.certificates.is_empty() {
            return self.close(cx, DownCause::Reconfigured); // a key where there was a certificate, or the reverse
        }
        let outcome = config.remote_credential.examine_again(
            &config.remote_id,
            &peer.certificates,
            cx.since_1970,
            cx.revocations,
        );
        match outcome {
            Ok(ask) => cx.ask_status(ask),
            Err(why) => {
                let why = Refusal::Peer(why.into());
                cx.log(Event::Refused { tunnel: self.tunnel.clone(), remote: self.path.remote, why: why.clone() });
                self.close(cx, DownCause::Refused(why));
            }
        }
    }
}
