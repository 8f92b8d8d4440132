//! A command line of the shell, run by the daemon that it belongs to.

use crate::wire::{Stream, Wire};

/// Runs one command. The daemon parses the line with the grammar that the shell completes it with, and answers in text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Execute {
    /// The line, without filters.
    pub line: String,
}

/// A piece of a command's output; pieces end anywhere, not only at line ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text(pub String);

impl Text {
    /// A good size for a piece: a few of them are in flight for each reader.
    pub const PIECE: usize = 32 << 10;
}

/// [`Execute`] on the wire.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ExecuteProto {
    #[prost(string, tag = "1")]
    line: String,
}

/// [`Text`] on the wire.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TextProto {
    #[prost(string, tag = "1")]
    text: String,
}

impl Wire for Execute {
    type Proto = ExecuteProto;
    fn to_proto(&self) -> ExecuteProto {
        ExecuteProto { line: self.line.clone() }
    }
    fn from_proto(proto: ExecuteProto) -> Result<Self, String> {
        if proto.line.len() > 4096 {
            return Err(format!("a command line of {} octets is longer than 4096", proto.line.len()));
        }
        Ok(Self { line: proto.line })
    }
}

impl Stream for Execute {
    const METHOD: &'static str = "execute";
    type Event = Text;
}

impl Wire for Text {
    type Proto = TextProto;
    fn to_proto(&self) -> TextProto {
        TextProto { text: self.0.clone() }
    }
    fn from_proto(proto: TextProto) -> Result<Self, String> {
        Ok(Self(proto.text))
    }
}
