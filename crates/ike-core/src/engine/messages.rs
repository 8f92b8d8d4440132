//! What comes from peers, and what the clock and responders say: handed to the SA that it concerns.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use ike_crypto::{CrashToken, Revocations};
use ike_wire::{ExchangeType, Header, HeaderError, Message, NotifyType, PayloadType};

use super::{Ike, TimerKey};
use crate::{
    config::Remote,
    io::{Output, Path},
    sa::{IkeSa, init},
    tunnel::Tunnel,
};

/// Hints from outside any SA are looked at this often at most.
const HINTS_APART: Duration = Duration::from_millis(50);

/// Peers that are looked at again before anything else has its turn: a few milliseconds.
const CHECKS_AT_ONCE: usize = 16;
/// Until the next portion has its turn.
const CHECKS_APART: Duration = Duration::from_millis(1);

impl Ike {
    pub(super) fn datagram(&mut self, now: Instant, path: Path, bytes: Bytes, out: &mut Vec<Output>) {
        let (header, first) = match Header::parse(&bytes) {
            Ok(parsed) => parsed,
            Err(HeaderError::Version { major, .. }) if major > 2 => {
                return self.door.refuse_version(now, &path, &bytes, out);
            }
            Err(_) => return,
        };
        // RFC 7296 §3.1: the flag says whose SPI is whose.
        let ours = if header.flags.initiator { header.responder_spi } else { Some(header.initiator_spi) };
        match ours {
            Some(spi) if self.sas.contains_key(&spi) => {
                self.with_sa(now, spi, out, |sa, cx| sa.datagram(cx, &header, path, &bytes));
            }
            Some(_) => self.unknown_sa(now, &header, first, &path, out),
            None if header.exchange == ExchangeType::IkeSaInit && !header.flags.response => {
                self.called(now, &header, path, bytes, out);
            }
            None if header.exchange == ExchangeType::Informational && !header.flags.response => {
                self.told_of_unknown_spi(now, &path, &bytes, out);
            }
            None => {}
        }
    }

    /// An IKE_SA_INIT request: from a peer that begins, or repeats itself.
    pub(super) fn called(&mut self, now: Instant, header: &Header, path: Path, bytes: Bytes, out: &mut Vec<Output>) {
        let caller = (path.remote, header.initiator_spi);
        if let Some(spi) = self.door.known(&caller) {
            return self.with_sa(now, spi, out, |sa, cx| sa.called_again(cx, &path, &bytes));
        }
        if self.ending {
            return;
        }
        let mut cx = context!(self, now, out);
        if let Some(sa) = init::answer(&mut cx, &mut self.door, header, &path, &bytes) {
            self.door.admitted(caller, sa.spi(), &self.settings, out);
            self.insert(sa, out);
        }
    }

    /// A message for an SA that does not exist, as after a restart of ours (RFC 7296 §1.5, §2.21.4).
    pub(super) fn unknown_sa(
        &mut self,
        now: Instant,
        header: &Header,
        first: PayloadType,
        path: &Path,
        out: &mut Vec<Output>,
    ) {
        if header.flags.response {
            return;
        }
        let token = self.token_of_lost_sa(header, first);
        self.door.refuse_spi(now, header, path, token.as_ref(), out);
        self.hint(now, path);
    }

    /// The token that shows the peer that its SA was ours and is lost (RFC 6290 §4.5).
    ///
    /// Never for an SA that stands: with its initiator flag turned around a header names the peer's SPI as ours.
    pub(super) fn token_of_lost_sa(&self, header: &Header, first: PayloadType) -> Option<CrashToken> {
        let spis = (header.initiator_spi, header.responder_spi?);
        let stands = self.sas.contains_key(&spis.0) || self.sas.contains_key(&spis.1);
        let protected = matches!(first, PayloadType::Encrypted | PayloadType::EncryptedFragment);
        let secret = self.crash_tokens.as_ref().filter(|_| protected && !stands)?;
        Some(secret.token(spis, !header.flags.initiator))
    }

