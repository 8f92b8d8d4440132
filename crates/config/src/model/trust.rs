//! What has to be known and be true of a peer's certificate.

use std::{fmt, path::PathBuf, str::FromStr};

use super::IkeId;

/// What is known of certificates that were taken back, and how much of it has to be: in an `ipsec identity`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revocation {
    /// `crl file` and `crl url`
    pub lists: Vec<ListSource>,
    /// `ocsp`
    pub responder: Option<HttpUrl>,
    /// `revocation`
    pub policy: RevocationPolicy,
}

/// Where a revocation list comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ListSource {
    /// `crl file FILE`: read again when it changes.
    File(PathBuf),
    /// `crl url URL`: fetched, and again before it ends.
    Url(HttpUrl),
}

/// How much has to be known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RevocationPolicy {
    /// `revocation relaxed`: what is known to be revoked is refused.
    #[default]
    Relaxed,
    /// `revocation strict`: what is not known to be good is refused.
    Strict,
}

/// What a tunnel demands of its peer's certificate beside the identity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerDemands {
    /// `remote-ca`: authorities in the place of the identity's.
    pub authorities: Vec<PathBuf>,
    /// `remote-certificate name`
    pub names: Vec<IkeId>,
    /// `remote-certificate unit`
    pub units: Vec<String>,
    /// `remote-certificate fingerprint`
    pub fingerprints: Vec<Fingerprint>,
}

impl PeerDemands {
    /// Whether nothing is demanded.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// `http://HOST[:PORT]/PATH`. What is fetched is signed, so nothing else is needed; and nothing else would work before
/// there is trust.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HttpUrl {
    text: String,
    authority: usize,
}

/// Why a text is not such a URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" is not a URL such as http://pki.example.net/site.crl (https is neither needed nor spoken: lists and answers are signed)"
)]
pub struct HttpUrlError(String);

impl HttpUrl {
    const SCHEME: &'static str = "http://";

    /// Host, and port where one is given.
    pub fn authority(&self) -> &str {
        self.text.get(Self::SCHEME.len()..self.authority).unwrap_or_default()
    }

    /// Path and query; at least `/`.
    pub fn path(&self) -> &str {
        match self.text.get(self.authority..) {
            None | Some("") => "/",
            Some(path) => path,
        }
    }

    /// All of it.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for HttpUrl {
    type Err = HttpUrlError;

    fn from_str(text: &str) -> Result<Self, HttpUrlError> {
        let refused = || HttpUrlError(text.chars().take(64).collect());
        let rest = text.strip_prefix(Self::SCHEME).ok_or_else(refused)?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let host = |octet: u8| octet.is_ascii_alphanumeric() || b".-_:[]".contains(&octet);
        let plain = |octet: u8| octet.is_ascii_graphic() && octet != b'#';
        let good = !authority.is_empty()
            && text.len() <= 255
            && authority.bytes().all(host)
            && path.bytes().all(plain)
            && !path.starts_with('?')
            && authority.parse::<Authority>().is_ok();
        if good { Ok(Self { text: text.to_owned(), authority: Self::SCHEME.len() + end }) } else { Err(refused()) }
    }
}

/// Checked by its look: names, IPv4, IPv6 in brackets; a port behind a colon.
struct Authority;

impl FromStr for Authority {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, port) = rest.split_once(']').ok_or(())?;
                address.parse::<std::net::Ipv6Addr>().map_err(|_| ())?;
                ("v6", if port.is_empty() { None } else { Some(port.strip_prefix(':').ok_or(())?) })
            }
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let port_is_one = |port: &str| crate::model::digits::<u16>(port).is_some_and(|port| port > 0);
        if host.is_empty() || host.contains(['[', ']', ':']) || !port.is_none_or(port_is_one) {
            return Err(());
        }
        Ok(Self)
    }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// SHA-256 of a certificate, as `openssl x509 -fingerprint -sha256` prints it, with or without its colons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fingerprint(pub [u8; 32]);

/// Why a text is not a fingerprint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a fingerprint is 64 hexadecimal digits, SHA-256 of the certificate; \"holdfast pki show FILE\" prints it")]
pub struct FingerprintError;

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let digits: Vec<u8> = text
            .chars()
            .filter(|digit| *digit != ':')
            .map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
            .collect::<Option<_>>()
            .ok_or(FingerprintError)?;
        let (pairs, rest) = digits.as_chunks::<2>();
        let octets: Vec<u8> = pairs.iter().map(|[high, low]| high << 4 | low).collect();
        match <[u8; 32]>::try_from(octets) {
            Ok(octets) if rest.is_empty() => Ok(Self(octets)),
            _ => Err(FingerprintError),
        }
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart_and_others_refused() {
        for (text, authority, path) in [
            ("http://pki.example.net/site.crl", "pki.example.net", "/site.crl"),
            ("http://pki.example.net", "pki.example.net", "/"),
            ("http://192.0.2.1:8080/a?b=c", "192.0.2.1:8080", "/a?b=c"),
            ("http://[2001:db8::1]:80/", "[2001:db8::1]:80", "/"),
        ] {
            let url: HttpUrl = text.parse().unwrap();
            assert_eq!((url.authority(), url.path(), url.to_string().as_str()), (authority, path, text));
        }
        for bad in [
            "https://pki.example.net/",
            "http://",
            "http:///x",
            "http://a b/",
            "http://u@h/",
            "http://h:0/",
            "http://h:99999/",
            "http://[::1/",
            "http://h?x",
            "http://h/\r\nHost: x",
            "pki.example.net",
        ] {
            assert!(bad.parse::<HttpUrl>().is_err(), "{bad}");
        }
    }

    #[test]
    fn fingerprints_are_read_as_tools_print_them() {
        let plain = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
        let colons = plain.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap().to_uppercase());
        let colons = colons.collect::<Vec<_>>().join(":");
        assert_eq!(colons.parse::<Fingerprint>().unwrap().to_string(), plain);
        for bad in ["", "00", &plain[2..], &format!("{plain}00"), &plain.replace('0', "g")] {
            assert!(bad.parse::<Fingerprint>().is_err(), "{bad}");
        }
    }
}
