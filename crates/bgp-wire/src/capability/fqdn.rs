//! Host name, capability 73 (draft-walton-bgp-hostname-capability): two texts, each behind its length.

use bytes::BufMut;

use super::{cut, short_text};
use crate::cursor::Cursor;

/// Most octets of each part, so that both fit into a capability.
const MAX_PART: usize = 64;

/// The name of a speaker. It is the peer's text: escape it where it is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Fqdn {
    /// Host name.
    pub host: String,
    /// Domain name; mostly empty.
    pub domain: String,
}

impl Fqdn {
    pub(super) fn parse(value: &[u8]) -> Option<Self> {
        let mut cursor = Cursor::new(value);
        let host = short_text(&mut cursor)?;
        // Some speakers leave out the second length when there is no domain.
        let domain = if cursor.is_empty() { String::new() } else { short_text(&mut cursor)? };
        Some(Self { host, domain })
    }

    pub(super) fn emit(&self, out: &mut Vec<u8>) {
        for part in [&self.host, &self.domain] {
            let part = cut(part, MAX_PART);
            out.put_u8(part.len() as u8); // at most MAX_PART
            out.put_slice(part.as_bytes());
        }
    }
}
