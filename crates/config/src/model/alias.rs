//! `bgp community alias`: names of the operator's for communities.

use std::{fmt, str::FromStr};

use super::{Community, LargeCommunity, ValueError};

/// A community that has a name of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AliasedCommunity {
    /// `AA:NN`
    Standard(Community),
    /// `AA:BB:CC`
    Large(LargeCommunity),
}

impl FromStr for AliasedCommunity {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text.parse() {
            Ok(large) => Ok(Self::Large(large)),
            Err(_) => text.parse().map(Self::Standard),
        }
    }
}

impl fmt::Display for AliasedCommunity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Standard(community) => community.fmt(f),
            Self::Large(community) => community.fmt(f),
        }
    }
}
