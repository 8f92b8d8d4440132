//! Cookies: a caller shows that it receives what we send it, and we keep nothing meanwhile (RFC 7296 §2.6).

use std::{fmt, net::IpAddr};

use aws_lc_rs::{
    constant_time,
    hmac::{self, HMAC_SHA256},
};
use ike_wire::IkeSpi;
use rand::RngCore;
use zeroize::Zeroizing;

/// Octets of a cookie: the number of its secret, and a MAC.
const COOKIE_LEN: usize = 1 + 32;

/// The secrets cookies are made with: the current one, and the one before it so that a rotation strands nobody.
pub struct CookieJar {
    current: Secret,
    previous: Option<Secret>,
}

struct Secret {
    number: u8,
    key: hmac::Key,
}

impl Secret {
    fn draw(number: u8, rng: &mut dyn RngCore) -> Self {
        let mut octets = Zeroizing::new([0; 32]);
        rng.fill_bytes(octets.as_mut());
        Self { number, key: hmac::Key::new(HMAC_SHA256, octets.as_ref()) }
    }

    fn cookie(&self, nonce: &[u8], address: IpAddr, spi: IkeSpi) -> Vec<u8> {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&spi.to_bytes());
        match address.to_canonical() {
            IpAddr::V4(address) => context.update(&address.octets()),
            IpAddr::V6(address) => context.update(&address.octets()),
        }
        context.update(nonce); // last, being the one part of variable length beside the address's two
        [&[self.number], context.sign().as_ref()].concat()
    }
}

impl CookieJar {
    /// A jar with a fresh secret.
    pub fn new(rng: &mut dyn RngCore) -> Self {
        Self { current: Secret::draw(0, rng), previous: None }
    }

    /// Makes cookies with a fresh secret from now on. The ones made since the last rotation stay good until the next.
    pub fn rotate(&mut self, rng: &mut dyn RngCore) {
        let next = Secret::draw(self.current.number.wrapping_add(1), rng);
        self.previous = Some(std::mem::replace(&mut self.current, next));
    }

    /// The cookie for a caller, from its nonce, its address and its SPI.
    pub fn bake(&self, nonce: &[u8], address: IpAddr, spi: IkeSpi) -> Vec<u8> {
        self.current.cookie(nonce, address, spi)
    }

    /// Whether a cookie that came back is one of ours for this caller.
    pub fn accepts(&self, cookie: &[u8], nonce: &[u8], address: IpAddr, spi: IkeSpi) -> bool {
        let Some(number) = cookie.first().filter(|_| cookie.len() == COOKIE_LEN) else { return false };
        [Some(&self.current), self.previous.as_ref()]
            .into_iter()
            .flatten()
            .filter(|secret| secret.number == *number)
            .any(|secret| constant_time::verify_slices_are_equal(&secret.cookie(nonce, address, spi), cookie).is_ok())
    }
}

impl fmt::Debug for CookieJar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CookieJar(secret {})", self.current.number)
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    #[test]
    fn a_cookie_is_good_for_one_caller_and_until_the_second_rotation() {
        let rng = &mut StdRng::seed_from_u64(1);
        let mut jar = CookieJar::new(rng);
        let (address, spi): (IpAddr, _) = ("192.0.2.1".parse().unwrap(), IkeSpi::new(7).unwrap());
        let cookie = jar.bake(b"nonce", address, spi);
        assert!(jar.accepts(&cookie, b"nonce", address, spi));
        assert!(!jar.accepts(&cookie, b"other", address, spi));
        assert!(!jar.accepts(&cookie, b"nonce", "192.0.2.2".parse().unwrap(), spi));
        assert!(!jar.accepts(&cookie, b"nonce", address, IkeSpi::new(8).unwrap()));
        assert!(!jar.accepts(&cookie[..32], b"nonce", address, spi));
        assert!(!jar.accepts(&[], b"nonce", address, spi));
        jar.rotate(rng);
        assert!(jar.accepts(&cookie, b"nonce", address, spi));
        assert_ne!(jar.bake(b"nonce", address, spi), cookie);
        jar.rotate(rng);
        assert!(!jar.accepts(&cookie, b"nonce", address, spi));
    }
}
