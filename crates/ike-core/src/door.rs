//! What callers without an SA get: cookies when there are many of them, and short answers without any state
//! (RFC 7296 §2.6, §2.5, §2.21.4).

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use ike_crypto::{CookieJar, CrashToken};
use ike_wire::{ExchangeType, Flags, Header, IkeSpi, Message, Notify, NotifyType, Payload, ProtocolId};
use rand::RngCore;

use crate::{
    config::EngineConfig,
    event::Event,
    io::{Output, Path},
};

/// A cookie is good for at least this long and at most twice as long.
const SECRET_FOR: Duration = Duration::from_secs(60);
/// Unauthenticated refusals per second, all callers together: enough for peers that lost an SA, too few to be an
/// amplifier or a load.
const REFUSALS_PER_SECOND: u32 = 20;

/// Who a first message came from: address, port and the SPI it chose.
pub(crate) type Caller = (SocketAddr, IkeSpi);

/// State about callers.
pub(crate) struct Door {
    /// Responder SAs by who called, so that a repeated first message finds its SA.
    callers: BTreeMap<Caller, IkeSpi>,
    by_sa: BTreeMap<IkeSpi, Caller>,
    half_open: BTreeSet<IkeSpi>,
    asking: bool,
    jar: CookieJar,
    rotate_at: Instant,
    refusals: u32,
    refusals_since: Instant,
}

/// What to do with a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Go on.
    Welcome,
    /// Ask for this cookie first.
    Cookie(Vec<u8>),
    /// Do not answer.
    Full,
}

impl Door {
    pub(crate) fn new(now: Instant, rng: &mut dyn RngCore) -> Self {
        Self {
            callers: BTreeMap::new(),
            by_sa: BTreeMap::new(),
            half_open: BTreeSet::new(),
            asking: false,
            jar: CookieJar::new(rng),
            rotate_at: now + SECRET_FOR,
            refusals: 0,
            refusals_since: now,
        }
    }

    /// The SA that this caller's first message made.
    pub(crate) fn known(&self, caller: &Caller) -> Option<IkeSpi> {
        self.callers.get(caller).copied()
    }

    /// Decides about a first message before anything costly is done.
    pub(crate) fn admit(
        &mut self,
        now: Instant,
        settings: &EngineConfig,
        rng: &mut dyn RngCore,
        caller: &Caller,
        nonce: &[u8],
        shown: Option<&[u8]>,
    ) -> Admission {
        if now >= self.rotate_at {
            self.jar.rotate(rng);
            self.rotate_at = now + SECRET_FOR;
        }
        let (address, spi) = (caller.0.ip(), caller.1);
        if self.half_open.len() >= settings.half_open_max {
            Admission::Full
        } else if self.half_open.len() < settings.cookies_from
            || shown.is_some_and(|cookie| self.jar.accepts(cookie, nonce, address, spi))
        {
            Admission::Welcome
        } else {
            Admission::Cookie(self.jar.bake(nonce, address, spi))
        }
    }

    /// A caller got a half-open SA.
    pub(crate) fn admitted(&mut self, caller: Caller, spi: IkeSpi, settings: &EngineConfig, out: &mut Vec<Output>) {
        self.callers.insert(caller, spi);
        self.by_sa.insert(spi, caller);
        self.half_open.insert(spi);
        self.announce(settings, out);
    }

    /// The SA is no longer half-open.
    pub(crate) fn passed(&mut self, spi: IkeSpi, settings: &EngineConfig, out: &mut Vec<Output>) {
        if self.half_open.remove(&spi) {
            self.announce(settings, out);
        }
    }

    /// The SA is gone.
    pub(crate) fn left(&mut self, spi: IkeSpi, settings: &EngineConfig, out: &mut Vec<Output>) {
        if let Some(caller) = self.by_sa.remove(&spi) {
            self.callers.remove(&caller);
        }
        self.passed(spi, settings, out);
    }

