//! Labs made of network namespaces, and what runs in them.
//!
//! A [`Lab`] is a set of [`Node`]s (a network namespace each) joined by veth pairs, with our daemons, real peers from
//! Debian's packages and measuring instruments inside. Nothing in it has a global name: namespaces are held by file
//! descriptors, processes live in a process-id namespace that ends with the lab, and files lie in one temporary folder.
//! So labs run side by side, and a test that is killed leaves nothing behind.
//!
//! Tests use it as a library, `cargo xtask demo` and `cargo xtask bench` show and measure the same scenarios.

pub mod bare_routes;
pub mod bgp_load;
mod bgp_octets;
pub mod capture;
pub mod clock;
pub mod console;
pub mod designs;
pub mod edge;
pub mod esp_load;
pub mod exec;
pub mod feeder;
pub mod kernel;
pub mod lab;
pub mod lan;
pub mod node;
pub mod one_wan;
pub mod packages;
pub mod packet;
pub mod peers;
pub mod pki;
pub mod prefixes;
pub mod probe;
pub mod process;
pub mod report;
pub mod segment;
pub mod station;
pub mod topotests;
pub mod two_isp;

pub use lab::Lab;
pub use node::Node;
pub use process::Process;
