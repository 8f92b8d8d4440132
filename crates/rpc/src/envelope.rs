//! The one message that a frame holds.
//!
//! protobuf's rules of evolution apply: tags are never reused, unknown fields are skipped, a missing body (a kind of frame
//! from the future) is refused by whoever needed it.

use bytes::Bytes;

/// One frame: which call it belongs to, and what it says about it.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Envelope {
    /// Chosen by the caller, unique among its outstanding calls; 0 for the connection itself.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// What it says.
    #[prost(oneof = "Body", tags = "2, 3, 4, 5, 6, 7, 8, 9")]
    pub body: Option<Body>,
}

/// What a frame says.
#[derive(Clone, PartialEq, Eq, prost::Oneof)]
pub enum Body {
    /// Both sides: the first frame.
    #[prost(message, tag = "2")]
    Hello(Hello),
    /// Caller: begins a call or stream.
    #[prost(message, tag = "3")]
    Call(CallBody),
    /// Server: the one answer of a call, and its end.
    #[prost(bytes = "bytes", tag = "4")]
    Reply(Bytes),
    /// Server: one event of a stream; costs one credit.
    #[prost(bytes = "bytes", tag = "5")]
    Event(Bytes),
    /// Server: the stream ended as it should.
    #[prost(message, tag = "6")]
    End(End),
    /// Server: the call or stream failed, or with id 0 the connection.
    #[prost(message, tag = "7")]
    Error(ErrorBody),
    /// Caller: so many more events may be sent.
    #[prost(uint32, tag = "8")]
    Credit(u32),
    /// Caller: not interested any more.
    #[prost(message, tag = "9")]
    Cancel(Cancel),
}

/// See [`crate::hello`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Hello {
    /// Newest version of the protocol that the sender speaks.
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// Oldest version that it still speaks.
    #[prost(uint32, tag = "2")]
    pub oldest: u32,
    /// What it can do beyond its version.
    #[prost(string, repeated, tag = "3")]
    pub features: Vec<String>,
    /// What it is: `bgpd`, `ipsecd`, `holdfast`.
    #[prost(string, tag = "4")]
    pub program: String,
    /// Its software version, for people.
    #[prost(string, tag = "5")]
    pub software: String,
}

/// Begins a call or stream.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CallBody {
    /// Which one.
    #[prost(string, tag = "1")]
    pub method: String,
    /// The request, encoded.
    #[prost(bytes = "bytes", tag = "2")]
    pub request: Bytes,
    /// Events that may be sent at first.
    #[prost(uint32, tag = "3")]
    pub credit: u32,
}

/// Ends a stream.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct End {}

/// Cancels a call.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Cancel {}

/// Why something failed.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ErrorBody {
    /// A [`crate::Code`].
    #[prost(uint32, tag = "1")]
    pub code: u32,
    /// For people.
    #[prost(string, tag = "2")]
    pub message: String,
}

impl Envelope {
    /// A frame about call `id`.
    pub fn new(id: u64, body: Body) -> Self {
        Self { id, body: Some(body) }
    }
}
