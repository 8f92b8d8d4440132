//! Names of interfaces, tunnels and WAN links.

use std::{fmt, str::FromStr, sync::Arc};

/// Why a text cannot be a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Empty, or longer than the kind allows.
    #[error("\"{text}\" has {} octets, expected 1 to {max}", text.len())]
    Length {
        /// What was given.
        text: String,
        /// Most octets allowed.
        max: usize,
    },
    /// A character that the kernel, or our line language, gives a meaning of its own.
    #[error("\"{text}\" contains {found:?}, expected printable ASCII without space, '/', ':' or '!'")]
    Character {
        /// What was given.
        text: String,
        /// The offending character.
        found: char,
    },
    /// `.` and `..` are refused by the kernel as device names.
    #[error("\"{0}\" is reserved")]
    Reserved(String),
}

fn check(text: &str, max: usize) -> Result<Arc<str>, NameError> {
    if text.is_empty() || text.len() > max {
        return Err(NameError::Length { text: text.chars().take(64).collect(), max });
    }
    if let Some(found) = text.chars().find(|c| !c.is_ascii_graphic() || matches!(c, '/' | ':' | '!' | '%' | '|')) {
        return Err(NameError::Character { text: text.to_owned(), found });
    }
    if matches!(text, "." | "..") {
        return Err(NameError::Reserved(text.to_owned()));
    }
    Ok(Arc::from(text))
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $max:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                check(text, $max).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }
    };
}

name! {
    /// A network interface of Linux: 1 to 15 octets (`IFNAMSIZ` less the terminating zero).
    IfName, 15
}
name! {
    /// An IPsec tunnel. It *is* the interface of that name, hence the same bounds.
    TunnelName, 15
}
name! {
    /// A WAN link as the configuration names it: 1 to 32 octets.
    WanName, 32
}

impl From<TunnelName> for IfName {
    fn from(tunnel: TunnelName) -> Self {
        Self(tunnel.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded_and_printable() {
        assert_eq!("tun0".parse::<TunnelName>().unwrap().to_string(), "tun0");
        assert!("a-name-of-15-oct".parse::<IfName>().is_err());
        assert!("a-name-15-octet".parse::<IfName>().is_ok());
        for bad in ["", "a b", "a/b", "..", "a!b", "a%d", "ä", "a|b"] {
            assert!(bad.parse::<IfName>().is_err(), "{bad}");
        }
    }
}
