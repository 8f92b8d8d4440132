//! Diffie-Hellman modulo a prime, groups 14 to 16 (RFC 3526): for peers that have no elliptic curves.
//!
//! The arithmetic is crypto-bigint's, in constant time. Secret exponents have 512 bits, more than twice the strength of
//! the largest of these groups (RFC 3526 §8 asks for no more than 480), and cost a quarter of full-length ones.

use std::sync::LazyLock;

use crypto_bigint::{
    BoxedUint, Odd, Resize,
    modular::{BoxedMontyForm, BoxedMontyParams},
};
use zeroize::Zeroize;

/// Bits of a secret exponent.
const EXPONENT_BITS: u32 = 512;
/// Octets of a secret exponent.
pub(crate) const EXPONENT_LEN: usize = EXPONENT_BITS as usize / 8;

/// A prime `p`; the generator is 2 in all three groups.
pub(crate) struct Prime {
    params: BoxedMontyParams,
    /// p - 1, which no public value may be.
    largest: BoxedUint,
}

impl Prime {
    fn new(digits: &str) -> Self {
        let bits = 4 * u32::try_from(digits.len()).expect("a constant of some thousand digits");
        let prime = BoxedUint::from_str_radix_with_precision_vartime(digits, 16, bits).expect("hexadecimal digits");
        let largest = prime.wrapping_sub(BoxedUint::one_with_precision(bits));
        let odd = Odd::new(prime).expect("primes beyond 2 are odd");
        Self { params: BoxedMontyParams::new(odd), largest }
    }

    /// Octets of the prime, and of every public value and secret (RFC 7296 §2.14: padded with zeros).
    fn octets(&self) -> usize {
        self.params.bits_precision() as usize / 8
    }

    /// g^x mod p.
    pub(crate) fn public(&self, exponent: &[u8; EXPONENT_LEN]) -> Vec<u8> {
        self.power(BoxedUint::from(2u8).resize(self.params.bits_precision()), exponent)
    }

    /// y^x mod p, or `None` for a `y` of the wrong length or outside 2 to p - 2: 1 and p - 1 give the secret away
    /// (RFC 6989 §2.1). The primes are safe, so that no other small subgroup exists.
    pub(crate) fn shared(&self, public: &[u8], exponent: &[u8; EXPONENT_LEN]) -> Option<Vec<u8>> {
        if public.len() != self.octets() {
            return None;
        }
        let value = BoxedUint::from_be_slice(public, self.params.bits_precision()).ok()?;
        let least = BoxedUint::from(2u8).resize(self.params.bits_precision());
        (value >= least && value < self.largest).then(|| self.power(value, exponent))
    }

    fn power(&self, base: BoxedUint, exponent: &[u8; EXPONENT_LEN]) -> Vec<u8> {
        let mut exponent = BoxedUint::from_be_slice(exponent, EXPONENT_BITS).expect("of exactly this length");
        let mut power = BoxedMontyForm::new(base, &self.params).pow_bounded_exp(&exponent, EXPONENT_BITS).retrieve();
        exponent.zeroize();
        let octets = power.to_be_bytes().to_vec();
        power.zeroize();
        octets
    }
}

/// RFC 3526 §3: 2^2048 - 2^1984 - 1 + 2^64 * (floor(2^1918 pi) + 124476).
pub(crate) static MODP_2048: LazyLock<Prime> = LazyLock::new(|| {
    Prime::new(concat!(
        "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DD",
        "EF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED",
        "EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE45B3DC2007CB8A163BF0598DA48361C55D39A69163FA8FD24CF5F",
        "83655D23DCA3AD961C62F356208552BB9ED529077096966D670C354E4ABC9804F1746C08CA18217C32905E462E36CE3B",
        "E39E772C180E86039B2783A2EC07A28FB5C55DF06F4C52C9DE2BCBF6955817183995497CEA956AE515D2261898FA0510",
        "15728E5A8AACAA68FFFFFFFFFFFFFFFF",
    ))
});

/// RFC 3526 §4: 2^3072 - 2^3008 - 1 + 2^64 * (floor(2^2942 pi) + 1690314).
pub(crate) static MODP_3072: LazyLock<Prime> = LazyLock::new(|| {
    Prime::new(concat!(
        "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DD",
        "EF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED",
        "EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE45B3DC2007CB8A163BF0598DA48361C55D39A69163FA8FD24CF5F",
        "83655D23DCA3AD961C62F356208552BB9ED529077096966D670C354E4ABC9804F1746C08CA18217C32905E462E36CE3B",
        "E39E772C180E86039B2783A2EC07A28FB5C55DF06F4C52C9DE2BCBF6955817183995497CEA956AE515D2261898FA0510",
        "15728E5A8AAAC42DAD33170D04507A33A85521ABDF1CBA64ECFB850458DBEF0A8AEA71575D060C7DB3970F85A6E1E4C7",
        "ABF5AE8CDB0933D71E8C94E04A25619DCEE3D2261AD2EE6BF12FFA06D98A0864D87602733EC86A64521F2B18177B200C",
        "BBE117577A615D6C770988C0BAD946E208E24FA074E5AB3143DB5BFCE0FD108E4B82D120A93AD2CAFFFFFFFFFFFFFFFF",
    ))
});

