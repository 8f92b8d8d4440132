//! Names and addresses of machines.

use std::{fmt, net::IpAddr, str::FromStr, sync::Arc};

use super::ValueError;

/// A host: an address, or a name that is looked up when it is needed.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host(Arc<str>);

impl Host {
    /// As it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The address, if it is one.
    pub fn address(&self) -> Option<IpAddr> {
        self.0.parse().ok()
    }
}

impl FromStr for Host {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let label = |label: &str| {
            let inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
            (1..=63).contains(&label.len()) && label.chars().all(inside) && !label.starts_with('-')
        };
        let is_name = text.len() <= 253 && text.strip_suffix('.').unwrap_or(text).split('.').all(label);
        if is_name || text.parse::<IpAddr>().is_ok() {
            Ok(Self(Arc::from(text)))
        } else {
            Err(ValueError::new(text, "a host name or an address"))
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_are_hosts() {
        for text in ["rpki.example.net", "localhost", "192.0.2.1", "2001:db8::1", "a.", "_x.b-c"] {
            assert_eq!(text.parse::<Host>().unwrap().to_string(), text);
        }
        for text in ["", ".", "a..b", "-a", "a b", "a/b", "2001:db8::/32", &"a".repeat(64)] {
            assert!(text.parse::<Host>().is_err(), "{text}");
        }
        assert!("::1".parse::<Host>().unwrap().address().is_some());
    }
}
