//! TCP-AO (RFC 5925): a neighbor's keys on its sockets, and one key following another while the session lasts.
//!
//! A new key is added and asked for (RNext_key); whoever asks has it, so the other end may sign with it at once, and does. A
//! key that has left the chain leaves a connection when the neighbor signs with the preferred one and has asked for it
//! in turn; a neighbor that never gets the new key keeps its session, and cannot open another.

use std::{collections::BTreeMap, fmt, io, net::IpAddr, os::fd::AsFd, sync::Arc};

use config::{
    Config,
    model::{self as bgp, AoAlgorithm, Name},
};
use net_types::Prefix;
use sys::tcp_ao::{self, Algorithm, KeyInfo};

use super::{Password, SetupError, setup::secret};

/// What signs the segments to and from a neighbor.
#[derive(Clone, Debug, PartialEq)]
pub struct Ao {
    /// The chain that the keys are from.
    pub chain: Name,
    /// Other TCP options are not signed.
    pub exclude_options: bool,
    /// At least one; the last is preferred.
    keys: Arc<[AoKey]>,
}

/// One key.
#[derive(Clone, PartialEq)]
pub struct AoKey {
    /// Its number in the chain.
    pub number: u8,
    /// KeyID of what we send.
    pub send_id: u8,
    /// KeyID of what we receive.
    pub receive_id: u8,
    /// How segments are signed.
    pub algorithm: AoAlgorithm,
    secret: Password,
}

impl fmt::Debug for AoKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AoKey({}, {}/{}, {})", self.number, self.send_id, self.receive_id, self.algorithm)
    }
}

impl AoKey {
    /// Whether segments name both by the same.
    fn is(&self, held: &KeyInfo) -> bool {
        (self.send_id, self.receive_id) == (held.send_id, held.receive_id)
    }
}

impl Ao {
    /// What signs the segments of a neighbor with these settings, if anything does. Reads the files of keys.
    ///
    /// # Errors
    /// When the kernel has no TCP-AO, or a key cannot be used.
    pub fn of(config: &Config, settings: &bgp::NeighborSettings, neighbor: IpAddr) -> Result<Option<Self>, SetupError> {
        let Some(bgp::AoUse { chain, exclude_options }) = &settings.ao else { return Ok(None) };
        if !tcp_ao::is_supported() {
            return Err(SetupError::NoTcpAo(neighbor));
        }
        let no_key = || SetupError::EmptyKeyChain { neighbor, chain: chain.clone() };
        let keys = config.key_chains.get(chain).ok_or_else(no_key)?.numbered();
        let keys = keys.map(|(number, send_id, receive_id, key)| {
            let secret = secret(neighbor, &key.secret)?;
            Ok(AoKey { number, send_id, receive_id, algorithm: key.algorithm, secret })
        });
        let keys: Arc<[AoKey]> = keys.collect::<Result<_, _>>()?;
        if keys.is_empty() {
            return Err(no_key());
        }
        Ok(Some(Self { chain: chain.clone(), exclude_options: *exclude_options, keys }))
    }

    /// The keys, the preferred one first.
    pub fn by_preference(&self) -> impl DoubleEndedIterator<Item = &AoKey> + Clone {
        self.keys.iter().rev()
    }

    /// Whether a connection that is signed like this can go over to `new`: keys may come and go, but what segments name
    /// a key by stays the same key.
    pub(super) fn leads_to(&self, new: &Self) -> bool {
        let same = |old: &AoKey, new: &AoKey| (old.algorithm, &old.secret) == (new.algorithm, &new.secret);
        self.exclude_options == new.exclude_options
            && self.keys.iter().all(|old| {
                let kin = new.keys.iter().filter(|new| new.send_id == old.send_id || new.receive_id == old.receive_id);
                kin.into_iter()
                    .all(|new| (new.send_id, new.receive_id) == (old.send_id, old.receive_id) && same(old, new))
            })
    }

    /// Gives a socket that is to connect to `neighbor` all keys; it begins with `first`.
    pub(super) fn arm(&self, socket: impl AsFd, neighbor: IpAddr, first: &AoKey) -> io::Result<()> {
        let peers = Prefix::host(neighbor);
        self.keys.iter().try_for_each(|key| self.add(&socket, &peers, key, key == first))
    }

    fn add(&self, socket: impl AsFd, peers: &Prefix, key: &AoKey, at_once: bool) -> io::Result<()> {
        let algorithm = match key.algorithm {
            AoAlgorithm::HmacSha1_96 => Algorithm::HmacSha1_96,
            AoAlgorithm::Aes128Cmac96 => Algorithm::Aes128Cmac96,
            AoAlgorithm::HmacSha256_128 => Algorithm::HmacSha256_128,
        };
        let key = tcp_ao::Key {
            peers,
            send_id: key.send_id,
            receive_id: key.receive_id,
            algorithm,
            covers_options: !self.exclude_options,
            secret: &key.secret,
            at_once,
        };
        tcp_ao::add_key(socket, &key)
    }

