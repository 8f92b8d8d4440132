//! IKEv2 without I/O: both roles, all IKE SAs of a daemon (RFC 7296, RFC 7383, RFC 7427).
//!
//! [`Ike`] takes datagrams, deadlines and wishes ([`Input`]) and gives back datagrams, SAs to install and what became of
//! each tunnel ([`Output`]). It reads no clock and owns no socket; SPIs, nonces and jitter come from the generator that
//! it is given, so that a seed replays a run.
//!
//! Left out on purpose: EAP, configuration payloads, transport mode, IPComp, IKEv1.

mod config;
mod door;
mod engine;
mod event;
mod fragment;
mod io;
mod nat;
mod sa;
mod selectors;
mod timers;
mod tunnel;

pub use config::{
    ChildMode, Childless, ConnectionConfig, Doubt, Dpd, Encapsulation, EngineConfig, Lifetime, Remote, Retransmission,
    Retry, Role,
};
pub use engine::{Census, Ike};
pub use event::{DownCause, Event, Refusal};
pub use io::{Input, InstallChild, Output, Path};