    fn announce(&mut self, settings: &EngineConfig, out: &mut Vec<Output>) {
        // The mark to stop at is lower than the one to begin at, lest every caller be announced.
        let asking = match self.asking {
            false => self.half_open.len() >= settings.cookies_from,
            true => self.half_open.len() > settings.cookies_from / 2,
        };
        if asking != self.asking {
            self.asking = asking;
            out.push(Output::Event(Event::CookiesRequired(asking)));
        }
    }

    /// Answers a request of a higher major version with ours (RFC 7296 §2.5).
    pub(crate) fn refuse_version(&mut self, now: Instant, path: &Path, datagram: &[u8], out: &mut Vec<Output>) {
        // The header's layout is fixed for all versions: only its version octet keeps it from being read.
        let mut copy = datagram.to_vec();
        if let Some(version) = copy.get_mut(17) {
            *version = ike_wire::VERSION;
        }
        if let Ok((header, _)) = Header::parse(&copy) {
            self.refuse(now, &header, path, vec![Notify::new(NotifyType::InvalidMajorVersion, [])], out);
        }
    }

    /// Tells a peer that its SA does not exist here (RFC 7296 §2.21.4).
    ///
    /// With a token it can be sure that it is us who say so (RFC 6290 §4.5).
    pub(crate) fn refuse_spi(
        &mut self,
        now: Instant,
        header: &Header,
        path: &Path,
        token: Option<&CrashToken>,
        out: &mut Vec<Output>,
    ) {
        let token = token.map(|token| Notify {
            protocol: ProtocolId::Ike, // RFC 6290 §4.1
            ..Notify::new(NotifyType::QuickCrashDetection, token.to_notify())
        });
        let notifies = [Some(Notify::new(NotifyType::InvalidIkeSpi, [])), token];
        self.refuse(now, header, path, notifies.into_iter().flatten().collect(), out);
    }

    /// Tells whoever sends ESP that nobody takes that its SA does not exist here (RFC 7296 §1.5). The header's SPI means
    /// nothing and is drawn by chance.
    pub(crate) fn tell_unknown_spi(
        &mut self,
        now: Instant,
        spi: u32,
        path: &Path,
        rng: &mut dyn RngCore,
        out: &mut Vec<Output>,
    ) {
        let Some(initiator_spi) = IkeSpi::new(rng.next_u64()).filter(|_| self.may_refuse(now)) else { return };
        let header = Header {
            initiator_spi,
            responder_spi: None,
            exchange: ExchangeType::Informational,
            flags: Flags { initiator: true, ..Flags::default() },
            message_id: 0,
        };
        let notify = Notify::new(NotifyType::InvalidSpi, spi.to_be_bytes());
        if let Ok(bytes) = Message::clear(header, vec![Payload::Notify(notify)]).emit() {
            out.push(Output::Send { path: path.clone(), bytes: Bytes::from(bytes) });
        }
    }

    fn refuse(&mut self, now: Instant, header: &Header, path: &Path, why: Vec<Notify>, out: &mut Vec<Output>) {
        // Responses are never answered: two confused peers would go on for ever.
        if !header.flags.response && self.may_refuse(now) {
            out.extend(answer_in_clear(header, path, why.into_iter().map(Payload::Notify).collect()));
        }
    }

    /// Whether one more unauthenticated caller may be refused, and the log told of it.
    pub(crate) fn may_refuse(&mut self, now: Instant) -> bool {
        if now.saturating_duration_since(self.refusals_since) >= Duration::from_secs(1) {
            self.refusals_since = now;
            self.refusals = 0;
        }
        self.refusals = self.refusals.saturating_add(1);
        self.refusals <= REFUSALS_PER_SECOND
    }
}

