//! What an authority has issued and taken back: `index.json` in its folder.

use std::{
    fmt::Write as _,
    time::{Duration, SystemTime},
};

use ike_crypto::pki::utc;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// The whole of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Index {
    /// Where the list is published, written into each certificate.
    pub(super) crl_url: Option<String>,
    /// Number of the last list (RFC 5280 §5.2.3: it only grows).
    pub(super) crl_number: u64,
    /// Oldest first.
    pub(super) issued: Vec<Issued>,
}

/// A certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Issued {
    /// In lower-case hexadecimal digits.
    pub(super) serial: String,
    /// Whom it is for.
    pub(super) name: String,
    /// Its end, in seconds since 1970.
    pub(super) not_after: u64,
    /// When it was taken back, in seconds since 1970.
    pub(super) revoked: Option<u64>,
}

impl Issued {
    fn state(&self, now: Duration) -> &'static str {
        match self.revoked {
            Some(_) => "revoked",
            None if self.not_after <= now.as_secs() => "expired",
            None => "valid",
        }
    }
}

impl Index {
    /// Which certificates an operator means: one by its serial number, or all of a name.
    pub(super) fn meant(&mut self, certificate: &str) -> Vec<&mut Issued> {
        let serial = certificate.to_ascii_lowercase().replace(':', "");
        let by_serial = self.issued.iter().any(|issued| issued.serial == serial);
        let meant = |issued: &&mut Issued| {
            if by_serial { issued.serial == serial } else { issued.name.eq_ignore_ascii_case(certificate) }
        };
        self.issued.iter_mut().filter(meant).collect()
    }

    /// A line each, or an object.
    pub(super) fn show(&self, json: bool, now: SystemTime) -> String {
        let now = since_1970(now);
        if json {
            let issued = self.issued.iter().map(|issued| {
                json!({
                    "serial": issued.serial, "name": issued.name, "state": issued.state(now),
                    "notAfterUnix": issued.not_after, "revokedUnix": issued.revoked,
                })
            });
            let issued: Vec<_> = issued.collect();
            return format!("{:#}\n", json!({ "crlNumber": self.crl_number, "certificates": issued }));
        }
        let mut out = format!("{:<8} {:<20} {:<32} NAME\n", "STATE", "ENDS", "SERIAL");
        for issued in &self.issued {
            let end = utc(Duration::from_secs(issued.not_after));
            let _ = writeln!(out, "{:<8} {end:<20} {:<32} {}", issued.state(now), issued.serial, issued.name);
        }
        out
    }
}

/// Time since 1970; nothing is before.
pub(super) fn since_1970(at: SystemTime) -> Duration {
    at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
