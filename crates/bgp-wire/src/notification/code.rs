//! Codes and subcodes (RFC 4271 §4.5, IANA "BGP Error (Notification) Codes"), with room for those to come.

use std::fmt;

macro_rules! subcodes {
    ($(#[$doc:meta])* $name:ident { $($(#[$sub:meta])* $variant:ident = $code:literal, $text:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$sub])* $variant,)*
            /// Any other.
            Other(u8),
        }

        impl $name {
            /// The number on the wire.
            pub fn code(self) -> u8 {
                match self {
                    $(Self::$variant => $code,)*
                    Self::Other(code) => code,
                }
            }
        }

        impl From<u8> for $name {
            fn from(code: u8) -> Self {
                match code {
                    $($code => Self::$variant,)*
                    other => Self::Other(other),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$variant => f.write_str($text),)*
                    Self::Other(code) => write!(f, "subcode {code}"),
                }
            }
        }
    };
}

subcodes! {
    /// Message header errors (RFC 4271 §6.1).
    HeaderCode {
        /// The marker is wrong.
        ConnectionNotSynchronized = 1, "Connection Not Synchronized";
        /// The length is wrong.
        BadMessageLength = 2, "Bad Message Length";
        /// The type is unknown.
        BadMessageType = 3, "Bad Message Type";
    }
}
subcodes! {
    /// OPEN errors (RFC 4271 §6.2).
    OpenCode {
        /// No subcode fits.
        Unspecific = 0, "Unspecific";
        /// Not version 4.
        UnsupportedVersion = 1, "Unsupported Version Number";
        /// Not the AS that was configured.
        BadPeerAs = 2, "Bad Peer AS";
        /// Zero, or our own.
        BadIdentifier = 3, "Bad BGP Identifier";
        /// An optional parameter that is not known.
        UnsupportedParameter = 4, "Unsupported Optional Parameter";
        /// One or two seconds, or below what we accept.
        UnacceptableHoldTime = 6, "Unacceptable Hold Time";
        /// A capability is missing (RFC 5492).
        UnsupportedCapability = 7, "Unsupported Capability";
        /// Roles contradict each other (RFC 9234).
        RoleMismatch = 11, "Role Mismatch";
    }
}
subcodes! {
    /// UPDATE errors (RFC 4271 §6.3).
    UpdateCode {
        /// Lengths do not add up.
        MalformedAttributeList = 1, "Malformed Attribute List";
        /// A well-known attribute is not known.
        UnrecognizedWellKnown = 2, "Unrecognized Well-known Attribute";
        /// A mandatory attribute is missing.
        MissingWellKnown = 3, "Missing Well-known Attribute";
        /// Flags contradict the type.
        AttributeFlags = 4, "Attribute Flags Error";
        /// A length contradicts the type.
        AttributeLength = 5, "Attribute Length Error";
        /// ORIGIN is not 0, 1 or 2.
        InvalidOrigin = 6, "Invalid ORIGIN Attribute";
        /// NEXT_HOP is no address of a host.
        InvalidNextHop = 8, "Invalid NEXT_HOP Attribute";
        /// An optional attribute is wrong.
        OptionalAttribute = 9, "Optional Attribute Error";
        /// A prefix is wrong.
        InvalidNetworkField = 10, "Invalid Network Field";
        /// AS_PATH is wrong.
        MalformedAsPath = 11, "Malformed AS_PATH";
    }
}
subcodes! {
    /// State machine errors (RFC 6608).
    FsmCode {
        /// No subcode fits.
        Unspecified = 0, "Unspecified";
        /// A message that OpenSent does not expect.
        UnexpectedInOpenSent = 1, "Unexpected Message in OpenSent";
        /// A message that OpenConfirm does not expect.
        UnexpectedInOpenConfirm = 2, "Unexpected Message in OpenConfirm";
        /// A message that Established does not expect.
        UnexpectedInEstablished = 3, "Unexpected Message in Established";
    }
}
subcodes! {
    /// Reasons to cease (RFC 4486, RFC 8538, RFC 9384).
    CeaseCode {
        /// No subcode given.
        Unspecified = 0, "Unspecified";
        /// More prefixes than configured.
        MaximumPrefixes = 1, "Maximum Number of Prefixes Reached";
        /// The operator shut the session down (RFC 9003).
        AdministrativeShutdown = 2, "Administrative Shutdown";
        /// The neighbor was taken out of the configuration.
        PeerDeconfigured = 3, "Peer De-configured";
        /// The operator reset the session (RFC 9003).
        AdministrativeReset = 4, "Administrative Reset";
        /// The connection was refused.
        ConnectionRejected = 5, "Connection Rejected";
        /// The configuration changed.
        OtherConfigurationChange = 6, "Other Configuration Change";
        /// The other of two connections is kept (RFC 4271 §6.8).
        CollisionResolution = 7, "Connection Collision Resolution";
        /// No memory.
        OutOfResources = 8, "Out of Resources";
        /// Ends graceful restart too (RFC 8538).
        HardReset = 9, "Hard Reset";
        /// BFD says that the path is down (RFC 9384).
        BfdDown = 10, "BFD Down";
    }
}
subcodes! {
    /// ROUTE-REFRESH errors (RFC 7313 §5).
    RouteRefreshCode {
        /// The length is wrong.
        InvalidMessageLength = 1, "Invalid Message Length";
    }
}