/// An unprotected response that repeats the request's SPIs and message ID.
pub(crate) fn answer_in_clear(request: &Header, path: &Path, payloads: Vec<Payload>) -> Option<Output> {
    let flags = Flags { initiator: !request.flags.initiator, response: true, higher_version: false };
    let message = Message::clear(Header { flags, ..*request }, payloads);
    // A few notifies always fit.
    message.emit().ok().map(|bytes| Output::Send { path: path.clone(), bytes: Bytes::from(bytes) })
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    fn caller(n: u64) -> Caller {
        ("192.0.2.1:500".parse().unwrap(), IkeSpi::new(n).unwrap())
    }

    fn busy_door(now: Instant, rng: &mut StdRng, settings: &EngineConfig) -> Door {
        let mut door = Door::new(now, rng);
        let mut out = Vec::new();
        for n in 1..=settings.cookies_from as u64 {
            assert_eq!(door.admit(now, settings, rng, &caller(n), b"nonce", None), Admission::Welcome);
            door.admitted(caller(n), IkeSpi::new(n).unwrap(), settings, &mut out);
        }
        assert!(matches!(out[..], [Output::Event(Event::CookiesRequired(true))]));
        door
    }

    #[test]
    fn a_cookie_is_good_for_its_caller_and_its_time_only() {
        let (start, settings) = (Instant::now(), EngineConfig::default());
        let mut rng = StdRng::seed_from_u64(1);
        let mut door = busy_door(start, &mut rng, &settings);
        let Admission::Cookie(cookie) = door.admit(start, &settings, &mut rng, &caller(99), b"nonce", None) else {
            panic!("a busy door asks for cookies");
        };
        let mut show = |seconds, who: &Caller, cookie: &[u8]| {
            let now = start + Duration::from_secs(seconds);
            door.admit(now, &settings, &mut rng, who, b"nonce", Some(cookie)) == Admission::Welcome
        };
        assert!(show(1, &caller(99), &cookie));
        assert!(!show(1, &caller(98), &cookie), "another SPI");
        assert!(!show(1, &caller(99), &[]));
        assert!(show(61, &caller(99), &cookie), "the secret before the current one still counts");
        assert!(!show(122, &caller(99), &cookie), "two secrets later it is stale");
    }

    #[test]
    fn beyond_the_limit_nobody_is_answered() {
        let (start, settings) = (Instant::now(), EngineConfig { half_open_max: 32, ..EngineConfig::default() });
        let mut rng = StdRng::seed_from_u64(1);
        let mut door = busy_door(start, &mut rng, &settings);
        assert_eq!(door.admit(start, &settings, &mut rng, &caller(99), b"nonce", None), Admission::Full);
        let mut out = Vec::new();
        for n in 1..=16 {
            door.left(IkeSpi::new(n).unwrap(), &settings, &mut out);
        }
        assert!(matches!(out[..], [Output::Event(Event::CookiesRequired(false))]));
        assert_eq!(door.known(&caller(1)), None);
        assert_eq!(door.half_open.len(), 16);
        assert_eq!(door.admit(start, &settings, &mut rng, &caller(99), b"nonce", None), Admission::Welcome);
    }

    #[test]
    fn refusals_are_few() {
        let start = Instant::now();
        let mut door = Door::new(start, &mut StdRng::seed_from_u64(1));
        let header = Header {
            initiator_spi: IkeSpi::new(1).unwrap(),
            responder_spi: IkeSpi::new(2),
            exchange: ike_wire::ExchangeType::Informational,
            flags: Flags { initiator: true, ..Flags::default() },
            message_id: 4,
        };
        let path = Path {
            wan: "w".parse().unwrap(),
            local: "192.0.2.2:500".parse().unwrap(),
            remote: "192.0.2.1:500".parse().unwrap(),
            natt: false,
        };
        let mut out = Vec::new();
        for _ in 0..1000 {
            door.refuse_spi(start, &header, &path, None, &mut out);
        }
        assert_eq!(out.len(), REFUSALS_PER_SECOND as usize);
        door.refuse_spi(start + Duration::from_secs(1), &header, &path, None, &mut out);
        assert_eq!(out.len(), REFUSALS_PER_SECOND as usize + 1);
        out.clear();
        let response = Header { flags: Flags { response: true, ..header.flags }, ..header };
        door.refuse_spi(start + Duration::from_secs(2), &response, &path, None, &mut out);
        assert!(out.is_empty(), "responses are never answered");
    }
}
