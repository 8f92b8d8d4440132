//! The userspace packet path against the real kernel, in network namespaces that each test makes for itself.

mod common;
mod keeper;
mod offload;
mod packets;
mod tunnel;
