//! Lines of configuration for a running daemon.

use crate::wire::{Call, Wire};

/// Puts lines into the configuration in force, whole or not at all. They mean what they would mean at the end of the file,
/// so `no` takes back what stands there; the file itself stays as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configure {
    /// The lines, each with its line end.
    pub lines: String,
}

impl Configure {
    /// Most octets of lines in one call: what a frame holds, with room for the envelope.
    pub const LONGEST: usize = 900 << 10;
}

/// They are in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configured {
    /// What may not be what is meant, for people; empty if there is nothing.
    pub warnings: String,
}

/// [`Configure`] on the wire.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ConfigureProto {
    #[prost(string, tag = "1")]
    lines: String,
}

/// [`Configured`] on the wire.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ConfiguredProto {
    #[prost(string, tag = "1")]
    warnings: String,
}

impl Wire for Configure {
    type Proto = ConfigureProto;
    fn to_proto(&self) -> ConfigureProto {
        ConfigureProto { lines: self.lines.clone() }
    }
    fn from_proto(proto: ConfigureProto) -> Result<Self, String> {
        if proto.lines.len() > Self::LONGEST {
            return Err(format!(
                "{} octets of lines are more than the {} of one call",
                proto.lines.len(),
                Self::LONGEST
            ));
        }
        Ok(Self { lines: proto.lines })
    }
}

impl Call for Configure {
    const METHOD: &'static str = "configure";
    type Reply = Configured;
}

impl Wire for Configured {
    type Proto = ConfiguredProto;
    fn to_proto(&self) -> ConfiguredProto {
        ConfiguredProto { warnings: self.warnings.clone() }
    }
    fn from_proto(proto: ConfiguredProto) -> Result<Self, String> {
        Ok(Self { warnings: proto.warnings })
    }
}