    /// Brings the keys of a connection nearer to these. `false` while one that is not wanted any more is still in use.
    ///
    /// # Errors
    /// As the kernel reports them: the connection goes on with the keys that it has.
    pub(super) fn settle(&self, socket: impl AsFd, neighbor: IpAddr) -> io::Result<bool> {
        let held = tcp_ao::keys(&socket)?;
        for key in self.keys.iter().filter(|key| !held.iter().any(|held| key.is(held))) {
            self.add(&socket, &Prefix::host(neighbor), key, false)?;
        }
        let Some(preferred) = self.keys.last() else { return Ok(true) };
        if tcp_ao::info(&socket)?.next != Some(preferred.receive_id) {
            tcp_ao::ask_for(&socket, preferred.receive_id)?;
        }
        // The neighbor has asked us for it, and signs with it.
        let in_use = held.iter().any(|held| preferred.is(held) && held.is_current && held.good > 0);
        let mut settled = true;
        for left in held.iter().filter(|held| !self.keys.iter().any(|key| key.is(held))) {
            if in_use {
                tcp_ao::delete_key(&socket, &left.peers, left.send_id, left.receive_id)?;
                tracing::info!(
                    %neighbor, key = preferred.number, send_id = left.send_id,
                    "TCP-AO: the neighbor has gone over to the preferred key; the old one is gone"
                );
            } else {
                settled = false;
            }
        }
        Ok(settled)
    }
}

/// The keys of a socket that listens, for neighbors and for ranges.
#[derive(Debug, Default)]
pub(super) struct ListenerKeys(BTreeMap<Prefix, Ao>);

impl ListenerKeys {
    /// Gives the socket the keys that are wanted and takes others back.
    pub(super) fn update(&mut self, socket: impl AsFd, wanted: BTreeMap<Prefix, Ao>) {
        for (peers, old) in &self.0 {
            let new = wanted.get(peers);
            for key in old.keys.iter().filter(|key| !new.is_some_and(|new| new.has(old, key))) {
                if let Err(error) = tcp_ao::delete_key(&socket, peers, key.send_id, key.receive_id) {
                    tracing::warn!(%peers, key = key.number, %error, "cannot take back a key of TCP-AO");
                }
            }
        }
        let old = std::mem::take(&mut self.0);
        for (peers, new) in wanted {
            let old = old.get(&peers);
            let set = |key: &&AoKey| {
                if old.is_some_and(|old| old.has(&new, key)) {
                    return true;
                }
                let added = new.add(&socket, &peers, key, false).inspect_err(|error| {
                    tracing::error!(
                        %peers, chain = %new.chain, key = key.number, %error,
                        "cannot set a key of TCP-AO: nobody can connect to us with it; check that no other key for \
                         these addresses, or for a listen range around them, has its send-id or recv-id"
                    );
                });
                added.is_ok()
            };
            // One that was refused is tried again with the next change, which may have taken what was in its way.
            let keys: Arc<[AoKey]> = new.keys.iter().filter(set).cloned().collect();
            if !keys.is_empty() {
                self.0.insert(peers, Ao { keys, ..new });
            }
        }
    }
}

impl Ao {
    /// Whether a socket that has these keys needs nothing done for `key` of `of`.
    fn has(&self, of: &Self, key: &AoKey) -> bool {
        self.exclude_options == of.exclude_options && self.keys.contains(key)
    }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;

    fn ao(keys: &[(u8, u8, &str)]) -> Ao {
        let keys = keys.iter().map(|(send_id, receive_id, secret)| AoKey {
            number: *send_id,
            send_id: *send_id,
            receive_id: *receive_id,
            algorithm: AoAlgorithm::default(),
            secret: Arc::new(Zeroizing::new(secret.as_bytes().to_vec())),
        });
        Ao { chain: "CORE".parse().unwrap(), exclude_options: false, keys: keys.collect() }
    }

    #[test]
    fn a_session_outlives_keys_that_come_and_go_and_none_that_becomes_another() {
        let old = ao(&[(1, 1, "first")]);
        assert!(old.leads_to(&ao(&[(1, 1, "first"), (2, 2, "second")])));
        assert!(old.leads_to(&ao(&[(2, 2, "second")])), "without an overlap the old key stays until it is not used");
        assert!(!old.leads_to(&ao(&[(1, 1, "another")])));
        assert!(!old.leads_to(&ao(&[(1, 1, "first"), (2, 2, "x"), (3, 1, "y")])), "one KeyID, two keys");
        assert!(!old.leads_to(&Ao { exclude_options: true, ..old.clone() }));
        assert!(!format!("{old:?}").contains("first"), "secrets are not shown");
    }

    #[test]
    fn the_highest_number_is_preferred() {
        let both = ao(&[(1, 1, "first"), (2, 2, "second")]);
        assert_eq!(both.by_preference().map(|key| key.number).collect::<Vec<_>>(), [2, 1]);
    }

    #[test]
    fn a_kernel_without_it_is_named() {
        let config = config::parse(
            "key chain CORE\n key 1\n  key-string secret\nrouter bgp 65001\n bgp router-id 10.0.0.1\n \
             neighbor 192.0.2.1 remote-as 65002\n neighbor 192.0.2.1 ao CORE\n",
        )
        .unwrap()
        .config;
        let neighbor: IpAddr = "192.0.2.1".parse().unwrap();
        let resolved = config.bgp.as_ref().unwrap().resolve(&neighbor.into()).unwrap();
        match Ao::of(&config, &resolved.settings, neighbor) {
            Ok(ao) => assert!(tcp_ao::is_supported() && ao.unwrap().keys.len() == 1),
            Err(error) => {
                assert!(!tcp_ao::is_supported());
                let text = error.to_string();
                assert!(text.contains("192.0.2.1") && text.contains("CONFIG_TCP_AO"), "{text}");
            }
        }
    }
}