/// Error code and subcode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NotificationCode {
    /// 1
    Header(HeaderCode),
    /// 2
    Open(OpenCode),
    /// 3
    Update(UpdateCode),
    /// 4
    HoldTimerExpired,
    /// 5
    Fsm(FsmCode),
    /// 6
    Cease(CeaseCode),
    /// 7
    RouteRefresh(RouteRefreshCode),
    /// 8: the peer did not read (RFC 9687).
    SendHoldTimerExpired,
    /// Any other code and subcode.
    Other(u8, u8),
}

impl NotificationCode {
    /// From the numbers on the wire.
    pub fn from_codes(code: u8, subcode: u8) -> Self {
        match (code, subcode) {
            (1, sub) => Self::Header(sub.into()),
            (2, sub) => Self::Open(sub.into()),
            (3, sub) => Self::Update(sub.into()),
            (4, 0) => Self::HoldTimerExpired,
            (5, sub) => Self::Fsm(sub.into()),
            (6, sub) => Self::Cease(sub.into()),
            (7, sub) => Self::RouteRefresh(sub.into()),
            (8, 0) => Self::SendHoldTimerExpired,
            (code, sub) => Self::Other(code, sub),
        }
    }

    /// The numbers on the wire.
    pub fn codes(self) -> (u8, u8) {
        match self {
            Self::Header(sub) => (1, sub.code()),
            Self::Open(sub) => (2, sub.code()),
            Self::Update(sub) => (3, sub.code()),
            Self::HoldTimerExpired => (4, 0),
            Self::Fsm(sub) => (5, sub.code()),
            Self::Cease(sub) => (6, sub.code()),
            Self::RouteRefresh(sub) => (7, sub.code()),
            Self::SendHoldTimerExpired => (8, 0),
            Self::Other(code, sub) => (code, sub),
        }
    }
}

impl fmt::Display for NotificationCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(sub) => write!(f, "Message Header Error/{sub}"),
            Self::Open(sub) => write!(f, "OPEN Message Error/{sub}"),
            Self::Update(sub) => write!(f, "UPDATE Message Error/{sub}"),
            Self::HoldTimerExpired => f.write_str("Hold Timer Expired"),
            Self::Fsm(sub) => write!(f, "Finite State Machine Error/{sub}"),
            Self::Cease(sub) => write!(f, "Cease/{sub}"),
            Self::RouteRefresh(sub) => write!(f, "ROUTE-REFRESH Message Error/{sub}"),
            Self::SendHoldTimerExpired => f.write_str("Send Hold Timer Expired"),
            Self::Other(code, sub) => write!(f, "error code {code} subcode {sub}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_octets_survives() {
        for code in 0..=255 {
            for subcode in 0..=255 {
                assert_eq!(NotificationCode::from_codes(code, subcode).codes(), (code, subcode));
            }
        }
    }
}