    /// ESP came that no pair of ours takes: the peer has missed a restart of ours. Either we call it, or it is told
    /// (RFC 7296 §1.5), so that it asks and learns what is lost.
    pub(super) fn unknown_child(&mut self, now: Instant, spi: u32, path: &Path, out: &mut Vec<Output>) {
        self.hint(now, path);
        let calls = |tunnel: &Tunnel| {
            tunnel.config.uses(&path.wan)
                && tunnel.config.remote == Remote::Address(path.remote.ip())
                && (tunnel.is_up() || tunnel.calls())
        };
        if !self.tunnels.values().any(calls) && !self.ending {
            self.door.tell_unknown_spi(now, spi, path, &mut *self.rng, out);
        }
    }

    /// Somebody says that a peer does not have a pair that we send with. It may be anybody: so the peer is asked.
    pub(super) fn told_of_unknown_spi(&mut self, now: Instant, path: &Path, bytes: &Bytes, out: &mut Vec<Output>) {
        if self.told_at.is_some_and(|at| now.saturating_duration_since(at) < HINTS_APART) {
            return;
        }
        let Ok(message) = Message::parse(bytes) else { return };
        let claimed =
            message.notify(NotifyType::InvalidSpi).and_then(|notify| <[u8; 4]>::try_from(&notify.data[..]).ok());
        let Some(claimed) = claimed.map(u32::from_be_bytes) else { return };
        self.told_at = Some(now);
        let concerned = |sa: &&IkeSa| sa.path().remote.ip() == path.remote.ip() && sa.sends_with(claimed);
        if let Some(spi) = self.sas.values().find(concerned).map(IkeSa::spi) {
            self.with_sa(now, spi, out, |sa, cx| sa.want_proof(cx));
        }
    }

    /// The peer at the other end of `path` seems to believe in an SA that we do not have.
    pub(super) fn hint(&mut self, now: Instant, path: &Path) {
        // Anybody can send such packets, and each costs a look at every tunnel.
        if self.hinted_at.is_some_and(|at| now.saturating_duration_since(at) < HINTS_APART) {
            return;
        }
        self.hinted_at = Some(now);
        for (name, tunnel) in &mut self.tunnels {
            let theirs = tunnel.config.remote == Remote::Address(path.remote.ip()) && tunnel.config.uses(&path.wan);
            if theirs && !tunnel.is_up() {
                tunnel.hint(now);
                self.touched.insert(name.clone());
            }
        }
    }

    pub(super) fn timeout(&mut self, now: Instant, out: &mut Vec<Output>) {
        for key in self.timers.due(now) {
            match key {
                TimerKey::Sa(spi) => self.with_sa(now, spi, out, |sa, cx| sa.timeout(cx)),
                TimerKey::Tunnel(name) => {
                    self.touched.insert(name);
                }
                TimerKey::Check => self.check_peers(now, out),
            }
        }
    }

    /// Handshakes that waited for this go on at once. Peers that were accepted before are looked at in portions, since
    /// each costs some signatures, and only those whose certificates have to do with what is new.
    pub(super) fn revocations_changed(&mut self, now: Instant, revocations: Arc<Revocations>, out: &mut Vec<Output>) {
        let changes = revocations.changes_since(&self.revocations);
        self.revocations = revocations;
        let waiting: Vec<_> = self.sas.iter().filter(|(_, sa)| sa.is_waiting()).map(|(spi, _)| *spi).collect();
        for spi in waiting {
            self.with_sa(now, spi, out, |sa, cx| sa.revocations_changed(cx));
        }
        if !changes.is_empty() {
            let concerned = self.sas.iter().filter(|(_, sa)| changes.concern(sa.certificates()));
            self.to_check.extend(concerned.map(|(spi, _)| *spi));
        }
        self.check_peers(now, out);
    }

    pub(super) fn check_peers(&mut self, now: Instant, out: &mut Vec<Output>) {
        for _ in 0..CHECKS_AT_ONCE {
            let Some(spi) = self.to_check.pop_first() else { break };
            self.with_sa(now, spi, out, |sa, cx| sa.check_peer_again(cx));
        }
        self.timers.set(&TimerKey::Check, (!self.to_check.is_empty()).then_some(now + CHECKS_APART));
    }
}
