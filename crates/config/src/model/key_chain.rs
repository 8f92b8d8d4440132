//! `key chain NAME`: the keys of TCP-AO (RFC 5925), and which neighbor they are for.

use std::{collections::BTreeMap, fmt, str::FromStr};

use super::{Name, Password, ValueError};

/// `key chain NAME`: keys by number. The highest is preferred, so a new key goes above the old one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyChain {
    /// `key NUMBER`
    pub keys: BTreeMap<u8, ChainKey>,
}

/// One key: a master key tuple (RFC 5925 §3.1) but for whom it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainKey {
    /// `send-id`: KeyID of what we send; the key's number without.
    pub send_id: Option<u8>,
    /// `recv-id`: KeyID of what we receive; the key's number without.
    pub receive_id: Option<u8>,
    /// `cryptographic-algorithm`
    pub algorithm: AoAlgorithm,
    /// `key-string`
    pub secret: Password,
}

/// `cryptographic-algorithm`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AoAlgorithm {
    /// RFC 5926 §3.2.1; what every implementation has.
    #[default]
    HmacSha1_96,
    /// RFC 5926 §3.2.2
    Aes128Cmac96,
    /// draft-ietf-tcpm-tcp-ao-algs
    HmacSha256_128,
}

impl AoAlgorithm {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::HmacSha1_96, Self::Aes128Cmac96, Self::HmacSha256_128];
}

impl fmt::Display for AoAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HmacSha1_96 => "hmac-sha-1-96",
            Self::Aes128Cmac96 => "aes-128-cmac-96",
            Self::HmacSha256_128 => "hmac-sha-256-128",
        })
    }
}

impl FromStr for AoAlgorithm {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let named = Self::ALL.into_iter().find(|algorithm| algorithm.to_string() == text);
        named.ok_or_else(|| ValueError::new(text, "hmac-sha-1-96, aes-128-cmac-96 or hmac-sha-256-128"))
    }
}

/// `neighbor PEER ao NAME [exclude-tcp-options]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AoUse {
    /// Whose keys.
    pub chain: Name,
    /// Other TCP options are not signed (RFC 5925 §3.1, TCP option flag); both ends have to say so.
    pub exclude_options: bool,
}

impl KeyChain {
    /// Each key's number, what goes out with it, what comes in with it, and the key; the preferred one last.
    pub fn numbered(&self) -> impl Iterator<Item = (u8, u8, u8, &ChainKey)> {
        self.keys
            .iter()
            .map(|(number, key)| (*number, key.send_id.unwrap_or(*number), key.receive_id.unwrap_or(*number), key))
    }
}
