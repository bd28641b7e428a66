//! Certificates for development: self-signed, for names and addresses.

use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use rustls::crypto::aws_lc_rs;

/// A certificate with its key.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// PEM.
    pub certificate: String,
    /// PKCS #8 PEM.
    pub key: String,
    /// SHA-256 of the DER, which browsers pin with `serverCertificateHashes`.
    pub sha256: [u8; 32],
}

/// Clocks differ: a certificate that begins to be valid right now is refused by a peer that is a minute behind.
const CLOCK_SKEW: Duration = Duration::from_secs(3600);

/// ECDSA P-256, which is what browsers accept by hash, and only for at most 14 days
/// (W3C WebTransport, "custom certificate requirements").
pub fn generate_ecdsa(names: &[String], days_valid: f64) -> Result<Certificate, rcgen::Error> {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    self_signed(names, Duration::from_secs_f64(days_valid * 86_400.0), &key)
}

/// RSA, as `generate_self_signed_cert` of 0.8.1 made them.
pub fn generate_rsa(names: &[String], key_size: usize, days_valid: u32) -> Result<Certificate, rcgen::Error> {
    let size = match key_size {
        ..=2048 => rcgen::RsaKeySize::_2048,
        2049..=3072 => rcgen::RsaKeySize::_3072,
        _ => rcgen::RsaKeySize::_4096,
    };
    let key = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, size)?;
    self_signed(names, Duration::from_secs(u64::from(days_valid) * 86_400), &key)
}

/// SHA-256 of a certificate's DER.
pub fn sha256(der: &[u8]) -> [u8; 32] {
    let provider = aws_lc_rs::default_provider();
    // Every provider has a TLS 1.3 suite with SHA-256: RFC 8446 section 9.1 makes TLS_AES_128_GCM_SHA256 mandatory.
    let hash = provider.cipher_suites.iter().find_map(|suite| {
        let hash = suite.tls13()?.common.hash_provider;
        (hash.output_len() == 32).then_some(hash)
    });
    let mut digest = [0; 32];
    if let Some(hash) = hash {
        digest.copy_from_slice(hash.hash(der).as_ref());
    }
    digest
}

fn self_signed(names: &[String], validity: Duration, key: &KeyPair) -> Result<Certificate, rcgen::Error> {
    let mut params = CertificateParams::new(names.to_vec())?;
    let now = SystemTime::now();
    params.not_before = (now - CLOCK_SKEW).into();
    // The whole span counts against the browsers' 14 days.
    params.not_after = (now - CLOCK_SKEW + validity).into();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, names.first().map_or("localhost", String::as_str));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params.self_signed(key)?;
    Ok(Certificate {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
        sha256: sha256(certificate.der()),
    })
}
