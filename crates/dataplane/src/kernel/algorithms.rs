//! The kernel's names of our ciphers.

use esp::{AesKeySize, Cipher, Hmac};
use xfrm::Algorithms;

/// Every cipher that the kernel may have.
pub(super) fn all() -> impl Iterator<Item = Cipher> {
    let sizes = [AesKeySize::Bits128, AesKeySize::Bits192, AesKeySize::Bits256];
    let cbc = sizes.into_iter().flat_map(|size| {
        [Hmac::Sha256, Hmac::Sha384, Hmac::Sha512].into_iter().map(move |hmac| Cipher::AesCbc(size, hmac))
    });
    [Cipher::Aes128Gcm16, Cipher::Aes256Gcm16, Cipher::ChaCha20Poly1305].into_iter().chain(cbc)
}

/// As `struct xfrm_algo*` want them; `octets` is key material for the cipher, as long as that takes.
pub(super) fn of(cipher: Cipher, octets: &[u8]) -> Algorithms<'_> {
    const ICV_BITS: u32 = 128;
    match cipher {
        Cipher::Aes128Gcm16 | Cipher::Aes256Gcm16 => {
            Algorithms::Aead { name: "rfc4106(gcm(aes))", key: octets, icv_bits: ICV_BITS }
        }
        Cipher::ChaCha20Poly1305 => {
            Algorithms::Aead { name: "rfc7539esp(chacha20,poly1305)", key: octets, icv_bits: ICV_BITS }
        }
        Cipher::AesCbc(size, hmac) => {
            let (cipher_key, auth_key) = octets.split_at(size.octets().min(octets.len()));
            let (auth, icv_bits) = match hmac {
                Hmac::Sha256 => ("hmac(sha256)", 128),
                Hmac::Sha384 => ("hmac(sha384)", 192),
                Hmac::Sha512 => ("hmac(sha512)", 256),
            };
            Algorithms::CipherAndAuth { cipher: "cbc(aes)", cipher_key, auth, auth_key, icv_bits }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_material_is_divided_where_rfc_7296_divides_it() {
        for cipher in all() {
            let octets: Vec<u8> = (0..cipher.keymat_len()).map(|octet| octet as u8).collect();
            match of(cipher, &octets) {
                Algorithms::Aead { key, .. } => assert_eq!(key, octets),
                Algorithms::CipherAndAuth { cipher_key, auth_key, icv_bits, .. } => {
                    assert_eq!([cipher_key, auth_key].concat(), octets);
                    assert_eq!(auth_key.len() * 8, 2 * icv_bits as usize, "{cipher}: RFC 4868 §2.1.1");
                }
            }
        }
    }
}
