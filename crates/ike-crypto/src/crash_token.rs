//! Tokens by which a side that has lost its SAs shows that it is the one that had them (RFC 6290).
//!
//! A token is a MAC over the SPIs and the maker's role, so that its maker needs no memory but one secret. The role is in
//! it because an attacker may turn the initiator flag of a header around: what is answered then must not be the token
//! of an SA that stands (RFC 6290 §9.2).

use aws_lc_rs::hmac::{self, HMAC_SHA256};
use ike_wire::IkeSpi;
use zeroize::Zeroizing;

use crate::secret::SecretBytes;

/// What every token is made with. It has to outlive the process, or no token is ever presented.
pub struct CrashTokenSecret(hmac::Key);

impl CrashTokenSecret {
    /// Octets of a secret.
    pub const OCTETS: usize = 32;

    /// Takes up a secret.
    pub fn new(octets: &Zeroizing<[u8; Self::OCTETS]>) -> Self {
        Self(hmac::Key::new(HMAC_SHA256, &octets[..]))
    }

    /// The token of an IKE SA, for its initiator or its responder to give to the other side.
    pub fn token(&self, spis: (IkeSpi, IkeSpi), of_initiator: bool) -> CrashToken {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(&[u8::from(of_initiator)]);
        context.update(&spis.0.to_bytes());
        context.update(&spis.1.to_bytes());
        CrashToken(SecretBytes::from(context.sign().as_ref().to_vec()))
    }
}

/// A token, ours or a peer's: whoever shows it may end the SA that it was given for. `==` takes the same time for all.
#[derive(Debug, PartialEq, Eq)]
pub struct CrashToken(SecretBytes);

impl CrashToken {
    /// A token from the data of its notify; `None` unless it is 16 to 128 octets long (RFC 6290 §4.1).
    pub fn from_notify(data: &[u8]) -> Option<Self> {
        (16..=128).contains(&data.len()).then(|| Self(SecretBytes::from(data.to_vec())))
    }

    /// The data of its notify.
    pub fn to_notify(&self) -> Vec<u8> {
        self.0.expose().to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spis(i: u64, r: u64) -> (IkeSpi, IkeSpi) {
        (IkeSpi::new(i).unwrap(), IkeSpi::new(r).unwrap())
    }

    #[test]
    fn a_token_is_for_one_sa_one_side_and_one_secret() {
        let secret = |octet| CrashTokenSecret::new(&Zeroizing::new([octet; 32]));
        let token = secret(1).token(spis(7, 9), true);
        assert_eq!(token, secret(1).token(spis(7, 9), true), "made anew after a restart");
        assert_eq!(CrashToken::from_notify(&token.to_notify()), Some(token));
        let token = secret(1).token(spis(7, 9), true);
        for other in
            [secret(1).token(spis(7, 9), false), secret(1).token(spis(9, 7), true), secret(2).token(spis(7, 9), true)]
        {
            assert_ne!(token, other);
        }
    }

    #[test]
    fn tokens_of_odd_lengths_are_none() {
        for length in [0, 15, 129] {
            assert_eq!(CrashToken::from_notify(&vec![1; length]), None);
        }
        assert!(CrashToken::from_notify(&[1; 16]).is_some() && CrashToken::from_notify(&[1; 128]).is_some());
    }

    #[test]
    fn a_token_does_not_print_itself() {
        let token = CrashToken::from_notify(&[0xab; 16]).unwrap();
        assert_eq!(format!("{token:?}"), "CrashToken(SecretBytes(16 octets))");
    }
}
