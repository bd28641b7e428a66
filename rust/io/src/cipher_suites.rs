//! rustls' cipher suites without the keys that a QUIC connection never uses.
//!
//! A connection lives long, and a key with its tables takes 600 bytes. rustls makes four for TLS records, of which QUIC has
//! none, and keeps two of them; quinn asks for the keys of the next key update in advance, and few connections see one.

use std::sync::LazyLock;

use rustls::{
    ConnectionTrafficSecrets, Error, SupportedCipherSuite, Tls13CipherSuite,
    crypto::{
        CipherSuiteCommon, aws_lc_rs,
        cipher::{
            AeadKey, InboundOpaqueMessage, InboundPlainMessage, Iv, MessageDecrypter, MessageEncrypter,
            OutboundOpaqueMessage, OutboundPlainMessage, Tls13AeadAlgorithm, UnsupportedOperationError,
        },
    },
    quic::{Algorithm, HeaderProtectionKey, PacketKey, Tag},
};

/// The suites that QUIC can use, in rustls' order.
pub(crate) fn all() -> Vec<SupportedCipherSuite> {
    // rustls wants them for ever.
    static SUITES: LazyLock<Vec<Tls13CipherSuite>> = LazyLock::new(|| {
        let suites = aws_lc_rs::ALL_CIPHER_SUITES.iter();
        suites.filter_map(|suite| for_quic(suite.tls13()?)).collect()
    });
    SUITES.iter().map(SupportedCipherSuite::Tls13).collect()
}

fn for_quic(suite: &'static Tls13CipherSuite) -> Option<Tls13CipherSuite> {
    Some(Tls13CipherSuite {
        common: CipherSuiteCommon {
            suite: suite.common.suite,
            hash_provider: suite.common.hash_provider,
            confidentiality_limit: suite.common.confidentiality_limit,
        },
        hkdf_provider: suite.hkdf_provider,
        aead_alg: Box::leak(Box::new(NoRecords(suite.aead_alg))),
        quic: Some(Box::leak(Box::new(OnFirstUse(suite.quic?)))),
    })
}

/// Protection of TLS records, which QUIC replaces by that of packets (RFC 9001 section 4).
struct NoRecords(&'static dyn Tls13AeadAlgorithm);

/// Fails, were it ever used.
struct NoKey;

impl Tls13AeadAlgorithm for NoRecords {
    fn encrypter(&self, _key: AeadKey, _iv: Iv) -> Box<dyn MessageEncrypter> {
        Box::new(NoKey)
    }

    fn decrypter(&self, _key: AeadKey, _iv: Iv) -> Box<dyn MessageDecrypter> {
        Box::new(NoKey)
    }

    fn key_len(&self) -> usize {
        self.0.key_len()
    }

    fn extract_keys(&self, _key: AeadKey, _iv: Iv) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        Err(UnsupportedOperationError)
    }

    fn fips(&self) -> bool {
        self.0.fips()
    }
}

impl MessageEncrypter for NoKey {
    fn encrypt(&mut self, _msg: OutboundPlainMessage<'_>, _seq: u64) -> Result<OutboundOpaqueMessage, Error> {
        Err(Error::EncryptError)
    }

    fn encrypted_payload_len(&self, payload_len: usize) -> usize {
        payload_len
    }
}

impl MessageDecrypter for NoKey {
    fn decrypt<'a>(&mut self, _msg: InboundOpaqueMessage<'a>, _seq: u64) -> Result<InboundPlainMessage<'a>, Error> {
        Err(Error::DecryptError)
    }
}

/// Protection of packets; a key is set up when the first packet needs it.
struct OnFirstUse(&'static dyn Algorithm);

impl Algorithm for OnFirstUse {
    fn packet_key(&self, key: AeadKey, iv: Iv) -> Box<dyn PacketKey> {
        let algorithm = self.0;
        Box::new(Key(LazyLock::new(move || algorithm.packet_key(key, iv))))
    }

    fn header_protection_key(&self, key: AeadKey) -> Box<dyn HeaderProtectionKey> {
        self.0.header_protection_key(key)
    }

    fn aead_key_len(&self) -> usize {
        self.0.aead_key_len()
    }

    fn fips(&self) -> bool {
        self.0.fips()
    }
}

struct Key<F>(LazyLock<Box<dyn PacketKey>, F>);

impl<F: FnOnce() -> Box<dyn PacketKey> + Send> PacketKey for Key<F> {
    fn encrypt_in_place(&self, packet_number: u64, header: &[u8], payload: &mut [u8]) -> Result<Tag, Error> {
        self.0.encrypt_in_place(packet_number, header, payload)
    }

    fn decrypt_in_place<'a>(
        &self,
        packet_number: u64,
        header: &[u8],
        payload: &'a mut [u8],
    ) -> Result<&'a [u8], Error> {
        self.0.decrypt_in_place(packet_number, header, payload)
    }

    fn tag_len(&self) -> usize {
        self.0.tag_len()
    }

    fn confidentiality_limit(&self) -> u64 {
        self.0.confidentiality_limit()
    }

    fn integrity_limit(&self) -> u64 {
        self.0.integrity_limit()
    }
}

#[cfg(test)]
mod tests {
    use rustls::{
        Side,
        quic::{Keys, Suite, Version},
    };

    use super::*;

    /// The keys of Initial packets, which follow from a connection id.
    fn keys(suite: Suite) -> Keys {
        Keys::initial(Version::V1, suite.suite, suite.quic, b"a connection id", Side::Client)
    }

    #[test]
    fn packets_look_as_those_of_rustls() {
        let suites = all();
        assert_eq!(suites.len(), 3);
        for suite in suites {
            let mut originals = aws_lc_rs::ALL_CIPHER_SUITES.iter();
            let original = originals.find(|other| other.suite() == suite.suite()).unwrap();
            let [ours, theirs] = [&suite, original].map(|suite| keys(suite.tls13().unwrap().quic_suite().unwrap()));
            let mut packets = [*b"the payload of a packet"; 2];
            let tags = [&ours, &theirs]
                .map(|keys| &keys.local.packet)
                .into_iter()
                .zip(&mut packets);
            let tags: Vec<_> = tags
                .map(|(key, packet)| key.encrypt_in_place(7, b"header", packet).unwrap())
                .collect();
            assert_eq!(packets[0], packets[1]);
            assert_eq!(tags[0].as_ref(), tags[1].as_ref());
            let (a, b) = (&ours.local.packet, &theirs.local.packet);
            assert_eq!(
                [a.tag_len() as u64, a.confidentiality_limit(), a.integrity_limit()],
                [b.tag_len() as u64, b.confidentiality_limit(), b.integrity_limit()]
            );
        }
    }
}