/// RFC 3526 §5: 2^4096 - 2^4032 - 1 + 2^64 * (floor(2^3966 pi) + 240904).
pub(crate) static MODP_4096: LazyLock<Prime> = LazyLock::new(|| {
    Prime::new(concat!(
        "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DD",
        "EF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED",
        "EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE45B3DC2007CB8A163BF0598DA48361C55D39A69163FA8FD24CF5F",
        "83655D23DCA3AD961C62F356208552BB9ED529077096966D670C354E4ABC9804F1746C08CA18217C32905E462E36CE3B",
        "E39E772C180E86039B2783A2EC07A28FB5C55DF06F4C52C9DE2BCBF6955817183995497CEA956AE515D2261898FA0510",
        "15728E5A8AAAC42DAD33170D04507A33A85521ABDF1CBA64ECFB850458DBEF0A8AEA71575D060C7DB3970F85A6E1E4C7",
        "ABF5AE8CDB0933D71E8C94E04A25619DCEE3D2261AD2EE6BF12FFA06D98A0864D87602733EC86A64521F2B18177B200C",
        "BBE117577A615D6C770988C0BAD946E208E24FA074E5AB3143DB5BFCE0FD108E4B82D120A92108011A723C12A787E6D7",
        "88719A10BDBA5B2699C327186AF4E23C1A946834B6150BDA2583E9CA2AD44CE8DBBBC2DB04DE8EF92E8EFC141FBECAA6",
        "287C59474E6BC05D99B2964FA090C3A2233BA186515BE7ED1F612970CEE2D7AFB81BDD762170481CD0069127D5B05AA9",
        "93B4EA988D8FDDC186FFB7DC90A6C08F4DF435C934063199FFFFFFFFFFFFFFFF",
    ))
});

#[cfg(test)]
mod tests {
    use super::*;

    fn primes() -> [(&'static Prime, usize); 3] {
        [(&*MODP_2048, 256), (&*MODP_3072, 384), (&*MODP_4096, 512)]
    }

    #[test] // Fermat, to base 3: no digit of the constants is mistyped
    fn the_moduli_are_primes_of_their_size() {
        for (prime, octets) in primes() {
            assert_eq!(prime.octets(), octets);
            let bits = prime.params.bits_precision();
            let three = BoxedMontyForm::new(BoxedUint::from(3u8).resize(bits), &prime.params);
            assert_eq!(three.pow(&prime.largest).retrieve(), BoxedUint::one_with_precision(bits));
            let digits = prime.largest.to_be_bytes();
            assert!(digits[..8].iter().all(|octet| *octet == 0xff) && digits[octets - 8..octets - 1] == [0xff; 7]);
        }
    }

    #[test]
    fn small_powers_are_what_they_should_be() {
        for (prime, octets) in primes() {
            let mut exponent = [0; EXPONENT_LEN];
            exponent[EXPONENT_LEN - 1] = 10;
            let mut expected = vec![0; octets];
            expected[octets - 2] = 4;
            assert_eq!(prime.public(&exponent), expected, "2^10");
            let mut base = vec![0; octets];
            base[octets - 1] = 3;
            exponent[EXPONENT_LEN - 1] = 5;
            let mut expected = vec![0; octets];
            expected[octets - 1] = 243;
            assert_eq!(prime.shared(&base, &exponent), Some(expected), "3^5");
        }
    }

    #[test]
    fn values_that_give_the_secret_away_are_refused() {
        for (prime, octets) in primes() {
            let exponent = [0x5a; EXPONENT_LEN];
            let small = |last: u8| [vec![0; octets - 1], vec![last]].concat();
            let largest = prime.largest.to_be_bytes().to_vec();
            let change = |by: i16| {
                let mut value = largest.clone();
                let last = i16::from(value[octets - 1]) + by;
                value[octets - 1] = u8::try_from(last).unwrap();
                value
            };
            for refused in [small(0), small(1), largest.clone(), change(1), vec![0xff; octets]] {
                assert_eq!(prime.shared(&refused, &exponent), None);
            }
            assert!(prime.shared(&small(2), &exponent).is_some());
            assert!(prime.shared(&change(-1), &exponent).is_some(), "p - 2");
        }
    }
}
