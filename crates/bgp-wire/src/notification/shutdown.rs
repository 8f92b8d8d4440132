//! Shutdown communication: a text from one operator to the other (RFC 9003 §2, which lengthens RFC 8203's).

/// Most octets of text: the length field has one octet.
pub const MAX_COMMUNICATION_OCTETS: usize = 255;

/// A text that goes with an administrative shutdown or reset.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ShutdownCommunication(String);

impl ShutdownCommunication {
    /// From a text, cut at a character boundary where it is too long.
    pub fn new(text: &str) -> Self {
        let end = (0..=text.len().min(MAX_COMMUNICATION_OCTETS)).rev().find(|end| text.is_char_boundary(*end));
        Self(text.get(..end.unwrap_or(0)).unwrap_or_default().to_owned())
    }

    /// The text. It is a peer's: escape it where it is shown.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Reads a CEASE's data. What follows the text is ignored; a length beyond the data makes it no text
    /// (RFC 9003 §4). Octets that are not UTF-8 are replaced.
    pub(super) fn parse(data: &[u8]) -> Option<Self> {
        let (length, rest) = data.split_first()?;
        let text = rest.get(..usize::from(*length))?;
        Some(Self(String::from_utf8_lossy(text).into_owned()))
    }

    pub(super) fn emit(&self, out: &mut Vec<u8>) {
        let text = self.0.as_bytes();
        // Replaced octets may have lengthened a text that was parsed.
        let text = text.get(..MAX_COMMUNICATION_OCTETS).unwrap_or(text);
        out.push(text.len() as u8);
        out.extend_from_slice(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let long = ShutdownCommunication::new(&"ä".repeat(200));
        assert_eq!(long.as_str().len(), 254);
        let mut out = Vec::new();
        long.emit(&mut out);
        assert_eq!(ShutdownCommunication::parse(&out), Some(long));
    }

    #[test]
    fn a_length_beyond_the_data_is_no_text() {
        assert_eq!(ShutdownCommunication::parse(&[5, b'a']), None);
        assert_eq!(ShutdownCommunication::parse(&[]), None);
        assert_eq!(ShutdownCommunication::parse(&[1, b'a', b'b']).unwrap().as_str(), "a");
        assert_eq!(ShutdownCommunication::parse(&[1, 0xff]).unwrap().as_str(), "\u{fffd}");
    }
}
