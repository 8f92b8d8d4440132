//! Tunnels in which nobody answers.

use net_types::TunnelName;

use super::EmptyProto;
use crate::wire::{Call, Wire};

/// bgpd tells ipsecd in which tunnels nobody answers: they are up, and BFD is down in all sessions over them. It names all of
/// them each time, and says it again every few seconds while there is one: what is not repeated is taken back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TellSilent {
    /// Which; at most [`Self::MOST`].
    pub tunnels: Vec<TunnelName>,
}

impl TellSilent {
    /// Most tunnels in one call.
    pub const MOST: usize = 65_536;
}

/// It was heard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heard;

/// [`TellSilent`] on the wire.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TellSilentProto {
    #[prost(string, repeated, tag = "1")]
    tunnels: Vec<String>,
}

impl Wire for TellSilent {
    type Proto = TellSilentProto;
    fn to_proto(&self) -> TellSilentProto {
        TellSilentProto { tunnels: self.tunnels.iter().map(ToString::to_string).collect() }
    }
    fn from_proto(proto: TellSilentProto) -> Result<Self, String> {
        if proto.tunnels.len() > Self::MOST {
            return Err(format!("{} tunnels are more than the {} of one call", proto.tunnels.len(), Self::MOST));
        }
        let parse =
            |name: &String| name.parse().map_err(|error: net_types::NameError| format!("tunnel \"{name}\": {error}"));
        Ok(Self { tunnels: proto.tunnels.iter().map(parse).collect::<Result<_, String>>()? })
    }
}

impl Call for TellSilent {
    const METHOD: &'static str = "tunnels.silent";
    type Reply = Heard;
}

impl Wire for Heard {
    type Proto = EmptyProto;
    fn to_proto(&self) -> EmptyProto {
        EmptyProto {}
    }
    fn from_proto(EmptyProto {}: EmptyProto) -> Result<Self, String> {
        Ok(Self)
    }
}
