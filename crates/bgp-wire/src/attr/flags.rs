//! What stands before every attribute's value: flags, type code, length (RFC 4271 §4.3); and attributes kept as bytes.

use bytes::{BufMut, Bytes};

/// The flags octet of an attribute (RFC 4271 §4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttrFlags(u8);

impl AttrFlags {
    /// Optional, as opposed to well-known.
    pub const OPTIONAL: u8 = 0x80;
    /// Passed on even by speakers that do not know it.
    pub const TRANSITIVE: u8 = 0x40;
    /// Some speaker on the way did not know it.
    pub const PARTIAL: u8 = 0x20;
    /// The length field has two octets.
    pub const EXTENDED_LENGTH: u8 = 0x10;

    /// The flags as they stand on the wire.
    pub fn new(raw: u8) -> Self {
        Self(raw)
    }

    /// The octet itself.
    pub fn raw(self) -> u8 {
        self.0
    }

    /// Whether the attribute is optional.
    pub fn is_optional(self) -> bool {
        self.0 & Self::OPTIONAL != 0
    }

    /// Whether the attribute is transitive.
    pub fn is_transitive(self) -> bool {
        self.0 & Self::TRANSITIVE != 0
    }

    /// Whether some speaker on the way did not know the attribute.
    pub fn is_partial(self) -> bool {
        self.0 & Self::PARTIAL != 0
    }

    /// Whether the length field has two octets.
    pub fn is_extended(self) -> bool {
        self.0 & Self::EXTENDED_LENGTH != 0
    }
}

/// The flags that a known attribute must have (RFC 4271 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Category {
    WellKnown,
    OptionalTransitive,
    OptionalNonTransitive,
}

impl Category {
    pub(crate) fn flags(self) -> u8 {
        match self {
            Self::WellKnown => AttrFlags::TRANSITIVE,
            Self::OptionalTransitive => AttrFlags::OPTIONAL | AttrFlags::TRANSITIVE,
            Self::OptionalNonTransitive => AttrFlags::OPTIONAL,
        }
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $category:ident, $text:literal;)*) => {
        /// The type code of an attribute (IANA "BGP Path Attributes").
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum AttrCode {
            $($(#[$doc])* $name,)*
            /// Any other.
            Other(u8),
        }

        impl AttrCode {
            /// The number on the wire.
            pub fn code(self) -> u8 {
                match self {
                    $(Self::$name => $code,)*
                    Self::Other(code) => code,
                }
            }

            /// The flags it must have; `None` for those that we do not know.
            pub(crate) fn category(self) -> Option<Category> {
                match self {
                    $(Self::$name => Some(Category::$category),)*
                    Self::Other(_) => None,
                }
            }
        }

        impl From<u8> for AttrCode {
            fn from(code: u8) -> Self {
                match code {
                    $($code => Self::$name,)*
                    other => Self::Other(other),
                }
            }
        }

        impl std::fmt::Display for AttrCode {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self {
                    $(Self::$name => f.write_str($text),)*
                    Self::Other(code) => write!(f, "attribute type {code}"),
                }
            }
        }
    };
}

codes! {
    /// RFC 4271 §5.1.1
    Origin = 1, WellKnown, "ORIGIN";
    /// RFC 4271 §5.1.2
    AsPath = 2, WellKnown, "AS_PATH";
    /// RFC 4271 §5.1.3
    NextHop = 3, WellKnown, "NEXT_HOP";
    /// RFC 4271 §5.1.4
    Med = 4, OptionalNonTransitive, "MULTI_EXIT_DISC";
    /// RFC 4271 §5.1.5
    LocalPref = 5, WellKnown, "LOCAL_PREF";
    /// RFC 4271 §5.1.6
    AtomicAggregate = 6, WellKnown, "ATOMIC_AGGREGATE";
    /// RFC 4271 §5.1.7
    Aggregator = 7, OptionalTransitive, "AGGREGATOR";
    /// RFC 1997
    Communities = 8, OptionalTransitive, "COMMUNITIES";
    /// RFC 4456 §8
    OriginatorId = 9, OptionalNonTransitive, "ORIGINATOR_ID";
    /// RFC 4456 §8
    ClusterList = 10, OptionalNonTransitive, "CLUSTER_LIST";
    /// RFC 4760 §3
    MpReach = 14, OptionalNonTransitive, "MP_REACH_NLRI";
    /// RFC 4760 §4
    MpUnreach = 15, OptionalNonTransitive, "MP_UNREACH_NLRI";
    /// RFC 4360
    ExtCommunities = 16, OptionalTransitive, "EXTENDED COMMUNITIES";
    /// RFC 6793 §3
    As4Path = 17, OptionalTransitive, "AS4_PATH";
    /// RFC 6793 §3
    As4Aggregator = 18, OptionalTransitive, "AS4_AGGREGATOR";
    /// RFC 9012
    TunnelEncap = 23, OptionalTransitive, "TUNNEL_ENCAPSULATION";
    /// RFC 8092
    LargeCommunities = 32, OptionalTransitive, "LARGE_COMMUNITY";
    /// RFC 9234 §5
    OnlyToCustomer = 35, OptionalTransitive, "ONLY_TO_CUSTOMER";
}

/// An attribute that this speaker does not know, carried on as it came (RFC 4271 §5).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RawAttr {
    /// Its flags; `EXTENDED_LENGTH` is chosen anew when it is written.
    pub flags: AttrFlags,
    /// Its type code.
    pub code: u8,
    /// Its value, uninterpreted.
    pub value: Bytes,
}

impl RawAttr {
    pub(crate) fn emit(&self, out: &mut impl BufMut) {
        emit_header(self.flags.raw(), self.code, self.value.len(), out);
        out.put_slice(&self.value);
    }
}

/// Writes flags, type and length; two octets of length only where one does not do.
pub(crate) fn emit_header(flags: u8, code: u8, octets: usize, out: &mut impl BufMut) {
    match u8::try_from(octets) {
        Ok(short) => {
            out.put_u8(flags & !AttrFlags::EXTENDED_LENGTH);
            out.put_u8(code);
            out.put_u8(short);
        }
        Err(_) => {
            out.put_u8(flags | AttrFlags::EXTENDED_LENGTH);
            out.put_u8(code);
            // Emitters never exceed a message, whose length has 16 bits; saturating keeps the bound visible.
            out.put_u16(u16::try_from(octets).unwrap_or(u16::MAX));
        }
    }
}
