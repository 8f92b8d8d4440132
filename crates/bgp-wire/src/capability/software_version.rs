//! Software version, capability 75 (draft-ietf-idr-bgp-software-version): a text behind its length.

use bytes::BufMut;

use super::{cut, short_text};
use crate::cursor::Cursor;

/// Most octets of text.
const MAX_TEXT: usize = 64;

pub(super) fn parse(value: &[u8]) -> Option<String> {
    short_text(&mut Cursor::new(value))
}

pub(super) fn emit(text: &str, out: &mut Vec<u8>) {
    let text = cut(text, MAX_TEXT);
    out.put_u8(text.len() as u8); // at most MAX_TEXT
    out.put_slice(text.as_bytes());
}
