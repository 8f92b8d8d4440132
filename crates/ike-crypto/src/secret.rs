//! Octets that nobody may see: wiped when dropped, compared in constant time, never printed.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Key material or another secret. It cannot be cloned by accident; `expose` is the one way to its contents.
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl SecretBytes {
    /// Takes over octets; the caller's copies, if any, are the caller's to wipe.
    pub fn new(octets: impl Into<Zeroizing<Vec<u8>>>) -> Self {
        Self(octets.into())
    }

    /// The octets, for the primitive that needs them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The octets, for an owner that wipes them too.
    pub fn into_inner(self) -> Zeroizing<Vec<u8>> {
        self.0
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Vec<u8>> for SecretBytes {
    fn from(octets: Vec<u8>) -> Self {
        Self::new(octets)
    }
}

impl PartialEq for SecretBytes {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_slice().ct_eq(other.0.as_slice()).into()
    }
}

impl Eq for SecretBytes {}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretBytes({} octets)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_print_itself() {
        let secret = SecretBytes::from(b"hunter2".to_vec());
        assert_eq!(format!("{secret:?}"), "SecretBytes(7 octets)");
        assert_eq!(secret, SecretBytes::from(b"hunter2".to_vec()));
        assert_ne!(secret, SecretBytes::from(b"hunter3".to_vec()));
    }
}
